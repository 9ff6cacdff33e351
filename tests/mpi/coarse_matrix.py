"""Under mpirun: the coarse matrix with rows by ownership, and its solution, equal the serial ones."""

import numpy as np
from mpi4py import MPI

from nnlod_fenics import Grid, coarse_matrix, local_matrices, solve_coarse

comm = MPI.COMM_WORLD
grid = Grid(2, 8, 16, 1)
S = local_matrices(grid, np.exp(np.random.default_rng(0).standard_normal((16, 16))))
serial, parallel = coarse_matrix(grid, S), coarse_matrix(grid, S, comm)
first, last = parallel.getOwnershipRange()
assert last - first < parallel.getSize()[0], "every rank must own a part"
columns = range(parallel.getSize()[1])
assert np.array_equal(parallel.getValues(range(first, last), columns), serial.getValues(range(first, last), columns))
u, v = solve_coarse(grid, serial), solve_coarse(grid, parallel)
assert np.abs(u - v).max() < 1e-12 * np.abs(u).max()
print("equal to serial", flush=True)
