"""One flat vector of weights: its layout, and descent on it with the numbers of `keras.optimizers.SGD`."""

from dataclasses import dataclass
from math import cos, pi

import tensorflow as tf
from keras import ops


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

    def update(self, weights, velocity, gradient, rate):
        """One step on flat vectors: the weights and the velocity after it.

        Args:
            weights: all trained weights.
            velocity: the last update; zeros before the first.
            gradient: the gradient of the mean loss.
            rate: the learning rate, a scalar.
        """
        if self.clip_norm is not None:
            norm = ops.sqrt(ops.sum(gradient * gradient))
            rate = rate * (self.clip_norm / ops.maximum(norm, self.clip_norm))
        change = gradient * rate
        velocity = velocity * self.momentum - change
        return weights + (velocity * self.momentum - change if self.nesterov else velocity), velocity


class Layout:
    """Cuts a flat vector into the pieces of some weights, and joins such pieces.

    It does so in groups of `GROUP`: TensorFlow keeps a kernel for every number of pieces that it ever met.

    Args:
        weights: `program.Weight`s.
    """

    GROUP = 32

    def __init__(self, weights):
        sizes = [weight.size for weight in weights]
        groups = [sizes[start : start + self.GROUP] for start in range(0, len(sizes), self.GROUP)]
        self.axis = tf.constant(0)
        self.whole = tf.constant([sum(group) for group in groups], tf.int32)
        self.groups = [tf.constant(group) for group in groups]

    def cut(self, flat):
        """The pieces, vectors."""
        parts = tf.raw_ops.SplitV(value=flat, size_splits=self.whole, axis=self.axis, num_split=len(self.groups))
        pieces = []
        for part, sizes in zip(parts, self.groups, strict=True):
            pieces += tf.raw_ops.SplitV(value=part, size_splits=sizes, axis=self.axis, num_split=len(sizes))
        return pieces

    def join(self, pieces):
        """The flat vector."""
        while len(pieces) > 1:
            groups = (pieces[start : start + self.GROUP] for start in range(0, len(pieces), self.GROUP))
            pieces = [tf.raw_ops.ConcatV2(values=one, axis=self.axis) if len(one) > 1 else one[0] for one in groups]
        return pieces[0]
