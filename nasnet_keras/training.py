"""Training: fitting that goes on where it stopped, the drop-path schedule, evaluation, the reward.

Nothing here knows a genotype: a model and data come in, a trained model and figures go out.
"""

import hashlib
import json
import math
import os
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np

from nasnet_keras.data import Batches
from nasnet_keras.files import write_atomically
from nasnet_keras.recipes import compile_model


class ScheduledDropPath(keras.callbacks.Callback):
    """Lets drop path grow from nothing to its full rate over a number of steps.

    The network counts its own training steps (`layers.DropPathSchedule`), saves them and
    goes on from them; this callback only tells it where the schedule ends.

    Args:
        total_steps: steps after which the rate is full.
    """

    def __init__(self, total_steps):
        super().__init__()
        self.total_steps = total_steps

    def on_train_begin(self, logs=None):
        """Set the end of the schedule in the network's counter."""
        for layer in self.model.layers:
            if layer.name == "drop_path":
                layer.total_steps.assign(float(self.total_steps))


class _Checkpoint(keras.callbacks.Callback):
    """Writes weights, optimiser and epoch after each epoch; makes every epoch start from its own seeds."""

    def __init__(self, batches, directory, seed, history):
        super().__init__()
        self.batches, self.directory, self.seed, self.history = batches, directory, seed, history

    def on_epoch_begin(self, epoch, logs=None):
        self.batches.epoch = epoch
        # Drop path and dropout draw from (seed, epoch), so that a resumed epoch repeats the lost one.
        for index, generator in enumerate(seed_generators(self.model)):
            state = np.random.SeedSequence([self.seed, epoch, index]).generate_state(2)
            generator.state.assign(state.astype(generator.state.dtype))

    def on_epoch_end(self, epoch, logs=None):
        self.history.append({"epoch": epoch + 1, **{key: float(value) for key, value in (logs or {}).items()}})
        if self.directory:
            _save_state(self.model, self.directory, self.history)


class _StopOnNaN(keras.callbacks.Callback):
    """Ends a run whose loss is no number: nothing can be learnt after that."""

    def on_train_batch_end(self, batch, logs=None):
        if "loss" in (logs or {}):
            check_loss(logs["loss"], self.epoch)

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch


class _ForEveryHead(keras.utils.PyDataset):
    """Batches whose labels go to each of a network's outputs by name."""

    def __init__(self, batches, heads):
        super().__init__()
        self.batches, self.heads = batches, heads

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, index):
        images, labels = self.batches[index]
        return images, dict.fromkeys(self.heads, labels)

    def on_epoch_begin(self):
        self.batches.on_epoch_begin()

    def on_epoch_end(self):
        self.batches.on_epoch_end()


def _for_heads(model, batches):
    return _ForEveryHead(batches, list(model.output)) if isinstance(model.output, dict) else batches


def fit(model, data, recipe, *, epochs, seed=0, directory=None, callbacks=(), validate=True):
    """Train a model, or go on with a training that was interrupted in `directory`.

    Args:
        model: a Keras model that returns class probabilities, or `{"predictions", "auxiliary"}`.
        data: a `data.Data`; its train split is learnt from, its validation split watched.
        recipe: a `Recipe`.
        epochs: epochs in all, those before an interruption included.
        seed: seed of the order of images, of augmentation, drop path and dropout.
        directory: where to keep the state after each epoch, None for nowhere.
        callbacks: further Keras callbacks.
        validate: whether to measure the validation split after each epoch.

    Returns:
        The history: one dict an epoch.

    Raises:
        FloatingPointError: the loss is not finite.
        ValueError: no epochs, or a state in `directory` that belongs to another network.
    """
    if type(epochs) is not int or epochs < 1:
        raise ValueError(f"`epochs` must be an integer above 0. Received: {epochs!r}")
    batches = training_batches(data, recipe, seed)
    steps = len(batches)
    compile_model(model, recipe, steps, epochs)
    history = []
    if directory is not None:
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        history = _restore_state(model, directory)
    if len(history) < epochs:
        model.fit(
            _for_heads(model, batches),
            epochs=epochs,
            initial_epoch=len(history),
            validation_data=_for_heads(model, Batches(data.validation, 256)) if validate else None,
            callbacks=[
                ScheduledDropPath(steps * epochs),
                _Checkpoint(batches, directory, seed, history),
                _StopOnNaN(),
                *callbacks,
            ],
            shuffle=False,
            verbose=0,
        )
    return history


def training_batches(data, recipe, seed):
    """The training split as `Batches` for a recipe."""
    return Batches(
        data.train, recipe.batch_size, training=True, augmentation=recipe.augmentation, cutout=recipe.cutout, seed=seed
    )


def evaluate(model, split, batch_size=256):
    """Share of a split's images that the model classifies right, and their mean cross-entropy.

    Args:
        model: a model that returns probabilities [batch, classes], or a dict with `predictions`.
        split: a `data.Split`.
        batch_size: images at a time.

    Returns:
        `{"accuracy": float, "loss": float, "images": int}`.
    """
    probabilities = predict(model, Batches(split, batch_size))
    right = probabilities[np.arange(len(split)), split.labels]
    return {
        "accuracy": float(np.mean(probabilities.argmax(-1) == split.labels)),
        "loss": float(np.mean(-np.log(np.maximum(right, keras.config.epsilon())))),
        "images": len(split),
    }


def match_classes(model, data, split):
    """A split whose labels count as the model counts its classes, by name.

    Raises:
        ValueError: the model has other classes than the data.
    """
    names = getattr(model, "class_names", None)
    if names is None or names == data.class_names:
        return split
    if sorted(names) != sorted(data.class_names):
        missing = sorted(set(data.class_names) ^ set(names))
        raise ValueError(
            f"`data` must have the model's {len(names)} classes. They differ in: {', '.join(missing[:10])}"
        )
    order = np.array([names.index(name) for name in data.class_names], dtype="int32")
    return replace(split, labels=order[split.labels])


def save_model(model, directory):
    """Leave the trained network in `directory/model.keras`, in one step.

    What only training needs stays behind: the optimiser, the loss, the auxiliary head.
    """
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    bare = type(model).from_config({**model.get_config(), "auxiliary_head": False})
    for layer in bare.layers:
        layer.set_weights(model.get_layer(layer.name).get_weights())
    temporary = directory / ".model.keras"
    bare.save(temporary)
    os.replace(temporary, directory / "model.keras")


def seed_everything(seed):
    """Seed Python, NumPy and Keras: weights drawn after it depend on the seed alone."""
    keras.utils.set_random_seed(seed)


def predict(model, batches):
    """Class probabilities [n, classes] as a NumPy array, in evaluation mode."""
    outputs = model.predict(batches, verbose=0)
    return outputs["predictions"] if isinstance(outputs, dict) else outputs


def reward(accuracy):
    """The reward of a child: its accuracy on the held-out validation images (section 3.2 of the paper).

    Args:
        accuracy: the validation accuracy after training.

    Raises:
        FloatingPointError: a figure that is not finite.
    """
    if not math.isfinite(accuracy):
        raise FloatingPointError(f"the validation accuracy is {accuracy}")
    return float(accuracy)


def check_loss(loss, epoch):
    """Raise `FloatingPointError` for a loss that is not finite: nothing can be learnt after it."""
    if not math.isfinite(loss):
        raise FloatingPointError(f"the loss is {loss} in epoch {epoch + 1}: a lower learning rate may help")


def seed_generators(layer):
    """All random generators inside a layer or model, in the order of its layers."""
    own = list(getattr(layer, "_seed_generators", []))
    return own + [generator for part in layer._layers for generator in seed_generators(part)]


def _save_state(model, directory, history):
    """The old state or the new one, never half of each: the history names the weights that belong to it."""
    name = f"state-{len(history)}.weights.h5"
    model.save_weights(directory / name)
    state = {"network": _shape_of(model), "weights": name, "epochs": history}
    write_atomically(directory / "history.json", json.dumps(state, indent=1).encode())
    for old in directory.glob("state-*.weights.h5"):
        if old.name != name:
            old.unlink()


def _shape_of(model):
    """A digest of the names and shapes of all weights: what a saved state must fit."""
    text = json.dumps([[weight.path, list(weight.shape)] for weight in model.weights])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _restore_state(model, directory):
    path = directory / "history.json"
    if not path.exists():
        return []
    try:
        state = json.loads(path.read_text())
        if state["network"] != _shape_of(model):
            raise ValueError("its network has other weights")
        model.optimizer.build(model.trainable_variables)
        model.load_weights(directory / state["weights"])
        return list(state["epochs"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(f"`directory` {directory} holds the state of another training: {reason}") from None
