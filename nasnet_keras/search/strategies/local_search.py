"""Local search: from the best of some random cells to a better neighbour, and from there on.

Source: White et al. 2021 (arXiv 2005.02960), whose neighbours differ in one decision as well. Here the first better one
is taken, as there are some four hundred neighbours, more than most searches have trials.
"""

from dataclasses import dataclass

import numpy as np

from nasnet_keras.checks import check_integer, take_integers
from nasnet_keras.search.strategies.strategy import Strategy

TRIES = 200  # mutations without one that is new, after which the neighbours count as known


@dataclass(frozen=True)
class LocalSettings:
    """How local search begins.

    Args:
        beginning: random cells, of which the best is the first to climb from.

    Raises:
        ValueError: naming the argument at fault.
    """

    beginning: int = 10

    def __post_init__(self):
        take_integers(self, "beginning")
        check_integer("beginning", self.beginning, least=1)


class LocalSearch(Strategy):
    """Hill climbing by single decisions; a network that was tried, or is being tried, is not proposed again.

    Where all neighbours of the best cell were tried, random cells follow until one is better. A failed child is a cell
    that was tried. The best trial of another search is only where this one begins: its children may have been trained
    otherwise, so that cell is trained first, and counts with its own reward.

    Attributes:
        version: number of rewards that were told.
    """

    name = "local"
    Settings = LocalSettings

    def __init__(self, space, settings=None, seed=0):
        super().__init__(space, settings, seed)
        self._tried, self._best = {}, None  # {decisions: reward, None for a failure}, and the best of them
        self._names = set()  # of the networks that were tried
        self._start = None  # decisions and reward of another search's best

    @property
    def learns_after(self):
        """As `Strategy.learns_after`."""
        return self.settings.beginning

    def _sample(self, rng):
        known = self._names | {self._name(decisions) for decisions in self.pending.values()}
        if self.version >= self.settings.beginning:
            start = self._start and self._start[0]
            if start and self._name(start) not in known:
                return start, ()
            for _ in range(TRIES):
                decisions = self.space.mutated(self._best or start, rng)
                if self._name(decisions) not in known:
                    return decisions, ()
        return self._unknown(known, rng), ()

    def _learn(self, proposal, reward):
        self.version += 1
        if proposal.is_foreign:
            if self._start is None or reward > self._start[1]:
                self._start = proposal.decisions, reward
            return
        self._take(proposal.decisions, reward)

    def _fail(self, proposal):
        if not proposal.is_foreign and proposal.decisions not in self._tried:
            self._take(proposal.decisions, None)

    def _take(self, decisions, reward):
        self._tried[decisions] = reward
        self._names.add(self._name(decisions))
        if decisions == self._best:  # told again, and perhaps worse
            rewards = {cell: value for cell, value in self._tried.items() if value is not None}
            self._best = max(rewards, key=rewards.get)
        elif reward is not None and (self._best is None or reward > self._tried[self._best]):
            self._best = decisions

    def _state(self):
        decisions = np.array(list(self._tried), dtype=np.int64)
        rewards = np.array([np.nan if reward is None else reward for reward in self._tried.values()])
        best = None if self._best is None else list(self._tried).index(self._best)
        return {"best": best, "start": self._start}, {"decisions": decisions, "rewards": rewards}

    def _set_state(self, state, arrays):
        rewards = [None if np.isnan(reward) else reward for reward in arrays["rewards"].tolist()]
        self._tried = dict(zip(map(tuple, arrays["decisions"].tolist()), rewards, strict=True))
        self._names = set(map(self._name, self._tried))
        self._best = None if state["best"] is None else list(self._tried)[state["best"]]
        self._start = state["start"] and (tuple(state["start"][0]), state["start"][1])
