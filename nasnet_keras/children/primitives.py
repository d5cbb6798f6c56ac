"""The primitives of a `program.Program` on TensorFlow, each forward and backward, as a few raw operations.

They are functions for `pieces.Assembly.call`: called once for each shape, with tensors of a graph whose shapes are all
known. The derivatives are written out because TensorFlow's own need more operations, and every child pays for each.

Each primitive is a class with

    forward(inputs, weights, training)     the result, and a tuple of what `backward` wants to see again
    backward(saved, gradient)              gradients of the inputs, and of the weights that are trained

`weights` are in the order of `Step.weights`, without the moving statistics while it is trained; a 1×1 kernel comes as
a matrix.
"""

import tensorflow as tf

from nasnet_keras.children.weighted_primitives import (
    BasePrimitive,
    Conv,
    Dense,
    Depthwise,
    DilatedConv,
    GroupNorm,
    Norm,
)
from nasnet_keras.models.kernels import LANES, average_pool_gradient
from nasnet_keras.program.options import BOUND
from nasnet_keras.program.program import zeros_before

raw = tf.raw_ops


def forward(tensors, primitive, inputs, training):
    """The result of a `program.Primitive`, and what `backward` wants to see again.

    Args:
        tensors: the values that it reads, and its weights.
        primitive: the `Primitive`.
        inputs: how many values it reads.
        training: whether statistics are the batch's.
    """
    return PRIMITIVES[primitive.kind](primitive).forward(tensors[:inputs], tensors[inputs:], training)


def backward(tensors, primitive):
    """The gradients of the values that it reads and of its trained weights.

    Args:
        tensors: what `forward` saved, and the gradient of its result.
        primitive: the `Primitive`.
    """
    *saved, gradient = tensors
    return PRIMITIVES[primitive.kind](primitive).backward(saved, gradient)


class Relu(BasePrimitive):
    """max(0, x), or min(6, max(0, x))."""

    def forward(self, inputs, weights, training):
        """Save the result, whose sign is the mask."""
        bounded = self.settings.bound is not None
        result = raw.Relu6(features=inputs[0]) if bounded else raw.Relu(features=inputs[0])
        return result, (result,)

    def backward(self, saved, gradient):
        """The gradient where 0 < result (< 6)."""
        if self.settings.bound is not None:
            return (raw.Relu6Grad(gradients=gradient, features=saved[0]),), ()
        return (raw.ReluGrad(gradients=gradient, features=saved[0]),), ()


class Clip(BasePrimitive):
    """Values limited to ±6."""

    def forward(self, inputs, weights, training):
        """Save the input."""
        return tf.clip_by_value(inputs[0], -BOUND, BOUND), (inputs[0],)

    def backward(self, saved, gradient):
        """The gradient inside the bounds, borders included."""
        return (tf.where(tf.abs(saved[0]) <= BOUND, gradient, tf.zeros_like(gradient)),), ()


class AveragePool(BasePrimitive):
    """The mean over a window; padding is not counted."""

    def forward(self, inputs, weights, training):
        """Save the input."""
        return raw.AvgPool(value=inputs[0], **_window(self.settings)), (inputs[0],)

    def backward(self, saved, gradient):
        """One kernel, or what is faster."""
        return (average_pool_gradient(saved[0], gradient, **_window(self.settings)),), ()


class MaxPool(BasePrimitive):
    """The maximum over a window; padding never wins.

    TensorFlow's kernels take five to ten times as long where the channels do not fill vector registers. There rows
    are pooled before columns, which sends the gradient of equal maxima the same way, and each pool finds
    the pixels of the other side among its channels.
    """

    def forward(self, inputs, weights, training):
        """Save the values between the moves."""
        values = [inputs[0]]
        for there, _ in self.moves(inputs[0].shape):
            values.append(there(values[-1]))
        return values[-1], tuple(values)

    def backward(self, saved, gradient):
        """The first of equal maxima gets the gradient."""
        moves = self.moves(saved[0].shape)
        for (_, back), before, after in reversed(list(zip(moves, saved[:-1], saved[1:], strict=True))):
            gradient = back(before, after, gradient)
        return (gradient,), ()

    def moves(self, shape):
        """Pairs of functions: from a value to the next, and from both and the next one's gradient to its own."""
        _, rows, columns, channels = shape
        (height, width), (up, across) = self.settings.size, self.settings.strides
        if _neighbours(channels, rows) == 1 or _neighbours(channels, columns) == 1:
            return [self.pool((height, width), (up, across))]
        moves = []
        if width > 1:
            moves += [_TURN, *self.pool_rows(width, across, rows, channels), _TURN]
        if height > 1:
            valid = self.settings.padding == "VALID"
            moves += self.pool_rows(height, up, (columns - (width - 1) * valid + across - 1) // across, channels)
        return moves

    def pool_rows(self, size, strides, columns, channels):
        """A pool along the height, with neighbours of a row as one pixel."""
        together = _neighbours(channels, columns)
        return [
            _reshape(columns // together, channels * together),
            self.pool((size, 1), (strides, 1)),
            _reshape(columns, channels),
        ]

    def pool(self, size, strides):
        """The kernel."""
        settings = _window(self.settings, size, strides)
        return (
            lambda x: raw.MaxPool(input=x, **settings),
            lambda x, made, gradient: raw.MaxPoolGrad(orig_input=x, orig_output=made, grad=gradient, **settings),
        )


_TURN = (  # height and width exchanged
    lambda x: raw.Transpose(x=x, perm=[0, 2, 1, 3]),
    lambda x, made, gradient: raw.Transpose(x=gradient, perm=[0, 2, 1, 3]),
)


def _reshape(columns, channels):
    """The same values with other columns and channels."""
    return (
        lambda x: raw.Reshape(tensor=x, shape=[*x.shape[:2], columns, channels]),
        lambda x, made, gradient: raw.Reshape(tensor=gradient, shape=list(x.shape)),
    )


def _window(settings, size=None, strides=None):
    """The attributes of a pool's kernel."""
    size, strides = size or settings.size, strides or settings.strides
    return {"ksize": [1, *size, 1], "strides": [1, *strides, 1], "padding": settings.padding}


def _neighbours(channels, length):
    """How many neighbours make, together, channels that fill vector registers; 1 if none need or can be joined."""
    fitting = (count for count in range(1, LANES + 1) if not (length % count or channels * count % LANES))
    return next(fitting, 1)


class Zeros(BasePrimitive):
    """Zeros around the image, as keras.applications puts them before a pool of stride 2."""

    def forward(self, inputs, weights, training):
        """Save the input, for its size."""
        half = self.settings.size // 2
        pairs = zip(self.before(inputs[0]), [0, half, half, 0], strict=True)
        return raw.Pad(input=inputs[0], paddings=[list(pair) for pair in pairs]), (inputs[0],)

    def backward(self, saved, gradient):
        """Cut the padding off."""
        return (raw.Slice(input=gradient, begin=self.before(saved[0]), size=list(saved[0].shape)),), ()

    def before(self, x):
        """Zeros before each axis."""
        return [0, *(zeros_before(length, self.settings.size) for length in x.shape[1:3]), 0]


class Subsample(BasePrimitive):
    """Every second pixel."""

    def forward(self, inputs, weights, training):
        """Save the input, for its size."""
        return raw.StridedSlice(input=inputs[0], **self.ends()), (inputs[0],)

    def backward(self, saved, gradient):
        """Zeros between the pixels."""
        return (raw.StridedSliceGrad(shape=list(saved[0].shape), dy=gradient, **self.ends()),), ()

    def ends(self):
        """The kernel's attributes: from the first to the last pixel."""
        strides = [1, self.settings.strides, self.settings.strides, 1]
        return {"begin": [0] * 4, "end": [0] * 4, "strides": strides, "begin_mask": 15, "end_mask": 15}


class Shift(BasePrimitive):
    """The image moved by a pixel up and left, zeros behind it."""

    def forward(self, inputs, weights, training):
        """Nothing to save."""
        return raw.Pad(input=_cut(inputs[0], 1), paddings=[[0, 0], [0, 1], [0, 1], [0, 0]]), ()

    def backward(self, saved, gradient):
        """The gradient moved back."""
        return (raw.Pad(input=_cut(gradient, 0), paddings=[[0, 0], [1, 0], [1, 0], [0, 0]]),), ()


def _cut(x, start):
    """All but one row and one column."""
    batch, height, width, channels = x.shape
    return raw.Slice(input=x, begin=[0, start, start, 0], size=[batch, height - 1, width - 1, channels])


class Add(BasePrimitive):
    """The sum of two values."""

    def forward(self, inputs, weights, training):
        """Nothing to save."""
        return raw.AddV2(x=inputs[0], y=inputs[1]), ()

    def backward(self, saved, gradient):
        """The gradient for both."""
        return (gradient, gradient), ()


class Concat(BasePrimitive):
    """Values one after another along the channels."""

    def forward(self, inputs, weights, training):
        """Nothing to save."""
        return raw.ConcatV2(values=inputs, axis=3), ()

    def backward(self, saved, gradient):
        """The gradient cut into pieces."""
        channels = list(self.settings.channels)
        return raw.SplitV(value=gradient, size_splits=channels, axis=3, num_split=len(channels)), ()


class Mean(BasePrimitive):
    """The mean over height and width."""

    def forward(self, inputs, weights, training):
        """Save the input, for its size."""
        return raw.Mean(input=inputs[0], axis=[1, 2]), (inputs[0],)

    def backward(self, saved, gradient):
        """An equal share for each pixel."""
        batch, height, width, channels = saved[0].shape
        share = raw.Reshape(tensor=gradient / float(height * width), shape=[batch, 1, 1, channels])
        return (raw.BroadcastTo(input=share, shape=list(saved[0].shape)),), ()


PRIMITIVES = {
    "relu": Relu,
    "clip": Clip,
    "conv": Conv,
    "dilated_conv": DilatedConv,
    "depthwise": Depthwise,
    "norm": Norm,
    "group_norm": GroupNorm,
    "avg_pool": AveragePool,
    "max_pool": MaxPool,
    "zeros": Zeros,
    "subsample": Subsample,
    "shift": Shift,
    "add": Add,
    "concat": Concat,
    "mean": Mean,
    "dense": Dense,
}
