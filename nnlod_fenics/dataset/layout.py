"""Files of a dataset.

A dataset is a folder::

    dataset.h5          everything, opened with plain h5py: virtual datasets over the blocks, and attributes
    blocks/000000.h5    some consecutive realizations, the unit of work and of loss
    blocks/000001.h5    …

with the datasets ``Z`` (log A on T_ε, ``(n, 1/ε, …)``), ``S`` (local matrices, ``(n, elements, rows,
columns)``), ``checksum`` (CRC-32 of the bytes of Z, then S), ``done`` (1 where computed) and ``parameters``.
The virtual datasets are made before the first realization: what is not there yet reads as NaN, and as 0 in
``done``.

Why not one file written in parallel (mpio), or one file a writer: a process killed while it has a file open
for writing can leave that file unreadable, and with it all that was in it. A block is written under a
temporary name and renamed, so that a killed job leaves whole blocks and nothing else. No rank waits for
another, and files of tens of megabytes suit parallel file systems.
"""

from __future__ import annotations

import json
import os
import zlib
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from nnlod_fenics.errors import InputError
from nnlod_fenics.grid import Grid
from nnlod_fenics.output.files import replacing

__all__ = ["INDEX", "LAYOUT_VERSION", "Block", "Header", "block_path", "create_index", "read_header", "write_block"]

LAYOUT_VERSION = 1
INDEX = "dataset.h5"

Array = npt.NDArray[Any]

PARAMETERS = ("variance", "correlation_length", "smoothness")


@dataclass(frozen=True)
class Header:
    """What a dataset says of itself.

    Attributes:
        grid: The discretisation.
        config: All settings of the run that made it.
        realizations: Number of realizations.
        block: Realizations of a block.
        versions: Versions of the software.
    """

    grid: Grid
    config: dict[str, Any]
    realizations: int
    block: int
    versions: dict[str, str]

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the stored numbers."""
        return np.dtype(self.config["dataset"]["dtype"])

    @property
    def num_blocks(self) -> int:
        """Number of blocks."""
        return -(-self.realizations // self.block)

    def members(self, block: int) -> range:
        """Realizations of a block."""
        return range(block * self.block, min((block + 1) * self.block, self.realizations))

    def shapes(self) -> dict[str, tuple[tuple[int, ...], np.dtype[Any], Any]]:
        """Shape of one realization, type and fill value of each dataset."""
        matrices = (self.grid.num_elements, *self.grid.local_matrix_shape)
        return {
            "Z": (self.grid.coefficient_shape, self.dtype, np.nan),
            "S": (matrices, self.dtype, np.nan),
            "parameters": ((len(PARAMETERS),), np.dtype(np.float64), np.nan),
            "checksum": ((), np.dtype(np.uint32), 0),
            "done": ((), np.dtype(np.uint8), 0),
        }


@dataclass(frozen=True)
class Block:
    """Some consecutive realizations.

    Attributes:
        Z: Shape ``(k, 1/ε, …)``.
        S: Shape ``(k, elements, rows, columns)``.
        parameters: Of the fields, NaN where a law has none; shape ``(k, 3)``.
    """

    Z: Array
    S: Array
    parameters: Array


def software_versions() -> dict[str, str]:
    """Versions of this package and of those that determine the numbers."""
    names = ("nnlod-fenics", "fenics-dolfinx", "petsc4py", "numpy", "scipy", "torch", "gstools", "h5py")
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def checksum(Z: Array, S: Array) -> int:
    """CRC-32 of one realization as stored."""
    return zlib.crc32(np.ascontiguousarray(S), zlib.crc32(np.ascontiguousarray(Z)))


def block_path(folder: Path, block: int) -> Path:
    """File of a block."""
    return folder / "blocks" / f"{block:06d}.h5"


def create_index(folder: Path, header: Header) -> None:
    """Write ``dataset.h5``: virtual datasets over all blocks that will be, and the attributes."""
    with replacing(folder / INDEX) as temporary, h5py.File(temporary, "w", libver="latest") as file:
        for name, (shape, dtype, fill) in header.shapes().items():
            layout = h5py.VirtualLayout((header.realizations, *shape), dtype)
            for block in range(header.num_blocks):
                members = header.members(block)
                source = h5py.VirtualSource(
                    os.path.relpath(block_path(folder, block), folder), name, (len(members), *shape), dtype
                )
                layout[members.start : members.stop] = source
            file.create_virtual_dataset(name, layout, fillvalue=fill)
        file["parameters"].attrs["names"] = list(PARAMETERS)
        file.attrs["layout_version"] = LAYOUT_VERSION
        file.attrs["config"] = json.dumps(header.config)
        file.attrs["seed"] = header.config["dataset"]["seed"]
        file.attrs["versions"] = json.dumps(header.versions)


def read_header(folder: Path) -> Header:
    """Read what a dataset says of itself.

    Raises:
        InputError: If there is no dataset, or none that this version can read.
    """
    path = folder / INDEX
    if not path.is_file():
        raise InputError(f"dataset {str(folder)!r} does not exist: there is no {INDEX} in it.")
    try:
        with h5py.File(path, "r") as file:
            attributes = dict(file.attrs)
            realizations = len(file["Z"])
        layout = int(attributes["layout_version"])
    except (OSError, KeyError) as error:
        raise InputError(
            f"dataset {str(folder)!r} cannot be read: {INDEX} is damaged or truncated ({error})."
        ) from None
    if layout > LAYOUT_VERSION:
        raise InputError(
            f"dataset {str(folder)!r} has layout version {layout}, this nnlod-fenics reads up to {LAYOUT_VERSION}; "
            f"install a newer one."
        )
    config = json.loads(attributes["config"])
    return Header(
        Grid(**config["grid"]), config, realizations, config["dataset"]["block"], json.loads(attributes["versions"])
    )


def write_block(folder: Path, header: Header, block: int, content: Block) -> None:
    """Write a block under a temporary name and rename it."""
    members = header.members(block)
    Z, S = content.Z.astype(header.dtype, copy=False), content.S.astype(header.dtype, copy=False)
    columns: dict[str, Array] = {
        "Z": Z,
        "S": S,
        "parameters": content.parameters,
        "checksum": np.array([checksum(z, s) for z, s in zip(Z, S, strict=True)], dtype=np.uint32),
        "done": np.ones(len(members), dtype=np.uint8),
    }
    with replacing(block_path(folder, block)) as temporary, h5py.File(temporary, "w", libver="latest") as file:
        for name, values in columns.items():
            chunks = (1, *values.shape[1:]) if values.ndim > 1 else None
            file.create_dataset(name, data=values, chunks=chunks)
        file.attrs["first"] = members.start
        file.flush()
