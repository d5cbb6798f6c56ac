"""What TensorFlow keeps of a training's graphs, released."""

import gc
from contextlib import contextmanager

import keras


@contextmanager
def released_graphs():
    """A context after which nothing is left of the models that were made and trained inside, if nobody holds them.

    TensorFlow registers, for good, a gradient for each graph in which Keras' optimiser sums gradients; it holds that
    graph, with some 10,000 objects for a small child. Here they are taken off the register. (Keras'
    `clear_session` does not do this, and takes the caller's dtype policy, names and random state.)
    """
    if keras.backend.backend() != "tensorflow":
        yield
        gc.collect()
        return
    from tensorflow.python.framework.ops import gradient_registry  # there is no public way to this

    registered = gradient_registry._registry
    before = set(registered)
    try:
        yield
    finally:
        for name in set(registered) - before:
            if name.startswith("CustomGradient-"):
                del registered[name]
        gc.collect()  # models lie in circles of references
