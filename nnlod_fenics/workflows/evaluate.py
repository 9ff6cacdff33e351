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
from nnlod_fenics.lod.local import local_matrices
from nnlod_fenics.network import NNLOD, matrix_errors
from nnlod_fenics.norms import prolong, relative_l2, spectral_norm
from nnlod_fenics.output import figures, paraview
from nnlod_fenics.runtime.files import write_json
from nnlod_fenics.runtime.folder import Contents, output_folder
from nnlod_fenics.runtime.streams import Stream
from nnlod_fenics.solvers import NAMES, Solution, solve
from nnlod_fenics.window import GALERKIN, PETROV_GALERKIN

__all__ = ["CONTENTS", "LOD", "compare", "evaluate", "fresh_realization", "matrices_of", "write_evaluation"]

Array = npt.NDArray[np.float64]

METHODS = ("fem", "lod", "nn")
LOD = {PETROV_GALERKIN: "PG-LOD", GALERKIN: "Galerkin LOD"}
"""What figures and reports call exact local matrices of a form."""
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


def compare(grid: Grid, solutions: dict[str, Solution], matrices: tuple[Array, Array]) -> dict[str, float]:
    """Errors of the three solutions of one problem against each other.

    Args:
        grid: The discretisation.
        solutions: Those by ``"fem"``, ``"lod"`` and ``"nn"``, the latter two in the same form.
        matrices: Local matrices of that form, exact and predicted.

    Returns:
        Errors by name: of solutions in L²(D), of coarse operators in the spectral norm, of local matrices of the
        elements of D in the Frobenius norm. The exact method is called PG-LOD or Galerkin LOD, the matrix S or K.
    """
    form = solutions["lod"].form
    exact, letter = LOD[form], "S" if form == PETROV_GALERKIN else "K"
    u = {name: solution.u for name, solution in solutions.items()}
    fine = {name: u[name] if name == "fem" else prolong(grid, u[name]) for name in u}
    K, predicted = solutions["lod"].K, solutions["nn"].K
    spectral = spectral_norm(K - predicted)
    difference = matrix_errors(matrices[1], matrices[0])[grid.active_elements]
    deviation, level = (np.nansum(values) for values in (u["nn"] - u["lod"], u["lod"]))
    return {
        f"relative L2 error, NN-LOD against {exact}": relative_l2(u["nn"], u["lod"], grid),
        f"relative L2 error, {exact} against FEM": relative_l2(fine["lod"], fine["fem"], grid),
        "relative L2 error, NN-LOD against FEM": relative_l2(fine["nn"], fine["fem"], grid),
        f"spectral error |{letter} - {letter}_NN|": spectral,
        f"relative spectral error |{letter} - {letter}_NN| / |{letter}|": spectral / spectral_norm(K),
        "mean relative error of a local matrix": float(difference.mean()),
        "largest relative error of a local matrix": float(difference.max()),
        "amplitude error, mean of u_NN - u_LOD over mean of u_LOD": float(deviation / level),
    }


def _draw(folder: Path, model: NNLOD, A: Array, solutions: dict[str, Solution], matrices: tuple[Array, Array]) -> None:
    grid, exact = model.grid, LOD[model.window.form]
    named = {(exact if name == "lod" else NAMES[name]): solution.u for name, solution in solutions.items()}
    figures.plot_coefficient(folder / "coefficient.png", A, grid=grid)
    figures.plot_cross_sections(folder / "cross_sections.png", named, grid=grid)
    if grid.dim > 1:
        figures.plot_solutions(folder / "solutions.png", named, grid=grid)
        figures.plot_differences(folder / "differences.png", named, grid=grid)
    S, predicted = (values[_middle(grid)] for values in matrices)
    shown = {exact: S, "NN-LOD": predicted, "difference": predicted - S}
    figures.plot_local_matrix(folder / "local_matrix.png", grid, shown)
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


def _errors(model: NNLOD, dataset: Dataset) -> tuple[Array, float]:
    """Relative errors of the local matrices of the test set, of elements of D; and the loss, that of loads included."""
    grid, active, errors, of_loads = model.grid, model.grid.active_elements, [], []
    for k in dataset.split().test:
        matrices, loads = model.local_system(grid, dataset.A(k))
        errors.append(matrix_errors(matrices, dataset.matrices([k])[0])[active])
        if loads is not None:
            of_loads.append(matrix_errors(loads[..., None], dataset.b(k)[..., None])[active])
    error, rest = np.concatenate(errors), np.concatenate(of_loads) if of_loads else np.zeros(1)
    return error, float(np.mean(error**2) + np.mean(rest**2))


def evaluate(
    model: NNLOD, output: str | Path, dataset: Dataset | None = None, seed: int = 0, overwrite: bool = False
) -> dict[str, Any]:
    """Evaluate a model: test loss, and one fresh realization solved by FEM, LOD in the model's form, and NN-LOD.

    Right-hand sides have source correctors where the network predicts them, and those of Galerkin LOD always.

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
        InputError: If the dataset is of another grid or form, or has no loads that the network predicts, or the folder
            already holds an evaluation.

    Example:
        >>> result = evaluate(NNLOD.load("lognormal-0.5"), "evaluation", seed=1)
        >>> result["errors"]["relative L2 error, NN-LOD against PG-LOD"] < 0.01
        True
    """
    if dataset is not None and dataset.grid != model.grid:
        given, own = told_apart(dataset.grid, model.grid)
        raise InputError(f"dataset is of grid {given}, the model of {own}.")
    if dataset is not None and dataset.form != model.window.form:
        raise InputError(f"dataset is of the form {dataset.form!r}, the model of {model.window.form!r}.")
    if dataset is not None and model.predicts_loads and not dataset.has_loads:
        raise InputError("dataset must have loads for a model that predicts them; generate it with dataset.loads=true.")
    with output_folder(output, CONTENTS, overwrite=overwrite) as folder:
        return write_evaluation(model, folder, dataset, seed)


def write_evaluation(model: NNLOD, folder: Path, dataset: Dataset | None, seed: int) -> dict[str, Any]:
    """:func:`evaluate` into a folder that is held already."""
    error, test_loss = (None, model.test_loss) if dataset is None else _errors(model, dataset)
    A = _fresh(model, dataset, seed)
    solutions = {method: solve(model.grid, A, method, **_options(method, model)) for method in METHODS}
    matrices = matrices_of(model, A, solutions)
    result: dict[str, Any] = {
        "grid": model.grid.as_dict(),
        "field": model.description["training_set"].get("field"),
        "seed": seed,
        "form": model.window.form,
        "network predicts loads": model.predicts_loads,
        "test loss": test_loss if np.isfinite(test_loss) else None,
        "contrast": contrast(A[model.grid.active_cells]),
        "distance from the training range": model.out_of_range(model.grid, A),
        "errors": compare(model.grid, solutions, matrices),
        "seconds": {name: solution.seconds for name, solution in solutions.items()},
    }
    if dataset is not None and error is not None and model.estimator is not None:
        result["error estimates"] = _calibration(model, dataset, error, folder)
    _draw(folder, model, A, solutions, matrices)
    write_json(folder / "evaluation.json", result)
    return result


def _options(method: str, model: NNLOD) -> dict[str, Any]:
    if method == "fem":
        return {}
    own = {"form": model.window.form} if method == "lod" else {"model": model}
    return {"source_correctors": model.predicts_loads, **own}


def matrices_of(model: NNLOD, A: Array, solutions: dict[str, Solution]) -> tuple[Array, Array]:
    """Local matrices of the model's form, exact and predicted; a solution in the Galerkin form keeps none."""
    S, predicted = solutions["lod"].S, solutions["nn"].S
    if S is not None and predicted is not None:
        return S, predicted
    return local_matrices(model.grid, A, form=model.window.form), model.local_matrices(model.grid, A)


def _fresh(model: NNLOD, dataset: Dataset | None, seed: int) -> Array:
    """A coefficient of the model's law; of a model without one the last of the test set."""
    if dataset is not None and not model.description.get("training_set", {}).get("field"):
        return dataset.A(dataset.split().test[-1])
    return fresh_realization(model, seed).A
