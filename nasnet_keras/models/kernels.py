"""Derivatives of TensorFlow operations that take several times as long on a CPU as they need to.

`depthwise` and `average_pool` are the operations for a network that trains; the functions of their gradients, of raw
operations alone, serve a search's children too. Where height and width are not known, the slower form serves.
`benchmarks/kernels.py` measures them.
"""

import numpy as np
import tensorflow as tf

raw = tf.raw_ops
LANES = 16  # float32 numbers in a vector register of AVX-512; where there are 8, 16 does no harm


def depthwise(x, kernel, strides):
    """A convolution of each channel by itself, SAME: [batch, height, width, channels] by [h, w, channels, 1]."""

    @tf.custom_gradient
    def convolve(x, kernel):
        def backward(gradient):
            return (
                depthwise_input_gradient(x, kernel, gradient, strides),
                depthwise_filter_gradient(x, kernel.shape, gradient, strides),
            )

        return raw.DepthwiseConv2dNative(input=x, filter=kernel, strides=[1, *strides, 1], padding="SAME"), backward

    return convolve(x, kernel)


def depthwise_input_gradient(x, kernel, gradient, strides):
    """With a stride of 1 and an odd kernel it is the convolution with the kernel turned, and nearly twice as fast."""
    if tuple(strides) == (1, 1) and all(length % 2 for length in kernel.shape[:2]):
        turned = raw.ReverseV2(tensor=kernel, axis=[0, 1])
        return raw.DepthwiseConv2dNative(input=gradient, filter=turned, strides=[1, 1, 1, 1], padding="SAME")
    return raw.DepthwiseConv2dNativeBackpropInput(
        input_sizes=raw.Shape(input=x), filter=kernel, out_backprop=gradient, strides=[1, *strides, 1], padding="SAME"
    )


def depthwise_filter_gradient(x, shape, gradient, strides):
    """The gradient of a kernel of a `shape`, whose wide ones TensorFlow computes three to nine times slower.

    Its kernel is fast up to three columns. Five columns are three next to each other, and three of every second
    pixel, in which two pixels make one of twice the channels: nothing has to be moved for that. Other wide kernels
    are computed three columns at a time, 0 to 2, 2 to 4 and so on, from an image that is padded before.
    """
    rows, columns, channels, _ = shape
    _, height, width, _ = x.shape
    steps = [1, *strides, 1]

    def part(x, gradient, shape, padding="SAME"):
        return raw.DepthwiseConv2dNativeBackpropFilter(
            input=x, filter_sizes=shape, out_backprop=gradient, strides=steps, padding=padding
        )

    if columns <= 3 or not columns % 2 or None in (height, width, *gradient.shape[1:3]):
        return part(x, gradient, list(shape))
    if columns == 5 and tuple(strides) == (1, 1) and not width % 2:
        near = part(x, gradient, [rows, 3, channels, 1])
        x, gradient = (raw.Reshape(tensor=one, shape=[-1, height, width // 2, 2 * channels]) for one in (x, gradient))
        even, odd = raw.Split(axis=2, value=part(x, gradient, [rows, 3, 2 * channels, 1]), num_split=2)
        first, _, last = raw.Split(axis=1, value=raw.AddV2(x=even, y=odd), num_split=3)
        return raw.ConcatV2(values=[first, near, last], axis=1)
    reach = [(made - 1) * step for made, step in zip(gradient.shape[1:3], strides, strict=True)]
    missing = [reach[0] + rows - height, reach[1] + columns - width]
    ends = [[count // 2, count - count // 2] for count in missing]
    x = raw.Pad(input=x, paddings=[[0, 0], *ends, [0, 0]])
    pieces = []
    for start in range(0, columns - 2, 2):
        seen = raw.Slice(input=x, begin=[0, 0, start, 0], size=[-1, -1, reach[1] + 3, -1])
        piece = part(seen, gradient, [rows, 3, channels, 1], "VALID")
        pieces.append(raw.Slice(input=piece, begin=[0, 1, 0, 0], size=[-1, -1, -1, -1]) if start else piece)
    return raw.ConcatV2(values=pieces, axis=1)


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
    """The gradient of a mean over windows, right at every size, also where TensorFlow's own kernel is not.

    Where the window moves by one pixel, it is a mean of each window's share: for channels that fill no vector register.
    """
    settings = {"ksize": ksize, "strides": strides, "padding": padding}
    _, height, width, channels = x.shape
    odd = ksize[1] % 2 and ksize[2] % 2
    known = None not in (height, width)
    if padding == "SAME" and tuple(strides[1:3]) == (1, 1) and odd and known and channels % LANES:
        count = tf.constant(np.outer(_seen(height, ksize[1]), _seen(width, ksize[2]))[None, :, :, None], x.dtype)
        return raw.AvgPool(value=gradient / count, **settings) * count
    # Without oneDNN (an AMD EPYC without AVX-512, or `TF_ENABLE_ONEDNN_OPTS=0`), AvgPoolGrad of TensorFlow 2.21 spreads
    # the share of a window that sticks out on both sides over pixels that it does not hold: 0.31 off for an image of
    # 4×2, window 5×5, SAME. A window that fits sticks out on one side; one of up to 3 on both only where it holds all.
    right = padding == "VALID" or all(
        window <= max(3, length or 0) for window, length in zip(ksize[1:3], (height, width), strict=True)
    )
    if right:
        return raw.AvgPoolGrad(orig_input_shape=raw.Shape(input=x), grad=gradient, **settings)
    return _gradient_of_padded(x, gradient, settings)


def _gradient_of_padded(x, gradient, settings):
    """The gradient of a pool with padding SAME: that of a pool without padding, of an image that is padded before."""
    settings = {**settings, "padding": "VALID"}
    batch, height, width, channels = tf.unstack(tf.shape(x))
    missing = [
        tf.maximum((made - 1) * step + window - length, 0)
        for made, step, window, length in zip(
            tf.unstack(tf.shape(gradient)[1:3]),
            settings["strides"][1:3],
            settings["ksize"][1:3],
            (height, width),
            strict=True,
        )
    ]
    before = [count // 2 for count in missing]
    ends = [[0, 0], *([first, count - first] for first, count in zip(before, missing, strict=True)), [0, 0]]
    held = raw.AvgPool(value=tf.pad(tf.ones([1, height, width, 1], x.dtype), ends), **settings)  # shares of windows
    padded = [batch, height + missing[0], width + missing[1], channels]
    whole = raw.AvgPoolGrad(orig_input_shape=padded, grad=gradient / held, **settings)
    return raw.Slice(input=whole, begin=[0, *before, 0], size=tf.shape(x))


def _seen(length, window):
    """How many pixels of a row the window around each of them holds."""
    places = np.arange(length)
    return np.minimum(places + window // 2, length - 1) - np.maximum(places - window // 2, 0) + 1
