"""The primitives of a `program.Program` on TensorFlow, as functions for `graph_assembly.Assembly`.

They are called once for each shape, with tensors of a graph whose shapes are all known, whatever Keras computes on.
Derivatives are TensorFlow's, but for the two that it makes of many more operations than they need: every child pays for
each (`benchmarks/README.md`).
"""

import tensorflow as tf

from nasnet_keras.models.kernels import LANES, average_pool, depthwise
from nasnet_keras.program.options import BOUND
from nasnet_keras.program.program import zeros_before

raw = tf.raw_ops


def forward(tensors, primitive, training):
    """The result of a `program.Primitive`, and the batch's mean and unbiased variance where it is a norm that trains.

    Args:
        tensors: the values that it reads, and its weights in the order of `Step.weights`, without the moving statistics
            while it is trained; a 1×1 kernel comes as a matrix.
        primitive: the `Primitive`.
        training: whether statistics are the batch's.
    """
    if primitive.kind == "norm":
        result, *statistics = _norm(primitive, *tensors)
        return result, tuple(statistics) if training else ()
    return FUNCTIONS[primitive.kind](primitive, *tensors), ()


def _relu(what, x):
    return tf.nn.relu(x) if what.bound is None else tf.nn.relu6(x)


def _zeros(what, x):
    """Zeros around the image, as keras.applications puts them before a pool of stride 2."""
    amounts = [[zeros_before(length, what.size), what.size // 2] for length in x.shape[1:3]]
    return tf.pad(x, [[0, 0], *amounts, [0, 0]])


def _shift(what, x):
    """The image moved by a pixel up and left, zeros behind it."""
    batch, height, width, channels = x.shape
    return tf.pad(tf.slice(x, [0, 1, 1, 0], [batch, height - 1, width - 1, channels]), [[0, 0], [0, 1], [0, 1], [0, 0]])


def _group_norm(what, x, scale, offset):
    """Normalisation of each image over height and width, with or without the channels."""
    axes = [1, 2, 3] if what.whole else [1, 2]
    centred = x - tf.reduce_mean(x, axes, keepdims=True)
    factor = tf.math.rsqrt(tf.reduce_mean(centred * centred, axes, keepdims=True) + what.epsilon)
    return centred * factor * scale + offset


def _norm(what, x, scale, offset, *moving):
    """By the batch's own statistics or, at inference, by the moving ones, in one kernel."""
    mean, variance = moving or (tf.zeros((0,)), tf.zeros((0,)))
    return raw.FusedBatchNormV3(
        x=x, scale=scale, offset=offset, mean=mean, variance=variance, epsilon=what.epsilon, is_training=not moving
    )[:3]


def _max_pool(what, x):
    """The maximum over a window; the first of equal maxima gets the gradient.

    TensorFlow's kernels take five to ten times as long where the channels do not fill vector registers. There rows
    are pooled before columns, which sends the gradient of equal maxima the same way, and each pool finds
    the pixels of the other side among its channels.
    """
    _, rows, columns, channels = x.shape
    (height, width), (up, across) = what.size, what.strides
    if _neighbours(channels, rows) == 1 or _neighbours(channels, columns) == 1:
        return tf.nn.max_pool2d(x, what.size, what.strides, what.padding)
    if width > 1:
        x = tf.transpose(_pool_rows(tf.transpose(x, [0, 2, 1, 3]), width, across, what.padding), [0, 2, 1, 3])
    return _pool_rows(x, height, up, what.padding) if height > 1 else x


def _pool_rows(x, size, stride, padding):
    """The maximum along the height, with neighbours of a row as one pixel."""
    _, _, columns, channels = x.shape
    together = _neighbours(channels, columns)
    x = tf.reshape(x, [*x.shape[:2], columns // together, channels * together])
    x = tf.nn.max_pool2d(x, (size, 1), (stride, 1), padding)
    return tf.reshape(x, [*x.shape[:2], columns, channels])


def _neighbours(channels, length):
    """How many neighbours make, together, channels that fill vector registers; 1 if none need or can be joined."""
    fitting = (count for count in range(1, LANES + 1) if not (length % count or channels * count % LANES))
    return next(fitting, 1)


def _conv(what, x, kernel):
    """A convolution without bias."""
    if len(kernel.shape) == 2 and what.strides == (1, 1):
        if 1 not in kernel.shape:
            return _mixed(x, kernel)
        # A single channel would be added up in another order than by searches that are under way.
        return tf.reshape(tf.matmul(tf.reshape(x, [-1, x.shape[3]]), kernel), [*x.shape[:3], kernel.shape[1]])
    return tf.nn.conv2d(x, _four(kernel), what.strides, what.padding)


@tf.custom_gradient
def _mixed(x, kernel):
    """The channels of each pixel times a matrix."""

    def backward(gradient):
        pixels, parts = (tf.reshape(value, [-1, value.shape[3]]) for value in (x, gradient))
        return raw.BatchMatMulV2(x=gradient, y=kernel, adj_y=True), tf.matmul(pixels, parts, transpose_a=True)

    return raw.BatchMatMulV2(x=x, y=kernel), backward


@tf.custom_gradient
def _concat(*values):
    """Values one after another along the channels."""

    def backward(gradient):
        return tf.split(gradient, [value.shape[3] for value in values], 3)

    return tf.concat(values, 3), backward


def _dilated_conv(what, x, kernel):
    """A convolution with gaps: a dense one of the pixels sorted by their place modulo the dilation.

    Not every build of TensorFlow has the gradient of a dilated convolution; this needs none.
    """
    block = [what.dilation] * 2
    reach = [(length - 1) * what.dilation for length in what.kernel]
    ends = [-(side + far) % what.dilation for side, far in zip(x.shape[1:3], reach, strict=True)]
    padding = [[far // 2, far - far // 2 + end] for far, end in zip(reach, ends, strict=True)]
    x = tf.nn.conv2d(tf.space_to_batch(x, block, padding), _four(kernel), (1, 1), "VALID")
    return raw.BatchToSpaceND(input=x, block_shape=block, crops=[[0, end] for end in ends])


def _four(kernel):
    """A kernel with its height and width, which a 1×1 one comes without."""
    return kernel if len(kernel.shape) == 4 else tf.reshape(kernel, [1, 1, *kernel.shape])


FUNCTIONS = {
    "relu": _relu,
    "clip": lambda what, x: tf.clip_by_value(x, -BOUND, BOUND),
    "avg_pool": lambda what, x: average_pool(x, what.size, what.strides, what.padding),
    "max_pool": _max_pool,
    "zeros": _zeros,
    # By a pool of one: TensorFlow's indexing with steps takes five times as long.
    "subsample": lambda what, x: tf.nn.avg_pool2d(x, 1, what.strides, "VALID"),
    "shift": _shift,
    "add": lambda what, x, y: tf.add(x, y),
    "concat": lambda what, *values: _concat(*values),
    "mean": lambda what, x: tf.reduce_mean(x, [1, 2]),
    "conv": _conv,
    "dilated_conv": _dilated_conv,
    "depthwise": lambda what, x, kernel: depthwise(x, kernel, what.strides),
    "group_norm": _group_norm,
    "dense": lambda what, x, kernel, bias: tf.nn.bias_add(tf.matmul(x, kernel), bias),
}
