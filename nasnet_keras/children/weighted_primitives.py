"""The primitives that have weights, on TensorFlow; see `primitives`."""

import tensorflow as tf

from nasnet_keras.models.kernels import depthwise_filter_gradient, depthwise_input_gradient

raw = tf.raw_ops


class BasePrimitive:
    """What all primitives have.

    Args:
        settings: a `program.Primitive`.
    """

    def __init__(self, settings):
        self.settings = settings


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
