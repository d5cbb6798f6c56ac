"""From construction to the first prediction, and `predict` of one image, beside keras.applications.

    python benchmarks/prediction.py [--network NASNetMobile] [--rounds 3] [--runs 50]

Each measurement is a process of its own, ours and theirs in turn: the seconds of building the network with random
weights and of the first `predict`, then the median of the calls after the first five. Medians, and the medians of the
ratios, pair by pair.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def measure(where, name, runs):
    """Print one JSON line: seconds of building, of the first prediction with it, and of one more."""
    import keras
    import numpy as np

    import nasnet_keras

    module = {"ours": nasnet_keras, "theirs": keras.applications}[where]
    size = {"NASNetMobile": 224, "NASNetLarge": 331}[name]
    image = np.random.default_rng(0).uniform(-1, 1, (1, size, size, 3)).astype("float32")
    start = time.perf_counter()
    model = getattr(module, name)(weights=None)
    built = time.perf_counter() - start
    model.predict(image, verbose=0)
    first, times = time.perf_counter() - start, []
    for _ in range(5 + runs):
        start = time.perf_counter()
        model.predict(image, verbose=0)
        times.append(time.perf_counter() - start)
    print(json.dumps({"build": built, "build and first": first, "one image": statistics.median(times[5:])}))


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", default="NASNetMobile", choices=["NASNetMobile", "NASNetLarge"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--measure", choices=["ours", "theirs"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        return measure(options.measure, options.network, options.runs)
    rows = {"ours": [], "theirs": []}
    for _ in range(options.rounds):
        for where, column in rows.items():
            command = [sys.executable, __file__, "--measure", where]
            command += ["--network", options.network, "--runs", str(options.runs)]
            output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            column.append(json.loads(output.splitlines()[-1]))
    for key in rows["ours"][0]:
        one, other = (statistics.median(row[key] for row in column) for column in rows.values())
        ratio = statistics.median(a[key] / b[key] for a, b in zip(*rows.values(), strict=True))
        print(f"{options.network}, {key}: {one * 1e3:.0f} ms against {other * 1e3:.0f} ms, ratio {ratio:.2f}")
    return None


if __name__ == "__main__":
    main()
