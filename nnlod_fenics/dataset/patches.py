"""Patches of many realizations, cut from their fields when a batch is drawn."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from nnlod_fenics.dataset.reading import Dataset
from nnlod_fenics.errors import InputError
from nnlod_fenics.grid import Grid

__all__ = ["Batch", "Patches"]


class Batch(NamedTuple):
    """Some patches with their local matrices.

    Attributes:
        Z: log A on the padded patches, zero outside D, shape ``(n, m, …, m)``.
        inside: Whether a cell lies in D, same shape, as 0 and 1.
        S: Local matrices, shape ``(n, (2ℓ+2)^d, 2^d)``.
    """

    Z: Tensor
    inside: Tensor
    S: Tensor


class Patches:
    """The patches of a set of realizations, resident on a device.

    The fields are kept, not the patches: those are (2ℓ+1)^d times larger and are cut when a batch is drawn.

    Args:
        grid: The discretisation.
        Z: Fields, shape ``(k, 1/ε, …)``.
        S: Local matrices, shape ``(k, num_elements, (2ℓ+2)^d, 2^d)``.
        device: Where.
        dtype: Type of the numbers.
    """

    def __init__(
        self,
        grid: Grid,
        Z: npt.NDArray[Any],
        S: npt.NDArray[Any],
        device: str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        expected = (len(Z), grid.num_elements, *grid.local_matrix_shape)
        if S.shape != expected:
            raise InputError(f"S must have shape {expected}, got {S.shape}.")
        self.grid, self.device = grid, torch.device(device)
        self._S = torch.as_tensor(S, dtype=dtype).flatten(0, 1).to(self.device)
        self._Z = self._windows(torch.as_tensor(grid.pad(Z), dtype=dtype).to(self.device))
        ones = grid.pad(np.ones((1, *grid.coefficient_shape)))
        self._inside = self._windows(torch.as_tensor(ones, dtype=dtype).to(self.device))[0]

    @classmethod
    def of(cls, dataset: Dataset, realizations: range, device: str = "cpu") -> Patches:
        """The patches of some realizations of a dataset."""
        return cls(dataset.grid, dataset.fields(realizations), dataset.matrices(realizations), device)

    def _windows(self, padded: Tensor) -> Tensor:
        """All patches as a view: shape ``(k, elements along …, y, x, cells along …, y, x)``."""
        step = self.grid.cells_per_element
        for axis in range(1, 1 + self.grid.dim):
            padded = padded.unfold(axis, self.grid.patch_width * step, step)
        return padded

    def __len__(self) -> int:
        return len(self._S)

    def __getitem__(self, index: Tensor) -> Batch:
        """The patches with some numbers ``realization * num_elements + element``."""
        index = index.to(self.device)
        realization, element = index // self.grid.num_elements, index % self.grid.num_elements
        position = [(element // self.grid.coarse**axis) % self.grid.coarse for axis in reversed(range(self.grid.dim))]
        return Batch(self._Z[(realization, *position)], self._inside[tuple(position)], self._S[index])

    def batches(self, size: int, order: torch.Generator | None = None) -> Iterator[Batch]:
        """All patches once, in batches.

        Args:
            size: Patches of a batch.
            order: Shuffles across realizations; as stored if None.

        Yields:
            The batches.
        """
        index = torch.arange(len(self)) if order is None else torch.randperm(len(self), generator=order)
        for part in index.split(size):
            yield self[part]
