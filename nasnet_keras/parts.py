"""What all operations are made of: the shared options, and the maker of Keras layers that obeys them."""

from dataclasses import asdict, dataclass, fields
from math import prod

import keras

from nasnet_keras.layers import BOUND, Clip, ZeroPadding


@dataclass(frozen=True)
class Options:
    """What all layers of one network share.

    Args:
        batch_norm_momentum: share of the old moving statistics kept at each step.
        batch_norm_epsilon: added to the variance.
        weight_decay: L2 factor as TF-slim and the paper state it: the loss grows by
            `weight_decay / 2` times the sum of squares of every kernel.
        bounded_activations: keep activations within ±6, for quantised inference: ReLU6
            everywhere, a clip after each operation, ReLU6 after each addition.
        pooling_compatibility: `"keras"` pads strided pools with counted zeros, which is wrong at
            the borders but is what keras.applications' NASNet does; None does it right.

    Raises:
        ValueError: a value out of range.
    """

    batch_norm_momentum: float = 0.9997
    batch_norm_epsilon: float = 1e-3
    weight_decay: float = 0.0
    bounded_activations: bool = False
    pooling_compatibility: str | None = None

    def __post_init__(self):
        if not 0 <= self.batch_norm_momentum < 1:
            raise ValueError(f"`batch_norm_momentum` must be in [0, 1). Received: {self.batch_norm_momentum}")
        if not self.batch_norm_epsilon > 0:
            raise ValueError(f"`batch_norm_epsilon` must be above 0. Received: {self.batch_norm_epsilon}")
        if not self.weight_decay >= 0:
            raise ValueError(f"`weight_decay` must be 0 or more. Received: {self.weight_decay}")
        if self.pooling_compatibility not in (None, "keras"):
            raise ValueError(
                f"`pooling_compatibility` must be None or 'keras'. Received: {self.pooling_compatibility!r}"
            )

    @classmethod
    def of(cls, value):
        """An `Options` from None, a dict of some of its fields, or one already."""
        return value if isinstance(value, cls) else cls(**(value or {}))

    def to_dict(self):
        """The options as JSON-able data."""
        return asdict(self)


OPTION_NAMES = tuple(field.name for field in fields(Options))


class Parts:
    """Makes the Keras layers that operations are put together from, alike throughout a network.

    Args:
        options: an `Options`.
        dtype: the dtype policy of every part. It is passed on explicitly, because KerasTuner
            resets the global one before each build.
    """

    def __init__(self, options, dtype):
        self.options = options
        self.dtype = dtype

    def relu(self, name="relu"):
        """ReLU, or ReLU6 with bounded activations."""
        bound = BOUND if self.options.bounded_activations else None
        return keras.layers.ReLU(max_value=bound, name=name, dtype=self.dtype)

    def norm(self, name="batch_norm"):
        """Batch normalisation over the channels."""
        options = self.options
        return keras.layers.BatchNormalization(
            momentum=options.batch_norm_momentum,
            epsilon=options.batch_norm_epsilon,
            name=name,
            dtype=self.dtype,
        )

    def conv(self, filters, kernel, strides=1, name="conv", padding="same", dilation=1):
        """A convolution without bias."""
        return keras.layers.Conv2D(
            filters,
            kernel,
            strides=strides,
            padding=padding,
            dilation_rate=dilation,
            use_bias=False,
            kernel_initializer=kernel_initializer(),
            kernel_regularizer=self.regularizer(),
            name=name,
            dtype=self.dtype,
        )

    def separable(self, filters, kernel, strides=1, name="separable"):
        """A depthwise, then a pointwise convolution, without bias and with nothing between them."""
        return keras.layers.SeparableConv2D(
            filters,
            kernel,
            strides=strides,
            padding="same",
            use_bias=False,
            depthwise_initializer=kernel_initializer(),
            pointwise_initializer=kernel_initializer(),
            depthwise_regularizer=self.regularizer(),
            pointwise_regularizer=self.regularizer(),
            name=name,
            dtype=self.dtype,
        )

    def pool(self, kind, size, strides):
        """A pool in one or two layers: `"keras"` compatibility pads strided pools with zeros first."""
        layer = keras.layers.AveragePooling2D if kind == "avg" else keras.layers.MaxPooling2D
        if strides > 1 and self.options.pooling_compatibility == "keras":
            padding = ZeroPadding(size, name="pad", dtype=self.dtype)
            return [padding, layer(size, strides, padding="valid", name="pool", dtype=self.dtype)]
        return [layer(size, strides, padding="same", name="pool", dtype=self.dtype)]

    def bounded(self):
        """The clip that ends an operation with bounded activations, or nothing."""
        return [Clip(name="clip", dtype=self.dtype)] if self.options.bounded_activations else []

    def dense(self, units, name):
        """A dense layer with bias, kept in float32 under mixed precision."""
        return keras.layers.Dense(
            units,
            kernel_initializer=kernel_initializer(),
            kernel_regularizer=self.regularizer(),
            name=name,
            dtype="float32",
        )

    def regularizer(self):
        """Keras' L2 multiplies the plain sum of squares, hence the half."""
        decay = self.options.weight_decay
        return keras.regularizers.L2(decay / 2) if decay else None


def kernel_initializer():
    """The released code's initialiser for every kernel: variance 2 / fan-out, truncated normal."""
    return keras.initializers.VarianceScaling(2.0, mode="fan_out", distribution="truncated_normal")


class Composite(keras.layers.Layer):
    """A layer put together from `Parts`; `build` makes them, `parts` lists them in order."""

    def __init__(self, *, options=None, **kwargs):
        super().__init__(**kwargs)
        self.options = options
        self.parts = []

    def maker(self):
        """The `Parts` that this layer's own parts come from."""
        return Parts(Options.of(self.options), self.dtype_policy)

    def get_config(self):
        """The constructor's arguments."""
        options = self.options
        return {**super().get_config(), "options": options.to_dict() if isinstance(options, Options) else options}


def layer_multiply_adds(layer, input_shape):
    """Multiply-adds of one layer for one image: convolutions and dense layers, nothing else counts.

    Args:
        layer: a built layer of this package, or a Keras layer.
        input_shape: its input's shape, batch first, sizes known.
    """
    if hasattr(layer, "multiply_adds"):
        return layer.multiply_adds(input_shape)
    kernels = [getattr(layer, name, None) for name in ("kernel", "depthwise_kernel", "pointwise_kernel")]
    positions = prod(layer.compute_output_shape(input_shape)[1:-1])
    return sum(positions * prod(kernel.shape) for kernel in kernels if kernel is not None)
