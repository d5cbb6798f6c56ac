"""The state of a training on disk: what is needed to go on as if nothing had happened."""

import hashlib
import json
from pathlib import Path

import keras
import numpy as np

from nasnet_keras.files import read_object, write_atomically
from nasnet_keras.models.nesting import seed_generators
from nasnet_keras.training.identity import ADVICE, HISTORY, check_resumption


class Checkpoints(keras.callbacks.Callback):
    """Keeps a training's history, and its weights and optimiser after each epoch.

    The history is replaced in one step and names the files that belong to it, so whatever moment a
    process dies at, the last finished epoch is there. Every epoch starts from its own seeds: repeated
    after a kill, it is the epoch that was lost. Whether a training has ended, and which epoch was the
    best, follows from the history alone.

    Args:
        directory: where to keep the state, None for nowhere.
        seed: the training's seed.
        patience: stop after this many epochs without a better one; None for never, and then the last counts.
        identity: what a state on disk must agree with, see `identity.training_identity`.
    """

    def __init__(self, directory, seed, *, patience=None, identity=None):
        super().__init__()
        self.seed, self.patience = seed, patience
        self.directory = None if directory is None else Path(directory)
        self.identity = identity or {}
        self.history, self._best = [], None

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
        check_resumption(self.directory, self.identity)
        try:
            state = read_object(path)
            if state["network"] != _shape_of(model):
                raise ValueError("its network has other weights")
            model.optimizer.build(model.trainable_variables)
            model.load_weights(self.directory / state["weights"])
            self.history = list(state["epochs"])
            if self.history and not (self.directory / _file_of(self.best())).exists():
                raise ValueError(f"it kept no weights of epoch {self.history[self.best() - 1]['epoch']}, its best")
        except (OSError, ValueError, KeyError, TypeError) as error:
            reason = str(error).strip().splitlines()[0]
            raise ValueError(
                f"`directory` {self.directory} holds the state of another training: {reason}. {ADVICE}"
            ) from None

    def has_ended(self):
        """Whether there has been no better epoch for so long that more are not worth it."""
        return bool(self.patience and self.history) and len(self.history) - self.best() >= self.patience

    def best(self):
        """Number of the best epoch in the history, counted from 1: by validation accuracy, then by loss.

        Without `patience` it is the last one.
        """
        numbers = range(1, len(self.history) + 1)
        if not self.patience:
            return numbers[-1]
        return max(numbers, key=lambda number: (*_quality(self.history[number - 1]), -number))

    def finish(self, model):
        """Leave the best epoch's weights in the model."""
        best = self.best()
        if best != len(self.history) and self.directory is not None:
            model.load_weights(self.directory / _file_of(best))
        elif best != len(self.history):
            for variable, value in zip(_variables(model), self._best, strict=True):
                variable.assign(value)
        # If the recipe averages weights, the average is the result.
        model.optimizer.finalize_variable_values(model.trainable_variables)

    def on_epoch_begin(self, epoch, logs=None):
        """Take the epoch's own seeds of what drops paths and units."""
        for index, generator in enumerate(seed_generators(self.model)):
            state = np.random.SeedSequence([self.seed, epoch, index]).generate_state(2)
            generator.state.assign(state.astype(generator.state.dtype))

    def on_epoch_end(self, epoch, logs=None):
        """Keep the epoch, and stop where it is time."""
        self.history.append({"epoch": epoch + 1, **{key: float(value) for key, value in (logs or {}).items()}})
        if self.directory is not None:
            self._save()
        elif self.patience and self.best() == len(self.history):
            self._best = [keras.ops.convert_to_numpy(variable) for variable in _variables(self.model)]
        if self.has_ended():
            self.model.stop_training = True

    def _save(self):
        """The old state or the new one, never half of each."""
        last, best = _file_of(len(self.history)), _file_of(self.best())
        self.model.save_weights(self.directory / last)
        state = {"network": _shape_of(self.model), "identity": self.identity, "weights": last, "epochs": self.history}
        write_atomically(self.directory / HISTORY, json.dumps(state, indent=1).encode())
        for old in self.directory.glob("state-*.weights.h5"):
            if old.name not in (last, best):
                old.unlink()


def _variables(model):
    return [*model.weights, *model.optimizer.variables]


def _file_of(number):
    return f"state-{number}.weights.h5"


def _quality(epoch):
    """(validation accuracy, minus the validation loss) of an epoch of the history."""
    # Other figures that end in accuracy may stand beside the package's own.
    accuracy = epoch.get("val_predictions_accuracy", epoch.get("val_accuracy", 0.0))
    return accuracy, -epoch.get("val_loss", 0.0)


def _shape_of(model):
    """A digest of the names and shapes of all weights: what a saved state must fit."""
    text = json.dumps([[weight.path, list(weight.shape)] for weight in model.weights])
    return hashlib.sha256(text.encode()).hexdigest()[:16]
