"""One problem from a coefficient in a file, or drawn from a seed, to files with its solution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
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
from nnlod_fenics.lod.local import local_matrices
from nnlod_fenics.lod.reconstruction import extend_correctors
from nnlod_fenics.network import NNLOD
from nnlod_fenics.network.shipped import find_shipped
from nnlod_fenics.network.trust import check_trust
from nnlod_fenics.output import figures, paraview
from nnlod_fenics.runtime.files import write_json, write_npy, write_npz
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
    source: float | None = None,
    no_data: float | None = None,
    formats: Sequence[str] = ("vtkhdf",),
    render: bool = False,
    correctors: Sequence[int] = (),
    **options: Any,
) -> Solution:
    """Solve one problem and write the solution, figures and ParaView files.

    Args:
        config: Settings: the grid, the problem, and the law of a drawn coefficient. What they do not state of the grid
            is the model's, or follows from the shape of the coefficient in the file (:meth:`Grid.for_coefficient`).
        output: Folder to write.
        method: ``"fem"``, ``"averaged"``, ``"lod"``, ``"nn"``, or a registered one.
        coefficient: File with A on T_ε; drawn if None.
        dataset: Name of the coefficient in a file of several.
        seed: Seed of a drawn coefficient; that of the settings if None.
        model: Model folder or name, for ``"nn"``; if None the one that comes with the package for this grid and law.
        source: Constant source, in the place of that of the settings.
        no_data: Value of cells without data in the file.
        formats: Of the files for ParaView: ``"vtkhdf"``, ``"vti"``; ``"xdmf"`` and ``"bp"`` by DOLFINx.
        render: Whether to make a three-dimensional picture with PyVista, d = 2 or 3.
        correctors: Numbers of elements whose correctors are written too, for ``"lod"``.
        **options: Of the method, see :func:`nnlod_fenics.solvers.make_solver`: ``trust``, ``source_correctors``,
            ``reconstruct``, ``form``, ``ell``, ``refine`` and ``mean``.

    Returns:
        The solution.

    Raises:
        InputError: If an argument or a file does not fit.
    """
    _check(method, model, formats, correctors)
    check_trust(options.get("trust"))
    given = _read(coefficient, seed, dataset, no_data)
    surrogate = None if model is None else NNLOD.load(model)
    grid = _grid(config, surrogate, given)
    problem = config.problem.make(grid, source)
    if method == "nn" and surrogate is None:
        surrogate = NNLOD.load(find_shipped(grid, config.resolved()["field"] if given is None else None))
    A = _draw(config, grid, surrogate, seed) if given is None else check_coefficient(grid, given)
    if surrogate is not None and A.ndim == grid.dim and (distance := surrogate.out_of_range(grid, A)) > 0:
        tell(f"log A lies {distance:.2g} training ranges outside of the range of the training fields.")
    solution = solve(
        grid, A, method, problem.f, wells=problem.wells, g=problem.g, flux=problem.flux, model=surrogate, **options
    )
    phi = local_matrices(grid, A, elements=correctors, correctors=True)[1] if correctors else ()
    _write(Path(output), solution, formats)
    write_json(Path(output, "solution.json"), _description(config, solution, coefficient, seed, options))
    for element, values in zip(correctors, phi, strict=True):
        _write_correctors(Path(output), grid, element, values)
    if render:
        _render(Path(output), solution)
    return solution


def _check(method: str, model: str | Path | None, formats: Sequence[str], correctors: Sequence[int]) -> None:
    if method not in methods():
        raise InputError(f"method must be one of {methods()}, got {method!r}.")
    for name in formats:
        if name not in FORMATS:
            raise InputError(f"format must be one of {FORMATS}, got {name!r}.")
    if model is not None and method != "nn":
        raise InputError(f"model does not apply to method {method!r}, got {str(model)!r}.")
    if correctors and method != "lod":
        raise InputError(f"correctors apply to method 'lod', got method {method!r}.")


def _read(
    coefficient: Path | None, seed: int | None, dataset: str | None, no_data: float | None
) -> npt.NDArray[Any] | None:
    """The array of the file, if there is one."""
    if coefficient is not None:
        if seed is not None:
            raise InputError("coefficient and seed exclude each other; give one of them.")
        return read_array(coefficient, dataset, no_data)
    for name, value in (("dataset", dataset), ("no_data", no_data)):
        if value is not None:
            raise InputError(f"{name} applies to a coefficient from a file, got {value!r} without one.")
    return None


def _grid(config: Config, model: NNLOD | None, A: npt.NDArray[Any] | None) -> Grid:
    """The grid of the settings; what they do not state is the model's, or follows from the shape of A."""
    if model is not None:
        grid = config.make_grid(model.grid) if A is None else _grid_of_model(config, model.grid, A.shape)
        model.check_grid(grid)
        return grid
    stated = config.stated_grid
    if A is None or "coefficient" in stated:
        return config.make_grid()
    dim, _ = stated.pop("dim", None), stated.pop("inactive", None)
    grid = Grid.for_coefficient(A, **stated)
    if dim not in (None, grid.dim):
        raise InputError(f"A must have {dim} axes of cells for grid.dim = {dim}, got shape {A.shape}.")
    grid = config.grid.cut(grid)
    chosen = ", ".join(f"{key} = {grid.as_dict()[key]}" for key in ("coarse", "coefficient", "fine", "ell"))
    tell(
        f"grid for a coefficient of shape {A.shape}: {chosen}; grid.coarse, grid.fine and grid.ell set another, "
        "grid.lengths the size of the domain."
    )
    return grid


def _grid_of_model(config: Config, grid: Grid, shape: tuple[int, ...]) -> Grid:
    """The model's grid; where no sizes are stated, with as many of its elements as the coefficient has cells for."""
    cells, width = shape[: grid.dim][::-1], grid.cells_per_element
    stated = {"coarse", "fine", "coefficient"} & set(config.stated_grid)
    if stated or len(cells) < grid.dim or any(n % width for n in cells):
        return config.make_grid(grid)
    coarse = [n // width for n in cells]
    sizes = {"coarse": coarse, "fine": [n * grid.ratio for n in coarse], "coefficient": list(cells)}
    return config.grid.changed(**sizes).make(grid)


def _draw(config: Config, grid: Grid, model: NNLOD | None, seed: int | None) -> npt.NDArray[np.float64]:
    field = config.field if model is None or config.states_field else model.law
    law = make_field(field, grid.dim, grid.coefficient, grid.lengths, grid.widths)
    return law.sample(config.dataset.seed if seed is None else seed, 0, stage=Stream.FRESH).A


def _description(
    config: Config, solution: Solution, coefficient: Path | None, seed: int | None, options: dict[str, Any]
) -> dict[str, Any]:
    """What was solved and how, with all defaults, ready for JSON."""
    content: dict[str, Any] = {
        "method": solution.method,
        "options": {name: value for name, value in options.items() if value not in (None, False)},
        "grid": solution.grid.as_dict(),
        "problem": config.problem.as_dict() | {"f": solution.problem.f},
        "seconds": solution.seconds,
    }
    if coefficient is None:
        content["field"] = config.resolved()["field"]
        content["seed"] = config.dataset.seed if seed is None else seed
    else:
        content["coefficient"] = str(coefficient)
    if solution.steps:
        content["steps"] = solution.steps
    if solution.S is not None:
        content["reliability"] = asdict(solution.reliability) | {"trusted": solution.reliability.trusted}
    return content


def _write(folder: Path, solution: Solution, formats: Sequence[str]) -> None:
    method, grid, A = solution.method, _shown(solution), solution.A
    named, drawn = {f"u_{method}": solution.u}, {NAMES[method]: solution.u}
    if solution.u_fine is not None and solution.u_fine is not solution.u:
        named[f"u_fine_{method}"] = drawn[f"{NAMES[method]}, reconstructed"] = solution.u_fine
    for name, u in named.items():
        write_npy(folder / f"{name}.npy", u)
    for suffix in formats:
        if suffix in ("vtkhdf", "vti"):
            paraview.write_results(folder, grid, A, named, f".{suffix}")
        else:
            with needed_for(f"format {suffix!r}"):
                from nnlod_fenics.fem import nodal_function
                from nnlod_fenics.output.functions import write_function
            for name, u in named.items():
                write_function(folder / f"{name}.{suffix}", nodal_function(u, name, grid=grid))
    if A.ndim == grid.dim:
        figures.plot_coefficient(folder / "coefficient.png", A, grid=grid)
    figures.plot_cross_sections(folder / "cross_sections.png", drawn, grid=grid)
    if grid.dim > 1:
        figures.plot_solutions(folder / "solution.png", drawn, grid=grid)


def _shown(solution: Solution) -> Grid:
    """The grid for files and figures: its coarse nodes, or the fine ones, carry u."""
    grid, mesh = solution.grid, solution.mesh
    if mesh is None:
        return grid
    return Grid(grid.dim, mesh.coarse, grid.fine, grid.ell, grid.coefficient, grid.lengths, grid.dirichlet, mesh.active)


def _write_correctors(folder: Path, grid: Grid, element: int, phi: npt.NDArray[np.float64]) -> None:
    """The correctors of an element: on its padded patch as arrays, on all of D for ParaView, and as a picture."""
    content: dict[str, Any] = {"phi": phi, "element": element} | grid.as_dict()
    write_npz(folder / f"corrector{element}.npz", **content)
    data = {f"phi_{j + 1}": values for j, values in enumerate(extend_correctors(grid, element, phi))}
    paraview.write_arrays(folder / f"corrector{element}.vtkhdf", grid.dim, point_data=data, grid=grid)
    if grid.dim < 3:
        figures.plot_corrector(folder / f"corrector{element}.png", grid, element, phi)


def _render(folder: Path, solution: Solution) -> None:
    from nnlod_fenics.output.surfaces import render_coefficient, render_solution

    grid = _shown(solution)
    if grid.dim == 1:
        raise InputError("render needs d = 2 or 3, got d = 1.")
    render_solution(folder / "surface.png", solution.u, grid=grid)
    if grid.dim == 3 and solution.A.ndim == 3:
        render_coefficient(folder / "coefficient_3d.png", solution.A, grid=grid)
