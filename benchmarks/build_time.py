"""Build time of NASNetMobile and NASNetLarge beside keras.applications', in turn in one process.

    python benchmarks/build_time.py --runs 5

Prints the median seconds of each and the median of the ratios, pair by pair.
"""

import argparse
import gc
import os
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras

import nasnet_keras


def seconds(build):
    """Time one construction with random weights, with nothing left over from the one before."""
    keras.utils.clear_session()
    gc.collect()
    start = time.perf_counter()
    build(weights=None)
    return time.perf_counter() - start


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5, help="counted pairs for each network")
    runs = parser.parse_args().runs
    for name in ("NASNetMobile", "NASNetLarge"):
        pair = getattr(nasnet_keras, name), getattr(keras.applications, name)
        times = [[seconds(build) for build in pair] for _ in range(runs + 1)][1:]
        ours, theirs = (statistics.median(column) for column in zip(*times, strict=True))
        ratio = statistics.median(one / other for one, other in times)
        print(f"{name}: nasnet_keras {ours:.2f} s, keras.applications {theirs:.2f} s, ratio {ratio:.2f}", flush=True)


if __name__ == "__main__":
    main()
