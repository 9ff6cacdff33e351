"""Three-dimensional pictures with PyVista, rendered without a display."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize

from nnlod_fenics.arrays import as_floats
from nnlod_fenics.coefficient import check_positive_field
from nnlod_fenics.errors import InputError, MissingDependencyError
from nnlod_fenics.grid import Grid
from nnlod_fenics.norms import nodal_values
from nnlod_fenics.output.style import FIELD, SOLUTION, colorbar, figure, save

__all__ = ["render_coefficient", "render_solution"]

PathLike = str | os.PathLike[str]
_SIZE = (1600, 1600)
_HEADLESS = (
    ("libEGL.so.1", "vtkEGLRenderWindow"),
    ("libOSMesa.so.8", "vtkOSOpenGLRenderWindow"),
    ("libOSMesa.so", "vtkOSOpenGLRenderWindow"),
)


def render_solution(path: PathLike, u: npt.ArrayLike, label: str = "$u(x)$", grid: Grid | None = None) -> Path:
    """Picture of a solution: a surface over D in 2D, slices through the centre in 3D.

    Args:
        path: The file to write; the suffix chooses the format.
        u: Nodal values on T_H or T_h, d = 2 or 3; of shape ``(n+1,)*d`` without a grid.
        label: Label of the colour bar.
        grid: The discretisation; the unit cube if None. Inactive elements are left out.

    Returns:
        The path.

    Raises:
        InputError: If u is not such an array.
        MissingDependencyError: If PyVista or the graphics libraries it needs are missing.
    """
    level, values = nodal_values("u", u, grid)
    if level.dim == 1:
        raise InputError("u must have d = 2 or 3 to be rendered, got d = 1.")
    pv = _pyvista()
    mesh = _image(pv, level)
    mesh.point_data["u"] = values.ravel()
    inside = values[level.active_nodes]
    norm = Normalize(inside.min(), inside.max())
    plotter = _plotter(pv)
    if level.dim == 2:
        ground = min(max(0.0, norm.vmin), norm.vmax)  # zero, or the value nearest to it
        mesh.point_data["height"] = values.ravel() - ground
        factor = 0.4 * max(level.lengths) / (float(np.abs(inside - ground).max()) or 1.0)
        surface = _active(mesh, level).warp_by_scalar("height", factor=factor)
        plotter.add_mesh(
            surface, scalars="u", **_colours(norm, SOLUTION), smooth_shading=True, ambient=0.3, diffuse=0.8
        )
    else:
        plotter.add_mesh(_active(mesh, level).slice_orthogonal(), **_colours(norm, SOLUTION), lighting=False)
    _outline(pv, plotter, level.lengths)
    return _shoot(plotter, path, norm, SOLUTION, label)


def render_coefficient(path: PathLike, A: npt.ArrayLike, label: str = "$A(x)$", grid: Grid | None = None) -> Path:
    """Picture of a coefficient in 3D, an octant cut away, on a logarithmic colour scale.

    Args:
        path: The file to write; the suffix chooses the format.
        A: Positive cell values, shape ``grid.coefficient_shape``; ``(n,)*3`` without a grid.
        label: Label of the colour bar.
        grid: The discretisation; the unit cube if None. Inactive elements are left out.

    Returns:
        The path.

    Raises:
        InputError: If A is not such an array.
        MissingDependencyError: If PyVista or the graphics libraries it needs are missing.
    """
    if grid is None:
        array = as_floats("A", A, "a finite real array of shape (n,)*3")
        if array.ndim != 3 or len(set(array.shape)) != 1:
            raise InputError(f"A must have shape (n,)*3, got {array.shape}.")
        grid = Grid(3, len(array), len(array), 0)
    values = check_positive_field(grid, A)
    if grid.dim != 3:
        raise InputError(f"A must have d = 3 to be rendered, got d = {grid.dim}.")
    pv, level = _pyvista(), Grid(3, grid.coefficient, grid.coefficient, 0, None, grid.lengths)
    mesh = _image(pv, level)
    mesh.cell_data["A"] = values.ravel()
    x, y, z = (mesh.cell_centers().points - np.asarray(grid.lengths) / 2).T
    cut = (x > 0) & (y < 0) & (z > 0)
    norm = LogNorm(values.min(), max(values.max(), values.min() * 1.001))
    plotter = _plotter(pv)
    kept = mesh.extract_cells(np.flatnonzero(~cut & grid.active_cells.ravel()))
    plotter.add_mesh(kept, **_colours(norm, FIELD), log_scale=True, ambient=0.6, diffuse=0.5)
    return _shoot(plotter, path, norm, FIELD, label)


def _pyvista() -> Any:
    """PyVista, after a look for the library that draws without a display: VTK crashes where it is missing."""
    if sys.platform == "linux" and not os.environ.get("DISPLAY"):
        window = next((name for library, name in _HEADLESS if _loads(library)), None)
        if window is None:
            raise MissingDependencyError(
                "pictures with PyVista need libEGL or OSMesa where there is no display; "
                "install libegl1 and libegl-mesa0 (Debian) or mesalib (conda-forge)."
            )
        os.environ.setdefault("VTK_DEFAULT_OPENGL_WINDOW", window)  # else VTK tries X first, and says so
    try:
        import pyvista
    except ImportError as error:
        raise MissingDependencyError(
            f"pictures need PyVista and its graphics libraries ({error}); install pyvista and libgl1, libxrender1."
        ) from error
    return pyvista


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def _image(pv: Any, level: Grid) -> Any:
    """The regular grid of a mesh, a grid whose elements are its cells."""
    flat = 3 - level.dim
    nodes = (*(n + 1 for n in level.coarse), *(1,) * flat)
    return pv.ImageData(dimensions=nodes, spacing=(*level.widths, *(1.0,) * flat))


def _active(mesh: Any, level: Grid) -> Any:
    """The part of a mesh that belongs to D."""
    return mesh.extract_cells(level.active_elements) if level.inactive else mesh


def _plotter(pv: Any) -> Any:
    plotter = pv.Plotter(off_screen=True, window_size=_SIZE)
    plotter.set_background("white")
    plotter.enable_anti_aliasing("ssaa")
    return plotter


def _colours(norm: Normalize, cmap: str) -> dict[str, Any]:
    return {"cmap": cmap, "clim": (norm.vmin, norm.vmax), "show_scalar_bar": False}


def _outline(pv: Any, plotter: Any, lengths: tuple[float, ...]) -> None:
    """The edges of the box."""
    bounds = [bound for side in (*lengths, 0.0)[:3] for bound in (0, side)]
    edges = pv.Box(bounds).extract_feature_edges()
    plotter.add_mesh(edges, color="#808080", line_width=2)


def _shoot(plotter: Any, path: PathLike, norm: Normalize, cmap: str, label: str) -> Path:
    """Render, cut off the white margin and set the picture beside a colour bar."""
    try:
        plotter.view_vector((1.0, -1.4, 0.9), viewup=(0, 0, 1))
        picture: npt.NDArray[np.uint8] = np.asarray(plotter.screenshot(return_img=True))
    finally:
        plotter.close()
    rows, columns = np.nonzero(picture.min(axis=2) < 250)
    picture = picture[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    with figure(4.8, 0.4 + 3.8 * picture.shape[0] / picture.shape[1]) as fig:
        ax = fig.subplots()
        ax.imshow(picture, origin="upper", interpolation="antialiased")
        ax.set_axis_off()
        colorbar(fig, ScalarMappable(norm, cmap), ax, label)
        save(fig, path)
    return Path(path)
