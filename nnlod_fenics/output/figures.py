"""Figures with Matplotlib: coefficients, solutions, cross-sections, loss curves, local matrices.

Every function takes arrays as the rest of the package has them (``[y, x]``, ``[z, y, x]``), writes one file
whose suffix chooses the format (``.png``, ``.pdf``, ``.svg``) and returns its path.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
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
from nnlod_fenics.grid import Grid
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
PathLike = str | os.PathLike[str]
_UNIT_SQUARE = (0.0, 1.0, 0.0, 1.0)


def plot_coefficient(path: PathLike, A: npt.ArrayLike, title: str | None = None) -> Path:
    """Draw a scalar coefficient on a logarithmic colour scale.

    Args:
        path: The file to write.
        A: Positive cell values, shape ``(n,)*d``. In 3D the three planes through the centre are drawn.
        title: A title, if any.

    Returns:
        The path.

    Raises:
        InputError: If A is not such an array.
    """
    values = _cube("A", A)
    if values.min() <= 0:
        raise InputError(f"A must be positive to be drawn on a logarithmic scale, got {values.min():g}.")
    if values.ndim == 1:
        return _plot_coefficient_1d(path, values, title)
    norm = LogNorm(values.min(), max(values.max(), values.min() * 1.001))
    return _plot_cells(path, values, norm, FIELD, "$A(x)$", title)


def plot_solutions(path: PathLike, solutions: Mapping[str, npt.ArrayLike], columns: int = 0) -> Path:
    """Draw solutions side by side with one colour scale.

    Args:
        path: The file to write.
        solutions: Nodal values by name, each of shape ``(n+1,)*d`` with its own n; d = 2, or 3 for the plane
            x₃ = 0.5.
        columns: Pictures in a row, for narrow pages; all in one row if 0.

    Returns:
        The path.

    Raises:
        InputError: If there is none, or an array does not fit.
    """
    arrays = _solutions(solutions, dims=(2, 3))
    planes = {name: u if u.ndim == 2 else _middle(u, 0) for name, u in arrays.items()}
    low, high = min(u.min() for u in planes.values()), max(u.max() for u in planes.values())
    across, down = _layout(len(planes), columns)
    with figure(1.0 + 2.6 * across, 0.4 + 2.8 * down) as fig:
        axes = _panels(fig, len(planes), columns)
        for ax, (name, u) in zip(axes, planes.items(), strict=True):
            image = _shade(ax, u, Normalize(low, high), SOLUTION, name)
            ax.label_outer()
        dim = next(iter(arrays.values())).ndim
        colorbar(fig, image, axes, "$u(x)$" if dim == 2 else "$u(x_1, x_2, 0.5)$")
        save(fig, path)
    return Path(path)


def plot_differences(path: PathLike, solutions: Mapping[str, npt.ArrayLike]) -> Path:
    """Draw solutions side by side with one colour scale, and below each its difference from the first.

    Each difference has a scale of its own, symmetric about zero.

    Args:
        path: The file to write.
        solutions: Nodal values by name, the reference first, each of shape ``(n+1,)*d`` with its own n; d = 2, or 3 for
            the plane x₃ = 0.5. Where the numbers n differ, one of two must divide the other: both are compared at the
            nodes of the finer one, between which the coarser is interpolated.

    Returns:
        The path.

    Raises:
        InputError: If there are less than two, or an array does not fit.
    """
    arrays = _solutions(solutions, dims=(2, 3))
    if len(arrays) < 2:
        raise InputError(f"solutions must be at least two, the reference first, got {list(arrays)}.")
    planes = {name: u if u.ndim == 2 else _middle(u, 0) for name, u in arrays.items()}
    (first, reference), *others = planes.items()
    low, high = min(u.min() for u in planes.values()), max(u.max() for u in planes.values())
    with figure(1.0 + 3.2 * len(planes), 6.0) as fig:
        axes = fig.subplots(2, len(planes), squeeze=False)
        for ax, (name, u) in zip(axes[0], planes.items(), strict=True):
            image = _shade(ax, u, Normalize(low, high), SOLUTION, name)
        colorbar(fig, image, list(axes[0]), "$u(x)$" if next(iter(arrays.values())).ndim == 2 else "$u(x_1, x_2, 0.5)$")
        axes[1, 0].set_axis_off()
        for ax, (name, u) in zip(axes[1, 1:], others, strict=True):
            difference = _difference(name, u, reference)
            bound = np.abs(difference).max() or 1.0
            image = _shade(ax, difference, Normalize(-bound, bound), DIVERGING, f"{name} \N{MINUS SIGN} {first}")
            colorbar(fig, image, ax, "")
        save(fig, path)
    return Path(path)


def plot_cross_sections(path: PathLike, solutions: Mapping[str, npt.ArrayLike], columns: int = 0) -> Path:
    """Draw solutions along the lines x₁ = 0.5 and x₂ = 0.5 (through the centre in 3D).

    Args:
        path: The file to write.
        solutions: Nodal values by name, each of shape ``(n+1,)*d`` with its own n. In 1D the whole solution
            is drawn.
        columns: Lines drawn in a row, for narrow pages; all in one row if 0.

    Returns:
        The path.

    Raises:
        InputError: If there is none, or an array does not fit.
    """
    arrays = _solutions(solutions, dims=(1, 2, 3))
    dim = next(iter(arrays.values())).ndim
    lines = {1: ((0, ""),), 2: ((1, "$x_1 = 0.5$"), (0, "$x_2 = 0.5$"))}.get(
        dim, ((1, "$x_1 = x_3 = 0.5$"), (0, "$x_2 = x_3 = 0.5$"))
    )
    across, down = _layout(len(lines), columns)
    with figure(3.6 * across if across > 1 else 4.8, 0.3 + 2.6 * down) as fig:
        axes = _panels(fig, len(lines), columns)
        for ax, (along, where) in zip(axes, lines, strict=True):
            for (name, u), style in zip(arrays.items(), line_styles(len(arrays)), strict=True):
                values = _centre_line(u, along)
                nodes = np.linspace(0, 1, len(values))
                ax.plot(nodes, values, color=style.color, ls=style.dashes, lw=style.width, label=name)
            ax.set(xlabel=f"$x_{along + 1}$", xlim=(0, 1), title=where)
            ax.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "0.25", "0.5", "0.75", "1"])
            ax.axhline(0, color="0.8", lw=0.8, zorder=0)
        for ax in axes[::across]:
            ax.set_ylabel("$u$")
        fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=min(len(arrays), 2 * across))
        save(fig, path)
    return Path(path)


def plot_loss(
    path: PathLike, train: Sequence[float], validation: Sequence[float], step_drops: Sequence[int] = ()
) -> Path:
    """Draw the loss (4.1) against the epoch, on a logarithmic scale, with the best epoch marked.

    Args:
        path: The file to write.
        train: Training loss of each epoch.
        validation: Validation loss of each epoch.
        step_drops: Epochs (counted from 1) at whose start the step size drops.

    Returns:
        The path.

    Raises:
        InputError: If the lengths differ or are zero.
    """
    given = {"train": train, "validation": validation}
    curves = [as_numbers(name, values).astype(np.float64) for name, values in given.items()]
    if curves[0].ndim != 1 or curves[0].shape != curves[1].shape or curves[0].size == 0:
        shapes = " and ".join(str(curve.shape) for curve in curves)
        raise InputError(f"train and validation must be lists of the same length, got shapes {shapes}.")
    epochs = np.arange(1, len(curves[0]) + 1)
    with figure(4.8, 3.0) as fig:
        ax = fig.subplots()
        for drop in step_drops:
            ax.axvline(drop - 0.5, color="0.8", lw=0.8, zorder=0)
        for values, name, style in zip(curves, ("training", "validation"), line_styles(3)[1:], strict=True):
            ax.semilogy(epochs, values, color=style.color, ls=style.dashes, lw=style.width, label=name)
        if np.isfinite(curves[1]).any():
            best = int(np.nanargmin(curves[1]))
            label = f"best: {curves[1][best]:.2g} (epoch {best + 1})"
            ax.semilogy(
                epochs[best], curves[1][best], "o", ms=6, color=line_styles(3)[2].color, mec="white", label=label
            )
        ax.set(xlabel="epoch", ylabel="relative loss", xlim=(1, max(len(epochs), 2)))
        ax.margins(y=0.1)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
        ax.grid(axis="y", color="0.92", lw=0.6)
        ax.legend()
        save(fig, path)
    return Path(path)


def plot_local_matrix(path: PathLike, grid: Grid, matrices: Mapping[str, npt.ArrayLike]) -> Path:
    """Draw local matrices S_T as maps: in 2D one picture of the patch nodes for each node of T.

    Args:
        path: The file to write.
        grid: The discretisation.
        matrices: Local matrices by name (say computed, predicted, difference), each of shape
            ``grid.local_matrix_shape``; one row of pictures each, one colour scale.

    Returns:
        The path.

    Raises:
        InputError: If there is none, or a shape does not fit.
    """
    arrays = {name: as_floats(f"matrix {name!r}", S) for name, S in matrices.items()}
    for name, S in arrays.items():
        if S.shape != grid.local_matrix_shape:
            raise InputError(f"matrix {name!r} must have shape {grid.local_matrix_shape}, got {S.shape}.")
    if not arrays:
        raise InputError("matrices must not be empty.")
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
            axes[-1, 0].set_xlabel("columns: node $i$ of the patch; rows: node $j$ of $T$")
        colorbar(fig, image, axes, "$S_T[i, j]$", ticks)
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
    low = grid.elements[element] / grid.coarse  # the corner of T, x first
    start = low - grid.ell / grid.coarse
    nodes = [s + np.arange(expected[1]) / grid.fine for s in start]
    # the patch as far as it lies in D
    limits = [(max(s, 0.0), min(s + grid.patch_width / grid.coarse, 1.0)) for s in start]
    draw = _draw_correctors_1d if grid.dim == 1 else _draw_correctors_2d
    draw(path, values, nodes, limits, low, 1 / grid.coarse)
    return Path(path)


def plot_elements(path: PathLike, values: npt.ArrayLike, label: str, log: bool = False) -> Path:
    """Draw one number per coarse element, for instance the error of its local matrix.

    Args:
        path: The file to write.
        values: Shape ``(coarse,)*d``, d = 2, or 3 for the three planes through the centre.
        label: What the numbers are.
        log: Whether the colour scale is logarithmic.

    Returns:
        The path.

    Raises:
        InputError: If the array does not fit.
    """
    array = _cube("values", values)
    if array.ndim == 1 or (log and array.min() <= 0):
        raise InputError("values must have shape (coarse,)*d with d = 2 or 3, and be positive if log is set.")
    norm = (LogNorm if log else Normalize)(array.min(), array.max())
    return _plot_cells(path, array, norm, SOLUTION, label)


def plot_calibration(path: PathLike, estimates: npt.ArrayLike, errors: npt.ArrayLike) -> Path:
    """Draw true against estimated errors of local matrices.

    Args:
        path: The file to write.
        estimates: Estimates, shape ``(n,)``; infinite ones are left out.
        errors: True errors, same shape.

    Returns:
        The path.

    Raises:
        InputError: If the shapes differ.
    """
    given = {"estimates": estimates, "errors": errors}
    estimate, error = (as_numbers(name, values).astype(np.float64) for name, values in given.items())
    if estimate.ndim != 1 or estimate.shape != error.shape:
        raise InputError(f"estimates and errors must be of one shape (n,), got {estimate.shape} and {error.shape}.")
    known = np.isfinite(estimate) & (error > 0)
    estimate, error = estimate[known], error[known]
    with figure(4.0, 3.6) as fig:
        ax = fig.subplots()
        if len(estimate):
            ax.plot(estimate, error, ".", ms=2, color=line_styles(2)[1].color, alpha=0.3, mew=0, rasterized=True)
            ends = [min(estimate.min(), error.min()), max(estimate.max(), error.max())]
            below = f"error = estimate ({100 * np.mean(error <= estimate):.1f} % lie below)"
            ax.plot(ends, ends, "-", color="black", lw=1, label=below)
            ax.legend(loc="upper left")
        ax.set(xscale="log", yscale="log", xlabel="estimated error", ylabel="true relative error")
        save(fig, path)
    return Path(path)


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


def _cube(name: str, values: Any) -> Array:
    expected = "a finite real array of shape (n,)*d with d = 1, 2 or 3"
    array = as_floats(name, values, expected)
    if array.ndim not in (1, 2, 3) or len(set(array.shape)) != 1:
        raise InputError(f"{name} must be {expected}, got shape {array.shape}.")
    return array


def _solutions(solutions: Mapping[str, npt.ArrayLike], dims: tuple[int, ...]) -> dict[str, Array]:
    arrays = {name: _cube(f"solution {name!r}", u) for name, u in solutions.items()}
    found = {u.ndim for u in arrays.values()}
    if len(found) != 1 or not found <= set(dims) or min(len(u) for u in arrays.values()) < 2:
        raise InputError(
            f"solutions must hold nodal arrays of one dimension out of {dims}, got {sorted(found) or 'none'}."
        )
    return arrays


def _shade(ax: Axes, u: Array, norm: Normalize, cmap: str, title: str) -> Any:
    """Draw nodal values, interpolated between the nodes."""
    nodes = np.linspace(0, 1, len(u))
    image = ax.pcolormesh(nodes, nodes, u, norm=norm, cmap=cmap, shading="gouraud", rasterized=True)
    _square_axes(ax, "$x_1$", "$x_2$", title)
    return image


def _difference(name: str, u: Array, reference: Array) -> Array:
    """The difference to the reference, at the nodes of the finer one of both."""
    few, many = sorted((len(u) - 1, len(reference) - 1))
    if many % few:
        raise InputError(
            f"solution {name!r} and the first one must have numbers of cells of which one divides the other, got "
            f"{len(u) - 1} and {len(reference) - 1}."
        )
    nodes = np.linspace(0, 1, many + 1, dtype=np.float64)
    return np.asarray(_interpolate(u, nodes) - _interpolate(reference, nodes))


def _interpolate(u: Array, nodes: Array) -> Array:
    """Values of a bilinear function at a lattice of points."""
    own = np.linspace(0, 1, len(u))
    for axis in range(2):
        u = np.apply_along_axis(lambda line: np.interp(nodes, own, line), axis, u)
    return u


def _middle(values: Array, axis: int) -> Array:
    """Values at the centre of an array axis, between two entries if their number is even."""
    n = values.shape[axis]
    return values.take([(n - 1) // 2, n // 2], axis).mean(axis=axis)


def _centre_line(u: Array, along: int) -> Array:
    """Values on the line through the centre along x (0), y (1) or z (2)."""
    keep = u.ndim - 1 - along
    for axis in range(u.ndim - 1, -1, -1):
        if axis != keep:
            u = _middle(u, axis)
    return u


def _planes(values: Array) -> list[tuple[str, str, str, Array]]:
    """Pictures of cell values: title, horizontal and vertical label, array."""
    if values.ndim == 2:
        return [("", "$x_1$", "$x_2$", values)]
    names = ("$x_1$", "$x_2$", "$x_3$")
    panels: list[tuple[str, str, str, Array]] = []
    for normal in range(3):
        horizontal, vertical = (name for k, name in enumerate(names) if k != normal)
        plane = values.take([len(values) // 2], axis=2 - normal).squeeze(
            2 - normal
        )  # cells have no middle: the one above it
        panels.append((f"{names[normal][:-1]} = 0.5$", horizontal, vertical, plane))
    return panels


def _plot_cells(
    path: PathLike, values: Array, norm: Normalize, cmap: str, label: str, title: str | None = None
) -> Path:
    panels = _planes(values)
    with figure(1.0 + 2.8 * len(panels), 3.2) as fig:
        axes = fig.subplots(1, len(panels), squeeze=False)[0]
        for ax, (name, horizontal, vertical, plane) in zip(axes, panels, strict=True):
            image = ax.imshow(plane, extent=_UNIT_SQUARE, norm=norm, cmap=cmap)
            _square_axes(ax, horizontal, vertical, name)
        if title:
            fig.suptitle(title)
        colorbar(fig, image, axes, label)
        save(fig, path)
    return Path(path)


def _plot_coefficient_1d(path: PathLike, values: Array, title: str | None) -> Path:
    with figure(4.8, 2.6) as fig:
        ax = fig.subplots()
        ax.stairs(values, np.linspace(0, 1, len(values) + 1), color=line_styles(2)[1].color, baseline=None, lw=1.2)
        ax.set(yscale="log", xlim=(0, 1), xlabel="$x_1$", ylabel="$A(x)$", title=title or "")
        save(fig, path)
    return Path(path)


def _draw_correctors_1d(
    path: PathLike, phi: Array, nodes: list[Array], limits: list[tuple[float, float]], low: Array, H: float
) -> None:
    with figure(4.8, 2.8) as fig:
        ax = fig.subplots()
        ax.axvspan(low[0], low[0] + H, color="0.92", zorder=0)
        ax.axhline(0, color="0.8", lw=0.8, zorder=0)
        for j, (values, style) in enumerate(zip(phi, line_styles(3)[1:], strict=True)):
            ax.plot(nodes[0], values, color=style.color, ls=style.dashes, lw=style.width, label=f"$j = {j + 1}$")
        ax.set(xlabel="$x_1$", ylabel=r"$\phi_{T,j}$", xlim=limits[0])
        ax.legend()
        save(fig, path)


def _draw_correctors_2d(
    path: PathLike, phi: Array, nodes: list[Array], limits: list[tuple[float, float]], low: Array, H: float
) -> None:
    bound = np.abs(phi).max() or 1.0
    with figure(1.0 + 2.6 * len(phi), 3.0) as fig:
        axes = fig.subplots(1, len(phi), sharey=True)
        for j, (ax, values) in enumerate(zip(axes, phi, strict=True)):
            image = ax.pcolormesh(
                *nodes, values, norm=Normalize(-bound, bound), cmap=DIVERGING, shading="gouraud", rasterized=True
            )
            ax.add_patch(Rectangle((low[0], low[1]), H, H, fill=False, lw=0.8, ec="black"))
            ax.set(xlabel="$x_1$", title=f"$j = {j + 1}$", aspect="equal", xlim=limits[0], ylim=limits[1])
            for axis in (ax.xaxis, ax.yaxis):
                axis.set_major_locator(MaxNLocator(4, prune="both"))
        axes[0].set_ylabel("$x_2$")
        colorbar(fig, image, list(axes), r"$\phi_{T,j}(x)$")
        save(fig, path)


def _square_axes(ax: Axes, horizontal: str, vertical: str, title: str) -> None:
    ax.set(xlabel=horizontal, ylabel=vertical, title=title, aspect="equal", xlim=(0, 1), ylim=(0, 1))
    ax.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
    ax.set_yticks([0, 0.5, 1], ["0", "0.5", "1"])


def _bare(ax: Axes) -> None:
    ax.set_xticks([])
    ax.set_yticks([])
    for spine in ax.spines.values():
        spine.set_visible(True)
        spine.set_color("0.7")
