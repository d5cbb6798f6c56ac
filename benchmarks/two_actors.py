"""Two Ray actors beside two processes of this machine: trials a second of one search with real children.

    python benchmarks/two_actors.py [--pairs 2] [--trials 40] [--epochs 2]

Each search trains random cells on the digits. Counted is from the eighth trial on, when all workers are there; the
order is exchanged from pair to pair.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

FIRST = 8
PLACES = {"workers": ["--workers", "2"], "actors": ["--engine", "ray", "--workers", "2"]}


def rate(place, trials, epochs):
    """Trials a second of one search."""
    with tempfile.TemporaryDirectory() as folder:
        log, times = Path(folder) / "search/trials.jsonl", []
        words = [sys.executable, "-m", "nasnet_keras.cli", "search", "--data", "digits", "--max-trials", str(trials)]
        words += ["--controller", "random", "--epochs", str(epochs), "--no-final", "--directory", f"{folder}/search"]
        process = subprocess.Popen([*words, *PLACES[place]], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while len(times) < trials:
            count = len(log.read_bytes().splitlines()) if log.exists() else 0
            times += [time.monotonic()] * (count - len(times))
            if process.poll() is not None and count < trials:
                sys.exit(f"the search with {place} ended with {process.returncode} after {count} of {trials} trials")
            time.sleep(0.05)
        process.wait()
    return (trials - FIRST) / (times[-1] - times[FIRST - 1])


def main():
    """Measure pairs, and print their ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=2)
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--epochs", type=int, default=2)
    options = parser.parse_args()
    ratios = []
    for pair in range(options.pairs):
        order = list(PLACES)[:: -1 if pair % 2 else 1]
        rates = {place: rate(place, options.trials, options.epochs) for place in order}
        ratios.append(rates["actors"] / rates["workers"])
        print(f"actors {rates['actors']:.3f}, workers {rates['workers']:.3f}, ratio {ratios[-1]:.3f}", flush=True)
    print(f"median {statistics.median(ratios):.3f}")


if __name__ == "__main__":
    main()
