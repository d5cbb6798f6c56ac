"""A network as a short list of primitive steps, planned in a millisecond and without any Keras layer.

The plan asks the same recipes (`operations.RECIPES`), the same wiring (`cell.Wiring`) and the same
body (`network.NASNet`'s) as the ordinary network, with something else in the place of the layers. So there
is one description of what a genotype computes, and two ways to run it: Keras layers, and the
primitives of `turnaround`.
"""

from dataclasses import dataclass, field
from math import prod

from nasnet_keras.cell import Wiring
from nasnet_keras.genotype import load_genotype
from nasnet_keras.layers import BOUND, Subsample
from nasnet_keras.network import STEMS, _Body
from nasnet_keras.operations import RECIPES, FactorizedReduction
from nasnet_keras.parts import Options

# GroupNormalization's, which `Combination` leaves at Keras' default.
GROUP_NORM_EPSILON = 1e-3


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
        for part in RECIPES[kind](_Parts(self.options), value.channels, filters, strides):
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
            half, maker = part.filters // 2, _Parts(self.options)
            paths = [self.add(maker.conv(half, 1, 2), value)] if half else []
            shifted = self.add(primitive("shift"), value)
            paths.append(self.add(maker.conv(part.filters - half, 1, 2), shifted))
            return self.concat(paths)
        return self.add(part, value)

    def without_dead_steps(self):
        """The program without what does not reach the last value: a cell that no later cell reads has no weights."""
        needed, kept = {self.steps[-1].result.number}, []
        for step in reversed(self.steps):
            if step.result.number in needed:
                needed.update(value.number for value in step.reads)
                kept.append(step)
        return Program(self.channels, self.options, kept[::-1])

    def combine(self, kind, filters, left, right):
        """Append a combination of two values of F channels; see `operations.Combination`."""
        if kind == "concat":
            return self.operation("conv_1x1", filters, 1, self.concat([left, right]))
        value = self.add(primitive("add"), left, right)
        if kind != "add":
            whole = kind == "add_layer_norm"
            return self.add(primitive("group_norm", whole=whole, epsilon=GROUP_NORM_EPSILON), value)
        return self.add(_Parts(self.options).relu(), value) if self.options.bounded_activations else value


def plan(
    genotype,
    *,
    repeats,
    filters,
    stem="cifar",
    stem_filters=None,
    skip_reduction=False,
    input_shape=None,
    classes=10,
    batch_norm_momentum=None,
    batch_norm_epsilon=None,
    bounded_activations=False,
    pooling_compatibility=None,
):
    """The `Program` of a network: everything from the images to the logits.

    Args:
        genotype: a `Genotype`, a stored name, or a file.
        repeats: as for `NASNet`, like all that follows.
        filters: F of the first stack.
        stem: `"cifar"` or `"imagenet"`.
        stem_filters: channels of the stem.
        skip_reduction: see `NASNet`.
        input_shape: (height, width, channels); only the channels matter.
        classes: number of classes.
        batch_norm_momentum: by default the stem's.
        batch_norm_epsilon: by default the stem's.
        bounded_activations: see `NASNet`.
        pooling_compatibility: see `NASNet`.

    Raises:
        ValueError: an unknown stem or genotype.
    """
    if stem not in STEMS:
        raise ValueError(f"`stem` must be one of {', '.join(STEMS)}. Received: {stem!r}")
    _, momentum, epsilon = STEMS[stem]
    options = Options(
        batch_norm_momentum=momentum if batch_norm_momentum is None else batch_norm_momentum,
        batch_norm_epsilon=epsilon if batch_norm_epsilon is None else batch_norm_epsilon,
        bounded_activations=bounded_activations,
        pooling_compatibility=pooling_compatibility,
    )
    program = Program(3 if input_shape is None else input_shape[-1], options)
    stacks = (repeats,) * 3 if isinstance(repeats, int) else tuple(repeats)

    def operation(kind, filters, strides, name, **_):
        program.layer = name
        return lambda value: program.operation(kind, filters, strides, value)

    def cell(description, filters, strides, adjust, name, **_):
        program.layer = name
        return _Cell(program, description, filters, strides, adjust)

    body = _Body(
        load_genotype(genotype), stacks, skip_reduction, 0.0, options, None, program.image, operation=operation, cell=cell
    )
    body.assemble(program.image, stem, stem_filters, filters)
    features = program.add(_Parts(options).relu(), program.concat(body.current))
    program.layer = "logits"
    pooled = program.add(primitive("mean"), features)
    program.add(primitive("dense", makes=classes), pooled)
    return program.without_dead_steps()


class _Cell(Wiring):
    """A `Cell` that writes into a program when it is called."""

    def __init__(self, program, genotype, filters, strides, adjust):
        self.program = program
        self.wire(genotype, filters, strides, adjust)

    def __call__(self, inputs):
        program, filters = self.program, self.filters
        states = dict(zip(self.reads, inputs, strict=True))
        for state in self.reads:
            way = self.entry(state, states[state].channels)
            if way:
                states[state] = program.operation(way[0], filters, way[1], states[state])
        for state, _, block, strides in self.live_blocks():
            left, right = (
                program.operation(kind, filters, stride, states[read])
                for kind, stride, read in zip(block.operations, strides, block.inputs, strict=True)
            )
            states[state] = program.combine(block.combine, filters, left, right)
        results = []
        # The order of the weights is Keras': all of the cell's exits after its blocks, in order of `concat`.
        for state in self.genotype.concat:
            way = self.exit(state, states[state].channels)
            results.append(program.operation(way[0], filters, way[1], states[state]) if way else states[state])
        return results if self.genotype.inputs > 2 else program.concat(results)


class _Parts:
    """Stands in for `parts.Parts` where a recipe asks for its parts: primitives come out."""

    dtype = "float32"

    def __init__(self, options):
        self.options = options

    def relu(self, name=None):
        return primitive("relu", bound=BOUND if self.options.bounded_activations else None)

    def norm(self, name=None):
        return primitive("norm", epsilon=self.options.batch_norm_epsilon, momentum=self.options.batch_norm_momentum)

    def conv(self, filters, kernel, strides=1, name=None, padding="same", dilation=1):
        settings = {"kernel": _pair(kernel), "strides": _pair(strides), "dilation": dilation}
        return primitive("conv", makes=filters, padding=padding.upper(), **settings)

    def separable(self, filters, kernel, strides=1, name=None):
        return [primitive("depthwise", kernel=_pair(kernel), strides=_pair(strides)), self.conv(filters, 1)]

    def pool(self, kind, size, strides):
        padded = strides > 1 and self.options.pooling_compatibility == "keras"
        pool = primitive(f"{kind}_pool", size=size, strides=strides, padding="VALID" if padded else "SAME")
        return [primitive("zeros", size=size), pool] if padded else [pool]

    def bounded(self):
        return [primitive("clip")] if self.options.bounded_activations else []


def _pair(value):
    return tuple(value) if isinstance(value, tuple | list) else (value, value)


def _weights(what, channels):
    if what.kind == "conv":
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


def layer_parts(layer):
    """The Keras layers inside a layer of the ordinary network that own weights, in the order of a program."""
    if isinstance(layer, Wiring):
        inner = [*layer.adjustments.values(), *layer.blocks.values(), *layer.outputs.values()]
    else:
        inner = getattr(layer, "parts", None)
    if inner is None:
        return [layer] if layer.weights else []
    return [part for one in inner for part in layer_parts(one)]


def model_variables(model, program):
    """The ordinary network's variables in the order of `program.weights`."""
    layers = dict.fromkeys(step.layer for step in program.steps if step.weights)
    parts = [part for name in layers for part in layer_parts(model.get_layer(name))]
    return [variable for part in parts for variable in part.weights]
