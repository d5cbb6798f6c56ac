"""From a genotype to the program of its network, and from there to the ordinary network's variables.

The plan has the same cells (`cell.CellPlan`) and the same body as `network.NASNet`, so there is one
description of what a genotype computes and two ways to run it: Keras layers, and primitives alone.
"""

from nasnet_keras.genotype import CellGenotype, load_genotype
from nasnet_keras.program.architecture import architecture
from nasnet_keras.program.body import Body
from nasnet_keras.program.cell import CellPlan
from nasnet_keras.program.operations import write_operation
from nasnet_keras.program.program import Program


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
        ValueError: naming the argument at fault.
    """
    genotype = load_genotype(genotype)
    described = architecture(
        genotype,
        repeats=repeats,
        filters=filters,
        stem=stem,
        stem_filters=stem_filters,
        input_shape=input_shape,
        classes=classes,
        batch_norm_momentum=batch_norm_momentum,
        batch_norm_epsilon=batch_norm_epsilon,
        bounded_activations=bounded_activations,
        pooling_compatibility=pooling_compatibility,
    )
    program = Program((described.input_shape[-1],), described.options)
    (image,) = program.inputs

    def operation(kind, filters, strides, name, **_):
        def write(value):
            with program.scope(name):
                return write_operation(program, kind, value, filters, strides)

        return write

    body = Body(
        genotype,
        described.stacks,
        skip_reduction,
        0.0,
        described.options,
        None,
        image,
        operation=operation,
        cell=lambda *description, **further: _PlannedCell(program, *description, **further),
    )
    body.assemble(image, stem, stem_filters, described.filters)
    features = program.relu(program.concat(body.current))
    program.dense(program.mean(features), classes, "logits")
    return program.without_dead_layers()


def without_repetitions(program):
    """The program with equal steps on equal values done once: many operations begin with the same ReLU."""
    lean, seen = Program(program.channels, program.options), {}
    now = {value.number: value for value in program.inputs}
    for step in program.steps:
        reads = [now[value.number] for value in step.reads]
        key = (step.primitive, tuple(reads), step.weights)
        if key not in seen:
            seen[key] = lean.append(step.name, step.primitive, reads, step.weights)
        now[step.result.number] = seen[key]
    return lean


class _PlannedCell:
    """Writes a cell into a program when it is called, where a `layers.Cell` would run it."""

    def __init__(self, program, genotype, filters, strides, adjust, drop_path, name, **_):
        self.program, self.name = program, name
        self.plan = CellPlan(CellGenotype.from_dict(genotype), filters, strides, tuple(adjust), drop_path)
        self.reads = self.plan.reads

    def __call__(self, inputs):
        with self.program.scope(self.name):
            return self.plan.write(self.program, inputs)
