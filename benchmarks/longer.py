"""Does an epoch tell which cells are good after nine? What the cell table's longer trainings say.

    python benchmarks/longer.py [--table cell_table.jsonl.gz]      # what RESULTS.md shows

The table is `cell_table.py`'s: children of one epoch at F=4, and some of the cells at F=8 with 3 and with 9 epochs,
each a training of its own, from two seeds. What a cell is worth is its accuracy after nine epochs from one other seed,
so that no correlation can be much above that of nine epochs with nine. Intervals are 95%, by resampling the cells, in
the second table by random halves of them.

The second table spends the same epochs in four ways on cells drawn at random, and asks what the chosen cell is worth:
many cells for one epoch, fewer for three, few for nine, or successive halving (Jamieson and Talwalkar 2016), which
begins many trainings of nine epochs and goes on, from their own weights, with the best third after one and after three.
"""

import argparse
from itertools import chain
from pathlib import Path

import numpy as np
from cell_table import STRATEGIES, load_table
from scipy.stats import spearmanr

TABLE = Path(__file__).with_name("cell_table.jsonl.gz")
SHORT, THREE, NINE = (4, 1), (8, 3), (8, 9)  # filters and epochs
RESAMPLED, DRAWS, FEWEST = 500, 400, 20
# How many cells are begun: 63 epochs in all, of which one at F=8 takes as long as a child at F=4.
WAYS = {
    "63 for one epoch at F=4": (63, "short"),
    "21 for three epochs": (21, "three"),
    "7 for nine epochs": (7, "nine"),
    "halving: 27 for one, 9 for three, 3 for nine": (27, "halving"),
}


class Longer:
    """The cells with both longer trainings from two seeds.

    Args:
        path: what `cell_table.py --pack` wrote.

    Attributes:
        groups: `{name: mask over the cells}`.
        short: float64 [N, S], after one epoch at F=4, from each seed.
        three: float64 [N, 2], after three epochs at F=8.
        curves: float64 [N, 2, 9], after each of nine epochs at F=8.
    """

    def __init__(self, path=TABLE):
        rows = []
        for cell in load_table(path)[1]:
            networks = {(network["filters"], network["epochs"]): network for network in cell["networks"]}
            found = [networks[size]["accuracy"] for size in (SHORT, THREE, NINE) if size in networks]
            if list(map(len, found)) == [3, 2, 2] and None not in chain(*found):
                rows.append((cell["part"], *found[:2], networks[NINE]["curve"]))
        self.parts = np.array([part for part, *_ in rows])
        self.short, self.three, self.curves = (np.array([row[place] for row in rows], float) for place in (1, 2, 3))

    @property
    def groups(self):
        """All cells, and those of each origin."""
        searched = np.isin(self.parts, STRATEGIES)
        return {"all": np.full(len(self.parts), True), "random": self.parts == "random", "of searches": searched}

    @property
    def nine(self):
        """After nine epochs, [N, 2]."""
        return self.curves[:, :, -1]

    def compared(self):
        """`{what stands for a cell: pairs of its values and of the accuracies after nine epochs from another seed}`."""
        nine, others = self.nine.T, ((0, 1), (1, 0))
        one_of_three = [(seed, other) for seed in range(3) for other in range(2) if seed != other]
        return {
            "one epoch at F=4, one seed": [(self.short[:, seed], nine[other]) for seed, other in one_of_three],
            "one epoch at F=4, mean of the two other seeds": [
                (np.delete(self.short, other, axis=1).mean(axis=1), nine[other]) for other in range(2)
            ],
            "three epochs, one seed": [(self.three[:, seed], nine[other]) for seed, other in others],
            "nine epochs after the first": [(self.curves[:, seed, 0], nine[other]) for seed, other in others],
            "nine epochs after the third": [(self.curves[:, seed, 2], nine[other]) for seed, other in others],
            "nine epochs at the end": [(nine[0], nine[1])],
        }


def correlation(pairs, mask, rng):
    """The mean rank correlation of pairs of arrays, and its interval."""

    def mean(chosen):
        return np.mean([spearmanr(one[chosen], other[chosen]).statistic for one, other in pairs])

    cells = np.flatnonzero(mask)
    resampled = [mean(rng.choice(cells, len(cells))) for _ in range(RESAMPLED)]
    return mean(cells), *np.nanpercentile(resampled, (2.5, 97.5))


def chosen(way, begun, cells, one, table):
    """The cell that a way of spending the epochs chooses among `begun` ones, by the seed `one`."""
    begun = cells[:begun]
    if way == "halving":
        for epoch in (0, 2):
            ranked = begun[np.argsort(-table.curves[begun, one, epoch], kind="stable")]
            begun = ranked[: len(begun) // 3]
    values = {"short": table.short[:, one], "three": table.three[:, one]}.get(way, table.nine[:, one])
    return begun[np.argmax(values[begun])]


def worths(table, cells, rng):
    """What each way's choice is worth in the mean, over drawn orders of the cells and both seeds."""
    found = dict.fromkeys(WAYS, 0.0)
    for draw in range(DRAWS):
        order, one = rng.permutation(cells), draw % 2
        for name, (begun, way) in WAYS.items():
            found[name] += table.nine[chosen(way, begun, order, one, table), 1 - one] / DRAWS
    return found


def table(path=TABLE):
    """The lines in RESULTS.md."""
    found = Longer(path)
    if len(found.parts) < FEWEST:
        raise ValueError(f"{len(found.parts)} cells were trained longer: at least {FEWEST} are needed")
    yield from _lines(found)


def _lines(table):
    rng, groups = np.random.default_rng(0), table.groups
    names = [name for name, mask in groups.items() if mask.sum() >= FEWEST]
    spread = {name: table.nine[groups[name]].mean(axis=1) for name in names}
    noise = np.sqrt(np.var(table.nine, axis=1, ddof=1).mean())
    told = [f"{name} {len(worth)}: {worth.mean():.3f} ± {worth.std():.3f}" for name, worth in spread.items()]
    yield f"Accuracy after nine epochs, mean and spread over cells: {'; '.join(told)}; ± {noise:.3f} between seeds."
    yield ""
    yield f"| rank correlation with nine epochs from another seed | {' | '.join(names)} |"
    yield "|---|" + "---|" * len(names)
    for what, pairs in table.compared().items():
        found = (correlation(pairs, groups[name], rng) for name in names)
        yield f"| {what} | {' | '.join(f'{value:.2f} ({low:.2f} to {high:.2f})' for value, low, high in found)} |"
    cells = np.arange(len(table.parts))
    if len(cells) // 2 < max(begun for begun, _ in WAYS.values()):
        return
    values, plain = worths(table, cells, rng), next(iter(WAYS))
    # Halves spread as cells drawn anew do, and hold none of them twice: of those, a way that begins many has fewer.
    halves = [worths(table, rng.permutation(cells)[: len(cells) // 2], rng) for _ in range(RESAMPLED // 5)]
    yield ""
    yield "| the same epochs for | what the chosen cell is worth | more than the first |"
    yield "|---|---|---|"
    for name, value in values.items():
        low, high = np.percentile([one[name] - one[plain] for one in halves], (2.5, 97.5))
        more = "" if name == plain else f"{value - values[plain]:+.4f} ({low:+.4f} to {high:+.4f})"
        yield f"| {name} | {value:.4f} | {more} |"


def main():
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=Path, default=TABLE)
    path = parser.parse_args().table
    try:
        print("\n".join(table(path)))
    except (OSError, ValueError, EOFError) as error:
        parser.error(f"--table {path}: {error}")


if __name__ == "__main__":
    main()
