"""Gradient descent as a child does it, with the numbers of `keras.optimizers.SGD`."""

from dataclasses import dataclass
from math import cos, pi

from nasnet_keras.checks import check_integer, check_positive


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
        check_integer("steps", self.steps, least=1, optional=True)
        if not 0 <= self.momentum < 1:
            raise ValueError(f"`momentum` must be in [0, 1). Received: {self.momentum!r}")
        check_positive("clip_norm", self.clip_norm, optional=True)

    def rate(self, step):
        """The learning rate at a step, counted from 0."""
        if self.steps is None:
            return self.learning_rate
        return self.learning_rate * 0.5 * (1.0 + cos(pi * min(step / self.steps, 1.0)))
