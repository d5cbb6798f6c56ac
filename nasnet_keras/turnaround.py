"""A child network that starts training at once: primitives run eagerly, nothing is traced or compiled.

A fresh Keras model of a small child spends ten seconds on tracing and graph optimisation and then
one on its training. A `Child` computes the same function from the same genotype (`program.plan`), with
the same weights and the same optimiser, by calling each primitive directly. All weights lie in one
flat vector, so that the optimiser is a handful of operations on it, and so are the moving statistics.

It is made for searches: many small networks, few steps each. What is to be trained for long is
better off as a `NASNet`; `Child.to_model` makes one with the same weights.
"""

from dataclasses import dataclass
from math import cos, pi

import numpy as np
import tensorflow as tf

from nasnet_keras.genotype import load_genotype
from nasnet_keras.primitives import PRIMITIVES
from nasnet_keras.program import model_variables, plan

raw = tf.raw_ops
TRUNCATION = 0.87962566103423978  # standard deviation of a standard normal cut off at ±2


@dataclass(frozen=True)
class Optimizer:
    """Stochastic gradient descent with momentum, global-norm clipping and one cosine period.

    Args:
        learning_rate: its value at the first step.
        steps: steps after which the cosine has brought it to 0; None keeps it constant.
        momentum: share of the last update kept.
        nesterov: whether to look ahead along the momentum.
        clip_norm: greatest norm of the whole gradient; None leaves it alone.

    Raises:
        ValueError: a value out of range.
    """

    learning_rate: float = 0.05
    steps: int | None = None
    momentum: float = 0.9
    nesterov: bool = False
    clip_norm: float | None = 5.0

    def __post_init__(self):
        if not self.learning_rate > 0:
            raise ValueError(f"`learning_rate` must be above 0. Received: {self.learning_rate!r}")
        if self.steps is not None and (type(self.steps) is not int or self.steps < 1):
            raise ValueError(f"`steps` must be an integer above 0, or None. Received: {self.steps!r}")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"`momentum` must be in [0, 1). Received: {self.momentum!r}")
        if self.clip_norm is not None and not self.clip_norm > 0:
            raise ValueError(f"`clip_norm` must be above 0, or None. Received: {self.clip_norm!r}")

    def rate(self, step):
        """The learning rate at a step, counted from 0."""
        if self.steps is None:
            return self.learning_rate
        return self.learning_rate * 0.5 * (1.0 + cos(pi * min(step / self.steps, 1.0)))


class Child:
    """A small network that is trained for a few steps and judged.

    Args:
        genotype: a `Genotype`, a stored name, or a file.
        seed: seed of the initial weights.
        optimizer: an `Optimizer`.
        **network: `repeats`, `filters`, `stem`, `input_shape`, `classes` and the further arguments of
            `program.plan`, which are `NASNet`'s.

    Raises:
        ValueError: naming the argument at fault.
    """

    def __init__(self, genotype, *, seed=0, optimizer=None, **network):
        self.genotype = load_genotype(genotype)
        self.network = network
        self.optimizer = optimizer or Optimizer()
        self.program = plan(self.genotype, **network)
        self.step = 0
        self._prepare()
        self.set_weights(initial_weights(self.program.weights, seed))

    def _prepare(self):
        """Constants, and for every step of the program its primitive and the numbers of its weights."""
        self._trained, self._moving, self._order = [], [], []
        self._steps = []
        for step in self.program.steps:
            numbers = ([], [])
            for weight in step.weights:
                pool = self._trained if weight.trainable else self._moving
                numbers[not weight.trainable].append(len(pool))
                self._order.append((weight.trainable, len(pool)))
                pool.append(weight)
            implementation = PRIMITIVES[step.primitive.kind](step.primitive, step.weights)
            reads = [value.number for value in step.reads]
            self._steps.append((implementation, reads, step.result.number, *numbers))
        self._norms = [one[0] for one in self._steps if one[4]]
        self._trained_sizes, self._moving_sizes = (
            tf.constant([weight.size for weight in pool]) for pool in (self._trained, self._moving)
        )
        self._shapes = [None if len(weight.shape) == 1 else tf.constant(weight.shape) for weight in self._trained]
        self._flat, self._axis = tf.constant([-1]), tf.constant(0)
        self._keep = tf.constant(self.program.options.batch_norm_momentum, tf.float32)
        self._corrections = {}
        self._readers = {}
        for _, reads, *_ in self._steps:
            for number in reads:
                self._readers[number] = self._readers.get(number, 0) + 1

    # Weights

    def get_weights(self):
        """All weights as NumPy arrays, in the order of `program.weights`."""
        pools = {True: self._pieces(True), False: self._pieces(False)}
        return [pools[trained][number].numpy() for trained, number in self._order]

    def set_weights(self, weights):
        """Replace all weights and start the optimiser anew; see `get_weights`."""
        expected = [weight.shape for weight in self.program.weights]
        if [np.shape(value) for value in weights] != expected:
            raise ValueError(f"`weights` must be {len(expected)} arrays in the order of the program's weights")
        pools = {True: [], False: []}
        for (trained, _), value in zip(self._order, weights, strict=True):
            pools[trained].append(np.ravel(value))
        self._weights, self._statistics = (
            tf.constant(np.concatenate(pools[trained]), tf.float32) for trained in (True, False)
        )
        self._velocity = tf.zeros_like(self._weights)
        self.step = 0

    def to_model(self, **further):
        """The ordinary network with the same weights, a `NASNet`.

        Args:
            **further: other arguments of `NASNet`.
        """
        from nasnet_keras.network import NASNet

        model = NASNet(self.genotype, **{**self.network, **further})
        for variable, value in zip(model_variables(model, self.program), self.get_weights(), strict=True):
            variable.assign(value)
        return model

    def from_model(self, model):
        """Take over the weights of the ordinary network of the same genotype."""
        self.set_weights([variable.numpy() for variable in model_variables(model, self.program)])

    def _pieces(self, trained):
        """The flat vector cut into tensors of the weights' shapes."""
        if not trained:
            return raw.SplitV(
                value=self._statistics, size_splits=self._moving_sizes, axis=self._axis, num_split=len(self._moving)
            )
        pieces = raw.SplitV(
            value=self._weights, size_splits=self._trained_sizes, axis=self._axis, num_split=len(self._trained)
        )
        return [
            piece if shape is None else raw.Reshape(tensor=piece, shape=shape)
            for piece, shape in zip(pieces, self._shapes, strict=True)
        ]

    # Computation

    def _forward(self, images, training):
        """Logits, and what each step saved."""
        weights = self._pieces(True)
        moving = None if training else self._pieces(False)
        values, saved = {0: images}, []
        left = dict(self._readers)
        for implementation, reads, result, trained, untrained in self._steps:
            own = [weights[number] for number in trained]
            if not training:
                own += [moving[number] for number in untrained]
            inputs = [values[number] for number in reads]
            values[result], kept = implementation.forward(inputs, own, training)
            if training:
                saved.append(kept)
            for number in reads:
                left[number] -= 1
                if not left[number]:
                    values.pop(number, None)
        return values[result], saved

    def _backward(self, saved, gradient):
        """The gradient of all trained weights as one flat vector."""
        pieces = [None] * len(self._trained)
        gradients = {self._steps[-1][2]: [gradient]}
        for (implementation, reads, result, trained, _), kept in zip(
            reversed(self._steps), reversed(saved), strict=True
        ):
            parts = gradients.pop(result)
            whole = parts[0] if len(parts) == 1 else raw.AddN(inputs=parts)
            to_inputs, to_weights = implementation.backward(kept, whole)
            for number, piece in zip(trained, to_weights, strict=True):
                pieces[number] = piece if self._shapes[number] is None else raw.Reshape(tensor=piece, shape=self._flat)
            for number, piece in zip(reads, to_inputs, strict=True):
                if number:
                    gradients.setdefault(number, []).append(piece)
        return raw.ConcatV2(values=pieces, axis=self._axis)

    def loss_and_gradient(self, images, labels):
        """Mean cross-entropy of a batch, and its gradient for the flat vector of trained weights.

        Args:
            images: [batch, height, width, channels], float32, in [-1, 1].
            labels: [batch] integers.
        """
        images, labels = tf.convert_to_tensor(images), tf.convert_to_tensor(labels)
        logits, saved = self._forward(images, training=True)
        losses, gradient = raw.SparseSoftmaxCrossEntropyWithLogits(features=logits, labels=labels)
        share = 1.0 / images.shape[0]
        self._batch_shape = tuple(images.shape)
        if self._batch_shape not in self._corrections:
            self._corrections[self._batch_shape] = _variance_corrections(self._steps, saved)
        return raw.Mean(input=losses, axis=self._axis), self._backward(saved, gradient * share)

    def train_step(self, images, labels):
        """One step of the optimiser on one batch; moving statistics too. Returns the loss before it, a float32 tensor.

        Args:
            images: [batch, height, width, channels], float32, in [-1, 1].
            labels: [batch] integers.
        """
        loss, gradient = self.loss_and_gradient(images, labels)
        statistics = raw.ConcatV2(values=[one for norm in self._norms for one in norm.statistics], axis=self._axis)
        statistics = statistics * self._corrections[self._batch_shape]
        self._statistics = statistics + self._keep * (self._statistics - statistics)
        options = self.optimizer
        rate = options.rate(self.step)
        if options.clip_norm is not None:
            norm = tf.sqrt(2.0 * raw.L2Loss(t=gradient))
            rate = rate * options.clip_norm / tf.maximum(norm, options.clip_norm)
        update = gradient * rate
        self._velocity = self._velocity * options.momentum - update
        change = self._velocity * options.momentum - update if options.nesterov else self._velocity
        self._weights = self._weights + change
        self.step += 1
        return loss

    def logits(self, images):
        """Logits [batch, classes] at inference, with the moving statistics."""
        return self._forward(tf.convert_to_tensor(images), training=False)[0]

    def evaluate(self, images, labels, batch_size=500):
        """Accuracy in [0, 1] at inference.

        Args:
            images: as for `train_step`.
            labels: [count] integers.
            batch_size: images at a time.
        """
        right = 0
        for start in range(0, len(images), batch_size):
            guesses = np.argmax(self.logits(images[start : start + batch_size]), axis=-1)
            right += int(np.sum(guesses == np.asarray(labels[start : start + batch_size])))
        return right / len(images)


def initial_weights(weights, seed):
    """Values for `Weight`s, alike for the same seed, distributed as the ordinary network's initialisers.

    Args:
        weights: the weights.
        seed: an integer.
    """
    generator = np.random.default_rng(seed)
    count = sum(weight.size for weight in weights if weight.fan_out)
    normal = generator.standard_normal(count, dtype=np.float32)
    while (outside := np.flatnonzero(np.abs(normal) > 2)).size:
        normal[outside] = generator.standard_normal(outside.size, dtype=np.float32)
    values, start = [], 0
    for weight in weights:
        if weight.fan_out:
            deviation = (2.0 / weight.fan_out) ** 0.5 / TRUNCATION
            values.append(normal[start : start + weight.size].reshape(weight.shape) * np.float32(deviation))
            start += weight.size
        else:
            values.append(np.full(weight.shape, weight.fill, np.float32))
    return values


def _variance_corrections(steps, saved):
    """What turns the unbiased variances that TensorFlow's kernel reports into those of Keras; 1 for the means."""
    factors = []
    for (_, _, _, _, untrained), kept in zip(steps, saved, strict=True):
        if untrained:
            *sizes, channels = kept[0].shape
            count = int(np.prod(sizes))
            factors += [np.ones(channels), np.full(channels, max(count - 1, 1) / count)]
    return tf.constant(np.concatenate(factors), tf.float32)
