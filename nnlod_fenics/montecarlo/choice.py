"""The choice of models: which of them, together on which fields, and how many, for the least variance at equal cost."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq

__all__ = ["LEAST_PAIRS", "Choice", "choose"]

Array = npt.NDArray[np.float64]
Groups = tuple[tuple[int, ...], ...]

LEAST_PAIRS = 16  # samples of the reference, below which its variance is not known well enough
"""Samples of the reference that an estimate by ``"multifidelity"`` has at least."""
_LARGEST_RATIO = 1e4
_WORTH = 1.05  # by how much each further model must lower the predicted variance: less may be chance in the pilot run
_SPARED = 1.01  # by how much the variance may be larger for fewer groups
_RIDGE = 1e-10
_REFINED = 6  # structures that are compared for each quantity, the best ones for the sum of all covariances


@dataclass(frozen=True)
class Choice:
    """Groups of models, and how many samples of each.

    Attributes:
        groups: Models of each group, by number; the reference, 0, is in the first group only.
        ratios: Samples of each group for each sample of the reference.
        cost: What is spent: the budget, what the tolerated variance costs, or 1 where neither is given.
        variance: Predicted variance of the mean, summed over all quantities, at this cost.
        gain: Predicted variance of plain Monte Carlo over that of the choice, at equal cost.
    """

    groups: Groups
    ratios: tuple[float, ...]
    cost: float
    variance: float
    gain: float


def choose(
    covariance: Array,
    count: int,
    costs: Sequence[float],
    drawing: float = 0.0,
    budget: float = math.inf,
    tolerated: float = 0.0,
) -> Choice:
    """The groups of models and the sample numbers of least predicted variance.

    A group is a set of models that are applied to the same fields. For given groups the variance with optimal weights
    (:func:`nnlod_fenics.montecarlo.weights.weights`) is a convex function of the sample numbers; its minimum at given
    cost is taken over all groups of models, the reference being in one of them. Multifidelity Monte Carlo with nested
    samples (groups {0, 1, 2}, {1, 2}, {2}) and multilevel Monte Carlo ({0, 1}, {1, 2}, {2}) are special cases, none of
    which has less variance; for a single model beside the reference the minimum is that of Peherstorfer, Willcox &
    Gunzburger (2016, theorem 3.4).

    The covariances are those of a pilot run, so that a combination of models looks better than it is: the variance of
    each group is multiplied by (n − 1)/(n − k) for k models and n pilot samples, as of a regression, and each model
    must lower the variance by a factor of 1.05. Groups that lower it by less than one per cent are left out.

    No choice has fewer than :data:`LEAST_PAIRS` samples of the reference. Where these reach the tolerated variance with
    fewer samples of the other models, those are as many as needed.

    Args:
        covariance: Covariances of m models for the q quantities that are aimed at, shape ``(m, m, q)``.
        count: Samples of the pilot run that they are from.
        costs: Cost of a sample of each model, the reference first.
        drawing: Cost of drawing a field, once for all models of a group.
        budget: What may be spent, in the same units.
        tolerated: Variance of the mean, summed over all quantities, which is small enough.

    Returns:
        The choice.

    Example:
        >>> rho, ratio = 0.9, 50.0
        >>> chosen = choose(np.array([[1, rho], [rho, 1]])[:, :, None], 10**6, [ratio, 1.0])
        >>> chosen.groups, round(chosen.ratios[1] + 1, 1), round(math.sqrt(rho**2 * ratio / (1 - rho**2)), 1)
        (((0, 1), (1,)), 14.6, 14.6)
    """
    aim = _Aim(budget, tolerated)
    scores: list[tuple[float, set[int], Groups]] = []
    pooled = covariance.sum(axis=2, keepdims=True)
    structures = list(_structures(len(costs), count))
    for groups in structures:
        used = set().union(*groups)
        found = aim.solve(_Variance(pooled, count, groups, costs, drawing), 1e-2)
        scores.append((aim.score(found) * _WORTH ** len(used), used, groups))
    best = sorted(scores, key=lambda entry: entry[0])[:_REFINED]
    refined = []
    for _, used, groups in best:
        variance = _Variance(covariance, count, groups, costs, drawing)
        refined.append((aim.score(aim.solve(variance)) * _WORTH ** len(used), variance))
    plain = _Variance(covariance, count, ((0,),), costs, drawing)
    score, variance = min(refined, key=lambda entry: entry[0])
    if len(variance.groups) == 1 or score >= aim.score(aim.solve(plain)) * _WORTH:
        return _choice(aim, plain, plain)
    return _choice(aim, _spare(aim, variance), plain)


def _structures(models: int, count: int) -> Iterator[Groups]:
    """The plain reference; then for each set of models all groups of them, and each way to place the reference."""
    yield ((0,),)
    for size in range(1, models):
        for low in combinations(range(1, models), size):
            subsets = [group for k in range(1, size + 1) for group in combinations(low, k)]
            allowed = [group for group in subsets if len(group) < count - 2]
            for group in subsets:
                if len(group) + 1 < count - 2:
                    yield ((0, *group), *allowed)


class _Variance:
    """Least predicted variance for given groups, as a function of the sample numbers."""

    def __init__(self, covariance: Array, count: int, groups: Groups, costs: Sequence[float], drawing: float) -> None:
        self.groups, self._given = groups, (covariance, count, costs, drawing)
        self._kept: dict[float, tuple[Array, float]] = {}
        self.costs = np.array([drawing + sum(costs[i] for i in group) for group in groups])
        variances = np.einsum("iiq->iq", covariance)
        aimed = variances[0] > 0
        self.weight = variances[0, aimed]
        used = sorted(set().union(*groups))
        scale = np.sqrt(np.where(variances > 0, variances, 1.0))
        correlation = np.moveaxis((covariance / (scale[:, None] * scale[None]))[:, :, aimed], 2, 0)
        self._precisions = np.zeros((len(groups), len(self.weight), len(used), len(used)))
        for precision, group in zip(self._precisions, groups, strict=True):
            own = correlation[:, list(group)][:, :, list(group)]
            own = own + np.eye(len(group)) * np.where(np.einsum("qii->qi", own) > 0, _RIDGE, 1.0)[:, None, :]
            at = np.searchsorted(used, group)
            precision[:, at[:, None], at] = np.linalg.inv(own) * ((count - len(group)) / (count - 1))

    def without(self, dropped: int) -> _Variance | None:
        """The same without a group; a model that is left in one group only, where it has no weight, goes, too."""
        groups = [group for g, group in enumerate(self.groups) if g != dropped]
        members = [i for group in groups for i in group]
        groups = [tuple(i for i in group if i == 0 or members.count(i) > 1) for group in groups]
        kept = tuple(dict.fromkeys(group for group in groups if group))
        return _Variance(self._given[0], self._given[1], kept, *self._given[2:]) if len(kept) > 1 else None

    def at(self, numbers: Array) -> tuple[float, Array]:
        """The variance, and the negative of its derivatives, for sample numbers of each group."""
        information = np.tensordot(numbers, self._precisions, axes=1)
        column = np.zeros((*information.shape[:2], 1))
        column[:, 0] = 1.0
        u = np.linalg.solve(information, column)[:, :, 0]
        slopes = ((self._precisions @ u[:, :, None])[:, :, :, 0] * u).sum(axis=2) @ self.weight
        return float(self.weight @ u[:, 0]), slopes

    def freely(self, gap: float) -> tuple[Array, float]:
        """:meth:`least` at cost one with all sample numbers free, kept."""
        if gap not in self._kept:
            self._kept[gap] = self.least(1.0, None, gap)
        return self._kept[gap]

    def least(self, cost: float, pairs: float | None, gap: float) -> tuple[Array, float]:
        """Sample numbers of least variance at a cost, all free, or with the first group's given.

        Multiplicative updates of the shares of the cost (Silvey, Titterington & Torsney 1978), which lower the convex
        variance until no group promises more for its cost than the mean of all does: within the gap of the minimum.
        """
        fixed = 0 if pairs is None else 1
        rest = cost - (0.0 if pairs is None else pairs * self.costs[0])
        share = np.full(len(self.groups) - fixed, 1.0 / max(len(self.groups) - fixed, 1))
        for _ in range(300):
            numbers = np.concatenate([[pairs] * fixed, share * rest / self.costs[fixed:]]).astype(np.float64)
            variance, slopes = self.at(numbers)
            worth = slopes[fixed:] / self.costs[fixed:]
            if not len(share) or worth.max() <= (1 + gap) * (share @ worth) or len(share) == 1:
                break
            share = share * np.sqrt(worth / worth.max())
            share /= share.sum()
        return numbers, variance


@dataclass(frozen=True)
class _Aim:
    """What sample numbers are for: least variance at a budget, or least cost for a tolerated variance."""

    budget: float
    tolerated: float

    def solve(self, variance: _Variance, gap: float = 1e-3) -> tuple[Array, float, float]:
        """Sample numbers, cost and variance; infinite where the fewest samples of the reference are too many."""
        numbers, unit = variance.freely(gap)
        if self.tolerated > 0:
            found = self._at_tolerance(variance, numbers, unit, gap)
            if found[1] <= self.budget:
                return found
        if math.isinf(self.budget):
            return numbers, 1.0, unit
        return self._at_cost(variance, numbers, unit, self.budget, gap)

    def score(self, found: tuple[Array, float, float]) -> float:
        """What is to be small: the cost of what is tolerated, or variance times cost."""
        _, cost, variance = found
        return cost * max(variance, self.tolerated) if math.isfinite(cost + variance) else math.inf

    @staticmethod
    def _at_cost(
        variance: _Variance, numbers: Array, unit: float, cost: float, gap: float
    ) -> tuple[Array, float, float]:
        if len(numbers) == 1 or numbers[0] * cost >= LEAST_PAIRS:
            return numbers * cost, cost, unit / cost if cost > 0 else math.inf
        if cost <= LEAST_PAIRS * variance.costs[0]:
            return numbers, math.inf, math.inf
        numbers, least = variance.least(cost, LEAST_PAIRS, gap)
        return numbers, cost, least

    def _at_tolerance(self, variance: _Variance, numbers: Array, unit: float, gap: float) -> tuple[Array, float, float]:
        cost, fewest = unit / self.tolerated, LEAST_PAIRS * float(variance.costs[0])
        if numbers[0] * cost >= LEAST_PAIRS:
            return numbers * cost, cost, self.tolerated
        if len(numbers) == 1:
            return numbers * (LEAST_PAIRS / numbers[0]), fewest, self.tolerated

        def excess(further: float) -> float:
            return variance.least(fewest + math.exp(further), LEAST_PAIRS, gap)[1] - self.tolerated

        # as many samples of the other models as without the bound are enough
        most = math.log(cost * float(numbers[1:] @ variance.costs[1:]))
        least = most - 20.0
        further = most if excess(most) >= 0 else least if excess(least) <= 0 else brentq(excess, least, most, xtol=1e-4)
        total = fewest + math.exp(further)
        return variance.least(total, LEAST_PAIRS, gap)[0], total, self.tolerated


def _spare(aim: _Aim, variance: _Variance) -> _Variance:
    """Leave out groups that are hardly worth anything, the least ones first."""
    most = aim.score(aim.solve(variance)) * _SPARED
    while len(variance.groups) > 2:
        numbers = aim.solve(variance)[0]
        for group in map(int, np.argsort(numbers * variance.costs)):
            fewer = variance.without(group) if group else None
            if fewer is not None and aim.score(aim.solve(fewer)) <= most:
                variance = fewer
                break
        else:
            break
    return variance


def _choice(aim: _Aim, variance: _Variance, plain: _Variance) -> Choice:
    numbers, cost, least = aim.solve(variance, 1e-6)
    ratios = np.minimum(numbers / numbers[0], _LARGEST_RATIO)
    gain = aim.score(aim.solve(plain)) / aim.score((numbers, cost, least)) if len(ratios) > 1 else 1.0
    return Choice(variance.groups, tuple(ratios.tolist()), cost, least, gain)
