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
from nnlod_fenics.errors import InputError, MissingDependencyError
from nnlod_fenics.output.style import FIELD, SOLUTION, colorbar, figure, save

__all__ = ["render_coefficient", "render_solution"]

PathLike = str | os.PathLike[str]
_SIZE = (1600, 1600)
_HEADLESS = (
    ("libEGL.so.1", "vtkEGLRenderWindow"),
    ("libOSMesa.so.8", "vtkOSOpenGLRenderWindow"),
    ("libOSMesa.so", "vtkOSOpenGLRenderWindow"),
)


def render_solution(path: PathLike, u: npt.ArrayLike, label: str = "$u(x)$") -> Path:
    """Picture of a solution: a surface over D in 2D, slices through the centre in 3D.

    Args:
        path: The file to write; the suffix chooses the format.
        u: Nodal values, shape ``(n+1,)*d``, d = 2 or 3.
        label: Label of the colour bar.

    Returns:
        The path.

    Raises:
        InputError: If u is not such an array.
        MissingDependencyError: If PyVista or the graphics libraries it needs are missing.
    """
    values = _cube("u", u)
    pv = _pyvista()
    grid = _image(pv, values.shape, points=True)
    grid.point_data["u"] = values.ravel()
    norm = Normalize(values.min(), values.max())
    plotter = _plotter(pv)
    if values.ndim == 2:
        surface = grid.warp_by_scalar("u", factor=0.4 / (float(np.abs(values).max()) or 1.0))
        plotter.add_mesh(surface, **_colours(norm, SOLUTION), smooth_shading=True, ambient=0.3, diffuse=0.8)
        _outline(pv, plotter, height=0)
    else:
        plotter.add_mesh(grid.slice_orthogonal(), **_colours(norm, SOLUTION), lighting=False)
        _outline(pv, plotter, height=1)
    return _shoot(plotter, path, norm, SOLUTION, label)


def render_coefficient(path: PathLike, A: npt.ArrayLike, label: str = "$A(x)$") -> Path:
    """Picture of a coefficient in 3D, an octant cut away, on a logarithmic colour scale.

    Args:
        path: The file to write; the suffix chooses the format.
        A: Positive cell values, shape ``(n,)*3``.
        label: Label of the colour bar.

    Returns:
        The path.

    Raises:
        InputError: If A is not such an array.
        MissingDependencyError: If PyVista or the graphics libraries it needs are missing.
    """
    values = _cube("A", A)
    if values.ndim != 3 or values.min() <= 0:
        raise InputError(f"A must be positive of shape (n,)*3, got shape {values.shape}.")
    pv = _pyvista()
    grid = _image(pv, values.shape, points=False)
    grid.cell_data["A"] = values.ravel()
    centres = grid.cell_centers().points
    cut = (centres[:, 0] > 0.5) & (centres[:, 1] < 0.5) & (centres[:, 2] > 0.5)
    norm = LogNorm(values.min(), max(values.max(), values.min() * 1.001))
    plotter = _plotter(pv)
    kept = grid.extract_cells(np.flatnonzero(~cut))
    plotter.add_mesh(kept, **_colours(norm, FIELD), log_scale=True, ambient=0.6, diffuse=0.5)
    return _shoot(plotter, path, norm, FIELD, label)


def _cube(name: str, values: Any) -> npt.NDArray[np.float64]:
    expected = "a finite real array of shape (n,)*d with d = 2 or 3"
    array = as_floats(name, values, expected)
    if array.ndim not in (2, 3) or len(set(array.shape)) != 1 or array.shape[0] < 2:
        raise InputError(f"{name} must be {expected}, got shape {array.shape}.")
    return array


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


def _image(pv: Any, shape: tuple[int, ...], points: bool) -> Any:
    """Regular grid of (0,1)^d for node (points) or cell arrays of a shape."""
    nodes = shape[0] if points else shape[0] + 1
    flat = 3 - len(shape)
    return pv.ImageData(
        dimensions=(nodes,) * len(shape) + (1,) * flat, spacing=(1 / (nodes - 1),) * len(shape) + (1.0,) * flat
    )


def _plotter(pv: Any) -> Any:
    plotter = pv.Plotter(off_screen=True, window_size=_SIZE)
    plotter.set_background("white")
    plotter.enable_anti_aliasing("ssaa")
    return plotter


def _colours(norm: Normalize, cmap: str) -> dict[str, Any]:
    return {"cmap": cmap, "clim": (norm.vmin, norm.vmax), "show_scalar_bar": False}


def _outline(pv: Any, plotter: Any, height: float) -> None:
    """The edges of D."""
    edges = pv.Box((0, 1, 0, 1, 0, height)).extract_feature_edges()
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
