"""Reading datasets."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import numpy.typing as npt

from nnlod_fenics.dataset.layout import INDEX, PARAMETERS, block_path, read_header
from nnlod_fenics.errors import InputError
from nnlod_fenics.grid import Grid

__all__ = ["Dataset", "Split"]

Array = npt.NDArray[Any]


class Split(NamedTuple):
    """Realizations for training, validation and test, 80 : 10 : 10, first, next and last."""

    train: range
    validation: range
    test: range


class Dataset:
    """A dataset of fields and local matrices, read realization by realization.

    Args:
        path: Folder of the dataset.
        grid: The grid it must have; any if None.

    Raises:
        InputError: If it is not a whole dataset of this grid that this version can read.
    """

    def __init__(self, path: str | Path, grid: Grid | None = None) -> None:
        self.path = Path(path)
        self._header = read_header(self.path)
        if grid is not None and grid != self.grid:
            raise InputError(f"dataset {str(path)!r} was made for {self.grid.as_dict()}, not for {grid.as_dict()}.")
        for block in range(self._header.num_blocks):
            self._check_block(block)

    def _check_block(self, block: int) -> None:
        path = block_path(self.path, block)
        try:
            with h5py.File(path, "r") as file:
                whole = all(len(file[name]) == len(self._header.members(block)) for name in self._header.columns())
        except FileNotFoundError:
            raise InputError(
                f"dataset {str(self.path)!r} is not finished: realization {self._header.members(block)[0]} is missing; "
                f"run generate again with --resume."
            ) from None
        except (OSError, KeyError):
            whole = False
        if not whole:
            raise InputError(
                f"dataset {str(self.path)!r} is damaged: {path.name} is truncated; delete that file and run generate "
                f"again with --resume."
            )

    @property
    def grid(self) -> Grid:
        """The discretisation."""
        return self._header.grid

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
        """Seed of the run."""
        return int(self._header.config["dataset"]["seed"])

    @property
    def versions(self) -> dict[str, str]:
        """Versions of the software that made it."""
        return self._header.versions

    def __len__(self) -> int:
        return self._header.realizations

    @cached_property
    def _file(self) -> h5py.File:
        return h5py.File(self.path / INDEX, "r")

    def _read(self, name: str, which: Any) -> Array:
        values = np.asarray(self._file[name][which])
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise InputError(f"dataset {str(self.path)!r} is damaged: {name} of realization {which} has NaN values.")
        return values

    def _check(self, k: int) -> int:
        if not 0 <= k < len(self):
            raise InputError(f"realization must lie between 0 and {len(self) - 1}, got {k}.")
        return int(k)

    def Z(self, k: int) -> Array:
        """Z = log A of realization k on T_ε, shape ``grid.coefficient_shape``."""
        return self._read("Z", self._check(k))

    def S(self, k: int) -> Array:
        """Local matrices of realization k, shape ``(num_elements, (2ℓ+2)^d, 2^d)``."""
        return self._read("S", self._check(k))

    def parameters(self, k: int) -> dict[str, float]:
        """Parameters of the field of realization k."""
        values = self._file["parameters"][self._check(k)]
        return {name: float(v) for name, v in zip(PARAMETERS, values, strict=True) if np.isfinite(v)}

    def fields(self, realizations: range) -> Array:
        """Z = log A of consecutive realizations, shape ``(k, 1/ε, …)``."""
        return self._read("Z", slice(realizations.start, realizations.stop))

    def matrices(self, realizations: range) -> Array:
        """Local matrices of consecutive realizations, shape ``(k, num_elements, (2ℓ+2)^d, 2^d)``."""
        return self._read("S", slice(realizations.start, realizations.stop))

    def split(self) -> Split:
        """Divide the realizations 80 : 10 : 10 into training, validation and test set.

        Raises:
            InputError: If there are fewer than three.
        """
        n = len(self)
        if n < 3:
            raise InputError(f"dataset {str(self.path)!r} has {n} realizations; a split 80 : 10 : 10 needs at least 3.")
        held_out = max(round(0.1 * n), 1)
        return Split(range(n - 2 * held_out), range(n - 2 * held_out, n - held_out), range(n - held_out, n))
