"""Figures with Matplotlib: coefficients, solutions, cross-sections, loss curves, local matrices.

Every function takes arrays as the rest of the package has them (``[y, x]``, ``[z, y, x]``), writes one file
whose suffix chooses the format (``.png``, ``.pdf``, ``.svg``) and returns its path. Given a grid, it draws on that
grid's domain, in its units, and leaves inactive elements blank; without one D is the unit cube.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize, SymLogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from nnlod_fenics.arrays import as_floats, as_numbers
from nnlod_fenics.errors import InputError
from nnlod_fenics.grid import Grid, lattice
from nnlod_fenics.norms import nodal_values
from nnlod_fenics.output.curves import plot_calibration, plot_loss
from nnlod_fenics.output.drawing import (
    Plane,
    box_axes,
    cell_planes,
    centre_line,
    cover,
    middle_plane,
    panel_size,
    shade,
    tell_middle,
)
from nnlod_fenics.output.style import DIVERGING, FIELD, SOLUTION, colorbar, figure, line_styles, save

__all__ = [
    "plot_calibration",
    "plot_coefficient",
    "plot_corrector",
    "plot_cross_sections",
    "plot_differences",
    "plot_elements",
    "plot_local_matrix",
    "plot_loss",
    "plot_solutions",
]

Array = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
PathLike = str | os.PathLike[str]


def plot_coefficient(path: PathLike, A: npt.ArrayLike, title: str | None = None, grid: Grid | None = None) -> Path:
    """Draw a scalar coefficient on a logarithmic colour scale.

    Args:
        path: The file to write.
        A: Positive cell values, shape ``grid.coefficient_shape``; ``(n,)*d`` without a grid. In 3D the three planes
            through the centre are drawn.
        title: A title, if any.
        grid: The discretisation; the unit cube if None.

    Returns:
        The path.

    Raises:
        InputError: If A is not such an array.
    """
    values, active = _cells("A", A, None if grid is None else grid.active_cells)
    low, high = values[active].min(), values[active].max()
    if low <= 0:
        raise InputError(f"A must be positive to be drawn on a logarithmic scale, got {low:g}.")
    if values.ndim == 1:
        return _plot_coefficient_1d(path, np.where(active, values, np.nan), _lengths(grid, 1)[0], title)
    planes = cell_planes(values, active, _lengths(grid, values.ndim))
    return _plot_cells(path, planes, LogNorm(low, max(high, low * 1.001)), FIELD, "$A(x)$", title)


def plot_solutions(
    path: PathLike, solutions: Mapping[str, npt.ArrayLike], columns: int = 0, grid: Grid | None = None
) -> Path:
    """Draw solutions side by side with one colour scale.

    Args:
        path: The file to write.
        solutions: Nodal values by name, each on T_H or T_h, or without a grid of shape ``(n+1,)*d`` with its own n;
            d = 2, or 3 for the plane through the centre across x₃.
        columns: Pictures in a row, for narrow pages; all in one row if 0.
        grid: The discretisation; the unit cube if None.

    Returns:
        The path.

    Raises:
        InputError: If there is none, or an array does not fit.
    """
    found = _solutions(solutions, (2, 3), grid)
    planes = {name: middle_plane(level, u) for name, (level, u) in found.items()}
    norm, box = _common_scale(planes.values()), next(iter(found.values()))[0].lengths
    across, down = _layout(len(planes), columns)
    width, height = panel_size(box)
    with figure(1.0 + 2.6 * width * across, 0.4 + 2.8 * height * down) as fig:
        axes = _panels(fig, len(planes), columns)
        for ax, (name, plane) in zip(axes, planes.items(), strict=True):
            image = shade(ax, plane, norm, SOLUTION, name)
            ax.label_outer()
        colorbar(fig, image, axes, _label_of(box))
        save(fig, path)
    return Path(path)


def plot_differences(path: PathLike, solutions: Mapping[str, npt.ArrayLike], grid: Grid | None = None) -> Path:
    """Draw solutions side by side with one colour scale, and below each its difference from the first.

    Each difference has its own scale, symmetric about zero.

    Args:
        path: The file to write.
        solutions: Nodal values by name, the reference first, each on T_H or T_h, or without a grid of shape
            ``(n+1,)*d`` with its own n; d = 2, or 3 for the plane through the centre across x₃. Where the numbers n
            differ, one of two must divide the other: both are compared at the nodes of the finer one, between which
            the coarser is interpolated.
        grid: The discretisation; the unit cube if None.

    Returns:
        The path.

    Raises:
        InputError: If there are less than two, or an array does not fit.
    """
    found = _solutions(solutions, (2, 3), grid)
    if len(found) < 2:
        raise InputError(f"solutions must be at least two, the reference first, got {list(found)}.")
    planes = {name: middle_plane(level, u) for name, (level, u) in found.items()}
    (first, reference), *others = planes.items()
    norm, box = _common_scale(planes.values()), next(iter(found.values()))[0].lengths
    width, height = panel_size(box)
    with figure(1.0 + 3.2 * width * len(planes), 0.6 + 5.4 * height) as fig:
        axes = fig.subplots(2, len(planes), squeeze=False)
        for ax, (name, plane) in zip(axes[0], planes.items(), strict=True):
            image = shade(ax, plane, norm, SOLUTION, name)
        colorbar(fig, image, list(axes[0]), _label_of(box))
        axes[1, 0].set_axis_off()
        for ax, (name, plane) in zip(axes[1, 1:], others, strict=True):
            difference = _difference(name, plane, reference)
            bound = np.abs(difference.inside).max() or 1.0
            image = shade(ax, difference, Normalize(-bound, bound), DIVERGING, f"{name} \N{MINUS SIGN} {first}")
            colorbar(fig, image, ax, "")
        save(fig, path)
    return Path(path)


def plot_cross_sections(
    path: PathLike, solutions: Mapping[str, npt.ArrayLike], columns: int = 0, grid: Grid | None = None
) -> Path:
    """Draw solutions along the lines through the centre of the box in the directions of x₂ and x₁.

    Args:
        path: The file to write.
        solutions: Nodal values by name, each on T_H or T_h, or without a grid of shape ``(n+1,)*d`` with its own n. In
            1D the whole solution is drawn.
        columns: Lines drawn in a row, for narrow pages; all in one row if 0.
        grid: The discretisation; the unit cube if None.

    Returns:
        The path.

    Raises:
        InputError: If there is none, or an array does not fit.
    """
    found = _solutions(solutions, (1, 2, 3), grid)
    box = next(iter(found.values()))[0].lengths
    lines = (0,) if len(box) == 1 else (1, 0)
    across, down = _layout(len(lines), columns)
    with figure(3.6 * across if across > 1 else 4.8, 0.3 + 2.6 * down) as fig:
        axes = _panels(fig, len(lines), columns)
        for ax, along in zip(axes, lines, strict=True):
            for (name, (level, u)), style in zip(found.items(), line_styles(len(found)), strict=True):
                ax.plot(*centre_line(level, u, along), color=style.color, ls=style.dashes, lw=style.width, label=name)
            ax.set(xlabel=f"$x_{along + 1}$", xlim=(0, box[along]), title=tell_middle(box, along))
            ticks = box[along] * np.arange(5) / 4
            ax.set_xticks(ticks, [f"{tick:.4g}" for tick in ticks])
            if ax.dataLim.y0 <= 0 <= ax.dataLim.y1:
                ax.axhline(0, color="0.8", lw=0.8, zorder=0)
        for ax in axes[::across]:
            ax.set_ylabel("$u$")
        fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=min(len(found), 2 * across))
        save(fig, path)
    return Path(path)


def plot_local_matrix(path: PathLike, grid: Grid, matrices: Mapping[str, npt.ArrayLike]) -> Path:
    """Draw local matrices S_T or K_E as maps: in 2D one picture of the patch nodes for each node of the element.

    Args:
        path: The file to write.
        grid: The discretisation.
        matrices: Local matrices by name (say computed, predicted, difference), all of shape
            ``grid.local_matrix_shape`` or, in the Galerkin form, with as many columns as rows, of which those of the
            nodes of E are drawn; one row of pictures each, one colour scale.

    Returns:
        The path.

    Raises:
        InputError: If there is none, or a shape does not fit.
    """
    arrays = {name: as_floats(f"matrix {name!r}", S) for name, S in matrices.items()}
    if not arrays:
        raise InputError("matrices must not be empty.")
    whole = (grid.num_patch_nodes,) * 2
    square = next(iter(arrays.values())).shape == whole != grid.local_matrix_shape
    expected = whole if square else grid.local_matrix_shape
    for name, S in arrays.items():
        if S.shape != expected:
            raise InputError(f"matrix {name!r} must have shape {expected}, got {S.shape}.")
    if square:
        own = (grid.ell + lattice(*(2,) * grid.dim)) @ (2 * grid.ell + 2) ** np.arange(grid.dim)
        arrays = {name: S[:, own] for name, S in arrays.items()}
    label = "$K_E[i, j]$" if square else "$S_T[i, j]$"
    bound = max(np.abs(S).max() for S in arrays.values()) or 1.0
    # Linear below a hundredth of the greatest entry: the decay in the patch and small differences show.
    norm = SymLogNorm(linthresh=0.01 * bound, linscale=0.5, vmin=-bound, vmax=bound)
    decade = 10.0 ** np.floor(np.log10(bound))
    ticks = [-decade, -decade / 10, 0, decade / 10, decade]
    columns, width = (4, 1.6) if grid.dim == 2 else (1, 5.0)
    with figure(1.4 + width * columns, 0.3 + 1.6 * len(arrays)) as fig:
        axes = fig.subplots(len(arrays), columns, squeeze=False)
        for row, (name, S) in zip(axes, arrays.items(), strict=True):
            for j, ax in enumerate(row):
                picture = S[:, j].reshape((2 * grid.ell + 2,) * 2) if grid.dim == 2 else S.T
                image = ax.imshow(picture, norm=norm, cmap=DIVERGING, aspect="equal" if grid.dim == 2 else "auto")
                _bare(ax)
            row[0].set_ylabel(name)
        if grid.dim == 2:
            for j, ax in enumerate(axes[0]):
                ax.set_title(f"$j = {j + 1}$")
        else:
            axes[-1, 0].set_xlabel(f"columns: node $i$ of the patch; rows: node $j$ of ${'E' if square else 'T'}$")
        colorbar(fig, image, axes, label, ticks)
        save(fig, path)
    return Path(path)


def plot_corrector(path: PathLike, grid: Grid, element: int, phi: npt.ArrayLike) -> Path:
    """Draw the correctors φ_{T,j} of one element, a picture for each node j of T; T is outlined.

    Args:
        path: The file to write.
        grid: The discretisation, d = 1 or 2.
        element: Number of T.
        phi: The correctors on the padded patch, shape ``(2^d, (2ℓ+1) r + 1, …)``, from
            ``local_matrices(..., elements=[element], correctors=True)``.

    Returns:
        The path.

    Raises:
        InputError: If the dimension, the number or the shape does not fit.
    """
    values = as_floats("phi", phi)
    expected = (2**grid.dim, *(grid.patch_width * grid.ratio + 1,) * grid.dim)
    if grid.dim == 3:
        raise InputError("grid must have d = 1 or 2 for pictures of correctors, got d = 3.")
    if not 0 <= element < grid.num_elements:
        raise InputError(f"element must lie between 0 and {grid.num_elements - 1}, got {element}.")
    if values.shape != expected:
        raise InputError(f"phi must have shape {expected}, got {values.shape}.")
    widths = np.asarray(grid.widths)
    start = (grid.elements[element] - grid.ell) * widths  # the corner of the patch, x first
    nodes = [s + np.arange(expected[1]) * h for s, h in zip(start, grid.fine_widths, strict=True)]
    end = np.minimum(start + grid.patch_width * widths, grid.lengths)  # the patch as far as it lies in the box
    limits = list(zip(np.maximum(start, 0).tolist(), end.tolist(), strict=True))
    draw = _draw_correctors_1d if grid.dim == 1 else _draw_correctors_2d
    draw(path, grid, element, values, nodes, limits)
    return Path(path)


def plot_elements(
    path: PathLike, values: npt.ArrayLike, label: str, log: bool = False, grid: Grid | None = None
) -> Path:
    """Draw one number per coarse element, for instance the error of its local matrix.

    Args:
        path: The file to write.
        values: Shape ``grid.element_shape``, ``(n,)*d`` without a grid; d = 2, or 3 for the three planes through the
            centre.
        label: What the numbers are.
        log: Whether the colour scale is logarithmic.
        grid: The discretisation; the unit cube if None.

    Returns:
        The path.

    Raises:
        InputError: If the array does not fit.
    """
    array, active = _cells("values", values, None if grid is None else grid.active)
    low, high = array[active].min(), array[active].max()
    if array.ndim == 1 or (log and low <= 0):
        raise InputError("values must have shape (coarse,)*d with d = 2 or 3, and be positive if log is set.")
    planes = cell_planes(array, active, _lengths(grid, array.ndim))
    return _plot_cells(path, planes, (LogNorm if log else Normalize)(low, high), SOLUTION, label)


# -- pieces ------------------------------------------------------------------------------------------


def _layout(count: int, columns: int) -> tuple[int, int]:
    """Pictures in a row and rows."""
    across = min(columns, count) or count
    return across, -(-count // across)


def _panels(fig: Figure, count: int, columns: int) -> list[Axes]:
    """Axes for some pictures, row by row."""
    across, down = _layout(count, columns)
    axes = list(fig.subplots(down, across, squeeze=False, sharey=True).ravel())
    for ax in axes[count:]:
        ax.remove()
    return axes[:count]


def _lengths(grid: Grid | None, dim: int) -> tuple[float, ...]:
    return (1.0,) * dim if grid is None else grid.lengths


def _cells(name: str, values: Any, active: BoolArray | None) -> tuple[Array, BoolArray]:
    """Cell values and which of them count: all of those on the unit cube."""
    if active is None:
        expected = "a finite real array of shape (n,)*d with d = 1, 2 or 3"
        array = as_floats(name, values, expected)
        if array.ndim not in (1, 2, 3) or len(set(array.shape)) != 1:
            raise InputError(f"{name} must be {expected}, got shape {array.shape}.")
        return array, np.ones(array.shape, dtype=bool)
    array = as_numbers(name, values).astype(np.float64)
    if array.shape != active.shape:
        raise InputError(f"{name} must have shape {active.shape}, one value per cell, got {array.shape}.")
    return as_floats(name, np.where(active, array, 1.0)), active


def _solutions(
    solutions: Mapping[str, npt.ArrayLike], dims: tuple[int, ...], grid: Grid | None
) -> dict[str, tuple[Grid, Array]]:
    """The mesh of each solution, as a grid whose elements are its cells, and its nodal values."""
    found = {name: nodal_values(f"solution {name!r}", u, grid) for name, u in solutions.items()}
    of = {level.dim for level, _ in found.values()}
    if len(of) != 1 or not of <= set(dims):
        raise InputError(
            f"solutions must hold nodal arrays of one dimension out of {dims}, got {sorted(of) or 'none'}."
        )
    return found


def _common_scale(planes: Iterable[Plane]) -> Normalize:
    inside = [plane.inside for plane in planes]
    return Normalize(min(values.min() for values in inside), max(values.max() for values in inside))


def _label_of(box: tuple[float, ...]) -> str:
    return "$u(x)$" if len(box) == 2 else f"$u(x_1, x_2, {box[2] / 2:.4g})$"


def _difference(name: str, plane: Plane, reference: Plane) -> Plane:
    """The difference to the reference, at the nodes of the finer one of both."""
    fine, coarse = sorted((plane, reference), key=lambda p: p.values.size, reverse=True)
    cells, few = fine.active.shape, coarse.active.shape
    if any(n % m for n, m in zip(cells, few, strict=True)):
        raise InputError(
            f"solution {name!r} and the first one must have numbers of cells of which one divides the other, got "
            f"{plane.active.shape[-1]} and {reference.active.shape[-1]}."
        )
    values = _interpolate(plane.values, cells) - _interpolate(reference.values, cells)
    return Plane(values, fine.active, fine.lengths)


def _interpolate(u: Array, cells: tuple[int, ...]) -> Array:
    """Values of a bilinear function at the nodes of a finer mesh."""
    for axis, n in enumerate(cells):
        own, nodes = np.linspace(0, 1, u.shape[axis]), np.linspace(0, 1, n + 1)
        u = np.apply_along_axis(partial(np.interp, nodes, own), axis, u)
    return u


def _plot_cells(
    path: PathLike, planes: list[Plane], norm: Normalize, cmap: str, label: str, title: str | None = None
) -> Path:
    sizes = [panel_size(plane.lengths) for plane in planes]
    with figure(1.0 + 2.8 * sum(width for width, _ in sizes), 0.4 + 2.8 * max(height for _, height in sizes)) as fig:
        axes = fig.subplots(1, len(planes), squeeze=False)[0]
        for ax, plane in zip(axes, planes, strict=True):
            inside: Any = np.ma.masked_array(plane.values, ~plane.active)
            image = ax.imshow(inside, extent=(0, plane.lengths[0], 0, plane.lengths[1]), norm=norm, cmap=cmap)
            box_axes(ax, plane.lengths, plane.labels, plane.title)
        if title:
            fig.suptitle(title)
        colorbar(fig, image, axes, label)
        save(fig, path)
    return Path(path)


def _plot_coefficient_1d(path: PathLike, values: Array, length: float, title: str | None) -> Path:
    with figure(4.8, 2.6) as fig:
        ax = fig.subplots()
        edges = np.linspace(0, length, len(values) + 1)
        ax.stairs(values, edges, color=line_styles(2)[1].color, baseline=None, lw=1.2)
        ax.set(yscale="log", xlim=(0, length), xlabel="$x_1$", ylabel="$A(x)$", title=title or "")
        save(fig, path)
    return Path(path)


def _draw_correctors_1d(
    path: PathLike, grid: Grid, element: int, phi: Array, nodes: list[Array], limits: list[tuple[float, float]]
) -> None:
    (width,), (position,) = grid.widths, grid.elements[element]
    with figure(4.8, 2.8) as fig:
        ax = fig.subplots()
        ax.axvspan(position * width, (position + 1) * width, color="0.92", zorder=0)
        ax.axhline(0, color="0.8", lw=0.8, zorder=0)
        for j, (values, style) in enumerate(zip(phi, line_styles(3)[1:], strict=True)):
            ax.plot(nodes[0], values, color=style.color, ls=style.dashes, lw=style.width, label=f"$j = {j + 1}$")
        ax.set(xlabel="$x_1$", ylabel=r"$\phi_{T,j}$", xlim=limits[0])
        ax.legend()
        save(fig, path)


def _draw_correctors_2d(
    path: PathLike, grid: Grid, element: int, phi: Array, nodes: list[Array], limits: list[tuple[float, float]]
) -> None:
    bound = np.abs(phi).max() or 1.0
    corner = grid.elements[element] * np.asarray(grid.widths)
    (left, right), (bottom, top) = limits
    width, height = panel_size((right - left, top - bottom))
    with figure(1.0 + 2.6 * width * len(phi), 0.4 + 2.6 * height) as fig:
        axes = fig.subplots(1, len(phi), sharey=True)
        for j, (ax, values) in enumerate(zip(axes, phi, strict=True)):
            image = ax.pcolormesh(
                *nodes, values, norm=Normalize(-bound, bound), cmap=DIVERGING, shading="gouraud", rasterized=True
            )
            cover(ax, grid.active, (grid.lengths[0], grid.lengths[1]))
            ax.add_patch(Rectangle(tuple(corner), *grid.widths, fill=False, lw=0.8, ec="black"))
            ax.set(xlabel="$x_1$", title=f"$j = {j + 1}$", aspect="equal", xlim=limits[0], ylim=limits[1])
            for axis in (ax.xaxis, ax.yaxis):
                axis.set_major_locator(MaxNLocator(4, prune="both"))
        axes[0].set_ylabel("$x_2$")
        colorbar(fig, image, list(axes), r"$\phi_{T,j}(x)$")
        save(fig, path)


def _bare(ax: Axes) -> None:
    ax.set_xticks([])
    ax.set_yticks([])
    for spine in ax.spines.values():
        spine.set_visible(True)
        spine.set_color("0.7")
