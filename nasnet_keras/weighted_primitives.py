"""The primitives that have weights, on TensorFlow; see `primitives`."""

import tensorflow as tf

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
    """A convolution of each channel by itself.

    TensorFlow's kernel for the filter's gradient is fast for three columns and three to eight times slower for
    more: wide filters get theirs three columns at a time.
    """

    def __init__(self, settings, weights, constant):
        super().__init__(settings, weights, constant)
        self.rows, self.columns, channels, _ = weights[0].shape
        self.shape, self.narrow = (constant(self.rows, columns, channels, 1) for columns in (self.columns, 3))
        self.strides, self.sides, self.axis = settings.strides, constant(0, 1), tf.constant(1)
        self.begin, self.rest = constant(0, 1, 0, 0), constant(-1, -1, -1, -1)
        self.settings = {"strides": [1, *settings.strides, 1]}

    def forward(self, inputs, weights, training):
        """Save the input and the kernel."""
        result = raw.DepthwiseConv2dNative(input=inputs[0], filter=weights[0], padding="SAME", **self.settings)
        return result, (inputs[0], weights[0])

    def backward(self, saved, gradient):
        """The two convolutions of the gradient; with a stride of 1 the input's is the one with the filter turned."""
        x, kernel = saved
        if self.strides == (1, 1):
            turned = raw.ReverseV2(tensor=kernel, axis=self.sides)
            dx = raw.DepthwiseConv2dNative(input=gradient, filter=turned, padding="SAME", **self.settings)
        else:
            dx = raw.DepthwiseConv2dNativeBackpropInput(
                input_sizes=raw.Shape(input=x), filter=kernel, out_backprop=gradient, padding="SAME", **self.settings
            )
        return (dx,), (self.wide_gradient(x, gradient) if self.columns > 3 else self.filter_gradient(x, gradient),)

    def filter_gradient(self, x, gradient, padding="SAME"):
        """The kernel's gradient or, for an image that is padded already, that of three of its columns."""
        return raw.DepthwiseConv2dNativeBackpropFilter(
            input=x,
            filter_sizes=self.shape if padding == "SAME" else self.narrow,
            out_backprop=gradient,
            padding=padding,
            **self.settings,
        )

    def wide_gradient(self, x, gradient):
        """The kernel's gradient from threes of columns: 0 to 2, 2 to 4, …"""
        (height, width), (rows, columns) = x.shape[1:3], gradient.shape[1:3]
        reach = [(made - 1) * stride for made, stride in zip((rows, columns), self.strides, strict=True)]
        missing = [reach[0] + self.rows - height, reach[1] + self.columns - width]
        ends = [[count // 2, count - count // 2] for count in missing]
        x = raw.Pad(input=x, paddings=tf.constant([[0, 0], *ends, [0, 0]]))
        size, pieces = tf.constant([-1, -1, reach[1] + 3, -1]), []
        for start in range(0, self.columns - 2, 2):
            part = raw.Slice(input=x, begin=tf.constant([0, 0, start, 0]), size=size)
            piece = self.filter_gradient(part, gradient, "VALID")
            pieces.append(raw.Slice(input=piece, begin=self.begin, size=self.rest) if start else piece)
        return raw.ConcatV2(values=pieces, axis=self.axis)


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
