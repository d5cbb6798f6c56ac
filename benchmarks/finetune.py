"""The first minutes of a fine-tuning, beside keras.applications': construction, the first training step, later ones.

    python benchmarks/finetune.py --pairs 3
    python benchmarks/finetune.py --network large --batch 4

A `Sequential` of the network without its top and a dense layer is compiled with plain SGD and takes steps on random
images; then once more with its cells frozen. Each side gets a process of its own for each pair, in turn. Prints the
median of each side, that of the ratios, and the CPU seconds of a first step, which other work on the machine changes
less than the time by the clock.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
SIDES = ("ours", "theirs")
NETWORKS = {"mobile": ("NASNetMobile", 224, 16), "large": ("NASNetLarge", 331, 4)}


def measure(side, network, size, batch, steps):
    """{figure: seconds or MB} of one side."""
    import keras
    import numpy as np

    import nasnet_keras

    factory = getattr(nasnet_keras if side == "ours" else keras.applications, network)
    generator = np.random.default_rng(0)
    images, labels = generator.uniform(-1, 1, (batch, size, size, 3)).astype("float32"), np.arange(batch) % 5
    figures, clock = {}, time.perf_counter
    for state in ("", "frozen: "):
        keras.utils.clear_session()
        start = clock()
        base = factory(include_top=False, weights=None, pooling="avg", input_shape=(size, size, 3))
        base.trainable = not state
        model = keras.Sequential([base, keras.layers.Dense(5, activation="softmax")])
        model.compile(keras.optimizers.SGD(0.01), "sparse_categorical_crossentropy")
        figures[f"{state}construction"] = clock() - start
        start, cpu = clock(), time.process_time()
        model.train_on_batch(images, labels)
        figures[f"{state}first step"] = clock() - start
        figures[f"{state}first step, CPU"] = time.process_time() - cpu
        taken = []
        for _ in range(steps):
            start = clock()
            model.train_on_batch(images, labels)
            taken.append(clock() - start)
        figures[f"{state}step"] = statistics.median(taken)
        if not state:
            figures["memory at most (MB)"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return figures


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", choices=NETWORKS, default="mobile")
    parser.add_argument("--size", type=int, help="pixels (default: 224 or 331)")
    parser.add_argument("--batch", type=int, help="images a step (default: 16 or 4)")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    name, size, batch = NETWORKS[options.network]
    size, batch = options.size or size, options.batch or batch
    if options.side:
        return print(json.dumps(measure(options.side, name, size, batch, options.steps)))
    figures = {}
    for pair in range(options.pairs):
        for place in (0, 1) if pair % 2 else (1, 0):
            command = [sys.executable, *sys.argv, "--side", SIDES[place]]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            for what, value in json.loads(done.stdout.splitlines()[-1]).items():
                figures.setdefault(what, ([], []))[place].append(value)
        print(f"pair {pair + 1} of {options.pairs}", file=sys.stderr, flush=True)
    print(f"{name}, {size} pixels, batch {batch}, {options.pairs} pairs: ours, keras.applications', ratio")
    for what, (ours, theirs) in figures.items():
        ratio = statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
        print(f"{what}: {statistics.median(ours):.2f}, {statistics.median(theirs):.2f}, {ratio:.2f}")
    return None


if __name__ == "__main__":
    main()
