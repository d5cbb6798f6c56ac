"""Are the cells that a search of 100 children finds better than NASNet-A's at the same cost? On CIFAR-10.

    python benchmarks/equal_cost.py search --data CIFAR [--seeds 0 1 …] [--strategies predictor …]
    python benchmarks/equal_cost.py retrain --data CIFAR [--part 1 --parts 2]
    python benchmarks/equal_cost.py table

CIFAR is a folder root/{train,test}/<class>/*. The children are those of `cifar_search.py`. Six searches of each
strategy, of 100 trials, each with a seed of its own, which also decides which images there are; evolution's population
is 20, for the 100 of Real et al. 2019 would draw all 100 cells at random. The cell of highest reward of each, six
random ones and NASNet-A are trained for five epochs of 10,000 images at 16×16 from three seeds, NASNet-A from ten, and
measured on the test images. All have NASNet-A's multiply-adds at F=8 within 3%: filters alone are too coarse for that,
so the stem's channels, 3F as a rule, give way as little as it takes, between a third and three times of that.

What is compared is a search, the mean of its cell's trainings: with NASNet-A's trainings and with the random searches,
by Welch's test, each of the two families of comparisons corrected by Holm's method. Both steps can be interrupted, and
go on; two processes may share them, by `--seeds` and `--part`. What has ended is in RESULTS.
"""

import argparse
import gzip
import json
import math
import statistics
import sys
import time
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np
from bands import interval
from cifar_search import CHILD, RETRAINED, RETRAINED_IMAGES, best
from scipy.stats import ttest_ind

from nasnet_keras.children.settings import ChildSettings, accuracy
from nasnet_keras.genotype import Genotype, load_genotype
from nasnet_keras.search.space import SearchSpace
from nasnet_keras.search.strategies.evolution import EvolutionSettings

RESULTS = Path(__file__).parent / "equal_cost"
STRATEGIES = {
    "predictor": None,
    "rl": None,
    "evolution": EvolutionSettings(population=20, sample=10),
    "random": None,
}
NASNET_A, RANDOM = "NASNet-A", "a random cell"
TRIALS, SEARCHES, TRAININGS, OF_NASNET_A = 100, 6, 3, 10
IMAGES = {"image_size": CHILD["image-size"], "limit": CHILD["limit"], "validation": CHILD["validation"]}
SHORT = ChildSettings(
    repeats=CHILD["repeats"], filters=CHILD["filters"], epochs=CHILD["epochs"], batch_size=CHILD["batch-size"]
)
NEAR, WIDEST = 0.03, 3.0  # of the multiply-adds; of the stem's channels, up or down


@dataclass(frozen=True)
class Stemmed(ChildSettings):
    """`ChildSettings` that say how many channels the stem has."""

    stem_filters: int | None = None

    def architecture(self, genotype, data):
        """As `ChildSettings.architecture`."""
        return replace(super().architecture(genotype, data), stem_filters=self.stem_filters)


def search(options):
    """Run the searches that are not in RESULTS yet, seed by seed, so that each beginning compares all strategies."""
    import nasnet_keras

    RESULTS.mkdir(exist_ok=True)
    for seed, strategy in product(options.seeds, options.strategies):
        kept, directory = path_of(strategy, seed), Path(options.runs) / f"{strategy}-{seed}"
        if kept.exists():
            continue
        data, start = nasnet_keras.load_data(options.data, seed=seed, **IMAGES), time.perf_counter()
        nasnet_keras.search(data, TRIALS, directory, strategy, seed, child=SHORT, settings=STRATEGIES[strategy])
        partial = kept.with_suffix(".part")
        partial.write_bytes(gzip.compress((directory / "trials.jsonl").read_bytes(), mtime=0))
        partial.rename(kept)
        print(f"{strategy}, seed {seed}: {time.perf_counter() - start:.0f} s", flush=True)


def path_of(strategy, seed):
    """Where a search's trials are kept."""
    return RESULTS / f"{strategy}-{seed}.jsonl.gz"


def cells():
    """The cells to compare: `{(group, search): (genotype, reward)}`; the reward is None where there was no search."""
    space, found = SearchSpace(), {(NASNET_A, 0): (load_genotype("nasnet_a"), None)}
    for number in range(SEARCHES):
        found[RANDOM, number] = space.decode(space.random(np.random.default_rng([number, 0xE0C]))), None
    for seed, strategy in product(range(SEARCHES), STRATEGIES):
        if path_of(strategy, seed).exists():
            trials = map(json.loads, gzip.decompress(path_of(strategy, seed).read_bytes()).splitlines())
            trial = best(list(trials))[0]
            found[strategy, seed] = Genotype.from_dict(trial["genotype"]), trial["reward"]
    return found


def at_cost(genotype, data, cost, child):
    """The settings within `NEAR` of so many multiply-adds whose stem is nearest to the usual one.

    Raises:
        ValueError: there are none.
    """
    found = []
    for filters in range(max(2, child.filters // 2), 4 * child.filters):
        usual = 3 * filters
        sized = [
            replace(child, filters=filters, stem_filters=channels)
            for channels in range(math.ceil(usual / WIDEST), int(usual * WIDEST) + 1)
        ]
        if _ratio(sized[0], genotype, data, cost) > 1 + NEAR:
            break
        if _ratio(sized[-1], genotype, data, cost) < 1 - NEAR:
            continue
        for one in sized:
            apart = abs(_ratio(one, genotype, data, cost) - 1)
            if apart <= NEAR:
                found.append((abs(math.log(one.stem_filters / usual)), apart, filters, one))
    if not found:
        raise ValueError(
            f"no filters and stem bring the cell {genotype.digest} within {NEAR:.0%} of {cost} multiply-adds"
        )
    return min(found, key=lambda one: one[:3])[-1]


def _ratio(child, genotype, data, cost):
    return child.sizes(genotype, data)["multiply_adds"] / cost


def retrain(options):
    """Train the cells that are not in RESULTS yet, all of them from one seed before any from the next."""
    from nasnet_keras.data.loading import load_data

    RESULTS.mkdir(exist_ok=True)
    wanted, kept = cells(), RESULTS / f"retrained-{options.part}.jsonl"
    if missing := SEARCHES * len(STRATEGIES) - sum(group in STRATEGIES for group, _ in wanted):
        print(f"{missing} searches have not ended; the cells of the others are trained", file=sys.stderr)
    data, usual = load_data(options.data, seed=0, **RETRAINED_IMAGES), Stemmed(**RETRAINED)
    cost = usual.sizes(load_genotype("nasnet_a"), data)["multiply_adds"]
    children = {key: at_cost(genotype, data, cost, usual) for key, (genotype, _) in wanted.items()}
    todo = [(*key, seed) for seed in range(TRAININGS) for key in wanted]
    todo += [(NASNET_A, 0, seed) for seed in range(TRAININGS, OF_NASNET_A)]
    for group, number, seed in todo:
        start, (genotype, reward), child = time.perf_counter(), wanted[group, number], children[group, number]
        row = {"group": group, "search": number, "seed": seed, "digest": genotype.digest, "reward": reward}
        row |= {"filters": child.filters, "stem_filters": child.stem_filters, **child.sizes(genotype, data)}
        place = list(STRATEGIES).index(group) if group in STRATEGIES else len(STRATEGIES) + (group == RANDOM)
        # Whose part a training is does not hang on which searches have ended.
        mine = (place * SEARCHES + number + seed) % options.parts == options.part - 1
        if not mine or any(row.items() <= made.items() for made in rows()):
            continue
        try:
            trained = child.train_interpreted(genotype, data, seed, child.epochs)
            row["accuracy"] = accuracy(trained, data.test)
        except FloatingPointError:
            row["accuracy"] = None
        row["seconds"] = round(time.perf_counter() - start, 1)
        with kept.open("a") as file:
            file.write(json.dumps(row) + "\n")
        told = "diverged" if row["accuracy"] is None else f"{row['accuracy']:.2%}"
        print(f"{group}, search {number}, seed {seed}: {told} in {row['seconds']:.0f} s", flush=True)


def rows():
    """The trainings that have ended; of a line that a kill tore, nothing."""
    for path in sorted(RESULTS.glob("retrained-*.jsonl")):
        content = path.read_text()
        yield from map(json.loads, content[: content.rfind("\n") + 1].splitlines())


def measured():
    """`{group: accuracies in percent}`: of each search the mean of its cell's trainings, of NASNet-A each training."""
    found = {}
    for row in rows():
        reached = math.nan if row["accuracy"] is None else 100 * row["accuracy"]
        found.setdefault(row["group"], {}).setdefault(row["search"], {})[row["seed"]] = reached
    values = {
        group: [
            statistics.mean(one[seed] for seed in range(TRAININGS)) for one in cells.values() if len(one) >= TRAININGS
        ]
        for group, cells in found.items()
    }
    return values | {NASNET_A: list(found.get(NASNET_A, {}).get(0, {}).values())}


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
    values = measured()
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
        costs = [row["multiply_adds"] / 1e6 for row in rows() if row["group"] == group]
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
    if not 1 <= options.part <= options.parts:
        parser.error(f"--part must be from 1 to --parts, {options.parts}. Received: {options.part}")
    return {"search": search, "retrain": retrain}[options.step](options)


if __name__ == "__main__":
    sys.exit(main())
