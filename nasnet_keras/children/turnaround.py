"""A child network that starts training at once.

A fresh Keras model of a small child spends ten seconds on tracing and graph optimisation and then
one on its training. A `Child` computes the same function from the same genotype (`program.plan`), with
the same weights and the same optimiser, by calling each primitive directly. All weights lie in one
flat vector, so that the optimiser is a handful of operations on it, and so do the moving statistics.

Its first step runs eagerly, with nothing traced. If enough steps are to come, the same code is then
traced once: a graph of primitives only, lean enough to do without TensorFlow's graph optimiser, which
costs more here than it saves.

What is to be trained for long is better off as a `NASNet`; `Child.to_model` makes one with the same weights.
"""

from collections import Counter
from contextlib import contextmanager
from functools import cache, reduce

import numpy as np
import tensorflow as tf

from nasnet_keras.children.child import BaseChild
from nasnet_keras.children.descent import Optimizer
from nasnet_keras.children.flat import Layout, descend
from nasnet_keras.children.primitives import PRIMITIVES

raw = tf.raw_ops


class Child(BaseChild):
    """A small network that is trained for a few steps and judged, on TensorFlow.

    Args:
        genotype: a `Genotype`, a stored name, or a file.
        seed: seed of the initial weights.
        optimizer: an `Optimizer`.
        compile_from: number of steps to come (`optimizer.steps`) from which the step is compiled after the first;
            None never does, and 0 always, as does a `steps` of None.
        **network: see `BaseChild`.

    Raises:
        ValueError: naming the argument at fault.
    """

    def __init__(self, genotype, *, seed=0, optimizer=None, compile_from=15, **network):
        optimizer = optimizer or Optimizer()
        self._worth_compiling = compile_from is not None and (
            optimizer.steps is None or optimizer.steps >= compile_from
        )
        super().__init__(genotype, seed=seed, optimizer=optimizer, **network)

    def _prepare(self):
        """Constants, and for every step of the program its primitive and the numbers of its weights."""
        self._trained, self._moving, self._order = [], [], []
        self._steps, shapes = [], []
        constant = cache(lambda *values: tf.constant(values))
        for step in self.program.steps:
            numbers = ([], [])
            for weight in step.weights:
                pool = self._trained if weight.trainable else self._moving
                numbers[not weight.trainable].append(len(pool))
                self._order.append((weight.trainable, len(pool)))
                pool.append(weight)
            implementation = PRIMITIVES[step.primitive.kind](step.primitive, step.weights, constant)
            shapes += implementation.shapes
            reads = [value.number for value in step.reads]
            self._steps.append((implementation, reads, step.result.number, *numbers))
        self._trained_layout, self._moving_layout = Layout(self._trained), Layout(self._moving)
        self._shapes = [None if len(shape) == 1 else constant(*shape) for shape in shapes]
        self._flat, self._axis = constant(-1), tf.constant(0)
        self._keep = tf.constant(self.program.options.batch_norm_momentum, tf.float32)
        self._corrections = {}
        self._compiled = None  # batch shape, function
        self._readers = Counter(number for _, reads, *_ in self._steps for number in reads)

    # Weights

    def get_weights(self):
        """All weights as NumPy arrays, in the order of `program.weights`."""
        pools = {True: self._tensors(self._weights), False: self._moving_layout.cut(self._statistics)}
        values = (pools[trained][number].numpy() for trained, number in self._order)
        return [value.reshape(weight.shape) for value, weight in zip(values, self.program.weights, strict=True)]

    def set_weights(self, weights):
        """Replace all weights and start the optimiser anew; see `get_weights`."""
        self._check_weights(weights)
        pools = {True: [], False: []}
        for (trained, _), value in zip(self._order, weights, strict=True):
            pools[trained].append(np.ravel(value))
        self._weights, self._statistics = (
            tf.constant(np.concatenate(pools[trained]), tf.float32) for trained in (True, False)
        )
        self._velocity = tf.zeros_like(self._weights)
        self.step = 0

    def _tensors(self, flat):
        """The flat vector of trained weights cut into tensors of the shapes that the primitives want."""
        pieces = self._trained_layout.cut(flat)
        return [
            piece if shape is None else raw.Reshape(tensor=piece, shape=shape)
            for piece, shape in zip(pieces, self._shapes, strict=True)
        ]

    # Computation

    def _forward(self, images, weights, moving=None):
        """Logits, and what each step saved; by the moving statistics, if they are given."""
        training = moving is None
        values, saved = {0: images}, []
        readers = dict(self._readers)
        for implementation, reads, result, trained, untrained in self._steps:
            own = [weights[number] for number in trained]
            if not training:
                own += [moving[number] for number in untrained]
            inputs = [values[number] for number in reads]
            values[result], kept = implementation.forward(inputs, own, training)
            if training:
                saved.append(kept)
            for number in reads:  # what nobody reads any more goes
                readers[number] -= 1
                if not readers[number]:
                    del values[number]
        return values[result], saved

    def _backward(self, saved, gradient):
        """The gradient of all trained weights as one flat vector."""
        pieces = [None] * len(self._trained)
        gradients = {self._steps[-1][2]: [gradient]}
        for (implementation, reads, result, trained, _), kept in zip(
            reversed(self._steps), reversed(saved), strict=True
        ):
            parts = gradients.pop(result, None)
            if parts is None:  # a state that a cell passes on, but the next one does not read
                for number in trained:
                    pieces[number] = tf.zeros((self._trained[number].size,))
                continue
            # Not AddN, which adds in the order in which buffers come free: the sum would not be the same each time.
            whole = reduce(lambda one, other: raw.AddV2(x=one, y=other), parts)
            to_inputs, to_weights = implementation.backward(kept, whole)
            for number, piece in zip(trained, to_weights, strict=True):
                pieces[number] = piece if self._shapes[number] is None else raw.Reshape(tensor=piece, shape=self._flat)
            for number, piece in zip(reads, to_inputs, strict=True):
                if number:
                    gradients.setdefault(number, []).append(piece)
        return self._trained_layout.join(pieces)

    def _gradient(self, weights, images, labels):
        """Mean loss, flat gradient and flat statistics of a batch."""
        logits, saved = self._forward(images, self._tensors(weights))
        losses, gradient = raw.SparseSoftmaxCrossEntropyWithLogits(features=logits, labels=labels)
        statistics = [one for step, kept in zip(self._steps, saved, strict=True) if step[4] for one in kept[-2:]]
        shape = tuple(images.shape)
        if shape not in self._corrections:
            self._corrections[shape] = _variance_corrections(self._steps, saved)
        statistics = self._moving_layout.join(statistics) * self._corrections[shape]
        gradient = self._backward(saved, gradient * (1.0 / shape[0]))
        return raw.Mean(input=losses, axis=self._axis), gradient, statistics

    def _update(self, weights, velocity, statistics, rate, images, labels):
        """One step as a pure function: the loss, and weights, velocity and moving statistics after it."""
        loss, gradient, batch = self._gradient(weights, images, labels)
        weights, velocity = descend(self.optimizer, weights, velocity, gradient, rate)
        return loss, weights, velocity, batch + self._keep * (statistics - batch)

    def loss_and_gradient(self, images, labels):
        """Arrays; see `BaseChild`."""
        loss, gradient, _ = self._gradient(self._weights, tf.convert_to_tensor(images), tf.convert_to_tensor(labels))
        pieces = self._trained_layout.cut(gradient)
        shaped = zip(pieces, self._trained, strict=True)
        return float(loss), [piece.numpy().reshape(weight.shape) for piece, weight in shaped]

    def train_step(self, images, labels):
        """The loss is a scalar tensor; see `BaseChild`."""
        images, labels = tf.convert_to_tensor(images), tf.convert_to_tensor(labels)
        rate = tf.constant(self.optimizer.rate(self.step), tf.float32)
        arguments = (self._weights, self._velocity, self._statistics, rate, images, labels)
        shape = tuple(images.shape)
        # A shape that was seen before: its variance corrections are known, and no graph has to hold them.
        if self._worth_compiling and self._compiled is None and shape in self._corrections:
            self._compiled = shape, tf.function(self._update, autograph=False).get_concrete_function(*arguments)
        if self._compiled and self._compiled[0] == shape:
            with _without_graph_optimizer():
                results = self._compiled[1](*arguments)
        else:
            results = self._update(*arguments)
        loss, self._weights, self._velocity, self._statistics = results
        self.step += 1
        return loss

    def logits(self, images, batch_statistics=False):
        """Logits [batch, classes] at inference.

        Args:
            images: as for `train_step`.
            batch_statistics: normalise by the statistics of these images, not by the moving ones.
        """
        images, weights = tf.convert_to_tensor(images), self._tensors(self._weights)
        return self._forward(images, weights, None if batch_statistics else self._moving_layout.cut(self._statistics))[
            0
        ]

    def activations(self, images):
        """What each ReLU makes of some images, with their own statistics: arrays [batch, …]."""
        _, saved = self._forward(tf.convert_to_tensor(images), self._tensors(self._weights))
        steps = zip(self.program.steps, saved, strict=True)
        return [result.numpy() for step, result in steps if step.primitive.kind == "relu"]


@contextmanager
def _without_graph_optimizer():
    """TensorFlow's graph optimiser switched off for the functions called inside.

    The option is part of each call's key, so it has to be set for every call of a function alike. (A call by
    `raw_ops.StatefulPartitionedCall` could carry it, but TensorFlow then keeps the function for ever.)
    """
    name = "disable_meta_optimizer"
    before = tf.config.optimizer.get_experimental_options().get(name, False)
    tf.config.optimizer.set_experimental_options({name: True})
    try:
        yield
    finally:
        tf.config.optimizer.set_experimental_options({name: before})


def _variance_corrections(steps, saved):
    """What turns the unbiased variances that TensorFlow's kernel reports into those of Keras; 1 for the means."""
    factors = []
    for (_, _, _, _, untrained), kept in zip(steps, saved, strict=True):
        if untrained:
            *sizes, channels = kept[0].shape
            count = int(np.prod(sizes))
            factors += [np.ones(channels), np.full(channels, max(count - 1, 1) / count)]
    return tf.constant(np.concatenate(factors), tf.float32)
