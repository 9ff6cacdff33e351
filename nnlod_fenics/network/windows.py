"""Windows of fields on lattices, and what of them belongs to D."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from nnlod_fenics.grid import Grid

__all__ = ["level_of", "rows_in_domain", "windows"]


def windows(values: Tensor, dim: int, size: int | Sequence[int], step: int | Sequence[int] = 1) -> Tensor:
    """All windows of lattice values, as a view.

    Args:
        values: Lattice values on the last ``dim`` axes.
        dim: Space dimension d.
        size: Points of a window along each axis: one number, or d in the order of the axes.
        step: Points from one window to the next, likewise.

    Returns:
        The leading axes, the positions of the windows (d axes), the points of a window (d axes).
    """
    first = values.ndim - dim
    sizes, steps = ((given,) * dim if isinstance(given, int) else given for given in (size, step))
    for axis in range(dim):
        values = values.unfold(first + axis, sizes[axis], steps[axis])
    return values


def rows_in_domain(grid: Grid) -> npt.NDArray[np.bool_]:
    """Which rows of local matrices are not zero: those of nodes of active elements of the patch, for active elements.

    Args:
        grid: The discretisation.

    Returns:
        Shape ``(num_elements, (2ℓ+2)^d)``.
    """
    d, size = grid.dim, grid.patch_width
    around = torch.from_numpy(np.pad(grid.active, grid.ell))
    patches = windows(around, d, size).reshape(grid.num_elements, *(size,) * d)
    touched = windows(torch.nn.functional.pad(patches, (1, 1) * d), d, 2).flatten(-d).any(dim=-1)
    return np.asarray(touched.flatten(1).numpy() & grid.active.reshape(-1, 1))


def level_of(grid: Grid, Z: Tensor) -> Tensor:
    """Means of fields over D.

    Args:
        grid: The discretisation.
        Z: log A on T_ε, shape ``(n, 1/ε, …)``.

    Returns:
        Shape ``(n, 1, …)``.
    """
    values = Z.flatten(1)
    if grid.inactive:
        values = values[:, torch.from_numpy(grid.active_cells.ravel()).to(Z.device)]
    return values.mean(dim=1).reshape(-1, *(1,) * grid.dim)
