"""A network made lean for inference: batch norms folded into the convolutions, and nothing computed twice.

A batch norm at inference is a multiplication and an addition for each channel. The multiplication goes
into the kernel in front of it, and what is left is a bias: the same function, up to rounding.
"""

import numpy as np

from nasnet_keras.layers import named_weights
from nasnet_keras.network import NASNet
from nasnet_keras.plan import plan
from nasnet_keras.program import Primitive, Program, Weight

PLANNED = ("repeats", "filters", "stem", "stem_filters", "skip_reduction", "input_shape", "classes")
PLANNED += ("batch_norm_momentum", "batch_norm_epsilon", "bounded_activations", "pooling_compatibility")
KERNELS = ("conv", "dilated_conv")


def inference_program(model):
    """The program of a `NASNet` from images in [-1, 1] to logits, folded, and its weights.

    Auxiliary head, drop path and dropout are gone: they only serve training.

    Args:
        model: a `NASNet` with its classifier.

    Returns:
        (`Program`, list of NumPy arrays in the order of `program.weights`).

    Raises:
        ValueError: a network without a classifier, or one on a graph of somebody else's.
    """
    config = model.get_config() if isinstance(model, NASNet) else {}
    if not config.get("include_top") or config["feature_pyramid"]:
        raise ValueError(f"`model` must be a NASNet with its classifier and nothing around it. Received: {model!r}")
    arguments = {**{name: config[name] for name in PLANNED}, "filters": model.get_layer("cell_0").filters}
    program = plan(model.genotype, **arguments)
    named = named_weights(model)
    weights = {weight.name: np.asarray(named[weight.name]) for weight in program.weights}
    program, weights = fold(program, weights)
    program = without_repetitions(program)
    return program, [weights[weight.name] for weight in program.weights]


def fold(program, weights):
    """Every batch norm behind a convolution becomes a part of its kernel and a bias.

    A norm behind the concatenation of two convolutions (factorized reduction) is shared out between them. A
    norm behind anything else, or behind what others read too, stays.

    Args:
        program: a `Program`.
        weights: `{name: array}`.

    Returns:
        (`Program`, `{name: array}`).
    """
    makers = {step.result.number: step for step in program.steps}
    readers = {}
    for step in program.steps:
        for value in step.reads:
            readers[value.number] = readers.get(value.number, 0) + 1
    weights, biases, aliases = dict(weights), {}, {}
    for step in program.steps:
        sources = _kernels_before(step, makers, readers) if step.primitive.kind == "norm" else None
        if not sources:
            continue
        scale, offset, mean, variance = (weights.pop(weight.name).astype(np.float64) for weight in step.weights)
        factor = scale / np.sqrt(variance + step.primitive.epsilon)
        shift, start = offset - mean * factor, 0
        for source in sources:
            (kernel,), end = source.weights, start + source.result.channels
            weights[kernel.name] = (weights[kernel.name] * factor[start:end]).astype(np.float32)
            biases[source.result.number] = shift[start:end].astype(np.float32)
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
        if number in biases:
            bias = Weight(step.weights[0].name.rpartition("/")[0] + "/bias", biases[number].shape)
            weights[bias.name] = biases[number]
            now[number] = folded.append(step.name, Primitive("bias"), [now[number]], [bias])
    return folded, weights


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
