"""What becomes of a trial in whatever process its child runs: the limits before it, the child, its failure's kind.

The same for a tuner that trains children itself, a worker on another machine, and an actor of Ray.
"""

import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass

import keras_tuner
import numpy as np

from nasnet_keras.children.settings import ChildSettings, child_seed
from nasnet_keras.search.kerastuner import TrialStatus
from nasnet_keras.search.space import SearchSpace

SCREENED_AMONG = 32  # random cells of the space, whose scores a screened child is compared with
# What another run of the same child would only repeat; anything else, such as too little memory, may not come again.
FINAL = (ValueError, FloatingPointError)


@dataclass(frozen=True)
class Children:
    """What all children of a search have in common.

    Args:
        child: a `ChildSettings`, or another object with its `evaluate` and, where rules need it, `sizes`.
        space: the `SearchSpace`.
        rules: a tuple of `rules.Rule`.
        seed: of the search.
        cost: None, or a function of a child's `Architecture` that gives its cost, a number that is kept among the
            metrics under the function's name.
    """

    child: ChildSettings
    space: SearchSpace
    rules: tuple
    seed: int
    cost: Callable | None = None

    def run(self, trial_id, values, data, report, shared=None):
        """Train a trial's child on `data.train`; its reward comes from `data.validation`.

        Args:
            trial_id: string.
            values: of the trial's hyperparameters, a dict.
            data: a `Data`.
            report: called after each epoch, if a rule wants to know, with its number, from 1, and the accuracy; true
                ends the training.
            shared: None, or the `SharedEvaluation` that stands for the child.

        Returns:
            The child's metrics and `seconds`, a dict of numbers.

        Raises:
            keras_tuner.errors.FailedTrialError: another run would fail in the same way.
        """
        start = time.perf_counter()
        genotype = self.space.decode_values(values)
        further = {}
        if any(rule.needs_progress for rule in self.rules):
            further["on_epoch"] = report
        try:
            if any(rule.needs_sizes for rule in self.rules):
                sizes = self.child.sizes(genotype, data)
                for reason in filter(None, (rule.refusal(sizes) for rule in self.rules)):
                    raise ValueError(reason)
            further |= {"trial": int(trial_id)} if shared else {}
            if getattr(self.child, "screen", None):
                further["among"] = self.space.sample(SCREENED_AMONG, np.random.default_rng(0))
            metrics = (shared or self.child).evaluate(genotype, data, child_seed(self.seed, trial_id), **further)
            if self.cost is not None:
                cost = self.cost(self.child.architecture(genotype, data))
                metrics = {**metrics, name_of_cost(self.cost): float(cost)}
        except FINAL as error:
            if isinstance(error, keras_tuner.errors.FatalError):
                raise
            reason = " ".join(str(error).split())[:300]
            raise keras_tuner.errors.FailedTrialError(f"{type(error).__name__}: {reason}") from error
        return {**metrics, "seconds": time.perf_counter() - start}


def name_of_cost(cost):
    """The name under which a cost is kept: itself, or that of the function which measures it; raises `ValueError`."""
    if not isinstance(cost, str) and not callable(cost):
        raise ValueError(f"`cost` must be a name or a function of a child's Architecture. Received: {cost!r}")
    name = cost if isinstance(cost, str) else getattr(cost, "__name__", "")
    if isinstance(cost, str):
        return name
    return name if name.isidentifier() else "cost"


def failure(error):
    """(status, message) of a trial whose child has ended with this exception: its traceback, and may it be repeated."""
    is_final = isinstance(error, keras_tuner.errors.FailedTrialError)
    message = "".join(traceback.format_exception((is_final and error.__cause__) or error))
    return TrialStatus.FAILED if is_final else TrialStatus.INVALID, message
