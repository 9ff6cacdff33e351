"""One problem from a coefficient in a file, or drawn from a seed, to files with its solution."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nnlod_fenics.coefficient import check_coefficient
from nnlod_fenics.coefficient_files import read_array
from nnlod_fenics.config import Config
from nnlod_fenics.errors import InputError
from nnlod_fenics.fields import make_field
from nnlod_fenics.grid import Grid
from nnlod_fenics.network import NNLOD
from nnlod_fenics.network.shipped import find_shipped
from nnlod_fenics.output import figures, paraview
from nnlod_fenics.runtime.files import write_npy
from nnlod_fenics.runtime.optional import needed_for
from nnlod_fenics.runtime.progress import tell
from nnlod_fenics.runtime.streams import Stream
from nnlod_fenics.solvers import NAMES, Solution, methods, solve

__all__ = ["FORMATS", "solve_problem"]

FORMATS = ("vtkhdf", "vti", "xdmf", "bp")
"""Suffixes of the files that solutions can be written to."""


def solve_problem(
    config: Config,
    output: str | Path,
    method: str = "lod",
    coefficient: Path | None = None,
    dataset: str | None = None,
    seed: int | None = None,
    model: str | Path | None = None,
    source: float = 1.0,
    trust: float | None = None,
    no_data: float | None = None,
    formats: Sequence[str] = ("vtkhdf",),
    render: bool = False,
) -> Solution:
    """Solve one problem and write the solution, figures and ParaView files.

    Args:
        config: Settings: the grid, and the law of a drawn coefficient. Where they say nothing else than the defaults,
            those of the model count.
        output: Folder to write.
        method: ``"fem"``, ``"lod"``, ``"nn"``, or a registered one.
        coefficient: File with A on T_ε; drawn if None.
        dataset: Name of the coefficient in a file of several.
        seed: Seed of a drawn coefficient; that of the settings if None.
        model: Model folder or name, for ``"nn"``; if None the one that comes with the package for this grid and law.
        source: Constant right-hand side.
        trust: Tolerance of the errors of predicted local matrices, see :meth:`NNLOD.local_matrices`.
        no_data: Value of cells without data in the file.
        formats: Of the files for ParaView: ``"vtkhdf"``, ``"vti"``; ``"xdmf"`` and ``"bp"`` by DOLFINx.
        render: Whether to make a three-dimensional picture with PyVista, d = 2 or 3.

    Returns:
        The solution.

    Raises:
        InputError: If an argument or a file does not fit.
    """
    if method not in methods():
        raise InputError(f"method must be one of {methods()}, got {method!r}.")
    for name in formats:
        if name not in FORMATS:
            raise InputError(f"format must be one of {FORMATS}, got {name!r}.")
    surrogate = _model(config, method, model, coefficient is None)
    options: dict[str, Any] = {"model": surrogate, "trust": trust}
    grid = _grid(config, surrogate)
    A = _coefficient(config, grid, surrogate, coefficient, (dataset, no_data), seed)
    if surrogate is not None and A.ndim == grid.dim and (distance := surrogate.out_of_range(grid, A)) > 0:
        tell(f"log A lies {distance:.2g} training ranges outside of the range of the training fields.")
    solution = solve(grid, A, method, source, **options)
    _write(Path(output), solution, formats)
    if render:
        _render(Path(output), solution)
    return solution


def _model(config: Config, method: str, model: str | Path | None, drawn: bool) -> NNLOD | None:
    if model is not None:
        if method != "nn":
            raise InputError(f"model does not apply to method {method!r}, got {str(model)!r}.")
        return NNLOD.load(model)
    if method != "nn":
        return None
    settings = config.resolved()
    return NNLOD.load(find_shipped(settings["grid"], settings["field"] if drawn else None))


def _grid(config: Config, model: NNLOD | None) -> Grid:
    """The grid of the settings, or of the model where they say nothing else than the defaults."""
    grid = config.make_grid()
    if model is None or grid == model.grid:
        return grid
    if grid != Config().make_grid():
        model.check_grid(grid)
    return model.grid


def _coefficient(
    config: Config,
    grid: Grid,
    model: NNLOD | None,
    coefficient: Path | None,
    reading: tuple[str | None, float | None],
    seed: int | None,
) -> npt.NDArray[np.float64]:
    if coefficient is not None:
        if seed is not None:
            raise InputError("coefficient and seed exclude each other; give one of them.")
        return check_coefficient(grid, read_array(coefficient, *reading))
    for name, value in zip(("dataset", "no_data"), reading, strict=True):
        if value is not None:
            raise InputError(f"{name} applies to a coefficient from a file, got {value!r} without one.")
    field = config.field
    if model is not None and field == Config().field:
        field = model.law
    law = make_field(field, grid.dim, grid.coefficient)
    return law.sample(config.dataset.seed if seed is None else seed, 0, stage=Stream.FRESH).A


def _write(folder: Path, solution: Solution, formats: Sequence[str]) -> None:
    method, grid, A, u = solution.method, solution.grid, solution.A, solution.u
    write_npy(folder / f"u_{method}.npy", u)
    for name in formats:
        if name in ("vtkhdf", "vti"):
            paraview.write_results(folder, grid, A, {f"u_{method}": u}, f".{name}")
        else:
            with needed_for(f"format {name!r}"):
                from nnlod_fenics.fem import nodal_function
                from nnlod_fenics.output.functions import write_function
            write_function(folder / f"u_{method}.{name}", nodal_function(u, f"u_{method}"))
    if A.ndim == grid.dim:
        figures.plot_coefficient(folder / "coefficient.png", A)
    figures.plot_cross_sections(folder / "cross_sections.png", {NAMES[method]: u})
    if grid.dim > 1:
        figures.plot_solutions(folder / "solution.png", {NAMES[method]: u})


def _render(folder: Path, solution: Solution) -> None:
    from nnlod_fenics.output.surfaces import render_coefficient, render_solution

    if solution.grid.dim == 1:
        raise InputError("render needs d = 2 or 3, got d = 1.")
    render_solution(folder / "surface.png", solution.u)
    if solution.grid.dim == 3 and solution.A.ndim == 3:
        render_coefficient(folder / "coefficient_3d.png", solution.A)
