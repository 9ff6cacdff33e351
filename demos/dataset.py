# # Datasets of fields and local matrices
#
# This demo illustrates how to
#
# - generate a dataset, in parallel under `mpirun`,
# - resume a generation that was interrupted,
# - find out what its files hold, with h5py and with `Dataset`,
# - verify it.
#
# It runs on one process, or on any number of them: `mpirun -n 4 python demos/dataset.py`. On the command line the
# same is done by `nnlod generate`, `nnlod generate --resume`, `nnlod info` and `nnlod verify`.

import argparse
from pathlib import Path

import h5py
import numpy as np
from mpi4py import MPI

from nnlod_fenics import Dataset, coarse_operator, generate, load_config, solve_coarse, solve_fine
from nnlod_fenics.dataset.verify import verify_dataset
from nnlod_fenics.norms import prolong, relative_l2
from nnlod_fenics.output.figures import plot_coefficient, plot_local_matrix

parser = argparse.ArgumentParser()
parser.add_argument("--realizations", type=int, default=24)
parser.add_argument("--coarse", type=int, default=8, help="1/H")
parser.add_argument("--output", type=Path, default=Path("out_dataset"))
arguments = parser.parse_args()
folder = arguments.output / "data"
comm = MPI.COMM_WORLD

# ## Generation
#
# The settings say which fields, on which grid, and how many of them. The correlation length is itself random here. A
# block is the unit of work: two realizations, in a file of their own. Each rank takes blocks until there are none left.

config = load_config(
    None,
    [
        f"grid.coarse={arguments.coarse}",
        f"grid.fine={8 * arguments.coarse}",
        f"grid.coefficient={4 * arguments.coarse}",
        "field.kind=hierarchical",
        "field.correlation_length={uniform = [0.05, 0.25]}",
        f"dataset.realizations={arguments.realizations}",
        "dataset.block=2",
        "dataset.seed=7",
    ],
)
generate(config, folder, overwrite=True)
comm.Barrier()

# ## Interruption and resume
#
# A job that is stopped leaves whole blocks and nothing else. To see this without waiting for one, we remove two blocks
# and resume: only these two are computed again. A realization depends on the seed and on its number only, so that it
# comes back with the same bits, on any number of ranks.

before = Dataset(folder).S(2)
comm.Barrier()
if comm.rank == 0:
    for block in (1, 3):
        (folder / "blocks" / f"{block:06d}.h5").unlink()
    print(f"finished before the resume: {len(Dataset(folder, partial=True).finished)} of {arguments.realizations}")
comm.Barrier()
generate(config, folder, resume=True)
comm.Barrier()

# All that follows needs one process only. PETSc, which the first use of FEM loads, must be loaded by all of them: the
# import of `solve_fine` above sees to that.

if comm.rank == 0:
    dataset = Dataset(folder)
    print(f"finished after it: {len(dataset.finished)}, the same bits: {np.array_equal(dataset.S(2), before)}")

    # ## What is in the files
    #
    # `dataset.h5` gathers all blocks; any program that reads HDF5 opens it.

    with h5py.File(folder / "dataset.h5") as file:
        for name, values in file.items():
            print(f"{name:10s} {values.dtype!s:8s} {values.shape}")

    # `Dataset` reads the same realization by realization, and knows the grid, the settings and the split into
    # training, validation and test set.

    print(f"grid: {dataset.grid}")
    print(f"field: {dataset.field_settings}")
    print(f"parameters of realization 0: {dataset.parameters(0)}")
    print("training, validation, test:", *(len(part) for part in dataset.split()))

    # The local matrices are all that is needed for a coarse solution, for any right-hand side.

    u_lod = solve_coarse(dataset.grid, coarse_operator(dataset.grid, dataset.S(0)), f=1.0)
    u_fem = solve_fine(dataset.grid, dataset.A(0), f=1.0, comm=MPI.COMM_SELF).values()
    print(f"relative L2 error of the stored PG-LOD against FEM: {relative_l2(prolong(dataset.grid, u_lod), u_fem):.2e}")

    # ## Verification
    #
    # Checksums, zero row and column sums, and some local matrices computed again with DOLFINx.

    found = verify_dataset(dataset, sample=4)
    print(f"{found.realizations} realizations, problems: {found.problems or 'none'}")
    print(f"largest row or column sum {found.largest_sum:.0e}, largest difference {found.largest_difference:.0e}")

    # ## Pictures
    #
    # A coefficient of the dataset, and one of its local matrices: a column for each node of the element, drawn at the
    # nodes of the patch.

    middle = dataset.grid.num_elements // 2 + dataset.grid.coarse[0] // 2
    plot_coefficient(arguments.output / "coefficient.png", dataset.A(0))
    plot_local_matrix(arguments.output / "local_matrix.png", dataset.grid, {"$S_T$": dataset.S(0)[middle]})

# ![A coefficient of the dataset](out_dataset/coefficient.png)
#
# ![The local matrix of an element in the middle](out_dataset/local_matrix.png)
