"""Weight files: the index of the known ones, downloads, and the reading of other projects' files into a `NASNet`."""

from nasnet_keras._registration import names_of_old

__getattr__ = names_of_old(__name__)
