"""The record of a search's trials: on the disk, in memory, and as KerasTuner sees them."""

from nasnet_keras._registration import names_of_old

__getattr__ = names_of_old(__name__)
