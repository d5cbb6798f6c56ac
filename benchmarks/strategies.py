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

from nasnet_keras.search.controller import ControllerSettings
from nasnet_keras.search.space import CELLS, SearchSpace
from nasnet_keras.search.strategies import EvolutionSettings, make_strategy

T95 = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365, 9: 2.306, 10: 2.262, 20: 2.093}
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


def interval(numbers):
    """Mean and half width of its 95% interval."""
    numbers = np.asarray(numbers)
    return float(numbers.mean()), float(T95[len(numbers)] * numbers.std(ddof=1) / len(numbers) ** 0.5)


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


def plot(all_results, trials, path):
    """Draw the running means of 100 trials over the trials, mean of the seeds and its interval, as SVG."""
    width, height, left, top = 440, 300, 56, 34
    parts = []
    for panel, (reward, results) in enumerate(all_results.items()):
        window = max(1, trials // 20)
        steps = list(range(window, trials + 1, max(1, trials // 60)))
        bands = {}
        for name, runs in results.items():
            means = [[values[at - window : at].mean() for at in steps] for values, _ in runs]
            bands[name] = np.array([interval(column) for column in zip(*means, strict=True)])
        low = min(float((band[:, 0] - band[:, 1]).min()) for band in bands.values())
        high = max(float((band[:, 0] + band[:, 1]).max()) for band in bands.values())
        origin = panel * (width + left + 20) + left

        def x(trial, origin=origin):
            return origin + width * trial / trials

        def y(value, low=low, high=high):
            return top + height * (high - value) / (high - low)

        parts.append(f'<text x="{origin}" y="20" font-weight="600">reward `{reward}`</text>')
        step = 10 ** np.floor(np.log10(high - low)) / 2
        for tick in np.arange(np.ceil(low / step) * step, high, step):
            parts.append(
                f'<line x1="{origin}" x2="{origin + width}" y1="{y(tick):.1f}" y2="{y(tick):.1f}" stroke="#e3e7eb"/>'
            )
            parts.append(f'<text x="{origin - 6}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick:.2f}</text>')
        for tick in np.linspace(0, trials, 5):
            parts.append(f'<text x="{x(tick):.1f}" y="{top + height + 18}" text-anchor="middle">{tick:.0f}</text>')
        for at, (name, band) in enumerate(bands.items()):
            upper = [f"{x(s):.1f},{y(m + h):.1f}" for s, (m, h) in zip(steps, band, strict=True)]
            lower = [f"{x(s):.1f},{y(m - h):.1f}" for s, (m, h) in zip(steps, band, strict=True)]
            line = " ".join(f"{x(s):.1f},{y(m):.1f}" for s, (m, _) in zip(steps, band, strict=True))
            parts.append(f'<polygon points="{" ".join(upper + lower[::-1])}" fill="{COLOURS[name]}" opacity="0.18"/>')
            parts.append(f'<polyline points="{line}" fill="none" stroke="{COLOURS[name]}" stroke-width="2"/>')
            if panel == 0:
                row = top + height + 44 + 18 * (at // 3)
                column = left + 250 * (at % 3)
                parts.append(f'<rect x="{column}" y="{row - 9}" width="14" height="10" fill="{COLOURS[name]}"/>')
                parts.append(f'<text x="{column + 20}" y="{row}">{name}</text>')
    full = len(all_results) * (width + left + 20) + 10
    Path(path).write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {full} {top + height + 72}" width="{full}" '
        f'font-family="system-ui, sans-serif" font-size="12" fill="#1f2933">'
        f'<rect width="100%" height="100%" fill="#fff"/>{"".join(parts)}</svg>\n',
        encoding="utf-8",
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
        plot(results, options.trials, options.plot)


if __name__ == "__main__":
    sys.exit(main())
