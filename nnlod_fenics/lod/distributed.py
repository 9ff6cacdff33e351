"""The coarse operator as a PETSc matrix, distributed over the ranks of a communicator."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from mpi4py import MPI
from petsc4py import PETSc

from nnlod_fenics.errors import NumericalError
from nnlod_fenics.grid import Grid
from nnlod_fenics.lod.coarse import coarse_operator

__all__ = ["coarse_matrix", "solve_distributed"]


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
    whole = coarse_operator(grid, S)
    n = whole.shape[0]
    first, last = _owned_rows(n, comm)
    own = whole[first:last]
    csr = (own.indptr.astype(PETSc.IntType), own.indices.astype(PETSc.IntType), own.data)
    matrix = PETSc.Mat().createAIJ(((last - first, n), (last - first, n)), csr=csr, comm=comm)
    matrix.assemble()
    return matrix


def _owned_rows(n: int, comm: MPI.Comm) -> tuple[int, int]:
    """Rows of this rank: PETSc's own even distribution."""
    share, rest = divmod(n, comm.size)
    first = comm.rank * share + min(comm.rank, rest)
    return first, first + share + (comm.rank < rest)


def solve_distributed(K: PETSc.Mat, b: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Solve a distributed system by MUMPS.

    Args:
        K: The matrix.
        b: The whole right-hand side, the same on every rank.

    Returns:
        The whole solution, on every rank.

    Raises:
        NumericalError: If the factorisation fails.
    """
    x, rhs = K.createVecs()
    first, last = rhs.getOwnershipRange()
    rhs.setArray(b[first:last])
    solver = PETSc.KSP().create(K.getComm())
    try:
        solver.setOperators(K)
        solver.setType(PETSc.KSP.Type.PREONLY)
        solver.getPC().setType(PETSc.PC.Type.LU)
        solver.getPC().setFactorSolverType("mumps")
        solver.solve(rhs, x)
        reason = solver.getConvergedReason()
        if reason < 0:
            raise NumericalError(f"the LU factorisation of the coarse matrix failed (PETSc reason {reason}).")
        parts = K.getComm().tompi4py().allgather(x.getArray().copy())
    finally:
        for thing in (solver, x, rhs):
            thing.destroy()
    return np.concatenate(parts)
