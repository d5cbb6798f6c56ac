"""The KerasTuner oracle: a thin adapter from trials to a strategy's `propose` and `feedback`.

KerasTuner's own oracle writes every trial, and a file about all of them, again and
again and in place: a trial costs the more the more there are, and a crash at the wrong
moment makes the project unloadable. Here every started and every finished trial is one
line in a log that only grows (see `archive`); a project that was killed at any instant
goes on, and the trials that were started and not finished are given out again, under
the same ids and with the same decisions.
"""

import logging
import threading
from bisect import insort
from contextlib import contextmanager

import keras_tuner
import numpy as np
from keras_tuner.engine.trial import TrialStatus

from nasnet_keras.search.archive import Archive
from nasnet_keras.search.proposal import Strategy
from nasnet_keras.search.strategies import make_strategy
from nasnet_keras.search.trials import Trials

logger = logging.getLogger(__name__)

REWARD = keras_tuner.Objective("reward", "max")


class NASNetOracle(keras_tuner.Oracle):
    """A KerasTuner oracle that searches for cells.

    `space.decode_values(trial.hyperparameters.values)` gives a trial's `Genotype`. Metrics
    named `seconds`, `parameters` and `multiply_adds` that come with the reward are logged
    with the trial. A trial whose reward is missing, NaN or infinite has failed; a failed
    trial is logged with its reason and the search goes on.

    The project folder is read when the oracle is first used, so a search goes on whenever
    its logs are there, and a tuner's `overwrite=True` clears them. Nothing is printed unless
    `verbose` is set to 1, which `tuner.search(verbose=1)` does.

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

    Attributes:
        space: the `SearchSpace`.
        strategy: the live `Strategy`, for instance to read its `diagnostics`.

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
    ):
        _check_count("max_trials", max_trials, 1, optional=True)
        _check_count("max_retries_per_trial", max_retries_per_trial, 0)
        _check_count("max_consecutive_failed_trials", max_consecutive_failed_trials, 1, optional=True)
        # KerasTuner replaces the seeds 0 and None by a random one; it draws nothing here.
        super().__init__(objective, max_trials, seed=1)
        self.max_retries_per_trial = max_retries_per_trial
        self.max_consecutive_failed_trials = max_consecutive_failed_trials
        self.tune_new_entries = False
        self.verbose = 0
        self._arguments = (strategy, space, settings)
        self.strategy = self._new_strategy(seed)
        self.space = self.strategy.space
        self.seed = self.strategy.seed if isinstance(strategy, Strategy) else seed
        self._trials = Trials(self.space, self.objective)
        self.hyperparameters = self._trials.hyperparameters
        # KerasTuner's own lock stays locked when an exception passes through; this one does not.
        self._lock = threading.RLock()
        self._forget()

    def create_trial(self, tuner_id):
        """The next trial for a worker: one that was started and not finished, or a new one.

        Args:
            tuner_id: string, the worker's id. A worker that has an unfinished trial gets it again.

        Returns:
            A `keras_tuner` Trial with status RUNNING, or STOPPED after `max_trials`.
        """
        with self._lock:
            self._attach()
            trial = self.ongoing_trials.get(tuner_id)
            if trial is None:
                self.tuner_ids.add(tuner_id)
                if self._retry_queue:
                    trial = self.trials[self._retry_queue.pop(0)]
                elif self.max_trials is None or len(self.trials) < self.max_trials:
                    trial = self._start()
                else:
                    self.tuner_ids.discard(tuner_id)
                    return self._trials.new(self._archive.next_number, status=TrialStatus.STOPPED)
                self.ongoing_trials[tuner_id] = trial
            self._trials.begin(trial)
            self._display.on_trial_begin(trial)
            return trial

    def update_trial(self, trial_id, metrics, step=0):
        """Report a trial's metrics, among them the objective.

        Args:
            trial_id: string.
            metrics: numbers by name. A number that is not finite is not kept; if it is the
                objective, the trial has failed.
            step: of several reports the best step counts.

        Returns:
            The trial.

        Raises:
            ValueError: an unknown trial, or the objective is missing.
        """
        with self._lock:
            trial = self.get_trial(trial_id)
            self._check_objective_found(metrics)
            if trial_id in self._open:
                self._trials.report(trial, metrics, step)
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
        with self._lock:
            own = self.get_trial(trial.trial_id)
            self.ongoing_trials = {key: value for key, value in self.ongoing_trials.items() if value is not own}
            self._retry_queue = [waiting for waiting in self._retry_queue if waiting != own.trial_id]
            if own.trial_id not in self._open:
                logger.warning("trial %s has ended before; the second answer is ignored", own.trial_id)
                return
            own.message = trial.message
            status, score, reason = self._trials.outcome(own, trial.status, self.score_trial)
            self._run_times[own.trial_id] += 1
            is_final = status != TrialStatus.INVALID or self._run_times[own.trial_id] > self.max_retries_per_trial
            if is_final:
                self._finish(own, score, reason)
            else:
                own.status = status
                self._retry_queue.append(own.trial_id)
                logger.info("trial %s is given out again: %s", own.trial_id, reason)
            if own.trial_id in self._display.trial_start:
                self._display.on_trial_end(own)
            failures = self._failures_in_a_row
        limit = self.max_consecutive_failed_trials
        if is_final and limit and failures and failures % limit == 0:
            raise RuntimeError(f"{failures} trials in a row have failed, the last one because: {reason}")

    def get_trial(self, trial_id):
        """A started trial by its id; raises `ValueError` for another id."""
        with self._lock:
            self._attach()
            if trial_id not in self.trials:
                raise ValueError(f"`trial_id` must be the id of a started trial. Received: {trial_id!r}")
            return self.trials[trial_id]

    def get_best_trials(self, num_trials=1):
        """The best completed trials, best first; where they are too few the others follow, as in KerasTuner."""
        with self._lock:
            self._attach()
            best = [self.trials[trial_id] for *_, trial_id in self._ranked[:num_trials]]
            if len(best) < num_trials:
                best += [trial for trial in self.trials.values() if trial.status != TrialStatus.COMPLETED]
            return best[:num_trials]

    def finished_trials(self):
        """The lines of `trials.jsonl`, a list of dicts in the order in which the trials ended."""
        with self._lock:
            self._attach()
            return list(self._archive.finished.values())

    def remaining_trials(self):
        """How many trials may still be started, or None without a limit."""
        with self._lock:
            self._attach()
            return super().remaining_trials()

    def save(self):
        """Nothing: whatever has happened is on the disk already."""

    def reload(self):
        """Read the project folder; raises `ValueError` if it belongs to another search or cannot be read."""
        with self._lock:
            self._forget()
            self._attach()

    def _set_project_dir(self, directory, project_name):
        super()._set_project_dir(directory, project_name)
        self._forget()

    def _forget(self):
        """As before the first use. The folder is not read yet: a tuner may still clear it."""
        self._archive = None
        self.trials, self.ongoing_trials = {}, {}
        self.start_order, self.end_order, self._retry_queue = [], [], []
        self._run_times.clear()
        self._open = {}  # trial_id -> Proposal of the trials without a result
        self._ranked = []  # (-reward, number, trial_id), the best first
        self._failures_in_a_row = 0

    def _attach(self):
        """Read the project folder, once."""
        if self._archive is not None:
            return
        if getattr(self, "_directory", None) is None:
            raise ValueError("the oracle has no `directory` yet; give it to a tuner before it is used")
        archive = Archive(self._project_dir)
        if self.seed is None:
            self.seed = archive.header["seed"] if archive.header else int(np.random.SeedSequence().generate_state(1)[0])
        objective = {"name": self.objective.name, "direction": self.objective.direction}
        archive.claim({**self._new_strategy(self.seed).identity, "objective": objective})
        self.strategy = archive.replay(lambda: self._new_strategy(self.seed), self._trials.reward)
        for number in sorted(archive.started):
            trial = self._add(archive.started[number])
            if number in archive.finished:
                del archive.started[number], self._open[trial.trial_id]
            else:
                self._retry_queue.append(trial.trial_id)
        for line in archive.finished.values():
            self._close(self.trials[line["trial_id"]], line)
        self._archive = archive

    def _new_strategy(self, seed):
        strategy, space, settings = self._arguments
        return make_strategy(strategy, space, seed, settings)

    def _start(self):
        with self._all_or_nothing():
            proposal = self.strategy.propose(self._archive.next_number)
            self._archive.start(proposal)
            return self._add(proposal)

    def _add(self, proposal):
        trial = self._trials.new(proposal.number, proposal.decisions)
        self.trials[trial.trial_id] = trial
        self.start_order.append(trial.trial_id)
        self._open[trial.trial_id] = proposal
        return trial

    def _finish(self, trial, score, reason):
        with self._all_or_nothing():
            line = self._trials.line(trial, self._open[trial.trial_id], score, reason)
            self._archive.finish(line)
            self._close(trial, line)
            self.strategy.feedback(self._open.pop(trial.trial_id), self._trials.reward(line))
            self._archive.snapshot(self.strategy)

    def _close(self, trial, line):
        self._trials.close(trial, line)
        self.end_order.append(trial.trial_id)
        if trial.score is None:
            self._failures_in_a_row += 1
        else:
            self._failures_in_a_row = 0
            insort(self._ranked, (-self._trials.reward(line), line["number"], trial.trial_id))

    @contextmanager
    def _all_or_nothing(self):
        """If this is broken off, by Ctrl-C or a full disk, what is on the disk holds and is read again."""
        try:
            yield
        except BaseException:
            self._forget()
            raise


def _check_count(label, value, least, optional=False):
    if (value is None and optional) or (type(value) is int and value >= least):
        return
    raise ValueError(f"`{label}` must be {'None or ' * optional}an integer of at least {least}. Received: {value!r}")
