"""Sample moments that can be merged, and the estimators of mean and variance made from them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.stats

__all__ = ["Moments", "Statistics", "control_variate", "plain"]

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Moments:
    """Sums over some samples of m models, for each of q quantities.

    Attributes:
        count: Number of samples.
        mean: Shape ``(m, q)``.
        second: Sums of products of deviations from the mean, shape ``(m, m, q)``.
    """

    count: int
    mean: Array
    second: Array

    @classmethod
    def of(cls, values: Array) -> Moments:
        """Moments of samples, shape ``(n, m, q)``."""
        mean = values.mean(axis=0)
        deviation = values - mean
        return cls(len(values), mean, np.einsum("niq,njq->ijq", deviation, deviation))

    @classmethod
    def merged(cls, parts: Iterable[Moments]) -> Moments:
        """Moments of all parts together, in their order (Chan, Golub & LeVeque 1983)."""
        iterator = iter(parts)
        total = next(iterator)
        for part in iterator:
            total = total.merge(part)
        return total

    def merge(self, other: Moments) -> Moments:
        """Moments of both together."""
        count = self.count + other.count
        delta = other.mean - self.mean
        mean = self.mean + delta * (other.count / count)
        outer = delta[:, None] * delta[None] * (self.count * other.count / count)
        return Moments(count, mean, self.second + other.second + outer)

    @property
    def covariance(self) -> Array:
        """Unbiased sample covariances, shape ``(m, m, q)``; NaN for a single sample."""
        return self.second / (self.count - 1) if self.count > 1 else np.full_like(self.second, np.nan)


@dataclass(frozen=True)
class Statistics:
    """Estimates for each of q quantities.

    Attributes:
        mean: Estimated expectations, shape ``(q,)``.
        variance: Estimated variances of the quantities.
        squared_error: Estimated variances of ``mean``.
        degrees: Degrees of freedom of ``squared_error``.
    """

    mean: Array
    variance: Array
    squared_error: Array
    degrees: Array

    @property
    def standard_error(self) -> Array:
        """Standard errors of the mean, shape ``(q,)``."""
        return np.sqrt(self.squared_error)

    def half_width(self, level: float) -> Array:
        """Half-widths of the confidence intervals of the mean, from quantiles of Student's t, shape ``(q,)``."""
        return np.asarray(scipy.stats.t.ppf(0.5 + level / 2, self.degrees)) * self.standard_error


def plain(samples: Moments) -> Statistics:
    """Sample mean and variance of the first model."""
    variance = samples.covariance[0, 0]
    degrees = np.full_like(variance, samples.count - 1)
    return Statistics(samples.mean[0], variance, variance / samples.count, degrees)


def control_variate(pairs: Moments, low: Moments, beta: Array, gamma: Array) -> Statistics:
    """Two-model control variate estimator; unbiased for every low-fidelity model.

    With n pairs (Q_k, G_k) and m further, independent samples of the low-fidelity G,

        mean      mean_n(Q) − β (mean_n(G) − mean_m(G)),
        variance  s²_n(Q) − γ (s²_n(G) − s²_m(G)).

    Each bracket has expectation zero whatever G is, so that for β and γ that do not depend on these samples
    (here: taken from a pilot run whose samples are not used again) both are exactly unbiased. With N = n + m
    and β = α m/N the first is the multifidelity estimator mean_n(Q) + α (mean_N(G) − mean_n(G)) of
    Peherstorfer, Willcox & Gunzburger (2016), the second that of Qian et al. (2018) for variances. A variance
    estimate can be negative if G is far off.

    The error of the mean is the sum of two independent parts, s²_n(Q − βG)/n + β² s²_m(G)/m; the degrees of
    freedom are Welch's and Satterthwaite's.

    Args:
        pairs: Moments of (Q, G), n of at least 2.
        low: Moments of G, m of at least 2.
        beta: Coefficients of the mean, shape ``(q,)``.
        gamma: Coefficients of the variance, shape ``(q,)``.

    Returns:
        The estimates.
    """
    c = pairs.covariance
    first = np.maximum(c[0, 0] - 2 * beta * c[0, 1] + beta**2 * c[1, 1], 0.0) / pairs.count
    second = beta**2 * low.covariance[0, 0] / low.count
    spread = first**2 / (pairs.count - 1) + second**2 / (low.count - 1)
    total = first + second
    degrees = np.divide(total**2, spread, out=np.full_like(total, pairs.count - 1), where=spread > 0)
    mean = pairs.mean[0] - beta * (pairs.mean[1] - low.mean[0])
    variance = c[0, 0] - gamma * (c[1, 1] - low.covariance[0, 0])
    return Statistics(mean, variance, total, degrees)
