"""The primitives of a `program.Program` on TensorFlow, each forward and backward, as a few raw operations.

A raw operation called eagerly costs some ten microseconds and needs no tracing, no graph and no
variable: that is what makes a new child start at once. The derivatives are written out because a
gradient tape costs more than the arithmetic at these sizes.

Each primitive is a class with

    __init__(settings, weights, constant)  constants, made once for each child
    shapes                                 the shapes in which it wants its trained weights
    forward(inputs, weights, training)     the result, and what `backward` wants to see again
    backward(saved, gradient)              gradients of the inputs, and of the weights that are trained

`weights` are the tensors in the order of `Step.weights`, without the moving statistics.
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
from nasnet_keras.kernels import LANES, average_pool_gradient
from nasnet_keras.options import BOUND
from nasnet_keras.program import zeros_before

raw = tf.raw_ops


class Relu(BasePrimitive):
    """max(0, x), or min(6, max(0, x))."""

    def forward(self, inputs, weights, training):
        """Save the result, whose sign is the mask."""
        bounded = self.settings.bound is not None
        result = raw.Relu6(features=inputs[0]) if bounded else raw.Relu(features=inputs[0])
        return result, result

    def backward(self, saved, gradient):
        """The gradient where 0 < result (< 6)."""
        if self.settings.bound is not None:
            return (raw.Relu6Grad(gradients=gradient, features=saved),), ()
        return (raw.ReluGrad(gradients=gradient, features=saved),), ()


class Clip(BasePrimitive):
    """Values limited to ±6."""

    def forward(self, inputs, weights, training):
        """Save the input."""
        return tf.clip_by_value(inputs[0], -BOUND, BOUND), inputs[0]

    def backward(self, saved, gradient):
        """The gradient inside the bounds, borders included."""
        return (tf.where(tf.abs(saved) <= BOUND, gradient, tf.zeros_like(gradient)),), ()


class AveragePool(BasePrimitive):
    """The mean over a window; padding is not counted."""

    def __init__(self, settings, weights, constant):
        super().__init__(settings, weights, constant)
        window, strides = ([1, *value, 1] for value in (settings.size, settings.strides))
        self.pool = {"ksize": window, "strides": strides, "padding": settings.padding}

    def forward(self, inputs, weights, training):
        """Save the input."""
        return raw.AvgPool(value=inputs[0], **self.pool), inputs[0]

    def backward(self, saved, gradient):
        """One kernel, or what is faster."""
        return (average_pool_gradient(saved, gradient, **self.pool),), ()


class MaxPool(BasePrimitive):
    """The maximum over a window; padding never wins.

    TensorFlow's kernels take five to ten times as long where the channels do not fill vector registers. There rows
    are pooled before columns, which sends the gradient of equal maxima the same way, and each pool finds
    the pixels of the other side among its channels.
    """

    def __init__(self, settings, weights, constant):
        super().__init__(settings, weights, constant)
        self.turned = constant(0, 2, 1, 3)

    def forward(self, inputs, weights, training):
        """Save the way back: functions from gradient to gradient."""
        back, x = [], inputs[0]
        (height, width), (up, across), channels = self.settings.size, self.settings.strides, x.shape[3]
        if _neighbours(channels, x.shape[1]) == 1 or _neighbours(channels, x.shape[2]) == 1:
            return self.pool(x, (height, width), (up, across), back), back
        if width > 1:
            x = self.turn(self.pool_columns(self.turn(x, back), width, across, back), back)
        if height > 1:
            x = self.pool_columns(x, height, up, back)
        return x, back

    def backward(self, saved, gradient):
        """The first of equal maxima gets the gradient."""
        for step in reversed(saved):
            gradient = step(gradient)
        return (gradient,), ()

    def pool_columns(self, x, size, strides, back):
        """A pool along the height, with neighbours of a row as one pixel."""
        count, height, width, channels = x.shape
        together = _neighbours(channels, width)
        x = self.reshape(x, (count, height, width // together, channels * together), back)
        x = self.pool(x, (size, 1), (strides, 1), back)
        return self.reshape(x, (count, x.shape[1], width, channels), back)

    def pool(self, x, size, strides, back):
        """The kernel."""
        settings = {"ksize": [1, *size, 1], "strides": [1, *strides, 1], "padding": self.settings.padding}
        result = raw.MaxPool(input=x, **settings)
        back.append(lambda gradient: raw.MaxPoolGrad(orig_input=x, orig_output=result, grad=gradient, **settings))
        return result

    def reshape(self, x, shape, back):
        """The same values in another shape."""
        before, after = tf.constant(x.shape.as_list()), tf.constant(shape)
        back.append(lambda gradient: raw.Reshape(tensor=gradient, shape=before))
        return raw.Reshape(tensor=x, shape=after)

    def turn(self, x, back):
        """Height and width exchanged."""
        back.append(lambda gradient: raw.Transpose(x=gradient, perm=self.turned))
        return raw.Transpose(x=x, perm=self.turned)


def _neighbours(channels, length):
    """How many neighbours make, together, channels that fill vector registers; 1 if none need or can be joined."""
    fitting = (count for count in range(1, LANES + 1) if not (length % count or channels * count % LANES))
    return next(fitting, 1)


class Zeros(BasePrimitive):
    """Zeros around the image, as keras.applications puts them before a pool of stride 2."""

    def forward(self, inputs, weights, training):
        """Save the input and the padding before it."""
        half = self.settings.size // 2
        before = [0, *(zeros_before(length, self.settings.size) for length in inputs[0].shape[1:3]), 0]
        return tf.pad(inputs[0], list(zip(before, [0, half, half, 0], strict=True))), (inputs[0], before)

    def backward(self, saved, gradient):
        """Cut the padding off."""
        x, before = saved
        return (tf.slice(gradient, before, raw.Shape(input=x)),), ()


class Subsample(BasePrimitive):
    """Every second pixel."""

    def __init__(self, settings, weights, constant):
        super().__init__(settings, weights, constant)
        self.ends = {
            "begin": constant(0, 0, 0, 0),
            "end": constant(0, 0, 0, 0),
            "strides": constant(1, settings.strides, settings.strides, 1),
            "begin_mask": 15,
            "end_mask": 15,
        }

    def forward(self, inputs, weights, training):
        """Save the input."""
        return raw.StridedSlice(input=inputs[0], **self.ends), inputs[0]

    def backward(self, saved, gradient):
        """Zeros between the pixels."""
        return (raw.StridedSliceGrad(shape=raw.Shape(input=saved), dy=gradient, **self.ends),), ()


class Shift(BasePrimitive):
    """The image moved by a pixel up and left, zeros behind it."""

    def __init__(self, settings, weights, constant):
        super().__init__(settings, weights, constant)
        self.behind = tf.constant([[0, 0], [0, 1], [0, 1], [0, 0]])
        self.before = tf.constant([[0, 0], [1, 0], [1, 0], [0, 0]])

    def forward(self, inputs, weights, training):
        """Nothing to save."""
        return raw.Pad(input=inputs[0][:, 1:, 1:, :], paddings=self.behind), None

    def backward(self, saved, gradient):
        """The gradient moved back."""
        return (raw.Pad(input=gradient[:, :-1, :-1, :], paddings=self.before),), ()


class Add(BasePrimitive):
    """The sum of two values."""

    def forward(self, inputs, weights, training):
        """Nothing to save."""
        return raw.AddV2(x=inputs[0], y=inputs[1]), None

    def backward(self, saved, gradient):
        """The gradient for both."""
        return (gradient, gradient), ()


class Concat(BasePrimitive):
    """Values one after another along the channels."""

    def __init__(self, settings, weights, constant):
        super().__init__(settings, weights, constant)
        self.axis = tf.constant(3)
        self.channels = constant(*settings.channels)
        self.count = len(settings.channels)

    def forward(self, inputs, weights, training):
        """Nothing to save."""
        return raw.ConcatV2(values=inputs, axis=self.axis), None

    def backward(self, saved, gradient):
        """The gradient cut into pieces."""
        return raw.SplitV(value=gradient, size_splits=self.channels, axis=self.axis, num_split=self.count), ()


class Mean(BasePrimitive):
    """The mean over height and width."""

    def forward(self, inputs, weights, training):
        """Save the input."""
        return tf.reduce_mean(inputs[0], axis=(1, 2)), inputs[0]

    def backward(self, saved, gradient):
        """An equal share for each pixel."""
        shape = raw.Shape(input=saved)
        share = gradient / tf.cast(shape[1] * shape[2], gradient.dtype)
        return (tf.broadcast_to(share[:, None, None, :], shape),), ()


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
