"""Means over fresh fields, with standard errors, and differences between methods on the same fields."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from nnlod_fenics.grid import Grid
from nnlod_fenics.norms import l2_norm, prolong, relative_l2

__all__ = ["average", "differences", "integrals", "mean_field"]

Array = npt.NDArray[np.float64]


def average(values: npt.ArrayLike) -> dict[str, float]:
    """Mean of independent values.

    Args:
        values: At least two numbers.

    Returns:
        ``mean``, ``standard error`` and the ends ``low`` and ``high`` of the 95 % confidence interval by Student's t.
    """
    x = np.asarray(values, dtype=np.float64)
    mean, error = float(x.mean()), float(x.std(ddof=1) / math.sqrt(len(x)))
    width = float(stats.t.ppf(0.975, len(x) - 1)) * error
    return {"mean": mean, "standard error": error, "low": mean - width, "high": mean + width}


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


def differences(grid: Grid, u: npt.ArrayLike, reference: npt.ArrayLike) -> dict[str, Any]:
    """How the solutions by one method differ from those by another for the same fields.

    Args:
        grid: The discretisation.
        u: Nodal values on T_H, shape ``(k, 1/H + 1, …)``, k ≥ 2.
        reference: Nodal values on T_H or T_h for the same fields.

    Returns:
        ``relative L2 error`` of single solutions, mean over the fields (see :func:`average`); ``amplitude``,
        the mean of ∫u / ∫v − 1 over the fields (likewise); ``share below``, the share of fields with ∫u < ∫v;
        ``relative L2 distance of the means``; ``nodes below``, the share of inner nodes of T_H at which the mean
        lies below the other one.
    """
    values, other = (np.asarray(v, dtype=np.float64) for v in (u, reference))
    stride = (other.shape[1] - 1) // grid.coarse
    fine = values if stride == 1 else np.stack([prolong(grid, v) for v in values])
    inner = (slice(1, -1),) * grid.dim
    nodes = other[(slice(None), *(slice(None, None, stride),) * grid.dim)]
    ratio = integrals(values) / integrals(other) - 1
    return {
        "relative L2 error": average([relative_l2(a, b) for a, b in zip(fine, other, strict=True)]),
        "amplitude": average(ratio),
        "share below": float((ratio < 0).mean()),
        "relative L2 distance of the means": relative_l2(fine.mean(axis=0), other.mean(axis=0)),
        "nodes below": float((values.mean(axis=0) < nodes.mean(axis=0))[inner].mean()),
    }
