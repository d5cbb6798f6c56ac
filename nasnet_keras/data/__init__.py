"""Data sets: images from folders, tables and TFDS, their splits, augmentation, and batches for training."""

from nasnet_keras._registration import names_of_old

__getattr__ = names_of_old(__name__)
