"""Means over fields with confidence intervals, and differences between methods on the same fields."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.stats

from nnlod_fenics.grid import Grid
from nnlod_fenics.lod.interpolation import quasi_interpolation
from nnlod_fenics.norms import l2_norm, prolong, relative_l2
from nnlod_fenics.statistics import half_width, satterthwaite

__all__ = [
    "average",
    "combination",
    "differences",
    "distance_of_means",
    "fields_needed",
    "integrals",
    "mean_field",
    "share",
]

Array = npt.NDArray[np.float64]

_MOST = 0.9  # share of the inner nodes


def _interval(mean: float, error: float, degrees: float, level: float = 0.95) -> dict[str, float]:
    width = float(half_width(error, degrees, level)) if error > 0 else 0.0
    return {"mean": mean, "standard error": error, "low": mean - width, "high": mean + width}


def average(values: npt.ArrayLike) -> dict[str, float]:
    """Mean of independent values.

    Args:
        values: At least two numbers.

    Returns:
        ``mean``, ``standard error`` and the ends ``low`` and ``high`` of the 95 % confidence interval by Student's t.
    """
    x = np.asarray(values, dtype=np.float64)
    return _interval(float(x.mean()), float(x.std(ddof=1) / math.sqrt(len(x))), len(x) - 1)


def combination(parts: Sequence[tuple[float, npt.ArrayLike]], level: float = 0.95) -> dict[str, float]:
    """A linear combination of means of independent samples.

    Args:
        parts: Factors and samples of at least one number each, together of more numbers than samples. A sample of a
            single number counts as exact.
        level: Probability of the confidence interval.

    Returns:
        As :func:`average`, with the degrees of freedom of Welch and Satterthwaite.
    """
    samples = [(factor, np.asarray(values, dtype=np.float64)) for factor, values in parts]
    mean = sum(factor * float(x.mean()) for factor, x in samples)
    errors = [(factor**2 * float(x.var(ddof=1)) / len(x), len(x)) for factor, x in samples if len(x) > 1]
    squared, degrees = satterthwaite(errors)
    return _interval(mean, math.sqrt(float(squared)), float(degrees), level)


def share(hits: npt.ArrayLike) -> dict[str, float]:
    """Probability of an event from independent trials.

    Args:
        hits: Whether it happened, in each of at least one.

    Returns:
        ``mean``, and ``low`` and ``high``, the 95 % confidence interval of Clopper and Pearson.
    """
    happened = np.asarray(hits, dtype=bool)
    ends = scipy.stats.binomtest(int(happened.sum()), len(happened)).proportion_ci(0.95)
    return {"mean": float(happened.mean()), "low": float(ends.low), "high": float(ends.high)}


def fields_needed(spread: float, effect: float, level: float = 0.95, power: float = 0.9) -> int:
    """Fields after which a mean is known not to be zero, by Student's t with its noncentral distribution.

    Args:
        spread: Standard deviation of single values.
        effect: The mean, positive.
        level: Probability of the two-sided confidence interval of the mean.
        power: Probability that this interval lies above zero.

    Returns:
        The least number, at least two.
    """

    def found(n: int) -> bool:
        bound = scipy.stats.t.ppf((1 + level) / 2, n - 1)
        return bool(scipy.stats.nct.sf(bound, n - 1, effect / spread * math.sqrt(n)) >= power)

    if spread == 0:
        return 2
    enough = 2
    while not found(enough):
        enough *= 2
    few = enough // 2
    while enough - few > 1:
        middle = (few + enough) // 2
        few, enough = (few, middle) if found(middle) else (middle, enough)
    return enough


def integrals(u: npt.ArrayLike) -> Array:
    """∫_D u of Q1 functions that vanish on ∂D.

    Args:
        u: Nodal values, shape ``(k, n+1, …)``.

    Returns:
        Shape ``(k,)``.
    """
    values = np.asarray(u, dtype=np.float64)
    axes = tuple(range(1, values.ndim))
    total: Array = values.sum(axis=axes) / float(values.shape[1] - 1) ** len(axes)
    return total


def mean_field(u: npt.ArrayLike) -> dict[str, Any]:
    """The Monte Carlo mean of some solutions.

    Args:
        u: Nodal values, shape ``(k, n+1, …)``, k ≥ 2.

    Returns:
        ``integral`` (see :func:`average`) and ``relative standard error``, the L² norm of the pointwise standard
        error by that of the mean.
    """
    values = np.asarray(u, dtype=np.float64)
    error = values.std(axis=0, ddof=1) / math.sqrt(len(values))
    return {
        "integral": average(integrals(values)),
        "relative standard error": l2_norm(error) / l2_norm(values.mean(axis=0)),
    }


def distance_of_means(u: Array, reference: Array) -> dict[str, float]:
    """Relative L² distance of two means over the same fields, with an interval by the jackknife.

    Args:
        u: Nodal values, shape ``(k, n+1, …)``, k ≥ 2.
        reference: Same shape.

    Returns:
        As :func:`average`.
    """
    k, sums = len(u), (u.sum(axis=0), reference.sum(axis=0))
    without = np.array([relative_l2(sums[0] - a, sums[1] - b) for a, b in zip(u, reference, strict=True)])
    error = math.sqrt((k - 1) / k * float(((without - without.mean()) ** 2).sum()))
    return _interval(relative_l2(*sums), error, k - 1)


def differences(grid: Grid, u: npt.ArrayLike, reference: npt.ArrayLike) -> dict[str, Any]:
    """How the solutions by one method differ from those by another for the same fields.

    Integrals and nodal values are compared with those of I_H v, see
    :func:`nnlod_fenics.lod.interpolation.quasi_interpolation`: a coarse solution u approximates I_H v and not the nodal
    values of v, from which PG-LOD without any network is off by some percent, always to the same side.

    Args:
        grid: The discretisation.
        u: Nodal values on T_H, shape ``(k, 1/H + 1, …)``, k ≥ 2.
        reference: Nodal values on T_H or T_h for the same fields.

    Returns:
        ``relative L2 error`` of single solutions and ``amplitude``, ∫u / ∫I_H v − 1: mean over the fields (see
        :func:`average`) and ``values`` of each; ``share below``, the share of fields with ∫u < ∫I_H v; ``distance of
        the means`` (see :func:`distance_of_means`); ``nodes below``, the share of inner nodes of T_H at which the mean
        lies below that of I_H v, ``nodes surely below`` and ``nodes surely above``, the shares where the 95 % interval
        of the mean difference lies below and above zero; ``spread at nodes``, the standard deviation of single
        differences by the mean of I_H v, which 90 % of the inner nodes do not exceed.
    """
    values, other = (np.asarray(v, dtype=np.float64) for v in (u, reference))
    same = other.shape == values.shape
    fine = values if same else np.stack([prolong(grid, v) for v in values])
    errors = [relative_l2(a, b) for a, b in zip(fine, other, strict=True)]
    nodes = other if same else np.stack([quasi_interpolation(grid, v) for v in other])
    ratio = integrals(values) / integrals(nodes) - 1
    difference = (values - nodes)[(slice(None), *(slice(1, -1),) * grid.dim)]
    difference[np.abs(difference) < 1e-12 * np.abs(nodes).max()] = 0  # rounding in I_H is on neither side
    mean, spread = difference.mean(axis=0), difference.std(axis=0, ddof=1)
    width = half_width(spread / math.sqrt(len(values)), len(values) - 1, 0.95)
    level = np.abs(nodes[(slice(None), *(slice(1, -1),) * grid.dim)].mean(axis=0))
    inside = level > 1e-12 * level.max()
    return {
        "relative L2 error": average(errors) | {"values": errors},
        "amplitude": average(ratio) | {"values": ratio.tolist()},
        "share below": float((ratio < 0).mean()),
        "distance of the means": distance_of_means(fine, other),
        "nodes below": float((mean < 0).mean()),
        "nodes surely below": float((mean + width < 0).mean()),
        "nodes surely above": float((mean - width > 0).mean()),
        "spread at nodes": float(np.quantile(spread[inside] / level[inside], _MOST)),
    }
