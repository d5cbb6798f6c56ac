"""An oracle whose state is a `Ledger`: read from the folder at the first use, and again after anything went wrong."""

import threading
from contextlib import contextmanager

import keras_tuner
from keras_tuner.engine.trial import TrialStatus

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
        self._lock, self._telling = threading.RLock(), threading.Lock()
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
        self._ledger, self._announced = None, 0
        self.trials, self.ongoing_trials = {}, {}
        self.start_order, self.end_order, self._retry_queue = [], [], []
        self._run_times.clear()

    def _attach(self):
        """The ledger, which is read from the project folder once."""
        if self._ledger is None:
            if getattr(self, "_directory", None) is None:
                raise ValueError("the oracle has no `directory` yet; give it to a tuner before it is used")
            ledger = Ledger(self._project_dir, self._strategies, self.seed, self._form, self._imports)
            self.seed, self.strategy = ledger.seed, ledger.strategy
            self.trials, self.end_order, self.start_order = ledger.trials, ledger.end_order, list(ledger.trials)
            self._retry_queue = list(ledger.open)
            self._announced, self._ledger = len(ledger.end_order), ledger
        return self._ledger

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
        """Tell whoever listens, outside the lock and one after another, if trials have ended inside."""
        yield
        with self._telling:
            if self.on_finished and len(self.end_order) > self._announced:
                trials = self.finished_trials()
                self._announced = len(trials)
                self.on_finished(trials)
