"""Are the cells that a search of 100 children finds better than NASNet-A's at the same cost? On CIFAR-10.

    python benchmarks/equal_cost.py search --data CIFAR [--seeds 0 1 …] [--strategies predictor …]
    python benchmarks/equal_cost.py retrain --data CIFAR [--part 1 --parts 2]
    python benchmarks/equal_cost.py table

CIFAR is a folder root/{train,test}/<class>/*. The children are those of `cifar_search.py`. Six searches of each
strategy, of 100 trials, each with a seed of its own, which also decides which images there are. The cell of highest
reward of each, six random ones and NASNet-A are trained for five epochs of 10,000 images at 16×16 from three seeds and
measured on the test images, all with as many filters as bring them to the same multiply-adds. What is compared is a
search, the mean of its cell's three trainings: with NASNet-A's three trainings and with the random searches, by Welch's
test, corrected by Holm's method. Both steps can be interrupted, and go on; what has ended is in RESULTS.
"""

import argparse
import gzip
import json
import statistics
import subprocess
import sys
import time
from itertools import product
from pathlib import Path

import numpy as np
from bands import interval
from cifar_search import CHILD, RETRAINED, RETRAINED_IMAGES, best, lines
from scipy.stats import ttest_ind

RESULTS = Path(__file__).parent / "equal_cost"
STRATEGIES = ("predictor", "rl", "evolution", "random")
NASNET_A, RANDOM = "NASNet-A", "a random cell"
TRIALS, SEARCHES, TRAININGS = 100, 6, 3


def search(options):
    """Run the searches that are not in RESULTS yet, seed by seed, so that each beginning compares all strategies."""
    RESULTS.mkdir(exist_ok=True)
    child = [word for name, value in CHILD.items() for word in (f"--{name}", str(value))]
    for seed, strategy in product(options.seeds, options.strategies):
        kept, directory = path_of(strategy, seed), Path(options.runs) / f"{strategy}-{seed}"
        if kept.exists():
            continue
        words = ["search", "--data", options.data, *child, "--max-trials", str(TRIALS), "--seed", str(seed)]
        words += ["--no-final", "--controller", strategy, "--directory", str(directory)]
        program = "import sys; from nasnet_keras.cli import main; sys.exit(main(sys.argv[1:]))"
        start = time.perf_counter()
        done = subprocess.run([sys.executable, "-c", program, *words], stdout=subprocess.DEVNULL)
        if done.returncode:  # it has said why
            sys.exit(done.returncode)
        partial = kept.with_suffix(".part")
        partial.write_bytes(gzip.compress((directory / "trials.jsonl").read_bytes(), mtime=0))
        partial.rename(kept)
        print(f"{strategy}, seed {seed}: {time.perf_counter() - start:.0f} s", flush=True)


def path_of(strategy, seed):
    """Where a search's trials are kept."""
    return RESULTS / f"{strategy}-{seed}.jsonl.gz"


def cells():
    """The cells to compare: `{(group, search): (genotype, reward)}`; the reward is None where there was no search."""
    from nasnet_keras.genotype import Genotype, load_genotype
    from nasnet_keras.search.space import SearchSpace

    space, found = SearchSpace(), {(NASNET_A, 0): (load_genotype("nasnet_a"), None)}
    for number in range(SEARCHES):
        found[RANDOM, number] = space.decode(space.random(np.random.default_rng([number, 0xE0C]))), None
    for strategy, seed in product(STRATEGIES, range(SEARCHES)):
        if path_of(strategy, seed).exists():
            trials = map(json.loads, gzip.decompress(path_of(strategy, seed).read_bytes()).splitlines())
            trial = best(list(trials))[0]
            found[strategy, seed] = Genotype.from_dict(trial["genotype"]), trial["reward"]
    return found


def retrain(options):
    """Train the cells that are not in RESULTS yet, all of them from one seed before any from the next."""
    from nasnet_keras.children.settings import ChildSettings, accuracy
    from nasnet_keras.data.loading import load_data
    from nasnet_keras.search.results.final import alike

    RESULTS.mkdir(exist_ok=True)
    wanted, kept = cells(), RESULTS / "retrained.jsonl"
    if missing := SEARCHES * len(STRATEGIES) - sum(group in STRATEGIES for group, _ in wanted):
        sys.exit(f"{missing} searches have not ended: the filters that make all cost the same hang on every cell")
    data = load_data(options.data, seed=0, **RETRAINED_IMAGES)
    settings = alike({key: cell for key, (cell, _) in wanted.items()}, (NASNET_A, 0), data, ChildSettings(**RETRAINED))
    made = {(row["group"], row["search"], row["seed"]) for row in lines(kept)}
    todo = [(*key, seed) for seed in range(TRAININGS) for key in wanted if (*key, seed) not in made]
    for group, number, seed in todo[options.part - 1 :: options.parts]:
        start, (genotype, reward), child = time.perf_counter(), wanted[group, number], settings[group, number]
        trained = child.train_interpreted(genotype, data, seed, child.epochs)
        row = {"group": group, "search": number, "seed": seed, "digest": genotype.digest, "reward": reward}
        row |= {"filters": child.filters, **child.sizes(genotype, data), "accuracy": accuracy(trained, data.test)}
        row["seconds"] = round(time.perf_counter() - start, 1)
        with kept.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(f"{group}, search {number}, seed {seed}: {row['accuracy']:.2%}", flush=True)


def measured():
    """`{group: accuracies in percent}`: of each search the mean of its cell's trainings, of NASNet-A each training."""
    found = {}
    for row in lines(RESULTS / "retrained.jsonl"):
        found.setdefault(row["group"], {}).setdefault(row["search"], []).append(100 * row["accuracy"])
    whole = {group: [one for one in cells.values() if len(one) == TRAININGS] for group, cells in found.items()}
    values = {group: list(map(statistics.mean, trainings)) for group, trainings in whole.items()}
    return values | {NASNET_A: [value for trainings in whole.get(NASNET_A, ()) for value in trainings]}


def compared(groups, values, other):
    """`{group: (how far it is ahead of another one, p by Welch's test, corrected by Holm's method)}`."""
    raw = {group: float(ttest_ind(values[group], values[other], equal_var=False).pvalue) for group in groups}
    worst, found = 0.0, {}
    for rank, group in enumerate(sorted(raw, key=raw.get)):
        worst = max(worst, min(1.0, raw[group] * (len(raw) - rank)))
        found[group] = statistics.mean(values[group]) - statistics.mean(values[other]), worst
    return found


def table():
    """The lines of the table in RESULTS.md."""
    values, rows = measured(), lines(RESULTS / "retrained.jsonl")
    groups = [group for group in (*STRATEGIES, RANDOM) if len(values.get(group, ())) > 1]
    ahead = compared(groups, values, NASNET_A) if len(values[NASNET_A]) > 1 else {}
    learnt = [group for group in groups if group not in ("random", RANDOM)]
    beside = compared(learnt, values, "random") if "random" in groups else {}
    yield "| cells | number | test accuracy | of each | ahead of NASNet-A | of random search | million multiply-adds |"
    yield "|---|---|---|---|---|---|---|"
    for group in (NASNET_A, *groups):
        if not values[group]:
            continue
        middle, half = interval(values[group])
        costs = [row["multiply_adds"] / 1e6 for row in rows if row["group"] == group]
        of_each = ", ".join(f"{value:.1f}" for value in values[group])
        first, second = (
            f"{found[group][0]:+.2f}, p = {found[group][1]:.3f}" if group in found else "" for found in (ahead, beside)
        )
        shown = f"| {group} | {len(values[group])} | {middle:.2f}% ± {half:.2f} | {of_each} | {first} | {second} |"
        yield f"{shown} {min(costs):.2f} to {max(costs):.2f} |"


def main():
    """Search, retrain, or print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("step", choices=("search", "retrain", "table"))
    parser.add_argument("--data", help="the folder with CIFAR-10")
    parser.add_argument("--runs", default="equal-cost-searches")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(SEARCHES)))
    parser.add_argument("--strategies", nargs="+", choices=STRATEGIES, default=list(STRATEGIES))
    parser.add_argument("--part", type=int, default=1, help="retrain this one of so many parts: for two processes")
    parser.add_argument("--parts", type=int, default=1)
    options = parser.parse_args()
    if options.step == "table":
        return print("\n".join(table()))
    if not options.data or not Path(options.data).is_dir():
        parser.error(f"--data must be a folder. Received: {options.data}")
    return {"search": search, "retrain": retrain}[options.step](options)


if __name__ == "__main__":
    sys.exit(main())
