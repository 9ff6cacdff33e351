"""Windows of fields on lattices."""

from __future__ import annotations

from torch import Tensor

__all__ = ["windows"]


def windows(values: Tensor, dim: int, size: int, step: int = 1) -> Tensor:
    """All cubic windows of lattice values, as a view.

    Args:
        values: Lattice values on the last ``dim`` axes.
        dim: Space dimension d.
        size: Points of a window along an axis.
        step: Points from one window to the next.

    Returns:
        The leading axes, the positions of the windows (d axes), the points of a window (d axes).
    """
    for axis in range(values.ndim - dim, values.ndim):
        values = values.unfold(axis, size, step)
    return values
