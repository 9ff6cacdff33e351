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
from nnlod_fenics.errors import InputError
from nnlod_fenics.grid import Grid
from nnlod_fenics.runtime.files import hdf5_image, replacing

__all__ = ["write_arrays", "write_coefficient", "write_results"]

Arrays = Mapping[str, npt.ArrayLike]


class _Image(NamedTuple):
    """Arrays on the regular grid of ``cells`` cells per axis of (0,1)^dim, components (if any) last."""

    dim: int
    cells: int
    point_data: dict[str, npt.NDArray[np.float64]]
    cell_data: dict[str, npt.NDArray[np.float64]]

    @property
    def extent(self) -> list[int]:
        return [bound for axis in range(3) for bound in (0, self.cells if axis < self.dim else 0)]

    @property
    def spacing(self) -> list[float]:
        return [1 / self.cells] * self.dim + [1.0] * (3 - self.dim)


def write_arrays(
    path: str | os.PathLike[str], dim: int, point_data: Arrays | None = None, cell_data: Arrays | None = None
) -> Path:
    """Write arrays on one regular grid of D = (0,1)^d.

    Args:
        path: File with the suffix ``.vtkhdf`` or ``.vti``; overwritten.
        dim: Space dimension d.
        point_data: Nodal values by name, each of shape ``(n+1,)*d``.
        cell_data: Cell values by name, each of shape ``(n,)*d``, or ``(n,)*d + (d, d)`` for matrices, which
            become 3×3 tensors.

    Returns:
        The path.

    Raises:
        InputError: If the suffix, a name or a shape does not fit.
    """
    target = Path(path)
    writer = {".vtkhdf": _write_vtkhdf, ".vti": _write_vti}.get(target.suffix)
    if writer is None:
        raise InputError(f"path must end in .vtkhdf or .vti, got {str(target)!r}.")
    image = _image(dim, point_data or {}, cell_data or {})
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
    return write_arrays(path, grid.dim, cell_data=data)


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
        solutions: Nodal values by name, each of shape ``(fine+1,)*d`` or ``(coarse+1,)*d``.
        suffix: ``.vtkhdf`` or ``.vti``.

    Returns:
        The files written.

    Raises:
        InputError: If the suffix or an array does not fit.
    """
    meshes = {"fine_solution": grid.fine, "coarse_solution": grid.coarse}
    files: dict[str, dict[str, npt.ArrayLike]] = {}
    for name, values in (solutions or {}).items():
        shape = as_numbers(f"solution {name!r}", values).shape
        fits = [mesh for mesh, n in meshes.items() if shape == (n + 1,) * grid.dim]
        if not fits:
            expected = " or ".join(str((n + 1,) * grid.dim) for n in meshes.values())
            raise InputError(f"solution {name!r} must have shape {expected}, got {shape}.")
        files.setdefault(fits[0], {})[name] = values
    written = [] if A is None else [write_coefficient(Path(folder, "coefficient" + suffix), grid, A)]
    for mesh, data in files.items():
        written.append(write_arrays(Path(folder, mesh + suffix), grid.dim, point_data=data))
    return written


def _image(dim: int, point_data: Arrays, cell_data: Arrays) -> _Image:
    points = {name: _floats(name, values) for name, values in point_data.items()}
    cells = {name: _floats(name, values) for name, values in cell_data.items()}
    sizes = {len(v) - 1 for v in points.values() if v.ndim} | {len(v) for v in cells.values() if v.ndim}
    n = sizes.pop() if len(sizes) == 1 else 0
    if dim not in (1, 2, 3) or n < 1:
        raise InputError("point_data and cell_data must hold arrays on one grid of dimension 1, 2 or 3.")
    for name, values in points.items():
        if values.shape != (n + 1,) * dim:
            raise InputError(f"point_data {name!r} must have shape {(n + 1,) * dim}, got {values.shape}.")
    for name, values in cells.items():
        if values.shape not in ((n,) * dim, (n,) * dim + (dim, dim)):
            raise InputError(
                f"cell_data {name!r} must have shape {(n,) * dim} or {(n,) * dim + (dim, dim)}, got {values.shape}."
            )
        if values.ndim > dim:
            cells[name] = np.pad(values, [(0, 0)] * dim + [(0, 3 - dim)] * 2).reshape((n,) * dim + (9,))
    return _Image(dim, n, points, cells)


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
    blocks: list[npt.NDArray[np.float64]] = []
    offset = 0
    for group, data in (("PointData", image.point_data), ("CellData", image.cell_data)):
        header.append(f"<{group}>")
        for name, values in data.items():
            components = values.shape[-1] if values.ndim > image.dim else 1
            header.append(
                f'<DataArray type="Float64" Name={quoteattr(name)} NumberOfComponents="{components}" '
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
