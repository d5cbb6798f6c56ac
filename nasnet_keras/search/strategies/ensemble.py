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

NOISES = 0.1, 0.4, 1.0  # a regressor for each: the variance of its noise, as a share of what is learnt
LEAST = 0.05  # weight of a regressor that is asked at all
SMALLEST = 1e-9  # variance


@dataclass(frozen=True)
class Known:
    """Cells' features [N, size] and the products of each two of them [N, N], which are added to and never made anew."""

    features: CellFeatures
    counts: np.ndarray
    products: np.ndarray

    @classmethod
    def nothing(cls, features):
        """No cells."""
        return cls(features, np.zeros((0, features.size)), np.zeros((0, 0)))

    def with_more(self, cells):
        """These and more, a list of decisions."""
        if not cells:
            return self
        new = self.features(cells)
        counts = np.concatenate([self.counts, new.toarray()])
        old, own = np.split(new @ counts.T, [len(self.counts)], axis=1)
        return Known(self.features, counts, np.block([[self.products, old.T], [old, own]]))


class Ensemble:
    """The regressors, one for each noise, weighted by how well they explain the rewards.

    Their kernel is half linear: each feature adds its part to the reward, which reaches far. The other half says that
    cells which are alike have like rewards, also where parts do not add up.

    Args:
        known: the `Known` cells, those with a reward first, the others are pending.
        rewards: of the first of them.

    Attributes:
        means: the predicted rewards of these, on the scale of the targets.
    """

    def __init__(self, known, rewards):
        finished, pairs = len(rewards), len(rewards) * (len(rewards) - 1)
        self._columns, self._norms = np.ascontiguousarray(known.counts.T), known.products.diagonal()
        distances = self._norms[:, None] + self._norms - 2 * known.products
        self._scale = float(distances[:finished, :finished].sum() / pairs) or 1.0  # mean of two cells
        scaled, kernel = targets(rewards), self._kernel(known.products, self._norms)
        regressors = [Regressor(kernel, noise, scaled) for noise in NOISES]
        evidence = np.array([regressor.evidence for regressor in regressors])
        weights = np.exp(evidence - evidence.max())
        weights[weights < LEAST * weights.sum()] = 0
        weights /= weights.sum()
        self._asked = [(weight, one) for weight, one in zip(weights, regressors, strict=True) if weight]
        means = sum(weight * regressor.mean(kernel) for weight, regressor in self._asked)
        self.means, self._best = means[:finished], means.max()

    def expected_gains(self, features):
        """The expected improvement on the best known cell, of cells with these features [M, size]."""
        norms = (features * features).sum(axis=1)
        kernel, own = self._kernel(features @ self._columns, norms), norms / self._scale + 0.5
        mean = square = 0.0
        for weight, regressor in self._asked:
            one, variance = regressor.mean(kernel), regressor.variance(kernel, own)
            mean, square = mean + weight * one, square + weight * (variance + one**2)
        spread = np.sqrt(np.maximum(square - mean**2, SMALLEST))
        steps = (mean - self._best) / spread
        return spread * (steps * ndtr(steps) + np.exp(-(steps**2) / 2) / np.sqrt(2 * np.pi))

    def _kernel(self, products, norms):
        """Of cells with these products with the known ones, and these products with themselves."""
        distances = norms[:, None] + self._norms - 2 * products
        return products / self._scale + 0.5 * np.exp(-distances / self._scale)


class Regressor:
    """A Gaussian process whose mean is a constant without a prior.

    Args:
        kernel: [N, N], of the known cells.
        noise: its variance.
        targets: of the first of them; the others are pending.

    Attributes:
        evidence: logarithm of the likelihood of the targets.
    """

    def __init__(self, kernel, noise, targets):
        count = len(targets)
        self._factor = cholesky(kernel + noise * np.eye(len(kernel)), lower=True, check_finite=False, overwrite_a=True)
        own = self._factor[:count, :count]
        both = np.stack([targets, np.ones(count)], axis=1)
        slopes, ones = cho_solve((own, True), both, check_finite=False).T
        self._constant = slopes.sum() / ones.sum()
        self._slopes = slopes - self._constant * ones
        self._unit = max(float((targets - self._constant) @ self._slopes) / count, SMALLEST)
        self.evidence = -count / 2 * np.log(self._unit) - np.log(own.diagonal()).sum()

    def mean(self, kernel):
        """Of cells with this kernel [M, N] with the known ones."""
        return self._constant + kernel[:, : len(self._slopes)] @ self._slopes

    def variance(self, kernel, own):
        """Likewise, given the kernel of each with itself. The pending cells count: their rewards are expected."""
        explained = solve_triangular(self._factor, kernel.T, lower=True, check_finite=False)
        return self._unit * np.maximum(own - (explained**2).sum(axis=0), SMALLEST)


def targets(rewards):
    """Rewards on a common scale. Far outliers below, such as what stands for a failure, say no more than the fence."""
    rewards = rewards / (np.abs(rewards).max() or 1.0)  # also where squares would be too large
    low, high = np.quantile(rewards, [0.25, 0.75])
    rewards = np.maximum(rewards, low - 3 * (high - low))
    return (rewards - rewards.mean()) / (rewards.std() or 1.0)
