"""Programs in a TensorFlow graph, with every kind of part traced once and called wherever it comes again.

Tracing costs Python half a millisecond of an operation and as much of its derivative. The sixteen cells of a
NASNetMobile are seven kinds of blocks and some short ways that bring states to a cell's size
(`benchmarks/finetune.py`).
"""

from dataclasses import dataclass
from weakref import WeakKeyDictionary

import tensorflow as tf

from nasnet_keras.models.functions import Run, compute
from nasnet_keras.program.program import Program

_functions = WeakKeyDictionary()  # {graph: {what is computed, and how: function}}: they go with the graph


@dataclass(frozen=True)
class _Inside(Run):
    """The run of a part, which is given what it draws: pairs of a rate and a seed."""

    paths: tuple = ()

    def path(self, rate, count):
        """The next pair's share, and uniform numbers from its seed."""
        rate, seed = next(self.paths)
        return 1.0 - rate, tf.random.stateless_uniform((count, 1, 1, 1), seed=seed)


def can_trace(weights):
    """Whether `compute_parts` serves: a graph is built, for one device, from the variables themselves."""
    if tf.executing_eagerly() or tf.distribute.has_strategy():
        return False
    return all(isinstance(weight.value, tf.Variable) for weight in weights)


def compute_parts(parts, inputs, weights, run, results):
    """As `functions.compute`, in a TensorFlow graph.

    Args:
        parts: the program's `program.parts.Part`s.
        inputs, weights, run, results: as for `functions.compute`.
    """
    values = dict(enumerate(inputs))
    known = _functions.setdefault(tf.compat.v1.get_default_graph(), {})
    for part in parts:
        paths = ()
        if part.rates and run.training:
            progress = 1.0 if run.progress is None else tf.cast(run.progress, tf.float32)
            rates = tf.stack([rate * progress for rate in part.rates])
            paths = rates, tf.stack([run.seed.next() for _ in part.rates])
        own = [weight.value for weight in weights[part.first : part.first + part.weights]]
        key = part.kind, run.training, run.learning, run.kernels
        if key not in known:
            known[key] = _function(*key)
        made = known[key]([values[number] for number in part.reads], own, *paths)
        values.update(zip(part.makes, made, strict=True))
    return [values[value.number] for value in results]


def _function(kind, training, learning, kernels):
    """A part's function of tensors, variables and, if paths are dropped, their rates and seeds."""
    program = Program(kind.channels, None, list(kind.steps))

    @tf.function(autograph=False)  # put in place by the optimiser of graphs: calls would cost a step 7%
    def function(inputs, weights, rates=None, seeds=None):
        pairs = () if rates is None else zip(tf.unstack(rates), tf.unstack(seeds), strict=True)
        run = _Inside(training, learning, kernels=kernels, paths=iter(pairs))
        return compute(program, inputs, weights, run, kind.results)

    return function
