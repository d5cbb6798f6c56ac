"""The KerasTuner oracle: a thin adapter from trials to a strategy's `propose` and `feedback`.

KerasTuner's own oracle writes every trial, and a file about all of them, again and
again and in place: a trial costs the more the more there are, and a crash at the wrong
moment makes the project unloadable. Here every started and every finished trial is one
line in a log that only grows (see `trials.logs`); a project that was killed at any instant
goes on, and the trials that were started and not finished are given out again, under
the same ids and with the same decisions. Rules (see `rules`) may answer in a worker's place.
"""

import copy
import logging
import math
import threading
import time
from contextlib import contextmanager

import keras_tuner

from nasnet_keras.checks import as_integer, as_number, check_integer, check_positive
from nasnet_keras.files import expanded
from nasnet_keras.search.directory import DirectoryLock, SearchDirectory
from nasnet_keras.search.kerastuner import TrialStatus
from nasnet_keras.search.rules import check_rules
from nasnet_keras.search.strategies.choice import make_strategy, warn_if_random
from nasnet_keras.search.strategies.strategy import Strategy
from nasnet_keras.search.trials.format import TrialFormat, one_line, whole
from nasnet_keras.search.trials.imported import check_imports, read_tries
from nasnet_keras.search.trials.logs import check_identity
from nasnet_keras.search.trials.state import SearchState

logger = logging.getLogger(__name__)

REWARD = keras_tuner.Objective("reward", "max")
PROGRESS = "progress"  # the metric by which a running child reports its accuracy, epoch by epoch
WAITING = 10  # so many trials may wait for others of the same network, or as many as workers are busy


class NASNetOracle(keras_tuner.Oracle):
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
        strategy: `"rl"`, `"random"`, `"evolution"`, `"local"`, `"predictor"`, or a `Strategy` object, which is copied
            with what it has learnt.
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
        imports: what a new search begins with: dicts with `decisions` and `reward`, see `trials.imported.read_imports`;
            of an objective to minimise that is the loss itself.
        tries: the first trials' genotypes, as `load_genotype` takes them, before the strategy proposes. One that lies
            outside of the space is trained as well; the strategy learns nothing from it.

    Attributes:
        space: the `SearchSpace`.
        imports, tries: what a new search begins with, a list of dicts and a tuple of genotypes.
        strategy: the live `Strategy`, for instance to read its `diagnostics`.
        on_started: called whenever a trial is given to a worker, with a dict: `trial_id`, `genotype`, `worker`.
        on_taken_back: called with the id of a trial whose worker is lost.
        on_finished: called with the finished trials, as `finished_trials` gives them, whenever some were added.

    Raises:
        ValueError: naming the argument at fault; at the first use, if the folder belongs to another search.

    Examples:
        >>> from nasnet_keras import NASNetOracle, SearchSpace
        >>> NASNetOracle(max_trials=20, space=SearchSpace(blocks=2), strategy="evolution").max_trials
        20
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
        tries=(),
    ):
        max_trials, seed, max_attempts, max_retries_per_trial, max_consecutive_failed_trials = map(
            as_integer, (max_trials, seed, max_attempts, max_retries_per_trial, max_consecutive_failed_trials)
        )
        check_integer("max_trials", max_trials, 1, optional=True)
        check_integer("max_retries_per_trial", max_retries_per_trial, 0)
        check_integer("max_consecutive_failed_trials", max_consecutive_failed_trials, 1, optional=True)
        check_integer("max_attempts", max_attempts, 1, optional=True)
        check_positive("hours", hours := as_number(hours), optional=True)
        if isinstance(strategy, Strategy):
            strategy = copy.deepcopy(strategy)  # whoever made it may go on with it
        self.strategy = make_strategy(strategy, space, seed, settings)
        # KerasTuner replaces the seeds 0 and None by a random one; it draws nothing here.
        super().__init__(
            objective,
            max_trials,
            seed=1,
            max_retries_per_trial=max_retries_per_trial,
            max_consecutive_failed_trials=max_consecutive_failed_trials,
        )
        self.space, self.seed = self.strategy.space, self.strategy.seed if isinstance(strategy, Strategy) else seed
        self.given_seed = self.seed  # as it was, before a folder told or a search began
        self.rules, self.max_attempts, self.tries = check_rules(rules), max_attempts, read_tries(tries, max_trials)
        self.on_started = self.on_taken_back = self.on_finished = None
        self.tune_new_entries, self.verbose = False, 0
        self._strategies = lambda seed: make_strategy(strategy, space, seed, settings)
        self.imports = check_imports(imports, self.space, self.objective.direction)
        self._hours, self._ends_at, self._directory_lock = hours, None, None
        self._format = TrialFormat(self.space, self.objective, self.rules)
        self.hyperparameters = self._format.hyperparameters
        # KerasTuner's own lock stays locked when an exception passes through; this one does not.
        self._lock, self._is_telling, self._announced = threading.RLock(), False, None
        self._forget()

    def create_trial(self, tuner_id):
        """The next trial for a worker: one that was started and not finished, or a new one.

        Args:
            tuner_id: string, the worker's id. A worker that has an unfinished trial gets it again.

        Returns:
            A `keras_tuner` Trial with status RUNNING; or STOPPED after `max_trials` or `hours`; or IDLE where a worker
            had better ask again, because others have what is proposed now.
        """
        with self._announcing(), self._lock:
            trial = self._give_out(tuner_id)
        if trial.status == TrialStatus.RUNNING and self.on_started:
            self.on_started(self._format.started(trial, tuner_id))
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
            is_open = trial_id in self._state.open
            if set(metrics) == {PROGRESS}:
                answer = copy.copy(trial)
                if is_open and self._state.progress(trial, metrics[PROGRESS], step):
                    answer.status = TrialStatus.STOPPED
                return answer
            self._check_objective_found(metrics := whole(self.objective, metrics))
            if is_open:
                self._format.report(trial, metrics, step)
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
            if own.trial_id not in self._state.open:
                logger.warning("trial %s has ended before; the second answer is ignored", own.trial_id)
                return
            own.message = trial.message
            status, score, reason = self._format.outcome(own, trial.status, self.score_trial)
            self._run_times[own.trial_id] += 1
            is_final = status != TrialStatus.INVALID or self._run_times[own.trial_id] > self.max_retries_per_trial
            if is_final:
                self._finish(own, score, reason, worker=worker)
            else:
                own.status = status
                self._retry_queue.append(own.trial_id)
                with self._all_or_nothing():
                    self._state.take_back(own)
                logger.info("trial %s is given out again: %s", own.trial_id, reason)
            if own.trial_id in self._display.trial_start:
                self._display.on_trial_end(own)
            failures, limit = self._state.failures_in_a_row, self.max_consecutive_failed_trials
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

    def hold(self, trial_id, worker=None):
        """Do not give out a waiting trial: its worker may still be there; one that is named is, and has it again."""
        with self._lock:
            self._retry_queue = [waiting for waiting in self._retry_queue if waiting != trial_id]
            if worker is None or worker in self.ongoing_trials or trial_id not in self._attach().open:
                return
            trial = self.ongoing_trials[worker] = self.trials[trial_id]
        if self.on_started:
            self.on_started(self._format.started(trial, worker))

    def take_back(self, trial_id):
        """Let another worker have a trial whose worker is lost. If both answer, the first answer counts."""
        with self._lock, self._all_or_nothing():
            if trial_id in self._attach().open:
                self._take(self.trials[trial_id])
                self._state.take_back(self.trials[trial_id])
                self._retry_queue.append(trial_id)
                if self.on_taken_back:
                    self.on_taken_back(trial_id)

    def get_trial(self, trial_id):
        """A started trial by its id; raises `ValueError` for another id."""
        with self._lock:
            self._attach()
            if trial_id not in self.trials:
                raise ValueError(f"`trial_id` must be the id of a started trial. Received: {trial_id!r}")
            return self.trials[trial_id]

    def get_best_trials(self, num_trials=1):
        """The best completed trials, best first; where too few, those that repeat one of them follow, then others."""
        with self._lock:
            return self._attach().best(num_trials)

    def finished_trials(self):
        """The lines of `trials.jsonl`, a list of dicts in the order in which the trials ended."""
        with self._lock:
            return self._attach().finished()

    def remaining_trials(self):
        """How many trials may still be started, or None without a limit."""
        with self._lock:
            self._attach()
            return super().remaining_trials()

    def trials_to_train(self):
        """How many trials this run will train at most, those under way among them: so many workers have work."""
        with self._lock:
            state = self._attach()
            if self._is_late():
                return len(self.ongoing_trials)
            more = math.inf if self.max_trials is None else self.max_trials - len(self.trials)
            return len(state.open) + (more if self._has_room() else 0)

    def close(self):
        """Give back what runs, and leave the project folder to others; used again, the oracle opens it anew."""
        with self._lock:
            self.give_back()
            self._forget()
            if self._directory_lock is not None:
                self._directory_lock.close()
            self._directory_lock = self._announced = None

    def give_back(self):
        """Take all trials from their workers, whose runs do not count: they are ended on purpose, as by Ctrl-C.

        A run that ended with its process counts, since its child may have been the reason; see `reload`.
        """
        with self._lock:
            open_now = {} if self._state is None else self._state.open
            running = [trial for trial in self.ongoing_trials.values() if trial.trial_id in open_now]
            self.ongoing_trials = {}
            self._retry_queue += [trial.trial_id for trial in running]
            if running:
                self._state.give_back(*running)

    def announce(self):
        """Call `on_finished` until it knows of all trials that have ended; every verb that ends trials does so.

        No lock is held meanwhile: it may ask the oracle anything, in this thread or by another. Who ends a trial then
        leaves the news to the thread that is telling already.

        Returns:
            False if another thread is telling, true if there is nothing left to tell.
        """
        with self._lock:
            if self._is_telling:
                return False
            self._is_telling = True
        try:
            while (trials := self._news()) is not None:
                self.on_finished(trials)
        except BaseException:
            self._is_telling = False
            raise
        return True

    def update_space(self, hyperparameters):
        """What a hypermodel asks for beside the cells is not searched for, which is logged once."""
        super().update_space(hyperparameters)
        self._format.leave(hyperparameters)

    def save(self):
        """Nothing: whatever has happened is on the disk already."""

    def reload(self, elsewhere=False):
        """Read the project folder; raises `ValueError` if it belongs to another search or cannot be read.

        Where children run elsewhere, in processes of their own, no run counts that ended with this one's forerunner.
        """
        with self._lock:
            self._forget()
            self._attach().give_back(*(self.trials.values() if elsewhere else ()))

    def _give_out(self, tuner_id):
        state = self._attach()
        if self._hours is not None and self._ends_at is None:
            self._ends_at = time.monotonic() + 3600 * self._hours
        trial = self.ongoing_trials.get(tuner_id)
        if trial is None or self._settle(trial):
            trial = self._next()
        if trial is None:
            if self._is_crowded() and self._has_room() and not self._is_late():
                return self._format.new(state.next_number, status=TrialStatus.IDLE)
            self.tuner_ids.discard(tuner_id)
            return self._format.new(state.next_number, status=TrialStatus.STOPPED)
        with self._all_or_nothing():
            state.give_out(trial, tuner_id)
        self.tuner_ids.add(tuner_id)
        self.ongoing_trials[tuner_id] = trial
        self._display.on_trial_begin(trial)
        return trial

    def _next(self):
        """A trial that needs a worker, those due again first, or None. What needs none is finished on the way."""
        while not self._is_late():
            self._end_waits()
            if self._retry_queue:
                trial = self.trials[self._retry_queue.pop(0)]
            elif self._has_room() and not self._is_crowded():
                with self._all_or_nothing():
                    trial = self._state.start()
                self.start_order.append(trial.trial_id)
            else:
                return None
            if self._settle(trial):
                continue
            first = self._state.first_of(trial)
            if first is None:
                return trial
            logger.info("trial %s waits for trial %s, which is the same network", trial.trial_id, first)
            self._waits[trial.trial_id] = first
        return None

    def _end_waits(self):
        """Put trials that wait no longer before all others: a rule knows their reward now, or it is their turn."""
        over = [trial_id for trial_id, first in self._waits.items() if first not in self._state.open]
        for trial_id in over:
            del self._waits[trial_id]
        self._retry_queue[:0] = over

    def _is_crowded(self):
        """Whether so many trials wait that another proposal would only be one more."""
        return len(self._waits) >= max(WAITING, len(self.ongoing_trials))

    def _has_room(self):
        return not self._state.is_exhausted and (self.max_trials is None or len(self.trials) < self.max_trials)

    def _is_late(self):
        return self._ends_at is not None and time.monotonic() >= self._ends_at

    def _settle(self, trial):
        """End a trial that needs no worker: it was given out too often, or a rule knows its reward. True if it did."""
        attempts = self._state.attempts.get(trial.trial_id, 0)
        if self.max_attempts is not None and attempts >= self.max_attempts:
            self._take(trial)
            last = f"the last time: {one_line(trial.message)}" if trial.message else "and no worker has answered"
            self._finish(trial, None, f"given out {attempts} times, {last}")
            return True
        with self._all_or_nothing():
            return self._state.replay(trial)

    def _take(self, trial):
        """Take a trial out of the queue, from its wait and from its worker, whose id is returned."""
        self._waits.pop(trial.trial_id, None)
        workers = [tuner_id for tuner_id, running in self.ongoing_trials.items() if running is trial]
        self.ongoing_trials = {key: running for key, running in self.ongoing_trials.items() if running is not trial}
        self.hold(trial.trial_id)
        return workers[0] if workers else None

    def _finish(self, trial, score, reason, **further):
        with self._all_or_nothing():
            self._state.finish(trial, score, reason, **further)

    def _set_project_dir(self, directory, project_name):
        super()._set_project_dir(expanded(directory), project_name)
        self.close()

    def _forget(self):
        """As before the first use. The folder is not read yet: a tuner may still clear it."""
        self._state = None
        self.trials, self.ongoing_trials = {}, {}
        self.start_order, self.end_order, self._retry_queue, self._waits = [], [], [], {}
        self._run_times.clear()

    def _attach(self):
        """The state, which is read from the project folder once; raises `ValueError` if another has that now."""
        if self._directory_lock is not None:
            self._directory_lock.check()
        if self._state is None:
            state = self._read_folder()
            self.seed, self.strategy = state.seed, state.strategy
            self.trials, self.end_order, self.start_order = state.trials, state.end_order, list(state.trials)
            self._retry_queue = list(state.open)
            self._state = state
            if self._announced is None:  # what ended in earlier runs is no news
                self._announced = len(state.end_order)
                if self.max_trials is not None and self.max_trials > len(self.tries):
                    warn_if_random(self.strategy, self.max_trials, self.max_trials - self._announced)
                for told in filter(None, (rule.remark(self.objective.direction) for rule in self.rules)):
                    logger.warning("%s", told)
        return self._state

    def _read_folder(self):
        if getattr(self, "_directory", None) is None:
            raise ValueError("the oracle has no `directory` yet; give it to a tuner before it is used")
        directory = SearchDirectory(self._project_dir)
        self.tries = read_tries(self.tries, directory=directory.path)
        if self._directory_lock is None and self.seed is not None:  # a search that is refused takes nothing over
            check_identity(directory.path, self._format.identity(self._strategies(self.seed), self.tries))
        lock = self._directory_lock or DirectoryLock(directory)
        try:
            state = SearchState(directory, lock, self._strategies, self.seed, self._format, self.imports, self.tries)
        except BaseException:
            if self._directory_lock is None:
                lock.close()
            raise
        if self._directory_lock is None:
            state.give_back(*state.given_out_here())
        self._directory_lock = lock
        return state

    @contextmanager
    def _all_or_nothing(self):
        """If this is broken off, by Ctrl-C or a full disk, what is on the disk holds and is read again."""
        try:
            yield
        except BaseException:
            self._forget()
            raise

    @contextmanager
    def _announcing(self):
        """Tell whoever listens if trials have ended inside."""
        yield
        self.announce()

    def _news(self):
        """All finished trials if some were not announced; else None, and the telling has ended."""
        with self._lock:
            if not self.on_finished or len(self.end_order) <= (self._announced or 0):
                self._is_telling = False
                return None
            trials = self.finished_trials()
            self._announced = len(trials)
            return trials
