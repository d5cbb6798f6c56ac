"""Gradient descent as a child does it: the numbers of `keras.optimizers.SGD`, on one flat vector of all weights."""

from dataclasses import dataclass
from itertools import groupby
from math import cos, pi, prod

import numpy as np

from nasnet_keras.checks import check_integer, check_positive, take_integers


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
        check_positive("learning_rate", self.learning_rate)
        take_integers(self, "steps")
        check_integer("steps", self.steps, least=1, optional=True)
        if not 0 <= self.momentum < 1:
            raise ValueError(f"`momentum` must be in [0, 1). Received: {self.momentum!r}")
        check_positive("clip_norm", self.clip_norm, optional=True, finite=True)

    def rate(self, step):
        """The learning rate at a step, counted from 0."""
        if self.steps is None:
            return self.learning_rate
        return self.learning_rate * 0.5 * (1.0 + cos(pi * min(step / self.steps, 1.0)))


def descend(optimizer, weights, velocity, gradient, rate):
    """One step on flat vectors: the weights and the velocity after it.

    Args:
        optimizer: an `Optimizer`.
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


class FlatWeights:
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
