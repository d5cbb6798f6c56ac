"""The faster operations and their derivatives, at every kind of size, against numbers worked out by NumPy in float64.

No reference is a kernel of the machine under test: such kernels have been wrong.
"""

import numpy as np
import pytest
import tensorflow as tf

from nasnet_keras import NASNet
from nasnet_keras.models import functions, kernels

SIZES = [(2, 12, 12, 3), (3, 7, 10, 4), (1, 4, 2, 2), (2, 9, 9, 3), (2, 8, 11, 1), (2, 6, 6, 16)]
SMALL = [(1, 1, 1, 3), (2, 1, 4, 2), (2, 2, 2, 16), (1, 4, 4, 16), (2, 6, 5, 5)]


def draw(*shape):
    return np.random.default_rng(sum(shape)).normal(size=shape).astype("float32")


def windows(size, window, strides, padding):
    """For each window, its row and column in the result, and what it holds: slices of the image, and of itself."""
    axes = []
    for length, reach, step in zip(size, window, strides, strict=True):
        count = -(-length // step) if padding == "SAME" else (length - reach) // step + 1
        before = max((count - 1) * step + reach - length, 0) // 2 if padding == "SAME" else 0
        starts = [number * step - before for number in range(count)]
        axes.append([(max(start, 0), min(start + reach, length), start) for start in starts])
    for row, (top, bottom, above) in enumerate(axes[0]):
        for column, (left, right, beside) in enumerate(axes[1]):
            image = (slice(None), slice(top, bottom), slice(left, right))
            yield row, column, image, (slice(top - above, bottom - above), slice(left - beside, right - beside))


def numpy_depthwise(x, kernel, strides, make_gradient):
    """The convolution, and the gradients of image and kernel for the result's own `make_gradient(shape)`."""
    x, kernel = x.astype("float64"), kernel[..., 0].astype("float64")
    seen = list(windows(x.shape[1:3], kernel.shape[:2], strides, "SAME"))
    result = np.zeros((len(x), seen[-1][0] + 1, seen[-1][1] + 1, x.shape[-1]))
    for row, column, image, inside in seen:
        result[:, row, column] = (x[image] * kernel[inside]).sum((1, 2))
    gradient = make_gradient(*result.shape)
    to_x, to_kernel = np.zeros_like(x), np.zeros_like(kernel)
    for row, column, image, inside in seen:
        own = gradient[:, row, column][:, None, None]
        to_x[image] += own * kernel[inside]
        to_kernel[inside] += (own * x[image]).sum(0)
    return result, to_x, to_kernel[..., None]


def numpy_average_pool(x, window, strides, padding, make_gradient):
    """The mean over what each window holds of the image, and the gradient of the image."""
    x = x.astype("float64")
    seen = list(windows(x.shape[1:3], window, strides, padding))
    result = np.zeros((len(x), seen[-1][0] + 1, seen[-1][1] + 1, x.shape[-1]))
    for row, column, image, _ in seen:
        result[:, row, column] = x[image].mean((1, 2))
    gradient, to_x = make_gradient(*result.shape), np.zeros_like(x)
    for row, column, image, _ in seen:
        held = x[image].shape[1] * x[image].shape[2]
        to_x[image] += gradient[:, row, column][:, None, None] / held
    return result, to_x


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
    assert_close(received, numpy_depthwise(x, weights, strides, draw))


@pytest.mark.parametrize("size", SIZES + SMALL)
@pytest.mark.parametrize("window", [(3, 3), (1, 3), (5, 5), (2, 2), (7, 7)])
@pytest.mark.parametrize("strides", [(1, 1), (2, 2)])
@pytest.mark.parametrize("padding", ["SAME", "VALID"])
def test_average_pool(size, window, strides, padding):
    if padding == "VALID" and (size[1] < window[0] or size[2] < window[1]):
        pytest.skip("the window is wider than the image")
    x = draw(*size)
    expected = numpy_average_pool(x, window, strides, padding, draw)
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
        assert_close([gradient(x, draw(*shape))], numpy_average_pool(x, window, strides, "SAME", draw)[1:])


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
