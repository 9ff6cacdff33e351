"""Turning samples by the symmetries of the cube."""

from __future__ import annotations

from functools import lru_cache

from torch import Tensor

from nnlod_fenics.grid import Grid
from nnlod_fenics.network.equivariant import turned_lattice
from nnlod_fenics.training.blocks import Batch

__all__ = ["turned"]


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
