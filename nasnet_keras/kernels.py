"""Derivatives of two TensorFlow operations that take several times as long as they need to on a CPU.

`depthwise` and `average_pool` are the operations for a network that trains; `depthwise_filter_gradient` and
`average_pool_gradient` are their slow halves done otherwise, with the same result up to rounding.
`benchmarks/kernels.py` measures them.
"""

import numpy as np
import tensorflow as tf

raw = tf.raw_ops
WORTHWHILE = 2**17  # values of an image batch; below, a call costs more than the arithmetic


def depthwise(x, kernel, strides):
    """A convolution of each channel by itself, SAME: [batch, height, width, channels] by [h, w, channels, 1]."""
    settings = {"strides": [1, *strides, 1], "padding": "SAME"}

    @tf.custom_gradient
    def convolve(x, kernel):
        def backward(gradient):
            dx = raw.DepthwiseConv2dNativeBackpropInput(
                input_sizes=tf.shape(x), filter=kernel, out_backprop=gradient, **settings
            )
            return dx, depthwise_filter_gradient(x, kernel.shape, gradient, strides)

        return raw.DepthwiseConv2dNative(input=x, filter=kernel, **settings), backward

    return convolve(x, kernel)


def depthwise_filter_gradient(x, shape, gradient, strides):
    """The gradient of a depthwise kernel of a static `shape`.

    The CPU's kernel is fast up to a width of 3 and five to nine times slower at 5. Five columns of taps are three at
    a distance of 0 and 1, and three of every second pixel, in which a pair of pixels is one of twice the channels: the
    image need not be moved for that.
    """
    settings = {"strides": [1, *strides, 1], "padding": "SAME"}
    rows, columns, channels, _ = shape
    _, height, width, _ = x.shape
    if columns != 5 or tuple(strides) != (1, 1) or None in (height, width) or width % 2 or not _worthwhile(x):
        return raw.DepthwiseConv2dNativeBackpropFilter(
            input=x, filter_sizes=list(shape), out_backprop=gradient, **settings
        )
    near = raw.DepthwiseConv2dNativeBackpropFilter(
        input=x, filter_sizes=[rows, 3, channels, 1], out_backprop=gradient, **settings
    )
    pairs = [-1, height, width // 2, 2 * channels]
    far = raw.DepthwiseConv2dNativeBackpropFilter(
        input=raw.Reshape(tensor=x, shape=pairs),
        filter_sizes=[rows, 3, 2 * channels, 1],
        out_backprop=raw.Reshape(tensor=gradient, shape=pairs),
        **settings,
    )
    far = far[:, :, :channels] + far[:, :, channels:]
    return tf.concat([far[:, :1], near, far[:, 2:]], axis=1)


def average_pool(x, size, strides, padding):
    """The mean over a window that leaves padding out of its count."""
    settings = {"ksize": [1, *size, 1], "strides": [1, *strides, 1], "padding": padding}

    @tf.custom_gradient
    def pool(x):
        def backward(gradient):
            return average_pool_gradient(x, gradient, **settings)

        return raw.AvgPool(value=x, **settings), backward

    return pool(x)


def average_pool_gradient(x, gradient, ksize, strides, padding):
    """The gradient of a mean: where the window moves by one pixel, a mean again.

    Each pixel gets the sum of the shares of those windows that see it, and windows are as wide to the one side as to
    the other.
    """
    _, height, width, _ = x.shape
    odd = ksize[1] % 2 and ksize[2] % 2
    if padding != "SAME" or tuple(strides[1:3]) != (1, 1) or not odd or None in (height, width) or not _worthwhile(x):
        return raw.AvgPoolGrad(
            orig_input_shape=tf.shape(x), grad=gradient, ksize=ksize, strides=strides, padding=padding
        )
    count = tf.constant(np.outer(_seen(height, ksize[1]), _seen(width, ksize[2]))[None, :, :, None], x.dtype)
    return raw.AvgPool(value=gradient / count, ksize=ksize, strides=strides, padding=padding) * count


def _seen(length, window):
    """How many pixels of a row a window around each of them sees."""
    places = np.arange(length)
    return np.minimum(places + window // 2, length - 1) - np.maximum(places - window // 2, 0) + 1


def _worthwhile(x):
    return None in x.shape or np.prod(x.shape, dtype="int64") >= WORTHWHILE
