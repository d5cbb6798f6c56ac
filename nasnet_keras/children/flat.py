"""All weights as one flat TensorFlow vector: its layout, and descent on it."""

import tensorflow as tf


def descend(optimizer, weights, velocity, gradient, rate):
    """One step on flat vectors: the weights and the velocity after it.

    Args:
        optimizer: a `descent.Optimizer`.
        weights: all trained weights.
        velocity: the last update; zeros before the first.
        gradient: the gradient of the mean loss.
        rate: the learning rate, a scalar.
    """
    if optimizer.clip_norm is not None:
        norm = tf.sqrt(tf.reduce_sum(gradient * gradient))
        rate = rate * (optimizer.clip_norm / tf.maximum(norm, optimizer.clip_norm))
    change = gradient * rate
    velocity = velocity * optimizer.momentum - change
    return weights + (velocity * optimizer.momentum - change if optimizer.nesterov else velocity), velocity


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
