"""Floating-point operations of the condensation, level by level."""

from __future__ import annotations

import math
from itertools import chain

from nnlod_fenics.grid import Grid
from nnlod_fenics.lod.elimination import make_plan

__all__ = ["count_operations"]


def _elimination(pivot: int, rest: int) -> float:
    """Cholesky factorisation, triangular solve, symmetric update."""
    return pivot**3 / 3 + pivot**2 * rest + pivot * rest**2


def count_operations(grid: Grid) -> dict[str, float]:
    """Floating-point operations per patch of an interior row, for a scalar coefficient.

    Args:
        grid: The discretisation.

    Returns:
        Operations of the levels leaves, elements, windows (one entry an axis) and patch, each divided by the
        number of patches that share the result.
    """
    d, ell, plan = grid.dim, grid.ell, make_plan(grid.dim, grid.ratio, grid.ell)
    spread = grid.cells_per_coefficient
    cell = spread**d if plan.leaves.cut_evenly(spread) else 1
    counts = {"leaves": 0.0, "elements": 0.0}
    for leaf in plan.leaves.boxes:
        rows, cells = len(leaf.labels), math.prod(leaf.size) // cell
        counts["leaves"] += 2.0 * cells * (leaf.eliminated + rows) ** 2 + _elimination(leaf.eliminated, rows)
    for part in chain(*plan.inside):
        counts["elements"] += _elimination(part.merge.eliminated, len(part.merge.labels))
    for axis, merge in zip(range(d - 1, 0, -1), plan.windows, strict=True):
        counts[f"windows along axis {axis}"] = _elimination(merge.eliminated, len(merge.labels))
    column, face = 2 * (2 * ell + 2) ** (d - 1), plan.face
    carried = (2 * ell + 2) * column + 2**d
    sweeps = 2 * sum(_elimination(face, face + (step + 2) * column) for step in range(1, ell))
    last = _elimination(face, face + carried) + _elimination(face, carried) if ell else 0.0
    multipliers = _elimination((2 * ell + 2) ** d, (2 * ell + 2) ** d + 2**d)
    counts["patch"] = sweeps + last + multipliers
    return counts
