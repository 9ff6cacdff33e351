"""One problem from a coefficient in a file, or drawn from a seed, to files with its solution."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from nnlod_fenics.coefficient import check_coefficient
from nnlod_fenics.coefficient_files import read_array
from nnlod_fenics.config import Config
from nnlod_fenics.errors import InputError
from nnlod_fenics.evaluation import FRESH_STAGE, NAMES
from nnlod_fenics.grid import Grid
from nnlod_fenics.output import figures, paraview
from nnlod_fenics.output.files import replacing
from nnlod_fenics.progress import tell
from nnlod_fenics.solve import METHODS, Solution, solve
from nnlod_fenics.surrogate import NNLOD
from nnlod_fenics.surrogate.shipped import find_shipped

__all__ = ["solve_problem"]


def _field(
    config: Config, grid: Grid, coefficient: Path | None, dataset: str | None, seed: int | None
) -> npt.NDArray[np.float64]:
    if coefficient is not None and seed is not None:
        raise InputError("coefficient and seed exclude each other; give one of them.")
    if coefficient is None:
        return config.make_field().sample(config.dataset.seed if seed is None else seed, 0, stage=FRESH_STAGE).Z
    A = check_coefficient(grid, read_array(coefficient, dataset))
    if A.ndim != grid.dim:
        raise InputError(f"coefficient {str(coefficient)!r} is matrix-valued; this command takes scalar ones.")
    return np.asarray(np.log(A))


def solve_problem(
    config: Config,
    output: str | Path,
    method: str = "lod",
    coefficient: Path | None = None,
    dataset: str | None = None,
    seed: int | None = None,
    model: Path | None = None,
    source: float = 1.0,
    trust: float | None = None,
) -> Solution:
    """Solve one problem and write the solution, figures and ParaView files.

    Args:
        config: Settings: the grid, and the law of a drawn coefficient. With a model, its grid and law count.
        output: Folder to write.
        method: ``"fem"``, ``"lod"`` or ``"nn"``.
        coefficient: File with A on T_ε; drawn if None.
        dataset: Name of the coefficient in an HDF5 file.
        seed: Seed of a drawn coefficient; that of the settings if None.
        model: Model folder or name, for ``"nn"``; if None the one that comes with the package for this grid and law.
        source: Constant right-hand side.
        trust: Tolerance of the errors of predicted local matrices, see :meth:`NNLOD.local_matrices`.

    Returns:
        The solution.

    Raises:
        InputError: If an argument or a file does not fit.
    """
    if method not in METHODS:
        raise InputError(f"method must be one of {METHODS}, got {method!r}.")
    surrogate = None
    if method == "nn" and model is None:
        settings = config.resolved()
        model = find_shipped(settings["grid"], settings["field"])
    if model is not None:
        surrogate = NNLOD.load(model)
        given = {"grid": surrogate.grid.as_dict(), "field": surrogate.description["training_set"]["field"]}
        config = Config.model_validate(config.model_dump() | given)
    grid, folder = config.make_grid(), Path(output)
    Z = _field(config, grid, coefficient, dataset, seed)
    if method == "nn" and surrogate is not None and (distance := surrogate.out_of_range(Z)) > 0:
        tell(f"log A lies {distance:.2g} training ranges outside of the range of the training fields.")
    solution = solve(grid, Z, method, source, surrogate, trust)
    with replacing(folder / f"u_{method}.npy") as temporary:
        np.save(temporary, solution.u)
    paraview.write_results(folder, grid, np.exp(Z), {f"u_{method}": solution.u})
    figures.plot_coefficient(folder / "coefficient.png", np.exp(Z))
    figures.plot_cross_sections(folder / "cross_sections.png", {NAMES[method]: solution.u})
    if grid.dim > 1:
        figures.plot_solutions(folder / "solution.png", {NAMES[method]: solution.u})
    return solution
