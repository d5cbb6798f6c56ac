"""From a genotype to the program of its network, and from there to the ordinary network's variables.

The plan asks the same wiring (`cell.Wiring`) and the same body as `network.NASNet`, so there is one
description of what a genotype computes and two ways to run it: Keras layers, and primitives.
"""

from nasnet_keras.body import STEMS, Body
from nasnet_keras.cell import Wiring
from nasnet_keras.genotype import load_genotype
from nasnet_keras.parts import Options
from nasnet_keras.program import PrimitiveParts, Program, primitive


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

    body = Body(
        load_genotype(genotype),
        stacks,
        skip_reduction,
        0.0,
        options,
        None,
        program.image,
        operation=operation,
        cell=cell,
    )
    body.assemble(program.image, stem, stem_filters, filters)
    features = program.add(PrimitiveParts(options).relu(), program.concat(body.current))
    program.layer = "logits"
    pooled = program.add(primitive("mean"), features)
    program.add(primitive("dense", makes=classes), pooled)
    return program.without_dead_layers()


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
