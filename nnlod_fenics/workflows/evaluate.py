"""Evaluation of a model as the paper reports it: on the test set, and on one fresh realization."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nnlod_fenics.coefficient import contrast
from nnlod_fenics.dataset import Dataset
from nnlod_fenics.errors import InputError
from nnlod_fenics.fields import FieldSample, make_field
from nnlod_fenics.grid import Grid, told_apart
from nnlod_fenics.network import NNLOD, matrix_errors
from nnlod_fenics.norms import prolong, relative_l2, spectral_norm
from nnlod_fenics.output import figures, paraview
from nnlod_fenics.runtime.files import write_json
from nnlod_fenics.runtime.folder import Contents, output_folder
from nnlod_fenics.runtime.streams import Stream
from nnlod_fenics.solvers import NAMES, Solution, solve

__all__ = ["CONTENTS", "compare", "evaluate", "fresh_realization", "write_evaluation"]

Array = npt.NDArray[np.float64]

METHODS = ("fem", "lod", "nn")
_PICTURES = ("coefficient", "cross_sections", "solutions", "differences", "local_matrix", "calibration")
CONTENTS = Contents(
    "an evaluation",
    "evaluation.json",
    ("evaluation.json", *(f"{name}.png" for name in _PICTURES), r"paraview/\w+\.vtkhdf"),
    exclusive=False,
    resumable=False,
)
"""What the folder of an evaluation holds."""

TOLERANCES = (0.01, 0.02, 0.05)  # of a local matrix, for which the shares of recomputed patches are told


def fresh_realization(model: NNLOD, seed: int, index: int = 0) -> FieldSample:
    """A realization of the law that the model was trained on, in none of its datasets."""
    grid = model.grid
    law = make_field(model.law, grid.dim, grid.coefficient, grid.lengths, grid.widths)
    return law.sample(seed, index, stage=Stream.FRESH)


def compare(grid: Grid, solutions: dict[str, Solution]) -> dict[str, float]:
    """Errors of the three solutions of one problem against each other.

    Args:
        grid: The discretisation.
        solutions: Those by ``"fem"``, ``"lod"`` and ``"nn"``.

    Returns:
        Errors by name: of solutions in L²(D), of coarse operators in the spectral norm, of local matrices of the
        elements of D in the Frobenius norm.
    """
    u = {name: solution.u for name, solution in solutions.items()}
    fine = {name: u[name] if name == "fem" else prolong(grid, u[name]) for name in u}
    K, predicted = solutions["lod"].K, solutions["nn"].K
    S, S_predicted = solutions["lod"].S, solutions["nn"].S
    assert S is not None and S_predicted is not None
    spectral = spectral_norm(K - predicted)
    difference = matrix_errors(S_predicted, S)[grid.active_elements]
    deviation, level = (np.nansum(values) for values in (u["nn"] - u["lod"], u["lod"]))
    return {
        "relative L2 error, NN-LOD against PG-LOD": relative_l2(u["nn"], u["lod"], grid),
        "relative L2 error, PG-LOD against FEM": relative_l2(fine["lod"], fine["fem"], grid),
        "relative L2 error, NN-LOD against FEM": relative_l2(fine["nn"], fine["fem"], grid),
        "spectral error |S - S_NN|": spectral,
        "relative spectral error |S - S_NN| / |S|": spectral / spectral_norm(K),
        "mean relative error of a local matrix": float(difference.mean()),
        "largest relative error of a local matrix": float(difference.max()),
        "amplitude error, mean of u_NN - u_LOD over mean of u_LOD": float(deviation / level),
    }


def _draw(folder: Path, model: NNLOD, A: Array, solutions: dict[str, Solution]) -> None:
    grid = model.grid
    named = {NAMES[name]: solution.u for name, solution in solutions.items()}
    figures.plot_coefficient(folder / "coefficient.png", A, grid=grid)
    figures.plot_cross_sections(folder / "cross_sections.png", named, grid=grid)
    if grid.dim > 1:
        figures.plot_solutions(folder / "solutions.png", named, grid=grid)
        figures.plot_differences(folder / "differences.png", named, grid=grid)
    S, predicted = solutions["lod"].S, solutions["nn"].S
    assert S is not None and predicted is not None
    middle = _middle(grid)
    matrices = {"PG-LOD": S[middle], "NN-LOD": predicted[middle], "difference": predicted[middle] - S[middle]}
    figures.plot_local_matrix(folder / "local_matrix.png", grid, matrices)
    plain = {"u_fem": solutions["fem"].u, "u_lod": solutions["lod"].u, "u_nn": solutions["nn"].u}
    paraview.write_results(folder / "paraview", grid, A, plain)


def _middle(grid: Grid) -> int:
    """Number of the active element that is nearest to the middle of the box."""
    distance = np.abs(grid.elements[grid.active_elements] - np.asarray(grid.coarse) // 2).sum(axis=1)
    return int(grid.active_elements[distance.argmin()])


def _calibration(model: NNLOD, dataset: Dataset, error: Array, folder: Path) -> dict[str, Any]:
    """Estimated against true errors of the local matrices of the test set."""
    grid = model.grid
    estimates = [model.error_estimates(grid, dataset.A(k)) for k in dataset.split().test]
    estimate = np.concatenate([values[grid.active_elements] for values in estimates])
    figures.plot_calibration(folder / "calibration.png", estimate, error)
    table = {}
    for tolerance in TOLERANCES:
        doubtful = estimate > tolerance
        table[f"{tolerance:g}"] = {
            "recomputed": float(doubtful.mean()),
            "beyond the tolerance, predicted": float((error > tolerance).mean()),
            "beyond the tolerance, recomputed": float(((error > tolerance) & ~doubtful).mean()),
        }
    return {"errors below their estimates": float((error <= estimate).mean()), "tolerances": table}


def _errors(model: NNLOD, dataset: Dataset) -> Array:
    """Relative errors of the local matrices of the test set, of elements of D."""
    grid, test = model.grid, dataset.split().test
    errors = [matrix_errors(model.local_matrices(grid, dataset.A(k)), dataset.matrices([k])[0]) for k in test]
    return np.concatenate([values[grid.active_elements] for values in errors])


def evaluate(
    model: NNLOD, output: str | Path, dataset: Dataset | None = None, seed: int = 0, overwrite: bool = False
) -> dict[str, Any]:
    """Evaluate a model: test loss, and one fresh realization solved by FEM, PG-LOD and NN-LOD.

    Args:
        model: The surrogate.
        output: Folder for ``evaluation.json``, figures and ParaView files.
        dataset: For the test loss and the error estimates; the test loss
            that the model file states is reported if None.
        seed: Seed of the fresh realization.
        overwrite: Replace what is there.

    Returns:
        What ``evaluation.json`` holds.

    Raises:
        InputError: If the dataset is of another grid or the folder already holds an evaluation.

    Example:
        >>> result = evaluate(NNLOD.load("lognormal-0.5"), "evaluation", seed=1)
        >>> result["errors"]["relative L2 error, NN-LOD against PG-LOD"] < 0.01
        True
    """
    if dataset is not None and dataset.grid != model.grid:
        given, own = told_apart(dataset.grid, model.grid)
        raise InputError(f"dataset is of grid {given}, the model of {own}.")
    with output_folder(output, CONTENTS, overwrite=overwrite) as folder:
        return write_evaluation(model, folder, dataset, seed)


def write_evaluation(model: NNLOD, folder: Path, dataset: Dataset | None, seed: int) -> dict[str, Any]:
    """:func:`evaluate` into a folder that is held already."""
    error = None if dataset is None else _errors(model, dataset)
    test_loss = model.test_loss if error is None else float(np.mean(error**2))
    A = _fresh(model, dataset, seed)
    solutions = {method: solve(model.grid, A, method, **_options(method, model)) for method in METHODS}
    result: dict[str, Any] = {
        "grid": model.grid.as_dict(),
        "field": model.description["training_set"].get("field"),
        "seed": seed,
        "test loss": test_loss if np.isfinite(test_loss) else None,
        "contrast": contrast(A[model.grid.active_cells]),
        "distance from the training range": model.out_of_range(model.grid, A),
        "errors": compare(model.grid, solutions),
        "seconds": {name: solution.seconds for name, solution in solutions.items()},
    }
    if dataset is not None and error is not None and model.estimator is not None:
        result["error estimates"] = _calibration(model, dataset, error, folder)
    _draw(folder, model, A, solutions)
    write_json(folder / "evaluation.json", result)
    return result


def _options(method: str, model: NNLOD) -> dict[str, Any]:
    return {"model": model} if method == "nn" else {}


def _fresh(model: NNLOD, dataset: Dataset | None, seed: int) -> Array:
    """A coefficient of the model's law; of a model without one the last of the test set."""
    if dataset is not None and not model.description.get("training_set", {}).get("field"):
        return dataset.A(dataset.split().test[-1])
    return fresh_realization(model, seed).A
