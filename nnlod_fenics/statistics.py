"""Intervals of means: Student's t, with the degrees of freedom of Welch and Satterthwaite."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import scipy.stats

__all__ = ["half_width", "satterthwaite"]

Array = npt.NDArray[np.float64]


def satterthwaite(parts: Sequence[tuple[npt.ArrayLike, int]], exact: float = np.inf) -> tuple[Array, Array]:
    """Sum the squared errors of independent parts of an estimate.

    Args:
        parts: Squared errors of each part, numbers or arrays of one shape, and from how many samples (at least 2).
        exact: Degrees of freedom where no part has an error.

    Returns:
        The sums, and their degrees of freedom (Σ s_i)² / Σ s_i² / (n_i − 1) (Welch 1947, Satterthwaite 1946).
    """
    squared = [np.asarray(part, dtype=np.float64) for part, _ in parts]
    total = np.asarray(sum(squared, np.zeros(())))
    largest = np.where(total > 0, total, 1.0)  # shares of it: squares of small errors could vanish
    shares = [(part / largest) ** 2 / (count - 1) for part, (_, count) in zip(squared, parts, strict=True)]
    spread = np.asarray(sum(shares, np.zeros(())))
    return total, np.divide(1.0, spread, out=np.full_like(total, exact), where=spread > 0)


def half_width(standard_error: npt.ArrayLike, degrees: npt.ArrayLike, level: float) -> Array:
    """Half-width of a confidence interval by Student's t.

    Args:
        standard_error: Standard errors.
        degrees: Their degrees of freedom.
        level: Probability of the interval.

    Returns:
        The half-widths.
    """
    return np.asarray(scipy.stats.t.ppf(0.5 + level / 2, degrees)) * np.asarray(standard_error)
