"""The KerasTuner oracle: a thin adapter from trials to a strategy's `propose` and `feedback`.

KerasTuner's own oracle writes every trial, and a file about all of them, again and
again and in place: a trial costs the more the more there are, and a crash at the wrong
moment makes the project unloadable. Here every started and every finished trial is one
line in a log that only grows (see `archive`); a project that was killed at any instant
goes on, and the trials that were started and not finished are given out again, under
the same ids and with the same decisions. Rules (see `rules`) may answer in a worker's place.
"""

import copy
import logging
import time

import keras_tuner
from keras_tuner.engine.trial import TrialStatus

from nasnet_keras.checks import check_integer, check_positive
from nasnet_keras.search.resumable import ResumableOracle
from nasnet_keras.search.strategies.choice import make_strategy
from nasnet_keras.search.strategies.proposal import Strategy
from nasnet_keras.search.trials.records import one_line

logger = logging.getLogger(__name__)

REWARD = keras_tuner.Objective("reward", "max")
PROGRESS = "progress"  # the metric by which a running child reports its accuracy, epoch by epoch
EXHAUSTED = 1000  # so many known networks in a row mean that the space holds no others


class NASNetOracle(ResumableOracle):
    """A KerasTuner oracle that searches for cells.

    `space.decode_values(trial.hyperparameters.values)` gives a trial's `Genotype`. Metrics
    named `seconds`, `parameters` and `multiply_adds` that come with the reward are logged
    with the trial. A trial whose reward is missing, NaN or infinite has failed; a failed
    trial is logged with its reason and the search goes on.

    The project folder is read when the oracle is first used, so a search goes on whenever
    its logs are there, and a tuner's `overwrite=True` clears them. From then on the folder is this
    oracle's, until `close`: another process is refused, and an oracle that is made later in this process
    takes it over, after which this one raises a `ValueError` that says so. Nothing is printed unless
    `verbose` is set to 1, which `tuner.search(verbose=1)` does.

    Where a rule repeats known rewards, a space can be exhausted: after 1000 known networks in a row no
    further trial is started, whatever `max_trials` says.

    Args:
        max_trials: trials in all, those of earlier runs included; None for no limit.
        space: a `SearchSpace`; by default the paper's.
        strategy: `"rl"`, `"random"`, `"evolution"`, or a `Strategy` object, which is copied.
        objective: a `keras_tuner.Objective`; a strategy is told the negative of one to minimise.
        seed: integer from 0 to 2**32 - 1; by default that of the search in the folder, or a new one.
        settings: of the strategy; by default its defaults.
        max_retries_per_trial: how often a trial that crashed is given out again before it counts
            as failed. A child trains from the same seed again, so this helps against accidents only.
        max_consecutive_failed_trials: after every so many failures in a row `end_trial` raises a
            `RuntimeError`, with everything saved; None for never.
        max_attempts: how often a trial is given out in all before it counts as failed, runs that ended
            with the death of their process included; None for no limit.
        rules: a tuple of `rules.Rule`.
        hours: after so many, counted from this oracle's first trial, no trial is given out; None for no limit.
        imports: what a new search begins with: dicts with `decisions` and `reward`, see `inheritance.read_imports`.

    Attributes:
        space: the `SearchSpace`.
        strategy: the live `Strategy`, for instance to read its `diagnostics`.
        on_finished: called with the finished trials, as `finished_trials` gives them, whenever some were added.

    Raises:
        ValueError: naming the argument at fault; at the first use, if the folder belongs to another search.
    """

    def __init__(
        self,
        max_trials,
        space=None,
        strategy="rl",
        objective=REWARD,
        seed=None,
        *,
        settings=None,
        max_retries_per_trial=0,
        max_consecutive_failed_trials=None,
        max_attempts=5,
        rules=(),
        hours=None,
        imports=(),
    ):
        check_integer("max_trials", max_trials, 1, optional=True)
        check_integer("max_retries_per_trial", max_retries_per_trial, 0)
        check_integer("max_consecutive_failed_trials", max_consecutive_failed_trials, 1, optional=True)
        check_integer("max_attempts", max_attempts, 1, optional=True)
        check_positive("hours", hours, optional=True)
        self.strategy = make_strategy(strategy, space, seed, settings)
        super().__init__(
            objective,
            max_trials,
            self.strategy.space,
            lambda seed: make_strategy(strategy, space, seed, settings),
            self.strategy.seed if isinstance(strategy, Strategy) else seed,
            rules,
            imports,
        )
        self.max_retries_per_trial = max_retries_per_trial
        self.max_consecutive_failed_trials = max_consecutive_failed_trials
        self.max_attempts = max_attempts
        self._hours, self._ends_at = hours, None

    def create_trial(self, tuner_id):
        """The next trial for a worker: one that was started and not finished, or a new one.

        Args:
            tuner_id: string, the worker's id. A worker that has an unfinished trial gets it again.

        Returns:
            A `keras_tuner` Trial with status RUNNING, or STOPPED after `max_trials` or `hours`.
        """
        with self._announcing(), self._lock:
            ledger = self._attach()
            if self._hours is not None and self._ends_at is None:
                self._ends_at = time.monotonic() + 3600 * self._hours
            trial = self.ongoing_trials.get(tuner_id)
            if trial is None or self._settle(trial):
                trial = self._next()
            if trial is None:
                self.tuner_ids.discard(tuner_id)
                return self._form.new(ledger.next_number, status=TrialStatus.STOPPED)
            with self._all_or_nothing():
                ledger.give_out(trial, tuner_id)
            self.tuner_ids.add(tuner_id)
            self.ongoing_trials[tuner_id] = trial
            self._display.on_trial_begin(trial)
            return trial

    def update_trial(self, trial_id, metrics, step=0):
        """Report a trial's metrics, among them the objective.

        Args:
            trial_id: string.
            metrics: numbers by name. A number that is not finite is not kept; if it is the
                objective, the trial has failed. `progress` alone is the accuracy after an epoch, `step`.
            step: of several reports the best step counts.

        Returns:
            The trial; after `progress` its status is STOPPED if the child may as well end here.

        Raises:
            ValueError: an unknown trial, or the objective is missing.
        """
        with self._lock:
            trial = self.get_trial(trial_id)
            is_open = trial_id in self._ledger.open
            if set(metrics) == {PROGRESS}:
                answer = copy.copy(trial)
                if is_open and self._ledger.progress(trial, metrics[PROGRESS], step):
                    answer.status = TrialStatus.STOPPED
                return answer
            self._check_objective_found(metrics)
            if is_open:
                self._form.report(trial, metrics, step)
            return trial

    def end_trial(self, trial):
        """Finish a trial: log it, tell the strategy, and from time to time save the strategy.

        Args:
            trial: the trial or a copy of it, with its final status: COMPLETED, INVALID (crashed,
                may be tried again) or FAILED, with a message that says why; RUNNING counts as
                COMPLETED. A trial that has ended before is ignored.

        Raises:
            ValueError: an unknown trial.
            RuntimeError: `max_consecutive_failed_trials` is reached.
        """
        is_final = False
        with self._announcing(), self._lock:
            own = self.get_trial(trial.trial_id)
            worker = self._take(own)
            if own.trial_id not in self._ledger.open:
                logger.warning("trial %s has ended before; the second answer is ignored", own.trial_id)
                return
            own.message = trial.message
            status, score, reason = self._form.outcome(own, trial.status, self.score_trial)
            self._run_times[own.trial_id] += 1
            is_final = status != TrialStatus.INVALID or self._run_times[own.trial_id] > self.max_retries_per_trial
            if is_final:
                self._finish(own, score, reason, worker=worker)
            else:
                own.status = status
                self._retry_queue.append(own.trial_id)
                logger.info("trial %s is given out again: %s", own.trial_id, reason)
            if own.trial_id in self._display.trial_start:
                self._display.on_trial_end(own)
            failures, limit = self._ledger.failures_in_a_row, self.max_consecutive_failed_trials
        if is_final and limit and failures and failures % limit == 0:
            raise RuntimeError(f"{failures} trials in a row have failed, the last one because: {reason}")

    def open_trials(self):
        """Ids of the trials that were started and have not ended, those that wait for a worker included."""
        with self._lock:
            return list(self._attach().open)

    def is_done(self):
        """Whether no trial will be given out any more, and nobody works on one."""
        with self._lock:
            nothing_left = not self._attach().open and not self._has_room()
            return nothing_left or (self._is_late() and not self.ongoing_trials)

    def hold(self, trial_id):
        """Do not give out a waiting trial: its worker may still be there."""
        with self._lock:
            self._retry_queue = [waiting for waiting in self._retry_queue if waiting != trial_id]

    def take_back(self, trial_id):
        """Let another worker have a trial whose worker is lost. If both answer, the first answer counts."""
        with self._lock:
            if trial_id in self._attach().open:
                self._take(self.trials[trial_id])
                self._retry_queue.append(trial_id)

    def _next(self):
        """A trial that needs a worker, the waiting ones first, or None. What needs none is finished on the way."""
        while not self._is_late():
            if self._retry_queue:
                trial = self.trials[self._retry_queue.pop(0)]
            elif self._has_room():
                with self._all_or_nothing():
                    trial = self._ledger.start()
                self.start_order.append(trial.trial_id)
            else:
                return None
            if not self._settle(trial):
                return trial
        return None

    def _has_room(self):
        is_exhausted = self._ledger.replays_in_a_row >= EXHAUSTED
        return not is_exhausted and (self.max_trials is None or len(self.trials) < self.max_trials)

    def _is_late(self):
        return self._ends_at is not None and time.monotonic() >= self._ends_at

    def _settle(self, trial):
        """End a trial that needs no worker: it was given out too often, or a rule knows its reward. True if it did."""
        attempts = self._ledger.attempts.get(trial.trial_id, 0)
        if self.max_attempts is not None and attempts >= self.max_attempts:
            self._take(trial)
            last = f"the last time: {one_line(trial.message)}" if trial.message else "and no worker has answered"
            self._finish(trial, None, f"given out {attempts} times, {last}")
            return True
        with self._all_or_nothing():
            return self._ledger.replay(trial)

    def _take(self, trial):
        """Take a trial out of the queue and from its worker, whose id is returned."""
        workers = [tuner_id for tuner_id, running in self.ongoing_trials.items() if running is trial]
        for tuner_id in workers:
            del self.ongoing_trials[tuner_id]
        self.hold(trial.trial_id)
        return workers[0] if workers else None

    def _finish(self, trial, score, reason, **further):
        with self._all_or_nothing():
            self._ledger.finish(trial, score, reason, **further)
