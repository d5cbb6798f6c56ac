"""The state of a training on disk: what is needed to go on as if nothing had happened."""

import errno
import hashlib
import json
import logging
import math
import os
import signal
import threading
import time
import warnings
from contextlib import contextmanager, suppress
from pathlib import Path

import keras
import numpy as np

from nasnet_keras import files
from nasnet_keras.files import expanded, read_object, write_atomically
from nasnet_keras.models.nesting import seed_generators
from nasnet_keras.training.identity import (
    ADVICE,
    HISTORY,
    WATCHED,
    best_of,
    check_resumption,
    epochs_within,
    has_ended,
    told,
)
from nasnet_keras.weights.loading import weights_file

logger = logging.getLogger(__name__)
WAITING = (
    "interrupted: it ends when the step that runs, or a validation, is over and kept; Ctrl-C again ends it at once\n"
)


class Checkpoints(keras.callbacks.Callback):
    """Keeps a training's history, and its weights and optimiser after each epoch, and within epochs if that is wanted.

    The history is replaced in one step and names the files that belong to it, so whatever moment a
    process dies at, the last finished epoch is there. Every epoch starts from its own seeds: repeated
    after a kill, it is the epoch that was lost. What is kept within an epoch holds the state of the random
    generators and the sums of the figures too: that epoch goes on with its next step. Whether a training has ended, and
    which epoch was the best, follows from the history alone.

    Args:
        directory: where to keep the state, None for nowhere.
        seed: the training's seed.
        patience: stop after this many epochs without a better one; None for never, and then the last counts.
        identity: what a state on disk must agree with, see `identity.training_identity`.
        epochs: epochs in all, None where nobody says.
        first: epochs that another training has done before, which count among `epochs`.
        every: steps after which the state is kept within an epoch; None: only at its end, and where Ctrl-C ends it.
        hours: how long it may take: after the first epoch, `settings["epochs"]` is what fits, `epochs` at most.
        least: epochs that it has in any case.
        clock: a function of nothing that gives seconds.

    Attributes:
        step: steps that have been done of the epoch that comes next or runs.
    """

    def __init__(
        self,
        directory,
        seed,
        *,
        patience=None,
        identity=None,
        epochs=None,
        first=0,
        every=None,
        hours=None,
        least=1,
        clock=time.monotonic,
    ):
        super().__init__()
        self.seed, self.patience, self.first, self.every = seed, patience, first, every
        self.directory = None if directory is None else Path(expanded(directory))
        self.identity = identity or {}
        self.settings = {"epochs": epochs, "patience": patience, **({"least": least} if least > 1 else {})}
        self.history, self.changes, self._best, self._since = [], [], None, 1
        self.step, self._inside, self._part, self._ended_within = 0, None, None, False
        self._unkept = self._asked = False  # steps to keep; an end
        self.hours, self.clock, self._begun, self._second = hours, clock, None, None

    def restore(self, model):
        """Go on from what lies in the directory, if anything does.

        Raises:
            ValueError: it is another training's, or broken.
        """
        if self.directory is None:
            return
        self.directory.mkdir(parents=True, exist_ok=True)
        path = self.directory / HISTORY
        if not path.exists():
            return
        changes = check_resumption(self.directory, self.identity, self.settings["epochs"], self.patience)
        try:
            state = read_object(path)
            history = list(state["epochs"])
            if not history and state.get("failure"):
                return  # it has no epoch to go on from
            if state["network"] != _shape_of(model):
                raise ValueError("its network has other weights")
            settings = state.get("settings", {})
            self.history, self._since = history, int(state.get("best from", 1))
            if "seconds" in settings:
                self.settings["seconds"] = settings["seconds"]
            inside = None if self.is_over() else state.get("inside")
            if inside:
                if len(inside["generators"]) != len(seed_generators(model)):
                    raise ValueError("it is within an epoch, and other layers of it drop paths or units")
                self.step, self._inside = inside["step"], inside
            with warnings.catch_warnings():
                warnings.simplefilter("error", UserWarning)  # Keras' word for an optimiser that stays as it was
                model.load_weights(self.directory / (inside or state)["weights"])
            if history and not (self.directory / _file_of(self.best())).exists():
                lost = history[self.best() - 1]["epoch"]
                if settings.get("patience", None) == self.patience:
                    raise ValueError(f"it kept no weights of epoch {lost}, its best")
                self._since, last = len(history), history[-1]["epoch"]
                changes.append({"what": "best", "after": len(history), "from": lost, "to": last})
        except (OSError, ValueError, KeyError, TypeError, UserWarning) as error:
            reason = str(error).strip().splitlines()[0]
            raise ValueError(
                f"`directory` {self.directory} holds the state of another training: {reason}. {ADVICE}"
            ) from None
        if watched := state.get("identity", {}).get(WATCHED):  # also for epochs after some without any
            self.identity = {WATCHED: watched, **self.identity}
        self.changes = [*state.get("changes", []), *changes]
        for line in told(self.directory, changes):
            logger.warning(line)

    def has_ended(self):
        """Whether there has been no better epoch for so long that more are not worth it."""
        return has_ended(self.history, self.patience, self._since)

    def is_over(self):
        """Whether no epoch is left to do."""
        epochs = self.settings["epochs"]
        return self.has_ended() or (epochs is not None and self.first + len(self.history) >= epochs)

    def is_measuring(self):
        """Whether it is still to be seen how long an epoch takes, and with it how many there will be."""
        return self.hours is not None and "seconds" not in self.settings

    def best(self):
        """Number of the best epoch in the history, counted from 1: by validation accuracy, then by loss.

        Without `patience` it is the last one.
        """
        return best_of(self.history, self.patience, self._since)

    def finish(self, model):
        """Leave the best epoch's weights in the model."""
        best = self.best() if self.history else 0
        # A part of an epoch is not known to be any good.
        is_other = best != len(self.history) or (best and self.patience and self._ended_within)
        if is_other and self.directory is not None:
            model.load_weights(self.directory / _file_of(best))
        elif is_other:
            for variable, value in zip(_variables(model), self._best, strict=True):
                variable.assign(value)
        # If the recipe averages weights, the average is the result.
        model.optimizer.finalize_variable_values(model.trainable_variables)

    @contextmanager
    def interruptible(self):
        """A context in which Ctrl-C ends a training when the step that runs is over and the state is kept.

        A second one ends it at once, and so does the first where nothing would be lost or nothing is kept. Elsewhere
        than in the main thread, and where somebody else takes the signal, nothing is changed.
        """
        usual = signal.default_int_handler
        main = threading.current_thread() is threading.main_thread()
        if self.directory is None or not main or signal.getsignal(signal.SIGINT) is not usual:
            yield
            return

        def ask(number, frame):
            if self._asked or not self._unkept:
                usual(number, frame)
            self._asked = True
            with suppress(OSError):  # what is buffered may be in the midst of something
                os.write(2, WAITING.encode())

        signal.signal(signal.SIGINT, ask)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, usual)
        if self._asked:  # after the last step
            raise KeyboardInterrupt

    def fail(self, error):
        """Keep why the training came to an end before its time: after that a lower learning rate may go on."""
        if self.directory is not None:
            weights = _file_of(len(self.history)) if self.history else None
            with suppress(OSError):
                self._write(weights, failure=str(error))

    def on_epoch_begin(self, epoch, logs=None):
        """Take the epoch's own seeds of what drops paths and units, or go on where the epoch was."""
        inside = self._inside or {}
        for index, generator in enumerate(seed_generators(self.model)):
            state = np.random.SeedSequence([self.seed, epoch, index]).generate_state(2)
            state = np.asarray(inside["generators"][index]) if inside else state
            generator.state.assign(state.astype(generator.state.dtype))
        if not inside:
            self.step = 0
        self._unkept = False
        self._start = self.step
        self._begun, self._second = self.clock() - inside.get("seconds", 0.0), None

    def on_train_batch_end(self, batch, logs=None):
        """Count the step, and keep the state if it is time.

        Raises:
            KeyboardInterrupt: it was asked for, and the state is kept.
            OSError: it cannot be kept; the one before stays.
        """
        if self._inside:  # the figures of the steps before; Keras has them begin with each epoch, and all are sums
            sums = self.model.metrics_variables
            for variable, value in zip(sums, self._inside["figures"], strict=True):
                variable.assign(keras.ops.add(variable, value))
            self._inside = None
        self.step += 1
        self._last = self.clock()
        if self._second is None:
            self._second = self.step, self._last
        self._unkept, asked = True, self._asked
        if self.step == self._start + self.params["steps"]:
            return  # what is left of the epoch is its validation
        if asked or (self.every and not self.step % self.every):
            self._save(self._within())
        if asked:
            raise KeyboardInterrupt

    def _is_within(self):
        """Whether steps of the epoch are left, after another callback has ended it."""
        steps = (self.params or {}).get("steps")
        return steps is not None and 0 < self.step < self._start + steps

    def _within(self):
        """What belongs to a state within an epoch beside weights and optimiser."""
        return {
            "epoch": self.first + len(self.history) + 1,
            "step": self.step,
            "generators": [_numbers(generator.state) for generator in seed_generators(self.model)],
            "figures": [float(keras.ops.convert_to_numpy(one)) for one in self.model.metrics_variables],
            "seconds": self.clock() - self._begun,
        }

    def on_test_begin(self, logs=None):
        """Remember where a part of an epoch stands: the validation after it begins the figures anew."""
        self._part = self._within() if self._is_within() else None

    def on_epoch_end(self, epoch, logs=None):
        """Keep the epoch, and stop where it is time; one that another callback has ended is kept as the part it is.

        Raises:
            FloatingPointError: the epoch has left a weight or a loss that is not finite; it is not kept.
            OSError: it cannot be kept; the state of the epoch before stays.
        """
        figures = {key: float(value) for key, value in (logs or {}).items()}
        self._check_finite(epoch, figures)
        if self._is_within():
            if self.directory is not None:
                self._save(self._part or self._within())
            self._unkept, self._ended_within = False, True
            return
        self.history.append({"epoch": epoch + 1, **figures})
        if self.is_measuring():
            self.settings["seconds"] = self._measured()
            self.settings["epochs"] = epochs_within(self.hours, self.settings, self.settings["epochs"], self.first)
        self.step = 0
        if self.directory is not None:
            self._save()
        elif self.patience and self.best() == len(self.history):
            self._best = [keras.ops.convert_to_numpy(variable) for variable in _variables(self.model)]
        self._unkept = False
        if self._asked or self.has_ended():  # after the other callbacks have seen the epoch
            self.model.stop_training = True

    def _measured(self):
        """Seconds of the first epoch and of each that follows: its first step, which made the graph, does not count.

        Epochs that were done before `hours` were given take nothing off them.
        """
        now, (step, second) = self.clock(), self._second
        whole = each = now - self._begun
        if self.step > step:  # the steps that were seen stand for all; the validation is one
            each = (self._last - second) / (self.step - step) * self.step + now - self._last
        return [whole - each * (len(self.history) - 1), each]

    def _check_finite(self, epoch, figures):
        wrong = [key for key, value in figures.items() if key.endswith("loss") and not math.isfinite(value)]
        if not wrong and self.directory is not None:
            values = ((weight.path, keras.ops.convert_to_numpy(weight)) for weight in self.model.weights)
            wrong = [path for path, value in values if value.dtype.kind == "f" and not np.isfinite(value).all()][:1]
        if wrong:
            reason = f"{wrong[0]} is not finite after epoch {epoch + 1}"
            raise FloatingPointError(f"{reason}: a lower learning rate may help")

    def _save(self, inside=None):
        """The old state or the new one, never half of each; `inside` an epoch it is the last one's, and more."""
        last = best = None
        if self.history:
            last, best = _file_of(len(self.history)), _file_of(self.best())
        new = last if inside is None else f"state-{len(self.history)}-{self.step}.weights.h5"
        further = {} if inside is None else {"inside": {**inside, "weights": new}}
        try:
            _save_weights(self.model, self.directory / new)
            self._write(last, **further)
        except OSError as error:
            before = self.history if inside else self.history[:-1]
            kept = f"the state of epoch {before[-1]['epoch']} is kept" if before else "no epoch is kept yet"
            number = error.errno or errno.EIO
            reason = f"{os.strerror(number)}, so {kept}; run again to go on"
            raise OSError(number, reason, error.filename or os.fspath(self.directory / new)) from None
        torn = self.directory.glob(".state-*.weights.h5.*")  # of a kill while one was written: nobody else writes here
        for old in [*self.directory.glob("state-*.weights.h5"), *torn]:
            if old.name not in (last, best, new):
                old.unlink()

    def _write(self, weights, **further):
        state = {"network": _shape_of(self.model), "identity": self.identity, "weights": weights}
        state |= {"epochs": self.history, "settings": self.settings, "changes": self.changes, **further}
        if self._since > 1:
            state["best from"] = self._since
        write_atomically(self.directory / HISTORY, json.dumps(state, indent=1).encode())


def _save_weights(model, path):
    """As `model.save_weights`, in one step: HDF5, which cannot close a file on a full disk, writes to memory."""
    files.write_atomically(path, weights_file(model))


def _variables(model):
    return [*model.weights, *model.optimizer.variables]


def _numbers(variable):
    return keras.ops.convert_to_numpy(variable).tolist()


def _file_of(number):
    return f"state-{number}.weights.h5"


def _shape_of(model):
    """A digest of the names and shapes of all weights: what a saved state must fit."""
    text = json.dumps([[weight.path, list(weight.shape)] for weight in model.weights])
    return hashlib.sha256(text.encode()).hexdigest()[:16]
