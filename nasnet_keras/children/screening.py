"""A cheap look at a child before it is trained: what falls below a share of random cells is not trained at all."""

from functools import lru_cache

import numpy as np

from nasnet_keras.children.scores import score
from nasnet_keras.search.space import SearchSpace

RANDOM_CELLS = 32  # whose scores the threshold comes from


class ScreenedOut(ValueError):
    """A child that is not worth training; the message says why."""


def check(settings, genotype, data, seed):
    """Raise `ScreenedOut` for a child whose score is below that of a share of random cells.

    The random cells depend on the settings and the data alone: a resumed search refuses the same children.

    Args:
        settings: a `ChildSettings`, whose `screen` names the score and whose `screen_share` is the share.
        genotype: a `Genotype`.
        data: the search's `Data`.
        seed: seed of the child's weights.
    """
    value, least = child_score(settings, genotype, data, seed), threshold(settings, data, len(genotype.normal.blocks))
    if not value >= least:
        raise ScreenedOut(f"not trained: its {settings.screen}, {value:.6g}, is below {least:.6g}")


def child_score(settings, genotype, data, seed):
    """The score of an untrained child on the first training batch."""
    return score(settings.screen, settings.start(genotype, data, seed, None), *settings.batches(data, 0)[0])


@lru_cache(maxsize=1)
def threshold(settings, data, blocks):
    """What the share of random cells with so many blocks stay below."""
    space, rng = SearchSpace(blocks=blocks), np.random.default_rng(0)
    cells = [space.decode(space.random(rng)) for _ in range(RANDOM_CELLS)]
    scores = [child_score(settings, cell, data, number) for number, cell in enumerate(cells)]
    return float(np.quantile(scores, settings.screen_share))
