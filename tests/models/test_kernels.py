"""The faster derivatives give what TensorFlow's own give, at every kind of size."""

import numpy as np
import pytest
import tensorflow as tf

from nasnet_keras import NASNet
from nasnet_keras.models import functions, kernels

raw = tf.raw_ops
SIZES = [(2, 12, 12, 3), (3, 7, 10, 4), (1, 4, 2, 2), (2, 9, 9, 3), (2, 8, 11, 1), (2, 6, 6, 16)]


def draw(*shape):
    return tf.constant(np.random.default_rng(sum(shape)).normal(size=shape).astype("float32"))


@pytest.mark.parametrize("kernel", [(3, 3), (5, 5), (3, 5), (7, 7), (4, 4)])
@pytest.mark.parametrize("strides", [(1, 1), (2, 2)])
@pytest.mark.parametrize("size", SIZES)
def test_depthwise(size, strides, kernel):
    x, weights = draw(*size), draw(*kernel, size[-1], 1)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([x, weights])
        results = [
            raw.DepthwiseConv2dNative(input=x, filter=weights, strides=[1, *strides, 1], padding="SAME"),
            kernels.depthwise(x, weights, strides),
        ]
        losses = [tf.reduce_sum(result * draw(*result.shape)) for result in results]
    np.testing.assert_array_equal(*results)
    for source in (x, weights):
        expected, received = (tape.gradient(loss, source) for loss in losses)
        np.testing.assert_allclose(received, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("window", [(3, 3), (1, 3), (5, 5), (2, 2)])
@pytest.mark.parametrize("strides", [(1, 1), (2, 2)])
@pytest.mark.parametrize("padding", ["SAME", "VALID"])
def test_average_pool(size, window, strides, padding):
    if padding == "VALID" and size[2] < window[1]:
        pytest.skip("the window is wider than the image")
    x = draw(*size)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        results = [
            raw.AvgPool(value=x, ksize=[1, *window, 1], strides=[1, *strides, 1], padding=padding),
            kernels.average_pool(x, window, strides, padding),
        ]
        losses = [tf.reduce_sum(result * draw(*result.shape)) for result in results]
    np.testing.assert_array_equal(*results)
    expected, received = (tape.gradient(loss, x) for loss in losses)
    np.testing.assert_allclose(received, expected, rtol=1e-5, atol=1e-5)


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
