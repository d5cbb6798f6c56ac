"""A cheap look at a child before it is trained: what falls below a share of other cells is not trained at all."""

from functools import lru_cache

import numpy as np

from nasnet_keras.children.scores import score
from nasnet_keras.data.batches import readable


class ScreenedOut(ValueError):
    """A child that is not worth training; the message says why."""


def check(settings, genotype, data, seed, among):
    """Raise `ScreenedOut` for a child whose score is below that of a share of other cells.

    Args:
        settings: a `ChildSettings`, whose `screen` names the score and whose `screen_share` is the share.
        genotype: a `Genotype`.
        data: the search's `Data`.
        seed: seed of the child's weights.
        among: a tuple of the genotypes to compare with: random ones of the space that is searched, the same for
            every child, so that a resumed search refuses the same children.

    Raises:
        ValueError: there is nothing to compare with, or too few of its scores are finite.
    """
    if not among:
        raise ValueError(f"`among` must be a tuple of genotypes to compare with. Received: {among!r}")
    least, useless = threshold(settings, data, tuple(among))
    if not np.isfinite(least):
        rule = f"a score that tells cells apart, and {useless} of {len(among)} random ones have no finite one"
        raise ValueError(f"`screen` must be {rule}, as where images are nearly alike. Received: {settings.screen!r}")
    value = child_score(settings, genotype, data, seed)
    if not value >= least:
        raise ScreenedOut(f"not trained: its {settings.screen}, {value:.6g}, is below {least:.6g}")


def child_score(settings, genotype, data, seed):
    """The score of an untrained child on the first training batch."""
    return score(settings.screen, settings.start(genotype, data, seed, None), *readable(settings.batches(data, 0)[0]))


@lru_cache(maxsize=1)
def threshold(settings, data, cells):
    """What the share of some cells stay below, not finite where too many scores are not, and how many are not."""
    scores = np.array([child_score(settings, cell, data, number) for number, cell in enumerate(cells)])
    with np.errstate(invalid="ignore"):  # between two infinite ones
        return float(np.quantile(scores, settings.screen_share)), int(np.sum(~np.isfinite(scores)))
