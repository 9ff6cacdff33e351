"""Files of a dataset.

A dataset is a folder::

    dataset.h5          everything, opened with plain h5py: virtual datasets over the blocks, and attributes
    blocks/000000.h5    some consecutive realizations, the unit of work and of loss
    blocks/000001.h5    …

with the datasets

* ``Z``: log A on T_ε, ``(n, 1/ε, …)``, on all of the box; a patch of an element is cut from it when read;
* ``S``: local matrices of that field, ``(n, elements, (2ℓ+2)^d, 2^d)``, zero for inactive elements; or in the Galerkin
  form ``K``, ``(n, elements, (2ℓ+2)^d, (2ℓ+2)^d)``;
* ``b``, if wanted: what elements add to the load for f = 1, ``(n, elements, (2ℓ+2)^d)``;
* ``marks``, if domains are drawn: what elements are and what lies around the box, ``(n, 1/H + 2, …)``: 1 in D, 0
  outside where A ∂u/∂n is given, -1 where u is given;
* ``parameters``: variance, correlation length and smoothness of the field, NaN where it has none, and any others that
  its law has; the attribute ``names`` lists them;
* ``origin``: seed and number that the realization was drawn with;
* ``checksum``: CRC-32 of the bytes of Z, of the matrices, and of b and marks if there are any; ``done``: 1 where
  computed.

The attribute ``config`` of the file holds the settings as JSON, the grid among them; where they are too long for an
attribute (a mask of many runs, thousands of measured values), it is a dataset of this name.

Each has the attributes ``description``, ``units`` and ``axes``. Z and S are chunked by realization. The virtual
datasets are made before the first realization: what is not there yet reads as NaN, and as 0 in ``done``.

Why not one file written by all ranks (``mpio``)? Writing takes 0.2 to 0.3 % of the time of computing (paper's
discretisation), so throughput does not decide; on two ranks of a busy machine mpio wrote 296 MB/s, files of
their own, each synchronised, 197 MB/s (``tests/benchmarks/bench_dataset.py storage``). What a kill leaves
behind decides: in four tries of four HDF5 could not open a parallel file whose rank was killed. With regular
flushes it could, in four of four, but a flush is collective, so that ranks would wait for each other. A block
is written under a temporary name, synchronised and renamed, so that a killed job leaves whole blocks and
nothing else. No rank waits for another, and any h5py will do.
"""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from nnlod_fenics.errors import InputError
from nnlod_fenics.fields.laws import PARAMETERS
from nnlod_fenics.grid import Grid
from nnlod_fenics.runtime.files import is_file, write_hdf5
from nnlod_fenics.window import PETROV_GALERKIN, Window

__all__ = [
    "INDEX",
    "LAYOUT_VERSION",
    "UNSTATED",
    "Block",
    "Header",
    "block_path",
    "checksum",
    "create_index",
    "identity_of",
    "read_header",
    "write_block",
]

LAYOUT_VERSION = 3
"""Version of the layout of what version 2 does not know: the Galerkin form, and loads."""
UNSTATED: dict[str, Any] = {"form": PETROV_GALERKIN, "loads": False, "domains": 0.0}
"""Settings of a dataset that it states only where they differ: former versions know none of them."""
INDEX = "dataset.h5"
"""Name of the file that gathers all blocks."""

Array = npt.NDArray[Any]
_LONGEST = 60_000  # bytes of an attribute; HDF5 takes 64 KiB with what it adds


@dataclass(frozen=True)
class Header:
    """What a dataset says of itself.

    Attributes:
        grid: The discretisation.
        config: All settings of the run that made it.
        realizations: Number of realizations.
        block: Realizations of a block.
        versions: Versions of the software.
        made_by: ``"generate"``, ``"merge"`` or ``"split"``.
        parameters: Names of the parameters of the fields.
        identity: What its blocks must bear; empty for a dataset of version 0.1, whose blocks bear nothing.
    """

    grid: Grid
    config: dict[str, Any]
    realizations: int
    block: int
    versions: dict[str, str]
    made_by: str = "generate"
    parameters: tuple[str, ...] = PARAMETERS
    identity: str = ""

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

    @property
    def form(self) -> str:
        """Form of the local matrices."""
        return str((UNSTATED | self.config["dataset"])["form"])

    @property
    def loads(self) -> bool:
        """Whether there are loads."""
        return bool((UNSTATED | self.config["dataset"])["loads"])

    @property
    def domains(self) -> bool:
        """Whether realizations have domains of their own."""
        return bool(self.config["dataset"].get("domains", 0))

    @property
    def window(self) -> Window:
        """What the local matrices depend on."""
        return Window.of(self.grid, self.form)

    @property
    def matrices(self) -> str:
        """Name of the local matrices: S, or K in the Galerkin form."""
        return "S" if self.form == PETROV_GALERKIN else "K"

    def columns(self) -> dict[str, tuple[tuple[int, ...], np.dtype[Any], Any]]:
        """Shape of one realization, type, and fill value of each HDF5 dataset."""
        rows, columns = self.window.matrix_shape
        more: dict[str, tuple[tuple[int, ...], np.dtype[Any], Any]] = {}
        if self.loads:
            more["b"] = ((self.grid.num_elements, rows), self.dtype, np.nan)
        if self.domains:
            more["marks"] = (tuple(n + 2 for n in self.grid.element_shape), np.dtype(np.int8), 0)
        return {
            "Z": (self.grid.coefficient_shape, self.dtype, np.nan),
            self.matrices: ((self.grid.num_elements, rows, columns), self.dtype, np.nan),
            **more,
            "parameters": ((len(self.parameters),), np.dtype(np.float64), np.nan),
            "origin": ((2,), np.dtype(np.int64), -1),
            "checksum": ((), np.dtype(np.uint32), 0),
            "done": ((), np.dtype(np.uint8), 0),
        }


@dataclass(frozen=True)
class Block:
    """Some consecutive realizations.

    Attributes:
        Z: Shape ``(k, 1/ε, …)``.
        S: Local matrices, shape ``(k, elements, rows, columns)``; with the loads as one more column if there are any.
        parameters: Of the fields, in the order of the header, NaN where a law has none; shape ``(k, p)``.
        origin: Seed and number of each realization, shape ``(k, 2)``.
        marks: What elements are, where realizations have domains of their own, shape ``(k, 1/H + 2, …)``.
    """

    Z: Array
    S: Array
    parameters: Array
    origin: Array
    marks: Array | None = None


def identity_of(config: dict[str, Any], origins: Array | None = None) -> str:
    """What distinguishes the blocks of one dataset from those of others.

    Args:
        config: All settings of the run that made it.
        origins: Seed and number of each realization, for one put together from others.
    """
    parts = [json.dumps(config, sort_keys=True).encode(), b"" if origins is None else origins.tobytes()]
    return hashlib.sha256(b"".join(parts)).hexdigest()[:16]


def checksum(*parts: Array) -> int:
    """CRC-32 of one realization as stored: field, matrices, loads if there are any."""
    result = 0
    for part in parts:
        result = zlib.crc32(np.ascontiguousarray(part), result)
    return result


def block_path(folder: Path, block: int) -> Path:
    """File of a block."""
    return folder / "blocks" / f"{block:06d}.h5"


def create_index(folder: Path, header: Header) -> None:
    """Write ``dataset.h5``: virtual datasets over all blocks that will be, and the attributes."""

    def fill(file: h5py.File) -> None:
        for name in header.columns():
            _create_virtual(file, folder, header, name)
            _describe(file[name], name, header.grid.dim)
        file["parameters"].attrs["names"] = list(header.parameters)
        config = json.dumps(header.config)
        attribute = len(config) <= _LONGEST
        file.attrs["layout_version"] = _version(header, attribute)
        if attribute:
            file.attrs["config"] = config
        else:
            file["config"] = config
        file.attrs["seed"] = header.config["dataset"]["seed"]
        file.attrs["block"] = header.block
        file.attrs["made_by"] = header.made_by
        file.attrs["versions"] = json.dumps(header.versions)
        file.attrs["identity"] = header.identity

    write_hdf5(folder / INDEX, fill, durable=True)


def _version(header: Header, attribute: bool) -> int:
    """The oldest layout that holds a dataset, so that former programs can read what they know."""
    if header.loads or header.domains or header.form != PETROV_GALERKIN:
        return LAYOUT_VERSION
    return 1 if attribute and header.grid.unit_cube else 2


def _describe(dataset: h5py.Dataset, name: str, dim: int) -> None:
    """What a dataset holds, in HDF5 attributes: readers of this package need none of them."""
    cells = [f"cell {axis}" for axis in "zyx"[3 - dim :]]
    description, units, axes = {
        "Z": ("logarithm of the diffusion coefficient A, constant on each cell of T_ε", "log of the unit of A", cells),
        "S": (
            "local matrices S_T; rows are nodes of the patch, columns nodes of T, zero rows outside D; x fastest",
            "unit of A, times length^(d - 2)",
            ["element", "node of the patch", "node of the element"],
        ),
        "K": (
            "element energy matrices K_E of the Galerkin form, on the nodes of the patch; x fastest",
            "unit of A, times length^(d - 2)",
            ["element", "node of the patch", "node of the patch"],
        ),
        "marks": (
            "what elements are, with one layer around the box: 1 in D, 0 where A ∂u/∂n is given, -1 where u is given",
            "1",
            [f"element {axis}" for axis in "zyx"[3 - dim :]],
        ),
        "b": ("what elements add to the load for f = 1", "length^d", ["element", "node of the patch"]),
        "parameters": ("parameters of the law of the field, NaN where it has none", "1; lengths: unit of D", ["name"]),
        "origin": ("seed and number that the realization was drawn with", "1", ["seed and number"]),
        "checksum": ("CRC-32 of the bytes of Z, then of the matrices, then of b", "1", []),
        "done": ("1 where the realization is computed", "1", []),
    }[name]
    dataset.attrs["description"] = description
    dataset.attrs["units"] = units
    dataset.attrs["axes"] = ", ".join(["realization", *axes])


def _create_virtual(file: h5py.File, folder: Path, header: Header, name: str) -> None:
    """One virtual dataset; by h5py's low-level interface, whose time stamps can be turned off."""
    shape, dtype, fill = header.columns()[name]
    whole = h5py.h5s.create_simple((header.realizations, *shape))
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_obj_track_times(False)
    properties.set_fill_value(np.array(fill, dtype=dtype))
    for block in range(header.num_blocks):
        members = header.members(block)
        count = (len(members), *shape)
        whole.select_hyperslab((members.start,) + (0,) * len(shape), count)
        source = os.path.relpath(block_path(folder, block), folder)
        properties.set_virtual(whole, os.fsencode(source), name.encode(), h5py.h5s.create_simple(count))
    whole.select_all()
    h5py.h5d.create(file.id, name.encode(), h5py.h5t.py_create(dtype, logical=True), whole, properties)


def read_header(folder: Path) -> Header:
    """Read what a dataset says of itself.

    Raises:
        InputError: If there is no dataset, or none that this version can read.
    """
    path = folder / INDEX
    if not is_file(path):
        raise InputError(f"dataset {str(folder)!r} does not exist: there is no {INDEX} in it.")
    try:
        with h5py.File(path, "r") as file:
            attributes = dict(file.attrs)
            realizations = len(file["Z"])
            parameters = tuple(map(str, file["parameters"].attrs["names"]))
            text = attributes["config"] if "config" in attributes else file["config"][()]
        layout = int(attributes["layout_version"])
        if layout > LAYOUT_VERSION:
            raise InputError(
                f"dataset {str(folder)!r} has layout version {layout}, this nnlod-fenics reads up to "
                f"{LAYOUT_VERSION}; install a newer one."
            )
        config = json.loads(text)
        versions, made_by = json.loads(attributes["versions"]), str(attributes["made_by"])
        block = int(attributes["block"])
        identity = str(attributes.get("identity", ""))
        grid = _stored_grid(folder, config["grid"])
        header = Header(grid, config, realizations, block, versions, made_by, parameters, identity)
    except (OSError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise InputError(
            f"dataset {str(folder)!r} cannot be read: {INDEX} is damaged or truncated ({error})."
        ) from None
    return header


def _stored_grid(folder: Path, table: Any) -> Grid:
    try:
        return Grid.from_dict(table)
    except (InputError, TypeError, ValueError) as error:
        raise InputError(f"dataset {str(folder)!r} is damaged: its grid is none ({str(error).rstrip('.')}).") from None


def write_block(folder: Path, header: Header, block: int, content: Block) -> None:
    """Write a block under a temporary name and rename it.

    Raises:
        InputError: If it cannot be written: the disk is full or broken.
    """
    width = header.window.matrix_shape[1]
    values = {"Z": content.Z, header.matrices: content.S[..., :width]}
    if header.loads:
        values["b"] = content.S[..., width]
    stored = {name: part.astype(header.dtype, copy=False) for name, part in values.items()}
    if header.domains:
        assert content.marks is not None
        stored["marks"] = content.marks.astype(np.int8, copy=False)
    columns: dict[str, Array] = {
        **stored,
        "parameters": content.parameters,
        "origin": content.origin,
        "checksum": np.array([checksum(*parts) for parts in zip(*stored.values(), strict=True)], dtype=np.uint32),
        "done": np.ones(len(content.Z), dtype=np.uint8),
    }

    def fill(file: h5py.File) -> None:
        for name, values in columns.items():
            # checksums of HDF5's own, which every reading checks
            dataset = file.create_dataset(name, data=values, chunks=(1, *values.shape[1:]), fletcher32=True)
            _describe(dataset, name, header.grid.dim)
        file.attrs["first"] = header.members(block).start
        file.attrs["identity"] = header.identity

    write_hdf5(block_path(folder, block), fill, durable=True)
