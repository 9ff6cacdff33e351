# # Models for coefficients that nobody trained for
#
# This script makes `universal-2d` and `universal-2d-fast`: networks for the window H/h = 8, H/ε = 4, that learned a
# whole family of fields (`config/universal-2d.toml`: smooth to rough, isotropic to 10:1 at any angle, two phases of
# contrast up to 100, layers, trends), on boxes and on domains with holes and no-flow faces. In stages, each of which is
# resumed:
#
#     mpirun -n 2 python demos/train_universal_models.py --only-data
#     python demos/train_universal_models.py --epochs 10
#     python demos/train_universal_models.py --epochs 10 --fast
#     python demos/train_universal_models.py --only-evaluate
#
# The last one prints errors by kind of field, of fields that are in no dataset.

import argparse
import json
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from nnlod_fenics import NNLOD, Grid, solve
from nnlod_fenics.config import load_config
from nnlod_fenics.dataset import Dataset
from nnlod_fenics.dataset.generate import generate
from nnlod_fenics.fields import make_field
from nnlod_fenics.lod.local import local_matrices
from nnlod_fenics.network import matrix_errors
from nnlod_fenics.norms import relative_l2
from nnlod_fenics.runtime.streams import Stream
from nnlod_fenics.training import train

Law = dict[str, Any]
FILES = ("weights.safetensors", "errors.safetensors", "model.json", "loss.json")
FAST = {"channels": 12, "means": 16, "embed_depth": 1, "mix_depth": 1, "head_depth": 1}

parser = argparse.ArgumentParser()
parser.add_argument("--realizations", type=int, default=3000)
parser.add_argument("--epochs", type=int, default=10)
parser.add_argument("--fast", action="store_true")
parser.add_argument("--fields", type=int, default=10, help="fields of each kind to evaluate")
parser.add_argument("--data", type=Path, default=Path("out_train_universal_models"))
parser.add_argument("--output", type=Path, default=Path("nnlod_fenics/models"))
parser.add_argument("--only-data", action="store_true")
parser.add_argument("--only-evaluate", action="store_true")
arguments = parser.parse_args()

# ## Data and training

config = load_config(
    Path(__file__).parent / "config" / "universal-2d.toml",
    [f"dataset.realizations={arguments.realizations}", "dataset.seed=2025", "dataset.block=10"],
)
name = "universal-2d-fast" if arguments.fast else "universal-2d"


def make_model() -> None:
    """Train, and put the model where the package finds it."""
    settings = config.training.model_copy(update={"epochs": arguments.epochs, "warmup": 0.5, "batch_size": 256})
    options = FAST if arguments.fast else {}
    folder = arguments.data / f"{name}-model"
    train(Dataset(arguments.data / "data"), folder, options=options, settings=settings, resume=True)
    target = arguments.output / name
    target.mkdir(parents=True, exist_ok=True)
    for file in FILES:
        (target / file).write_bytes((folder / file).read_bytes())


# ## Errors by kind of field

NORMAL = {"kind": "lognormal", "unit": "H"}
TURNED = {"covariance": "Exponential", "angles": 0.5}
LONG = [4.0, 0.4]


def two_phase(contrast: float, length: float | list[float], share: float = 0.2, **more: Any) -> Law:
    """Two phases with smooth variation inside them."""
    phases = {"kind": "two-phase", "unit": "H", "contrast": contrast, "share": share} | more
    phases["correlation_length"] = length
    smooth = NORMAL | {"variance": 0.2, "correlation_length": 2.0}
    return {"kind": "sum", "laws": [phases, smooth]}


KINDS: dict[str, Law] = {
    "isotropic, σ² = 0.5": NORMAL | {"variance": 0.5, "correlation_length": 0.8},
    "isotropic, σ² = 1": NORMAL | {"variance": 1.0, "correlation_length": 0.8},
    "isotropic, σ² = 4": NORMAL | {"variance": 4.0, "correlation_length": 0.8},
    "anisotropic 10:1, σ² = 2": NORMAL | {"variance": 2.0, "correlation_length": LONG},
    "the same, turned": NORMAL | {"variance": 2.0, "correlation_length": LONG} | TURNED,
    "two scales": {
        "kind": "sum",
        "laws": [NORMAL | {"variance": 0.5, "correlation_length": length} for length in (0.4, 5.0)],
    },
    "conductive inclusions, 50": two_phase(50.0, 0.6),
    "poor inclusions, 1/50": two_phase(0.02, 0.6),
    "channels, 50": two_phase(50.0, LONG, 0.3),
}


def evaluate(model: NNLOD, law: Law, grid: Grid, count: int) -> dict[str, float]:
    """Mean error of local matrices; errors of u_H against that by exact ones and against FEM: 95 % are smaller."""
    matrices, coarse, fine, exact = [], [], [], []
    field = make_field(law, grid.dim, grid.coefficient, grid.lengths, grid.widths)
    for index in range(count):
        A = field.sample(0, index, stage=Stream.FRESH).A
        K = local_matrices(grid, A, form=model.window.form)
        errors = matrix_errors(model.local_matrices(grid, A), K)
        matrices.append(float(np.nanmean(errors)))
        lod = solve(grid, A, "lod", form=model.window.form)
        u, fem = solve(grid, A, "nn", model=model, source_correctors=True).u, solve(grid, A, "fem").coarse
        coarse.append(relative_l2(u, lod.u, grid))
        fine.append(relative_l2(u, fem, grid))
        exact.append(relative_l2(lod.u, fem, grid))
    most = {"u against exact": coarse, "u against FEM": fine, "exact against FEM": exact}
    return {"matrix": float(np.mean(matrices))} | {key: float(np.quantile(v, 0.95)) for key, v in most.items()}


def evaluate_all() -> None:
    """All kinds, on a box, a larger one, and an L-shaped domain with no-flow faces."""
    corner = np.ones((16, 16), dtype=bool)
    corner[8:, 8:] = False
    grids = {
        "16 x 16": Grid(2, 16, 128, 1, 64),
        "64 x 64": Grid(2, 64, 512, 1, 256),
        "L-shaped, two faces no-flow": Grid(2, 16, 128, 1, 64, dirichlet=("xmin", "ymin"), active=corner),
    }
    results = {}
    for model_name in ("universal-2d", "universal-2d-fast"):
        if not (arguments.output / model_name).exists():
            continue
        model = NNLOD.load(arguments.output / model_name)
        for domain, grid in grids.items():
            start = perf_counter()
            model.local_matrices(grid, np.ones(grid.coefficient_shape))
            print(f"\n{model_name}, {domain}: local matrices in {1e3 * (perf_counter() - start):.0f} ms\n")
            print("| kind | matrix | u against exact | u against FEM | exact against FEM |\n|---|---|---|---|---|")
            for kind, law in KINDS.items():
                count = arguments.fields if grid.num_elements < 1000 else max(arguments.fields // 5, 1)
                found = evaluate(model, law, grid, count)
                results[f"{model_name}, {domain}, {kind}"] = found
                print(
                    f"| {kind} | " + " | ".join(f"{100 * value:.2f} %" for value in found.values()) + " |", flush=True
                )
    (arguments.data / "errors.json").write_text(json.dumps(results, indent=1))


arguments.data.mkdir(parents=True, exist_ok=True)
if not arguments.only_evaluate:
    generate(config, arguments.data / "data", resume=True)
    if not arguments.only_data:
        make_model()
        model = NNLOD.load(arguments.output / name)
        A = config.make_field().sample(0, 0, stage=Stream.FRESH).A
        u, exact = (
            solve(model.grid, A, method, **more).u
            for method, more in (
                ("nn", {"model": model, "source_correctors": True}),
                ("lod", {"form": model.window.form}),
            )
        )
        print(f"relative L2 error of NN-LOD against exact local matrices: {relative_l2(u, exact):.2e}")
else:
    evaluate_all()
