"""The weight files and their index: package `nasnet_keras.weights_files` once installed, a plain folder in the repository."""
