# # The models that come with the package
#
# This script made `nnlod_fenics/models/`: the default network on the demo's grid (H = 1/16, h = 1/128, ε = 1/64,
# ℓ = 2) for lognormal fields. Run the generation in parallel, on its own, then the training:
#
#     mpirun -n 4 python demos/train_shipped_models.py --variance 1.0 --only-data
#     python demos/train_shipped_models.py --variance 1.0 --epochs 20
#
# and the same with `--variance 0.5` and 10 epochs.

import argparse
from pathlib import Path

from nnlod_fenics import NNLOD, solve
from nnlod_fenics.config import load_config
from nnlod_fenics.dataset import Dataset
from nnlod_fenics.dataset.generate import generate
from nnlod_fenics.norms import relative_l2
from nnlod_fenics.training import train

parser = argparse.ArgumentParser()
parser.add_argument("--variance", type=float, default=0.5)
parser.add_argument("--realizations", type=int, default=2500)
parser.add_argument("--epochs", type=int, default=10)
parser.add_argument("--data", type=Path, default=Path("out_train_shipped_models"))
parser.add_argument("--output", type=Path, default=Path("nnlod_fenics/models"))
parser.add_argument("--only-data", action="store_true")
arguments = parser.parse_args()

config = load_config(
    None,
    [
        f"field.variance={arguments.variance}",
        f"dataset.realizations={arguments.realizations}",
        "dataset.seed=100",
        "dataset.dtype='float32'",
        f"training.epochs={arguments.epochs}",
        "training.warmup=1",
    ],
)
name = f"lognormal-{arguments.variance}"
generate(config, arguments.data / name, resume=True)
if not arguments.only_data:
    training = config.training
    train(Dataset(arguments.data / name), arguments.data / f"{name}-model", settings=training, resume=True)
    target = arguments.output / name
    target.mkdir(parents=True, exist_ok=True)
    for file in ("weights.safetensors", "errors.safetensors", "model.json", "loss.json"):
        (target / file).write_bytes((arguments.data / f"{name}-model" / file).read_bytes())

    # ## One fresh realization

    model = NNLOD.load(target)
    A = config.make_field().sample(seed=0, index=0, stage=1).A
    u_lod = solve(model.grid, A, method="lod").u
    u_nn = solve(model.grid, A, method="nn", model=model).u
    print(f"test loss (4.1): {model.test_loss:.2e}")
    print(f"relative L2 error of NN-LOD against PG-LOD: {relative_l2(u_nn, u_lod):.2e}")
