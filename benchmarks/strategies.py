"""RL, evolution and random search on rewards whose decisions interact, with noise.

    python benchmarks/strategies.py --trials 2000 --seeds 10 --plot docs/strategies.svg

No network is trained: a reward is computed from the genotype, so that ten seeds of 2,000 trials take minutes. Each
seed has a landscape of its own, which all strategies search, and noise of its own for each trial. Two rewards:

`cells` looks at what a child's accuracy depends on. With random tables, drawn anew for each seed: an operation has a
value v[o] in ±1; two operations that meet in a block a synergy p[o, o'] in ±1, whose sign the combination turns; an
operation and the one that made the state it reads a chain value c[o, o'] in ±1. A cell's quality q is the mean over its
blocks of v + 1.5 p + 1.5 c, less 0.1 (d − 3)² for a longest path of d blocks, and the reward is
0.9 s(2 q_normal) s(2 q_reduction) + noise, s the logistic function: no term of it is independent of the others.

`nk` is Kauffman and Weinberger's landscape (1989), the hard case: each decision's contribution is a random number in
[0, 1] for each joint choice of it and two other decisions drawn at random; the reward is their mean + noise.

The noise is normal, 0.02 for `cells` and 0.01 for `nk`. Tables show, with 95% intervals over the seeds
(Student's t), what the strategies proposed, without the noise: the mean of the last 10% of trials, the one whose noisy
reward was best, and the mean over all trials, which is the area under the curve.
"""

import argparse
import hashlib
import json
import sys
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from pathlib import Path

import numpy as np
from bands import draw, interval

from nasnet_keras.search.space import CELLS, SearchSpace
from nasnet_keras.search.strategies.choice import make_strategy
from nasnet_keras.search.strategies.controller import ControllerSettings
from nasnet_keras.search.strategies.evolution import EvolutionSettings

STRATEGIES = {
    "random": ("random", None),
    "evolution (100, 25)": ("evolution", None),
    "evolution (50, 10)": ("evolution", EvolutionSettings(population=50, sample=10)),
    "rl, the paper's values": ("rl", ControllerSettings()),
    "rl, tuned": ("rl", ControllerSettings(learning_rate=0.006, entropy_weight=0.0005, baseline_decay=0.9)),
}
COLOURS = {"random": "#7a8794", "evolution (100, 25)": "#2b8a3e", "evolution (50, 10)": "#94c11f",
           "rl, the paper's values": "#f08c00", "rl, tuned": "#1c7ed6"}  # fmt: skip
NOISE = {"cells": 0.02, "nk": 0.01}


class Cells:
    """The reward `cells` of one seed: a function of decisions."""

    def __init__(self, space, seed):
        rng = np.random.default_rng([seed, 0xCE11])
        count = len(space.operations)
        self.space, self.operations = space, {name: index for index, name in enumerate(space.operations)}
        self.tables = {
            cell: [rng.uniform(-1, 1, shape) for shape in ((count,), (count, count), (count, count))] for cell in CELLS
        }

    def __call__(self, decisions):
        genotype = self.space.decode(decisions)
        q = [self._quality(getattr(genotype, cell), *self.tables[cell]) for cell in CELLS]
        return 0.9 / np.prod(1 + np.exp(-2 * np.array(q)))

    def _quality(self, cell, value, synergy, chain):
        made, depth, total = {0: (), 1: ()}, {0: 0, 1: 0}, 0.0
        for number, block in enumerate(cell.blocks, 2):
            left, right = (self.operations[name] for name in block.operations)
            sign = 1 if block.combine == "add" else -1
            links = [
                chain[maker, operation]
                for state, operation in zip(block.inputs, (left, right), strict=True)
                for maker in made[state]
            ]
            total += (value[left] + value[right]) / 2 + 1.5 * sign * synergy[left, right]
            total += 1.5 * float(np.mean(links)) if links else 0.0
            made[number], depth[number] = (left, right), 1 + max(depth[state] for state in block.inputs)
        return total / len(cell.blocks) - 0.1 * (max(depth.values()) - 3) ** 2


class NK:
    """The reward `nk` of one seed: a function of decisions."""

    def __init__(self, space, seed):
        rng = np.random.default_rng([seed, 0x4B])
        sizes = [len(decision.choices) for decision in space.decisions]
        self.terms = []
        for index in range(len(sizes)):
            others = rng.choice([other for other in range(len(sizes)) if other != index], 2, replace=False)
            reads = [index, *map(int, others)]
            self.terms.append((reads, rng.uniform(0, 1, [sizes[read] for read in reads])))

    def __call__(self, decisions):
        return float(np.mean([table[tuple(decisions[read] for read in reads)] for reads, table in self.terms]))


REWARDS = {"cells": Cells, "nk": NK}


def run(reward, strategy, settings, trials, seed):
    """The noise-free value of each proposal, and that of the one whose noisy reward was best."""
    space = SearchSpace()
    landscape, noise = (
        REWARDS[reward](space, seed),
        np.random.default_rng([seed, 0x5E]).normal(0, NOISE[reward], trials),
    )
    searcher = make_strategy(strategy, space, seed, settings)
    values, told = [], []
    for number in range(trials):
        proposal = searcher.propose()
        values.append(landscape(proposal.decisions))
        told.append(values[-1] + noise[number])
        searcher.feedback(proposal, told[-1])
    return np.array(values), values[int(np.argmax(told))]


def run_once(folder, *task):
    """`run`, or what it gave before, where its results are kept."""
    name = hashlib.sha256(repr((task, Path(__file__).read_text().split("def run(")[0])).encode()).hexdigest()[:16]
    path = Path(folder or ".") / f"{name}.npz"
    if folder is None:
        return run(*task)
    if not path.exists():
        values, best = run(*task)
        np.savez(path, values=values, best=best)
    with np.load(path) as kept:
        return kept["values"], float(kept["best"])


def measure(reward, names, trials, seeds, processes=2, folder=None):
    """{strategy: [(values, best) of each seed]}."""
    tasks = [(folder, reward, *STRATEGIES[name], trials, seed) for name, seed in product(names, seeds)]
    with ProcessPoolExecutor(processes) as pool:
        results = list(pool.map(run_once, *zip(*tasks, strict=True)))
    return {name: results[at * len(seeds) : (at + 1) * len(seeds)] for at, name in enumerate(names)}


def table(reward, results, trials):
    """Print what the strategies reached, and how far RL is ahead, seed by seed."""
    last = max(1, trials // 10)
    print(f"\n{reward}, {trials} trials, {len(next(iter(results.values())))} seeds")
    print(f"{'':26}{f'mean of the last {last}':>22}{'best':>18}{'area':>18}")
    figures = {}
    for name, runs in results.items():
        rows = [[values[-last:].mean(), best, values.mean()] for values, best in runs]
        figures[name] = np.array(rows)
        cells = [interval(column) for column in figures[name].T]
        print(
            f"{name:26}"
            + "".join(f"{f'{m:.3f} ± {h:.3f}':>{w}}" for (m, h), w in zip(cells, (22, 18, 18), strict=True))
        )
    for name in (name for name in results if name != "rl, tuned" and "rl, tuned" in results):
        cells = [interval(column) for column in (figures["rl, tuned"] - figures[name]).T]
        print(
            f"{f'  rl, tuned − {name}':36}"
            + "".join(f"{f'{m:+.3f} ± {h:.3f}':>{w}}" for (m, h), w in zip(cells, (8, 18, 18), strict=True))
        )


def main():
    """Measure, print, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--rewards", nargs="*", choices=sorted(REWARDS), default=["cells", "nk"])
    parser.add_argument("--plot", help="an SVG file")
    parser.add_argument(
        "--tune", type=json.loads, nargs="*", help="ControllerSettings as JSON, compared on other seeds"
    )
    parser.add_argument("--keep", metavar="DIR", help="keep each run's results there, and go on from them")
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    if options.keep:
        Path(options.keep).mkdir(parents=True, exist_ok=True)
    seeds = range(options.seeds)
    if options.tune:
        names = []
        for text in options.tune:
            names.append(json.dumps(text))
            STRATEGIES[names[-1]] = ("rl", ControllerSettings(**text))
        seeds = range(1000, 1000 + options.seeds)
    else:
        names = list(STRATEGIES)
    results = {}
    for reward in options.rewards:
        results[reward] = measure(reward, names, options.trials, seeds, options.processes, options.keep)
        table(reward, results[reward], options.trials)
    if options.plot:
        panels = {
            f"reward `{reward}`": {name: [values for values, _ in runs] for name, runs in every.items()}
            for reward, every in results.items()
        }
        draw(panels, COLOURS, options.trials, max(1, options.trials // 20), options.plot)


if __name__ == "__main__":
    sys.exit(main())
