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
`rl` is ahead. Intervals are 95% by Student's t over the landscapes, of which each counts as the mean of its seeds.
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


def column(runs, figure, name, workers, landscapes, seeds):
    """One number a landscape, the mean of its seeds; None if a run is missing."""
    workers = 1 if name == "random" else workers
    found = [[runs.get((name, workers, landscape, seed)) for seed in seeds] for landscape in landscapes]
    if any(run is None for row in found for run in row):
        return None
    return np.array([np.mean([run[figure] for run in row]) for row in found])


class Figures:
    """The figures of the landscapes and seeds of which every wanted run is there.

    Args:
        kept: runs, as `read` gives them.
        wanted: the tasks, of one reward, number of trials and settings.
    """

    def __init__(self, kept, wanted):
        kept = {key_of(run): run for run in kept}
        self.wanted, self.missing = wanted, [task for task in wanted if key_of(task) not in kept]
        incomplete = {(task["landscape"], task["seed"]) for task in self.missing}
        pairs = {(task["landscape"], task["seed"]) for task in wanted} - incomplete
        self.landscapes = sorted({landscape for landscape, _ in pairs})
        seeds = sorted({task["seed"] for task in wanted})
        self.seeds = [seed for seed in seeds if all((one, seed) in pairs for one in self.landscapes)]
        self._runs = {key_of(run)[3:]: run for run in kept.values() if key_of(run)[:3] == key_of(wanted[0])[:3]}

    def of(self, figure, name, workers):
        """One number a landscape, see `column`."""
        return column(self._runs, figure, name, workers, self.landscapes, self.seeds)

    def rows(self, workers, names):
        """For each number of workers and strategy the columns of a table, texts."""
        for count in workers:
            for name in names:
                if name == "random" and count > 1:
                    continue
                last = self.of("last", name, count)
                serial, random = self.of("last", RL, 1), self.of("last", "random", 1)
                share = None if any(x is None for x in (last, serial, random)) else (last - random) / (serial - random)
                size = self.of("effective_sample_size", name, count) if name in (RL, BEFORE) else None
                means = ["–" if x is None else f"{x.mean():.1f}" for x in (self.of("staleness", name, count), size)]
                ahead = [self._ahead(figure, name, count) for figure in ("last", "area")] if name != RL else ["", ""]
                yield [str(count), name, shown(last), shown(self.of("area", name, count)), shown(share), *means, *ahead]

    def _ahead(self, figure, name, count):
        own, other = self.of(figure, RL, count), self.of(figure, name, count)
        return "–" if own is None or other is None else shown(own - other, "+")


HEADS = ("workers", "strategy", "mean of the last", "area", "of serial", "staleness", "ESS", "rl ahead", "in area")


def shown(numbers, sign=""):
    """A mean with its interval, as text."""
    if numbers is None:
        return "–"
    middle, half = interval(numbers)
    return f"{middle:{sign}.3f} ± {half:.3f}"


def show(options):
    """Print the table of what is there, and name what is missing."""
    figures = Figures(read(options.keep), list(tasks(options)))
    if not figures.landscapes or not figures.seeds:
        print(f"no landscape is complete yet; {len(figures.missing)} of {len(figures.wanted)} runs are missing")
        return
    print(
        f"{options.reward}, {options.trials} trials, {options.settings}, landscapes {figures.landscapes}, "
        f"seeds {figures.seeds}"
        + (f"; {len(figures.missing)} of {len(figures.wanted)} runs are missing" if figures.missing else "")
    )
    widths = (8, 32, 17, 17, 17, 10, 6, 17, 17)
    for row in (HEADS, *figures.rows(options.workers, options.names)):
        print("".join(f"{text:<{width}}" for text, width in zip(row, widths, strict=True)))


def table():
    """Lines of the tables in RESULTS.md, from the raw results in this folder."""
    kept, lines = read(RAW), []
    kinds = list(dict.fromkeys(key_of(run)[:3] for run in kept))
    for kind in sorted(kinds, key=lambda kind: (kind[1], kind[2] != "tuned")):
        runs = [run for run in kept if key_of(run)[:3] == kind]
        every = {name: sorted({run[name] for run in runs}) for name in ("workers", "landscape", "seed")}
        names = [name for name in NAMES if any(run["name"] == name for run in runs)]
        parts = [every["seed"], every["landscape"], every["workers"], names]
        figures = Figures(runs, list(_tasks(*kind, *parts)))
        count = f"{len(figures.landscapes)} landscapes × {len(figures.seeds)} seeds"
        lines += ["", f"`{kind[0]}`, {kind[1]:,} trials, {kind[2]} settings, {count}:", ""]
        lines += [f"| {' | '.join(HEADS)} |", "|" + "---|" * len(HEADS)]
        lines += [f"| {' | '.join(row)} |" for row in figures.rows(every["workers"], names)]
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
