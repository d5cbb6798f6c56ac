"""The primitives that have weights, on TensorFlow; see `primitives`."""

import tensorflow as tf

from nasnet_keras.kernels import depthwise_filter_gradient, depthwise_input_gradient

raw = tf.raw_ops


class BasePrimitive:
    """What most primitives need.

    Args:
        settings: a `program.Primitive`.
        weights: its `program.Weight`s.
        constant: makes a constant vector of some integers, once for equal ones.
    """

    def __init__(self, settings, weights, constant):
        self.settings = settings
        self.shapes = [weight.shape for weight in weights if weight.trainable]


class Conv(BasePrimitive):
    """A convolution without bias; a plain 1×1 is a matrix product."""

    def __init__(self, settings, weights, constant):
        super().__init__(settings, weights, constant)
        shape = weights[0].shape
        self.pointwise = shape[:2] == (1, 1) and settings.strides == (1, 1)
        self.flat = [constant(-1, channels) for channels in shape[2:]]
        self.shape = constant(*shape)
        if self.pointwise:
            self.shapes = [shape[2:]]
        self.settings = {"strides": [1, *settings.strides, 1], "padding": settings.padding}

    def forward(self, inputs, weights, training):
        """Save the input and the kernel."""
        x, kernel = inputs[0], weights[0]
        result = raw.BatchMatMulV2(x=x, y=kernel) if self.pointwise else self.convolve(x, kernel)
        return result, (x, kernel)

    def convolve(self, x, kernel):
        """The convolution proper."""
        return raw.Conv2D(input=x, filter=kernel, **self.settings)

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


class DilatedConv(Conv):
    """A convolution with gaps: a dense one of the pixels sorted by their place modulo the dilation.

    Not every build of TensorFlow has the gradient of a dilated convolution; this needs none.
    """

    def __init__(self, settings, weights, constant):
        super().__init__(settings, weights, constant)
        self.dilation = settings.dilation
        self.reach = [(length - 1) * settings.dilation for length in settings.kernel]
        self.block = constant(settings.dilation, settings.dilation)
        self.settings["padding"] = "VALID"

    def forward(self, inputs, weights, training):
        """Save the sorted input and how it was padded."""
        ends = [
            -(length + reach) % self.dilation for length, reach in zip(inputs[0].shape[1:3], self.reach, strict=True)
        ]
        crops = tf.constant([[0, end] for end in ends])
        padding = tf.constant(
            [[reach // 2, reach - reach // 2 + end] for reach, end in zip(self.reach, ends, strict=True)]
        )
        x = raw.SpaceToBatchND(input=inputs[0], block_shape=self.block, paddings=padding)
        result = raw.BatchToSpaceND(input=self.convolve(x, weights[0]), block_shape=self.block, crops=crops)
        return result, (x, weights[0], padding, crops)

    def backward(self, saved, gradient):
        """The gradient of the dense convolution, sorted there and back."""
        *saved, padding, crops = saved
        gradient = raw.SpaceToBatchND(input=gradient, block_shape=self.block, paddings=crops)
        (dx,), weights = super().backward(saved, gradient)
        return (raw.BatchToSpaceND(input=dx, block_shape=self.block, crops=padding),), weights


class Depthwise(BasePrimitive):
    """A convolution of each channel by itself."""

    def __init__(self, settings, weights, constant):
        super().__init__(settings, weights, constant)
        self.shape, self.strides = weights[0].shape, settings.strides

    def forward(self, inputs, weights, training):
        """Save the input and the kernel."""
        x, kernel = inputs[0], weights[0]
        result = raw.DepthwiseConv2dNative(input=x, filter=kernel, strides=[1, *self.strides, 1], padding="SAME")
        return result, (x, kernel)

    def backward(self, saved, gradient):
        """The two convolutions of the gradient."""
        x, kernel = saved
        return (
            (depthwise_input_gradient(x, kernel, gradient, self.strides),),
            (depthwise_filter_gradient(x, self.shape, gradient, self.strides),),
        )


class Norm(BasePrimitive):
    """Batch normalisation by the batch's own statistics or, at inference, by the moving ones.

    What it saves ends in the batch's mean and variance; the variance is the unbiased one.
    """

    def __init__(self, settings, weights, constant):
        super().__init__(settings, weights, constant)
        self.settings = {"epsilon": settings.epsilon}
        self.factor = 1.0  # an integer, as in the kernel's default, would send every call the slow way
        self.nothing = tf.zeros((0,))

    def forward(self, inputs, weights, training):
        """Save what TensorFlow's fused kernel wants to have saved."""
        scale, offset, *moving = weights
        mean, variance = (self.nothing, self.nothing) if training else moving
        result, mean, variance, *reserved = raw.FusedBatchNormV3(
            x=inputs[0],
            scale=scale,
            offset=offset,
            mean=mean,
            variance=variance,
            is_training=training,
            exponential_avg_factor=self.factor,
            **self.settings,
        )
        return result, (inputs[0], scale, *reserved[:3], mean, variance)

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
            **self.settings,
        )
        return (dx,), (dscale, doffset)


class GroupNorm(BasePrimitive):
    """Normalisation of each image over height and width, with or without the channels."""

    def __init__(self, settings, weights, constant):
        super().__init__(settings, weights, constant)
        self.axes = constant(1, 2, 3) if settings.whole else constant(1, 2)
        self.epsilon = settings.epsilon
        self.rest = constant(0, 1, 2)

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
