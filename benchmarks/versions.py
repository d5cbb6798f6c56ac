"""Two versions of the package in turn: what a change costs in construction, prediction, training steps and children.

    git worktree add ../before REVISION
    python benchmarks/versions.py ../before . --pairs 5

Of networks it takes the seconds of building NASNetMobile and NASNetLarge with random weights (as `build_time.py`), of
the first prediction and of one more (`prediction.py`), and of the first and a later training step of NASNet-A with N=2,
F=32 and batches of 64 (`step.py`). One process for each checkout does them in turn, so that a machine that slows down
or speeds up meets both alike. Of children it takes a first step and a whole child in a search (`turnaround.py`), in a
process of its own for each checkout and pair. Prints the median of each in both, and that of the ratios, pair by pair:
above 1, the second version is slower.
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

CHILDREN = 25  # of a few, the median tells in which of them a collection of garbage or a page of the report fell


def seconds_of(run):
    """The seconds of a call."""
    gc.collect()
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def median_of(count, run):
    """The median seconds of some calls."""
    return statistics.median(seconds_of(run) for _ in range(count))


def networks():
    """Yield (name, turns in a pair, function that gets ready and returns what is timed)."""
    import keras
    import numpy as np

    import nasnet_keras

    image, generator = np.zeros((1, 224, 224, 3), "float32"), np.random.default_rng(0)
    batch = generator.uniform(-1, 1, (64, 32, 32, 3)).astype("float32"), generator.integers(0, 10, 64)
    kept = {}

    def mobile():
        kept["model"] = nasnet_keras.NASNetMobile(weights=None)
        return lambda: kept["model"].predict(image, verbose=0)

    def small():
        network = nasnet_keras.NASNet(repeats=2, filters=32, stem="cifar", input_shape=(32, 32, 3), classes=10)
        optimizer = keras.optimizers.SGD(0.025, momentum=0.9, global_clipnorm=5.0)
        network.compile(optimizer, "sparse_categorical_crossentropy", jit_compile=False)
        kept["network"] = network
        return lambda: network.train_on_batch(*batch)

    yield "build NASNetMobile", 3, lambda: lambda: nasnet_keras.NASNetMobile(weights=None)
    yield "build NASNetLarge", 1, lambda: lambda: nasnet_keras.NASNetLarge(weights=None)
    yield "first prediction", 1, mobile
    yield "one image", 20, lambda: lambda: kept["model"].predict(image, verbose=0)
    yield "first training step", 1, small
    yield "training step", 2, lambda: lambda: kept["network"].train_on_batch(*batch)


def answer():
    """Do what the lines on stdin ask for, one after the other: the names of measurements."""
    measures = {name: prepare for name, _, prepare in networks()}
    print(json.dumps([[name, turns] for name, turns, _ in networks()]), flush=True)
    for line in sys.stdin:
        print(json.dumps(seconds_of(measures[line.strip()]())), flush=True)


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
        nasnet_keras.search(data, CHILDREN, folder, "random", 0, child=settings, rules=(), on_trial=note)
    batch = next(iter(settings.batches(data, 0)))
    cells = [nasnet_keras.Genotype.from_dict(trial["genotype"]) for trial in genotypes]

    def first_step(genotype):
        child = settings.start(genotype, data, 0, 20)
        return float(child.train_step(batch[0], np.asarray(batch[1], "int64")))

    starts = [median_of(1, lambda cell=cell: first_step(cell)) for cell in cells[2:]]
    return {"a child's first step": statistics.median(starts), "child": statistics.median(np.diff(ends)[2:])}


def in_turn(checkouts, pairs):
    """{name: (seconds in the first checkout, in the second)} of networks, lists with a median for each pair."""
    command = [sys.executable, __file__, "--answer"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "bufsize": 1}
    sides = [subprocess.Popen(command, env=_found_in(checkout), **pipes) for checkout in checkouts]
    names, _ = (json.loads(side.stdout.readline()) for side in sides)
    figures = {}
    for number in range(-1, pairs):  # the first pair warms up
        for name, turns in names:
            taken = [[], []]
            for turn in range(turns):
                order = (0, 1) if (number + turn) % 2 else (1, 0)
                for place in order:
                    sides[place].stdin.write(name + "\n")
                    taken[place].append(json.loads(sides[place].stdout.readline()))
            if number >= 0:
                for column, values in zip(figures.setdefault(name, ([], [])), taken, strict=True):
                    column.append(statistics.median(values))
        print(f"networks: pair {number + 1} of {pairs}", file=sys.stderr, flush=True)
    for side in sides:
        side.stdin.close()
        side.wait()
    return figures


def one_by_one(checkouts, pairs):
    """The same of children."""
    figures = {}
    for number in range(pairs):
        for place in (0, 1) if number % 2 else (1, 0):
            environment = {**_found_in(checkouts[place]), "TF_NUM_INTRAOP_THREADS": "1"}
            command = [sys.executable, __file__, "--child"]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
            for name, seconds in json.loads(done.stdout.splitlines()[-1]).items():
                figures.setdefault(name, ([], []))[place].append(seconds)
        print(f"children: pair {number + 1} of {pairs}", file=sys.stderr, flush=True)
    return figures


def _found_in(checkout):
    return {**os.environ, "PYTHONPATH": str(Path(checkout).resolve())}


MEASURES = {"networks": in_turn, "children": one_by_one}


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkouts", nargs="*", metavar="CHECKOUT", help="two folders that hold nasnet_keras/")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--measures", nargs="+", default=list(MEASURES), choices=MEASURES)
    parser.add_argument("--answer", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.answer:
        return answer()
    if options.child:
        return print(json.dumps(children()))
    if len(options.checkouts) != 2:
        parser.error("two checkouts are compared")
    for measure in options.measures:
        for name, (before, after) in MEASURES[measure](options.checkouts, options.pairs).items():
            ratio = statistics.median(b / a for a, b in zip(before, after, strict=True))
            one, other = statistics.median(before), statistics.median(after)
            print(f"{name}: {one * 1e3:.1f} ms before, {other * 1e3:.1f} ms after, ratio {ratio:.3f}", flush=True)
    return None


if __name__ == "__main__":
    main()
