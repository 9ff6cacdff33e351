"""The coarse operator as a PETSc matrix, distributed over the ranks of a communicator."""

from __future__ import annotations

from nnlod_fenics.compat import MPI  # first: see there

import numpy.typing as npt
from petsc4py import PETSc

from nnlod_fenics.grid import Grid
from nnlod_fenics.lod.coarse import coarse_operator

__all__ = ["coarse_matrix"]


def coarse_matrix(grid: Grid, S: npt.ArrayLike, comm: MPI.Comm = MPI.COMM_SELF) -> PETSc.Mat:
    """Assemble the global PG-LOD matrix (3.5), (3.7), restricted to free coarse nodes.

    Args:
        grid: The discretisation.
        S: Local matrices, shape ``(num_elements, (2ℓ+2)^d, 2^d)``, the same on every rank.
        comm: Communicator of the matrix.

    Returns:
        Unsymmetric sparse matrix of ``num_free_nodes`` rows, x fastest.

    Raises:
        InputError: If the shape does not fit or a value is not finite.

    Note:
        Collective on ``comm``; each rank enters the rows that it owns, so nothing is communicated. The
        caller destroys the matrix.

    Example:
        >>> from nnlod_fenics import local_matrices, solve_coarse
        >>> grid = Grid(dim=2, coarse=4, fine=16, ell=1)
        >>> K = coarse_matrix(grid, local_matrices(grid, np.ones((16, 16))))
        >>> K.getSize(), solve_coarse(grid, K, f=1.0).shape
        ((9, 9), (5, 5))
        >>> _ = K.destroy()
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
