"""Patches of many realizations, cut from their fields when a batch is drawn.

The fields are kept, not the patches: those are (2ℓ+1)^d times larger. Seen as rows of cells along x, all
starting at an element's border and overlapping each other, the padded fields are a matrix without a copy, and
a batch is one gather of rows, several times faster than indexing windows cell by cell
(``tests/benchmarks/bench_dataset.py patches``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils import data

from nnlod_fenics.dataset.reading import Dataset
from nnlod_fenics.errors import InputError
from nnlod_fenics.grid import Grid, lattice

__all__ = ["Batch", "PatchStream", "Patches", "load_patches", "patch_bytes"]

_SHARE_OF_MEMORY = 0.5  # of what is free may hold a dataset


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


class _Windows:
    """Windows of padded fields around each element, gathered row by row."""

    def __init__(self, grid: Grid, fields: Tensor) -> None:
        d, step, layers = grid.dim, grid.cells_per_element, grid.ell * grid.cells_per_element
        padded = torch.nn.functional.pad(fields, (layers, layers) * d)
        self.size, per_line = grid.patch_width * step, padded.shape[-1] // step
        self._dim = d
        count = (padded.numel() - self.size) // step + 1
        self._rows = padded.as_strided((count, self.size), (step, 1))  # row i starts at cell i·H/ε
        lines = padded.shape[1] ** np.arange(d - 1) * per_line  # rows between neighbours along y, z
        first = grid.elements[:, 0] + step * grid.elements[:, 1:] @ lines
        within = lattice(*(self.size,) * (d - 1)) @ lines if d > 1 else np.zeros(1, dtype=np.int64)
        self._first = torch.from_numpy(first).to(fields.device)
        self._within = torch.from_numpy(within).to(fields.device)
        self._per_field = padded[0].numel() // step

    def gather(self, realization: Tensor, element: Tensor) -> Tensor:
        """Windows of some elements, shape ``(n, m, …, m)``."""
        first = realization * self._per_field + self._first[element]
        rows = (first[:, None] + self._within).flatten()
        return self._rows.index_select(0, rows).reshape(-1, *(self.size,) * self._dim)


class Patches(data.Dataset[Batch]):
    """The patches of a set of realizations, resident on a device.

    Args:
        grid: The discretisation.
        Z: Fields, shape ``(k, 1/ε, …)``.
        S: Local matrices, shape ``(k, num_elements, (2ℓ+2)^d, 2^d)``.
        device: Where.
        dtype: Type of the numbers.

    Raises:
        InputError: If a shape does not fit.
    """

    def __init__(
        self,
        grid: Grid,
        Z: npt.NDArray[Any] | Tensor,
        S: npt.NDArray[Any] | Tensor,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        matrices = (grid.num_elements, *grid.local_matrix_shape)
        for name, values, shape in (("Z", Z, grid.coefficient_shape), ("S", S, matrices)):
            if tuple(values.shape) != (len(Z), *shape):
                raise InputError(f"{name} must have shape {(len(Z), *shape)}, got {tuple(values.shape)}.")
        self.grid, self.device = grid, torch.device(device)
        fields = torch.as_tensor(Z).to(self.device, dtype)
        self._S = torch.as_tensor(S).to(self.device, dtype).flatten(0, 1)
        self._Z = _Windows(grid, fields)
        every = torch.arange(grid.num_elements, device=self.device)
        ones = torch.ones((1, *grid.coefficient_shape), dtype=dtype, device=self.device)
        self._inside = _Windows(grid, ones).gather(torch.zeros_like(every), every)

    @classmethod
    def of(cls, dataset: Dataset, realizations: Sequence[int], device: str | torch.device = "cpu") -> Patches:
        """The patches of some realizations of a dataset."""
        return cls(dataset.grid, dataset.fields(realizations), dataset.matrices(realizations), device)

    def __len__(self) -> int:
        return len(self._S)

    def __getitem__(self, index: int | Sequence[int] | npt.NDArray[np.int64] | Tensor) -> Batch:
        """Patches by number ``realization * num_elements + element``.

        Args:
            index: One number, or many (much faster than one by one).

        Returns:
            The patches; without the first axis for one number.
        """
        number = torch.as_tensor(index, device=self.device)
        if number.ndim == 0:
            return Batch(*(values[0] for values in self[number[None]]))
        realization, element = number // self.grid.num_elements, number % self.grid.num_elements
        return Batch(
            self._Z.gather(realization, element),
            self._inside.index_select(0, element),
            self._S.index_select(0, number),
        )

    def __getitems__(self, index: list[int]) -> Batch:
        """Many patches at once, for ``DataLoader(patches, batch_size, collate_fn=lambda batch: batch)``."""
        return self[index]

    def batches(self, size: int, order: torch.Generator | None = None, start: int = 0) -> Iterator[Batch]:
        """All patches once, in batches.

        Args:
            size: Patches of a batch.
            order: Shuffles across realizations; as stored if None.
            start: Batches to leave out at the beginning.

        Yields:
            The batches.
        """
        index = torch.arange(len(self)) if order is None else torch.randperm(len(self), generator=order)
        for part in index.to(self.device).split(size)[start:]:
            yield self[part]


class PatchStream:
    """The patches of a dataset that does not fit into memory, shuffled group by group.

    Each pass divides the realizations into groups of its own; the patches of a group are resident and shuffled
    together.

    Args:
        dataset: The dataset.
        realizations: Those to take.
        group: Realizations of a group.
        device: Where a group is kept.
    """

    def __init__(
        self, dataset: Dataset, realizations: Sequence[int], group: int, device: str | torch.device = "cpu"
    ) -> None:
        if group < 1:
            raise InputError(f"group must be at least one realization, got {group}.")
        self.grid, self.device, self.group = dataset.grid, torch.device(device), group
        self._dataset, self._realizations = dataset, list(realizations)

    def __len__(self) -> int:
        return len(self._realizations) * self.grid.num_elements

    def batches(self, size: int, order: torch.Generator | None = None) -> Iterator[Batch]:
        """All patches once, in batches; see :meth:`Patches.batches`."""
        numbers = torch.tensor(self._realizations)
        if order is not None:
            numbers = numbers[torch.randperm(len(numbers), generator=order)]
        for group in numbers.split(self.group):
            yield from Patches.of(self._dataset, group.sort().values.tolist(), self.device).batches(size, order)


def patch_bytes(grid: Grid, dtype: torch.dtype = torch.float32) -> int:
    """Bytes that :class:`Patches` keeps a realization."""
    cells = (grid.coefficient + 2 * grid.ell * grid.cells_per_element) ** grid.dim
    return dtype.itemsize * (cells + grid.num_elements * grid.num_patch_nodes * 2**grid.dim)


def load_patches(
    dataset: Dataset, realizations: Sequence[int], device: str | torch.device = "cpu", memory: int | None = None
) -> Patches | PatchStream:
    """The patches of some realizations: resident if they fit, group by group otherwise.

    Args:
        dataset: The dataset.
        realizations: Those to take.
        device: Where they are kept and cut.
        memory: Bytes that they may take; half of what is free if None.

    Returns:
        What serves batches.
    """
    place = torch.device(device)
    allowed = int(_SHARE_OF_MEMORY * _free_bytes(place)) if memory is None else memory
    # reading takes the stored numbers beside the resident ones
    each = patch_bytes(dataset.grid) + (0 if place.type == "cuda" else sum(dataset.realization_bytes.values()))
    group = max(allowed // each, 1)
    if group >= len(realizations):
        return Patches.of(dataset, realizations, place)
    return PatchStream(dataset, realizations, group, place)


def _free_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    import os

    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
