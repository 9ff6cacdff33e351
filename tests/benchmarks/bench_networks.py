"""Measure the networks against each other: the same data, the same epochs, in one run.

``python tests/benchmarks/bench_networks.py [--device cuda] [--realizations 300] [--epochs 60] …`` makes realizations
of a lognormal field, trains the paper's network, the structured one, the structured one on a tenth of the
realizations, and one of the same shape and cost that must learn the symmetries from turned samples; and tells the test
loss (4.1), the mean relative error of a local matrix, the bias of the amplitude of the coarse solution over fresh
fields, and seconds. Needs neither DOLFINx nor PETSc.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nnlod_fenics import NNLOD, Grid
from nnlod_fenics.fields import make_field
from nnlod_fenics.lod.coarse import CoarseSolver, coarse_operator
from nnlod_fenics.network import matrix_errors
from nnlod_fenics.network.equivariant import GroupConvolution, Lifting, MatrixHead
from nnlod_fenics.network.registry import NETWORKS
from nnlod_fenics.network.structured import StructuredNetwork
from nnlod_fenics.training import PAPER, TrainingData, TrainingSettings, train
from nnlod_fenics.training.online import OnlineDataset
from nnlod_fenics.window import Window


def untied(window: Window, **options: Any) -> StructuredNetwork:
    """The structured network with independent weights in the place of turned copies: as fast, not equivariant."""
    network = StructuredNetwork(window, **options)
    for layer in network.modules():
        if isinstance(layer, (Lifting, GroupConvolution, MatrixHead)):
            channels, size = layer.weight.shape[:2], layer.index.numel()
            layer.weight = torch.nn.Parameter(torch.randn(*channels, size) * layer.weight.detach().std())
            layer.index = torch.arange(size)
    head = network.matrix.head
    head.orbit = torch.arange(head.orbit.numel())
    head.bias = torch.nn.Parameter(torch.zeros(len(head.orbit)))
    return network


NETWORKS["untied"] = untied


def make(grid: Grid, variance: float, count: int, device: str) -> tuple[np.ndarray, np.ndarray]:
    """Fields and local matrices in single precision, as they are trained on."""
    law = make_field({"kind": "lognormal", "variance": variance}, grid.dim, grid.coefficient)
    source = OnlineDataset(grid, law, seed=0, realizations=count, device=device)
    parts = [source.arrays(range(start, min(start + 16, count))) for start in range(0, count, 16)]
    Z, S = (torch.cat(part).float().cpu().numpy() for part in zip(*parts, strict=True))
    return Z, S


def solutions(grid: Grid, S: np.ndarray) -> np.ndarray:
    """Coarse solutions for f = 1 at all nodes, shape ``(k, n)``."""
    solver = CoarseSolver(grid)
    return np.stack([solver.solve(coarse_operator(grid, matrices)).ravel() for matrices in S])


def run(data: TrainingData, fresh: tuple[np.ndarray, np.ndarray], name: str, arguments: Any, extra: dict) -> dict:
    """Train one network and measure it."""
    base = {"epochs": arguments.epochs, "device": arguments.device}
    if name == "paper":
        base = PAPER | base | {"drops": [[arguments.epochs // 2, 1e-4], [3 * arguments.epochs // 4, 1e-5]]}
    settings = TrainingSettings.from_dict(base | extra)
    options = {} if name == "paper" else arguments.options
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        train(data, Path(folder) / "m", name, options, settings)
        seconds = time.perf_counter() - start
        model = NNLOD.load(Path(folder) / "m", device=arguments.device)
    Z, S = fresh
    predicted = np.concatenate(
        [model.predict(model.grid, part.exp()).cpu().numpy() for part in torch.from_numpy(Z).split(10)]
    )
    errors = matrix_errors(predicted, S)
    exact, surrogate = solutions(data.grid, S), solutions(data.grid, predicted)
    return {
        "network": name,
        "parameters": model.description["network"]["parameters"],
        "realizations": len(data.train[0]),
        "test loss": model.test_loss,
        "loss, fresh fields": float((errors**2).mean()),
        "mean relative error": float(errors.mean()),
        "amplitude bias": float((surrogate - exact).mean() / exact.mean()),
        "relative L2 error of u": float(
            np.mean(np.linalg.norm(surrogate - exact, axis=1) / np.linalg.norm(exact, axis=1))
        ),
        "seconds": seconds,
    }


def main() -> None:
    """Run the benchmark and print a line of JSON for each network."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, value in (("coarse", 16), ("fine", 128), ("coefficient", 64), ("ell", 2), ("dim", 2)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--variance", type=float, default=1.0)
    parser.add_argument("--realizations", type=int, default=200, help="training realizations")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--fields", type=int, default=200, help="fresh fields for the bias")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--options", type=json.loads, default={}, help="options of the structured network, JSON")
    parser.add_argument("--settings", type=json.loads, default={}, help="further settings of its training, JSON")
    parser.add_argument("--only", choices=("paper", "structured", "tenth", "augmented"))
    arguments = parser.parse_args()
    grid = Grid(arguments.dim, arguments.coarse, arguments.fine, arguments.ell, arguments.coefficient)
    n, held_out = arguments.realizations, max(arguments.realizations // 8, 2)
    Z, S = make(grid, arguments.variance, n + 2 * held_out + arguments.fields, arguments.device)
    parts = np.split(np.arange(len(Z)), np.cumsum([n, held_out, held_out]))
    sets = [(Z[part], S[part]) for part in parts]
    for label, name, count in (
        ("paper", "paper", n),
        ("structured", "structured", n),
        ("tenth", "structured", n // 10),
        ("augmented", "untied", n),
    ):
        if arguments.only in (None, label):
            few = (sets[0][0][:count], sets[0][1][:count])
            data = TrainingData(grid, few, sets[1], sets[2], {"field": {}, "seed": 0, "realizations": count})
            extra = {} if name == "paper" else {"augment": label == "augmented"} | arguments.settings
            print(json.dumps(run(data, sets[3], name, arguments, extra)), flush=True)


if __name__ == "__main__":
    main()
