"""Depthwise convolution with a wide kernel, in training on a CPU: TensorFlow's, but for the kernel's gradient.

oneDNN has fast code for the gradient of a 3×3 kernel; for 5×5 it takes twenty times as long. Each tap's gradient is a
sum over shifted images, so a wide kernel's is put together from those of 3×3 parts that overlap in a row.
"""

from math import ceil

import tensorflow as tf

PART = 3


def pays(shape, kernel):
    """Whether the parts are faster: a square, odd kernel above 3×3, images of known size, and no accelerator."""
    side = kernel[0]
    known = None not in shape[1:3]
    return side > PART and side % 2 and kernel[0] == kernel[1] and known and not tf.config.list_logical_devices("GPU")


def depthwise(x, kernel, strides):
    """A depthwise convolution, SAME padding, [batch, height, width, channels].

    Args:
        x: the images.
        kernel: [side, side, channels, 1].
        strides: (s, s).
    """
    strides = [1, *strides, 1]

    @tf.custom_gradient
    def run(x, kernel):
        def gradient(upstream):
            to_x = tf.raw_ops.DepthwiseConv2dNativeBackpropInput(
                input_sizes=tf.shape(x), filter=kernel, out_backprop=upstream, strides=strides, padding="SAME"
            )
            return to_x, kernel_gradient(x, kernel.shape[0], upstream, strides)

        return tf.nn.depthwise_conv2d(x, kernel, strides, "SAME"), gradient

    return run(x, kernel)


def kernel_gradient(x, side, upstream, strides):
    """The gradient of a kernel [side, side, channels, 1] from those of 3×3 parts of it."""
    step, channels = strides[1], x.shape[-1]
    sizes = [ceil(length / step) for length in x.shape[1:3]]
    spans = [(size - 1) * step + PART for size in sizes]  # what a part reads
    totals = [max((size - 1) * step + side - length, 0) for size, length in zip(sizes, x.shape[1:3], strict=True)]
    padding = [(total // 2, total - total // 2) for total in totals]
    x = tf.pad(x, [(0, 0), *padding, (0, 0)])

    def part(top, left):
        piece = x[:, top : top + spans[0], left : left + spans[1]]
        piece = tf.raw_ops.DepthwiseConv2dNativeBackpropFilter(
            input=piece,
            filter_sizes=[PART, PART, channels, 1],
            out_backprop=upstream,
            strides=strides,
            padding="VALID",
        )
        return piece[min(top, 1) :, min(left, 1) :]  # the first row and column are another part's last

    starts = range(0, side - PART + 1, PART - 1)
    return tf.concat([tf.concat([part(top, left) for left in starts], 1) for top in starts], 0)
