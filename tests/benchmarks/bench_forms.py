"""The Petrov–Galerkin form against the Galerkin form, exact and learned from equal data: time and error of u.

    python tests/benchmarks/bench_forms.py forms --fields 200 2000 --epochs 30

A dataset and a model for each form and number of fields are kept in the folder given; a run that was stopped goes on
where it was, and what is there is not made again. Prints tables in Markdown. Fields of the training are those of
demos/config/universal-2d.toml, those of the test are of other generators (tests/kinds.py). Needs no DOLFINx.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import time
from pathlib import Path

import numpy as np
import torch

from nnlod_fenics import NNLOD, Grid, generate, load_config, local_matrices, train
from nnlod_fenics.config import TrainingSettings
from nnlod_fenics.lod.coarse import CoarseSolver, coarse_operator
from nnlod_fenics.problem import Problem
from nnlod_fenics.runtime.files import write_json

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "tests"))
from kinds import coarse_truth, make_coefficient

FORMS = {"PG ℓ = 2": ("petrov-galerkin", 2), "G ℓ = 1": ("galerkin", 1), "G ℓ = 2": ("galerkin", 2)}
CASES = (
    ("lognormal", 0.5),
    ("lognormal", 1.0),
    ("lognormal, rough", 4.0),
    ("lognormal, rough", 9.0),
    ("anisotropic", 2.0),
    ("anisotropic, turned", 2.0),
    ("two scales", 1.5),
    ("trend", 1e2),
    ("conductive inclusions", 50.0),
    ("conductive inclusions", 1e6),
    ("poor inclusions", 0.02),
    ("weak channels", 50.0),
    ("channels", 1e4),
    ("barriers", 0.02),
    ("jumps", 1.5),
    ("checkerboards", 1e1),
    ("crossing layers", 1e2),
    ("noise", 1e3),
    ("grains", 1e2),
    ("fractures", 1e2),
)


def grid_of(form: str) -> Grid:
    return Grid(2, 16, 128, FORMS[form][1], coefficient=64)


def seconds_of(work, repeats: int = 3) -> float:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def dataset_of(form: str, fields: int, folder: Path) -> Path:
    """Generate, or go on; how long a field takes is measured by itself, as a run may be stopped."""
    name, ell = FORMS[form]
    path = folder / f"data-{name}-{ell}-{fields}"
    overrides = [f"dataset.realizations={fields}", f"dataset.form={name}", f"grid.ell={ell}", "dataset.seed=1"]
    return Path(generate(load_config(ROOT / "demos/config/universal-2d.toml", overrides=overrides), path, resume=True))


def model_of(form: str, fields: int, epochs: int, folder: Path) -> Path:
    path = folder / f"model-{'-'.join(map(str, FORMS[form]))}-{fields}-{epochs}"
    if not (path / "errors.safetensors").exists():  # which comes last
        settings = TrainingSettings(epochs=epochs, augment=True)
        train(dataset_of(form, fields, folder), path, settings=settings, resume=path.exists())
    return path


def truths(folder: Path, seeds: int) -> list[dict]:
    """Coefficients and I_H u_h, which all forms share."""
    path, grid = folder / f"truth-{seeds}.npz", grid_of("G ℓ = 1")
    if not path.exists():
        A = np.stack([make_coefficient(kind, seed, grid, level) for kind, level in CASES for seed in range(seeds)])
        u = np.stack([coarse_truth(grid, each, Problem()) for each in A])
        np.savez(path, A=A, u=u)
    stored = np.load(path)
    names = [f"{kind}, {level:g}" for kind, level in CASES for _ in range(seeds)]
    return [{"name": name, "A": A, "u": u} for name, A, u in zip(names, stored["A"], stored["u"], strict=True)]


def errors_of(grid: Grid, matrices, cases: list[dict]) -> dict[str, list[float]]:
    """Relative L² error and bias of u by kind, means over its fields."""
    solver, found = CoarseSolver(grid, Problem()), {}
    for case in cases:
        u = solver.solve(coarse_operator(grid, matrices(case["A"])))
        error, bias = np.linalg.norm(u - case["u"]) / np.linalg.norm(case["u"]), (u - case["u"]).sum() / case["u"].sum()
        found.setdefault(case["name"], []).append((float(error), float(bias)))
    return {name: np.mean(values, axis=0).tolist() for name, values in found.items()}


def stage(path: Path, work) -> dict:
    """The result of a stage, kept in a file."""
    if not path.exists():
        write_json(path, work())
    return json.loads(path.read_text())


def exact(form: str, cases: list[dict]) -> dict:
    grid, name = grid_of(form), FORMS[form][0]
    A = cases[0]["A"]
    return {
        "data": seconds_of(lambda: local_matrices(grid, A, form=name)),
        "errors": errors_of(grid, lambda A: local_matrices(grid, A, form=name), cases),
    }


def learned(form: str, fields: int, epochs: int, folder: Path, cases: list[dict]) -> dict:
    path, grid = model_of(form, fields, epochs, folder), grid_of(form)
    model = NNLOD.load(path)
    S = model.predict(grid, cases[0]["A"][None])[0].numpy()
    solver, K = CoarseSolver(grid, Problem()), coarse_operator(grid, S)
    history = json.loads((path / "loss.json").read_text())
    return {
        "training": sum(entry["seconds"] for entry in history),
        "test loss": model.test_loss,
        "network": seconds_of(lambda: model.predict(grid, cases[0]["A"][None])),
        "assembly": seconds_of(lambda: coarse_operator(grid, S)),
        "solve": seconds_of(lambda: solver.solve(K)),
        "errors": errors_of(grid, lambda A: model.predict(grid, A[None])[0].numpy(), cases),
    }


def table(rows: list[list[str]], head: list[str]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def report(results: dict[tuple[str, int], dict]) -> str:
    """Times, and errors of u by kind with the bias in brackets; columns are forms and numbers of fields."""
    names = [form if not fields else f"{form}, {fields} fields" for form, fields in results]
    units = {"data": (1e3, "data, ms a field"), "training": (1 / 60, "training, min")}
    units |= {step: (1e3, f"{step}, ms") for step in ("network", "assembly", "solve")} | {"test loss": (1, "test loss")}
    times = [
        [label, *(f"{factor * found[key]:.3g}" if key in found else "" for found in results.values())]
        for key, (factor, label) in units.items()
    ]
    kinds = next(iter(results.values()))["errors"]
    errors = [
        [kind, *("{:.2g} ({:+.2g})".format(*(100 * v for v in found["errors"][kind])) for found in results.values())]
        for kind in kinds
    ]
    return f"{table(times, ['', *names])}\n\n{table(errors, ['error of u (bias), %', *names])}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where datasets, models and results are kept")
    parser.add_argument("--forms", nargs="+", choices=FORMS, default=["PG ℓ = 2", "G ℓ = 1"])
    parser.add_argument("--fields", type=int, nargs="*", default=[200], help="sizes of datasets, none for exact only")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--seeds", type=int, default=3, help="fields of each kind")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    given.folder.mkdir(parents=True, exist_ok=True)
    cases, results = truths(given.folder, given.seeds), {}
    for fields in (0, *given.fields):
        for form in given.forms:
            name = "-".join(map(str, (*FORMS[form], fields, given.epochs, given.seeds)))
            path = given.folder / f"result-{name}.json"
            results[form, fields] = stage(
                path,
                lambda form=form, fields=fields: (
                    learned(form, fields, given.epochs, given.folder, cases) if fields else exact(form, cases)
                ),
            )
            print(f"{platform.machine()}, {given.threads} thread(s)\n\n{report(results)}\n", flush=True)


if __name__ == "__main__":
    main()
