"""The primitives of a `program.Program` on TensorFlow, each forward and backward, as a few raw operations.

A raw operation called eagerly costs some ten microseconds and needs no tracing, no graph and no
variable: that is what makes a new child start at once. The derivatives are written out because a
gradient tape costs more than the arithmetic at these sizes.

Each primitive is a class with

    __init__(settings, weights)            constants, made once for each child
    forward(inputs, weights, training)     the result, and what `backward` wants to see again
    backward(saved, gradient)              gradients of the inputs, and of the weights that are trained

`weights` are the tensors in the order of `Step.weights`, without the moving statistics.
"""

import tensorflow as tf

from nasnet_keras.layers import BOUND

raw = tf.raw_ops


def _constant(value):
    return tf.constant(value, tf.int32)


class _Primitive:
    """What most primitives need."""

    def __init__(self, settings, weights):
        self.settings = settings


class Relu(_Primitive):
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


class Clip(_Primitive):
    """Values limited to ±6."""

    def forward(self, inputs, weights, training):
        """Save the input."""
        return tf.clip_by_value(inputs[0], -BOUND, BOUND), inputs[0]

    def backward(self, saved, gradient):
        """The gradient inside the bounds, borders included."""
        return (tf.where(tf.abs(saved) <= BOUND, gradient, tf.zeros_like(gradient)),), ()


class Conv(_Primitive):
    """A convolution without bias; a plain 1×1 is a matrix product."""

    def __init__(self, settings, weights):
        shape = weights[0].shape
        self.pointwise = shape[:2] == (1, 1) and settings.strides == (1, 1)
        self.flat = [_constant([-1, channels]) for channels in shape[2:]]
        self.shape = _constant(shape[2:] if self.pointwise else shape)
        self.settings = {
            "strides": [1, *settings.strides, 1],
            "padding": settings.padding,
            "dilations": [1, settings.dilation, settings.dilation, 1],
        }

    def forward(self, inputs, weights, training):
        """Save the input and the kernel."""
        x, kernel = inputs[0], weights[0]
        if self.pointwise:
            kernel = raw.Reshape(tensor=kernel, shape=self.shape)
            return raw.BatchMatMulV2(x=x, y=kernel), (x, kernel)
        return raw.Conv2D(input=x, filter=kernel, **self.settings), (x, kernel)

    def backward(self, saved, gradient):
        """The two convolutions, or products, that a convolution's gradient is."""
        x, kernel = saved
        if self.pointwise:
            rows, columns = (
                raw.Reshape(tensor=one, shape=shape) for one, shape in zip((x, gradient), self.flat, strict=True)
            )
            return (
                (raw.BatchMatMulV2(x=gradient, y=kernel, adj_y=True),),
                (raw.MatMul(a=rows, b=columns, transpose_a=True),),
            )
        backward = {"out_backprop": gradient, **self.settings}
        return (
            (raw.Conv2DBackpropInput(input_sizes=raw.Shape(input=x), filter=kernel, **backward),),
            (raw.Conv2DBackpropFilter(input=x, filter_sizes=self.shape, **backward),),
        )


class Depthwise(_Primitive):
    """A convolution of each channel by itself."""

    def __init__(self, settings, weights):
        self.shape = _constant(weights[0].shape)
        self.settings = {"strides": [1, *settings.strides, 1], "padding": "SAME"}

    def forward(self, inputs, weights, training):
        """Save the input and the kernel."""
        result = raw.DepthwiseConv2dNative(input=inputs[0], filter=weights[0], **self.settings)
        return result, (inputs[0], weights[0])

    def backward(self, saved, gradient):
        """The two convolutions of the gradient."""
        x, kernel = saved
        settings = {"out_backprop": gradient, **self.settings}
        return (
            (raw.DepthwiseConv2dNativeBackpropInput(input_sizes=raw.Shape(input=x), filter=kernel, **settings),),
            (raw.DepthwiseConv2dNativeBackpropFilter(input=x, filter_sizes=self.shape, **settings),),
        )


class Norm(_Primitive):
    """Batch normalisation by the batch's own statistics or, at inference, by the moving ones.

    `statistics` are the last batch's mean and variance; the variance is the unbiased one.
    """

    def __init__(self, settings, weights):
        self.settings = {"epsilon": settings.epsilon}
        self.factor = 1.0  # an integer, as in the kernel's default, would send every call the slow way
        self.nothing = tf.zeros((0,))
        self.statistics = None

    def forward(self, inputs, weights, training):
        """Save what TensorFlow's fused kernel wants to have saved."""
        scale, offset, *moving = weights
        mean, variance = (self.nothing, self.nothing) if training else moving
        result, *self.statistics, saved_1, saved_2, saved_3 = raw.FusedBatchNormV3(
            x=inputs[0],
            scale=scale,
            offset=offset,
            mean=mean,
            variance=variance,
            is_training=training,
            exponential_avg_factor=self.factor,
            **self.settings,
        )
        self.statistics = self.statistics if training else None
        return result, (inputs[0], scale, saved_1, saved_2, saved_3)

    def backward(self, saved, gradient):
        """One fused kernel."""
        x, scale, *reserved = saved
        names = (f"reserve_space_{index}" for index in (1, 2, 3))
        dx, dscale, doffset, *_ = raw.FusedBatchNormGradV3(
            y_backprop=gradient, x=x, scale=scale, **dict(zip(names, reserved, strict=True)), **self.settings
        )
        return (dx,), (dscale, doffset)


class GroupNorm(_Primitive):
    """Normalisation of each image over height and width, with or without the channels."""

    def __init__(self, settings, weights):
        self.axes = _constant([1, 2, 3] if settings.whole else [1, 2])
        self.epsilon = settings.epsilon
        self.rest = _constant([0, 1, 2])

    def forward(self, inputs, weights, training):
        """Save the normalised values."""
        x, (scale, offset) = inputs[0], weights
        centred = x - raw.Mean(input=x, axis=self.axes, keep_dims=True)
        factor = raw.Rsqrt(x=raw.Mean(input=centred * centred, axis=self.axes, keep_dims=True) + self.epsilon)
        normal = centred * factor
        return normal * scale + offset, (normal, factor, scale)

    def backward(self, saved, gradient):
        """dx = (g - mean(g) - n mean(g n)) / deviation, with g = gradient · scale."""
        normal, factor, scale = saved
        inner = gradient * scale
        first = raw.Mean(input=inner, axis=self.axes, keep_dims=True)
        second = raw.Mean(input=inner * normal, axis=self.axes, keep_dims=True)
        return ((inner - first - normal * second) * factor,), (
            raw.Sum(input=gradient * normal, axis=self.rest),
            raw.Sum(input=gradient, axis=self.rest),
        )


class AveragePool(_Primitive):
    """The mean over a window; padding is not counted."""

    def __init__(self, settings, weights):
        window, strides = ([1, value, value, 1] for value in (settings.size, settings.strides))
        self.settings = {"ksize": window, "strides": strides, "padding": settings.padding}

    def forward(self, inputs, weights, training):
        """Save the input's shape."""
        return raw.AvgPool(value=inputs[0], **self.settings), inputs[0]

    def backward(self, saved, gradient):
        """One kernel."""
        return (raw.AvgPoolGrad(orig_input_shape=raw.Shape(input=saved), grad=gradient, **self.settings),), ()


class MaxPool(AveragePool):
    """The maximum over a window; padding never wins."""

    def forward(self, inputs, weights, training):
        """Save input and result."""
        result = raw.MaxPool(input=inputs[0], **self.settings)
        return result, (inputs[0], result)

    def backward(self, saved, gradient):
        """One kernel; the first of equal maxima gets the gradient."""
        x, result = saved
        return (raw.MaxPoolGrad(orig_input=x, orig_output=result, grad=gradient, **self.settings),), ()


class Zeros(_Primitive):
    """`layers.ZeroPadding`."""

    def forward(self, inputs, weights, training):
        """Save the input and the padding before it."""
        half = self.settings.size // 2
        before = [0, *(half - (1 - length % 2) for length in inputs[0].shape[1:3]), 0]
        return tf.pad(inputs[0], list(zip(before, [0, half, half, 0], strict=True))), (inputs[0], before)

    def backward(self, saved, gradient):
        """Cut the padding off."""
        x, before = saved
        return (tf.slice(gradient, before, raw.Shape(input=x)),), ()


class Subsample(_Primitive):
    """Every second pixel."""

    def __init__(self, settings, weights):
        self.ends = {
            "begin": _constant([0] * 4),
            "end": _constant([0] * 4),
            "strides": _constant([1, settings.strides, settings.strides, 1]),
            "begin_mask": 15,
            "end_mask": 15,
        }

    def forward(self, inputs, weights, training):
        """Save the input."""
        return raw.StridedSlice(input=inputs[0], **self.ends), inputs[0]

    def backward(self, saved, gradient):
        """Zeros between the pixels."""
        return (raw.StridedSliceGrad(shape=raw.Shape(input=saved), dy=gradient, **self.ends),), ()


class Shift(_Primitive):
    """The image moved by a pixel up and left, zeros behind it."""

    def __init__(self, settings, weights):
        self.behind = _constant([[0, 0], [0, 1], [0, 1], [0, 0]])
        self.before = _constant([[0, 0], [1, 0], [1, 0], [0, 0]])

    def forward(self, inputs, weights, training):
        """Nothing to save."""
        return raw.Pad(input=inputs[0][:, 1:, 1:, :], paddings=self.behind), None

    def backward(self, saved, gradient):
        """The gradient moved back."""
        return (raw.Pad(input=gradient[:, :-1, :-1, :], paddings=self.before),), ()


class Add(_Primitive):
    """The sum of two values."""

    def forward(self, inputs, weights, training):
        """Nothing to save."""
        return raw.AddV2(x=inputs[0], y=inputs[1]), None

    def backward(self, saved, gradient):
        """The gradient for both."""
        return (gradient, gradient), ()


class Concat(_Primitive):
    """Values one after another along the channels."""

    def __init__(self, settings, weights):
        self.axis = _constant(3)
        self.channels = _constant(settings.channels)
        self.count = len(settings.channels)

    def forward(self, inputs, weights, training):
        """Nothing to save."""
        return raw.ConcatV2(values=inputs, axis=self.axis), None

    def backward(self, saved, gradient):
        """The gradient cut into pieces."""
        return raw.SplitV(value=gradient, size_splits=self.channels, axis=self.axis, num_split=self.count), ()


class Mean(_Primitive):
    """The mean over height and width."""

    def forward(self, inputs, weights, training):
        """Save the input."""
        return tf.reduce_mean(inputs[0], axis=(1, 2)), inputs[0]

    def backward(self, saved, gradient):
        """An equal share for each pixel."""
        shape = raw.Shape(input=saved)
        share = gradient / tf.cast(shape[1] * shape[2], gradient.dtype)
        return (tf.broadcast_to(share[:, None, None, :], shape),), ()


class Dense(_Primitive):
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


PRIMITIVES = {
    "relu": Relu,
    "clip": Clip,
    "conv": Conv,
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
