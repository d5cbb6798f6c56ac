"""Which strategy finds the best cell with 60, 150 or 300 trials? A hundred seeds on each of three landscapes.

    python benchmarks/few_trials.py run [--processes 2]       # goes on where it was stopped
    python benchmarks/few_trials.py table                     # what RESULTS.md shows

Two landscapes and their noise are those of `strategies.py`; each seed has a landscape of its own. The third, `table`,
is the same for all seeds: what `surrogate.py` says of real children, with the noise that was measured between seeds.
Each seed has a noise of its own for each trial, which all strategies meet. No strategy knows how many trials it has, so
a search of 300 is one of 60 and of 150 as well. The measure was fixed beforehand: the true value, without noise, of the
trial whose noisy reward is the best so far. Beside it stands the mean true value of all trials, the area under the
curve. Differences are paired over the seeds (Wilcoxon's signed-rank test, two-sided), corrected by Holm's method over
all of them.

The settings of evolution and RL for few trials were chosen on other seeds (from 1000 on): see README.md here.
RESULTS holds a line for each finished search: its landscape, strategy, seed, the values after each number of trials,
its CPU milliseconds a trial, and on `table` the number of the first trial that is as good as the best hundredth of
random cells.
"""

import argparse
import gzip
import json
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np
from cell_table import SHORTEST, load_table
from scipy.stats import t, wilcoxon
from strategies import NOISE, REWARDS
from surrogate import TABLE, Surrogate
from threadpoolctl import threadpool_limits

from nasnet_keras.search.space import SearchSpace
from nasnet_keras.search.strategies.choice import make_strategy
from nasnet_keras.search.strategies.controller import ControllerSettings
from nasnet_keras.search.strategies.evolution import EvolutionSettings

RESULTS = Path(__file__).parent / "few_trials.jsonl.gz"
STRATEGIES = {
    "random": ("random", None),
    "RL, the paper's values": ("rl", ControllerSettings()),
    "RL, tuned": ("rl", ControllerSettings(batch_size=4, learning_rate=0.006)),
    "evolution (100, 25)": ("evolution", None),
    "evolution (20, 10)": ("evolution", EvolutionSettings(population=20, sample=10)),
    "evolution (10, 10)": ("evolution", EvolutionSettings(population=10, sample=10)),
    "local": ("local", None),
    "predictor": ("predictor", None),
}
AHEAD = "predictor"
TRIALS = (60, 150, 300)
SEEDS = 100
GOOD, DRAWN = 99, 2000  # a percentile, of so many random cells


class Table:
    """The reward `table`: a function of decisions, the same for every seed.

    Attributes:
        noise: the standard deviation of a child's accuracy over seeds.
        good: the value of the best hundredth of random cells.
    """

    def __init__(self):
        self._space, self._surrogate = SearchSpace(), Surrogate()
        self.noise = self._surrogate.noise
        rng = np.random.default_rng([0, 0x600D])
        self.good = float(np.percentile([self(self._space.random(rng)) for _ in range(DRAWN)], GOOD))

    def __call__(self, decisions):
        return self._surrogate(self._space.decode(decisions))


@cache
def fitted_table():
    """The `Table`, fitted once in each process."""
    return Table()


LANDSCAPES = {**REWARDS, "table": lambda space, seed: fitted_table()}


def search(reward, name, seed):
    """One search: the line of RESULTS."""
    space, count = SearchSpace(), max(TRIALS)
    landscape = LANDSCAPES[reward](space, seed)
    deviation = getattr(landscape, "noise", None) or NOISE[reward]
    noise = np.random.default_rng([seed, 0x5E]).normal(0, deviation, count)
    kind, settings = STRATEGIES[name]
    searcher = make_strategy(kind, space, seed, settings)
    values, told, spent = [], [], 0.0
    with threadpool_limits(1):
        for number in range(count):
            start = time.process_time()
            proposal = searcher.propose()
            spent += time.process_time() - start
            values.append(landscape(proposal.decisions))
            told.append(values[-1] + noise[number])
            start = time.process_time()
            searcher.feedback(proposal, told[-1])
            spent += time.process_time() - start
    row = {
        "reward": reward,
        "strategy": name,
        "seed": seed,
        "best": [round(values[int(np.argmax(told[:trials]))], 5) for trials in TRIALS],
        "area": [round(float(np.mean(values[:trials])), 5) for trials in TRIALS],
        "milliseconds": round(1000 * spent / count, 2),
    }
    if reward == "table":
        row["good from"] = next((number for number, value in enumerate(values, 1) if value >= landscape.good), None)
    return row


def run(processes):
    """Run what is not in RESULTS yet, and keep each search as it ends."""
    done = {key(row) for row in rows()}
    tasks = [task for task in product(range(SEEDS), LANDSCAPES, STRATEGIES) if (task[1], task[2], task[0]) not in done]
    partial = RESULTS.with_suffix("")  # until all are there
    if partial.exists():
        content = partial.read_bytes()
        partial.write_bytes(content[: content.rfind(b"\n") + 1])  # without a line that a kill tore
    with ProcessPoolExecutor(processes) as pool, partial.open("a") as file:
        for future in as_completed([pool.submit(search, reward, name, seed) for seed, reward, name in tasks]):
            file.write(json.dumps(future.result()) + "\n")
            file.flush()
    lines = sorted(rows(), key=key)
    RESULTS.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in lines).encode(), mtime=0))
    partial.unlink()


def key(row):
    """What a search is known by."""
    return row["reward"], row["strategy"], row["seed"]


def rows():
    """The finished searches."""
    text = gzip.decompress(RESULTS.read_bytes()).decode() if RESULTS.exists() else ""
    partial = RESULTS.with_suffix("")
    text += partial.read_text() if partial.exists() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def figures(measure):
    """`{(reward, strategy, trials): values by seed}` of the seeds that all strategies have finished."""
    found = {}
    for row in sorted(rows(), key=key):
        found.setdefault((row["reward"], row["strategy"]), {})[row["seed"]] = row[measure]
    seeds = {
        reward: sorted(set.intersection(*(set(found.get((reward, name), ())) for name in STRATEGIES)))
        for reward in LANDSCAPES
    }
    return {
        (reward, name, trials): np.array([found[reward, name][seed][place] for seed in seeds[reward]])
        for reward, name in product(LANDSCAPES, STRATEGIES)
        for place, trials in enumerate(TRIALS)
        if len(seeds[reward]) > 1
    }


def differences(values):
    """`{(reward, strategy, trials): (mean of the predictor's lead, p corrected by Holm)}`."""
    leads = {place: values[place[0], AHEAD, place[2]] - values[place] for place in values if place[1] != AHEAD}
    raw = {place: float(wilcoxon(lead).pvalue) for place, lead in leads.items()}
    corrected, worst = {}, 0.0
    for rank, place in enumerate(sorted(raw, key=raw.get)):
        worst = max(worst, min(1.0, raw[place] * (len(raw) - rank)))
        corrected[place] = float(leads[place].mean()), worst
    return corrected


def table():
    """The lines of the table in RESULTS.md."""
    best, area = figures("best"), figures("area")
    lead = differences(best)
    for reward in (reward for reward in LANDSCAPES if (reward, AHEAD, TRIALS[0]) in best):
        count = len(best[reward, AHEAD, TRIALS[0]])
        yield f"**`{reward}`**, {count} seeds"
        yield ""
        heads = [f"{trials} trials | {AHEAD} ahead by" for trials in TRIALS]
        yield f"| strategy | {' | '.join(heads)} | area, {TRIALS[0]}, {TRIALS[1]}, {TRIALS[2]} |"
        yield "|---|" + "---|" * (2 * len(TRIALS) + 1)
        for name in STRATEGIES:
            cells = []
            for trials in TRIALS:
                values = best[reward, name, trials]
                half = t.ppf(0.975, count - 1) * values.std(ddof=1) / count**0.5
                cells.append(f"{values.mean():.3f} ± {half:.3f}")
                ahead, p = lead.get((reward, name, trials), (None, None))
                cells.append("" if ahead is None else f"{ahead:+.3f}, {'p < 0.0001' if p < 1e-4 else f'p = {p:.4f}'}")
            areas = ", ".join(f"{area[reward, name, trials].mean():.3f}" for trials in TRIALS)
            yield f"| {name} | {' | '.join(cells)} | {areas} |"
        yield ""


def good_table():
    """The lines of the table in RESULTS.md of how soon a strategy proposes a cell of the best hundredth."""
    found = {}
    for row in rows():
        if "good from" in row:
            found.setdefault(row["strategy"], []).append(row)
    seconds = child_seconds() if found else 0.0
    yield f"| strategy | searches | found within {max(TRIALS)} trials | trials, median | minutes, median |"
    yield "|---|---|---|---|---|"
    for name in (name for name in STRATEGIES if name in found):
        trials = [row["good from"] or np.inf for row in found[name]]
        count, middle = len(trials), float(np.median(trials))
        minutes = middle * (seconds + np.median([row["milliseconds"] for row in found[name]]) / 1000) / 60
        shown = [f"{middle:.0f}", f"{minutes:.1f}"] if np.isfinite(middle) else [f"over {max(TRIALS)}", ""]
        yield f"| {name} | {count} | {np.isfinite(trials).mean():.0%} | {' | '.join(shown)} |"


def child_seconds():
    """The median of a micro-child's seconds of the processor, from the cell table."""
    _, cells = load_table(TABLE)
    networks = [network for cell in cells for network in cell["networks"] if network["epochs"] == SHORTEST["epochs"]]
    return float(np.median([value for network in networks for value in network["seconds"] if value is not None]))


def main():
    """Run the searches, or print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("run", "table"))
    parser.add_argument("--processes", type=int, default=1)
    options = parser.parse_args()
    if options.what == "run":
        run(options.processes)
    print("\n".join([*table(), *good_table()]))


if __name__ == "__main__":
    sys.exit(main())
