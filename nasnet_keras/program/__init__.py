"""What a network of a genotype computes, without a framework: its primitive steps, their weights, and their cost."""

from nasnet_keras._registration import names_of_old

__getattr__ = names_of_old(__name__)
