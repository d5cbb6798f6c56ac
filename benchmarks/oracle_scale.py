"""What a trial costs the longer a search gets: our oracle beside KerasTuner's, with a reward that costs nothing.

    python benchmarks/oracle_scale.py --trials 20000

Ours runs the whole loop, `nasnet_keras.search`, through all trials, then starts again in its directory. KerasTuner's
`RandomSearchOracle` has the same 50 choices; because it would need two hours for 20,000 trials it is filled with
finished trials up to each size, and then driven through some more in the ordinary way.
CPU is that of the process; the wall clock holds the waiting for the disk as well, where the directory is one.
"""

import argparse
import multiprocessing
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import keras_tuner
from keras_tuner.engine import base_tuner
from keras_tuner.engine.trial import Trial

import nasnet_keras
from nasnet_keras import SearchSpace
from nasnet_keras.data.loading import load_data
from nasnet_keras.search.rules import Replay

WINDOW = 100  # trials whose cost is averaged


@dataclass(frozen=True)
class FreeChild:
    """A child that is not trained: its reward is a number made of its seed."""

    kind: str = "free"

    def evaluate(self, genotype, data, seed, **_):
        """What `ChildSettings.evaluate` gives, at once."""
        return {"reward": seed / 2**32, "parameters": seed % 10**6, "multiply_adds": seed % 10**7}


def resident():
    """Megabytes of this process now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6


def ours(strategy, trials, folder, data):
    """Cost of each trial of a whole search: lists of CPU seconds, seconds and megabytes, and the reload."""
    marks = []

    def mark(finished):
        now = time.process_time(), time.perf_counter(), resident()
        # Trials that repeat a network end together with the next one that is trained.
        marks.extend([now] * (len(finished) + 1 - len(marks)))

    nasnet_keras.search(data, trials, folder, strategy, 0, child=FreeChild(), on_trial=mark)
    start = time.perf_counter()
    oracle = nasnet_keras.NASNetOracle(trials, strategy=strategy, seed=0, rules=(Replay(),))
    oracle._set_project_dir(str(folder.parent), folder.name)
    best = oracle.get_best_trials(10)
    reload = time.perf_counter() - start
    assert len(best) == 10 and len(oracle.finished_trials()) == trials
    return marks, reload


class Stock(base_tuner.BaseTuner):
    """KerasTuner's own loop around its own oracle, with a reward that costs nothing."""

    def run_trial(self, trial, *_, **__):
        """The reward."""
        return {"reward": int(trial.trial_id) / 1e6}


def stock(sizes, folder):
    """{size: (CPU, wall) of a trial in seconds} of a `RandomSearchOracle` that has this many finished trials."""
    space, costs = keras_tuner.HyperParameters(), {}
    for decision in SearchSpace().decisions:
        space.Choice(decision.name, list(decision.choices), ordered=False)
    for size in sizes:
        few = max(3, min(WINDOW, 30_000 // max(1, size)))
        oracle = keras_tuner.oracles.RandomSearchOracle(
            keras_tuner.Objective("reward", "max"), max_trials=size + few, hyperparameters=space, seed=1
        )
        tuner = Stock(oracle, directory=str(folder), project_name=str(size))
        made_up = space.copy()
        for number in range(size):
            trial = Trial(made_up, trial_id=f"{number:05d}", status="COMPLETED")
            trial.metrics.register("reward", "max")
            trial.metrics.update("reward", number / 1e6)
            trial.score, trial.best_step = number / 1e6, 0
            oracle.trials[trial.trial_id] = trial
            oracle.start_order.append(trial.trial_id)
            oracle.end_order.append(trial.trial_id)
            # What KerasTuner keeps of each trial's values, and writes after each trial, is a hash of 32 digits.
            oracle._id_to_hash[trial.trial_id] = f"{number:032x}"
            oracle._tried_so_far.add(f"{number:032x}")
        oracle.verbose = 0
        cpu, wall = time.process_time(), time.perf_counter()
        tuner.search(verbose=0)
        costs[size] = (time.process_time() - cpu) / few, (time.perf_counter() - wall) / few
        shutil.rmtree(folder / str(size))
    return costs


def report_ours(strategy, trials, sizes):
    """Measure one strategy in a process of its own, and print."""
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder) / strategy
        marks, reload = ours(strategy, trials, folder, load_data("digits", limit=50))
        cells = []
        for size in sizes:
            (cpu, wall, _), (cpu_end, wall_end, _) = marks[size - WINDOW], marks[size]
            cells.append(f"{(cpu_end - cpu) / WINDOW * 1e3:.2f} ms, {(wall_end - wall) / WINDOW * 1e3:.2f}")
        print(f"{f'ours, {strategy}: CPU, wall':30}" + "".join(f"{cell:>20}" for cell in cells), flush=True)
        start = min(1000, trials // 2) // WINDOW * WINDOW
        last = (len(marks) - 1) // WINDOW * WINDOW
        memory = (marks[last][2] - marks[start][2]) / (last - start) * 1e3
        disk = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / trials / 1e3
        print(f"{'':30}reload {reload:.2f} s, memory {memory:.1f} kB a trial, disk {disk:.1f} kB a trial", flush=True)


def main():
    """Measure and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=20_000)
    parser.add_argument("--strategies", nargs="*", default=["random", "evolution", "rl"])
    parser.add_argument("--no-stock", action="store_true", help="leave KerasTuner's own oracle out")
    options = parser.parse_args()
    sizes = [size for size in (100, 1000, 5000, 20_000) if size <= options.trials]
    print(f"{'':30}" + "".join(f"{f'at {size:,}':>20}" for size in sizes), flush=True)
    for strategy in options.strategies:
        process = multiprocessing.get_context("spawn").Process(
            target=report_ours, args=(strategy, options.trials, sizes)
        )
        process.start()
        process.join()
    if not options.no_stock:
        with tempfile.TemporaryDirectory() as folder:
            costs = stock(sizes, Path(folder))
        cells = [f"{cpu * 1e3:.2f} ms, {wall * 1e3:.2f}" for cpu, wall in costs.values()]
        print(f"{'RandomSearchOracle: CPU, wall':30}" + "".join(f"{cell:>20}" for cell in cells))


if __name__ == "__main__":
    sys.exit(main())
