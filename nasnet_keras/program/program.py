"""A network, or a part of one, as a list of primitive steps: plain values, without any framework.

An operation, a cell and a whole network are written once, into a `Program` (`operations`, `cell`).
Whoever runs one chooses the means: Keras operations inside a layer (`models.functions`, `models.layers`), or a graph
of pieces that were traced before (`children.tensorflow_child`).
"""

from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from math import ceil, prod

import numpy as np

from nasnet_keras.program.options import BOUND

GROUP_NORM_EPSILON = 1e-3  # the default of Keras' GroupNormalization
TRUNCATION = 0.87962566103423978  # standard deviation of a standard normal cut off at ±2


@dataclass(frozen=True)
class Primitive:
    """One elementary computation: its kind, a name of the table of whoever runs it, and its settings.

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


@dataclass(frozen=True)
class Weight:
    """One weight tensor.

    Args:
        name: its place in the program, for example `"block_0/left/conv/kernel"`.
        shape: its shape.
        fan_out: for a kernel, what its variance 2 / fan-out is made of; None for the others.
        fill: initial value of the others.
        trainable: whether it is trained; moving statistics are not.
    """

    name: str
    shape: tuple[int, ...]
    fan_out: int | None = None
    fill: float = 0.0
    trainable: bool = True

    @property
    def size(self):
        """Number of values."""
        return prod(self.shape)

    def initial_value(self, generator):
        """An array from a NumPy generator: for kernels the released code's, variance 2 / fan-out, truncated normal."""
        if not self.fan_out:
            return np.full(self.shape, self.fill, np.float32)
        values = generator.standard_normal(self.size, dtype=np.float32)
        while (outside := np.flatnonzero((values > 2) | (values < -2))).size:
            values[outside] = generator.standard_normal(outside.size, dtype=np.float32)
        values *= np.float32((2.0 / self.fan_out) ** 0.5 / TRUNCATION)
        return values.reshape(self.shape)


@dataclass(frozen=True)
class Value:
    """A tensor of the program: its number and its channels."""

    number: int
    channels: int


@dataclass(frozen=True)
class Step:
    """One primitive on some values, at a place of the network; `weights` is empty for most kinds."""

    name: str
    primitive: Primitive
    reads: tuple[Value, ...]
    result: Value
    weights: tuple[Weight, ...]

    @property
    def layer(self):
        """The outermost place: in a whole network, the layer's name."""
        return self.name.split("/")[0]


@dataclass
class Program:
    """The steps from the inputs, values 0, 1, …, to the last value.

    Every method that takes a `Value` appends a step and returns the step's result. Shapes are
    [batch, height, width, channels].

    Args:
        channels: channels of each input.
        options: the network's `Options`.
        steps: the steps so far, in an order in which they can be computed.
    """

    channels: tuple[int, ...]
    options: object
    steps: list = field(default_factory=list)
    _scope: str = ""

    @property
    def inputs(self):
        """The values that are given."""
        return [Value(number, channels) for number, channels in enumerate(self.channels)]

    @property
    def weights(self):
        """All weights, in the order of the steps."""
        return [weight for step in self.steps for weight in step.weights]

    @contextmanager
    def scope(self, name):
        """Names written inside begin with `name/`."""
        before, self._scope = self._scope, f"{self._scope}{name}/"
        yield
        self._scope = before

    def add_step(self, what, reads, name="", weights=()):
        """Append a primitive here; `weights` are those that `name` has, without their place."""
        place = f"{self._scope}{name}"
        return self.append(place, what, reads, [Weight(f"{place}/{weight}", *rest) for weight, *rest in weights])

    def append(self, name, what, reads, weights=()):
        """Append a primitive with its place and its `Weight`s as they are, and return its result."""
        result = Value(len(self.channels) + len(self.steps), what.makes or reads[0].channels)
        self.steps.append(Step(name, what, tuple(reads), result, tuple(weights)))
        return result

    # Without weights

    def relu(self, value):
        """ReLU, or ReLU6 with bounded activations."""
        return self.add_step(_primitive("relu", bound=BOUND if self.options.bounded_activations else None), [value])

    def bounded(self, value):
        """The clip that ends an operation with bounded activations, or nothing."""
        return self.add_step(_primitive("clip"), [value]) if self.options.bounded_activations else value

    def pool(self, value, kind, size, strides, padding="SAME"):
        """`"avg"` or `"max"`, after zeros where keras.applications counts them; wide maxima are taken along rows first.

        The two narrow pools of a maximum give the same gradient as the square one, equal maxima included, and
        their cost grows with the window's side, not with its area: it pays from 5 on.
        """
        if padding == "SAME" and strides > 1 and self.options.pooling_compatibility == "keras":
            value, padding = self.add_step(_primitive("zeros", size=size), [value]), "VALID"
        windows = [((1, size), (1, strides)), ((size, 1), (strides, 1))]
        if kind == "avg" or size < 5:
            windows = [(_pair(size), _pair(strides))]
        for window, steps in windows:
            value = self.add_step(_primitive(f"{kind}_pool", size=window, strides=steps, padding=padding), [value])
        return value

    def subsample(self, value, strides):
        """Every `strides`-th pixel in both directions, beginning with the first."""
        return self.add_step(_primitive("subsample", strides=strides), [value])

    def shift(self, value):
        """The image moved by a pixel up and left, zeros behind it."""
        return self.add_step(_primitive("shift"), [value])

    def drop_path(self, value, rate):
        """The value lost for some images while training, at this rate once the schedule has reached its end."""
        return self.add_step(_primitive("drop_path", rate=rate), [value])

    def add(self, left, right):
        """The sum of two values."""
        return self.add_step(_primitive("add"), [left, right])

    def concat(self, values):
        """Values one after another along the channels; a single one stays as it is."""
        if len(values) == 1:
            return values[0]
        channels = tuple(value.channels for value in values)
        return self.add_step(_primitive("concat", makes=sum(channels), channels=channels), values)

    def mean(self, value):
        """The mean over height and width, [batch, channels]."""
        return self.add_step(_primitive("mean"), [value])

    # With weights

    def norm(self, value, name="batch_norm"):
        """Batch normalisation over the channels."""
        options = self.options
        what = _primitive("norm", epsilon=options.batch_norm_epsilon, momentum=options.batch_norm_momentum)
        moving = (
            ("moving_mean", (value.channels,), None, 0.0, False),
            ("moving_variance", (value.channels,), None, 1.0, False),
        )
        return self.add_step(what, [value], name, (*_scale_and_offset(value), *moving))

    def group_norm(self, value, name, whole):
        """Normalisation of each image over height and width, and over the channels if `whole`."""
        what = _primitive("group_norm", whole=whole, epsilon=GROUP_NORM_EPSILON)
        return self.add_step(what, [value], name, _scale_and_offset(value))

    def conv(self, value, filters, kernel, strides=1, name="conv", padding="SAME", dilation=1, weight="kernel"):
        """A convolution without bias."""
        kernel, kind = _pair(kernel), "conv" if dilation == 1 else "dilated_conv"
        if kernel == (1, 1) and strides != 1:
            # oneDNN's gradient of a 1×1 kernel with strides is wrong on processors with AVX2 alone: off by 127 for 8
            # images of 64×64, 4 to 2 channels, and with one thread it writes over memory (TensorFlow 2.21).
            value, strides = self.subsample(value, strides), 1
        settings = {"kernel": kernel, "strides": _pair(strides), "padding": padding, "dilation": dilation}
        shape = (*kernel, value.channels, filters)
        weights = [(weight, shape, prod(kernel) * filters)]
        return self.add_step(_primitive(kind, makes=filters, **settings), [value], name, weights)

    def separable(self, value, filters, kernel, strides=1, name="separable"):
        """A convolution of each channel by itself, then a 1×1 convolution, without bias and with nothing between."""
        kernel = _pair(kernel)
        what = _primitive("depthwise", kernel=kernel, strides=_pair(strides))
        weights = [("depthwise_kernel", (*kernel, value.channels, 1), prod(kernel))]
        value = self.add_step(what, [value], name, weights)
        return self.conv(value, filters, 1, name=name, weight="pointwise_kernel")

    def dense(self, value, units, name):
        """A matrix product and a bias, [batch, channels] to [batch, units], in float32."""
        weights = [("kernel", (value.channels, units), units), ("bias", (units,))]
        return self.add_step(_primitive("dense", makes=units), [value], name, weights)

    # The whole

    def without_repetitions(self):
        """The program with equal steps on equal values done once: many operations begin with the same ReLU."""
        lean, seen = Program(self.channels, self.options), {}
        now = {value.number: value for value in self.inputs}
        for step in self.steps:
            reads = [now[value.number] for value in step.reads]
            key = (step.primitive, tuple(reads), step.weights)
            if key not in seen:
                seen[key] = lean.append(step.name, step.primitive, reads, step.weights)
            now[step.result.number] = seen[key]
        return lean

    def without_dead_layers(self):
        """The program without the layers of which nothing reaches the last value: the network does not have them."""
        needed, kept = {self.steps[-1].result.number}, []
        for _, group in reversed([(name, list(group)) for name, group in groupby(self.steps, lambda step: step.layer)]):
            if any(step.result.number in needed for step in group):
                needed.update(value.number for step in group for value in step.reads)
                kept[:0] = group
        return Program(self.channels, self.options, kept)

    def sizes(self, *inputs):
        """{value's number: (height, width)} from each input's (height, width); None stands for any length.

        Raises:
            ValueError: a step that needs to know the size.
        """
        sizes = dict(enumerate(inputs))
        for step in self.steps:
            sizes[step.result.number] = _size(step.primitive, sizes[step.reads[0].number])
        return sizes

    def multiply_adds(self, *inputs):
        """Multiply-adds of convolutions and dense layers for one image, from each input's (height, width)."""
        sizes = self.sizes(*inputs)
        kernels = [(step, step.weights[0]) for step in self.steps if step.weights and step.weights[0].fan_out]
        return sum(prod(sizes[step.result.number]) * kernel.size for step, kernel in kernels)


def zeros_before(length, size):
    """Zeros that keras.applications puts before a row of this length; behind it stand `size // 2`."""
    return size // 2 - (1 - length % 2)


def _primitive(kind, makes=None, **settings):
    return Primitive(kind, tuple(settings.items()), makes)


def _pair(value):
    return tuple(value) if isinstance(value, tuple | list) else (value, value)


def _scale_and_offset(value):
    return ("gamma", (value.channels,), None, 1.0), ("beta", (value.channels,))


def _size(what, size):
    settings = dict(what.settings)
    if what.kind in ("mean", "dense"):
        return (1, 1)
    if what.kind == "zeros":
        if None in size:
            raise ValueError("`pooling_compatibility='keras'` needs an `input_shape` with a known height and width")
        return tuple(length + zeros_before(length, what.size) + what.size // 2 for length in size)
    strides = _pair(settings.get("strides", 1))
    if settings.get("padding") != "VALID":
        return tuple(None if length is None else ceil(length / s) for length, s in zip(size, strides, strict=True))
    kernel = settings.get("kernel") or settings["size"]
    return tuple(
        None if length is None else (length - k) // s + 1 for length, k, s in zip(size, kernel, strides, strict=True)
    )
