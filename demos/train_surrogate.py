# # From a dataset to NN-LOD
#
# This demo illustrates how to
#
# - generate a dataset of fields and local matrices (run it under `mpirun` to do so in parallel),
# - train a network on it,
# - replace the corrector problems of a new realization by one forward pass.

import argparse
import json
from pathlib import Path

from mpi4py import MPI

from nnlod_fenics import NNLOD, solve
from nnlod_fenics.config import load_config
from nnlod_fenics.dataset import Dataset
from nnlod_fenics.dataset.generate import generate
from nnlod_fenics.norms import relative_l2
from nnlod_fenics.output.figures import plot_loss, plot_solutions
from nnlod_fenics.training import train

parser = argparse.ArgumentParser()
parser.add_argument("--realizations", type=int, default=60)
parser.add_argument("--epochs", type=int, default=20)
parser.add_argument("--output", type=Path, default=Path("out_train_surrogate"))
arguments = parser.parse_args()

# ## Settings
#
# The same keys as in a TOML file; all others have the demo's defaults.

config = load_config(
    None,
    [
        "grid.coarse=8",
        "grid.fine=64",
        "grid.coefficient=32",
        "field.variance=0.5",
        "field.correlation_length=0.1",
        f"dataset.realizations={arguments.realizations}",
        f"training.epochs={arguments.epochs}",
    ],
)

# ## Data
#
# Each rank takes blocks of realizations until there are none left.

generate(config, arguments.output / "data", overwrite=True)
MPI.COMM_WORLD.Barrier()

# ## Training and use, on the first rank

if MPI.COMM_WORLD.rank == 0:
    dataset = Dataset(arguments.output / "data")
    train(dataset, arguments.output / "model", settings=config.training, overwrite=True)
    model = NNLOD.load(arguments.output / "model")
    print(f"test loss (4.1): {model.test_loss:.2e}")
    history = json.loads((arguments.output / "model" / "loss.json").read_text())
    plot_loss(arguments.output / "loss.png", [h["train"] for h in history], [h["validation"] for h in history])

    # A fresh realization, from another stage of the random streams than the dataset.
    A = config.make_field().sample(seed=0, index=0, stage=1).A
    u_lod = solve(model.grid, A, method="lod").u
    u_nn = solve(model.grid, A, method="nn", model=model).u
    plot_solutions(arguments.output / "solutions.png", {"PG-LOD": u_lod, "NN-LOD": u_nn})
    print(f"relative L2 error of NN-LOD against PG-LOD: {relative_l2(u_nn, u_lod):.2e}")

# ![The loss](out_train_surrogate/loss.png)
#
# ![The solutions](out_train_surrogate/solutions.png)
