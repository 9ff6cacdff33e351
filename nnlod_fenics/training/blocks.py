"""Training samples: blocks of neighbouring elements with all their patches, cut from resident fields."""

from __future__ import annotations

from collections.abc import Iterator
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
        Z: log A on b^d elements and ℓ layers of elements around them, zero outside D, shape ``(n, m, …, m)``.
        inside: Whether a cell lies in D, same shape, as 0 and 1.
        S: Local matrices, shape ``(n·b^d, (2ℓ+2)^d, 2^d)``.
    """

    Z: Tensor
    inside: Tensor
    S: Tensor


class Blocks:
    """The blocks of a set of realizations, on a device.

    The fields are kept, not the windows: patches are (2ℓ+1)^d times larger than their fields. They are cut when
    a batch is drawn.

    Args:
        grid: The discretisation.
        Z: Fields, shape ``(k, 1/ε, …)``.
        S: Local matrices, shape ``(k, num_elements, (2ℓ+2)^d, 2^d)``.
        block: Elements b of a block along an axis; divides 1/H. 1 for single patches, 1/H for whole fields.
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
        block: int = 1,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        for name, values, shape in (
            ("Z", Z, grid.coefficient_shape),
            ("S", S, (grid.num_elements, *grid.local_matrix_shape)),
        ):
            if tuple(values.shape) != (len(Z), *shape):
                raise InputError(f"{name} must have shape {(len(Z), *shape)}, got {tuple(values.shape)}.")
        if block < 1 or grid.coarse % block:
            raise InputError(f"block must divide coarse={grid.coarse}, got {block}.")
        self.grid, self.block, self.device = grid, block, torch.device(device)
        self.per_field = (grid.coarse // block) ** grid.dim
        fields = torch.as_tensor(Z).to(self.device, dtype)
        width = (grid.ell * grid.cells_per_element,) * (2 * grid.dim)
        step = grid.cells_per_element
        cut = (grid.dim, (block + 2 * grid.ell) * step, block * step)
        self._Z = windows(torch.nn.functional.pad(fields, width), *cut)
        self._inside = windows(torch.nn.functional.pad(torch.ones_like(fields[:1]), width), *cut)[0]
        self._S = torch.as_tensor(S).to(self.device, dtype).flatten(0, 1)
        self._elements = torch.from_numpy(self._elements_of_blocks()).to(self.device)

    def _elements_of_blocks(self) -> npt.NDArray[np.int64]:
        """Numbers of the elements of each block, shape ``(per_field, b^d)``, x fastest."""
        d, b, n = self.grid.dim, self.block, self.grid.coarse // self.block
        numbers = np.arange(self.grid.num_elements).reshape((n, b) * d)
        return numbers.transpose(*range(0, 2 * d, 2), *range(1, 2 * d, 2)).reshape(self.per_field, b**d)

    def __len__(self) -> int:
        """Number of blocks."""
        return len(self._Z) * self.per_field

    def __getitem__(self, index: Tensor) -> Batch:
        """The blocks with some numbers ``realization * per_field + block``, x fastest."""
        index = index.to(self.device)
        realization, block = index // self.per_field, index % self.per_field
        n = self.grid.coarse // self.block
        position = [(block // n**axis) % n for axis in reversed(range(self.grid.dim))]
        elements = realization[:, None] * self.grid.num_elements + self._elements[block]
        return Batch(self._Z[(realization, *position)], self._inside[tuple(position)], self._S[elements.flatten()])

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
        for part in index.split(max(size // self.block**self.grid.dim, 1))[start:]:
            if len(part):  # of no blocks PyTorch makes one part, not none
                yield self[part]
