"""Weight files and their index; installed, this folder is the package `nasnet_keras.weights_files`."""
