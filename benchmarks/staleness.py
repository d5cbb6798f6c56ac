"""What a controller learns while many workers are at work: its rewards then belong to policies of long ago.

    python benchmarks/staleness.py --keep staleness.jsonl                      # goes on where it was stopped
    python benchmarks/staleness.py --keep staleness.jsonl --show               # the tables of what is there
    python benchmarks/staleness.py --keep staleness.jsonl --settings command    # the command's default: 4 an update
    python benchmarks/staleness.py --keep long.jsonl --trials 20000 --workers 1 450 --landscapes 1 --seeds 1

No network is trained: rewards are those of `strategies.py`, `cells` or `nk`, and the workers are simulated. Each trial
takes a time drawn uniformly from 0.5 to 1.5, a worker that has ended one begins the next at once, and rewards are told
in the order in which the trials end. So with W workers a reward is about W/20 updates old when it is learnt.

`rl` is the controller as it is: decoupled PPO (Hilton et al. 2022), clipped around the policy before the update. `rl,
clipped around the sampler` is the same with PPO's clip around the policy that sampled. Both have the settings that
`strategies.py` calls tuned, or with `--settings command` the command's, 4 rewards an update. Evolution has a population
of 100 and samples of 25.

Every landscape is searched from every seed by all, with the same noise and the same times, so that runs can be compared
one by one. Tables show the mean of the last 10% of the trials that ended and the mean over all, which is the area under
the curve, both without the noise; (x − random) / (serial − random), where serial is `rl` with one worker; and how far
`rl` is ahead, searches of one landscape and seed with each other. Intervals are 95% by Student's t over the
landscapes, of which each counts as the mean of its seeds. Where not all is there, the number of searches says of how
many a row is.
"""

import argparse
import gzip
import heapq
import json
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed
from itertools import product
from pathlib import Path

import numpy as np
from bands import interval
from strategies import NOISE, REWARDS

from nasnet_keras.search.space import SearchSpace
from nasnet_keras.search.strategies.choice import STRATEGIES
from nasnet_keras.search.strategies.controller import Controller, ControllerSettings

SETTINGS = {
    "tuned": ControllerSettings(learning_rate=0.006, entropy_weight=0.0005, baseline_decay=0.9),
    "command": ControllerSettings(learning_rate=0.006, batch_size=4),
}
RL, BEFORE = "rl", "rl, clipped around the sampler"
NAMES = (RL, BEFORE, "evolution", "random")
RAW = Path(__file__).with_suffix(".jsonl.gz")  # what RESULTS.md shows


class Coupled(Controller):
    """PPO whose ratios stand against the policy that sampled, whenever that was."""

    def _before(self, actions, sampled, is_stale):
        return sampled, np.ones_like(sampled)


def searcher(name, settings, space, seed):
    """A strategy by its name in the tables."""
    if name in (RL, BEFORE):
        return (Controller if name == RL else Coupled)(space, SETTINGS[settings], seed)
    return STRATEGIES[name](space, seed=seed)


def run(task):
    """One search; `task` is a dict as `tasks` gives them. Returns it with its figures."""
    trials, landscape, seed = task["trials"], task["landscape"], task["seed"]
    space = SearchSpace()
    value = REWARDS[task["reward"]](space, landscape)
    rng = np.random.default_rng([landscape, seed, 0x57A])
    noise, durations = rng.normal(0, NOISE[task["reward"]], trials), rng.uniform(0.5, 1.5, trials)
    strategy = searcher(task["name"], task["settings"], space, seed)
    running, values, stale, started, now = [], [], [], 0, 0.0
    while len(values) < trials:
        while len(running) < task["workers"] and started < trials:
            heapq.heappush(running, (now + durations[started], started, strategy.propose()))
            started += 1
        now, number, proposal = heapq.heappop(running)
        values.append(value(proposal.decisions))
        stale.append(strategy.version - proposal.version)
        strategy.feedback(proposal, values[-1] + noise[number])
    last, about = max(1, trials // 10), strategy.diagnostics
    return {
        **task,
        "last": float(np.mean(values[-last:])),
        "best": float(np.max(values)),
        "area": float(np.mean(values)),
        "staleness": float(np.mean(stale)),
        **{key: about[key] for key in ("effective_sample_size", "clipped", "weight") if key in about},
    }


def tasks(options):
    """Every run that is asked for, the cheap ones of one landscape after the other, so that tables fill evenly."""
    landscapes = range(options.first, options.first + options.landscapes)
    parts = range(options.seeds), landscapes, options.workers, options.names
    return _tasks(options.reward, options.trials, options.settings, *parts)


def _tasks(reward, trials, settings, seeds, landscapes, workers, names):
    for seed, landscape, count, name in product(seeds, landscapes, workers, names):
        # Without a policy there is nothing to be stale, and with one worker there is no staleness.
        if count == 1 or name != "random":
            yield {
                "reward": reward, "trials": trials, "settings": settings, "name": name, "workers": count,
                "landscape": landscape, "seed": seed,
            }  # fmt: skip


def read(path):
    """The runs that a file holds; a last line that was cut short is left out."""
    opened = gzip.open if Path(path).suffix == ".gz" else open
    if not Path(path).exists():
        return []
    with opened(path, "rt", encoding="utf-8") as file:
        lines = file.read().split("\n")
    return [json.loads(line) for line in lines[:-1]]


def key_of(task):
    """What makes a run this one."""
    return tuple(task[name] for name in ("reward", "trials", "settings", "name", "workers", "landscape", "seed"))


class Figures:
    """What the runs of one reward, number of trials and settings say; each figure is {(landscape, seed): number}."""

    def __init__(self, runs):
        self._runs = {key_of(run)[3:]: run for run in runs}

    def of(self, figure, name, workers):
        """A figure of the runs that are there."""
        found = {key[2:]: run for key, run in self._runs.items() if key[:2] == (name, workers)}
        return {pair: run[figure] for pair, run in found.items() if figure in run}

    def rows(self, workers, names):
        """For each number of workers and strategy the columns of a table, texts."""
        serial, random = self.of("last", RL, 1), self.of("last", "random", 1)
        for count in workers:
            for name in names:
                if not (last := self.of("last", name, count)):
                    continue
                both = serial.keys() & random.keys() & last.keys()
                share = {pair: (last[pair] - random[pair]) / (serial[pair] - random[pair]) for pair in both}
                size = self.of("effective_sample_size", name, count) if name in (RL, BEFORE) else {}
                means = [
                    f"{np.mean(list(x.values())):.1f}" if x else "–" for x in (self.of("staleness", name, count), size)
                ]
                ahead = [self._ahead(figure, name, count) for figure in ("last", "area")] if name != RL else ["", ""]
                texts = [shown(values) for values in (last, self.of("area", name, count), share)]
                yield [str(count), name, str(len(last)), *texts, *means, *ahead]

    def _ahead(self, figure, name, count):
        own, other = self.of(figure, RL, count), self.of(figure, name, count)
        return shown({pair: own[pair] - other[pair] for pair in own.keys() & other.keys()}, "+")


HEADS = (
    "workers", "strategy", "searches", "mean of the last", "area", "of serial", "staleness", "ESS", "rl ahead",
    "in area",
)  # fmt: skip


def shown(values, sign=""):
    """The mean of the landscapes, of which each counts as the mean of its seeds, with its interval, as text."""
    if not values:
        return "–"
    landscapes = sorted({landscape for landscape, _ in values})
    seeds = [[value for pair, value in values.items() if pair[0] == landscape] for landscape in landscapes]
    middle, half = interval([np.mean(column) for column in seeds])
    return f"{middle:{sign}.3f}" + (f" ± {half:.3f}" if len(landscapes) > 1 else "")


def show(options):
    """Print the table of what is there, and how much is missing."""
    kept, wanted = {key_of(run): run for run in read(options.keep)}, [key_of(task) for task in tasks(options)]
    found = [kept[key] for key in wanted if key in kept]
    print(
        f"{options.reward}, {options.trials} trials, {options.settings}: {len(found)} of {len(wanted)} runs are there"
    )
    widths = (8, 32, 9, 16, 16, 16, 10, 6, 17, 17)
    for row in (HEADS, *Figures(found).rows(options.workers, options.names)):
        print("".join(f"{text:<{width}}" for text, width in zip(row, widths, strict=True)))


def table():
    """Lines of the tables in RESULTS.md, from the raw results in this folder."""
    kept, lines = read(RAW), []
    kinds = list(dict.fromkeys(key_of(run)[:3] for run in kept))
    for kind in sorted(kinds, key=lambda kind: (kind[1], kind[2] != "tuned")):
        runs = [run for run in kept if key_of(run)[:3] == kind]
        workers = sorted({run["workers"] for run in runs})
        lines += ["", f"`{kind[0]}`, {kind[1]:,} trials, {kind[2]} settings:", ""]
        lines += [f"| {' | '.join(HEADS)} |", "|" + "---|" * len(HEADS)]
        lines += [f"| {' | '.join(row)} |" for row in Figures(runs).rows(workers, NAMES)]
    return [*lines[1:], ""]


def main():
    """Run what is missing, then print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reward", choices=sorted(REWARDS), default="cells")
    parser.add_argument("--settings", choices=tuple(SETTINGS), default="tuned")
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 45, 100, 450])
    parser.add_argument("--names", nargs="+", choices=NAMES, default=list(NAMES))
    parser.add_argument("--landscapes", type=int, default=5, help="how many")
    parser.add_argument("--first", type=int, default=0, help="number of the first landscape")
    parser.add_argument("--seeds", type=int, default=3, help="searches of each landscape")
    parser.add_argument("--keep", required=True, metavar="FILE", help="a line a run; none is repeated")
    parser.add_argument("--show", action="store_true", help="run nothing")
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    if not options.show:
        if Path(options.keep).suffix == ".gz":
            parser.error("--keep must be a plain file where runs are made")
        kept = read(options.keep)
        Path(options.keep).write_text("".join(json.dumps(run) + "\n" for run in kept))  # without a line cut short
        done = {key_of(run) for run in kept}
        missing = [task for task in tasks(options) if key_of(task) not in done]
        with ProcessPoolExecutor(options.processes) as pool, open(options.keep, "a", encoding="utf-8") as file:
            for future in as_completed([pool.submit(run, task) for task in missing]):
                file.write(json.dumps(future.result()) + "\n")
                file.flush()
    show(options)


if __name__ == "__main__":
    sys.exit(main())
