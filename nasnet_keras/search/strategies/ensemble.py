"""What a predictor predicts with: Gaussian processes on the features of cells.

They say how sure they are, which decides what is worth a trial, and how well they explain the rewards, which decides
what each of them weighs (Rasmussen & Williams 2006, algorithm 2.1). scikit-learn's, one by one, would give the same
numbers, and compare all cells anew for each of them and for each proposal.
"""

from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_solve, cholesky, solve_triangular
from scipy.special import ndtr

from nasnet_keras.search.strategies.features import CellFeatures

NOISES = 0.1, 0.4, 1.0  # variances, as shares of what is learnt
# What a decision that two cells have in common counts beside their features. With 0 only the network counts, however it
# is written. Where the writing tells more, the rewards show it: those regressors then explain them better.
WRITINGS = 0.0, 3.0
LEAST = 0.05  # weight of a regressor that is asked at all
SMALLEST = 1e-9  # variance


@dataclass(frozen=True)
class Known:
    """Cells, which are added to and never looked at anew.

    Args:
        features: a `CellFeatures`.
        cells: decisions [N, T].
        counts: their features [N, size].
        products: of the features of each two of them [N, N].
        alike: how many decisions each two of them have in common [N, N].
    """

    features: CellFeatures
    cells: np.ndarray
    counts: np.ndarray
    products: np.ndarray
    alike: np.ndarray

    @classmethod
    def nothing(cls, features):
        """No cells."""
        none = np.zeros((0, 0))
        return cls(features, np.zeros((0, features.decisions), dtype=int), np.zeros((0, features.size)), none, none)

    def with_more(self, cells):
        """These and more, a list of decisions."""
        if not cells:
            return self
        new = self.features(cells)
        every, counts = np.concatenate([self.cells, cells]), np.concatenate([self.counts, new.toarray()])
        parts = ((self.products, new @ counts.T), (self.alike, alike(np.array(cells), every)))
        grown = []
        for known, rows in parts:
            old, own = np.split(rows, [len(self.counts)], axis=1)
            grown.append(np.block([[known, old.T], [old, own]]))
        return Known(self.features, every, counts, *grown)


def alike(cells, others):
    """How many decisions each of some cells [M, T] and each of others [N, T] have in common [M, N]."""
    return sum((cells[:, place, None] == others[:, place]).astype(float) for place in range(cells.shape[1]))


class Ensemble:
    """The regressors, one for each writing and noise, weighted by how well they explain the rewards.

    Their kernel is half linear: each feature adds its part to the reward, which reaches far. The other half says that
    cells which are alike have like rewards, also where parts do not add up.

    Args:
        known: the `Known` cells, those with a reward first, the others are pending.
        rewards: of the first of them.
        foreign: which of these are another search's, whose children may have been trained otherwise; None: none is.

    Attributes:
        means: what these would be rewarded with in this search as predicted, on the scale of the targets.
    """

    def __init__(self, known, rewards, foreign=None):
        foreign = np.zeros(len(rewards), dtype=bool) if foreign is None else foreign
        finished, scaled = len(rewards), targets(rewards, foreign)
        self._known, self._columns = known, np.ascontiguousarray(known.counts.T)
        kernels = [Kernel(writing, known, finished) for writing in WRITINGS]
        regressors = [
            (kernel, Regressor(kernel.known, noise, scaled, foreign)) for kernel in kernels for noise in NOISES
        ]
        evidence = np.array([regressor.evidence for _, regressor in regressors])
        weights = np.exp(evidence - evidence.max())
        weights[weights < LEAST * weights.sum()] = 0
        weights /= weights.sum()
        self._asked = [(weight, *one) for weight, one in zip(weights, regressors, strict=True) if weight]
        means = sum(weight * regressor.mean(kernel.known) for weight, kernel, regressor in self._asked)
        own = ~np.append(foreign, np.zeros(len(means) - finished, dtype=bool))
        self.means, self._best = means[:finished], (means[own] if own.any() else means).max()

    def expected_gains(self, cells):
        """The expected improvement on the best cell that this search knows, of cells [M, T]."""
        features = self._known.features(cells)
        products, norms, mean, square = features @ self._columns, (features * features).sum(axis=1), 0.0, 0.0
        common = alike(cells, self._known.cells) if any(kernel.writing for _, kernel, _ in self._asked) else None
        values = {}
        for weight, kernel, regressor in self._asked:
            if kernel.writing not in values:
                values[kernel.writing] = kernel(products, common, norms)
            between, own = values[kernel.writing]
            one, variance = regressor.mean(between), regressor.variance(between, own)
            mean, square = mean + weight * one, square + weight * (variance + one**2)
        spread = np.sqrt(np.maximum(square - mean**2, SMALLEST))
        steps = (mean - self._best) / spread
        return spread * (steps * ndtr(steps) + np.exp(-(steps**2) / 2) / np.sqrt(2 * np.pi))


class Kernel:
    """The kernel of the known cells and of others with them.

    Args:
        writing: one of `WRITINGS`.
        known: the `Known` cells.
        finished: how many of them have a reward; their mean distance is the unit.

    Attributes:
        known: [N, N].
    """

    def __init__(self, writing, known, finished):
        self.writing, self._length = writing, writing * known.features.decisions
        products = known.products + writing * known.alike
        self._norms = products.diagonal()
        distances = self._norms[:, None] + self._norms - 2 * products
        pairs = finished * (finished - 1)
        self._scale = float(distances[:finished, :finished].sum() / pairs) or 1.0
        self.known = self._of(products, distances)

    def __call__(self, products, common, norms):
        """Of other cells with the known ones [M, N], and of each with itself [M].

        Args:
            products: of their features with those of the known ones [M, N].
            common: how many decisions they have in common [M, N]; not needed where the writing counts nothing.
            norms: of their features with themselves [M].
        """
        if self.writing:
            products, norms = products + self.writing * common, norms + self._length
        distances = norms[:, None] + self._norms - 2 * products
        return self._of(products, distances), norms / self._scale + 0.5

    def _of(self, products, distances):
        return products / self._scale + 0.5 * np.exp(-distances / self._scale)


class Regressor:
    """A Gaussian process whose mean is a constant without a prior, and another one for the rewards of another search.

    Args:
        kernel: [N, N], of the known cells.
        noise: its variance.
        targets: of the first of them; the others are pending.
        foreign: which of these are another search's. The predictions are for this one.

    Attributes:
        evidence: logarithm of the likelihood of the targets.
    """

    def __init__(self, kernel, noise, targets, foreign):
        count, groups = len(targets), np.stack([~foreign, foreign], axis=1).astype(float)
        groups = groups[:, groups.any(axis=0)]
        self._factor = cholesky(kernel + noise * np.eye(len(kernel)), lower=True, check_finite=False, overwrite_a=True)
        own = self._factor[:count, :count]
        solved = cho_solve((own, True), np.column_stack([targets, groups]), check_finite=False)
        constants = np.linalg.solve(groups.T @ solved[:, 1:], groups.T @ solved[:, 0])
        self._constant, self._slopes = constants[0], solved[:, 0] - solved[:, 1:] @ constants
        self._unit = max(float((targets - groups @ constants) @ self._slopes) / count, SMALLEST)
        self.evidence = -count / 2 * np.log(self._unit) - np.log(own.diagonal()).sum()

    def mean(self, kernel):
        """Of cells with this kernel [M, N] with the known ones."""
        return self._constant + kernel[:, : len(self._slopes)] @ self._slopes

    def variance(self, kernel, own):
        """Likewise, given the kernel of each with itself. The pending cells count: their rewards are expected."""
        explained = solve_triangular(self._factor, kernel.T, lower=True, check_finite=False)
        return self._unit * np.maximum(own - (explained**2).sum(axis=0), SMALLEST)


def targets(rewards, foreign):
    """Rewards on a common scale, around the mean of their search.

    Far outliers below, such as what stands for a failure, say no more than the fence.
    """
    rewards = rewards / (np.abs(rewards).max() or 1.0)  # also where squares would be too large
    for group in (foreign, ~foreign):
        if group.any():
            low, high = np.quantile(rewards[group], [0.25, 0.75])
            rewards[group] = np.maximum(rewards[group], low - 3 * (high - low))
            rewards[group] -= rewards[group].mean()
    return rewards / (rewards.std() or 1.0)
