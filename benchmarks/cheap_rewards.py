"""What cheap rewards are worth: their rank correlation with the reward of children that train alone.

    python benchmarks/cheap_rewards.py [--data digits] [--cells 30] [--epochs 3] [--warm-up 60]

The same random cells (N=1, F=8, five blocks) get an independent reward from two seeds, whose correlation is what noise
leaves of any; a reward with shared weights, after so many other random cells have trained these; and each cheap
score at the initial weights. Spearman's correlation with the mean of the two independent rewards, its 90% interval
from 2,000 resamplings of the cells, and the seconds that a cell costs (median).
"""

import argparse
import os
import tempfile
import time
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

from nasnet_keras.children.scores import SCORES
from nasnet_keras.children.screening import child_score
from nasnet_keras.children.settings import ChildSettings
from nasnet_keras.children.shared_weights import SharedEvaluation
from nasnet_keras.data.loading import load_data
from nasnet_keras.search.space import SearchSpace


def ranks(values):
    """Ranks from 0, equal values sharing their mean."""
    values = np.asarray(values)
    return np.array([(values < value).sum() + ((values == value).sum() - 1) / 2 for value in values])


def spearman(left, right):
    """The correlation of the ranks; 0 where one side is constant."""
    left, right = ranks(left), ranks(right)
    return 0.0 if left.std() == 0 or right.std() == 0 else float(np.corrcoef(left, right)[0, 1])


def interval(left, right, rng, count=2000):
    """The 5% and 95% quantiles of the correlation over resampled cells."""
    left, right = np.asarray(left), np.asarray(right)
    draws = (rng.integers(0, len(left), len(left)) for _ in range(count))
    return np.quantile([spearman(left[draw], right[draw]) for draw in draws], (0.05, 0.95))


def timed(function, *arguments):
    """(result, seconds)."""
    start = time.perf_counter()
    return function(*arguments), time.perf_counter() - start


def main():
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="digits", help="digits, or a folder of images")
    parser.add_argument("--limit", type=int, help="use at most this many images for training and validation")
    parser.add_argument("--cells", type=int, default=30, help="random cells that are ranked")
    parser.add_argument("--epochs", type=int, default=3, help="epochs of the independent rewards")
    parser.add_argument(
        "--warm-up", type=int, default=60, help="other random cells that train the shared weights first"
    )
    options = parser.parse_args()
    data, child = load_data(options.data, limit=options.limit), ChildSettings(epochs=options.epochs)
    space, rng = SearchSpace(), np.random.default_rng(0)
    cells = [space.decode(space.random(rng)) for _ in range(options.cells)]
    others = [space.decode(space.random(rng)) for _ in range(options.warm_up)]
    found = {
        f"independent, seed {seed}": [timed(child.evaluate, cell, data, seed) for cell in cells] for seed in (1, 2)
    }
    with tempfile.TemporaryDirectory() as folder:
        shared = SharedEvaluation(replace(child, evaluation="shared"), Path(folder) / "shared")
        rows = [timed(shared.evaluate, cell, data, 1, number) for number, cell in enumerate([*others, *cells])]
        found["shared"] = rows[options.warm_up :]
    seconds = {name: np.median([one for _, one in rows]) for name, rows in found.items()}
    values = {name: [result["reward"] for result, _ in rows] for name, rows in found.items()}
    for name in SCORES:
        rows = [timed(child_score, replace(child, screen=name), cell, data, 1) for cell in cells]
        values[name], seconds[name] = ([row[0] for row in rows], np.median([row[1] for row in rows]))
    first, second = (values[f"independent, seed {seed}"] for seed in (1, 2))
    mean = np.mean([first, second], axis=0)
    print(f"{data.name}, {len(data.train)} images, {options.cells} cells, {options.epochs} epochs alone,")
    print(f"{options.warm_up} cells of {child.shared_steps} steps before the shared rewards; rewards alone:")
    print(f"{mean.min():.3f} to {mean.max():.3f}, standard deviation {mean.std():.3f}")
    rng = np.random.default_rng(1)
    low, high = interval(first, second, rng)
    print(f"{'one seed with the other':24} {spearman(first, second):6.2f}  [{low:5.2f}, {high:5.2f}]")
    for name in ("shared", *SCORES):
        low, high = interval(values[name], mean, rng)
        correlation = spearman(values[name], mean)
        print(f"{name:24} {correlation:6.2f}  [{low:5.2f}, {high:5.2f}]  {seconds[name]:6.2f} s a cell")
    print(f"{'independent':24} {'':22}  {seconds['independent, seed 1']:6.2f} s a cell")


if __name__ == "__main__":
    main()
