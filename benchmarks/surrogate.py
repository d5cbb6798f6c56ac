"""What a cell of the paper's space would reach as a micro-child, without training it: a model fitted to the cell table.

    python benchmarks/surrogate.py [--table cell_table.jsonl.gz]      # how well it predicts; what RESULTS.md shows

The table is `cell_table.py`'s. The model is gradient-boosted trees (Friedman 2001) on how the signal flows through a
cell's graph, `flows`; the package's own predictor is a Gaussian process on counts of neighbours, so that a search with
it is not judged by itself.

All figures are of cells that the model has not seen: ten folds, drawn over the cells. The best cells are chosen by
their first seed and judged by the others, because who is chosen by a noisy value owes a part of it to luck.
"""

import argparse
import sys
from collections import Counter
from functools import cached_property
from pathlib import Path

import numpy as np
from cell_table import SHORTEST, STRATEGIES, load_table
from scipy.stats import spearmanr
from sklearn.ensemble import GradientBoostingRegressor
from sklearn.model_selection import KFold

from nasnet_keras.genotype import COMBINATIONS, OPERATIONS
from nasnet_keras.search.space import CELLS

TABLE = Path(__file__).with_name("cell_table.jsonl.gz")
TREES = {"n_estimators": 600, "learning_rate": 0.02, "max_depth": 5, "subsample": 0.5, "max_features": 0.3}
FOLDS, BEST, FEWEST = 10, 0.05, 10  # of fewer cells no rank correlation is told
# Pixels by which an operation widens what its output sees, and the weighted layers that the signal passes.
REACH = {"dil_conv_3x3": 4, "conv_1x3_3x1": 2, "conv_1x7_7x1": 6}
WEIGHED = {"identity": 0, "conv_1x1": 1, "conv_3x3": 1, "dil_conv_3x3": 1, "conv_1x3_3x1": 2, "conv_1x7_7x1": 2}


def flows(cell):
    """How a signal that spreads evenly goes from a cell's output back to its inputs, as numbers.

    The output's signal is shared by the states that leave the cell, a state's by the two halves of its block. The
    numbers: for each operation the signal through it in all, and through it as the last and as the first one; the same
    for combinations; what ends at each input, and what of it met no weight; over the paths the mean, least and greatest
    number of operations, weighted layers and pixels of reach; how many states leave, and how many paths there are.

    Args:
        cell: a `CellGenotype` with two inputs.

    Returns:
        float64 [K], the same K for every cell.
    """
    through, last, first = (dict.fromkeys(OPERATIONS, 0.0) for _ in range(3))
    combined, ends = dict.fromkeys(COMBINATIONS, 0.0), [0.0, 0.0]
    paths = []  # (share, operations, weighted layers, reach) of each
    leaving = len(cell.concat)
    open_paths = [(state, 1.0 / leaving, 0, 0, 0) for state in cell.concat]
    while open_paths:
        state, share, length, weighed, reach = open_paths.pop()
        if state < 2:
            ends[state] += share
            paths.append((share, length, weighed, reach))
            continue
        block = cell.blocks[state - 2]
        combined[block.combine] += share
        for source, operation in zip(block.inputs, block.operations, strict=True):
            half = share / 2
            through[operation] += half
            last[operation] += half if length == 0 else 0.0
            first[operation] += half if source < 2 else 0.0
            layers = WEIGHED.get(operation, 2 if operation.startswith("sep") else 0)
            wider = REACH.get(operation, int(operation[-1]) - 1 if operation[-1].isdigit() else 0)
            wider *= 2 if operation.startswith("sep") else 1
            open_paths.append((source, half, length + 1, weighed + layers, reach + wider))
    shares, *measures = np.array(paths).T
    plain = shares[measures[1] == 0].sum()
    spread = [value for measure in measures for value in (shares @ measure, measure.min(), measure.max())]
    parts = [*through.values(), *last.values(), *first.values(), *combined.values()]
    return np.array([*parts, *ends, plain, *spread, leaving, np.log(len(paths))])


def features(genotype):
    """The `flows` of both cells, float64 [2 K]."""
    return np.concatenate([flows(getattr(genotype, cell)) for cell in CELLS])


class Surrogate:
    """A table of cells, and the model fitted to all of it.

    Args:
        path: what `cell_table.py --pack` wrote.

    Attributes:
        cells: those that were trained, without the published ones: dicts as `load_table` gives them.
        failed: how many of them came to no accuracy, which the model does not learn from.
        by_seed: float64 [N, S]: the accuracy from each seed; NaN where it was not trained.
        noise: the standard deviation of an accuracy over seeds.

    Examples:
        >>> surrogate = Surrogate()                                    # doctest: +SKIP
        >>> surrogate(load_genotype("nasnet_a"))                       # doctest: +SKIP
        0.39
    """

    def __init__(self, path=TABLE):
        _, cells = load_table(path)
        values = {cell["cell"]: self._accuracies(cell) for cell in cells}
        drawn = [cell for cell in cells if cell["part"] != "known"]
        self.cells = [cell for cell in drawn if np.isfinite(values[cell["cell"]]).any()]
        self.failed = len(drawn) - len(self.cells)
        self.by_seed = np.array([values[cell["cell"]] for cell in self.cells])
        self.features = np.array([features(cell["genotype"]) for cell in self.cells])

    @staticmethod
    def _accuracies(cell):
        for network in cell["networks"]:
            if all(network[name] == SHORTEST[name] for name in SHORTEST):
                found = [np.nan if value is None else value for value in network["accuracy"]]
                return np.array([*found, np.nan, np.nan][:3])
        return np.full(3, np.nan)

    @property
    def means(self):
        """The mean accuracy of each cell, [N]."""
        return np.nanmean(self.by_seed, axis=1)

    @property
    def seeds(self):
        """From how many seeds each cell was trained, [N]."""
        return np.isfinite(self.by_seed).sum(axis=1)

    @cached_property
    def noise(self):
        """Of cells that were trained from several seeds; NaN where there is none."""
        several = self.by_seed[self.seeds > 1]
        return float(np.sqrt(np.nanvar(several, axis=1, ddof=1).mean())) if len(several) else np.nan

    @cached_property
    def _model(self):
        return fitted(self.features, self.means, self.seeds)

    def __call__(self, genotype):
        """The accuracy that a micro-child of a `Genotype` would reach, without noise."""
        return float(self._model.predict(features(genotype)[None])[0])

    @cached_property
    def unseen(self):
        """The prediction for each cell by a model that has not seen it, [N]."""
        values = np.empty(len(self.cells))
        for seen, left in KFold(FOLDS, shuffle=True, random_state=0).split(values):
            model = fitted(self.features[seen], self.means[seen], self.seeds[seen])
            values[left] = model.predict(self.features[left])
        return values

    def groups(self):
        """`{name: mask over the cells}`: random ones, those of the searches, the best of all by their first seed."""
        part = np.array([cell["part"] for cell in self.cells])
        groups = {"random": part == "random", "of searches": np.isin(part, STRATEGIES)}
        first = np.nan_to_num(self.by_seed[:, 0], nan=-1.0)
        others = np.isfinite(self.by_seed[:, 1:]).any(axis=1)
        best = np.zeros(len(part), dtype=bool)
        best[np.argsort(-first)[: round(BEST * len(part))]] = True
        return groups | {"best 5%": best & others}


def fitted(rows, accuracies, seeds):
    """The model, fitted to cells that weigh as much as they have seeds."""
    return GradientBoostingRegressor(**TREES, random_state=0).fit(rows, accuracies, sample_weight=seeds)


def table(surrogate):
    """The lines of the table in RESULTS.md."""
    counts = Counter(surrogate.seeds.tolist())
    told = ", ".join(f"{counts[seeds]:,} from {seeds}" for seeds in sorted(counts, reverse=True))
    yield f"{len(surrogate.cells):,} cells ({told}), {surrogate.failed} failed; ± {surrogate.noise:.4f} between seeds"
    yield ""
    yield "| cells | number | mean | spread | rank correlation | error | noise of the mean | seed 0 with seed 1 |"
    yield "|---|---|---|---|---|---|---|---|"
    for name, mask in surrogate.groups().items():
        if mask.sum() < FEWEST:
            continue
        judged = surrogate.by_seed[mask]
        if name.startswith("best"):
            judged = judged[:, 1:]
        truth, said = np.nanmean(judged, axis=1), surrogate.unseen[mask]
        noise = surrogate.noise * np.sqrt((1 / np.isfinite(judged).sum(axis=1)).mean())
        twice = np.isfinite(surrogate.by_seed[mask][:, :2]).all(axis=1)
        both = spearmanr(*surrogate.by_seed[mask][twice, :2].T).statistic if twice.sum() > 9 else np.nan
        error = np.sqrt(np.mean((truth - said) ** 2))
        ranks = spearmanr(truth, said).statistic
        yield (
            f"| {name} | {mask.sum():,} | {truth.mean():.4f} | {truth.std():.4f} | {ranks:.2f} | {error:.4f} "
            f"| {noise:.4f} | {both:.2f} |"
        )


def main():
    """Print how well the model predicts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=Path, default=TABLE)
    path = parser.parse_args().table
    try:
        surrogate = Surrogate(path)
    except (OSError, ValueError) as error:
        parser.error(f"--table must be what `cell_table.py --pack` wrote. Received: {path}, {error}")
    print("\n".join(table(surrogate)))


if __name__ == "__main__":
    sys.exit(main())
