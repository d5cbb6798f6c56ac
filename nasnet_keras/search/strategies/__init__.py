"""Who proposes the next cells and learns from their rewards: the controller, a predictor, evolution, local, random."""

from nasnet_keras._registration import names_of_old

__getattr__ = names_of_old(__name__)
