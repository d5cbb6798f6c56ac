"""The table of the search strategies, and how one is made by its name."""

import logging
from copy import deepcopy

from nasnet_keras.search.space import SearchSpace
from nasnet_keras.search.strategies.controller import Controller
from nasnet_keras.search.strategies.evolution import RegularizedEvolution
from nasnet_keras.search.strategies.local_search import LocalSearch
from nasnet_keras.search.strategies.predictor import Predictor, PredictorSettings
from nasnet_keras.search.strategies.random_search import RandomSearch
from nasnet_keras.search.strategies.strategy import Strategy

logger = logging.getLogger(__name__)

STRATEGIES = {
    strategy.name: strategy for strategy in (Controller, RandomSearch, RegularizedEvolution, LocalSearch, Predictor)
}


MEASURED = 300  # trials up to which the predictor was measured to be ahead of all others


def advice(trials):
    """One sentence: what was measured of strategies with so many trials (RESULTS.md)."""
    if trials <= MEASURED:
        what = "was ahead of evolution, local search and RL on two hundred synthetic landscapes"
        return f"With up to {MEASURED} trials `--controller predictor` {what}."
    tuned = "`--controller-batch 20 --controller-entropy 0.0005 --controller-baseline 0.9`"
    return f"With 2,000 trials RL was level with evolution with {tuned}, and behind it with its defaults."


def random_to_the_end(strategy, max_trials, left):
    """One line where all trials are over before a proposal follows from any reward; else None.

    Args:
        strategy: a `Strategy`, with what it was told so far.
        max_trials: of the search.
        left: how many of them have not ended.
    """
    needed = strategy.learns_after
    if not 0 < left <= needed - (strategy.feedbacks - strategy.failures):
        return None
    is_better = strategy.name != Predictor.name and PredictorSettings.beginning < max_trials
    advice = " (for so few, the controller predictor was measured ahead)" if is_better else ""
    until = f"until {needed} children have a reward"
    return f"{strategy.name} proposes at random {until}: with `max_trials` {max_trials} this is a random search{advice}"


def warn_if_random(strategy, max_trials, left):
    """Log what `random_to_the_end` has to say."""
    if told := random_to_the_end(strategy, max_trials, left):
        logger.warning("%s", told)


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
    if space is not None and not isinstance(space, SearchSpace):
        raise ValueError(f"`space` must be a SearchSpace. Received: {space!r}")
    return STRATEGIES[strategy](SearchSpace() if space is None else space, settings, 0 if seed is None else seed)
