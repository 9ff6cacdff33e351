"""Sample moments that can be merged, and the estimators of mean and variance made from them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from math import comb, prod

import numpy as np
import numpy.typing as npt

from nnlod_fenics.config.montecarlo import LEAST
from nnlod_fenics.statistics import half_width, satterthwaite

__all__ = ["LEAST", "Estimated", "Moments", "Statistics", "combined", "plain"]

Array = npt.NDArray[np.float64]


@cache
def _exponents(models: int) -> tuple[tuple[int, ...], ...]:
    """Exponents of the products of deviations that :class:`Moments` sums: orders 2 to 4."""
    return tuple(a for a in product(range(5), repeat=models) if 2 <= sum(a) <= 4)


@dataclass(frozen=True)
class Moments:
    """Sums over some samples of m models, for each of q quantities.

    Attributes:
        count: Number of samples.
        mean: Shape ``(m, q)``.
        central: Sums of products of deviations from the mean, Σ_k Π_i d_ki^(a_i), for all exponents a of order
            2 to 4 in lexicographic order (3 for one model, 12 for two), shape ``(·, q)``.
    """

    count: int
    mean: Array
    central: Array

    @classmethod
    def of(cls, values: Array) -> Moments:
        """Moments of samples, shape ``(n, m, q)``."""
        mean = values.mean(axis=0)
        deviation = values - mean
        sums = [(deviation ** np.array(a)[:, None]).prod(axis=1).sum(axis=0) for a in _exponents(len(mean))]
        return cls(len(values), mean, np.stack(sums))

    @classmethod
    def merged(cls, parts: Iterable[Moments]) -> Moments:
        """Moments of all parts together, in their order."""
        iterator = iter(parts)
        total = next(iterator)
        for part in iterator:
            total = total.merge(part)
        return total

    def merge(self, other: Moments) -> Moments:
        """Moments of both together, without cancellation (Chan, Golub & LeVeque 1983, Pébay 2008)."""
        count = self.count + other.count
        delta = other.mean - self.mean
        central = self._about(delta * (-other.count / count)) + other._about(delta * (self.count / count))
        return Moments(count, self.mean + delta * (other.count / count), central)

    def select(self, models: Sequence[int]) -> Moments:
        """Moments of some of the models alone, in a given order."""
        rows = _exponents(len(self.mean))
        wanted = [[0] * len(self.mean) for _ in _exponents(len(models))]
        for full, a in zip(wanted, _exponents(len(models)), strict=True):
            for model, order in zip(models, a, strict=True):
                full[model] = order
        return Moments(self.count, self.mean[list(models)], self.central[[rows.index(tuple(a)) for a in wanted]])

    def sum(self, *a: int) -> Array:
        """Σ_k Π_i d_ki^(a_i) for exponents of order 2 to 4, shape ``(q,)``."""
        return self.central[_exponents(len(a)).index(a)]

    @property
    def covariance(self) -> Array:
        """Unbiased sample covariances, shape ``(m, m, q)``; NaN for a single sample."""
        if self.count < 2:
            return np.full((len(self.mean), *self.mean.shape), np.nan)
        units = np.eye(len(self.mean), dtype=int)
        return np.stack([[self.sum(*(i + j).tolist()) for j in units] for i in units]) / (self.count - 1)

    def squared_error_of_variance(self, *weights: Array | float) -> Array:
        """Estimated variance of Σ_i w_i s²_i, with s²_i the sample variance of model i.

        The jackknife estimate of the variance. Without the k-th sample, Σ w_i s²_i is a constant minus
        n/((n−1)(n−2)) Σ w_i d_ki², so that with v_k = Σ w_i d_ki² it is

            n / ((n−1) (n−2)²) Σ_k (v_k − v̄)²,

        which takes fourth moments only. It is never negative, for large n the delta method's Var(v)/n, and for
        smaller n too large rather than too small (Efron & Stein 1981): for a Gaussian quantity its expectation is
        2σ⁴/(n−2), the true value 2σ⁴/(n−1).

        Args:
            weights: w_i of each model, numbers or of shape ``(q,)``.

        Returns:
            Shape ``(q,)``; NaN for fewer than :data:`LEAST` samples.
        """
        n, twice = self.count, 2 * np.eye(len(weights), dtype=int)
        if n < LEAST:
            return np.full(self.mean.shape[1], np.nan)
        total = np.zeros(self.mean.shape[1])
        for (a, w), (b, v) in product(zip(twice, weights, strict=True), repeat=2):
            total += w * v * (self.sum(*(a + b).tolist()) - self.sum(*a.tolist()) * self.sum(*b.tolist()) / n)
        return np.maximum(total, 0) * n / ((n - 1) * (n - 2) ** 2)

    def _about(self, offset: Array) -> Array:
        """The sums with deviations larger by an offset, shape ``(m, q)``: the binomial theorem."""
        rows = _exponents(len(self.mean))
        known = dict(zip(rows, self.central, strict=True))
        known[(0,) * len(self.mean)] = np.full(offset.shape[1], float(self.count))
        sums = np.zeros_like(self.central)
        for row, a in enumerate(rows):
            for b in product(*(range(order + 1) for order in a)):
                if b in known:  # sums of first powers are zero
                    steps = [d ** (i - j) for d, i, j in zip(offset, a, b, strict=True)]
                    sums[row] += prod(map(comb, a, b)) * np.prod(steps, axis=0) * known[b]
        return sums


@dataclass(frozen=True)
class Estimated:
    """Estimates of one number for each of q quantities, with their errors.

    Attributes:
        value: Shape ``(q,)``.
        squared_error: Estimated variances of ``value``.
        degrees: Degrees of freedom of ``squared_error``.
    """

    value: Array
    squared_error: Array
    degrees: Array

    @classmethod
    def of_parts(cls, value: Array, parts: list[tuple[Array, int]]) -> Estimated:
        """Sum the squared errors of independent parts; degrees of freedom as Welch and Satterthwaite have them.

        Args:
            value: The estimates.
            parts: Squared errors of each part, and from how many samples.

        Returns:
            The estimates with their errors.
        """
        return cls(value, *satterthwaite(parts, exact=parts[0][1] - 1))

    @property
    def standard_error(self) -> Array:
        """Standard errors, shape ``(q,)``."""
        return np.sqrt(self.squared_error)

    def half_width(self, level: float) -> Array:
        """Half-widths of the confidence intervals, from quantiles of Student's t, shape ``(q,)``."""
        return half_width(self.standard_error, self.degrees, level)


@dataclass(frozen=True)
class Statistics:
    """Estimates for each of q quantities.

    Attributes:
        mean: Of the expectations.
        variance: Of the variances.
    """

    mean: Estimated
    variance: Estimated


def plain(samples: Moments) -> Statistics:
    """Sample mean and variance of the first model.

    Args:
        samples: At least :data:`LEAST` samples.

    Returns:
        The estimates; the error of the variance as :meth:`Moments.squared_error_of_variance` has it.
    """
    own, n = samples.select([0]), samples.count
    variance = own.covariance[0, 0]
    return Statistics(
        Estimated.of_parts(own.mean[0], [(variance / n, n)]),
        Estimated.of_parts(variance, [(own.squared_error_of_variance(1.0), n)]),
    )


def combined(parts: Sequence[tuple[Moments, Array, Array]]) -> Statistics:
    """Mean and variance from independent groups of samples, by weights of the models in each.

    The estimates are Σ_g Σ_i w_gi mean_g(Q_i) and Σ_g Σ_i v_gi s²_g(Q_i). Where the weights of a model sum to nought
    over the groups, and those of the reference to one, both are unbiased for every model, if the weights do not depend
    on the samples (here they follow from a pilot run, whose samples are not used again, and the sample numbers). For
    two models these are the estimators of Peherstorfer, Willcox & Gunzburger (2016) and Qian et al. (2018). A variance
    estimate can be negative if a model is far off.

    The errors are sums over the independent groups, for the mean of w·C w/n, for the variance of
    :meth:`Moments.squared_error_of_variance`.

    Args:
        parts: For each group its moments, at least :data:`LEAST` samples, and the weights w and v, shape
            ``(models, q)``; the reference is the first model of the first group.

    Returns:
        The estimates.
    """
    mean = variance = np.zeros(parts[0][0].mean.shape[1])
    errors: list[tuple[Array, int]] = []
    errors_of_variance: list[tuple[Array, int]] = []
    for moments, w, v in parts:
        covariance, n = moments.covariance, moments.count
        mean = mean + (w * moments.mean).sum(axis=0)
        variance = variance + np.einsum("iq,iiq->q", v, covariance)
        errors.append((np.maximum(np.einsum("iq,ijq,jq->q", w, covariance, w), 0.0) / n, n))
        errors_of_variance.append((moments.squared_error_of_variance(*v), n))
    return Statistics(Estimated.of_parts(mean, errors), Estimated.of_parts(variance, errors_of_variance))
