# # A law of your own
#
# This demo illustrates how to
#
# - define a law of random coefficients that the package does not know,
# - generate a dataset of it that keeps the parameters of each realization,
# - make it known by a name, so that datasets and models can refer to it,
# - train a network on it, and solve for a fresh realization.
#
# ## The law
#
# Tilted layers: the angle, the thicknesses and the conductivities of the layers are random. A law is any object with a
# method `sample(seed, index, stage)` that returns a `FieldSample` with $Z = \log A$ on the cells of $T_\varepsilon$,
# indexed `Z[y, x]`. The same arguments must give the same field, so the generator of random numbers is seeded with all
# of them. `stage` keeps datasets, evaluations and Monte Carlo apart.
#
# `settings` describes the law as a section of a settings file. Datasets and models store it, and find the law again by
# it.

import argparse
import json
from pathlib import Path

import numpy as np
from mpi4py import MPI

from nnlod_fenics import NNLOD, Dataset, FieldSample, generate, load_config, make_field, register_field, solve, train
from nnlod_fenics.fem import solve_fine  # loads PETSc, which all processes must do together
from nnlod_fenics.norms import relative_l2
from nnlod_fenics.output.figures import plot_coefficient, plot_loss, plot_solutions
from nnlod_fenics.runtime.streams import Stream

parser = argparse.ArgumentParser()
parser.add_argument("--realizations", type=int, default=80)
parser.add_argument("--epochs", type=int, default=15)
parser.add_argument("--output", type=Path, default=Path("out_own_law"))
arguments = parser.parse_args()


class TiltedLayers:
    """Layers of random thickness and conductivity, tilted by a random angle of at most `tilt` degrees."""

    def __init__(self, dim, cells, contrast=10.0, tilt=30.0):
        if dim != 2:
            raise ValueError("tilted layers are for two dimensions")
        self.cells, self.contrast, self.tilt = cells, contrast, tilt

    def sample(self, seed, index, stage=0):
        rng = np.random.default_rng([seed, stage, index])
        angle = rng.uniform(-self.tilt, self.tilt)
        x = (np.arange(self.cells) + 0.5) / self.cells
        height = np.cos(np.deg2rad(angle)) * x[:, None] - np.sin(np.deg2rad(angle)) * x[None, :]
        tops = np.cumsum(rng.uniform(0.04, 0.16, size=60)) - 1.0  # from below to above the tilted square
        conductivities = rng.uniform(-0.5, 0.5, size=61) * np.log(self.contrast)
        return FieldSample(conductivities[np.searchsorted(tops, height)], {"angle": angle})

    def settings(self):
        return {"kind": "tilted-layers", "contrast": self.contrast, "tilt": self.tilt}


# ## Dataset
#
# `generate` takes the law as an argument. The parameters that its samples carry, here the angle, are stored beside the
# fields. Like every generation, this one may run under `mpirun`.

config = load_config(
    None,
    [
        "grid.coarse=8",
        "grid.fine=64",
        "grid.coefficient=32",
        f"dataset.realizations={arguments.realizations}",
        f"training.epochs={arguments.epochs}",
    ],
)
law = TiltedLayers(dim=2, cells=32)
generate(config, arguments.output / "data", overwrite=True, law=law)
MPI.COMM_WORLD.Barrier()

if MPI.COMM_WORLD.rank == 0:
    dataset = Dataset(arguments.output / "data")
    angles = [dataset.parameters(k)["angle"] for k in range(len(dataset))]
    print(f"angles of the first realizations: {np.round(angles[:4], 1)} degrees")
    for k in range(2):
        plot_coefficient(arguments.output / f"coefficient-{k}.png", dataset.A(k), f"angle {angles[k]:.0f}°")

# ![A realization](out_own_law/coefficient-0.png)
#
# ![Another one](out_own_law/coefficient-1.png)
#
# ## Name
#
# Files hold the name of a law and its settings, but no code. `register_field` tells the package what the name means.
# From then on, `field.kind = "tilted-layers"` works in settings, and a model knows what it was trained on.

register_field("tilted-layers", TiltedLayers)

# ## Training and solution

if MPI.COMM_WORLD.rank == 0:
    train(dataset, arguments.output / "model", settings=config.training, overwrite=True)
    model = NNLOD.load(arguments.output / "model")
    print(f"law of the model: {model.law}")
    print(f"test loss (4.1): {model.test_loss:.2e}")
    history = json.loads((arguments.output / "model" / "loss.json").read_text())
    plot_loss(arguments.output / "loss.png", [h["train"] for h in history], [h["validation"] for h in history])

    # A fresh realization, of the law that the model file names, from a stream that no dataset uses.

    same_law = make_field(model.law, model.grid.dim, model.grid.coefficient)
    A = same_law.sample(seed=0, index=0, stage=Stream.FRESH).A
    u_fem = solve_fine(model.grid, A, f=1.0, comm=MPI.COMM_SELF).values()
    u_lod, u_nn = solve(model.grid, A, "lod").u, solve(model.grid, A, "nn", model=model).u
    plot_solutions(arguments.output / "solutions.png", {"FEM": u_fem, "PG-LOD": u_lod, "NN-LOD": u_nn})
    print(f"relative L2 error of NN-LOD against PG-LOD: {relative_l2(u_nn, u_lod):.2e}")

# ![The loss](out_own_law/loss.png)
#
# ![FEM, PG-LOD and NN-LOD](out_own_law/solutions.png)
