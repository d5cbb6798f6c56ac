"""The networks in Keras: layers, `NASNet`, the released networks by name, and a fast way to a prediction."""
