"""What `test_devices.py` runs in processes of their own: two devices have to be there before a framework starts.

KERAS_BACKEND=tensorflow python on_devices.py steps results.npz
"""

import json
import sys
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np

if keras.backend.backend() == "tensorflow":
    import tensorflow as tf

    (CPU,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(CPU, [tf.config.LogicalDeviceConfiguration()] * 2)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.experimental.enable_op_determinism()

from nasnet_keras.data.loading import Data
from nasnet_keras.data.splits import Split
from nasnet_keras.models.freezing import freeze
from nasnet_keras.models.network import NASNet
from nasnet_keras.models.seeds import drawn_from
from nasnet_keras.training import devices, fitting, recipes
from nasnet_keras.training.transfer import fine_tune, parts

NAMES = ("red", "green", "blue")
SMALL = {"repeats": (1,), "filters": 4, "stem": "cifar", "input_shape": (8, 8, 3), "classes": 3}
RECIPE = recipes.recipe("micro", batch_size=16)


def data(train=64, validation=9):
    """Images whose class is their strongest colour, with noise, so that a network is not right at once."""
    rng = np.random.default_rng(0)

    def split(count):
        labels = np.arange(count, dtype="int32") % 3
        images = rng.integers(0, 120, (count, 8, 8, 3))
        images[np.arange(count), :, :, labels] += 60
        return Split(images.astype("uint8"), labels)

    one, two = split(train), split(validation)
    return Data("colours", one, two, two, NAMES, (8, 8, 3))


def network(**options):
    """A small network, always with the same weights."""
    with drawn_from(5):
        return NASNet("tiny", **{**SMALL, **options})


def plain():
    """A smaller model of Keras' own layers, always with the same weights; quick to trace."""
    layers = keras.layers
    with drawn_from(5):
        parts = [layers.Conv2D(4, 3, kernel_regularizer="l2", name="conv")]
        parts += [layers.BatchNormalization(momentum=0.9, name="norm"), layers.ReLU(), layers.GlobalAveragePooling2D()]
        parts += [layers.Dropout(0.3), layers.Dense(3, "softmax", name="dense")]
        return keras.Sequential([keras.Input((8, 8, 3)), *parts], name="plain")


def values(model):
    """All weights, by their places."""
    return {variable.path: keras.ops.convert_to_numpy(variable) for variable in model.weights}


def largest(one, other):
    """The greatest difference between two dicts of arrays."""
    return max(np.abs(one[name] - other[name]).max() for name in one)


class Seen(keras.callbacks.Callback):
    """How far copies are apart after each epoch, and what their generators draw."""

    def __init__(self):
        super().__init__()
        self.apart, self.statistics, self.draws = [], 0.0, []

    def copies(self, variable):
        """The copies of a variable, as arrays."""
        if keras.backend.backend() == "tensorflow":
            strategy = self.model.distribute_strategy
            return [one.numpy() for one in strategy.experimental_local_results(variable.value)]
        return [np.asarray(one.data) for one in variable.value.addressable_shards]

    def on_train_batch_end(self, batch, logs=None):
        if keras.backend.backend() == "tensorflow":
            moving = [variable for variable in self.model.weights if "moving_mean" in variable.path]
            apart = max(np.ptp(self.copies(variable), axis=0).max() for variable in moving)
            self.statistics = max(self.statistics, apart)
            for layer in self.model.layers:
                if getattr(layer, "seed_generator", None) is not None and not self.draws:
                    self.draws = self.copies(layer.seed_generator.state)

    def on_epoch_end(self, epoch, logs=None):
        variables = [*self.model.variables, *self.model.optimizer.variables]
        variables = [variable for variable in variables if "seed_generator" not in variable.path]
        self.apart.append(max(float(np.ptp(self.copies(variable), axis=0).max()) for variable in variables))


def steps(folder):
    """One step on two devices beside one, with a limit on the gradient that is felt."""
    recipe, trained = replace(RECIPE, clip_norm=0.05, momentum=0.0), []
    for number in (1, 2):
        model = network(weight_decay=1e-3)
        for layer in parts(model):  # on JAX norms learn from the whole batch, as on one device
            layer.frozen_statistics = keras.backend.backend() == "tensorflow"
        fitting.fit(model, data(train=16), recipe, epochs=1, validate=False, devices=number)
        trained.append(values(model))
    return {"apart": largest(*trained), "moved": largest(trained[0], values(network()))}


def statistics(folder):
    """Moving statistics after one step of two devices, beside the mean of those that each half alone leaves."""
    recipe = replace(RECIPE, learning_rate=1e-9)
    whole = data(train=16)
    order = np.random.default_rng([0, 0]).permutation(16)
    halves = [whole.train.select(order[:8]), whole.train.select(order[8:])]
    trained = []
    for train, number in ((halves[0], 1), (halves[1], 1), (whole.train, 2)):
        model = plain()
        part = replace(whole, train=train)
        fitting.fit(model, part, replace(recipe, batch_size=len(train)), epochs=1, validate=False, devices=number)
        trained.append({place: value for place, value in values(model).items() if "moving" in place})
    one, two, both = trained
    return {
        "apart": largest(both, {place: (one[place] + two[place]) / 2 for place in one}),
        "differ": largest(one, two),
    }


def copies(folder):
    """Thirty steps and more: copies stay equal, drop other paths, and are evaluated as one device evaluates."""
    seen, kept = Seen(), data(train=128, validation=9)
    model = network(drop_path=0.4, dropout=0.2)
    averaged = replace(RECIPE, moving_average=0.9)
    fitting.fit(model, kept, averaged, epochs=4, devices=2, callbacks=[seen], directory=folder)
    figures = [fitting.evaluate(model, kept.validation, devices=number) for number in (None, 2)]
    counted = keras.ops.convert_to_numpy(model.get_layer("drop_path").step)
    return {
        "apart": seen.apart,
        "statistics": seen.statistics,
        "draws": np.array(seen.draws),
        "steps": [32, counted],
        "accuracy": [one["accuracy"] for one in figures],
        "loss": [one["loss"] for one in figures],
    }


def watched(folder):
    """What a training says of a validation that two devices do not divide, beside what one device says."""
    model, kept = plain(), data(train=48, validation=9)
    history = fitting.fit(model, kept, RECIPE, epochs=1, devices=2)
    after = fitting.evaluate(model, kept.validation)
    after["loss"] += float(sum(model.losses))  # on the kernel: it does not depend on images
    return {name: [history[-1][f"val_{name}"], after[name]] for name in ("accuracy", "loss")}


def going_on(folder):
    """Three epochs at once; killed after one; and on two devices, one, and two again."""
    results, begun = {}, {"whole": [(3, 2)], "killed": [(1, 2), (3, 2)], "changed": [(1, 2), (2, 1), (3, 2)]}
    for name, runs in begun.items():
        for epochs, number in runs:
            model, callbacks = plain(), [Kill(epochs)] if epochs < 3 else []
            options = {"directory": Path(folder) / name, "devices": number, "callbacks": callbacks}
            try:
                history = fitting.fit(model, data(), RECIPE, epochs=3, **options)
            except KeyboardInterrupt:
                continue
        results[name], results[f"{name} epochs"] = values(model), [row["epoch"] for row in history]
    found = {f"{name} apart": largest(results["whole"], results[name]) for name in ("killed", "changed")}
    return found | {key: value for key, value in results.items() if key.endswith("epochs")}


def within(folder):
    """Averaged weights, killed in the middle of an epoch, beside an undisturbed training; what is said of them."""
    recipe, trained, said = replace(RECIPE, moving_average=0.9), {}, {}
    for name, callbacks in (("whole", []), ("killed", [Kill(1)]), ("killed", [])):
        model, kept = plain(), data()
        options = {"directory": Path(folder) / name, "devices": 2, "checkpoint_every": 1, "callbacks": callbacks}
        try:
            history = fitting.fit(model, kept, recipe, epochs=2, **options)
        except KeyboardInterrupt:
            inside = json.loads((Path(folder) / name / "history.json").read_text())["inside"]["step"]
            continue
        trained[name] = values(model)
        said[name] = [[row[key] for key in ("loss", "accuracy", "val_loss", "val_accuracy")] for row in history]
    after = fitting.evaluate(model, kept.validation)
    after["loss"] += float(sum(model.losses))  # on the kernel, of the averages
    found = {"apart": largest(trained["whole"], trained["killed"]), "inside": inside, **said}
    return found | {name: [history[-1][f"val_{name}"], after[name]] for name in ("accuracy", "loss")}


def tuned(folder):
    """How far cells and head move in a fine-tuning of the head alone; how many weights learn with norms that do not."""
    standing = freeze(network(), norms=True)
    with devices.spread(standing, 2) as spread:
        learning = [len(one.trainable_variables) for one in (standing, spread, network())]
    source, kept = network(), data(train=32)
    options = {"epochs": 1, "unfreeze": "head", "devices": 2, "directory": folder}
    model = fine_tune(source, kept.train, kept.validation, NAMES, recipe=RECIPE, **options)
    before, after = source.named_weights(), model.named_weights()
    moved = {name: np.abs(np.asarray(before[name]) - np.asarray(after[name])).max() for name in before}
    cells = [value for name, value in moved.items() if not name.startswith("logits")]
    found = {"cells": max(cells), "head": moved["logits/kernel"], "learning": learning}
    return {**found, "saved": (Path(folder) / "model.keras").is_file()}


class Kill(keras.callbacks.Callback):
    """Ends the process' training in the middle of the epoch after some."""

    def __init__(self, epochs):
        super().__init__()
        self.epochs = epochs

    def on_train_batch_end(self, batch, logs=None):
        if self.epoch >= self.epochs and batch == 1:
            raise KeyboardInterrupt

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch


def refused(folder):
    """What the errors say."""
    found = {}

    def say(name, function):
        try:
            function()
        except ValueError as error:
            found[name] = str(error)

    say("too many", lambda: fitting.fit(network(), data(), RECIPE, epochs=1, devices=3))
    say("undivided", lambda: fitting.fit(network(), data(), replace(RECIPE, batch_size=15), epochs=1, devices=2))
    say("half a number", lambda: fitting.fit(network(), data(), RECIPE, epochs=1, devices=1.5))
    if keras.backend.backend() == "tensorflow":
        with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
            spread = network()
        say("spread", lambda: fitting.fit(spread, data(), RECIPE, epochs=1))
        half = network(dtype="mixed_float16")
        summed = replace(RECIPE, gradient_accumulation=2)
        say("accumulated", lambda: fitting.fit(network(), data(), summed, epochs=1, devices=2))
        say("half precision", lambda: fitting.fit(half, data(), RECIPE, epochs=1, devices=2))
    say("hosts", lambda: devices.join(("127.0.0.1:1", 2, 1)) if keras.backend.backend() == "tensorflow" else None)
    changed = network()
    changed.get_layer("cell_0").call = lambda *inputs, **options: inputs[0][0]
    say("changed", lambda: fitting.fit(changed, data(), RECIPE, epochs=1, devices=2))
    return {name: np.array(text) for name, text in found.items()}


def as_host(folder, place, number):
    """A training as one of two hosts; the weights that it ends with."""
    devices.join((place, 2, int(number)))
    model, mixed = plain(), replace(RECIPE, mixup=0.2, erasing=0.3)
    history = fitting.fit(model, data(), mixed, epochs=2, directory=Path(folder).parent / "net", patience=2)
    accuracy = [history[-1]["val_accuracy"], fitting.evaluate(model, data().validation)["accuracy"]]
    found = {**values(model), "accuracy": accuracy}
    devices.leave()
    return found


def main(names, output, *arguments):
    """Run some of the functions above, and keep what each found."""
    found = {}
    for name in names.split(","):
        results = globals()[name](Path(output).with_name(name), *arguments)
        found |= {f"{name}: {key}": np.asarray(value) for key, value in results.items()}
        np.savez(output, **found)


if __name__ == "__main__":
    main(*sys.argv[1:])
