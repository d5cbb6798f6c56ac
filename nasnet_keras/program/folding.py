"""A network made lean for inference: batch norms folded into the convolutions, and nothing computed twice.

A batch norm at inference is a multiplication and an addition for each channel. The multiplication goes
into the kernel in front of it, and what is left is a bias: the same function, up to rounding.
"""

from collections import Counter
from dataclasses import dataclass

import numpy as np

from nasnet_keras.program.program import Primitive, Program, Step, Weight

KERNELS = ("conv", "dilated_conv")


@dataclass(frozen=True)
class Fold:
    """A convolution that takes over a part of a batch norm.

    Args:
        kernel: the convolution's weight.
        bias: the weight that it gets.
        norm: the step that goes.
        start: the norm's first channel that is this convolution's.
        end: the channel after its last one.
    """

    kernel: Weight
    bias: Weight
    norm: Step
    start: int
    end: int


def folded_program(architecture):
    """The program of a network from images in [-1, 1] to logits, lean.

    Args:
        architecture: an `Architecture`.

    Returns:
        (`Program`, the `Fold`s that give its weights from the network's).
    """
    program, folds, _ = fold(architecture.program())
    return program.without_repetitions(), folds


def fold(program, results=()):
    """Every batch norm behind a convolution becomes a part of its kernel and a bias.

    A norm behind the concatenation of two convolutions (factorized reduction) is shared out between them. A
    norm behind anything else, or behind what others read too, stays.

    Args:
        program: a `Program`.
        results: the `Value`s that are wanted of it beside the last one.

    Returns:
        (`Program`, list of `Fold`s, list of its `Value`s in the places of the results).
    """
    makers = {step.result.number: step for step in program.steps}
    readers = Counter(value.number for step in program.steps for value in step.reads)
    readers.update(value.number for value in results)
    folds, aliases = {}, {}
    for step in program.steps:
        sources = _kernels_before(step, makers, readers) if step.primitive.kind == "norm" else None
        if not sources:
            continue
        start = 0
        for source in sources:
            (kernel,), end = source.weights, start + source.result.channels
            bias = Weight(kernel.name.rpartition("/")[0] + "/bias", (end - start,))
            folds[source.result.number] = Fold(kernel, bias, step, start, end)
            start = end
        aliases[step.result.number] = step.reads[0].number
    folded = Program(program.channels, program.options)
    now = {value.number: value for value in program.inputs}
    for step in program.steps:
        number = step.result.number
        if number in aliases:
            now[number] = now[aliases[number]]
            continue
        reads = [now[value.number] for value in step.reads]
        now[number] = folded.append(step.name, step.primitive, reads, step.weights)
        if number in folds:
            now[number] = folded.append(step.name, Primitive("bias"), [now[number]], [folds[number].bias])
    return folded, list(folds.values()), [now[value.number] for value in results]


def folded_weights(folds, weights):
    """{name: array} of the kernels and biases that `folds` change.

    Args:
        folds: `Fold`s.
        weights: `{name: array}` of the weights before.
    """
    changed = {}
    for one in folds:
        scale, offset, mean, variance = (weights[weight.name].astype(np.float64) for weight in one.norm.weights)
        factor = scale / np.sqrt(variance + one.norm.primitive.epsilon)
        shift, own = offset - mean * factor, slice(one.start, one.end)
        changed[one.kernel.name] = (weights[one.kernel.name] * factor[own]).astype(np.float32)
        changed[one.bias.name] = shift[own].astype(np.float32)
    return changed


def _kernels_before(norm, makers, readers):
    """The convolutions whose results, joined, a norm reads and nobody else does; None if there is anything else."""
    source = makers.get(norm.reads[0].number)
    parts = [source]
    if source is not None and source.primitive.kind == "concat":
        parts += [makers.get(value.number) for value in source.reads]
    if any(part is None or readers[part.result.number] > 1 for part in parts):
        return None
    kernels = parts if len(parts) == 1 else parts[1:]
    return kernels if all(part.primitive.kind in KERNELS for part in kernels) else None
