"""An oracle whose state is a `Ledger`: read from the folder at the first use, and again after anything went wrong."""

import threading
from contextlib import contextmanager

import keras_tuner
from keras_tuner.engine.trial import TrialStatus

from nasnet_keras.search.directory import DirectoryLock
from nasnet_keras.search.rules import check_rules
from nasnet_keras.search.trials.ledger import Ledger
from nasnet_keras.search.trials.records import Trials


class ResumableOracle(keras_tuner.Oracle):
    """What an oracle needs to survive: its state, its lock, and the verbs that only read.

    Args:
        objective: a `keras_tuner.Objective`.
        max_trials: as in KerasTuner.
        space: a `SearchSpace`.
        strategies: function that gives a fresh strategy for a seed.
        seed: of the search, None for that in the folder, or a new one.
        rules: a tuple of `rules.Rule`.
        imports: what a new search begins with.
    """

    def __init__(self, objective, max_trials, space, strategies, seed, rules, imports):
        # KerasTuner replaces the seeds 0 and None by a random one; it draws nothing here.
        super().__init__(objective, max_trials, seed=1)
        self.space, self.seed = space, seed
        self.rules = check_rules(rules)
        self.on_finished = None
        self.tune_new_entries = False
        self.verbose = 0
        self._strategies, self._imports = strategies, imports
        self._form = Trials(space, self.objective, self.rules)
        self.hyperparameters = self._form.hyperparameters
        # KerasTuner's own lock stays locked when an exception passes through; this one does not.
        self._lock, self._is_telling, self._announced = threading.RLock(), False, None
        self._directory_lock = None
        self._forget()

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
            best = [self.trials[trial_id] for *_, trial_id in self._attach().ranked[:num_trials]]
            if len(best) < num_trials:
                best += [trial for trial in self.trials.values() if trial.status != TrialStatus.COMPLETED]
            return best[:num_trials]

    def finished_trials(self):
        """The lines of `trials.jsonl`, a list of dicts in the order in which the trials ended."""
        with self._lock:
            return self._attach().finished()

    def remaining_trials(self):
        """How many trials may still be started, or None without a limit."""
        with self._lock:
            self._attach()
            return super().remaining_trials()

    def close(self):
        """Leave the project folder to others; used again, the oracle opens it anew."""
        with self._lock:
            self._forget()
            if self._directory_lock is not None:
                self._directory_lock.close()
            self._directory_lock = self._announced = None

    def is_telling(self):
        """Whether `on_finished` is being called, or trials have ended that it was not told of."""
        with self._lock:
            return self._is_telling or self._has_news()

    def save(self):
        """Nothing: whatever has happened is on the disk already."""

    def reload(self):
        """Read the project folder; raises `ValueError` if it belongs to another search or cannot be read."""
        with self._lock:
            self._forget()
            self._attach()

    def _set_project_dir(self, directory, project_name):
        super()._set_project_dir(directory, project_name)
        self.close()

    def _forget(self):
        """As before the first use. The folder is not read yet: a tuner may still clear it."""
        self._ledger = None
        self.trials, self.ongoing_trials = {}, {}
        self.start_order, self.end_order, self._retry_queue = [], [], []
        self._run_times.clear()

    def _attach(self):
        """The ledger, which is read from the project folder once; raises `ValueError` if another has that now."""
        if self._directory_lock is not None:
            self._directory_lock.check()
        if self._ledger is None:
            ledger = self._read_folder()
            self.seed, self.strategy = ledger.seed, ledger.strategy
            self.trials, self.end_order, self.start_order = ledger.trials, ledger.end_order, list(ledger.trials)
            self._retry_queue = list(ledger.open)
            self._ledger = ledger
            if self._announced is None:  # what ended in earlier runs is no news
                self._announced = len(ledger.end_order)
        return self._ledger

    def _read_folder(self):
        if getattr(self, "_directory", None) is None:
            raise ValueError("the oracle has no `directory` yet; give it to a tuner before it is used")
        lock = self._directory_lock or DirectoryLock(self._project_dir)
        try:
            ledger = Ledger(self._project_dir, lock, self._strategies, self.seed, self._form, self._imports)
        except BaseException:
            if self._directory_lock is None:
                lock.close()
            raise
        self._directory_lock = lock
        return ledger

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
        """Tell whoever listens, one after another, if trials have ended inside.

        No lock is held while somebody listens, who may ask the oracle anything, in this thread or by another. Who ends
        a trial meanwhile leaves the news to the thread that is telling already.
        """
        yield
        with self._lock:
            if self._is_telling or not self._has_news():
                return
            self._is_telling = True
        try:
            while (trials := self._news()) is not None:
                self.on_finished(trials)
        except BaseException:
            self._is_telling = False
            raise

    def _has_news(self):
        return bool(self.on_finished) and len(self.end_order) > (self._announced or 0)

    def _news(self):
        """All finished trials if some were not announced; else None, and the telling has ended."""
        with self._lock:
            if not self._has_news():
                self._is_telling = False
                return None
            trials = self.finished_trials()
            self._announced = len(trials)
            return trials
