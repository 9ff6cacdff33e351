"""Reading datasets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import numpy.typing as npt

from nnlod_fenics.dataset.domains import grid_of_marks
from nnlod_fenics.dataset.folder import fault_of
from nnlod_fenics.dataset.layout import Header, block_path, checksum, read_header
from nnlod_fenics.errors import InputError
from nnlod_fenics.grid import Grid, told_apart
from nnlod_fenics.window import Window

__all__ = ["Dataset", "Split"]

Array = npt.NDArray[Any]


class Split(NamedTuple):
    """Realizations for training, validation and test, 80 : 10 : 10, first, next and last."""

    train: range
    validation: range
    test: range


class Dataset:
    """A dataset of fields and local matrices, read realization by realization.

    Files are opened for each reading and closed after it, so that it can be passed to other processes.

    Args:
        path: Folder of the dataset.
        grid: The grid it must have; any if None.
        partial: Also take one that is not finished; reading what is missing is an error then.

    Raises:
        InputError: If it is not a whole dataset of this grid that this version can read.

    Example:
        >>> from nnlod_fenics import generate, load_config
        >>> small = ["grid.coarse=4", "grid.fine=16", "grid.coefficient=8", "grid.ell=1", "dataset.realizations=10"]
        >>> dataset = Dataset(generate(load_config(overrides=small), "data"))
        >>> len(dataset), dataset.A(0).shape, dataset.S(0).shape
        (10, (8, 8), (16, 16, 4))
        >>> [len(part) for part in dataset.split()]
        [8, 1, 1]
    """

    def __init__(self, path: str | Path, grid: Grid | None = None, partial: bool = False) -> None:
        self.path = Path(path)
        self._header = read_header(self.path)
        if grid is not None and grid != self.grid:
            own, other = told_apart(self.grid, grid)
            raise InputError(f"dataset {str(path)!r} was made for {own}, not for {other}.")
        for block in range(self._header.num_blocks):
            if not (partial and not block_path(self.path, block).exists()):
                self._check_block(block)

    def _check_block(self, block: int) -> None:
        path = block_path(self.path, block)
        if not path.exists():
            raise InputError(
                f"dataset {str(self.path)!r} is not finished: realization {self._header.members(block)[0]} is missing; "
                f"{self._remedy}."
            )
        if fault := fault_of(path, self._header, block):
            raise InputError(f"dataset {str(self.path)!r} is damaged: {path.name} {fault}; {self._remedy}.")

    @property
    def _remedy(self) -> str:
        made_by, option = self._header.made_by, "--resume" if self._header.made_by == "generate" else "--overwrite"
        return f"run {made_by} again with {option}"

    @property
    def header(self) -> Header:
        """What the dataset says of itself."""
        return self._header

    @property
    def grid(self) -> Grid:
        """The discretisation."""
        return self._header.grid

    @property
    def form(self) -> str:
        """Form of the local matrices."""
        return self._header.form

    @property
    def window(self) -> Window:
        """What the local matrices depend on."""
        return self._header.window

    @property
    def has_loads(self) -> bool:
        """Whether what elements add to the load is there."""
        return self._header.loads

    @property
    def has_domains(self) -> bool:
        """Whether realizations have domains of their own."""
        return self._header.domains

    @property
    def config(self) -> dict[str, Any]:
        """All settings of the run that made it."""
        return self._header.config

    @property
    def field_settings(self) -> dict[str, Any]:
        """The law of the fields, for :func:`nnlod_fenics.fields.make_field`."""
        return dict(self._header.config["field"])

    @property
    def seed(self) -> int:
        """Seed of the run; of a merged dataset, that of the first part."""
        return int(self._header.config["dataset"]["seed"])

    @property
    def versions(self) -> dict[str, str]:
        """Versions of the software that made it."""
        return self._header.versions

    def __len__(self) -> int:
        return self._header.realizations

    @property
    def finished(self) -> list[int]:
        """Realizations that are there: all, unless it is partial."""
        blocks = [b for b in range(self._header.num_blocks) if block_path(self.path, b).exists()]
        return [k for block in blocks for k in self._header.members(block)]

    @property
    def realization_bytes(self) -> dict[str, int]:
        """Bytes of one realization as stored, field and matrices."""
        columns = self._header.columns()
        names = [name for name in ("Z", "S", "K", "b") if name in columns]
        return {name: int(np.prod(columns[name][0])) * columns[name][1].itemsize for name in names}

    # -- realizations --------------------------------------------------------------------------------

    def Z(self, k: int) -> Array:
        """Z = log A of realization k on T_ε, shape ``grid.coefficient_shape``, inactive elements included."""
        return self.fields([k])[0]

    def A(self, k: int) -> Array:
        """The coefficient of realization k on T_ε, float64."""
        return np.asarray(np.exp(self.Z(k).astype(np.float64)))

    def S(self, k: int) -> Array:
        """Local matrices of realization k, shape ``(num_elements, (2ℓ+2)^d, 2^d)``, zero for inactive elements.

        Raises:
            InputError: If the matrices are of the Galerkin form, see :meth:`K`.
        """
        return self._matrices_named("S", k)

    def grid_of(self, k: int) -> Grid:
        """The discretisation of realization k: that of the dataset, or one with a domain of its own."""
        return grid_of_marks(self.grid, self.column("marks", [k])[0]) if self.has_domains else self.grid

    def K(self, k: int) -> Array:
        """Element energy matrices of realization k, shape ``(num_elements, (2ℓ+2)^d, (2ℓ+2)^d)``.

        Raises:
            InputError: If the matrices are not of the Galerkin form.
        """
        return self._matrices_named("K", k)

    def _matrices_named(self, name: str, k: int) -> Array:
        if name != self._header.matrices:
            raise InputError(f"dataset {str(self.path)!r} has no {name}: its form is {self.form!r}.")
        return self.matrices([k])[0]

    def b(self, k: int) -> Array:
        """What elements add to the load for f = 1 in realization k, shape ``(num_elements, (2ℓ+2)^d)``.

        Raises:
            InputError: If the dataset has no loads.
        """
        if not self.has_loads:
            raise InputError(f"dataset {str(self.path)!r} has no loads: it was generated without dataset.loads.")
        return self._finite("b", [k])[0]

    def parameters(self, k: int) -> dict[str, float]:
        """Parameters of the field of realization k."""
        values = self.column("parameters", [k])[0]
        return {name: float(v) for name, v in zip(self._header.parameters, values, strict=True) if np.isfinite(v)}

    def fields(self, realizations: Sequence[int]) -> Array:
        """Z = log A of some realizations, shape ``(k, 1/ε, …)``; an InputError if a value is not finite."""
        return self._finite("Z", realizations)

    def matrices(self, realizations: Sequence[int]) -> Array:
        """Local matrices of some realizations, shape ``(k, num_elements, rows, columns)``; checked like fields."""
        return self._finite(self._header.matrices, realizations)

    def arrays(self, realizations: Sequence[int]) -> tuple[Array, Array] | tuple[Array, Array, Array]:
        """Fields and local matrices of some realizations, their stored checksums compared.

        Returns:
            Z, and the matrices with the loads as one more column if there are any; and the marks of the elements where
            realizations have domains of their own.

        Raises:
            InputError: If a number is not the one that was stored, or not finite.
        """
        parts = [self.fields(realizations), self.matrices(realizations)]
        if self.has_loads:
            parts.append(self._finite("b", realizations))
        if self.has_domains:
            parts.append(self.column("marks", realizations))
        stored = self.column("checksum", realizations)
        for k, expected, *own in zip(realizations, stored, *parts, strict=True):
            if checksum(*own) != expected:
                raise InputError(f"dataset {str(self.path)!r} is damaged: realization {k} has another checksum.")
        S = np.concatenate([parts[1], parts[2][..., None]], axis=-1) if self.has_loads else parts[1]
        return (parts[0], S, parts[-1]) if self.has_domains else (parts[0], S)

    def column(self, name: str, realizations: Sequence[int]) -> Array:
        """Entries of one of the HDF5 datasets, unchecked, shape ``(len(realizations), …)``.

        Raises:
            InputError: If a realization is not there.
        """
        shape, dtype, _ = self._header.columns()[name]
        result = np.empty((len(realizations), *shape), dtype)
        at = 0
        while at < len(realizations):
            first = self._check(realizations[at])
            block = first // self._header.block
            offset = first - self._header.members(block).start
            count = 1  # consecutive realizations of the block are read at once
            while (
                at + count < len(realizations)
                and realizations[at + count] == first + count
                and first + count in self._header.members(block)
            ):
                count += 1
            self._read_into(result[at : at + count], name, block, offset)
            at += count
        return result

    def _read_into(self, target: Array, name: str, block: int, offset: int) -> None:
        self._check_exists(block)
        try:
            with h5py.File(block_path(self.path, block), "r") as file:
                file[name].read_direct(target, np.s_[offset : offset + len(target)])
        except (OSError, KeyError) as error:
            raise InputError(
                f"dataset {str(self.path)!r} is damaged: block {block} cannot be read ({error})."
            ) from None

    def _check_exists(self, block: int) -> None:
        if not block_path(self.path, block).exists():
            self._check_block(block)

    def _finite(self, name: str, realizations: Sequence[int]) -> Array:
        values = self.column(name, realizations)
        for k, entry in zip(realizations, values, strict=True):
            if not np.isfinite(entry).all():
                raise InputError(f"dataset {str(self.path)!r} is damaged: {name} of realization {k} has NaN values.")
        return values

    def _check(self, k: int) -> int:
        if not 0 <= k < len(self):
            raise InputError(f"realization must lie between 0 and {len(self) - 1}, got {k}.")
        return int(k)

    def split(self, realizations: int | None = None) -> Split:
        """Divide the realizations 80 : 10 : 10 into training, validation and test set.

        Args:
            realizations: Divide the first ones only, as if the dataset ended after them; all if None.

        Raises:
            InputError: If there are fewer than three, or fewer than asked for.
        """
        n = len(self) if realizations is None else realizations
        if n > len(self):
            raise InputError(f"dataset {str(self.path)!r} has {len(self)} realizations, {n} are asked for.")
        if n < 3:
            raise InputError(f"dataset {str(self.path)!r} has {n} realizations; a split 80 : 10 : 10 needs at least 3.")
        held_out = max(round(0.1 * n), 1)
        return Split(range(n - 2 * held_out), range(n - 2 * held_out, n - held_out), range(n - held_out, n))
