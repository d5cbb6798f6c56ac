"""Random search: the baseline that every search has to beat (Zoph et al. 2018, section 4.4)."""

from dataclasses import dataclass

from nasnet_keras.search.strategies.strategy import Strategy


@dataclass(frozen=True)
class RandomSettings:
    """Random search has nothing to set."""


class RandomSearch(Strategy):
    """Every decision is drawn uniformly; rewards are counted and teach nothing."""

    name = "random"
    learns = False
    Settings = RandomSettings

    def _sample(self, rng):
        return self.space.random(rng), ()
