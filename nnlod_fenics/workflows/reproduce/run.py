"""The paper's experiments from data to report."""

from __future__ import annotations

import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

import numpy as np

from nnlod_fenics.errors import InputError, MissingDependencyError, NumericalError
from nnlod_fenics.grid import Grid
from nnlod_fenics.output.paraview import write_results
from nnlod_fenics.runtime.devices import find_device
from nnlod_fenics.runtime.files import read_json, write_json, write_text
from nnlod_fenics.runtime.folder import locked
from nnlod_fenics.runtime.launcher import check_alone
from nnlod_fenics.runtime.progress import tell
from nnlod_fenics.workflows.reproduce.cache import Cache
from nnlod_fenics.workflows.reproduce.experiments import EXPERIMENTS, SCALES, Experiment, Scale, select
from nnlod_fenics.workflows.reproduce.findings import findings
from nnlod_fenics.workflows.reproduce.pictures import draw
from nnlod_fenics.workflows.reproduce.pipeline import Pipeline
from nnlod_fenics.workflows.reproduce.report import render, render_index
from nnlod_fenics.workflows.reproduce.results import Outcome, collect, identity

__all__ = ["INDEX", "reproduce"]

INDEX = "index.html"
"""Name of the page that leads to all reports."""
_RESULT, _REPORT = "result.json", "report.html"
_TOLD = (InputError, MissingDependencyError, NumericalError, OSError)  # whose message says enough

Results = dict[str, dict[str, Any]]


def reproduce(
    names: list[str],
    scale: str | Scale = "small",
    output: str | Path = "results/reproduce",
    device: str = "cpu",
    small_only: bool = False,
) -> Results:
    """Run experiments of the paper, or take what is finished from the cache, and write their reports.

    Args:
        names: Of ``"1"``, ``"2"``, ``"3"``, ``"1-H"``, ``"2-H"``, ``"3-H"``; or ``"all"``.
        scale: ``"small"``, ``"paper"``, or a custom scale.
        output: Folder for a folder named after the scale, with ``cache``, for each experiment ``report.html``,
            ``result.json`` and ``paraview``, and ``index.html``, which leads to the reports that are there.
        device: Where networks are trained, ``"cpu"`` or ``"cuda"``.
        small_only: Leave out the large datasets and whatever needs them, and the networks trained from scratch. A
            later run with large datasets goes on with the data.

    Returns:
        What the ``result.json`` of each experiment holds.

    Raises:
        InputError: If an argument does not fit, or another job is at work in the folder; before anything is computed.
        NumericalError: If an experiment failed, in the end: the others are run all the same.
    """
    chosen, size = select(names), _scale(scale)
    if small_only:
        size = size.small_only()
    find_device(device, "device")
    check_alone("reproduce")
    folder = Path(output) / size.name
    with locked(folder / "cache"):
        for name in [experiment.name for experiment in chosen]:
            _check_writable(folder / name)
        pipeline = Pipeline(size, Cache(folder / "cache"), device)
        failed = _run_all(pipeline, chosen, folder)
        results = _refresh(pipeline, chosen, folder, failed)
    if failed:
        each = "; ".join(f"experiment {name} failed: {message.rstrip('.')}" for name, message in failed.items())
        raise NumericalError(f"{each}. What is finished is kept in {str(folder)!r}: run again to go on.")
    return {experiment.name: results[experiment.name] for experiment in chosen}


# -- before --------------------------------------------------------------------------------------------


def _scale(scale: str | Scale) -> Scale:
    if isinstance(scale, Scale):
        return scale
    if scale not in SCALES:
        raise InputError(f"scale must be one of {list(SCALES)}, got {scale!r}.")
    return SCALES[scale]


def _check_writable(folder: Path) -> None:
    """Write and remove a file where the report will be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(f"output {str(folder)!r} cannot be written: {error.strerror}.") from None


# -- experiments ---------------------------------------------------------------------------------------


def _run_all(pipeline: Pipeline, chosen: list[Experiment], folder: Path) -> dict[str, str]:
    """Run experiments one after another, each to its report; what went wrong, by experiment."""
    failed: dict[str, str] = {}
    for experiment in chosen:
        start = time.perf_counter()
        try:
            outcome = collect(pipeline, experiment)
            _write(folder / experiment.name, outcome, _stored(folder, pipeline.scale))
        except Exception as error:  # one experiment must not take the others with it
            if not isinstance(error, _TOLD):
                traceback.print_exc()
            failed[experiment.name] = _message(error)
            tell(f"experiment {experiment.name} failed: {failed[experiment.name]}")
        else:
            tell(f"experiment {experiment.name}: {time.perf_counter() - start:.0f} s in this run")
        _write_index(folder, pipeline.scale, failed)  # now: a later one may be interrupted
    return failed


def _message(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror if error.filename is None else f"{error.filename!r}: {error.strerror}"
    return str(error) or type(error).__name__


def _refresh(pipeline: Pipeline, chosen: list[Experiment], folder: Path, failed: dict[str, str]) -> Results:
    """Write the reports anew whose findings look at experiments that were run later, and the index."""
    results, changed = _stored(folder, pipeline.scale), False
    for experiment in chosen:
        numbers = results.get(experiment.name)
        if experiment.name in failed or numbers is None:
            continue
        if numbers["findings"] != [item.as_dict() for item in findings(experiment.name, results)]:
            results[experiment.name] = _write(folder / experiment.name, collect(pipeline, experiment), results)
            changed = True
    if changed:
        _write_index(folder, pipeline.scale, failed)
    tell(f"all reports: {folder / INDEX}")
    return results


def _write_index(folder: Path, scale: Scale, failed: dict[str, str]) -> None:
    write_text(folder / INDEX, render_index(scale.name, _stored(folder, scale), failed))


def _stored(folder: Path, scale: Scale) -> Results:
    """Results of this and earlier runs with the same settings, in the paper's order."""
    found = {}
    for name, experiment in EXPERIMENTS.items():
        path = folder / name / _RESULT
        if path.exists() and (folder / name / _REPORT).exists():
            numbers = read_json(path)
            if numbers.get("identity") == identity(scale, experiment):
                found[name] = numbers
    return found


def _write(folder: Path, outcome: Outcome, others: Results) -> dict[str, Any]:
    """The files of an experiment; the numbers last, so that the report belongs to them."""
    results = others | {outcome.experiment.name: outcome.numbers}
    found = findings(outcome.experiment.name, results)
    numbers = outcome.numbers | {"findings": [item.as_dict() for item in found]}
    _write_paraview(folder / "paraview", outcome)
    with tempfile.TemporaryDirectory() as pictures:
        write_text(folder / _REPORT, render(numbers, draw(outcome, Path(pictures)), found))
    write_json(folder / _RESULT, numbers)
    tell(f"report in {folder / _REPORT}")
    return numbers


def _write_paraview(folder: Path, outcome: Outcome) -> None:
    grid = Grid.from_dict(outcome.numbers["grid"])
    fields = {name: u[0] for name, u in outcome.solutions.items()}
    fields |= {f"{name}, mean": u.mean(axis=0) for name, u in outcome.solutions.items()}
    for network, estimate in outcome.estimates.items():
        fields[f"multifidelity, {network}, mean"] = estimate["mean"]
        fields[f"multifidelity, {network}, standard error"] = estimate["error"]
    write_results(folder, grid, np.exp(outcome.Z), fields)
