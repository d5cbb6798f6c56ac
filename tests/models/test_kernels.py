"""The faster operations and their derivatives, at every kind of size, against numbers worked out by NumPy in float64.

No reference is a kernel of the machine under test: such kernels have been wrong.
"""

import numpy as np
import pytest
import references
import tensorflow as tf

from nasnet_keras import NASNet
from nasnet_keras.models import functions, kernels

SIZES = [(2, 12, 12, 3), (3, 7, 10, 4), (1, 4, 2, 2), (2, 9, 9, 3), (2, 8, 11, 1), (2, 6, 6, 16)]
SMALL = [(1, 1, 1, 3), (2, 1, 4, 2), (2, 2, 2, 16), (1, 4, 4, 16), (2, 6, 5, 5)]


def draw(*shape):
    return np.random.default_rng(sum(shape)).normal(size=shape).astype("float32")


def derived(function, *inputs):
    """What a function gives, and the gradients of its inputs for `draw` of the result's shape."""
    inputs = [tf.constant(one) for one in inputs]
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        result = function(*inputs)
        loss = tf.reduce_sum(result * draw(*result.shape))
    return [result, *tape.gradient(loss, inputs)]


def assert_close(received, expected):
    """Equal to 1e-5 of the largest number, which is what float32 has to give whatever the order of its sums."""
    for one, other in zip(received, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-5 * max(1, np.abs(other).max()))


@pytest.mark.parametrize("kernel", [(3, 3), (5, 5), (3, 5), (7, 7), (4, 4)])
@pytest.mark.parametrize("strides", [(1, 1), (2, 2)])
@pytest.mark.parametrize("size", SIZES + SMALL)
def test_depthwise(size, strides, kernel):
    x, weights = draw(*size), draw(*kernel, size[-1], 1)
    received = derived(lambda x, weights: kernels.depthwise(x, weights, strides), x, weights)
    assert_close(received, references.depthwise(x, weights, strides, draw))


@pytest.mark.parametrize("size", SIZES + SMALL)
@pytest.mark.parametrize("window", [(3, 3), (1, 3), (5, 5), (2, 2), (7, 7)])
@pytest.mark.parametrize("strides", [(1, 1), (2, 2)])
@pytest.mark.parametrize("padding", ["SAME", "VALID"])
def test_average_pool(size, window, strides, padding):
    if padding == "VALID" and (size[1] < window[0] or size[2] < window[1]):
        pytest.skip("the window is wider than the image")
    x = draw(*size)
    expected = references.average_pool(x, window, strides, padding, draw)
    assert_close(derived(lambda x: kernels.average_pool(x, window, strides, padding), x), expected)


@pytest.mark.parametrize("window", [(3, 3), (5, 5)])
@pytest.mark.parametrize("strides", [(1, 1), (3, 3)])
def test_average_pool_of_images_whose_size_is_not_known(window, strides):
    signature = [tf.TensorSpec((None, None, None, 16))]
    gradient = tf.function(
        lambda x, g: kernels.average_pool_gradient(x, g, [1, *window, 1], [1, *strides, 1], "SAME"), signature * 2
    )
    for size in ((2, 4, 4, 16), (1, 2, 1, 16), (2, 9, 7, 16)):
        x = draw(*size)
        shape = [size[0], -(-size[1] // strides[0]), -(-size[2] // strides[1]), size[3]]
        assert_close([gradient(x, draw(*shape))], references.average_pool(x, window, strides, "SAME", draw)[1:])


def test_a_network_that_trains_uses_them(monkeypatch):
    """The same gradients with and without, and a network that only answers has the plain operations."""
    network = NASNet("nasnet_a", repeats=1, filters=4, stem="cifar", input_shape=(12, 12, 3), classes=3)
    images = draw(2, 12, 12, 3)
    called = []
    monkeypatch.setattr(kernels, "depthwise_filter_gradient", _noted(kernels.depthwise_filter_gradient, called))

    def gradients(training):
        called.clear()
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(network(images, training=training)[:, 0])
        return tape.gradient(loss, [weight.value for weight in network.trainable_weights]), len(called)

    faster, calls = gradients(True)
    assert calls and gradients(False)[1] == 0
    monkeypatch.setattr(functions, "on_accelerator", lambda: True)
    plain, calls = gradients(True)
    assert not calls
    largest = max(float(tf.reduce_max(tf.abs(one))) for one in plain)
    for one, other in zip(faster, plain, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4 * largest)


def _noted(function, calls):
    def noted(*arguments):
        calls.append(arguments)
        return function(*arguments)

    return noted
