"""Turning samples by the symmetries of an element."""

from __future__ import annotations

from functools import lru_cache
from itertools import permutations

import numpy as np
import numpy.typing as npt
from torch import Tensor

from nnlod_fenics.grid import Grid
from nnlod_fenics.network.equivariant import turned_lattice
from nnlod_fenics.training.blocks import Batch

__all__ = ["symmetries_of", "turned"]


@lru_cache(maxsize=8)
def symmetries_of(grid: Grid) -> npt.NDArray[np.int64]:
    """Numbers of the symmetries of the cube, see :func:`turned_lattice`, that take an element into itself.

    Args:
        grid: The discretisation.

    Returns:
        All numbers where elements are cubes; else those that exchange axes with equal sides only.
    """
    orders = np.array(list(permutations(range(grid.dim))))
    sides = np.asarray(grid.widths[::-1])
    fitting = np.isclose(sides[orders], sides, rtol=1e-12, atol=0).all(axis=1)
    return np.flatnonzero(np.repeat(fitting, 2**grid.dim))


@lru_cache(maxsize=8)
def _turned_matrices(grid: Grid, block: int) -> Tensor:
    """Where the entries of the local matrices of a turned block come from, shape ``(|G|, b^d·rows·columns)``."""
    d = grid.dim
    rows, columns = grid.local_matrix_shape
    element, i, j = turned_lattice(d, block), turned_lattice(d, 2 * grid.ell + 2), turned_lattice(d, 2)
    entry = i[:, :, None] * columns + j[:, None, :]
    return (element[:, :, None] * (rows * columns) + entry.flatten(1)[:, None, :]).flatten(1)


def turned(grid: Grid, batch: Batch, block: int, symmetry: Tensor) -> Batch:
    """Turn each block of a batch by a symmetry of its own.

    Args:
        grid: The discretisation.
        batch: The blocks.
        block: Elements b of a block along an axis; blocks are cubes.
        symmetry: Numbers of the symmetries, shape ``(n,)``; see :func:`turned_lattice`.

    Returns:
        The turned blocks with their local matrices.
    """
    n, device = len(batch.Z), batch.Z.device
    cells = turned_lattice(grid.dim, batch.Z.shape[-1])[symmetry].to(device)
    entries = _turned_matrices(grid, block)[symmetry].to(device)
    Z = batch.Z.flatten(1).gather(1, cells).reshape(batch.Z.shape)
    inside = batch.inside.flatten(1).gather(1, cells).reshape(batch.inside.shape)
    return Batch(Z, inside, batch.S.reshape(n, -1).gather(1, entries).reshape(batch.S.shape))
