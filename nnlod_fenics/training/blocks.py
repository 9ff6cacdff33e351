"""Training samples: blocks of neighbouring elements with all their patches, cut from resident fields."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from nnlod_fenics.errors import InputError
from nnlod_fenics.grid import Grid
from nnlod_fenics.network.windows import windows

__all__ = ["Batch", "Blocks"]


class Batch(NamedTuple):
    """Some blocks with their local matrices.

    Attributes:
        Z: log A on blocks of elements and ℓ layers of elements around them, zero outside D, shape ``(n, m, …)``.
        inside: Whether a cell lies in D, same shape, as 0 and 1.
        S: Local matrices of all elements of the blocks, shape ``(…, (2ℓ+2)^d, 2^d)``; zero for inactive ones.
    """

    Z: Tensor
    inside: Tensor
    S: Tensor


class Blocks:
    """The blocks of a set of realizations, on a device; blocks without active elements are left out.

    The fields are kept, not the windows: patches are (2ℓ+1)^d times larger than their fields. They are cut when
    a batch is drawn.

    Args:
        grid: The discretisation.
        Z: Fields, shape ``(k, 1/ε, …)``.
        S: Local matrices, shape ``(k, num_elements, (2ℓ+2)^d, 2^d)``.
        block: Elements of a block along an axis, or along each axis, x first; they divide those of the grid. 1 for
            single patches, ``grid.coarse`` for whole fields.
        device: Where they are kept and cut.
        dtype: Type of the numbers.

    Raises:
        InputError: If a shape or the block does not fit.
    """

    def __init__(
        self,
        grid: Grid,
        Z: npt.NDArray[Any] | Tensor,
        S: npt.NDArray[Any] | Tensor,
        block: int | Sequence[int] = 1,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        for name, values, shape in (
            ("Z", Z, grid.coefficient_shape),
            ("S", S, (grid.num_elements, *grid.local_matrix_shape)),
        ):
            if tuple(values.shape) != (len(Z), *shape):
                raise InputError(f"{name} must have shape {(len(Z), *shape)}, got {tuple(values.shape)}.")
        self.block = (block,) * grid.dim if isinstance(block, (int, np.integer)) else tuple(block)
        if len(self.block) != grid.dim or any(b < 1 or n % b for b, n in zip(self.block, grid.coarse, strict=True)):
            raise InputError(f"block must divide coarse={grid.as_dict()['coarse']}, got {block}.")
        self.grid, self.device = grid, torch.device(device)
        fields = torch.as_tensor(Z).to(self.device, dtype)
        active = torch.from_numpy(grid.active_cells).to(fields)
        step, width = grid.cells_per_element, (grid.ell * grid.cells_per_element,) * (2 * grid.dim)
        cells = [(b + 2 * grid.ell) * step for b in self.block[::-1]], [b * step for b in self.block[::-1]]
        self._Z = windows(torch.nn.functional.pad(fields * active, width), grid.dim, *cells)
        self._inside = windows(torch.nn.functional.pad(active, width), grid.dim, *cells)
        self._S = torch.as_tensor(S).to(self.device, dtype).flatten(0, 1)
        elements, positions = self._active_blocks()
        self._elements, self._positions = (torch.from_numpy(v).to(self.device) for v in (elements, positions))
        self._active = grid.active.ravel()[elements].sum(axis=1)
        self.per_field = len(elements)

    def _active_blocks(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Numbers of the elements of each block with active ones, x fastest, and its position ``[z, y, x]``."""
        d, numbers = self.grid.dim, np.arange(self.grid.num_elements)
        counts = [n // b for n, b in zip(self.grid.coarse, self.block, strict=True)][::-1]
        split = [n for pair in zip(counts, self.block[::-1], strict=True) for n in pair]
        order = (*range(0, 2 * d, 2), *range(1, 2 * d, 2))
        elements = numbers.reshape(split).transpose(order).reshape(-1, self.elements_per_block)
        kept = np.flatnonzero(self.grid.active.ravel()[elements].any(axis=1))
        return elements[kept], np.stack(np.unravel_index(kept, counts), axis=1)

    @property
    def elements_per_block(self) -> int:
        """Elements of a block, inactive ones included."""
        return prod(self.block)

    def count_active(self, index: Tensor) -> int:
        """How many active elements some blocks have, by their numbers."""
        return int(self._active[(index.cpu() % self.per_field).numpy()].sum())

    def __len__(self) -> int:
        """Number of blocks."""
        return len(self._Z) * self.per_field

    def __getitem__(self, index: Tensor) -> Batch:
        """The blocks with some numbers ``realization * per_field + block``, x fastest."""
        index = index.to(self.device)
        realization, block = index // self.per_field, index % self.per_field
        position = self._positions[block].unbind(dim=1)
        elements = realization[:, None] * self.grid.num_elements + self._elements[block]
        return Batch(self._Z[(realization, *position)], self._inside[position], self._S[elements.flatten()])

    def batches(self, size: int, order: npt.NDArray[np.int64] | None = None, start: int = 0) -> Iterator[Batch]:
        """All blocks once, in batches.

        Args:
            size: Patches of a batch, about.
            order: Order of the blocks; as stored if None.
            start: Batches to leave out at the beginning.

        Yields:
            The batches.
        """
        index = torch.arange(len(self)) if order is None else torch.from_numpy(order)
        for part in index.split(max(size // self.elements_per_block, 1))[start:]:
            if len(part):  # of no blocks PyTorch makes one part, not none
                yield self[part]
