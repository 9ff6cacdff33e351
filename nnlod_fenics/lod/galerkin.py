"""The Galerkin form of the LOD: Bᵀ K_h B with B = (1 − C)P, symmetric, with source correctors.

Its solution (1 − C) u_H + Σ_T R_T is the best approximation in energy among all such functions: whatever the contrast,
it is never worse than that of u_H = 0, and its matrix is positive definite.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.sparse

from nnlod_fenics.grid import Grid
from nnlod_fenics.lod.energy import ElementEnergy, stream_energies
from nnlod_fenics.lod.finescale import stream_correctors

__all__ = ["GalerkinSystem", "galerkin_matrices", "galerkin_system"]

Array = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

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
    rows: list[IntArray] = []
    entries: list[Array] = []
    for energy in _energies(grid, A, loads, method, grid.active_elements):
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


def galerkin_matrices(
    grid: Grid, A: Array, loads: Array, method: str = "condensed", elements: IntArray | None = None
) -> tuple[Array, Array]:
    """The local matrices of the Galerkin form, and what elements add to its load.

    Args:
        grid: The discretisation.
        A: Checked coefficient on T_ε.
        loads: F_T at the fine nodes of all elements.
        method: ``"condensed"`` or ``"dolfinx"``, for the correctors.
        elements: Numbers of the elements E in any order; all if None. Only correctors of elements within ℓ layers of
            them are computed.

    Returns:
        K_E, shape ``(number of elements, (2ℓ+2)^d, (2ℓ+2)^d)``, rows and columns of the nodes ``grid.patch_nodes``, and
        F_E((1 − C)Λ_i) − ∫_E A ∇R·∇(1 − C)Λ_i, shape ``(number of elements, (2ℓ+2)^d)``; zero for inactive elements.
    """
    chosen, n = np.arange(grid.num_elements) if elements is None else elements, grid.num_patch_nodes
    matrices, load = np.zeros((len(chosen), n, n)), np.zeros((len(chosen), n))
    places = np.argsort(chosen, kind="stable")
    ascending = chosen[places]
    for energy in _energies(grid, A, loads, method, np.unique(ascending[grid.active.ravel()[ascending]])):
        own = places[slice(*np.searchsorted(ascending, [energy.element, energy.element + 1]))]
        matrices[own], load[own] = energy.matrix, energy.load - energy.coupling
    return matrices, load


def _energies(grid: Grid, A: Array, loads: Array, method: str, wanted: IntArray) -> Iterator[ElementEnergy]:
    """The energies on some active elements: from traces where that is possible, else from whole correctors."""
    if not len(wanted):
        return iter(())
    if method == "condensed" and not grid.trivial_fine_scale:
        from nnlod_fenics.lod.traces import condensed_energies  # which loads PyTorch

        return condensed_energies(grid, A, loads, wanted)
    correctors = stream_correctors(grid, A, loads, method, grid.elements_around(wanted))
    return stream_energies(grid, A, correctors, loads, wanted)


def _sum(n: int, nodes: list[IntArray], matrices: list[Array]) -> scipy.sparse.csr_array:
    """The sum of dense matrices on some nodes each."""
    rows = np.concatenate([np.repeat(own, len(own)) for own in nodes])
    columns = np.concatenate([np.tile(own, len(own)) for own in nodes])
    values = np.concatenate([matrix.ravel() for matrix in matrices])
    return scipy.sparse.coo_array((values, (rows, columns)), shape=(n, n)).tocsr()
