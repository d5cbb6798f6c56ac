"""The thirteen operations and the combinations, each as a Keras layer built from one table.

An operation is a short chain of ordinary Keras layers, written down once in
`RECIPES`. The order inside it is ReLU, convolution, batch normalisation, and a
separable convolution is applied twice (Zoph et al. 2018, arXiv 1707.07012,
appendix A.4). Padding is SAME everywhere: an average leaves the padding out of its
count, a maximum pads with minus infinity.

Shapes are [batch, height, width, channels]; a stride of 2 gives ceil(size / 2).
"""

import keras
from keras import ops

from nasnet_keras import genotype
from nasnet_keras.layers import Subsample, halved
from nasnet_keras.parts import Composite, Options, layer_multiply_adds


def _identity(parts, channels, filters, strides):
    if strides == 1 and channels == filters:
        return [parts.relu()] if parts.options.bounded_activations else []
    return [parts.relu(), parts.conv(filters, 1, strides), parts.norm(), *parts.bounded()]


def _convolution(kernel):
    def recipe(parts, channels, filters, strides):
        return [parts.relu(), parts.conv(filters, kernel, strides), parts.norm(), *parts.bounded()]

    return recipe


def _factored_convolution(length):
    def recipe(parts, channels, filters, strides):
        return [
            parts.relu("relu_1"),
            parts.conv(filters, (1, length), (1, strides), "conv_1"),
            parts.norm("batch_norm_1"),
            parts.relu("relu_2"),
            parts.conv(filters, (length, 1), (strides, 1), "conv_2"),
            parts.norm("batch_norm_2"),
            *parts.bounded(),
        ]

    return recipe


def _dilated_convolution(kernel, rate):
    def recipe(parts, channels, filters, strides):
        # With a stride equal to the rate the taps fall on every second pixel only: the same
        # result comes from a dense convolution of the thinned image.
        if strides == 1:
            core = [parts.conv(filters, kernel, dilation=rate)]
        else:
            core = [Subsample(strides, name="subsample", dtype=parts.dtype), parts.conv(filters, kernel)]
        return [parts.relu(), *core, parts.norm(), *parts.bounded()]

    return recipe


def _separable_convolution(kernel):
    def recipe(parts, channels, filters, strides):
        return [
            parts.relu("relu_1"),
            parts.separable(filters, kernel, strides, "separable_1"),
            parts.norm("batch_norm_1"),
            parts.relu("relu_2"),
            parts.separable(filters, kernel, 1, "separable_2"),
            parts.norm("batch_norm_2"),
            *parts.bounded(),
        ]

    return recipe


def _pool(kind, size):
    def recipe(parts, channels, filters, strides):
        first = [parts.relu()] if parts.options.bounded_activations else []
        project = [] if channels == filters else [parts.conv(filters, 1), parts.norm()]
        return [*first, *parts.pool(kind, size, strides), *project, *parts.bounded()]

    return recipe


def _factorized_reduction(activate):
    def recipe(parts, channels, filters, strides):
        reduction = FactorizedReduction(filters, options=parts.options.to_dict(), name="reduce", dtype=parts.dtype)
        return [*([parts.relu()] if activate else []), reduction, parts.norm()]

    return recipe


def _plain_convolution(kernel, padding="same"):
    def recipe(parts, channels, filters, strides):
        return [parts.conv(filters, kernel, strides, padding=padding), parts.norm()]

    return recipe


# The search space's operations, and below them what joins cells: the stems, and the ways in which
# a state is brought to another shape. `project` and `reduce` without ReLU serve a cell's output.
RECIPES = {
    "identity": _identity,
    "conv_1x3_3x1": _factored_convolution(3),
    "conv_1x7_7x1": _factored_convolution(7),
    "dil_conv_3x3": _dilated_convolution(3, rate=2),
    "avg_pool_3x3": _pool("avg", 3),
    "max_pool_3x3": _pool("max", 3),
    "max_pool_5x5": _pool("max", 5),
    "max_pool_7x7": _pool("max", 7),
    "conv_1x1": _convolution(1),
    "conv_3x3": _convolution(3),
    "sep_conv_3x3": _separable_convolution(3),
    "sep_conv_5x5": _separable_convolution(5),
    "sep_conv_7x7": _separable_convolution(7),
    "factorized_reduction": _factorized_reduction(activate=True),
    "output_projection": _plain_convolution(1),
    "output_reduction": _factorized_reduction(activate=False),
    "stem_cifar": _plain_convolution(3),
    "stem_imagenet": _plain_convolution(3, padding="valid"),
}


@keras.saving.register_keras_serializable(package="nasnet_keras")
class Operation(Composite):
    """One operation on one state, [batch, height, width, channels] to [..., filters].

    Args:
        kind: a name from `RECIPES`; the search space's are `genotype.OPERATIONS`.
        filters: channels of the result.
        strides: 1, or 2 to halve height and width, rounded up.
        options: an `Options`, or a dict of some of its fields.

    Raises:
        ValueError: an unknown kind, filters below 1, or another stride.
    """

    def __init__(self, kind, filters, strides=1, **kwargs):
        super().__init__(**kwargs)
        if kind not in RECIPES:
            raise ValueError(f"`kind` must be one of {', '.join(genotype.OPERATIONS)}. Received: {kind!r}")
        if type(filters) is not int or filters < 1:
            raise ValueError(f"`filters` must be an integer above 0. Received: {filters!r}")
        if strides not in (1, 2):
            raise ValueError(f"`strides` must be 1 or 2. Received: {strides!r}")
        self.kind = kind
        self.filters = filters
        self.strides = strides

    def build(self, input_shape):
        """Make and build the chain's parts for inputs with these channels."""
        self.parts = self._recipe(input_shape)
        for part in self.parts:
            part.build(input_shape)
            input_shape = part.compute_output_shape(input_shape)

    def _recipe(self, input_shape):
        return RECIPES[self.kind](self.maker(), input_shape[-1], self.filters, self.strides)

    def call(self, inputs):
        """Run the chain."""
        for part in self.parts:
            inputs = part(inputs)
        return inputs

    def compute_output_shape(self, input_shape):
        """[batch, ceil(height / strides), ceil(width / strides), filters], known without running anything."""
        for part in self.parts if self.built else self._recipe(input_shape):
            input_shape = part.compute_output_shape(input_shape)
        return input_shape

    def multiply_adds(self, input_shape):
        """Multiply-adds of the convolutions inside, for one image."""
        total = 0
        for part in self.parts:
            total += layer_multiply_adds(part, input_shape)
            input_shape = part.compute_output_shape(input_shape)
        return total

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "kind": self.kind, "filters": self.filters, "strides": self.strides}


@keras.saving.register_keras_serializable(package="nasnet_keras")
class Combination(Composite):
    """Joins a block's two results of F channels into one state of F channels.

    `add` sums them; `add_layer_norm` and `add_instance_norm` normalise the sum, over height, width
    and channels or over height and width, with one scale and offset a channel; `concat` joins them
    to 2F channels and brings these back to F by ReLU, 1×1 convolution and batch norm.

    Args:
        kind: a name from `genotype.COMBINATIONS`.
        filters: F.
        options: an `Options`, or a dict of some of its fields.

    Raises:
        ValueError: an unknown kind.
    """

    def __init__(self, kind, filters, **kwargs):
        super().__init__(**kwargs)
        if kind not in genotype.COMBINATIONS:
            raise ValueError(f"`kind` must be one of {', '.join(genotype.COMBINATIONS)}. Received: {kind!r}")
        self.kind = kind
        self.filters = filters

    def build(self, inputs_shape):
        """Make the part that follows the addition or the concatenation."""
        shape = tuple(inputs_shape[0])
        if self.kind == "concat":
            shape = (*shape[:-1], inputs_shape[0][-1] + inputs_shape[1][-1])
            options = Options.of(self.options).to_dict()
            self.parts = [Operation("conv_1x1", self.filters, options=options, name="project", dtype=self.dtype_policy)]
        elif self.kind == "add_layer_norm":
            self.parts = [keras.layers.GroupNormalization(1, name="layer_norm", dtype=self.dtype_policy)]
        elif self.kind == "add_instance_norm":
            self.parts = [keras.layers.GroupNormalization(-1, name="instance_norm", dtype=self.dtype_policy)]
        elif Options.of(self.options).bounded_activations:
            self.parts = [self.maker().relu()]
        for part in self.parts:
            part.build(shape)

    def call(self, inputs):
        """Join two tensors of one shape."""
        left, right = inputs
        state = ops.concatenate([left, right], axis=-1) if self.kind == "concat" else left + right
        for part in self.parts:
            state = part(state)
        return state

    def compute_output_shape(self, inputs_shape):
        """The shape of either input with F channels."""
        return (*inputs_shape[0][:-1], self.filters)

    def multiply_adds(self, input_shape):
        """Multiply-adds for one image; `input_shape` is that of either input."""
        if self.kind != "concat":
            return 0
        return self.parts[0].multiply_adds((*input_shape[:-1], 2 * input_shape[-1]))

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "kind": self.kind, "filters": self.filters}


@keras.saving.register_keras_serializable(package="nasnet_keras")
class FactorizedReduction(Composite):
    """Halves height and width without dropping pixels: two strided 1×1 convolutions, one of them shifted.

    The first sees the even pixels, the second those one further down and right (zero beyond the
    border); they give F // 2 and F - F // 2 channels.

    Args:
        filters: F.
        options: an `Options`, or a dict of some of its fields.
    """

    def __init__(self, filters, **kwargs):
        super().__init__(**kwargs)
        self.filters = filters

    def build(self, input_shape):
        """Make the two convolutions; with a single filter only the shifted one has any."""
        maker, half = self.maker(), self.filters // 2
        self.path_1 = maker.conv(half, 1, 2, "path_1") if half else None
        self.path_2 = maker.conv(self.filters - half, 1, 2, "path_2")
        self.parts = [path for path in (self.path_1, self.path_2) if path]
        for path in self.parts:
            path.build(input_shape)

    def call(self, inputs):
        """Convolve both grids of pixels."""
        shifted = self.path_2(ops.pad(inputs, [[0, 0], [0, 1], [0, 1], [0, 0]])[:, 1:, 1:, :])
        return ops.concatenate([self.path_1(inputs), shifted], axis=-1) if self.path_1 else shifted

    def compute_output_shape(self, input_shape):
        """[batch, ceil(height / 2), ceil(width / 2), F]."""
        batch, height, width, _ = input_shape
        return (batch, halved(height, 2), halved(width, 2), self.filters)

    def multiply_adds(self, input_shape):
        """Multiply-adds of both convolutions, for one image."""
        return sum(layer_multiply_adds(path, input_shape) for path in self.parts)

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "filters": self.filters}
