"""Two versions of the package in turn: what a change costs in construction, prediction, training steps and children.

    git worktree add ../before REVISION
    python benchmarks/versions.py ../before . --pairs 5

Each measurement is a process of its own that finds the package in one of the two checkouts. It takes the seconds of
building NASNetMobile and NASNetLarge with random weights (as `build_time.py`), of the first prediction and of one more
(`prediction.py`), of a training step of NASNet-A with N=2, F=32 and batches of 64 (`step.py`), and of a child's first
step and of a whole child in a search (`turnaround.py`). Prints the median of each in both, and that of the ratios,
pair by pair: above 1, the second version is slower.
"""

import argparse
import gc
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def median_of(count, run):
    """The median seconds of some calls."""
    times = []
    for _ in range(count):
        gc.collect()
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def networks():
    """Construction, prediction and training steps."""
    import keras
    import numpy as np

    import nasnet_keras

    nasnet_keras.NASNetMobile(weights=None)
    figures = {
        "build NASNetMobile": median_of(3, lambda: nasnet_keras.NASNetMobile(weights=None)),
        "build NASNetLarge": median_of(3, lambda: nasnet_keras.NASNetLarge(weights=None)),
    }
    model, image = nasnet_keras.NASNetMobile(weights=None), np.zeros((1, 224, 224, 3), "float32")
    figures["first prediction"] = median_of(1, lambda: model.predict(image, verbose=0))
    model.predict(image, verbose=0)
    figures["one image"] = median_of(30, lambda: model.predict(image, verbose=0))
    network = nasnet_keras.NASNet(repeats=2, filters=32, stem="cifar", input_shape=(32, 32, 3), classes=10)
    optimizer = keras.optimizers.SGD(0.025, momentum=0.9, global_clipnorm=5.0)
    network.compile(optimizer, "sparse_categorical_crossentropy", jit_compile=False)
    generator = np.random.default_rng(0)
    batch = generator.uniform(-1, 1, (64, 32, 32, 3)).astype("float32"), generator.integers(0, 10, 64)
    figures["first training step"] = median_of(1, lambda: network.train_on_batch(*batch))
    figures["training step"] = median_of(7, lambda: network.train_on_batch(*batch))
    return figures


def children():
    """A child's first step, and all that a trial costs."""
    import numpy as np

    import nasnet_keras

    data = nasnet_keras.load_data("digits", limit=720)
    settings = nasnet_keras.ChildSettings()
    ends, genotypes = [time.perf_counter()], []

    def note(trials):
        ends.extend([time.perf_counter()] * (len(trials) - len(genotypes)))
        genotypes.extend(trials[len(genotypes) :])

    with tempfile.TemporaryDirectory() as folder:
        nasnet_keras.search(data, 9, folder, "random", 0, child=settings, rules=(), on_trial=note)
    batch = next(iter(settings.batches(data, 0)))
    cells = [nasnet_keras.Genotype.from_dict(trial["genotype"]) for trial in genotypes]

    def first_step(genotype):
        child = settings.start(genotype, data, 0, 20)
        return float(child.train_step(batch[0], np.asarray(batch[1], "int64")))

    starts = [median_of(1, lambda cell=cell: first_step(cell)) for cell in cells[2:]]
    return {"a child's first step": statistics.median(starts), "child": statistics.median(np.diff(ends)[2:])}


MEASURES = {"networks": networks, "children": children}


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkouts", nargs="*", metavar="CHECKOUT", help="two folders that hold nasnet_keras/")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--measures", nargs="+", default=list(MEASURES), choices=MEASURES)
    parser.add_argument("--measure", choices=MEASURES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        return print(json.dumps(MEASURES[options.measure]()))
    if len(options.checkouts) != 2:
        parser.error("two checkouts are compared")
    for measure in options.measures:
        rows = [[], []]
        for number in range(options.pairs):
            for column, checkout in zip(rows, options.checkouts, strict=True):
                environment = {**os.environ, "PYTHONPATH": str(Path(checkout).resolve())}
                environment |= {"TF_NUM_INTRAOP_THREADS": "1"} if measure == "children" else {}
                command = [sys.executable, __file__, "--measure", measure]
                done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
                column.append(json.loads(done.stdout.splitlines()[-1]))
            print(f"{measure}: pair {number + 1} of {options.pairs}", file=sys.stderr, flush=True)
        for name in rows[0][0]:
            before, after = ([figures[name] for figures in column] for column in rows)
            ratio = statistics.median(b / a for a, b in zip(before, after, strict=True))
            one, other = statistics.median(before), statistics.median(after)
            print(f"{name}: {one * 1e3:.1f} ms before, {other * 1e3:.1f} ms after, ratio {ratio:.3f}", flush=True)
    return None


if __name__ == "__main__":
    main()
