"""How soon a child trains, and how many train in an hour, beside plain Keras in stock KerasTuner.

    python benchmarks/turnaround.py [--data digits] [--children 5] [--workers 0 2] [--memory 0]

Ours is `search` with random proposals. The peer is a KerasTuner tuner whose hypermodel builds a functional model of
plain `keras.layers` from the same genotypes, compiles and fits it. Both train N=1, F=8 for one epoch of 20 batches of
32 and judge it by some 80 images; both count all that a trial costs, from one trial's end to the next one's. The first
child of each kind, which warms TensorFlow up, is left out. `--workers` counts processes that search side by side, 0 for
the process itself. With `--memory N` a search of N children prints the resident size on the way. `--data` is a folder,
for example of CIFAR-10, or the digits.
"""

import argparse
import os
import resource
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")  # as children have it anyway; operations still run in parallel

import keras
import keras_tuner
import numpy as np

from nasnet_keras import search
from nasnet_keras.children.settings import ChildSettings
from nasnet_keras.data.loading import load_data, normalize
from nasnet_keras.genotype import Genotype
from nasnet_keras.program.architecture import Architecture

STEPS, BATCH, LIMIT, FILTERS, CLASSES = 20, 32, 736, 8, 10  # a tenth of the images is held out
CHILD = ChildSettings(repeats=1, filters=FILTERS, epochs=1, batch_size=BATCH)


def plain_model(genotype, size):
    """The same network as a functional model in which every elementary layer is a layer of its own."""
    image = keras.Input((size, size, 3))
    network = {"repeats": 1, "filters": FILTERS, "stem": "cifar", "input_shape": (size, size, 3), "classes": CLASSES}
    program = Architecture(genotype, **network).program()
    values = {0: image}
    for step in program.steps:
        values[step.result.number] = plain(step.primitive, [values[value.number] for value in step.reads])
    return keras.Model(image, keras.layers.Softmax()(values[program.steps[-1].result.number]))


def plain(what, inputs):
    """One primitive as a plain Keras layer."""
    layers, (x, *_) = keras.layers, inputs
    if what.kind in ("conv", "dilated_conv"):
        settings = {"strides": what.strides, "padding": what.padding.lower(), "dilation_rate": what.dilation}
        return layers.Conv2D(what.makes, what.kernel, use_bias=False, **settings)(x)
    if what.kind in ("avg_pool", "max_pool"):
        kind = layers.AveragePooling2D if what.kind == "avg_pool" else layers.MaxPooling2D
        return kind(what.size, what.strides, what.padding.lower())(x)
    return {
        "relu": lambda: layers.ReLU()(x),
        "depthwise": lambda: layers.DepthwiseConv2D(what.kernel, what.strides, "same", use_bias=False)(x),
        "norm": lambda: layers.BatchNormalization(momentum=what.momentum, epsilon=what.epsilon)(x),
        "subsample": lambda: x[:, :: what.strides, :: what.strides],
        "shift": lambda: layers.Cropping2D(((1, 0), (1, 0)))(layers.ZeroPadding2D(((0, 1), (0, 1)))(x)),
        "add": lambda: layers.Add()(inputs),
        "concat": lambda: layers.Concatenate()(inputs),
        "mean": lambda: layers.GlobalAveragePooling2D()(x),
        "dense": lambda: layers.Dense(what.makes)(x),
    }[what.kind]()


def search_children(data, children, workers, report=None):
    """(seconds from one end to the next, genotypes) of the children of a random search."""
    ends, count = [time.perf_counter()], 0

    def note(trials):
        nonlocal count
        ends.extend([time.perf_counter()] * (len(trials) - count))
        count = len(trials)
        if report:
            report(count)

    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "search"
        further = {"on_trial": note, "rules": (), "workers": workers or None}
        result = search(data, children, place, "random", child=CHILD, **further)
    failed = [trial["reason"] for trial in result.trials if trial["reward"] is None]
    if failed:
        raise SystemExit(f"{len(failed)} children failed: {failed[0]}")
    genotypes = {trial["trial_id"]: Genotype.from_dict(trial["genotype"]) for trial in result.trials}
    return np.diff(ends), [genotypes[name] for name in sorted(genotypes)]


class PlainChildren(keras_tuner.HyperModel):
    """Models of plain layers by their number."""

    def __init__(self, genotypes, data):
        super().__init__()
        self.genotypes, self.data, self.begun, self.first_steps = genotypes, data, 0.0, []

    def build(self, hp):
        """A compiled model."""
        self.begun = time.perf_counter()
        model = plain_model(self.genotypes[hp.Int("number", 0, len(self.genotypes) - 1)], self.data.image_shape[0])
        rate = keras.optimizers.schedules.CosineDecay(0.05, STEPS)
        optimizer = keras.optimizers.SGD(rate, momentum=0.9, global_clipnorm=5.0)
        model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"], jit_compile=False)
        return model

    def fit(self, hp, model, *arguments, callbacks=(), **options):
        """`model.fit`, and when its first step was done."""
        first = []
        note = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: first.append(time.perf_counter()))
        history = model.fit(*arguments, callbacks=[*callbacks, note], **options)
        self.first_steps.append(first[0] - self.begun)
        return history


def tune_plain(genotypes, data):
    """(seconds from one end to the next, seconds to the first step) of plain models in stock KerasTuner."""
    ends, children = [time.perf_counter()], PlainChildren(genotypes, data)

    class Tuner(keras_tuner.GridSearch):
        def on_trial_end(self, trial):
            super().on_trial_end(trial)
            ends.append(time.perf_counter())

    with tempfile.TemporaryDirectory() as folder:
        tuner = Tuner(children, objective="val_accuracy", max_trials=len(genotypes), directory=folder)
        tuner.search(
            normalize(data.train.images[: STEPS * BATCH]),
            data.train.labels[: STEPS * BATCH],
            batch_size=BATCH,
            epochs=1,
            validation_data=(normalize(data.validation.images), data.validation.labels),
            verbose=0,
        )
    return np.diff(ends), children.first_steps


def first_step(genotype, data, seed):
    """Seconds from a genotype to the end of the first training step."""
    batch = normalize(data.train.images[:BATCH]), data.train.labels[:BATCH].astype("int64")
    start = time.perf_counter()
    child = CHILD.start(genotype, data, seed, STEPS)
    float(child.train_step(*batch))
    return time.perf_counter() - start


def resident():
    """Resident size in MB; the greatest so far where the system has no /proc."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def main():
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="digits", help="digits, or a folder of images")
    parser.add_argument("--children", type=int, default=5, help="children of each kind, besides the first")
    parser.add_argument("--workers", type=int, nargs="*", default=[0, 2], help="processes, a line for each number")
    parser.add_argument("--memory", type=int, default=0, help="children to train for the memory figures")
    options = parser.parse_args()
    data = load_data(options.data, limit=LIMIT)
    if options.children:
        compare(options, data)
    if options.memory:
        marks = {10, 30, *range(100, options.memory + 1, 100), options.memory}
        search_children(
            data,
            options.memory,
            0,
            lambda count: (
                count in marks and print(f"resident size after {count} children: {resident():.0f} MB", flush=True)
            ),
        )


def compare(options, data):
    """Ours, then the peer, on the same genotypes."""
    side = data.image_shape[0]
    print(f"{data.name}, {side}×{side}, {options.children} children, {os.cpu_count()} cores")
    ours = {}
    for workers in options.workers:
        # Children that run side by side end in no regular order: the mean tells what a median would not.
        seconds, genotypes = search_children(data, (options.children + 1) * max(1, workers), workers)
        ours[workers] = np.mean(seconds[2 * workers :]) if workers else np.median(seconds[1:])
    genotypes = genotypes[: options.children + 1]
    starts = np.median([first_step(genotype, data, seed) for seed, genotype in enumerate(genotypes)][1:])
    seconds, first_steps = tune_plain(genotypes, data)
    plain, plain_start = np.median(seconds[1:]), np.median(first_steps[1:])
    print(f"plain Keras in KerasTuner: first step {plain_start:.2f} s, child {plain:.2f} s, {3600 / plain:.0f} an hour")
    print(f"search: first step {starts:.2f} s ({plain_start / starts:.0f} times as soon)")
    for workers, child in ours.items():
        name = f"search with {workers} workers" if workers else "search"
        print(f"{name}: child {child:.2f} s, {3600 / child:.0f} an hour, {plain / child:.1f} times")


if __name__ == "__main__":
    main()
