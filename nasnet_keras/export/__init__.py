"""Networks for other runtimes: SavedModel, ONNX, LiteRT, OpenVINO; written, read back and compared."""
