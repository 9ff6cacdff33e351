"""What else a user could do: error against time of every method, by kind of field.

    python tests/benchmarks/bench_methods.py --model universal-2d --output out_bench_methods

On one thread: FEM at h by a direct solver (the truth), FEM on coarser meshes with averaged coefficients of every kind,
PG-LOD in both forms, NN-LOD of each model. One field a kind to warm up, the medians of the others. Prints a table of
errors of u at the coarse nodes against FEM at h (relative L², median) and of milliseconds a field; draws
``methods.png``: error against time, a panel for each kind.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch

from nnlod_fenics import Grid, make_solver
from nnlod_fenics.fields import make_field
from nnlod_fenics.network import NNLOD
from nnlod_fenics.norms import relative_l2
from nnlod_fenics.runtime.files import write_text
from nnlod_fenics.runtime.streams import Stream

matplotlib.use("Agg")
import matplotlib.pyplot as plt

NORMAL = {"kind": "lognormal", "unit": "H"}
LONG, TURNED = [4.0, 0.4], {"covariance": "Exponential", "angles": 0.5}


def two_phase(contrast: float, length: Any, share: float) -> dict[str, Any]:
    """Two phases with smooth variation inside them."""
    phases = {"kind": "two-phase", "unit": "H", "contrast": contrast, "share": share, "correlation_length": length}
    return {"kind": "sum", "laws": [phases, NORMAL | {"variance": 0.2, "correlation_length": 2.0}]}


KINDS: dict[str, dict[str, Any]] = {
    "isotropic, σ² = 1": NORMAL | {"variance": 1.0, "correlation_length": 0.8},
    "anisotropic 10:1, σ² = 2": NORMAL | {"variance": 2.0, "correlation_length": LONG},
    "the same, turned": NORMAL | {"variance": 2.0, "correlation_length": LONG} | TURNED,
    "two scales": {
        "kind": "sum",
        "laws": [NORMAL | {"variance": 0.5, "correlation_length": length} for length in (0.4, 5.0)],
    },
    "inclusions, 50": two_phase(50.0, 0.6, 0.2),
    "channels, 50": two_phase(50.0, LONG, 0.3),
}
GRIDS = {2: (16, 128, 64), 3: (8, 32, 32)}
STYLES = {"PG-LOD": "^", "Galerkin": "v", "NN-LOD": "D", "effective": "s", "geometric": "o"}


def candidates(grid: Grid, models: list[str]) -> dict[str, Callable[[], Any]]:
    """Solvers by the name in table and picture."""
    d = grid.dim
    found: dict[str, Callable[[], Any]] = {"FEM at h": lambda: make_solver("fem", grid)}

    def averaged(refine: int, mean: Any) -> Callable[[], Any]:
        return lambda: make_solver("averaged", grid, refine=refine, mean=mean)

    for refine in (1, 2, 4):
        means: dict[str, Any] = {
            "arithmetic": "arithmetic",
            "harmonic": "harmonic",
            f"power {1 - 2 / d:.2g}": 1 - 2 / d,
        }
        means |= {"geometric": "geometric", "effective": "effective"}
        for label, mean in means.items():
            if grid.cells_per_element % refine == 0:
                found[f"averaged, H/{refine}, {label}"] = averaged(refine, mean)
    found["PG-LOD, ℓ = 2" if d == 2 else "PG-LOD, ℓ = 1"] = lambda: make_solver("lod", _with(grid, 2 if d == 2 else 1))
    found["Galerkin LOD, ℓ = 1"] = lambda: make_solver("lod", _with(grid, 1), form="galerkin")
    for name in models:
        model = NNLOD.load(name)
        options = {"source_correctors": True} if model.predicts_loads else {}
        if model.window.dim == d:
            found[f"NN-LOD, {name}"] = lambda model=model, options=options: make_solver(  # type: ignore[misc]
                "nn", _with(grid, model.window.ell), model=model, **options
            )
    return found


def _with(grid: Grid, ell: int) -> Grid:
    return Grid.from_dict({**grid.as_dict(), "ell": ell})


def measure(grid: Grid, law: dict[str, Any], models: list[str], count: int) -> dict[str, tuple[float, float]]:
    """Median error and milliseconds a field of each method."""
    field = make_field(law, grid.dim, grid.coefficient, grid.lengths, grid.widths)
    fields = [field.sample(0, index, stage=Stream.FRESH).A for index in range(count + 1)]
    results: dict[str, tuple[float, float]] = {}
    truth: list[Any] = []
    for name, make in candidates(grid, models).items():
        solver, errors, times = make(), [], []
        for index, A in enumerate(fields):
            start = time.perf_counter()
            u = solver.solve_many([A])[0].coarse
            if index == 0:
                continue
            times.append(time.perf_counter() - start)
            if name == "FEM at h":
                truth.append(u)
            errors.append(relative_l2(u, truth[index - 1], grid))
        solver.destroy()
        results[name] = float(np.median(errors)), 1e3 * float(np.median(times))
    return results


def table(results: dict[str, dict[str, tuple[float, float]]]) -> str:
    """Errors by method and kind, and times of the first kind."""
    first = next(iter(results.values()))
    lines = [f"| method | ms a field | {' | '.join(results)} |", "|---|---|" + "---|" * len(results)]
    for name in first:
        cells = [f"{100 * kind[name][0]:.2g} %" for kind in results.values()]
        lines.append(f"| {name} | {first[name][1]:.3g} | {' | '.join(cells)} |")
    return "\n".join(lines)


def draw(results: dict[str, dict[str, tuple[float, float]]], path: Path) -> None:
    """Error against time, a panel for each kind."""
    rows = -(-len(results) // 3)
    figure, axes = plt.subplots(rows, min(len(results), 3), figsize=(12, 3.6 * rows), squeeze=False, sharey=True)
    for axis, (kind, methods) in zip(axes.flat, results.items(), strict=False):
        for label, marker in (
            ("PG-LOD", "^"),
            ("Galerkin", "v"),
            ("NN-LOD", "D"),
            ("effective", "s"),
            ("geometric", "o"),
        ):
            points = [(time, error) for name, (error, time) in methods.items() if label in name]
            if points:
                x, y = zip(*sorted(points), strict=True)
                axis.loglog(x, np.array(y) * 100, marker, ms=7, ls="-" if len(points) > 1 else "", label=label)
        axis.axvline(methods["FEM at h"][1], color="grey", ls=":", label="FEM at h")
        axis.set_title(kind, fontsize=10)
        axis.set_xlabel("ms a field, one thread")
    for axis in axes[:, 0]:
        axis.set_ylabel("error of $u$ against FEM, %")
    axes[0, 0].legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--dim", type=int, default=2, choices=sorted(GRIDS))
    parser.add_argument("--fields", type=int, default=5)
    parser.add_argument("--model", action="append", default=[])
    parser.add_argument("--output", type=Path, default=Path("out_bench_methods"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    given.output.mkdir(parents=True, exist_ok=True)
    coarse, fine, cells = GRIDS[given.dim]
    grid, results = Grid(given.dim, coarse, fine, 1, cells), {}
    kinds = KINDS if given.dim == 2 else {"isotropic, σ² = 1": KINDS["isotropic, σ² = 1"]}
    for kind, law in kinds.items():
        results[kind] = measure(grid, law, given.model, given.fields)
        print(kind, {name: f"{100 * e:.2g} %, {t:.3g} ms" for name, (e, t) in results[kind].items()}, flush=True)
        (given.output / f"methods-{given.dim}d.json").write_text(json.dumps(results, indent=1))
    write_text(given.output / f"methods-{given.dim}d.md", table(results))
    print(table(results))
    draw(results, given.output / f"methods-{given.dim}d.png")


if __name__ == "__main__":
    main()
