"""What a search tells while it runs: callbacks of the user's own."""

import copy
import threading


class SearchCallback:
    """Base of a search's callbacks; both methods do nothing. Another object with these two will do as well.

    They are called in the process that gives out the trials, which may be another one than trains the child, and never
    two at a time. An exception ends the search, with everything saved. The dicts are copies, a callback's to change as
    it likes.

    Examples:
        >>> from nasnet_keras import SearchCallback
        >>> class Printer(SearchCallback):
        ...     def on_trial_end(self, trial):
        ...         print(trial["trial_id"], trial["reward"])
        >>> Printer().on_trial_end({"trial_id": "0000", "reward": 0.5})  # search("digits", callbacks=(Printer(),)) does
        0000 0.5
    """

    def on_trial_begin(self, trial):
        """A trial was given to a worker, for the second time if the first worker was lost.

        Args:
            trial: a dict: `trial_id`, `genotype` (as in `trials.jsonl`), `worker`.
        """

    def on_trial_end(self, trial):
        """A trial has ended; called once for each that ends in this run, also where no child was trained.

        Args:
            trial: a dict as in `trials.jsonl`.
        """


class Callbacks:
    """Several callbacks as one.

    Args:
        callbacks: a tuple of them.

    Raises:
        ValueError: one lacks a method.
    """

    def __init__(self, callbacks):
        hooks = ("on_trial_begin", "on_trial_end")
        if not isinstance(callbacks, list | tuple) or not all(
            callable(getattr(callback, hook, None)) for callback in callbacks for hook in hooks
        ):
            raise ValueError(f"`callbacks` must be a list of `SearchCallback`s. Received: {callbacks!r}")
        self._callbacks, self._told, self._one_at_a_time = tuple(callbacks), None, threading.RLock()

    def began(self, trial):
        """Tell that a trial was given out."""
        with self._one_at_a_time:
            for callback in self._callbacks:
                callback.on_trial_begin(copy.deepcopy(trial))

    def finished(self, trials):
        """Tell of the finished trials that are new since the last call, all of them; of the first call nothing is."""
        with self._one_at_a_time:
            new, self._told = trials[len(trials) if self._told is None else self._told :], len(trials)
            for trial in new:
                for callback in self._callbacks:
                    callback.on_trial_end(copy.deepcopy(trial))


class Copies:
    """A user's function of all finished trials, which gets copies of them; each trial is copied once.

    Args:
        listener: the function. The next time it finds the dicts as it has left them; nobody else does.
    """

    def __init__(self, listener):
        self._listener, self._copies, self._one_at_a_time = listener, [], threading.RLock()

    def __call__(self, trials):
        """Tell of the finished trials, a list that has only grown since the last call."""
        with self._one_at_a_time:
            self._copies += copy.deepcopy(trials[len(self._copies) :])
            self._listener(list(self._copies))
