"""Programs in a TensorFlow graph, with every kind of part traced once and called wherever it comes again.

Tracing costs Python half a millisecond of an operation and as much of its derivative. The sixteen cells of a
NASNetMobile are seven kinds of blocks and some short ways that bring states to a cell's size
(`benchmarks/finetune.py`).
"""

from dataclasses import replace
from weakref import WeakKeyDictionary, WeakValueDictionary

import tensorflow as tf

from nasnet_keras.models.functions import Run, compute, folded
from nasnet_keras.program.folding import fold
from nasnet_keras.program.program import Program

_of_graphs = WeakKeyDictionary()  # {graph: its `_Functions`}
_of_networks = WeakValueDictionary()  # {id of a graph's first variable: the same}: for a network's next graph


class _Functions(dict):
    """{what is computed, and how: function}. They live as long as one of a network's graphs.

    Where a model makes variables in its first step, such as moments, TensorFlow traces that step twice.
    """


def can_trace(weights):
    """Whether `compute_parts` serves: a graph is built, for one device, from the variables themselves."""
    if tf.executing_eagerly() or tf.distribute.has_strategy():
        return False
    return all(isinstance(weight.value, tf.Variable) for weight in weights)


def compute_parts(parts, inputs, weights, run, results, fixed=False):
    """As `functions.compute`, in a TensorFlow graph.

    Args:
        parts: the program's `program.parts.Part`s.
        inputs, weights, run, results: as for `functions.compute`; weights are variables, or all are tensors.
        fixed: whether weights and statistics stand still. Then batch norms are folded into the kernels, and no gradient
            is prepared: nothing is kept for one.
    """
    values = dict(enumerate(inputs))
    known = _known(weights)
    for part in parts:
        drawn = [run.path(rate, tf.shape(inputs[0])[0]) for rate in part.rates] if run.training else []
        paths = [(tf.convert_to_tensor(keep), draws) for keep, draws in drawn]
        own = [getattr(weight, "value", weight) for weight in weights[part.first : part.first + part.weights]]
        make, key = _function, (part.kind, run.training, run.learning, run.kernels, run.moved is not None)
        if fixed:  # a tape watches variables that are read, or passed, in the usual way, also those not to be trained
            make, key = _fixed, (part.kind, tuple(weight.dtype for weight in own))
            own = [weight.handle for weight in own]
        if key not in known:
            known[key] = make(*key)
        made = known[key]([values[number] for number in part.reads], own, paths)
        if run.moved is not None:
            made, moved = made
            run.moved.extend(moved)
        values.update(zip(part.makes, made, strict=True))
    return [values[value.number] for value in results]


def _known(weights):
    """The functions of this graph: those of another one of the same network, if it still lives."""
    graph = tf.compat.v1.get_default_graph()
    if graph not in _of_graphs:
        first = id(weights[0]) if weights else None
        _of_graphs[graph] = _of_networks.setdefault(first, _Functions())
    return _of_graphs[graph]


def _function(kind, training, learning, kernels, gives_moved):
    """A part's function of tensors, variables and what decides on dropped paths; it may give what norms would move."""
    program = Program(kind.channels, None, list(kind.steps))

    @tf.function(autograph=False)  # put in place by the optimiser of graphs: calls would cost a step 7%
    def function(inputs, weights, paths):
        moved = [] if gives_moved else None
        run = Run(training, learning, kernels=kernels, paths=iter(paths), moved=moved)
        results = compute(program, inputs, weights, run, kind.results)
        return (results, moved) if gives_moved else results

    return function


def _fixed(kind, dtypes):
    """The function of a part that stands still, folded; `dtypes` are those of its weights."""
    steps, count = [], 0
    for step in kind.steps:  # equal parts have no names; folding knows weights by theirs
        weights = tuple(replace(one, name=f"{count + place}/weight") for place, one in enumerate(step.weights))
        steps.append(replace(step, weights=weights))
        count += len(weights)
    whole = Program(kind.channels, None, steps)
    program, folds, results = fold(whole, kind.results)

    @tf.function(autograph=False)
    def function(inputs, weights, paths):
        read = [
            tf.raw_ops.ReadVariableOp(resource=handle, dtype=dtype)
            for handle, dtype in zip(weights, dtypes, strict=True)
        ]
        values = dict(zip((one.name for one in whole.weights), read, strict=True))
        values |= folded(folds, values)
        return compute(program, inputs, [values[one.name] for one in program.weights], Run(), results)

    return function
