"""Files for ParaView: arrays on regular grids as VTKHDF or VTI, DOLFINx functions as VTX or XDMF.

Both formats for regular grids are VTK's own and open in ParaView without a plugin: VTKHDF in 5.12 and newer,
VTI in every version. They are written here after their specifications
(https://docs.vtk.org/en/latest/vtk_file_formats/), so that no VTK is needed to write them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple
from xml.sax.saxutils import quoteattr

import h5py
import numpy as np
import numpy.typing as npt

from nnlod_fenics.arrays import as_numbers
from nnlod_fenics.coefficient import check_coefficient
from nnlod_fenics.domain import nodes_of
from nnlod_fenics.errors import InputError
from nnlod_fenics.grid import Grid
from nnlod_fenics.runtime.files import hdf5_image, replacing

__all__ = ["write_arrays", "write_coefficient", "write_results"]

Arrays = Mapping[str, npt.ArrayLike]


_HIDDEN_CELL, _HIDDEN_POINT = 32, 2  # of vtkDataSetAttributes: filters and renderers leave these out
_GHOSTS = "vtkGhostType"


class _Image(NamedTuple):
    """Arrays on a regular grid of a box, ``cells`` per axis and ``lengths`` x first, components (if any) last."""

    cells: tuple[int, ...]
    lengths: tuple[float, ...]
    point_data: dict[str, npt.NDArray[Any]]
    cell_data: dict[str, npt.NDArray[Any]]

    @property
    def dim(self) -> int:
        return len(self.cells)

    @property
    def extent(self) -> list[int]:
        return [bound for n in (*self.cells, 0, 0)[:3] for bound in (0, n)]

    @property
    def spacing(self) -> list[float]:
        return [side / n for side, n in zip(self.lengths, self.cells, strict=True)] + [1.0] * (3 - self.dim)


def write_arrays(
    path: str | os.PathLike[str],
    dim: int,
    point_data: Arrays | None = None,
    cell_data: Arrays | None = None,
    grid: Grid | None = None,
) -> Path:
    """Write arrays on one regular grid of D.

    What does not belong to D is hidden (``vtkGhostType``): ParaView neither draws it nor counts it in statistics.

    Args:
        path: File with the suffix ``.vtkhdf`` or ``.vti``; overwritten.
        dim: Space dimension d.
        point_data: Nodal values by name, each of shape ``(n_y+1, n_x+1)``, and likewise for other d.
        cell_data: Cell values by name, each of shape ``(n_y, n_x)``, or ``(n_y, n_x, d, d)`` for matrices, which
            become 3×3 tensors.
        grid: The discretisation, whose elements are cells of the regular grid or unions of them. If None, D is the unit
            cube, with n cells along every axis.

    Returns:
        The path.

    Raises:
        InputError: If the suffix, a name or a shape does not fit.
    """
    target = Path(path)
    writer = {".vtkhdf": _write_vtkhdf, ".vti": _write_vti}.get(target.suffix)
    if writer is None:
        raise InputError(f"path must end in .vtkhdf or .vti, got {str(target)!r}.")
    image = _image(dim, point_data or {}, cell_data or {}, grid)
    with replacing(target) as temporary:
        writer(temporary, image)
    return target


def write_coefficient(path: str | os.PathLike[str], grid: Grid, A: npt.ArrayLike) -> Path:
    """Write a diffusion coefficient as cell data on T_ε: ``A`` and, for a scalar one, ``log A``.

    Args:
        path: File with the suffix ``.vtkhdf`` or ``.vti``; overwritten.
        grid: The discretisation.
        A: Values on T_ε, shape ``coefficient_shape`` or ``coefficient_shape + (d, d)``.

    Returns:
        The path.

    Raises:
        InputError: If the suffix or A does not fit.
    """
    values = check_coefficient(grid, A)
    data = {"A": values}
    if values.ndim == grid.dim:
        data["log A"] = np.log(values)
    return write_arrays(path, grid.dim, cell_data=data, grid=grid)


def write_results(
    folder: str | os.PathLike[str],
    grid: Grid,
    A: npt.ArrayLike | None = None,
    solutions: Arrays | None = None,
    suffix: str = ".vtkhdf",
) -> list[Path]:
    """Write a coefficient and solutions, one file for each mesh: T_ε, T_h and T_H.

    Args:
        folder: Where ``coefficient``, ``fine_solution`` and ``coarse_solution`` go; made if missing.
        grid: The discretisation.
        A: Coefficient on T_ε.
        solutions: Nodal values by name, each of shape ``grid.fine_node_shape`` or ``grid.node_shape``.
        suffix: ``.vtkhdf`` or ``.vti``.

    Returns:
        The files written.

    Raises:
        InputError: If the suffix or an array does not fit.
    """
    meshes = {"fine_solution": grid.fine_node_shape, "coarse_solution": grid.node_shape}
    files: dict[str, dict[str, npt.ArrayLike]] = {}
    for name, values in (solutions or {}).items():
        shape = as_numbers(f"solution {name!r}", values).shape
        fits = [mesh for mesh, expected in meshes.items() if shape == expected]
        if not fits:
            raise InputError(
                f"solution {name!r} must have shape {' or '.join(map(str, meshes.values()))}, got {shape}."
            )
        files.setdefault(fits[0], {})[name] = values
    written = [] if A is None else [write_coefficient(Path(folder, "coefficient" + suffix), grid, A)]
    for mesh, data in files.items():
        written.append(write_arrays(Path(folder, mesh + suffix), grid.dim, point_data=data, grid=grid))
    return written


def _image(dim: int, point_data: Arrays, cell_data: Arrays, grid: Grid | None) -> _Image:
    points = {name: _floats(name, values) for name, values in point_data.items()}
    cells = {name: _floats(name, values) for name, values in cell_data.items()}
    shape = _common_shape(dim, list(points.values()), list(cells.values()), grid)
    nodes = tuple(n + 1 for n in shape)
    for name, values in points.items():
        if values.shape != nodes:
            raise InputError(f"point_data {name!r} must have shape {nodes}, got {values.shape}.")
    for name, values in cells.items():
        if values.shape not in (shape, (*shape, dim, dim)):
            raise InputError(f"cell_data {name!r} must have shape {shape} or {(*shape, dim, dim)}, got {values.shape}.")
        if values.ndim > dim:
            cells[name] = np.pad(values, [(0, 0)] * dim + [(0, 3 - dim)] * 2).reshape((*shape, 9))
    if grid is not None and grid.inactive:
        active = grid.active
        for axis, n in enumerate(shape):
            active = np.repeat(active, n // grid.element_shape[axis], axis=axis)
        cells[_GHOSTS] = np.where(active, 0, _HIDDEN_CELL).astype(np.uint8)
        points[_GHOSTS] = np.where(nodes_of(active), 0, _HIDDEN_POINT).astype(np.uint8)
    return _Image(shape[::-1], (1.0,) * dim if grid is None else grid.lengths, points, cells)


def _common_shape(
    dim: int, points: list[npt.NDArray[Any]], cells: list[npt.NDArray[Any]], grid: Grid | None
) -> tuple[int, ...]:
    """Cells per axis, [z, y, x], of the first array; all must be on one grid of D."""
    sizes = {len(v) - 1 for v in points if v.ndim} | {len(v) for v in cells if v.ndim}
    if dim not in (1, 2, 3) or len(sizes) != 1 or min(sizes) < 1 or (grid is not None and grid.dim != dim):
        raise InputError("point_data and cell_data must hold arrays on one grid of dimension 1, 2 or 3.")
    if grid is None:
        return (sizes.pop(),) * dim
    found = tuple(n - 1 for n in points[0].shape) if points else cells[0].shape[:dim]
    if len(found) != dim or any(n < 1 or n % m for n, m in zip(found, grid.element_shape, strict=True)):
        raise InputError(
            "point_data and cell_data must hold arrays on one mesh of D, which has "
            f"{grid.element_shape} coarse elements ([z, y, x]), got {found} cells."
        )
    return found


def _floats(name: str, values: Any) -> npt.NDArray[np.float64]:
    if not name or "/" in name:
        raise InputError(f"{name!r} must be a name without '/' of an array of real numbers.")
    return as_numbers(repr(name), values, kinds="fiub").astype(np.float64, copy=False)


def _write_vtkhdf(path: Path, image: _Image) -> None:
    def fill(file: h5py.File) -> None:
        root = file.create_group("VTKHDF")
        # The layout of static images is that of version 1, which every reader of the format knows.
        root.attrs["Version"] = np.array([1, 0], dtype=np.int64)
        root.attrs["Type"] = np.bytes_("ImageData")
        root.attrs["WholeExtent"] = np.array(image.extent, dtype=np.int64)
        root.attrs["Origin"] = np.zeros(3)
        root.attrs["Spacing"] = np.array(image.spacing)
        root.attrs["Direction"] = np.eye(3).ravel()
        for group, data in (("PointData", image.point_data), ("CellData", image.cell_data)):
            for name, values in data.items():
                root.create_dataset(f"{group}/{name}", data=values)

    path.write_bytes(hdf5_image(fill))


def _write_vti(path: Path, image: _Image) -> None:
    extent = " ".join(map(str, image.extent))
    spacing = " ".join(map(repr, image.spacing))
    header = [
        f'<VTKFile type="ImageData" version="1.0" byte_order="{sys.byteorder.capitalize()}Endian" '
        'header_type="UInt64">',
        f'<ImageData WholeExtent="{extent}" Origin="0 0 0" Spacing="{spacing}"><Piece Extent="{extent}">',
    ]
    blocks: list[npt.NDArray[Any]] = []
    offset = 0
    for group, data in (("PointData", image.point_data), ("CellData", image.cell_data)):
        header.append(f"<{group}>")
        for name, values in data.items():
            components = values.shape[-1] if values.ndim > image.dim else 1
            kind = "UInt8" if values.dtype == np.uint8 else "Float64"
            header.append(
                f'<DataArray type="{kind}" Name={quoteattr(name)} NumberOfComponents="{components}" '
                f'format="appended" offset="{offset}"/>'
            )
            blocks.append(values)
            offset += 8 + values.nbytes
        header.append(f"</{group}>")
    header.append('</Piece></ImageData><AppendedData encoding="raw">_')
    with open(path, "wb") as file:
        file.write("\n".join(header).encode())
        for values in blocks:
            file.write(np.uint64(values.nbytes).tobytes() + values.tobytes())
        file.write(b"\n</AppendedData></VTKFile>\n")
