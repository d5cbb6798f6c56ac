"""A predictor decides which cells are worth a child: an ensemble of small regressors on the rewards so far.

Where there are some dozens or hundreds of children, predictors need fewer of them than reinforcement learning (Liu et
al. 2018, PNAS, arXiv 1712.00559; White et al. 2021, BANANAS, arXiv 1910.11858).
"""

from dataclasses import dataclass
from functools import cache

import numpy as np

from nasnet_keras.checks import check_integer, check_share, take_integers, take_numbers
from nasnet_keras.search.strategies.strategy import Strategy

MOST, KEPT = 400, 300  # cells that are learnt from; beyond, these are kept, the best and the latest in halves
MOST_CHANGES, ANOTHER = 5, 0.4  # decisions that a candidate differs in from its parent, and the chance of one more


@dataclass(frozen=True)
class PredictorSettings:
    """How the predictor looks for the next cell.

    Args:
        beginning: random cells with a reward before anything is predicted.
        candidates: cells that are predicted for one proposal.
        parents: of how many of the best cells candidates are mutants.
        random: share of random cells in the first half of the candidates.

    Raises:
        ValueError: naming the argument at fault.
    """

    beginning: int = 12
    candidates: int = 300
    parents: int = 10
    random: float = 0.2

    def __post_init__(self):
        take_integers(self, "beginning", "candidates", "parents")
        for label, least in (("beginning", 2), ("candidates", 2), ("parents", 1)):
            check_integer(label, getattr(self, label), least=least)
        take_numbers(self, "random")
        check_share("random", self.random)


class Predictor(Strategy):
    """Proposes the cell of the highest expected improvement (Jones et al. 1998) among mutants of the best, and others.

    The first half of the candidates are mutants of the cells that the regressors think best of, and random cells; the
    second half mutants of the most promising of the first. A network that was tried, is being tried, or has failed is
    not proposed again, however it is written. All regressors learn anew for every proposal, from all rewards told until
    then; a pending cell counts as one whose reward will be as predicted, so nothing is expected of its like.
    Regressors to which the same network written in another way is not quite the same are asked only where the rewards
    speak for them, see `ensemble.WRITINGS`. The trials of another search say which cells have like rewards, not how
    high rewards are here, and the best of its cells are candidates. Beyond 400 cells some are forgotten, so that a
    proposal costs no more in long searches.

    Attributes:
        version: number of rewards that were told.
    """

    name = "predictor"
    Settings = PredictorSettings

    def __init__(self, space, settings=None, seed=0):
        super().__init__(space, settings, seed)
        # SciPy takes some tenths of a second to import, which only this strategy has to wait for.
        from nasnet_keras.search.strategies.ensemble import Ensemble, Known, targets
        from nasnet_keras.search.strategies.features import CellFeatures

        self._ensemble, self._targets = Ensemble, targets
        self._nothing = self._known = Known.nothing(CellFeatures(space))
        self._choices = np.array([len(decision.choices) for decision in space.decisions])
        self._mutable = np.flatnonzero(self._choices > 1)
        # What is learnt from, in the order of the rewards, and whether it is another search's.
        self._cells, self._rewards, self._foreign = [], [], []
        self._tried = set()  # canonical names

    @property
    def learns_after(self):
        """As `Strategy.learns_after`."""
        return self.settings.beginning

    def _sample(self, rng):
        settings = self.settings
        known = self._tried | {self._name(decisions) for decisions in self.pending.values()}
        if len(self._cells) < settings.beginning:
            return self._unknown(known, rng), ()
        with _libraries().limit(limits=1, user_api="blas"):
            candidates = self._ranked(rng)
        for decisions in map(tuple, candidates):
            if self._name(decisions) not in known:
                return decisions, ()
        return self._unknown(known, rng), ()

    def _ranked(self, rng):
        """Candidates as lists of decisions, the most promising first."""
        settings, foreign = self.settings, np.array(self._foreign)
        self._known = self._known.with_more(self._cells[len(self._known.cells) :])
        ensemble = self._ensemble(self._known.with_more([*self.pending.values()]), np.array(self._rewards), foreign)
        count = settings.candidates // 2
        random = round(settings.random * count)
        parents = np.array(self._cells)[_highest(ensemble.means)[: settings.parents]]
        first = np.concatenate([self._mutants(parents, count - random, rng), self._random(random, rng)])
        if foreign.any():
            first = np.concatenate([first, parents])
        gains = ensemble.expected_gains(first)
        parents = first[_highest(gains)[: settings.parents]]
        second = self._mutants(parents, settings.candidates - count, rng)
        gains = np.concatenate([gains, ensemble.expected_gains(second)])
        return np.concatenate([first, second])[_highest(gains)].tolist()

    def _random(self, count, rng):
        return (rng.random((count, len(self._choices))) * self._choices).astype(int)

    def _mutants(self, parents, count, rng):
        """As `SearchSpace.mutated`, many at once, and with several changes."""
        mutants = parents[rng.integers(len(parents), size=count)]
        changes = np.minimum(rng.geometric(1 - ANOTHER, size=count), MOST_CHANGES)
        while (rows := np.flatnonzero(changes)).size:
            places = self._mutable[rng.integers(len(self._mutable), size=len(rows))]
            choices = self._choices[places]
            mutants[rows, places] = (mutants[rows, places] + 1 + rng.integers(choices - 1)) % choices
            changes[rows] -= 1
        return mutants

    def _learn(self, proposal, reward):
        if not proposal.is_foreign:
            self._tried.add(self._name(proposal.decisions))
        self._cells.append(proposal.decisions)
        self._rewards.append(reward)
        self._foreign.append(proposal.is_foreign)
        if len(self._cells) > MOST:
            scaled = self._targets(np.array(self._rewards), np.array(self._foreign))
            best = set(_highest(scaled)[: KEPT // 2].tolist())
            latest = [place for place in range(len(self._cells)) if place not in best][-(KEPT - len(best)) :]
            kept = sorted([*best, *latest])
            parts = self._cells, self._rewards, self._foreign
            self._cells, self._rewards, self._foreign = ([values[place] for place in kept] for values in parts)
            self._known = self._nothing
        self.version += 1

    def _fail(self, proposal):
        self._tried.add(self._name(proposal.decisions))

    def _state(self):
        tried = np.array(sorted(int(name, 16) for name in self._tried), dtype=np.uint64)
        cells = np.array(self._cells, dtype=np.int64).reshape(-1, len(self._choices))
        foreign = np.array(self._foreign, dtype=bool)
        return {}, {"cells": cells, "rewards": np.array(self._rewards), "foreign": foreign, "tried": tried}

    def _set_state(self, state, arrays):
        self._cells = [tuple(cell) for cell in arrays["cells"].tolist()]
        self._rewards = arrays["rewards"].tolist()
        self._foreign = arrays["foreign"].tolist()
        self._tried = {f"{name:016x}" for name in arrays["tried"].tolist()}
        self._known = self._nothing


@cache
def _libraries():
    """The libraries of linear algebra: with several threads for matrices this small they mostly wait for each other."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def _highest(values):
    """The places of the values, the highest first, and of equals the first."""
    return np.argsort(-values, kind="stable")
