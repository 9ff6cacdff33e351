"""The Galerkin form of the LOD: Bᵀ K_h B with B = (1 − C)P, symmetric, with source correctors.

Its solution (1 − C) u_H + Σ_T R_T is the best approximation in energy among all such functions: whatever the contrast,
it is never worse than that of u_H = 0, and its matrix is positive definite.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.sparse

from nnlod_fenics.grid import Grid
from nnlod_fenics.lod.energy import stream_energies
from nnlod_fenics.lod.finescale import stream_correctors

__all__ = ["GalerkinSystem", "galerkin_system"]

Array = npt.NDArray[np.float64]

_BATCH = 1 << 22  # entries that are collected before they are added up


class GalerkinSystem(NamedTuple):
    """The system K u_H = b on all coarse nodes of the box, boundary conditions not imposed.

    Attributes:
        K: Bᵀ K_h B, symmetric, ``num_nodes`` rows; those of nodes of no active element are empty.
        load: F((1 − C)Λ_i) − a(Σ_T R_T, (1 − C)Λ_i), shape ``grid.node_shape``.
    """

    K: scipy.sparse.csr_array
    load: Array


def galerkin_system(grid: Grid, A: Array, loads: Array, method: str = "condensed") -> GalerkinSystem:
    """Assemble the Galerkin form element by element, from correctors that are dropped as soon as they are used.

    Args:
        grid: The discretisation.
        A: Checked coefficient on T_ε.
        loads: F_T at the fine nodes of all elements, from :func:`nnlod_fenics.loads.element_loads`.
        method: ``"condensed"`` or ``"dolfinx"``, for the correctors.

    Returns:
        The system.
    """
    n, load = grid.num_nodes, np.zeros(grid.num_nodes)
    K = scipy.sparse.csr_array((n, n))
    rows: list[npt.NDArray[np.int64]] = []
    entries: list[Array] = []
    for energy in stream_energies(grid, A, stream_correctors(grid, A, loads, method), loads):
        nodes = grid.patch_nodes[energy.element]
        inside = nodes >= 0
        load[nodes[inside]] += (energy.load - energy.coupling)[inside]
        rows.append(nodes[inside])
        entries.append(energy.matrix[np.ix_(inside, inside)])
        if len(rows) * entries[0].size > _BATCH:
            K = K + _sum(n, rows, entries)
            rows, entries = [], []
    if rows:
        K = K + _sum(n, rows, entries)
    return GalerkinSystem(K, load.reshape(grid.node_shape))


def _sum(n: int, nodes: list[npt.NDArray[np.int64]], matrices: list[Array]) -> scipy.sparse.csr_array:
    """The sum of dense matrices on some nodes each."""
    rows = np.concatenate([np.repeat(own, len(own)) for own in nodes])
    columns = np.concatenate([np.tile(own, len(own)) for own in nodes])
    values = np.concatenate([matrix.ravel() for matrix in matrices])
    return scipy.sparse.coo_array((values, (rows, columns)), shape=(n, n)).tocsr()
