"""Models in files for other runtimes: SavedModel, ONNX, LiteRT, OpenVINO; written, read back and compared."""

from nasnet_keras._registration import names_of_old

__getattr__ = names_of_old(__name__)
