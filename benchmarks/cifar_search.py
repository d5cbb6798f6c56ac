"""Does the controller beat random search on real images? Searches on CIFAR-10, and their best cells retrained.

    python benchmarks/cifar_search.py search --data CIFAR [--seeds 0 1 2] [--strategies random evolution …]
    python benchmarks/cifar_search.py retrain --data CIFAR

CIFAR is a folder root/{train,test}/<class>/*. `search` runs `nasnet-keras search`, 300 trials for each strategy and
seed, in RUNS/<strategy>-<seed>, and keeps each finished search's trials in RESULTS; a seed also decides which images
there are. `retrain` trains the best three cells of every search beside NASNet-A's and random ones, all alike: wider,
longer, on more images, and measured on the test images. Both can be interrupted, and go on. `results.py` makes the
tables and the plot from RESULTS.
"""

import argparse
import gzip
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from bands import draw, interval

RESULTS = Path(__file__).parent / "cifar_search"
PAPER = ["--controller-batch", "20", "--controller-rate", "0.00035"]
STRATEGIES = {
    "random": ["--controller", "random"],
    "evolution": ["--controller", "evolution"],
    "rl": ["--controller", "rl"],
    "rl-paper": ["--controller", "rl", *PAPER],
}
NAMES = {"random": "random", "evolution": "evolution", "rl": "RL, tuned", "rl-paper": "RL, the paper's values"}
COLOURS = {"random": "#7a8794", "evolution": "#2b8a3e", "rl": "#1c7ed6", "rl-paper": "#f08c00"}
TRIALS = 300
# 60 batches of 32, judged on 1,050 other images.
CHILD = {
    "image-size": 16, "limit": 3000, "validation": 0.35, "repeats": 1, "filters": 4, "epochs": 1, "batch-size": 32,
}  # fmt: skip
TOP = 3
MEANS = ("parameters", "multiply_adds", "seconds")
RANDOM_CELLS = 3
# The longer budget: 780 batches of 64, measured on the 10,000 test images.
RETRAINED = {"repeats": 1, "filters": 8, "epochs": 5, "batch_size": 64}
RETRAINED_IMAGES = {"image_size": 16, "limit": 10_000, "validation": 0.0}
RETRAINED_SEED = 0


def shared_words(seed, data, directory):
    """The words of every search after `nasnet-keras`, but for the strategy's options."""
    child = [word for name, value in CHILD.items() for word in (f"--{name}", str(value))]
    words = ["search", "--data", data, *child, "--max-trials", str(TRIALS), "--seed", str(seed)]
    return [*words, "--no-final", "--directory", str(directory)]


def search(options):
    """Run the searches that are not in RESULTS yet."""
    RESULTS.mkdir(exist_ok=True)
    for seed in options.seeds:
        for strategy in options.strategies:
            kept = RESULTS / f"{strategy}-{seed}.jsonl.gz"
            if kept.exists():
                continue
            directory = Path(options.runs) / f"{strategy}-{seed}"
            words = [*shared_words(seed, options.data, directory), *STRATEGIES[strategy]]
            start = time.perf_counter()
            program = "import sys; from nasnet_keras.cli import main; sys.exit(main(sys.argv[1:]))"
            done = subprocess.run([sys.executable, "-c", program, *words], stdout=subprocess.DEVNULL)
            if done.returncode:  # it has said why
                sys.exit(done.returncode)
            text = (directory / "trials.jsonl").read_bytes()
            partial = kept.with_suffix(".part")
            partial.write_bytes(gzip.compress(text, mtime=0))
            partial.rename(kept)
            print(f"{strategy}, seed {seed}: {time.perf_counter() - start:.0f} s", flush=True)


def retrain(options):
    """Train the best cells of the searches, and those they are compared with, that are not in RESULTS yet."""
    from nasnet_keras.children.settings import ChildSettings, accuracy
    from nasnet_keras.data.loading import load_data

    kept = RESULTS / "retrained.jsonl"
    made = {row["digest"] for row in lines(kept)}
    todo = [cell for cell in cells() if cell["genotype"].digest not in made]
    data, child = load_data(options.data, seed=RETRAINED_SEED, **RETRAINED_IMAGES), ChildSettings(**RETRAINED)
    for cell in todo[options.part - 1 :: options.parts]:
        start, genotype = time.perf_counter(), cell["genotype"]
        if genotype.digest in {row["digest"] for row in lines(kept)}:  # two searches found it
            continue
        trained = child.train_interpreted(genotype, data, RETRAINED_SEED, child.epochs)
        figures = {"digest": genotype.digest, "accuracy": accuracy(trained, data.test), **child.sizes(genotype, data)}
        figures["seconds"] = time.perf_counter() - start
        with kept.open("a") as file:
            file.write(json.dumps(figures) + "\n")
        print(f"{cell['group']}, seed {cell['seed']}: {100 * figures['accuracy']:.2f}%", flush=True)


def cells():
    """The cells to retrain: dicts of a `group`, a `seed`, the `reward` in the search, and the `genotype`."""
    from nasnet_keras.genotype import Genotype, load_genotype
    from nasnet_keras.search.space import SearchSpace

    space = SearchSpace()
    yield {"group": "NASNet-A", "seed": None, "reward": None, "genotype": load_genotype("nasnet_a")}
    for seed in range(RANDOM_CELLS):
        genotype = space.decode(space.random(np.random.default_rng([seed, 0xF1])))
        yield {"group": "a random cell", "seed": seed, "reward": None, "genotype": genotype}
    for (strategy, seed), trials in searches().items():
        for trial in best(trials)[:TOP]:
            genotype = Genotype.from_dict(trial["genotype"])
            yield {"group": NAMES[strategy], "seed": seed, "reward": trial["reward"], "genotype": genotype}


def searches():
    """The finished searches in RESULTS: `{(strategy, seed): trials}`."""
    found = {}
    for strategy in STRATEGIES:
        for path in sorted(RESULTS.glob(f"{strategy}-[0-9]*.jsonl.gz")):
            seed = int(path.name.removeprefix(f"{strategy}-").split(".")[0])
            found[strategy, seed] = [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]
    return found


def best(trials):
    """The different networks of a search, the best first; the same network again counts once."""
    ranked = sorted((trial for trial in trials if trial["reward"] is not None), key=lambda trial: -trial["reward"])
    different = {}
    for trial in ranked:
        different.setdefault(trial["canonical"], trial)
    return list(different.values())


def lines(path):
    """The objects of a file with one on each line."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def rewards(trials):
    """The rewards of a search, in order; a failed child counts as nothing."""
    return np.array([trial["reward"] or 0.0 for trial in trials])


MEASURES = {
    "mean of the last 50": lambda trials: rewards(trials)[-50:].mean(),
    "best": lambda trials: rewards(trials).max(),
    "top 5": lambda trials: np.mean([trial["reward"] for trial in best(trials)[:5]]),
    "top 25": lambda trials: np.mean([trial["reward"] for trial in best(trials)[:25]]),
    "all 300": lambda trials: rewards(trials).mean(),
}


def measured():
    """{strategy: {seed: values of MEASURES}} of the strategies with several searches."""
    figures = {}
    for (strategy, seed), trials in searches().items():
        figures.setdefault(strategy, {})[seed] = [measure(trials) for measure in MEASURES.values()]
    return {strategy: own for strategy, own in figures.items() if len(own) > 1}


def search_table():
    """What the searches reached, as lines of Markdown."""
    found = searches()
    yield f"| strategy | options | seeds | {' | '.join(MEASURES)} | different networks | seconds of training a search |"
    yield "|---|---|---|" + "---|" * (len(MEASURES) + 2)
    for strategy, own in measured().items():
        runs = [found[strategy, seed] for seed in own]
        shown = " | ".join(f"{100 * m:.1f} ± {100 * h:.1f}" for m, h in map(interval, zip(*own.values(), strict=True)))
        different = statistics.mean(len(best(trials)) for trials in runs)
        seconds = statistics.mean(sum(trial["seconds"] for trial in trials) for trials in runs)
        start = f"| {NAMES[strategy]} | `{' '.join(STRATEGIES[strategy])}` | {', '.join(map(str, own))}"
        yield f"{start} | {shown} | {different:.0f} | {seconds:.0f} |"
    yield ""
    yield f"Each search is `nasnet-keras {' '.join(shared_words('SEED', 'CIFAR', 'DIRECTORY'))}` with its options."


def ahead_table():
    """How far each strategy is ahead of random search with the same seeds, as lines of Markdown."""
    figures = measured()
    yield f"| ahead of random, seed by seed | {' | '.join(MEASURES)} |"
    yield "|---|" + "---|" * len(MEASURES)
    for strategy, own in figures.items():
        shared = [seed for seed in own if seed in figures.get("random", {})]
        if strategy == "random" or len(shared) < 2:
            continue
        differences = [np.subtract(own[seed], figures["random"][seed]) for seed in shared]
        shown = " | ".join(f"{100 * m:+.1f} ± {100 * h:.1f}" for m, h in map(interval, zip(*differences, strict=True)))
        yield f"| {NAMES[strategy]} | {shown} |"


def retrained_table():
    """What the best cells are worth after a longer training, as lines of Markdown."""
    made = {row["digest"]: row for row in lines(RESULTS / "retrained.jsonl")}
    groups = {}
    for cell in cells():
        if cell["genotype"].digest in made:
            groups.setdefault(cell["group"], []).append({**cell, **made[cell["genotype"].digest]})
    yield "| cells | how many | test accuracy, mean | best | of each search | parameters | multiply-adds | seconds |"
    yield "|---|---|---|---|---|---|---|---|"
    for group, rows in groups.items():
        accuracy = [100 * row["accuracy"] for row in rows]
        seeds = sorted({row["seed"] for row in rows if row["seed"] is not None})
        means = (statistics.mean(100 * row["accuracy"] for row in rows if row["seed"] == seed) for seed in seeds)
        sizes = (f"{statistics.mean(row[key] for row in rows):,.0f}" for key in MEANS)
        shown = f"**{statistics.mean(accuracy):.1f}%** | {max(accuracy):.1f}%"
        of_each = ", ".join(f"{mean:.1f}" for mean in means)
        yield f"| {group} | {len(rows)} | {shown} | {of_each or '—'} | {' | '.join(sizes)} |"


def plot(path):
    """Draw the running means of 30 rewards of all strategies."""
    runs = {name: [] for name in NAMES.values()}
    for (strategy, _), trials in searches().items():
        runs[NAMES[strategy]].append(100 * rewards(trials))
    runs = {name: values for name, values in runs.items() if len(values) > 1}
    title = "validation accuracy of CIFAR-10 micro-children in %, mean of the last 30"
    draw({title: runs}, {NAMES[strategy]: colour for strategy, colour in COLOURS.items()}, TRIALS, 30, path)


def main():
    """Search, or retrain."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("step", choices=("search", "retrain"))
    parser.add_argument("--data", required=True, help="the folder with CIFAR-10")
    parser.add_argument("--runs", default="cifar-searches")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--strategies", nargs="+", choices=STRATEGIES, default=list(STRATEGIES))
    parser.add_argument("--part", type=int, default=1, help="retrain this one of so many parts: for two processes")
    parser.add_argument("--parts", type=int, default=1)
    options = parser.parse_args()
    if not Path(options.data).is_dir():
        parser.error(f"--data must be a folder. Received: {options.data}")
    {"search": search, "retrain": retrain}[options.step](options)


if __name__ == "__main__":
    main()
