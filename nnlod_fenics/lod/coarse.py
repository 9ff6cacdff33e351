"""The coarse operator: local matrices assembled by (3.7) into a PETSc matrix, and the coarse solve (3.4)."""

from __future__ import annotations

from functools import lru_cache, reduce
from typing import NamedTuple

from nnlod_fenics.compat import MPI

import numpy as np
import numpy.typing as npt
from petsc4py import PETSc

from nnlod_fenics.errors import InputError, NumericalError
from nnlod_fenics.grid import Grid
from nnlod_fenics.source import Source, check_source, evaluate_source

__all__ = ["CoarseSolver", "coarse_matrix", "load_vector", "solve_coarse"]


class _Pattern(NamedTuple):
    """Where the entries of all local matrices go in the compressed rows of the coarse matrix."""

    indptr: npt.NDArray[np.int32]
    indices: npt.NDArray[np.int32]
    kept: npt.NDArray[np.int64]  # flat places in S of the entries between interior nodes
    slot: npt.NDArray[np.int64]  # their places among the nonzeros of the matrix


@lru_cache(maxsize=16)
def _pattern(grid: Grid) -> _Pattern:
    numbers = np.append(grid.interior_numbers, -1)  # patch nodes outside D have number -1
    shape = (grid.num_elements, *grid.local_matrix_shape)
    rows = np.broadcast_to(numbers[grid.patch_nodes][:, :, None], shape).ravel()
    columns = np.broadcast_to(numbers[grid.element_nodes][:, None, :], shape).ravel()
    kept = np.flatnonzero((rows >= 0) & (columns >= 0))
    n = grid.num_interior_nodes
    entries, slot = np.unique(rows[kept] * n + columns[kept], return_inverse=True)
    indptr = np.searchsorted(entries, np.arange(n + 1) * n)
    return _Pattern(indptr.astype(PETSc.IntType), (entries % n).astype(PETSc.IntType), kept, slot)


def coarse_matrix(grid: Grid, S: npt.ArrayLike, comm: MPI.Comm = MPI.COMM_SELF) -> PETSc.Mat:
    """Assemble the global PG-LOD matrix (3.5), (3.7), restricted to interior coarse nodes.

    Args:
        grid: The discretisation.
        S: Local matrices, shape ``(num_elements, (2ℓ+2)^d, 2^d)``, the same on every rank.
        comm: Communicator of the matrix.

    Returns:
        Unsymmetric sparse matrix of ``(1/H − 1)^d`` rows, x fastest.

    Raises:
        InputError: If the shape does not fit or a value is not finite.

    Note:
        Collective on ``comm``; each rank enters the rows that it owns, so nothing is communicated. The
        caller destroys the matrix.
    """
    values = np.ascontiguousarray(S, dtype=np.float64)
    expected = (grid.num_elements, *grid.local_matrix_shape)
    if values.shape != expected:
        raise InputError(f"S must have shape {expected}, got {values.shape}.")
    if not np.isfinite(values).all():
        raise InputError(f"S must be finite, got {np.count_nonzero(~np.isfinite(values))} NaN or infinite values.")
    n = grid.num_interior_nodes
    if n == 0:
        raise InputError("grid must have at least 2 coarse elements per axis for a coarse system, got coarse=1.")
    pattern = _pattern(grid)
    data = np.bincount(pattern.slot, weights=values.ravel()[pattern.kept], minlength=len(pattern.indices))
    first, last = _owned_rows(n, comm)
    low, high = pattern.indptr[first], pattern.indptr[last]
    csr = (pattern.indptr[first : last + 1] - low, pattern.indices[low:high], data[low:high])
    matrix = PETSc.Mat().createAIJ(((last - first, n), (last - first, n)), csr=csr, comm=comm)
    matrix.assemble()
    return matrix


def _owned_rows(n: int, comm: MPI.Comm) -> tuple[int, int]:
    """Rows of this rank: PETSc's own even distribution."""
    share, rest = divmod(n, comm.size)
    first = comm.rank * share + min(comm.rank, rest)
    return first, first + share + (comm.rank < rest)


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


def solve_coarse(grid: Grid, K: PETSc.Mat, f: Source = 1.0) -> npt.NDArray[np.float64]:
    """Solve the coarse system S u_H = b of (3.4).

    Args:
        grid: The discretisation.
        K: Matrix from :func:`coarse_matrix`.
        f: Source: a number, a function of points ``(d, n)``, or an array on the cells of T_h.

    Returns:
        Coarse nodal values, shape ``(1/H + 1,)*d``, zero on ∂D; the same on every rank of K.

    Raises:
        InputError: If f or the size of K does not fit.
        NumericalError: If the factorisation of K fails.
    """
    n, d = grid.num_interior_nodes, grid.dim
    if K.getSize() != (n, n):
        raise InputError(f"K must have {n} rows and columns (interior coarse nodes of the grid), got {K.getSize()}.")
    inner = (slice(1, -1),) * d
    b = load_vector(grid, f)[inner].ravel()
    x, rhs = K.createVecs()
    first, last = rhs.getOwnershipRange()
    rhs.setArray(b[first:last])
    solver = PETSc.KSP().create(K.getComm())
    try:
        solver.setOperators(K)
        solver.setType(PETSc.KSP.Type.PREONLY)
        solver.getPC().setType(PETSc.PC.Type.LU)
        if K.getComm().getSize() > 1:
            solver.getPC().setFactorSolverType("mumps")
        solver.solve(rhs, x)
        reason = solver.getConvergedReason()
        if reason < 0:
            raise NumericalError(f"the LU factorisation of the coarse matrix failed (PETSc reason {reason}).")
        parts = K.getComm().tompi4py().allgather(x.getArray().copy())
    finally:
        for thing in (solver, x, rhs):
            thing.destroy()
    solution = np.zeros((grid.coarse + 1,) * d)
    solution[inner] = np.concatenate(parts).reshape((grid.coarse - 1,) * d)
    return solution


class CoarseSolver:
    """Solver for many realizations of the coarse problem (3.4) with the same source, on one process.

    Matrix, ordering and symbolic factorisation are made once, for the first realization; another one changes
    values only, so that a Monte Carlo run does not grow. The result does not depend on what was solved before.

    Args:
        grid: The discretisation.
        f: Source: a number, a function of points ``(d, n)``, or an array on the cells of T_h.

    Attributes:
        load: b_i = ∫ f Λ_i at all nodes, shape ``(1/H + 1,)*d``.

    Raises:
        InputError: If f or the grid does not fit.
    """

    def __init__(self, grid: Grid, f: Source = 1.0) -> None:
        self.grid, self.load = grid, load_vector(grid, f)
        self._inner = (slice(1, -1),) * grid.dim
        self._matrix: PETSc.Mat | None = None

    def solve(self, S: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Solve for one realization.

        Args:
            S: Local matrices, shape ``(num_elements, (2ℓ+2)^d, 2^d)``.

        Returns:
            Coarse nodal values, shape ``(1/H + 1,)*d``, zero on ∂D.

        Raises:
            InputError: If S does not fit.
            NumericalError: If the factorisation fails.
        """
        matrix = coarse_matrix(self.grid, S)
        if self._matrix is None:
            self._start(matrix)
        else:
            indptr, indices, data = matrix.getValuesCSR()
            self._matrix.setValuesCSR(indptr, indices, data)
            self._matrix.assemble()
            matrix.destroy()
        self._ksp.solve(self._rhs, self._x)
        reason = self._ksp.getConvergedReason()
        if reason < 0:
            raise NumericalError(f"the LU factorisation of the coarse matrix failed (PETSc reason {reason}).")
        solution = np.zeros_like(self.load)
        solution[self._inner] = self._x.getArray().reshape(solution[self._inner].shape)
        return solution

    def flux(self, S: npt.NDArray[np.float64], u: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Residual b − S u at all nodes, boundary included: zero inside D, outflow on ∂D.

        Args:
            S: Local matrices.
            u: Their solution, shape ``(1/H + 1,)*d``.

        Returns:
            (f, Λ_i) − a(u_ms, Λ_i), shape ``(1/H + 1,)*d``, where u_ms = Σ_j u_j (Λ_j − φ_j).
        """
        local = np.einsum("eij,ej->ei", S, u.ravel()[self.grid.element_nodes])
        inside = self.grid.patch_nodes >= 0
        form = np.bincount(self.grid.patch_nodes[inside], local[inside], minlength=self.grid.num_nodes)
        return self.load - form.reshape(self.load.shape)

    def destroy(self) -> None:
        """Free the PETSc objects. Calling it twice is harmless."""
        if self._matrix is not None:
            for thing in (self._ksp, self._x, self._rhs, self._matrix):
                thing.destroy()
            self._matrix = None

    def _start(self, matrix: PETSc.Mat) -> None:
        self._matrix = matrix
        self._x, self._rhs = matrix.createVecs()
        self._rhs.setArray(self.load[self._inner].ravel())
        self._ksp = PETSc.KSP().create(MPI.COMM_SELF)
        self._ksp.setOperators(matrix)
        self._ksp.setType(PETSc.KSP.Type.PREONLY)
        self._ksp.getPC().setType(PETSc.PC.Type.LU)
