"""The paper's experiments from data to report."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from nnlod_fenics.dataset.folder import locked
from nnlod_fenics.errors import InputError
from nnlod_fenics.grid import Grid
from nnlod_fenics.output.files import replacing
from nnlod_fenics.output.paraview import write_results
from nnlod_fenics.progress import tell
from nnlod_fenics.reproduce.cache import Cache
from nnlod_fenics.reproduce.experiments import EXPERIMENTS, SCALES, Scale, select
from nnlod_fenics.reproduce.findings import findings
from nnlod_fenics.reproduce.pictures import draw
from nnlod_fenics.reproduce.pipeline import Pipeline
from nnlod_fenics.reproduce.report import render
from nnlod_fenics.reproduce.results import Outcome, collect
from nnlod_fenics.surrogate.storage import read_json, write_json

__all__ = ["reproduce"]

_RESULT = "result.json"


def reproduce(
    names: list[str], scale: str | Scale = "small", output: str | Path = "results/reproduce", device: str = "cpu"
) -> dict[str, dict[str, Any]]:
    """Run experiments of the paper, or take what is finished from the cache, and write their reports.

    Args:
        names: Of ``"1"``, ``"2"``, ``"3"``, ``"1-H"``, ``"2-H"``, ``"3-H"``; or ``"all"``.
        scale: ``"small"``, ``"paper"``, or a scale of one's own.
        output: Folder for ``cache`` and, for each experiment, ``report.html``, ``result.json`` and ``paraview``.
        device: Where networks are trained, ``"cpu"`` or ``"cuda"``.

    Returns:
        What the ``result.json`` of each experiment holds.

    Raises:
        InputError: If an argument does not fit, or another job is at work in the folder.
    """
    chosen, size = select(names), _scale(scale)
    folder = Path(output) / size.name
    pipeline = Pipeline(size, Cache(folder / "cache"), device)
    outcomes = []
    with locked(folder / "cache"):
        for experiment in chosen:
            start = time.perf_counter()
            outcomes.append(collect(pipeline, experiment))
            tell(f"experiment {experiment.name}: {time.perf_counter() - start:.0f} s in this run")
    results = _others(folder, size) | {outcome.experiment.name: outcome.numbers for outcome in outcomes}
    return {outcome.experiment.name: _write(folder / outcome.experiment.name, outcome, results) for outcome in outcomes}


def _scale(scale: str | Scale) -> Scale:
    if isinstance(scale, Scale):
        return scale
    if scale not in SCALES:
        raise InputError(f"scale must be one of {list(SCALES)}, got {scale!r}.")
    return SCALES[scale]


def _others(folder: Path, scale: Scale) -> dict[str, Any]:
    """Results that earlier runs of the same sizes have left, for findings that compare experiments."""
    found = {name: read_json(folder / name / _RESULT) for name in EXPERIMENTS if (folder / name / _RESULT).exists()}
    return {name: numbers for name, numbers in found.items() if numbers.get("sizes") == scale.as_dict()}


def _write(folder: Path, outcome: Outcome, results: dict[str, Any]) -> dict[str, Any]:
    """The files of an experiment."""
    found = findings(outcome.experiment.name, results)
    numbers = outcome.numbers | {"findings": [item.as_dict() for item in found]}
    write_json(folder / _RESULT, numbers)
    _write_paraview(folder / "paraview", outcome)
    with tempfile.TemporaryDirectory() as pictures, replacing(folder / "report.html") as temporary:
        temporary.write_text(render(numbers, draw(outcome, Path(pictures)), found), encoding="utf-8")
    tell(f"report in {folder / 'report.html'}")
    return numbers


def _write_paraview(folder: Path, outcome: Outcome) -> None:
    grid = Grid(**outcome.numbers["grid"])
    fields = {name: u[0] for name, u in outcome.solutions.items()}
    fields |= {f"{name}, mean": u.mean(axis=0) for name, u in outcome.solutions.items()}
    write_results(folder, grid, np.exp(outcome.Z), fields)
