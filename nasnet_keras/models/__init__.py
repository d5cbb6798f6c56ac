"""The same as Keras layers and models."""
