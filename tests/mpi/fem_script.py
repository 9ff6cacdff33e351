"""Run under mpirun by test_fem_mpi.py: solve in parallel, compare with the solution computed in serial."""

from __future__ import annotations

import sys
from pathlib import Path

from nnlod_fenics.compat import MPI

import h5py
import numpy as np
from dolfinx import has_adios2

from nnlod_fenics import Grid, InputError
from nnlod_fenics.fem import FineSolver, solve_fine
from nnlod_fenics.norms import relative_l2
from nnlod_fenics.output.functions import write_function

comm = MPI.COMM_WORLD
assert comm.size == int(sys.argv[1])


def source(x: np.ndarray) -> np.ndarray:
    return np.sin(3 * x[0]) + x[-1] ** 2


for grid in (Grid(1, 4, 32, 1, 16), Grid(2, 4, 32, 1, 16), Grid(3, 2, 8, 1, 4), Grid(2, 1, 1, 0), Grid(1, 1, 2, 0)):
    rng = np.random.default_rng(grid.dim)
    A = np.exp(1.5 * rng.standard_normal(grid.coefficient_shape))
    factor = rng.standard_normal((*grid.coefficient_shape, grid.dim, grid.dim))
    matrices = factor @ np.swapaxes(factor, -1, -2) + np.eye(grid.dim)
    cells = rng.standard_normal((grid.fine,) * grid.dim)
    with FineSolver(grid) as solver:
        for coefficient, f in ((A, 1.0), (A, source), (matrices, cells)):
            parallel = solver.solve(coefficient, f).values()
            serial = solve_fine(grid, coefficient, f, comm=MPI.COMM_SELF).values()
            assert all(np.array_equal(other, parallel) for other in comm.allgather(parallel))
            if grid.fine > 1:
                assert relative_l2(parallel, serial) < 1e-8, (grid, relative_l2(parallel, serial))
            else:
                assert not parallel.any()


# An error on one rank alone is an error on every rank, and the solver is still good afterwards.
def broken(x: np.ndarray) -> np.ndarray:
    if comm.rank == comm.size - 1:
        raise ZeroDivisionError("division by zero")
    return x[0]


grid = Grid(2, 2, 8, 1)
A = np.ones(grid.coefficient_shape)
with FineSolver(grid) as solver:
    for bad, f, kind in ((A * (1.0 if comm.rank else np.nan), 1.0, InputError), (A, broken, ArithmeticError)):
        try:
            solver.solve(bad, f)
        except InputError as error:
            assert kind is InputError or "ZeroDivisionError" in str(error)
        except kind:
            assert comm.rank == comm.size - 1
        else:
            raise AssertionError("accepted")
    assert solver.solve(A).values().max() > 0

# Files: one result, whatever the number of ranks.
folder = Path(sys.argv[2])
solution = solve_fine(grid, A)
written = [write_function(folder / "u.xdmf", solution.function)]
if has_adios2:
    written.append(write_function(folder / "u.bp", solution.function))
assert all(path.exists() for path in written)
if comm.rank == 0:
    assert sorted(path.name for path in folder.iterdir()) == ["u.bp"] * has_adios2 + ["u.h5", "u.xdmf"]
expected = np.sort(solution.values().ravel())
if comm.rank == 0:
    with h5py.File(folder / "u.h5") as file:
        np.testing.assert_array_equal(np.sort(file["Function/u/0"][:].ravel()), expected)

comm.Barrier()
if comm.rank == 0:
    print("passed", flush=True)
