"""Run under mpirun by test_fem_mpi.py: the last rank alone solves by FEM, after all have joined a job."""

from __future__ import annotations

import numpy as np

from nnlod_fenics import Grid, solve
from nnlod_fenics.runtime.job import world

comm = world()
solved = -1.0
if comm.rank == comm.size - 1:
    # constant coefficient, exact in one dimension: u = x (1 - x) / 2
    solved = float(solve(Grid(dim=1, coarse=4, fine=16, ell=1), np.ones(16), method="fem").u.max())
everywhere = comm.allgather(solved)  # busy waiting: nothing here helps PETSc to start
if comm.rank == 0:
    assert everywhere[:-1] == [-1.0] * (comm.size - 1) and abs(everywhere[-1] - 0.125) < 1e-9
    print("passed", flush=True)
