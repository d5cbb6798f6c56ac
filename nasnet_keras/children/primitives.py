"""The primitives of a `program.Program` on TensorFlow, each forward and backward, as a few raw operations.

They are functions for `graph_assembly.Assembly.call`: called once for each shape, with tensors of a graph whose shapes
are all known. The derivatives are written out, which saves a tenth to a seventh of a graph's operations, and little
time: beside `tf.gradients` of the forward pieces, traced once a shape and cut down to what is needed, a step takes 1.02
of the time and a whole child 0.98, with the same gradients to the last bit (`benchmarks/derivatives.py`).

Each primitive is a class with

    forward(inputs, weights, training)     the result, and a tuple of what `backward` wants to see again
    backward(saved, gradient)              gradients of the inputs, and of the weights that are trained

`weights` are in the order of `Step.weights`, without the moving statistics while it is trained; a 1×1 kernel comes as
a matrix.
"""

import tensorflow as tf

from nasnet_keras.models.kernels import (
    LANES,
    average_pool_gradient,
    depthwise_filter_gradient,
    depthwise_input_gradient,
)
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


class BasePrimitive:
    """What all primitives have.

    Args:
        settings: a `program.Primitive`.
    """

    def __init__(self, settings):
        self.settings = settings


# Without weights


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
    """Every second pixel, by a pool of one: TensorFlow's indexing with steps takes five times as long."""

    def forward(self, inputs, weights, training):
        """Save the input, for its size."""
        return raw.AvgPool(value=inputs[0], **self.window()), (inputs[0],)

    def backward(self, saved, gradient):
        """Zeros between the pixels."""
        return (raw.AvgPoolGrad(orig_input_shape=list(saved[0].shape), grad=gradient, **self.window()),), ()

    def window(self):
        """The kernel's attributes."""
        strides = self.settings.strides
        return {"ksize": [1, 1, 1, 1], "strides": [1, strides, strides, 1], "padding": "VALID"}


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


# With weights


class Conv(BasePrimitive):
    """A convolution without bias; a plain 1×1 is a matrix product."""

    def forward(self, inputs, weights, training):
        """Save the input and the kernel."""
        x, kernel = inputs[0], weights[0]
        if self.is_product(kernel):
            return raw.BatchMatMulV2(x=x, y=kernel), (x, kernel)
        kernel = _four(kernel)
        return self.convolve(x, kernel, self.settings.padding), (x, kernel)

    def backward(self, saved, gradient):
        """The two convolutions, or products, that a convolution's gradient is."""
        x, kernel = saved
        if self.is_product(kernel):
            rows, columns = (raw.Reshape(tensor=one, shape=[-1, one.shape[3]]) for one in (x, gradient))
            return (
                (raw.BatchMatMulV2(x=gradient, y=kernel, adj_y=True),),
                (raw.MatMul(a=rows, b=columns, transpose_a=True),),
            )
        return self.deconvolve(x, kernel, gradient, self.settings.padding)

    def is_product(self, kernel):
        """Whether a kernel is a matrix that has to be applied to every pixel."""
        return len(kernel.shape) == 2 and self.settings.strides == (1, 1)

    def convolve(self, x, kernel, padding):
        """The convolution proper."""
        return raw.Conv2D(input=x, filter=kernel, strides=[1, *self.settings.strides, 1], padding=padding)

    def deconvolve(self, x, kernel, gradient, padding):
        """Its gradients; that of a 1×1 kernel is a matrix again."""
        settings = {"out_backprop": gradient, "strides": [1, *self.settings.strides, 1], "padding": padding}
        to_kernel = raw.Conv2DBackpropFilter(input=x, filter_sizes=list(kernel.shape), **settings)
        if kernel.shape[:2] == (1, 1):
            to_kernel = raw.Reshape(tensor=to_kernel, shape=list(kernel.shape[2:]))
        return (raw.Conv2DBackpropInput(input_sizes=list(x.shape), filter=kernel, **settings),), (to_kernel,)


class DilatedConv(Conv):
    """A convolution with gaps: a dense one of the pixels sorted by their place modulo the dilation.

    Not every build of TensorFlow has the gradient of a dilated convolution; this needs none.
    """

    def forward(self, inputs, weights, training):
        """Save the sorted input."""
        padding, crops = self.ends(*inputs[0].shape[1:3])
        x = raw.SpaceToBatchND(input=inputs[0], block_shape=self.block, paddings=padding)
        result = self.convolve(x, _four(weights[0]), "VALID")
        return raw.BatchToSpaceND(input=result, block_shape=self.block, crops=crops), (x, _four(weights[0]))

    def backward(self, saved, gradient):
        """The gradient of the dense convolution, sorted there and back."""
        padding, crops = self.ends(*gradient.shape[1:3])
        gradient = raw.SpaceToBatchND(input=gradient, block_shape=self.block, paddings=crops)
        (dx,), weights = self.deconvolve(*saved, gradient, "VALID")
        return (raw.BatchToSpaceND(input=dx, block_shape=self.block, crops=padding),), weights

    @property
    def block(self):
        """Rows and columns that are sorted."""
        return [self.settings.dilation] * 2

    def ends(self, *sides):
        """Zeros before and behind rows and columns of the input, and what is cut off the result."""
        dilation = self.settings.dilation
        reach = [(length - 1) * dilation for length in self.settings.kernel]
        ends = [-(side + far) % dilation for side, far in zip(sides, reach, strict=True)]
        padding = [[far // 2, far - far // 2 + end] for far, end in zip(reach, ends, strict=True)]
        return padding, [[0, end] for end in ends]


class Depthwise(BasePrimitive):
    """A convolution of each channel by itself."""

    def forward(self, inputs, weights, training):
        """Save the input and the kernel."""
        x, kernel = inputs[0], weights[0]
        strides = [1, *self.settings.strides, 1]
        return raw.DepthwiseConv2dNative(input=x, filter=kernel, strides=strides, padding="SAME"), (x, kernel)

    def backward(self, saved, gradient):
        """The two convolutions of the gradient."""
        x, kernel = saved
        return (
            (depthwise_input_gradient(x, kernel, gradient, self.settings.strides),),
            (depthwise_filter_gradient(x, kernel.shape, gradient, self.settings.strides),),
        )


class Norm(BasePrimitive):
    """Batch normalisation by the batch's own statistics or, at inference, by the moving ones.

    What it saves ends in the batch's mean and variance; the variance is the unbiased one.
    """

    def forward(self, inputs, weights, training):
        """Save what TensorFlow's fused kernel wants to have saved."""
        scale, offset, *moving = weights
        mean, variance = (tf.zeros((0,)), tf.zeros((0,))) if training else moving
        result, mean, variance, *reserved = raw.FusedBatchNormV3(
            x=inputs[0],
            scale=scale,
            offset=offset,
            mean=mean,
            variance=variance,
            is_training=training,
            epsilon=self.settings.epsilon,
        )
        return result, (inputs[0], scale, *reserved, mean, variance)

    def backward(self, saved, gradient):
        """One fused kernel."""
        x, scale, first, second, third, *_ = saved
        dx, dscale, doffset, *_ = raw.FusedBatchNormGradV3(
            y_backprop=gradient,
            x=x,
            scale=scale,
            reserve_space_1=first,
            reserve_space_2=second,
            reserve_space_3=third,
            epsilon=self.settings.epsilon,
        )
        return (dx,), (dscale, doffset)


class GroupNorm(BasePrimitive):
    """Normalisation of each image over height and width, with or without the channels."""

    def forward(self, inputs, weights, training):
        """Save the normalised values."""
        x, (scale, offset) = inputs[0], weights
        centred = x - self.mean(x)
        factor = raw.Rsqrt(x=self.mean(centred * centred) + self.settings.epsilon)
        normal = centred * factor
        return normal * scale + offset, (normal, factor, scale)

    def backward(self, saved, gradient):
        """dx = (g - mean(g) - n mean(g n)) / deviation, with g = gradient · scale."""
        normal, factor, scale = saved
        inner = gradient * scale
        dx = (inner - self.mean(inner) - normal * self.mean(inner * normal)) * factor
        return (dx,), tuple(raw.Sum(input=one, axis=[0, 1, 2]) for one in (gradient * normal, gradient))

    def mean(self, x):
        """The mean of each group, broadcast to all of it."""
        return raw.Mean(input=x, axis=[1, 2, 3] if self.settings.whole else [1, 2], keep_dims=True)


class Dense(BasePrimitive):
    """A matrix product and a bias."""

    def forward(self, inputs, weights, training):
        """Save input and kernel."""
        return raw.BiasAdd(value=raw.MatMul(a=inputs[0], b=weights[0]), bias=weights[1]), (inputs[0], weights[0])

    def backward(self, saved, gradient):
        """Two products and a sum."""
        x, kernel = saved
        return (
            (raw.MatMul(a=gradient, b=kernel, transpose_b=True),),
            (raw.MatMul(a=x, b=gradient, transpose_a=True), raw.BiasAddGrad(out_backprop=gradient)),
        )


def _four(kernel):
    """A kernel with its height and width, which a 1×1 one comes without."""
    return kernel if len(kernel.shape) == 4 else raw.Reshape(tensor=kernel, shape=[1, 1, *kernel.shape])


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
