"""Training a network on data: recipes, fitting that goes on where it stopped, evaluation, fine-tuning."""

from nasnet_keras._registration import names_of_old

__getattr__ = names_of_old(__name__)
