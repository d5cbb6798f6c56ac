"""All weights of a child as one flat NumPy vector: its layout, and descent on it."""

from itertools import groupby
from math import prod

import numpy as np


def descend(optimizer, weights, velocity, gradient, rate):
    """One step on flat vectors: the weights and the velocity after it.

    Args:
        optimizer: a `descent.Optimizer`.
        weights: all trained weights.
        velocity: the last update; zeros before the first.
        gradient: the gradient of the mean loss.
        rate: the learning rate.
    """
    rate = np.float32(rate)
    if optimizer.clip_norm is not None:
        norm = np.sqrt(np.sum(gradient * gradient))
        rate *= np.float32(optimizer.clip_norm) / max(norm, np.float32(optimizer.clip_norm))
    momentum = np.float32(optimizer.momentum)
    change = gradient * rate
    velocity = velocity * momentum - change
    return weights + (velocity * momentum - change if optimizer.nesterov else velocity), velocity


class Layout:
    """The places of some weights in a flat vector, where those of equal shape stand side by side.

    So a graph cuts and joins a few dozen arrays [count, …] instead of hundreds of weights.

    Args:
        shapes: the weights' shapes.

    Attributes:
        shapes: of each group, the count included.
    """

    def __init__(self, shapes):
        order = sorted(range(len(shapes)), key=lambda number: shapes[number])
        groups = [(shape, list(numbers)) for shape, numbers in groupby(order, key=lambda number: shapes[number])]
        self.shapes = tuple((len(numbers), *shape) for shape, numbers in groups)
        self._groups, self._places = [numbers for _, numbers in groups], np.argsort(order)

    def cut(self, flat):
        """The weights of a vector, as views."""
        ends = np.cumsum([prod(shape) for shape in self.shapes])[:-1]
        return self.in_order(part.reshape(shape) for part, shape in zip(np.split(flat, ends), self.shapes, strict=True))

    def join(self, weights):
        """The vector of some weights."""
        return np.concatenate([np.ravel(one) for group in self.groups_of(weights) for one in group]).astype(np.float32)

    def groups_of(self, weights):
        """What belongs to each weight, as a list for each group."""
        return [[weights[number] for number in numbers] for numbers in self._groups]

    def in_order(self, groups):
        """What belongs to each weight, from a sequence for each group."""
        everything = [one for group in groups for one in group]
        return [everything[place] for place in self._places]
