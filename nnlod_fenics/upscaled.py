"""Effective coefficients of single cells of a coarse mesh, from periodic cell problems.

What periodic homogenisation does with a unit cell, done with each cell of T_{H/r} as if it were one. Exact for layers
across whole cells and, in the limit, for periodic media; else a mean that knows directions.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.sparse

from nnlod_fenics.grid import Grid, lattice
from nnlod_fenics.lod.leaves import cell_forms

__all__ = ["effective_tensors"]

Array = npt.NDArray[np.float64]

_BYTES = 1 << 26  # of the matrices that are solved at a time


class _Problem(NamedTuple):
    """What all cell problems of m fine cells an axis share; maps apply to the coefficients of the fine cells.

    Attributes:
        stiffness: To the stiffness matrix on the periodic nodes, ``(N², m^d k)`` for k numbers a fine cell.
        loads: To a(x_k, φ_p), ``(d N, m^d k)``.
        energies: To a(x_k, x_l), ``(d², m^d k)``.
    """

    stiffness: scipy.sparse.csr_array
    loads: scipy.sparse.csr_array
    energies: scipy.sparse.csr_array


@lru_cache(maxsize=8)
def _cell_problem(cells: int, widths: tuple[float, ...], tensor: bool) -> _Problem:
    d, sides = len(widths), np.asarray(widths)
    forms = cell_forms(d, 1)[0] * (np.prod(sides) / np.outer(sides, sides))[:, :, None, None]
    kinds = forms.reshape(d * d, 2**d, 2**d) if tensor else np.einsum("aapq->pq", forms)[None]
    corners = lattice(*(2,) * d)
    nodes = (lattice(*(cells,) * d)[:, None] + corners) % cells @ cells ** np.arange(d)
    linear = corners * sides  # x_k at the corners of a cell, up to a constant, which has no energy
    n, count = cells**d, len(nodes) * len(kinds)
    coefficients = np.arange(count).reshape(len(nodes), len(kinds))

    def gathered(rows: npt.NDArray[np.int64], values: Array, size: int) -> scipy.sparse.csr_array:
        """A map whose entries of fine cell c and number k are ``values[k]`` in the rows ``rows[c]``."""
        shape = (len(nodes), len(kinds), *rows.shape[1:])
        where = np.broadcast_to(rows[:, None], shape).ravel()
        columns = np.broadcast_to(coefficients.reshape(*coefficients.shape, *(1,) * (rows.ndim - 1)), shape).ravel()
        entries = np.broadcast_to(values[None], shape).ravel()
        return scipy.sparse.csr_array((entries, (where, columns)), shape=(size, count))

    pairs = nodes[:, :, None] * n + nodes[:, None, :]
    directions = np.arange(d)[:, None] * n + nodes[:, None, :]
    squares = np.broadcast_to(np.arange(d * d).reshape(d, d), (len(nodes), d, d))
    return _Problem(
        gathered(pairs, kinds, n * n),
        gathered(directions, np.einsum("kpq,qa->kap", kinds, linear), d * n),
        gathered(squares, np.einsum("kpq,pa,qb->kab", kinds, linear, linear), d * d),
    )


def effective_tensors(grid: Grid, A: Array, refine: int) -> Array:
    """Effective coefficients of the cells of T_{H/r}, from Q1 elements on T_h.

    Args:
        grid: The discretisation.
        A: Positive coefficients on T_ε, shape ``(n, 1/ε, …)``, or symmetric positive definite matrices.
        refine: r, a divisor of H/ε.

    Returns:
        Symmetric positive definite matrices, shape ``(n, r/H, …, d, d)``.

    Example:
        >>> grid = Grid(dim=2, coarse=2, fine=16, ell=0, coefficient=8)
        >>> layers = np.tile([1.0, 100.0], (1, 8, 4))  # across x
        >>> effective_tensors(grid, layers, 1)[0, 0, 0].round(4)
        array([[ 1.9802,  0.    ],
               [ 0.    , 50.5   ]])
    """
    d, cells, tensor = grid.dim, grid.ratio // refine, A.ndim > grid.dim + 1
    fine = np.stack([grid.refine(a, d) for a in A])
    split = [n for count in fine.shape[1 : 1 + d] for n in (count // cells, cells)]
    more = fine.shape[1 + d :]
    axes = [0, *range(1, 2 * d, 2), *range(2, 2 * d + 1, 2), *range(2 * d + 1, 2 * d + 1 + len(more))]
    values = fine.reshape(len(A), *split, *more).transpose(axes)
    shape = values.shape[: 1 + d]
    problem = _cell_problem(cells, grid.fine_widths, tensor)
    flat = values.reshape(int(np.prod(shape)), -1)
    size = max(_BYTES // (8 * cells ** (2 * d)), 1)
    found = [_solve(problem, flat[start : start + size], d, cells**d) for start in range(0, len(flat), size)]
    volume = float(np.prod(grid.fine_widths)) * cells**d
    return np.asarray(np.concatenate(found).reshape(*shape, d, d) / volume)


def _solve(problem: _Problem, coefficients: Array, dim: int, nodes: int) -> Array:
    """|E| times the effective tensors, for the coefficients of the fine cells of each E."""
    stiffness, loads, energies = ((part @ coefficients.T).T for part in problem)
    tensors = energies.reshape(-1, dim, dim)
    if nodes > 1:
        K = stiffness.reshape(-1, nodes, nodes)[:, 1:, 1:]  # the constants are fixed by one node
        right = loads.reshape(-1, dim, nodes)[:, :, 1:]
        correctors = np.linalg.solve(K, np.swapaxes(right, 1, 2))
        tensors = tensors - right @ correctors
    return np.asarray(0.5 * (tensors + np.swapaxes(tensors, 1, 2)))
