"""The main job in small: generate, train, compress a fresh realization, solve it in three ways, report."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from nnlod_fenics.config import Config, load_config, write_config
from nnlod_fenics.dataset import Dataset
from nnlod_fenics.dataset.folder import CONTENTS as DATASET
from nnlod_fenics.grid import Grid
from nnlod_fenics.network import NNLOD
from nnlod_fenics.output import figures
from nnlod_fenics.runtime.files import read_json, write_json, write_text
from nnlod_fenics.runtime.folder import Contents, output_folder
from nnlod_fenics.runtime.launcher import available_cores, check_alone
from nnlod_fenics.solvers import NAMES
from nnlod_fenics.training import train
from nnlod_fenics.training.fit import CONTENTS as TRAINING
from nnlod_fenics.workflows.evaluate import CONTENTS as EVALUATION
from nnlod_fenics.workflows.evaluate import LOD, write_evaluation
from nnlod_fenics.workflows.generation import launch_generation

__all__ = ["SETTINGS", "run", "summary"]

CONTENTS = Contents(
    "a demo",
    "config.toml",
    (
        *("config.toml", "report.md", "loss.png", *EVALUATION.files),
        *(f"data/{pattern}" for pattern in (*DATASET.files, r"\.lock")),
        *(f"model/{pattern}" for pattern in (*TRAINING.files, r"\.lock")),
    ),
    resumable=False,
)

# What differs from the defaults, so that the demo takes minutes on two cores.
SETTINGS = ("network.options={channels = 16, means = 16}", "training.epochs=15")
"""Settings of the demo, where they differ from the defaults."""


def run(output: str | Path = "results/demo", config: Config | None = None, overwrite: bool = False) -> dict[str, Any]:
    """Run the whole pipeline.

    Args:
        output: Folder for data, model, figures, ParaView files and ``report.md``.
        config: Settings; the defaults with :data:`SETTINGS` if None.
        overwrite: Replace what is there.

    Returns:
        The figures of the report.

    Raises:
        InputError: If the folder already holds a run or other files, or a step fails.
    """
    check_alone("the demo")
    config = config or load_config(None, SETTINGS)
    with output_folder(output, CONTENTS, overwrite=overwrite) as folder:
        return _run(folder, config)


def _run(folder: Path, config: Config) -> dict[str, Any]:
    seconds: dict[str, float] = {}
    start = time.perf_counter()
    ranks = available_cores()
    launch_generation(write_config(folder, config), folder / "data", ranks)
    seconds["generate"] = time.perf_counter() - start
    start = time.perf_counter()
    dataset, training = Dataset(folder / "data"), config.training
    train(dataset, folder / "model", config.network.name, config.network.options, training)
    seconds["train"] = time.perf_counter() - start
    start = time.perf_counter()
    model = NNLOD.load(folder / "model")
    result = write_evaluation(model, folder, dataset, config.dataset.seed)
    seconds["evaluate"] = time.perf_counter() - start
    history = read_json(folder / "model" / "loss.json")
    drops = [epoch + 1 for epoch, _ in training.drops if epoch < len(history)]
    losses = {name: [entry[name] for entry in history] for name in ("train", "validation")}
    figures.plot_loss(folder / "loss.png", losses["train"], losses["validation"], drops)
    result |= {"steps": seconds, "ranks": ranks, "realizations": len(dataset), "losses": model.description["losses"]}
    write_json(folder / "evaluation.json", result)
    write_text(folder / "report.md", _report(result))
    return result


def summary(result: dict[str, Any]) -> list[tuple[str, str]]:
    """The rows of the closing table."""
    rows = [
        ("realizations", str(result["realizations"])),
        (
            "loss (4.1): training, validation, test",
            ", ".join(f"{result['losses'][name]:.2e}" for name in ("train", "validation", "test")),
        ),
        ("contrast of the fresh realization", f"{result['contrast']:.0f}"),
    ]
    rows += [(name, f"{value:.2e}") for name, value in result["errors"].items()]
    rows += [(f"seconds: {name}", f"{value:.1f}") for name, value in result["steps"].items()]
    for method, steps in result["seconds"].items():
        detail = ", ".join(f"{step} {value:.3f}" for step, value in steps.items())
        name = LOD[result["form"]] if method == "lod" else NAMES[method]
        rows.append((f"seconds: {name}", f"{sum(steps.values()):.3f} ({detail})"))
    return rows


def _mesh(grid: Grid) -> str:
    """The discretisation: by mesh widths on the unit cube, by numbers of elements on other domains."""
    if grid.unit_cube:
        H, h, eps = (f"1/{counts[0]}" for counts in (grid.coarse, grid.fine, grid.coefficient))
        return f"H = {H}, h = {h}, ε = {eps}, ℓ = {grid.ell}, d = {grid.dim}"
    counts = [" × ".join(map(str, n)) for n in (grid.coarse, grid.fine, grid.coefficient, grid.lengths)]
    holes = grid.num_elements - len(grid.active_elements)
    return (
        f"{counts[0]} coarse elements{f', {holes} of them inactive' if holes else ''}, {counts[1]} fine cells, "
        f"{counts[2]} coefficient cells, ℓ = {grid.ell}, sides {counts[3]}, u given on {', '.join(grid.dirichlet)}"
    )


def _report(result: dict[str, Any]) -> str:
    table = "\n".join(f"| {name.replace('|', '‖')} | {value} |" for name, value in summary(result))
    return f"""# NN-LOD demo

{_mesh(Grid.from_dict(result["grid"]))};
field: {result["field"]}; data generated on {result["ranks"]} MPI ranks.

| | |
|---|---|
{table}

![coefficient](coefficient.png)
![solutions](solutions.png)
![solutions and their differences from FEM](differences.png)
![cross-sections](cross_sections.png)
![loss](loss.png)
![local matrix](local_matrix.png)

`paraview/` holds the coefficient, the fine and the coarse solutions for ParaView (5.12 or newer: File > Open).
"""
