"""The table of the search strategies, and how one is made by its name."""

from copy import deepcopy

from nasnet_keras.search.space import SearchSpace
from nasnet_keras.search.strategies.controller import Controller
from nasnet_keras.search.strategies.evolution import RegularizedEvolution
from nasnet_keras.search.strategies.local_search import LocalSearch
from nasnet_keras.search.strategies.predictor import Predictor
from nasnet_keras.search.strategies.random_search import RandomSearch
from nasnet_keras.search.strategies.strategy import Strategy

STRATEGIES = {
    strategy.name: strategy for strategy in (Controller, RandomSearch, RegularizedEvolution, LocalSearch, Predictor)
}


MEASURED = 150  # trials up to which the predictor was measured to be ahead of evolution


def advice(trials):
    """One sentence: what was measured of strategies with so many trials (RESULTS.md)."""
    if trials <= MEASURED:
        what = "was ahead of evolution on twenty synthetic landscapes"
        return f"With up to {MEASURED} trials `--controller predictor` {what}."
    return "With 2,000 trials RL and evolution were measured to be level."


def make_strategy(strategy, space=None, seed=None, settings=None):
    """A new strategy by its name, or a copy of a given one.

    Args:
        strategy: a name of `STRATEGIES`; or a `Strategy`, and then the other
            arguments are left out or are those of the strategy.
        space: the `SearchSpace`; by default the paper's.
        seed: integer from 0 to 2**32 - 1; by default 0.
        settings: of the strategy's `Settings`; by default their defaults.

    Raises:
        ValueError: an unknown name, or an argument that the strategy refuses.
    """
    if isinstance(strategy, Strategy):
        for label, value in (("space", space), ("seed", seed), ("settings", settings)):
            if value is not None and value != getattr(strategy, label):
                raise ValueError(f"`{label}` must be left out or be that of the strategy. Received: {value!r}")
        return deepcopy(strategy)
    if not isinstance(strategy, str) or strategy not in STRATEGIES:
        raise ValueError(f"`strategy` must be a Strategy or one of {', '.join(STRATEGIES)}. Received: {strategy!r}")
    return STRATEGIES[strategy](SearchSpace() if space is None else space, settings, 0 if seed is None else seed)
