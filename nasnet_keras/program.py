"""A network as a list of primitive steps: plain values, made in a few milliseconds, without any Keras layer.

The operations are those of `operations.RECIPES`, with something else in the place of the layers: what
an operation is made of is written down only once.
"""

from dataclasses import dataclass, field
from itertools import groupby
from math import ceil, prod

import numpy as np

from nasnet_keras.layers import BOUND, Subsample
from nasnet_keras.operations import RECIPES, FactorizedReduction
from nasnet_keras.parts import Options

# GroupNormalization's, which `Combination` leaves at Keras' default.
GROUP_NORM_EPSILON = 1e-3
TRUNCATION = 0.87962566103423978  # standard deviation of a standard normal cut off at ±2


@dataclass(frozen=True)
class Primitive:
    """One elementary computation: its kind, a name of `turnaround`'s table, and its settings.

    Args:
        kind: for example `"conv"`.
        settings: (name, value) pairs.
        makes: channels of the result, or None where they stay the same.
    """

    kind: str
    settings: tuple = ()
    makes: int | None = None

    def __getattr__(self, name):
        for key, value in self.settings:
            if key == name:
                return value
        raise AttributeError(name)


def primitive(kind, makes=None, **settings):
    """A `Primitive` from keyword settings."""
    return Primitive(kind, tuple(sorted(settings.items())), makes)


@dataclass(frozen=True)
class Weight:
    """One weight tensor, in the order in which Keras lists a layer's.

    Args:
        shape: its shape.
        fan_out: for a kernel, what its variance 2 / fan-out is made of; None for the others.
        fill: initial value of the others.
        trainable: whether it is trained; moving statistics are not.
    """

    shape: tuple[int, ...]
    fan_out: int | None = None
    fill: float = 0.0
    trainable: bool = True

    @property
    def size(self):
        """Number of values."""
        return prod(self.shape)


@dataclass(frozen=True)
class Value:
    """A tensor of the program: its number and its channels."""

    number: int
    channels: int


@dataclass(frozen=True)
class Step:
    """One primitive on some values; `weights` is empty for most kinds, `layer` is the network's layer it belongs to."""

    layer: str
    primitive: Primitive
    reads: tuple[Value, ...]
    result: Value
    weights: tuple[Weight, ...]


@dataclass
class Program:
    """The steps from the image, value 0, to the logits, the last value.

    Args:
        channels: channels of the image.
        options: the network's `Options`.
        steps: the steps so far, in an order in which they can be computed.
        layer: the network's layer that the next steps belong to.
    """

    channels: int
    options: Options
    steps: list = field(default_factory=list)
    layer: str = ""

    @property
    def image(self):
        """The value that stands for the images."""
        return Value(0, self.channels)

    @property
    def weights(self):
        """All weights, in the order of `layer_parts`."""
        return [weight for step in self.steps for weight in step.weights]

    def add(self, what, *reads):
        """Append one primitive and return its result."""
        result = Value(len(self.steps) + 1, what.makes or reads[0].channels)
        self.steps.append(Step(self.layer, what, reads, result, tuple(_weights(what, reads[0].channels))))
        return result

    def operation(self, kind, filters, strides, value):
        """Append one operation of `operations.RECIPES`."""
        for part in RECIPES[kind](PrimitiveParts(self.options), value.channels, filters, strides):
            value = self._part(part, value)
        return value

    def concat(self, values):
        """Append the concatenation of values along the channels; a single one stays as it is."""
        if len(values) == 1:
            return values[0]
        channels = tuple(value.channels for value in values)
        return self.add(primitive("concat", makes=sum(channels), channels=channels), *values)

    def _part(self, part, value):
        if isinstance(part, list):
            for piece in part:
                value = self._part(piece, value)
            return value
        if isinstance(part, Subsample):
            return self.add(primitive("subsample", strides=part.strides), value)
        if isinstance(part, FactorizedReduction):
            half, maker = part.filters // 2, PrimitiveParts(self.options)
            paths = [self.add(maker.conv(half, 1, 2), value)] if half else []
            shifted = self.add(primitive("shift"), value)
            paths.append(self.add(maker.conv(part.filters - half, 1, 2), shifted))
            return self.concat(paths)
        return self.add(part, value)

    def without_dead_layers(self):
        """The program without the layers of which nothing reaches the last value: the network does not have them."""
        needed, kept = {self.steps[-1].result.number}, []
        for _, group in reversed([(name, list(group)) for name, group in groupby(self.steps, lambda step: step.layer)]):
            if any(step.result.number in needed for step in group):
                needed.update(value.number for step in group for value in step.reads)
                kept[:0] = group
        return Program(self.channels, self.options, kept)

    def combine(self, kind, filters, left, right):
        """Append a combination of two values of F channels; see `operations.Combination`."""
        if kind == "concat":
            return self.operation("conv_1x1", filters, 1, self.concat([left, right]))
        value = self.add(primitive("add"), left, right)
        if kind != "add":
            whole = kind == "add_layer_norm"
            return self.add(primitive("group_norm", whole=whole, epsilon=GROUP_NORM_EPSILON), value)
        return self.add(PrimitiveParts(self.options).relu(), value) if self.options.bounded_activations else value


class PrimitiveParts:
    """Stands in for `parts.Parts` where a recipe asks for its parts: primitives come out."""

    dtype = "float32"

    def __init__(self, options):
        self.options = options

    def relu(self, name=None):
        """ReLU, or ReLU6."""
        return primitive("relu", bound=BOUND if self.options.bounded_activations else None)

    def norm(self, name=None):
        """Batch normalisation."""
        return primitive("norm", epsilon=self.options.batch_norm_epsilon, momentum=self.options.batch_norm_momentum)

    def conv(self, filters, kernel, strides=1, name=None, padding="same", dilation=1):
        """A convolution without bias."""
        settings = {"makes": filters, "kernel": pair(kernel), "strides": pair(strides), "padding": padding.upper()}
        return (
            primitive("conv", **settings) if dilation == 1 else primitive("dilated_conv", dilation=dilation, **settings)
        )

    def separable(self, filters, kernel, strides=1, name=None):
        """Depthwise, then pointwise."""
        return [primitive("depthwise", kernel=pair(kernel), strides=pair(strides)), self.conv(filters, 1)]

    def pool(self, kind, size, strides):
        """A pool, after zeros where keras.applications counts them. A wide maximum is taken along the rows first.

        The two narrow pools of a maximum give the same gradient as the square one, equal maxima included, and
        their cost grows with the window's side, not with its area: it pays from 5 on.
        """
        padded = strides > 1 and self.options.pooling_compatibility == "keras"
        padding = "VALID" if padded else "SAME"
        windows = [((1, size), (1, strides)), ((size, 1), (strides, 1))]
        if kind == "avg" or size < 5:
            windows = [(pair(size), pair(strides))]
        pools = [primitive(f"{kind}_pool", size=window, strides=steps, padding=padding) for window, steps in windows]
        return [primitive("zeros", size=size), *pools] if padded else pools

    def bounded(self):
        """The clip that ends an operation, or nothing."""
        return [primitive("clip")] if self.options.bounded_activations else []


def pair(value):
    """(value, value), or a pair as it is."""
    return tuple(value) if isinstance(value, tuple | list) else (value, value)


def _weights(what, channels):
    if what.kind in ("conv", "dilated_conv"):
        yield Weight((*what.kernel, channels, what.makes), fan_out=prod(what.kernel) * what.makes)
    elif what.kind == "depthwise":
        yield Weight((*what.kernel, channels, 1), fan_out=prod(what.kernel))
    elif what.kind == "dense":
        yield Weight((channels, what.makes), fan_out=what.makes)
        yield Weight((what.makes,))
    elif what.kind in ("norm", "group_norm"):
        yield Weight((channels,), fill=1.0)
        yield Weight((channels,))
    if what.kind == "norm":
        yield Weight((channels,), trainable=False)
        yield Weight((channels,), fill=1.0, trainable=False)


def initial_weights(weights, seed):
    """Values for `Weight`s, alike for the same seed, distributed as the ordinary network's initialisers.

    Args:
        weights: the weights.
        seed: an integer.
    """
    generator = np.random.default_rng(seed)
    count = sum(weight.size for weight in weights if weight.fan_out)
    normal = generator.standard_normal(count, dtype=np.float32)
    while (outside := np.flatnonzero(np.abs(normal) > 2)).size:
        normal[outside] = generator.standard_normal(outside.size, dtype=np.float32)
    values, start = [], 0
    for weight in weights:
        if weight.fan_out:
            deviation = (2.0 / weight.fan_out) ** 0.5 / TRUNCATION
            values.append(normal[start : start + weight.size].reshape(weight.shape) * np.float32(deviation))
            start += weight.size
        else:
            values.append(np.full(weight.shape, weight.fill, np.float32))
    return values


def multiply_adds(program, height, width):
    """Multiply-adds of convolutions and the dense layer for one image, as `network.multiply_adds` counts them.

    Args:
        program: a `Program`.
        height: of the image.
        width: of the image.
    """
    sizes, total = {0: (height, width)}, 0
    for step in program.steps:
        sizes[step.result.number] = size = _size(step.primitive, sizes[step.reads[0].number])
        if step.primitive.kind in ("conv", "dilated_conv", "depthwise", "dense"):
            total += prod(size) * prod(step.weights[0].shape)
    return total


def _size(what, size):
    settings = dict(what.settings)
    if what.kind == "mean":
        return (1, 1)
    if what.kind == "zeros":
        return tuple(length + what.size // 2 * 2 - (1 - length % 2) for length in size)
    if settings.get("padding") == "VALID":
        kernel = settings.get("kernel") or pair(what.size)
        strides = pair(what.strides)
        return tuple((length - k) // s + 1 for length, k, s in zip(size, kernel, strides, strict=True))
    return tuple(ceil(length / s) for length, s in zip(size, pair(settings.get("strides", 1)), strict=True))
