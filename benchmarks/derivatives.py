"""The hand-written derivatives of children's primitives beside `tf.gradients` of their forward pieces, in turn.

    python benchmarks/derivatives.py [--pairs 5] [--cells 8] [--filters 8]

Both kinds of child are put together from pieces that are traced once for each shape (`children/graph_assembly.py`). In
the other kind a piece is a primitive forward with TensorFlow's own derivative behind it, cut in two where the
derivative reads what the forward half made, so that nothing is computed twice. Where the hand-written forward would
give TensorFlow a slow derivative, the other kind has the form that suits it: a 1×1 kernel as one product of two
matrices, and the two operations of `models/kernels.py`, whose own derivatives serve the ordinary networks.

Random cells of the paper's space on the digits, N=1, batches of 32. In each pair every cell trains in both kinds, now
one first, now the other: `step` is a training step, the median of twenty; `child` is all that a trial costs, one epoch
of 16 steps and the judgement, its graph put together anew. The first pair warms up and meets the shapes. Prints the
medians, and the median of the pairs' ratios: below 1, the hand-written derivatives are faster. CPU is that of the
process, and moves less with what else runs on the machine.
"""

import argparse
import os
import statistics
import time
from functools import cache

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf

from nasnet_keras.children import primitives, tensorflow_child
from nasnet_keras.children.settings import ChildSettings
from nasnet_keras.children.tensorflow_child import Child
from nasnet_keras.data.batches import readable
from nasnet_keras.data.loading import load_data
from nasnet_keras.models import kernels
from nasnet_keras.search.space import SearchSpace

STEPS = 20
placeholder = tf.compat.v1.placeholder


def plain(tensors, primitive, inputs):
    """The result of a primitive while it is trained, and of a batch norm the batch's mean and variance."""
    x, weights = tensors[:inputs], tensors[inputs:]
    if primitive.kind == "depthwise":
        return kernels.depthwise(x[0], weights[0], primitive.strides), ()
    if primitive.kind == "avg_pool":
        return kernels.average_pool(x[0], primitive.size, primitive.strides, primitive.padding), ()
    if primitive.kind == "conv" and len(weights[0].shape) == 2 and primitive.strides == (1, 1):
        rows = tf.matmul(tf.reshape(x[0], [-1, x[0].shape[3]]), weights[0])
        return tf.reshape(rows, [*x[0].shape[:3], weights[0].shape[1]]), ()
    result, saved = primitives.forward(tensors, primitive, inputs, True)
    return result, saved[-2:] if primitive.kind == "norm" else ()


@cache
def differentiated(primitive, signature, inputs):
    """A primitive's graph and its derivative's, as `GraphDef`s, and the names in them.

    The names are those of the result, the statistics, what the derivative reads, and the gradients (None where there is
    none).
    """
    with tf.Graph().as_default() as graph:
        tensors = [placeholder(dtype, shape, f"tensor_{number}") for number, (shape, dtype) in enumerate(signature)]
        result, statistics = plain(tensors, primitive, inputs)
        before = {operation.name for operation in graph.get_operations()}
        gradient = placeholder(result.dtype, result.shape, "gradient")
        gradients = tf.gradients(result, tensors, gradient)
    nodes, given = {node.name: node for node in graph.as_graph_def().node}, {tensor.name for tensor in tensors}

    def source(name):
        """What a value is a copy of."""
        node, place = _node(name)
        copied = node in nodes and nodes[node].op in ("Identity", "IdentityN")
        return source(nodes[node].input[place]) if copied else f"{node}:{place}"

    def needed(names, skip):
        """The part of the graph that some values need, but for what is given."""
        part, waiting, seen, reads = tf.compat.v1.GraphDef(), list(names), set(), {}
        while waiting:
            name = waiting.pop()
            node, _ = _node(name)
            if skip(node):
                reads[name] = None
            elif node not in seen:
                seen.add(node)
                copy = part.node.add()
                copy.CopyFrom(nodes[node])
                copy.attr.pop("_class", None)  # which names a node of the other half
                del copy.input[:]
                copy.input.extend(map(source, nodes[node].input))
                waiting += copy.input
        return part, list(reads)

    ends = [one if one is None else source(one.name) for one in gradients]
    constant = {name for name, node in nodes.items() if node.op == "Const"}
    wanted = [one for one in ends if one]
    second, reads = needed(wanted, lambda node: node == "gradient" or (node in before and node not in constant))
    kept = [name for name in reads if name != "gradient:0"]
    made = [source(one.name) for one in (result, *statistics)]
    first, _ = needed([*made, *kept], lambda node: f"{node}:0" in given)
    return first, second, made, kept, ends


def forward(tensors, primitive, inputs, signature):
    """The result, and a tuple of what the derivative reads, which ends in the statistics of a batch."""
    first, _, made, kept, _ = differentiated(primitive, signature, inputs)
    given = {f"tensor_{number}:0": tensor for number, tensor in enumerate(tensors)}
    found = _imported(first, given, [*made, *kept])
    return found[0], (*found[len(made) :], *found[1 : len(made)])


def backward(tensors, primitive, inputs, signature):
    """The gradients of inputs and weights."""
    _, second, _, kept, gradients = differentiated(primitive, signature, inputs)
    found = _imported(second, dict(zip([*kept, "gradient:0"], tensors, strict=True)), gradients)
    return tuple(found[:inputs]), tuple(found[inputs:])


def _imported(definition, given, names):
    wanted = [name for name in names if name not in given]
    definition.versions.producer = tf.version.GRAPH_DEF_VERSION
    used = {name if ":" in name else f"{name}:0" for node in definition.node for name in node.input}
    mapped = {name: tensor for name, tensor in given.items() if name in used}
    found = tf.import_graph_def(definition, mapped, wanted, name="") if wanted else []
    found = {**given, **dict(zip(wanted, found, strict=True))}
    return [found[name] for name in names]


def _node(name):
    node, _, place = name.partition(":")
    return node, int(place or 0)


class TracedChild(Child):
    """A child whose derivatives are TensorFlow's."""

    def _forward(self, graph, images, weights, moving=None):
        if moving is not None:
            return super()._forward(graph, images, weights, moving)
        values, saved = {0: images}, []
        for primitive, reads, result, trained, _ in self._steps:
            edges = [values[number] for number in reads] + [weights[number] for number in trained]
            signature = tuple((edge.shape, edge.dtype) for edge in edges)
            values[result], kept = graph.call(forward, edges, primitive, len(reads), signature)
            saved.append((signature, kept))
        self._saved = saved
        return values[result], [kept for _, kept in saved]

    def _backward(self, graph, weights, saved, gradient):
        pieces, gradients = [None] * len(weights), {self._steps[-1][2]: [gradient]}
        steps = reversed(list(zip(self._steps, self._saved, strict=True)))
        for (primitive, reads, result, trained, moving), (signature, kept) in steps:
            parts = gradients.pop(result, None)
            if parts is None:
                for number in trained:
                    pieces[number] = graph.call(tensorflow_child._zeros, [weights[number]])
                continue
            whole = parts[0]
            for part in parts[1:]:
                whole = graph.call(tensorflow_child._add, [whole, part])
            kept = kept[: len(kept) - 2] if moving else kept
            to_inputs, to_weights = graph.call(backward, [*kept, whole], primitive, len(reads), signature)
            for number, piece in zip(trained, to_weights, strict=True):
                pieces[number] = piece
            for number, piece in zip(reads, to_inputs, strict=True):
                if number:
                    gradients.setdefault(number, []).append(piece)
        return pieces


KINDS = {"hand-written": Child, "tf.gradients": TracedChild}


def compare(cells, data, settings):
    """The greatest difference between both kinds' gradients, relative to the greatest entry, and how many are equal."""
    worst, equal, count = 0.0, 0, 0
    batch = readable(next(iter(settings.batches(data, 0))))
    for genotype in cells:
        architecture = settings.architecture(genotype, data)
        (_, one), (_, other) = (kind(architecture, seed=0).loss_and_gradient(*batch) for kind in KINDS.values())
        for left, right in zip(one, other, strict=True):
            count, equal = count + 1, equal + np.array_equal(left, right)
            worst = max(worst, float(np.max(np.abs(left - right)) / max(np.max(np.abs(left)), 1e-12)))
    return worst, equal, count


def steps_of(kind, genotype, data, settings):
    """(CPU seconds, seconds) of a training step, medians."""
    child = kind(settings.architecture(genotype, data), seed=0)
    batch = readable(next(iter(settings.batches(data, 0))))
    child.train_step(*batch)
    times = []
    for _ in range(STEPS):
        start = time.process_time(), time.perf_counter()
        child.train_step(*batch)
        times.append((time.process_time() - start[0], time.perf_counter() - start[1]))
    return tuple(statistics.median(column) for column in zip(*times, strict=True))


def child_of(kind, genotype, data, settings):
    """(CPU seconds, seconds) of a whole child."""
    kept, tensorflow_child.Child = tensorflow_child.Child, kind
    try:
        start = time.process_time(), time.perf_counter()
        settings.evaluate(genotype, data, 0)
        return time.process_time() - start[0], time.perf_counter() - start[1]
    finally:
        tensorflow_child.Child = kept


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--cells", type=int, default=8)
    parser.add_argument("--filters", type=int, default=8)
    parser.add_argument("--size", type=int, help="side of the images (default: the digits' 8)")
    parser.add_argument("--measures", nargs="+", default=["step", "child"], choices=("step", "child"))
    options = parser.parse_args()
    data = load_data("digits", limit=720, image_size=options.size)
    settings = ChildSettings(filters=options.filters)
    cells = SearchSpace().sample(options.cells, np.random.default_rng(0))
    worst, equal, count = compare(cells, data, settings)
    print(f"gradients: {equal} of {count} equal to the bit, others off by at most {worst:.1e} of their greatest entry")
    for name in options.measures:
        measure = {"step": steps_of, "child": child_of}[name]
        pairs = []
        for number in range(-1, options.pairs):
            taken = {kind: [] for kind in KINDS}
            for place, genotype in enumerate(cells):
                for kind in list(KINDS)[:: 1 if (number + place) % 2 else -1]:
                    taken[kind].append(measure(KINDS[kind], genotype, data, settings))
            if number >= 0:
                pairs.append([np.mean(taken[kind], axis=0) for kind in KINDS])
        for place, clock in enumerate(("CPU", "clock")):
            ours, theirs = (np.array([pair[kind][place] for pair in pairs]) for kind in (0, 1))
            ratios = ", ".join(f"{ratio:.3f}" for ratio in ours / theirs)
            words = f"hand-written {np.median(ours) * 1e3:.1f} ms, tf.gradients {np.median(theirs) * 1e3:.1f} ms"
            print(f"{name}, {clock}: {words}, ratio {np.median(ours / theirs):.3f} ({ratios})", flush=True)


if __name__ == "__main__":
    main()
