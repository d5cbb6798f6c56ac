"""A child network that starts training at once.

A fresh Keras model of a small child spends ten seconds on tracing and graph optimisation and then
one on its training. A `Child` computes the same function from the same genotype (`Architecture.program`), with
the same weights and the same optimiser, by a graph of primitives alone. No graph is traced for it: each primitive
was, forward and backward, when its shapes were first met (`graph_assembly`).

What is to be trained for long is better off as a `NASNet`; `Child.to_model` makes one with the same weights.
"""

from functools import reduce
from math import prod

import numpy as np
import tensorflow as tf

from nasnet_keras.children import primitives
from nasnet_keras.children.child import BaseChild
from nasnet_keras.children.graph_assembly import Assembly
from nasnet_keras.children.optimizer import FlatWeights, descend

raw = tf.raw_ops


class Child(BaseChild):
    """A small network that is trained for a few steps and judged, on TensorFlow.

    Args:
        architecture: an `Architecture`.
        seed: seed of the initial weights.
        optimizer: an `Optimizer`.
    """

    def _prepare(self):
        """The places of all weights, and for every step of the program the numbers of its own."""
        trained, moving, self._steps = [], [], []
        for step in self.program.steps:
            numbers = ([], [])
            for weight in step.weights:
                pool = trained if weight.trainable else moving
                numbers[not weight.trainable].append(len(pool))
                # A 1×1 kernel is a matrix here.
                pool.append(weight.shape[2:] if weight.shape[:2] == (1, 1) else weight.shape)
            self._steps.append((step.primitive, [value.number for value in step.reads], step.result.number, *numbers))
        self._last = self._steps[-1][2]
        self._trained, self._moving = FlatWeights(trained), FlatWeights(moving)
        self._runs = {}

    # Weights

    def get_weights(self):
        """All weights as NumPy arrays, in the order of `program.weights`."""
        trained, moving = (
            iter(places.cut(flat))
            for places, flat in ((self._trained, self._weights), (self._moving, self._statistics))
        )
        return [
            next(trained if weight.trainable else moving).reshape(weight.shape).copy()
            for weight in self.program.weights
        ]

    def set_weights(self, weights):
        """Replace all weights and start the optimiser anew; see `get_weights`."""
        self._check_weights(weights)
        pairs = list(zip(self.program.weights, weights, strict=True))
        self._weights, self._statistics = (
            places.join([value for weight, value in pairs if weight.trainable == trained])
            for places, trained in ((self._trained, True), (self._moving, False))
        )
        self._velocity = np.zeros_like(self._weights)
        self.step = 0

    # The graph

    def _forward(self, graph, images, weights, moving=None, pulls=None):
        """All values, and the statistics of the batch, two a norm.

        Args:
            graph: an `Assembly`.
            images: an `Output`, as are all values.
            weights: the trained ones.
            moving: the moving statistics, to compute by them.
            pulls: a list for the derivative of each step.
        """
        values, statistics, call = {0: images}, [], graph.call if pulls is None else graph.differentiable
        for primitive, reads, result, trained, untrained in self._steps:
            inputs = [values[number] for number in reads] + [weights[number] for number in trained]
            if moving is not None:
                inputs += [moving[number] for number in untrained]
            made = call(primitives.forward, inputs, primitive, moving is None)
            if pulls is not None:
                made, pull = made
                pulls.append(pull)
            values[result], batch = made
            statistics += batch
        return values, statistics

    def _backward(self, graph, weights, pulls, gradient):
        """The gradients of all trained weights."""
        pieces = [None] * len(weights)
        gradients = {self._last: [gradient]}
        for (_, reads, result, trained, _), pull in zip(reversed(self._steps), reversed(pulls), strict=True):
            parts = gradients.pop(result, None)
            if parts is None:  # a state that a cell passes on, but the next one does not read
                for number in trained:
                    pieces[number] = graph.call(_zeros, [weights[number]])
                continue
            # Not AddN, which adds in the order in which buffers come free: the sum would not be the same each time.
            made = pull(reduce(lambda one, other: graph.call(_add, [one, other]), parts))
            for number, piece in zip(trained, made[len(reads) :], strict=True):
                pieces[number] = piece
            for number, piece in zip(reads, made[: len(reads)], strict=True):
                if number:
                    gradients.setdefault(number, []).append(piece)
        return pieces

    def _run(self, build, images):
        """The images as an array, and the compiled graph for their shape.

        Args:
            build: makes it from an `Assembly`, the images and the trained weights, and gives further feeds and fetches.
            images: [batch, height, width, channels].
        """
        images = np.asarray(images, np.float32)
        key = build.__name__, images.shape
        if key not in self._runs:
            graph = Assembly()
            image, flat = graph.placeholder(images.shape), graph.placeholder(self._weights.shape)
            feeds, fetches = build(graph, image, _cut(graph, self._trained, flat))
            self._runs[key] = graph.compile([image, flat, *feeds], fetches)
        return images, self._runs[key]

    def _step_graph(self, graph, images, weights):
        """The mean loss, the statistics of the batch, and the gradient."""
        pulls = []
        values, batch = self._forward(graph, images, weights, pulls=pulls)
        several = self.architecture.classifier_activation == "sigmoid"
        shape = (images.shape[0], self.architecture.classes) if several else images.shape[:1]
        labels = graph.placeholder(shape, tf.float32 if several else tf.int64)
        loss, gradient = graph.call(_loss_of_labels if several else _loss, [values[self._last], labels])
        gradients = self._backward(graph, weights, pulls, gradient)
        return [labels], [loss, _join(graph, self._moving, batch), _join(graph, self._trained, gradients)]

    def _logits_graph(self, graph, images, weights):
        """Logits by the moving statistics."""
        flat = graph.placeholder(self._statistics.shape)
        return [flat], [self._forward(graph, images, weights, _cut(graph, self._moving, flat))[0][self._last]]

    def _own_logits_graph(self, graph, images, weights):
        """Logits by the statistics of these images."""
        return [], [self._forward(graph, images, weights)[0][self._last]]

    def _activations_graph(self, graph, images, weights):
        """What each ReLU makes."""
        values, _ = self._forward(graph, images, weights)
        return [], [values[result] for what, _, result, *_ in self._steps if what.kind == "relu"]

    # Computation

    def _gradient(self, images, labels):
        """Mean loss, flat statistics of the batch, and flat gradient."""
        images, run = self._run(self._step_graph, images)
        labels = np.asarray(labels)
        kind = np.float32 if labels.ndim == 2 else np.int64
        return run(images, self._weights, labels.astype(kind, copy=False))

    def loss_and_gradient(self, images, labels):
        """Arrays; see `BaseChild`."""
        loss, _, gradient = self._gradient(images, labels)
        pieces = self._trained.cut(gradient)
        trained = [weight for weight in self.program.weights if weight.trainable]
        return float(loss), [piece.reshape(weight.shape) for piece, weight in zip(pieces, trained, strict=True)]

    def train_step(self, images, labels):
        """The loss is a NumPy scalar; see `BaseChild`."""
        loss, batch, gradient = self._gradient(images, labels)
        rate, keep = self.optimizer.rate(self.step), np.float32(self.program.options.batch_norm_momentum)
        with np.errstate(all="ignore"):  # a child that diverges is known by its loss
            self._weights, self._velocity = descend(self.optimizer, self._weights, self._velocity, gradient, rate)
            self._statistics = batch + keep * (self._statistics - batch)
        self.step += 1
        return loss

    def logits(self, images, batch_statistics=False):
        """Logits [batch, classes] at inference.

        Args:
            images: as for `train_step`.
            batch_statistics: normalise by the statistics of these images, not by the moving ones.
        """
        images, run = self._run(self._own_logits_graph if batch_statistics else self._logits_graph, images)
        return run(images, self._weights, *([] if batch_statistics else [self._statistics]))[0]

    def activations(self, images):
        """What each ReLU makes of some images, with their own statistics: arrays [batch, …]."""
        images, run = self._run(self._activations_graph, images)
        return run(images, self._weights)


# What stands between the primitives, as functions for `Assembly.call`.


def _cut(graph, places, flat):
    """The single weights of a flat vector."""
    parts = graph.call_once(_split, [flat], tuple(prod(shape) for shape in places.shapes))
    return places.in_order(graph.call(_unpack, [part], shape) for part, shape in zip(parts, places.shapes, strict=True))


def _join(graph, places, outputs):
    """The flat vector of single weights."""
    return graph.concat([graph.call(_pack, group) for group in places.groups_of(outputs)])


def _split(tensors, sizes):
    return raw.SplitV(value=tensors[0], size_splits=sizes, axis=0, num_split=len(sizes))


def _unpack(tensors, shape):
    return raw.Unpack(value=raw.Reshape(tensor=tensors[0], shape=shape), num=shape[0])


def _pack(tensors):
    return raw.Reshape(tensor=raw.Pack(values=tensors), shape=[-1])


def _add(tensors):
    return raw.AddV2(x=tensors[0], y=tensors[1])


def _zeros(tensors):
    return tf.zeros(tensors[0].shape)


def _loss(tensors):
    """The mean cross-entropy and its gradient."""
    losses, gradient = raw.SparseSoftmaxCrossEntropyWithLogits(features=tensors[0], labels=tensors[1])
    return tf.reduce_mean(losses), gradient / float(tensors[1].shape[0])


def _loss_of_labels(tensors):
    """The mean over images of the cross-entropies of independent labels, summed, and its gradient."""
    logits, labels = tensors
    losses = tf.maximum(logits, 0.0) - logits * labels + tf.math.log1p(tf.exp(-tf.abs(logits)))
    count = float(labels.shape[0])
    return tf.reduce_sum(losses) / count, (tf.sigmoid(logits) - labels) / count
