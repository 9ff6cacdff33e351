"""Solution of distributed systems by PETSc."""

from __future__ import annotations

from nnlod_fenics.compat import MPI  # noqa: F401  # first, see there

import numpy as np
import numpy.typing as npt
from petsc4py import PETSc

from nnlod_fenics.errors import NumericalError

__all__ = ["solve_distributed"]


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
