"""Networks for tests, as values."""

from nasnet_keras.genotype import load_genotype
from nasnet_keras.program.architecture import Architecture


def described(genotype="tiny", **network):
    """The `Architecture` of a genotype, a stored name or a value."""
    return Architecture(load_genotype(genotype), **network)
