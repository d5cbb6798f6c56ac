"""The loop of a search, and what becomes of a trial in whatever process its child runs.

Propose, place, finish: there is one loop, and three places, this process (`Here`), others of this machine, and Ray
(both a `distributed.pool.Pool`). A place has `resize`, `free`, `begin`, `is_busy`, `events` and `state`.
"""

import logging
import math
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass

import keras_tuner
import numpy as np

from nasnet_keras.children.settings import ChildSettings, child_seed
from nasnet_keras.pictures.pareto import COSTS
from nasnet_keras.search.callbacks import Copies
from nasnet_keras.search.cost import name_of_cost
from nasnet_keras.search.kerastuner import TrialStatus
from nasnet_keras.search.oracle import PROGRESS
from nasnet_keras.search.rules import SIZES, MedianStop, Rule, SoftTarget
from nasnet_keras.search.space import SearchSpace
from nasnet_keras.search.trials.format import one_line

logger = logging.getLogger(__name__)

SCREENED_AMONG = 32  # random cells of the space, whose scores a screened child is compared with
# What another run of the same child would only repeat; anything else, such as too little memory, may not come again.
FINAL = (ValueError, FloatingPointError)
# Trials in a row, or twice as many as there are workers, that end in such an accident: then a search ends, and the
# others wait.
ACCIDENTS = 10
# Arguments of Keras' `fit` that KerasTuner would pass on.
OF_FIT = ("epochs", "batch_size", "callbacks", "steps_per_epoch", "class_weight", "sample_weight", "shuffle")
OF_CHIEF = ("on_ready", "every", "clock")  # of `chief.serve`; the same program may be a worker, or search alone


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
        backend: Keras', wherever children run.
    """

    child: ChildSettings
    space: SearchSpace
    rules: tuple
    seed: int
    cost: Callable | None = None
    backend: str | None = None

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
        further, known = {}, {}
        if any(rule.needs_progress for rule in self.rules):
            further["on_epoch"] = report
        try:
            # A child without: of a search that an earlier version began, or one that reports the number of a target.
            if any(rule.needs_sizes for rule in self.rules) and callable(getattr(self.child, "sizes", None)):
                sizes = self.child.sizes(genotype, data)
                for reason in filter(None, (rule.refusal(sizes) for rule in self.rules)):
                    raise ValueError(reason)
                known = {name: sizes[name] for name in SIZES if name in sizes}
            further |= {"trial": int(trial_id)} if shared else {}
            if getattr(self.child, "screen", None):
                further["among"] = self.space.sample(SCREENED_AMONG, np.random.default_rng(0))
            metrics = (shared or self.child).evaluate(genotype, data, child_seed(self.seed, trial_id), **further)
            metrics = {**known, **metrics} if known else metrics
            seconds = time.perf_counter() - start  # of the child: what its cost takes to measure is not its own
            if self.cost is not None:
                metrics = {**metrics, name_of_cost(self.cost): self._measured(genotype, data, trial_id)}
        except FINAL as error:
            if isinstance(error, keras_tuner.errors.FatalError):
                raise
            reason = " ".join(str(error).split())[:300]
            raise keras_tuner.errors.FailedTrialError(f"{type(error).__name__}: {reason}") from error
        return {**metrics, "seconds": seconds}

    def _measured(self, genotype, data, trial_id):
        """What the function of the cost says; not a number where it fails, since the child has got its reward."""
        try:
            return float(self.cost(self.child.architecture(genotype, data)))
        except keras_tuner.errors.FatalError:
            raise
        except Exception as error:
            name, reason = name_of_cost(self.cost), f"{type(error).__name__}: {error}"
            logger.warning("`cost` %s has failed for trial %s, which has none now: %s", name, trial_id, reason)
            return math.nan


def check_use(strategy, child, rules, objective=None, cost=None, **taught):
    """Raise `ValueError` where a new search is given what would do nothing; one that has begun keeps what it has.

    So is an objective, if there is one, of a number that no child reports: each would be trained for nothing; and a
    rule that refuses by sizes which a child of one's own does not tell.

    Args:
        strategy, child, rules, objective, cost: of the search; `child` None: not one of these.
        **taught: arguments, by their names, that only teach the strategy.
    """
    strategy.check_use()
    if not strategy.learns:
        hooks = ("replayed", "refusal", "shaped", "is_hopeless")  # what else a rule may be for
        teaching = [("rules", rule) for rule in rules if type(rule).told is not Rule.told]
        teaching = [
            one for one in teaching if all(getattr(type(one[1]), hook) is getattr(Rule, hook) for hook in hooks)
        ]
        for name, value in (*taught.items(), *teaching):
            if value:
                rule = f"for a strategy that learns, and does nothing with {strategy.name}"
                raise ValueError(f"`{name}` must be {rule}. Received: {value!r:.200}")
    for rule in rules:
        refuses = rule.needs_sizes and type(rule).refusal is not Rule.refusal
        if refuses and child is not None and not callable(getattr(child, "sizes", None)):
            needed = "have `sizes`, as ChildSettings has: `parameters` and `multiply_adds` of a genotype"
            raise ValueError(f"`child` must {needed}, where `rules` have {type(rule).__name__}. Received: {child!r}")
    if type(child) is ChildSettings:
        child.check_use()
        reported = list(dict.fromkeys(["reward", *COSTS, *([] if cost is None else [name_of_cost(cost)])]))
        names = [one.name for one in getattr(objective, "objectives", [objective]) if one is not None]
        if unknown := [name for name in names if name not in reported]:
            rule = f"of what children report: {', '.join(reported)}"
            raise ValueError(f"`objective` must be {rule}. Received: {unknown[0]!r}")
        for rule in rules:
            if isinstance(rule, SoftTarget) and rule.metric not in reported:
                known = ", ".join(reported[1:])
                raise ValueError(
                    f"`metric` of SoftTarget must be of what children report: {known}. Received: {rule.metric!r}"
                )
            least = rule.epochs if isinstance(rule, MedianStop) else 1  # before which it stops nothing
            if rule.needs_progress and (child.epochs <= least or child.evaluation == "shared"):
                needed = f"`epochs` above {least} of independent children"
                received = f"{child.epochs} of {child.evaluation} children"
                raise ValueError(f"`rules` with {type(rule).__name__} need {needed}. Received: {received}")


def check_child(child, hypermodel=None, cost=None):
    """Raise `ValueError` unless it is None or can be asked for rewards, and is all that says what is built.

    A `cost` that is a function is asked with the child's `architecture`.
    """
    if hypermodel is not None:
        rule = "left out: cells are searched for, and `child=ChildSettings(…)` says what is built of them"
        raise ValueError(f"`hypermodel` must be {rule}. Received: {hypermodel!r}")
    if child is not None and (isinstance(child, type) or not callable(getattr(child, "evaluate", None))):
        raise ValueError(f"`child` must be a ChildSettings, or an object with its `evaluate`. Received: {child!r}")
    if callable(cost) and child is not None and not callable(getattr(child, "architecture", None)):
        rule = "have an `architecture`, with which `cost` is asked, as ChildSettings has; or leave out `cost`"
        raise ValueError(f"`child` must {rule}. Received: {child!r}")


def check_listener(on_trial, on_finished):
    """Raise `ValueError` where a tuner's listener would take the place of one that the oracle was given."""
    if on_trial and on_finished and not isinstance(on_finished, Copies):  # that is of a tuner before this one
        rule = "left out where the oracle has an `on_finished`, which it would take the place of"
        raise ValueError(f"`on_trial` must be {rule}. Received: {on_trial!r}")


def check_further(further):
    """Raise `ValueError` for an argument of a tuner's `search` that is no chief's."""
    if wrong := [name for name in further if name not in OF_CHIEF]:
        rule = "left out: `child=ChildSettings(epochs=…, batch_size=…, …)` says how children train"
        if wrong[0] not in OF_FIT:
            rule = "left out: a search has no such argument, and `child=ChildSettings(…)` says how children train"
        raise ValueError(f"`{wrong[0]}` must be {rule}. Received: {further[wrong[0]]!r}")


def check_children(child, data, genotypes):
    """Raise `ValueError` where the children of these genotypes could not be built, or not be judged, by these data."""
    if not len(data.validation):
        raise ValueError("`data` must have images for validation, which rewards come from. Received: none")
    for genotype in genotypes:
        child.architecture(genotype, data).program()


def failure(error):
    """(status, message) of a trial whose child has ended with this exception: its traceback, and may it be repeated."""
    is_final = isinstance(error, keras_tuner.errors.FailedTrialError)
    message = "".join(traceback.format_exception((is_final and error.__cause__) or error))
    return TrialStatus.FAILED if is_final else TrialStatus.INVALID, message


def ending(error):
    """The event, see `run_trials`, of a trial whose child has ended with this exception elsewhere."""
    if isinstance(error, keras_tuner.errors.FatalError):
        return {"fatal": str(error), "kind": type(error).__name__}
    status, message = failure(error)
    return {"status": status, "message": message, "metrics": {}}


def run_trials(oracle, place, on_begin=lambda trial: None, on_end=None, on_look=lambda state: None):
    """Propose, place, finish, until the search is done.

    Trials that somebody else was given and has not ended are left: the search is done without them.

    Args:
        oracle: the `NASNetOracle`, with its folder.
        place: where children run. Its `events` are triples of worker, trial, and a dict: `lost`, the reason, of a trial
            whose worker has died; `fatal` and `kind`, the text and the name of KerasTuner's error that ends a search;
            or `status`, `message`, and `metrics` if the oracle does not know them yet. While a child trains, it calls a
            function of trial, epoch and accuracy, which is true where the child may end.
        on_begin: called with a trial that was given out.
        on_end: called with one that has ended; by default the oracle's `end_trial`.
        on_look: called with what the place has to show, see `distributed.pool.Pool.state`, and `waiting`: how many
            begun trials wait for a worker, or for another trial of the same network.

    Raises:
        OSError: there is no place for children, the disk is full, or so many trials in a row have met with accidents
            that the others would, too. All is saved.
        RuntimeError: too many failures in a row.
        keras_tuner.errors.FatalError: a child has raised it.
    """

    def report(trial, epoch, accuracy):
        return oracle.update_trial(trial.trial_id, {PROGRESS: accuracy}, epoch).status == TrialStatus.STOPPED

    unlucky, workers = set(), 1  # trials in a row that met with accidents; the most workers that there were
    while not oracle.is_done():
        place.resize(oracle.trials_to_train())
        trial = None
        while (worker := place.free()) and (trial := oracle.create_trial(worker)).status == TrialStatus.RUNNING:
            on_begin(trial)
            place.begin(worker, trial)
        if state := place.state():
            workers = max(workers, state["workers"])
            on_look({**state, "waiting": len(oracle.open_trials()) - state["working"]})
        if trial is not None and trial.status == TrialStatus.STOPPED and not place.is_busy():
            if not oracle.is_done():
                logger.warning("left to whoever has them: the trials %s", ", ".join(oracle.open_trials()))
            return
        for worker, trial, event in place.events(1.0, report):
            if "fatal" in event:
                raise getattr(keras_tuner.errors, event["kind"], keras_tuner.errors.FatalError)(event["fatal"])
            if "lost" in event:
                why = event["lost"]
                logger.warning("trial %s is lost with %s and given out again: %s", trial.trial_id, worker, why)
                oracle.get_trial(trial.trial_id).message = f"lost with its worker: {why}"
                oracle.take_back(trial.trial_id)
                unlucky, last = unlucky | {trial.trial_id}, why
                continue
            trial.status, trial.message = event["status"], event["message"]
            if "metrics" in event and trial.status == TrialStatus.COMPLETED:
                try:
                    oracle.update_trial(trial.trial_id, event["metrics"])
                except (TypeError, ValueError) as error:  # it brought no reward
                    trial.status, trial.message = TrialStatus.INVALID, str(error)
            if "metrics" in event and trial.status != TrialStatus.COMPLETED:
                logger.warning("trial %s failed on %s: %s", trial.trial_id, worker, trial.message)
            met = trial.status == TrialStatus.INVALID
            unlucky, last = (unlucky | {trial.trial_id}, one_line(trial.message)) if met else (set(), None)
            (on_end or oracle.end_trial)(trial)
        if len(unlucky) >= max(ACCIDENTS, 2 * workers):
            raise OSError(f"{len(unlucky)} trials in a row have met with accidents, the last one: {last}")


class Here:
    """This process as a place: it trains one child at a time.

    Args:
        name: of its one worker.
        run: called with a trial; trains its child and sets its status and message.
    """

    def __init__(self, name, run):
        self._name, self._run, self._trial = name, run, None

    def resize(self, wanted):
        """Nothing: there is one worker."""

    def free(self):
        """The worker's name, or None while it has a trial."""
        return None if self._trial else self._name

    def begin(self, worker, trial):
        """Take a trial."""
        self._trial = trial

    def is_busy(self):
        """Whether there is a trial."""
        return self._trial is not None

    def events(self, seconds, report):
        """Train the child of the trial, and tell its end; without one, nothing after so many seconds."""
        trial, self._trial = self._trial, None
        if trial is None:
            time.sleep(seconds)
            return []
        self._run(trial)
        return [(self._name, trial, {"status": trial.status, "message": trial.message})]

    def state(self):
        """None: nothing that the trials would not show."""
