"""Turning samples by the symmetries of an element."""

from __future__ import annotations

from functools import lru_cache
from itertools import permutations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from nnlod_fenics.network.equivariant import turned_lattice
from nnlod_fenics.training.blocks import Batch
from nnlod_fenics.window import PETROV_GALERKIN, Window

__all__ = ["symmetries_of", "turned"]


@lru_cache(maxsize=8)
def symmetries_of(window: Window) -> npt.NDArray[np.int64]:
    """Numbers of the symmetries of the cube, see :func:`turned_lattice`, that take an element into itself.

    Args:
        window: What local matrices depend on.

    Returns:
        All numbers where elements are cubes; else those that exchange axes with equal sides only.
    """
    orders = np.array(list(permutations(range(window.dim))))
    sides = np.asarray(window.sides or (1.0,) * window.dim)[::-1]
    fitting = np.isclose(sides[orders], sides, rtol=1e-9, atol=0).all(axis=1)
    return np.flatnonzero(np.repeat(fitting, 2**window.dim))


@lru_cache(maxsize=8)
def _turned_matrices(window: Window, loads: bool, block: int) -> Tensor:
    """Where the entries of the local matrices of a turned block come from, shape ``(|G|, b^d·rows·columns)``."""
    d, ends = window.dim, 2 * window.ell + 2
    rows, columns = window.matrix_shape
    element, i = turned_lattice(d, block), turned_lattice(d, ends)
    j = turned_lattice(d, 2 if window.form == PETROV_GALERKIN else ends)
    if loads:  # a column that stays where it is
        j = torch.cat([j, torch.full((len(j), 1), columns)], dim=1)
        columns += 1
    entry = i[:, :, None] * columns + j[:, None, :]
    return (element[:, :, None] * (rows * columns) + entry.flatten(1)[:, None, :]).flatten(1)


def turned(window: Window, batch: Batch, block: int, symmetry: Tensor) -> Batch:
    """Turn each block of a batch by a symmetry of its own.

    Args:
        window: What local matrices depend on.
        batch: The blocks.
        block: Elements b of a block along an axis; blocks are cubes.
        symmetry: Numbers of the symmetries, shape ``(n,)``; see :func:`turned_lattice`.

    Returns:
        The turned blocks with their local matrices.
    """
    n, device = len(batch.Z), batch.Z.device
    loads = batch.S.shape[-1] > window.matrix_shape[1]
    entries = _turned_matrices(window, loads, block)[symmetry].to(device)

    def turn(values: Tensor) -> Tensor:
        points = turned_lattice(window.dim, values.shape[-1])[symmetry].to(device)
        return values.flatten(1).gather(1, points).reshape(values.shape)

    whitening = batch.whitening
    if whitening is not None:
        places = _turned_matrices(window, False, block)[symmetry].to(device)
        whitening = whitening.reshape(n, -1).gather(1, places).reshape(whitening.shape)
    S = batch.S.reshape(n, -1).gather(1, entries).reshape(batch.S.shape)
    return Batch(turn(batch.Z), turn(batch.domain), S, whitening)
