"""Run under mpirun by test_fem_mpi.py: solve in parallel, compare with the solution computed in serial."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from nnlod_fenics.compat import MPI

import h5py
import numpy as np
from dolfinx import has_adios2
from domains import NAMES, load_domain

from nnlod_fenics import Grid, InputError
from nnlod_fenics.domain import faces_of
from nnlod_fenics.fem import FineSolver, nodal_function, solve_fine
from nnlod_fenics.norms import relative_l2
from nnlod_fenics.output.functions import write_function
from nnlod_fenics.problem import Problem

comm = MPI.COMM_WORLD
assert comm.size == int(sys.argv[1])


def source(x: np.ndarray) -> np.ndarray:
    return np.sin(3 * x[0]) + x[-1] ** 2


for grid in (Grid(1, 4, 32, 1, 16), Grid(2, 4, 32, 1, 16), Grid(3, 2, 8, 1, 4), Grid(2, 1, 1, 0), Grid(1, 1, 2, 0)):
    rng = np.random.default_rng(grid.dim)
    A = np.exp(1.5 * rng.standard_normal(grid.coefficient_shape))
    factor = rng.standard_normal((*grid.coefficient_shape, grid.dim, grid.dim))
    matrices = factor @ np.swapaxes(factor, -1, -2) + np.eye(grid.dim)
    cells = rng.standard_normal(grid.fine_shape)
    with FineSolver(grid) as solver:
        for coefficient, f in ((A, 1.0), (A, source), (matrices, cells)):
            parallel = solver.solve(coefficient, f).values()
            serial = solve_fine(grid, coefficient, f, comm=MPI.COMM_SELF).values()
            assert all(np.array_equal(other, parallel) for other in comm.allgather(parallel))
            if grid.fine[0] > 1:
                assert relative_l2(parallel, serial) < 1e-8, (grid, relative_l2(parallel, serial))
            else:
                assert not parallel.any()


# Boxes with inactive elements, given values, fluxes and wells: against known answers, and on one rank.
for name in NAMES:
    grid, A, problem, data = load_domain(name)
    open_faces = [face for face in faces_of(grid.dim) if face not in grid.dirichlet]
    with FineSolver(grid) as solver:
        for flux in (0.0, {face: source for face in open_faces}):
            problem = replace(problem, flux=flux)
            parallel = solver.solve(A, problem)
            everywhere = parallel.values()
            serial = solve_fine(grid, A, problem, comm=MPI.COMM_SELF).values()
            for other in (serial, data["u_fem"].reshape(everywhere.shape)) if flux == 0.0 else (serial,):
                assert np.array_equal(np.isnan(other), np.isnan(everywhere))
                assert np.nanmax(abs(other - everywhere)) < 2e-9 * np.nanmax(abs(other)), name
            for function in (parallel.function, nodal_function(everywhere, comm=comm, grid=grid)):
                places = function.function_space.tabulate_dof_coordinates()[:, : grid.dim]
                index = np.rint(places / grid.fine_widths).astype(int)
                assert np.array_equal(function.x.array, everywhere[tuple(index[:, ::-1].T)])


# An error on one rank alone is an error on every rank, and the solver is still good afterwards.
def broken(x: np.ndarray) -> np.ndarray:
    if comm.rank == comm.size - 1:
        raise ZeroDivisionError("division by zero")
    return x[0]


grid = Grid(2, 3, 9, 1, dirichlet=["ymin"], active=np.arange(9).reshape(3, 3) != 4)
A = np.ones(grid.coefficient_shape)
with FineSolver(grid) as solver:
    for bad, f, kind in (
        (A * (1.0 if comm.rank else np.nan), 1.0, InputError),
        (A, broken, ArithmeticError),
        (A, Problem(g=broken), ArithmeticError),
        (A, Problem(flux=lambda x: broken(x) if x.shape[1] else x[0]), ArithmeticError),
    ):
        try:
            solver.solve(bad, f)
        except InputError as error:
            assert kind is InputError or "ZeroDivisionError" in str(error)
        except kind:
            assert comm.rank == comm.size - 1
        else:  # the last rank may have no facet at a face with a flux
            assert isinstance(f, Problem) and callable(f.flux)
    assert np.nanmax(solver.solve(A).values()) > 0

# Files: one result, whatever the number of ranks.
folder = Path(sys.argv[2])
solution = solve_fine(grid, A)
written = [write_function(folder / "u.xdmf", solution.function)]
if has_adios2:
    written.append(write_function(folder / "u.bp", solution.function))
assert all(path.exists() for path in written)
if comm.rank == 0:
    assert sorted(path.name for path in folder.iterdir()) == ["u.bp"] * has_adios2 + ["u.h5", "u.xdmf"]
expected = solution.values().ravel()
expected = np.sort(expected[~np.isnan(expected)])  # the file has the nodes of D only
if comm.rank == 0:
    with h5py.File(folder / "u.h5") as file:
        np.testing.assert_array_equal(np.sort(file["Function/u/0"][:].ravel()), expected)

comm.Barrier()
if comm.rank == 0:
    print("passed", flush=True)
