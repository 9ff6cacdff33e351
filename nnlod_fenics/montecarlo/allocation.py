"""How many samples of which model: the optimal allocation of two models from a pilot run."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nnlod_fenics.config.montecarlo import LEAST
from nnlod_fenics.montecarlo.estimators import Moments

__all__ = ["LEAST_PAIRS", "Plan", "make_plan"]

Array = npt.NDArray[np.float64]

LEAST_PAIRS = 16  # samples of the high-fidelity model, below which its variance is not known well enough
"""Samples of the high-fidelity model that an estimate by ``"multifidelity"`` has at least."""
_LARGEST_RATIO = 1e4


@dataclass(frozen=True)
class Plan:
    """Allocation of samples and coefficients of the estimator.

    Attributes:
        ratio: N/n, samples of the low-fidelity model for each of the high-fidelity one; 1 where the
            low-fidelity model does not pay, and the estimator is the plain one.
        beta: Coefficients of the mean, shape ``(q,)``.
        gamma: Coefficients of the variance, shape ``(q,)``.
        cost_high: Cost of a sample of the high-fidelity model, in seconds or units of the other.
        cost_low: Cost of a sample of the low-fidelity model, drawing the field included.
        explained: Σ ρ² σ² / Σ σ² over the quantities that are aimed at.
        gain: Predicted variance of plain Monte Carlo over that of this plan, at equal cost.
        budget: What may be spent, in samples of the high-fidelity model.
    """

    ratio: float
    beta: Array
    gamma: Array
    cost_high: float
    cost_low: float
    explained: float
    gain: float
    budget: float = math.inf

    @property
    def multifidelity(self) -> bool:
        """Whether the low-fidelity model is used at all."""
        return self.ratio > 1

    def low_samples(self, pairs: int) -> int:
        """Samples m = N − n of the low-fidelity model alone that belong to n pairs."""
        return max(round((self.ratio - 1) * pairs), LEAST) if self.multifidelity else 0

    def cost(self, pairs: int) -> float:
        """Cost of n pairs and the low-fidelity samples that belong to them, in high-fidelity samples.

        Plain samples cost 1; drawing a field counts as part of the low-fidelity sample.
        """
        share = self.cost_low / self.cost_high
        return pairs * (1 + share) + self.low_samples(pairs) * share if self.multifidelity else float(pairs)

    def pairs_for(self, budget: float) -> int:
        """The largest n whose cost is within a finite budget, in high-fidelity samples; 0 if there is none."""
        fits, exceeds = 0, max(math.floor(budget), 0) + 1  # a pair costs at least 1, and each further one more
        while exceeds - fits > 1:
            middle = (fits + exceeds) // 2
            fits, exceeds = (middle, exceeds) if self.cost(middle) <= budget else (fits, middle)
        return fits


def make_plan(
    pilot: Moments,
    aim: slice,
    cost_high: float,
    cost_low: float,
    budget: float = math.inf,
    tolerated: float = 0.0,
) -> Plan:
    """Optimal allocation for the means of some quantities, from a pilot run.

    For n pairs and N low-fidelity samples in all, the variance of the multifidelity mean, summed over the
    quantities i that are aimed at, is Σ σ_i² (1 − ρ_i²)/n + Σ σ_i² ρ_i²/N with α_i = ρ_i σ_Q,i/σ_G,i. At given
    cost n c_Q + N c_G it is least for

        N/n = √( Σ σ_i² ρ_i² c_Q / (Σ σ_i² (1 − ρ_i²) c_G) ),

    for a single one the result of Peherstorfer, Willcox & Gunzburger (2016, theorem 3.4). All other
    quantities have their own α as well. For the variance γ = α² (1 − n/N), optimal if (Q, G) is Gaussian.

    No run has fewer than :data:`LEAST_PAIRS` pairs. Where these reach the tolerated variance v with fewer low-fidelity
    samples than that, the cheapest numbers are n = LEAST_PAIRS and the N for which the variance is v; for a v that
    as many plain samples have, or if plain samples are cheaper, the estimator is the plain one.

    Args:
        pilot: Moments of pairs (Q, G), at least 4.
        aim: The quantities whose variances are to be small: nodal values of the mean field, or a functional.
        cost_high: Cost c_Q of a sample of Q.
        cost_low: Cost c_G of a sample of G.
        budget: What may be spent, in samples of Q; N/n is made smaller where there would be fewer than
            :data:`LEAST_PAIRS` pairs.
        tolerated: Variance v of the mean, summed over the quantities that are aimed at, which is small enough.

    Returns:
        The plan.
    """
    c = pilot.covariance
    alpha = np.divide(c[0, 1], c[1, 1], out=np.zeros_like(c[0, 1]), where=c[1, 1] > 0)
    freedom = (pilot.count - 1) / (pilot.count - 2)  # a regression has used up one more
    residual = np.minimum(np.maximum(c[0, 0] - alpha * c[0, 1], 0) * freedom, c[0, 0])
    total, rest = float(c[0, 0][aim].sum()), float(residual[aim].sum())
    explained = total - rest
    ratio, gain = 1.0, 1.0
    if explained > 0:
        ratio = min(math.sqrt(explained * cost_high / max(rest * cost_low, 1e-300)), _LARGEST_RATIO)
        ratio = min(ratio, (budget / LEAST_PAIRS - 1) * cost_high / cost_low)
        ratio = min(ratio, explained / max(tolerated * LEAST_PAIRS - rest, 1e-300))
    if ratio > 1:
        gain = total * cost_high / ((rest + explained / ratio) * (cost_high + ratio * cost_low))
    if gain <= 1:  # the low-fidelity model does not pay
        ratio, gain = 1.0, 1.0
    share = 1 - 1 / ratio
    beta, gamma = alpha * share, alpha**2 * share
    return Plan(ratio, beta, gamma, cost_high, cost_low, explained / total if total else 0.0, gain, budget)
