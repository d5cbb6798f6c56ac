"""The gradient of a function of Keras operations, on either backend."""

import keras
import numpy as np


def gradient(function, at):
    """The gradient of a scalar function at a point.

    Args:
        function: from a tensor to a scalar tensor, in Keras operations.
        at: a float32 array.

    Returns:
        A float32 array of the shape of `at`.
    """
    if keras.backend.backend() == "jax":
        import jax

        return np.asarray(jax.grad(function)(at))
    import tensorflow as tf

    point = tf.constant(at)
    with tf.GradientTape() as tape:
        tape.watch(point)
        result = function(point)
    return tape.gradient(result, point, unconnected_gradients="zero").numpy()
