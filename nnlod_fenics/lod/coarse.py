"""The coarse operator: local matrices assembled by (3.7), and the coarse solve (3.4).

On one process SciPy's SuperLU solves: with a minimum degree ordering of the symmetric pattern it took 22 ms for
1/H = 32 and 0.9 s for 1/H = 96 where PETSc's own LU took 56 ms and 3.5 s (d = 2, ℓ = 2, one run). A matrix that is
distributed is PETSc's, see :mod:`nnlod_fenics.lod.distributed`.
"""

from __future__ import annotations

import math
from functools import lru_cache, reduce
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.sparse
import scipy.sparse.linalg

from nnlod_fenics.arrays import as_floats
from nnlod_fenics.errors import InputError, NumericalError
from nnlod_fenics.grid import Grid
from nnlod_fenics.problem import Source, check_source, evaluate_source

__all__ = ["CoarseSolver", "coarse_mass_matrix", "coarse_operator", "coarse_residual", "load_vector", "solve_coarse"]

Array = npt.NDArray[np.float64]

_RESIDUAL = 1e-11  # backward error above which a factorisation with few row exchanges is not taken


class Pattern(NamedTuple):
    """Where the entries of all local matrices go in the compressed rows of the coarse matrix."""

    indptr: npt.NDArray[np.int32]
    indices: npt.NDArray[np.int32]
    kept: npt.NDArray[np.int64]  # flat places in S of the entries between interior nodes
    slot: npt.NDArray[np.int64]  # their places among the nonzeros of the matrix


@lru_cache(maxsize=16)
def _pattern(grid: Grid) -> Pattern:
    numbers = np.append(grid.interior_numbers, -1)  # patch nodes outside D have number -1
    shape = (grid.num_elements, *grid.local_matrix_shape)
    rows = np.broadcast_to(numbers[grid.patch_nodes][:, :, None], shape).ravel()
    columns = np.broadcast_to(numbers[grid.element_nodes][:, None, :], shape).ravel()
    kept = np.flatnonzero((rows >= 0) & (columns >= 0))
    n = grid.num_interior_nodes
    entries, slot = np.unique(rows[kept] * n + columns[kept], return_inverse=True)
    indptr = np.searchsorted(entries, np.arange(n + 1) * n)
    return Pattern(indptr.astype(np.int32), (entries % n).astype(np.int32), kept, slot)


def coarse_operator(grid: Grid, S: npt.ArrayLike) -> scipy.sparse.csr_array:
    """Assemble the global PG-LOD matrix (3.5), (3.7), restricted to interior coarse nodes.

    Args:
        grid: The discretisation.
        S: Local matrices, shape ``(num_elements, (2ℓ+2)^d, 2^d)``.

    Returns:
        Unsymmetric sparse matrix of ``(1/H − 1)^d`` rows, x fastest.

    Raises:
        InputError: If the shape does not fit or a value is not finite.

    Example:
        >>> from nnlod_fenics import local_matrices
        >>> grid = Grid(dim=2, coarse=4, fine=16, ell=1)
        >>> coarse_operator(grid, local_matrices(grid, np.ones((16, 16)))).shape
        (9, 9)
    """
    values = np.ascontiguousarray(as_floats("S", S))
    expected = (grid.num_elements, *grid.local_matrix_shape)
    if values.shape != expected:
        raise InputError(f"S must have shape {expected}, got {values.shape}.")
    n = grid.num_interior_nodes
    if n == 0:
        raise InputError("grid must have at least 2 coarse elements per axis for a coarse system, got coarse=1.")
    pattern = _pattern(grid)
    data = np.bincount(pattern.slot, weights=values.ravel()[pattern.kept], minlength=len(pattern.indices))
    return scipy.sparse.csr_array((data, pattern.indices, pattern.indptr), shape=(n, n))


def coarse_mass_matrix(grid: Grid, boundary: bool = False) -> scipy.sparse.csr_array:
    """The mass matrix M_ij = ∫ Λ_i Λ_j of the coarse Q1 functions, exact.

    With it u·M u is the square of the L²(D) norm of a coarse function, and M with :func:`coarse_operator` makes
    eigenvalue problems and time steps.

    Args:
        grid: The discretisation.
        boundary: Whether the nodes on ∂D are among the rows and columns; by default they are not, as in
            :func:`coarse_operator`.

    Returns:
        Symmetric sparse matrix of ``(1/H − 1)^d`` rows, or ``(1/H + 1)^d`` with the boundary; x fastest.

    Raises:
        InputError: If there is no interior node.

    Example:
        >>> coarse_mass_matrix(Grid(1, 3, 3, 0)).toarray() * 18
        array([[4., 1.],
               [1., 4.]])
    """
    n = grid.coarse + 1
    diagonal = np.full(n, 4.0)
    diagonal[[0, -1]] = 2.0  # only one element lies at an end of the interval
    axis = scipy.sparse.diags_array([np.ones(n - 1), diagonal, np.ones(n - 1)], offsets=[-1, 0, 1]).tocsr()
    if not boundary:
        if grid.num_interior_nodes == 0:
            raise InputError("grid must have at least 2 coarse elements per axis for interior nodes, got coarse=1.")
        axis = axis[1:-1, 1:-1]
    axis = axis / (6 * grid.coarse)
    return scipy.sparse.csr_array(reduce(lambda M, m: scipy.sparse.kron(M, m, format="csr"), [axis] * grid.dim))


def _axis_weights(grid: Grid) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Two Gauss points a fine cell along an axis, and the integrals of hats against them.

    Returns:
        Points, shape ``(2/h,)``, and weights times hat values, shape ``(1/H + 1, 2/h)``.
    """
    offset = 0.5 + np.array([-0.5, 0.5]) / np.sqrt(3)
    points = ((np.arange(grid.fine)[:, None] + offset) / grid.fine).ravel()
    distance = np.abs(points[None, :] * grid.coarse - np.arange(grid.coarse + 1)[:, None])
    return points, np.clip(1 - distance, 0, None) / (2 * grid.fine)


def load_vector(grid: Grid, f: Source = 1.0) -> npt.NDArray[np.float64]:
    """Integrate a source against the coarse hat functions: b_i = ∫ f Λ_i.

    Args:
        grid: The discretisation.
        f: A number; an array of values on the cells of T_h, shape ``(1/h,)*d``; or a function that takes
            points of shape ``(d, n)`` (x first) and returns ``(n,)`` values (integrated by two Gauss points
            a fine cell and axis).

    Returns:
        Shape ``(1/H + 1,)*d``, all nodes.

    Raises:
        InputError: If f is none of these or not finite.
    """
    points, weights = _axis_weights(grid)
    n, d = len(points), grid.dim
    source = check_source(grid, f)
    if callable(source):
        mesh = np.meshgrid(*(points,) * d, indexing="ij")
        at = np.stack([axis.ravel() for axis in reversed(mesh)])
        values = evaluate_source(source, at).reshape((n,) * d)
    else:
        values = np.broadcast_to(source, (grid.fine,) * d)
        values = reduce(lambda v, axis: np.repeat(v, 2, axis=axis), range(d), values)
    for axis in range(d):
        values = np.moveaxis(np.tensordot(weights, values, axes=(1, axis)).astype(np.float64), 0, axis)
    return values


def solve_coarse(grid: Grid, K: Any, f: Source = 1.0) -> Array:
    """Solve the coarse system S u_H = b of (3.4).

    Args:
        grid: The discretisation.
        K: Matrix from :func:`nnlod_fenics.coarse_matrix` (PETSc) or :func:`coarse_operator` (SciPy).
        f: Source: a number, a function of points ``(d, n)``, or an array on the cells of T_h.

    Returns:
        Coarse nodal values, shape ``(1/H + 1,)*d``, zero on ∂D; the same on every rank of K.

    Raises:
        InputError: If f or the size of K does not fit.
        NumericalError: If K is singular.

    Example:
        >>> from nnlod_fenics import local_matrices
        >>> grid = Grid(dim=2, coarse=4, fine=16, ell=1)
        >>> K = coarse_operator(grid, local_matrices(grid, np.ones((16, 16))))
        >>> solve_coarse(grid, K, f=lambda x: x[0] * x[1]).shape
        (5, 5)
    """
    n, petsc = grid.num_interior_nodes, hasattr(K, "getValuesCSR")
    size = tuple(K.getSize() if petsc else K.shape)
    if size != (n, n):
        raise InputError(f"K must have {n} rows and columns (interior coarse nodes of the grid), got {size}.")
    b = load_vector(grid, f)
    inner = (slice(1, -1),) * grid.dim
    if petsc and K.getComm().getSize() > 1:
        from nnlod_fenics.lod.petsc import solve_distributed

        x = solve_distributed(K, b[inner].ravel())
    else:
        matrix = scipy.sparse.csr_array(K.getValuesCSR()[::-1], shape=size) if petsc else scipy.sparse.csr_array(K)
        x = _solve(matrix, b[inner].ravel())
    solution = np.zeros_like(b)
    solution[inner] = x.reshape(solution[inner].shape)
    return solution


def _solve(matrix: scipy.sparse.csr_array, b: Array) -> Array:
    """Solve a sparse system: with few row exchanges if that is accurate, which is much faster, else with all."""
    largest = float(abs(matrix.data).max(initial=0.0))
    if not 0 < largest < math.inf:
        raise NumericalError("the coarse matrix is zero or not finite.")
    scale = math.ldexp(1.0, -math.frexp(largest)[1])  # a power of two: permeabilities may be 1e-150
    transposed = (matrix * scale).T.tocsc()  # the rows of a matrix are the columns of its transpose: no copy
    for few_exchanges in (True, False):
        options = (
            {"permc_spec": "MMD_AT_PLUS_A", "diag_pivot_thresh": 1e-3, "options": {"SymmetricMode": True}}
            if few_exchanges
            else {}
        )
        try:
            x = scipy.sparse.linalg.splu(transposed, **options).solve(b, trans="T")
        except RuntimeError:  # SuperLU: exactly singular
            continue
        residual = abs(transposed.T @ x - b).max()
        if residual <= _RESIDUAL * (abs(x).max() * abs(transposed).sum(axis=0).max() + abs(b).max()):
            return np.asarray(x * scale)
    raise NumericalError("the coarse matrix is singular to working accuracy: its factorisation failed.")


class CoarseSolver:
    """Solver for many realizations of the coarse problem (3.4) with the same source, on one process.

    Args:
        grid: The discretisation.
        f: Source: a number, a function of points ``(d, n)``, or an array on the cells of T_h.

    Attributes:
        load: b_i = ∫ f Λ_i at all nodes, shape ``(1/H + 1,)*d``.

    Raises:
        InputError: If f does not fit.
    """

    def __init__(self, grid: Grid, f: Source = 1.0) -> None:
        self.grid, self.load = grid, load_vector(grid, f)

    def solve(self, K: scipy.sparse.csr_array) -> Array:
        """Solve for one realization.

        Args:
            K: Its coarse operator.

        Returns:
            Coarse nodal values, shape ``(1/H + 1,)*d``, zero on ∂D.

        Raises:
            NumericalError: If K is singular.
        """
        inner = (slice(1, -1),) * self.grid.dim
        solution = np.zeros_like(self.load)
        solution[inner] = _solve(K, self.load[inner].ravel()).reshape(solution[inner].shape)
        return solution


def coarse_residual(grid: Grid, S: Array, u: Array, load: Array) -> Array:
    """Residual b − S u at all nodes, boundary included: zero inside D, outflow on ∂D.

    Args:
        grid: The discretisation.
        S: Local matrices.
        u: Their solution, shape ``(1/H + 1,)*d``.
        load: b_i = ∫ f Λ_i, same shape.

    Returns:
        (f, Λ_i) − a(u_ms, Λ_i), same shape, where u_ms = Σ_j u_j (Λ_j − φ_j).
    """
    local = np.einsum("eij,ej->ei", S, u.ravel()[grid.element_nodes])
    inside = grid.patch_nodes >= 0
    form = np.bincount(grid.patch_nodes[inside], local[inside], minlength=grid.num_nodes)
    return np.asarray(load - form.reshape(load.shape))
