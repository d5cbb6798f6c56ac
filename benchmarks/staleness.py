"""What a controller learns while many workers are at work: its rewards then belong to policies of long ago.

    python benchmarks/staleness.py --keep staleness.jsonl                      # goes on where it was stopped
    python benchmarks/staleness.py --keep staleness.jsonl --show               # the tables of what is there
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
import heapq
import json
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed
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
    for seed in range(options.seeds):
        for landscape in range(options.first, options.first + options.landscapes):
            for workers in options.workers:
                for name in options.names:
                    # Without a policy there is nothing to be stale, and with one worker there is no staleness.
                    if workers == 1 or name != "random":
                        yield {
                            "reward": options.reward, "trials": options.trials, "settings": options.settings,
                            "name": name, "workers": workers, "landscape": landscape, "seed": seed,
                        }  # fmt: skip


def read(path):
    """The runs that a file holds; a last line that was cut short is left out."""
    lines = Path(path).read_text().split("\n") if Path(path).exists() else []
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


def show(options):
    """Print the tables of the landscapes and seeds of which every run is there, and name what is missing."""
    wanted = list(tasks(options))
    kept = {key_of(run): run for run in read(options.keep)}
    missing = [task for task in wanted if key_of(task) not in kept]
    incomplete = {(task["landscape"], task["seed"]) for task in missing}
    pairs = {(task["landscape"], task["seed"]) for task in wanted} - incomplete
    landscapes = sorted({landscape for landscape, _ in pairs})
    seeds = [seed for seed in range(options.seeds) if all((landscape, seed) in pairs for landscape in landscapes)]
    if not landscapes or not seeds:
        print(f"no landscape is complete yet; {len(missing)} of {len(wanted)} runs are missing")
        return
    runs = {key_of(run)[3:]: run for run in kept.values() if key_of(run)[:3] == key_of(wanted[0])[:3]}
    print(
        f"{options.reward}, {options.trials} trials, {options.settings}, landscapes {landscapes}, seeds {seeds}"
        + (f"; {len(missing)} of {len(wanted)} runs are missing" if missing else "")
    )

    def of(figure, name, workers):
        return column(runs, figure, name, workers, landscapes, seeds)

    def cell(numbers, width=19, sign=""):
        if numbers is None:
            return f"{'–':>{width}}"
        middle, half = interval(numbers)
        return f"{f'{middle:{sign}.3f} ± {half:.3f}':>{width}}"

    heads = ("mean of the last", 19), ("area", 19), ("of serial", 19), ("staleness", 10), ("ESS", 7)
    print(f"\n{'workers':8}{'strategy':32}" + "".join(f"{head:>{width}}" for head, width in heads))
    for workers in options.workers:
        for name in options.names:
            if name == "random" and workers > 1:
                continue
            last, serial, random = of("last", name, workers), of("last", RL, 1), of("last", "random", 1)
            share = None if any(x is None for x in (last, serial, random)) else (last - random) / (serial - random)
            stale = of("staleness", name, workers)
            size = of("effective_sample_size", name, workers) if name in (RL, BEFORE) else None
            shown = "".join(
                f"{'–' if x is None else f'{x.mean():.1f}':>{width}}" for x, width in ((stale, 10), (size, 7))
            )
            print(f"{workers:<8}{name:32}{cell(last)}{cell(of('area', name, workers))}{cell(share)}{shown}")
    for workers in options.workers:
        for name in options.names:
            if name == RL or (name == "random" and workers > 1):
                continue
            ahead = {figure: (of(figure, RL, workers), of(figure, name, workers)) for figure in ("last", "area")}
            if all(x is not None for pair in ahead.values() for x in pair):
                cells = "".join(cell(one - two, sign="+") for one, two in ahead.values())
                print(f"{workers:<8}{f'rl − {name}':32}{cells}")


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
