"""Regularised evolution, the strongest simple rival (Real et al. 2019, arXiv 1802.01548)."""

from collections import deque
from dataclasses import dataclass

import numpy as np

from nasnet_keras.checks import check_integer, take_integers
from nasnet_keras.search.strategies.strategy import Strategy


@dataclass(frozen=True)
class EvolutionSettings:
    """How regularised evolution selects; the defaults are those of Real et al. 2019.

    Args:
        population: how many of the latest children may become parents; until that many have a
            reward, proposals are random.
        sample: how many of them are drawn, with replacement, to find the parent: the best.

    Raises:
        ValueError: naming the argument at fault.
    """

    population: int = 100
    sample: int = 25

    def __post_init__(self):
        take_integers(self, "population", "sample")
        for label in ("population", "sample"):
            check_integer(label, getattr(self, label), least=1)


class RegularizedEvolution(Strategy):
    """Ageing evolution: the best of a random sample is mutated, and the oldest child leaves the population.

    A mutation changes exactly one decision, drawn uniformly among those that have an
    alternative, to another choice; there is no identity mutation. So inputs and operations
    are equally likely, as in Real et al. 2019; the combination, which their space does not
    have, is half as likely as either, because a block has one of it and two of them.
    A child's age counts from the arrival of its reward. A failed child never enters.

    Attributes:
        version: number of rewards that entered the population.
    """

    name = "evolution"
    Settings = EvolutionSettings

    def __init__(self, space, settings=None, seed=0):
        super().__init__(space, settings, seed)
        self._population = deque(maxlen=self.settings.population)  # (decisions, reward), oldest first

    @property
    def learns_after(self):
        """As `Strategy.learns_after`."""
        return self.settings.population

    def _sample(self, rng):
        if len(self._population) < self.settings.population:
            return self.space.random(rng), ()
        drawn = rng.integers(len(self._population), size=self.settings.sample)
        parent = max((self._population[index] for index in drawn), key=lambda child: child[1])[0]
        return self.space.mutated(parent, rng), ()

    def _learn(self, proposal, reward):
        self._population.append((proposal.decisions, reward))
        self.version += 1

    def _state(self):
        decisions = np.array([child[0] for child in self._population], dtype=np.int64)
        rewards = np.array([child[1] for child in self._population])
        return {}, {"decisions": decisions, "rewards": rewards}

    def _set_state(self, state, arrays):
        children = zip(arrays["decisions"].tolist(), arrays["rewards"].tolist(), strict=True)
        restored = [(tuple(decisions), reward) for decisions, reward in children]
        self._population = deque(restored, maxlen=self.settings.population)
