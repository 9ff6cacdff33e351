"""Training samples: blocks of neighbouring elements with all their patches, cut from resident fields."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from nnlod_fenics.errors import InputError
from nnlod_fenics.network.windows import active_cells, crop, pad_cells, pad_marks, windows
from nnlod_fenics.window import INSIDE, Window

__all__ = ["Batch", "Blocks", "Samples"]

Array: TypeAlias = npt.NDArray[Any] | Tensor


class Samples(NamedTuple):
    """Fields with their local matrices.

    Attributes:
        Z: log A on T_ε, shape ``(k, 1/ε, …)``.
        S: Local matrices, shape ``(k, num_elements, rows, columns)``, with the loads as one more column if there are
            any; zero for inactive elements.
        marks: What elements are, with one layer around the box, see :func:`nnlod_fenics.window.domain_marks`; shape
            ``(k, 1/H + 2, …)``, or ``(1, …)`` for a domain that all fields share.
    """

    Z: Array
    S: Array
    marks: Array


class Batch(NamedTuple):
    """Some blocks with their local matrices.

    Attributes:
        Z: log A on blocks of elements and the layers of elements around them, zero outside D, shape ``(n, m, …)``.
        domain: Marks of these elements, shape ``(n, b + 2L, …)``, as numbers of the same type.
        S: Local matrices of all elements of the blocks, shape ``(…, rows, columns)``; zero for inactive ones.
        whitening: W of the loss of their elements, see :func:`nnlod_fenics.network.loss.energy_loss`, or None.
    """

    Z: Tensor
    domain: Tensor
    S: Tensor
    whitening: Tensor | None = None


class Blocks:
    """The blocks of a set of realizations, on a device; blocks without active elements are left out.

    The fields are kept, not the windows, which are many times larger than their fields: they are cut when a batch is
    drawn.

    Args:
        window: What local matrices depend on.
        samples: The realizations.
        block: Elements of a block along an axis, or along each axis, x first; they divide those of the box. 1 for
            single windows, the numbers of elements of the box for whole fields.
        device: Where they are kept and cut.
        dtype: Type of the numbers.
        whitening: W of the loss for all elements, shape ``(k, num_elements, rows, rows)``, or None.

    Raises:
        InputError: If a shape or the block does not fit.
    """

    def __init__(
        self,
        window: Window,
        samples: Samples,
        block: int | Sequence[int] = 1,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
        whitening: Tensor | None = None,
    ) -> None:
        self.window, self.device = window, torch.device(device)
        self.element_shape = _check_shapes(window, samples)
        d = window.dim
        self.block = (block,) * d if isinstance(block, (int, np.integer)) else tuple(block)
        if len(self.block) != d or any(
            b < 1 or n % b for b, n in zip(self.block, self.element_shape[::-1], strict=True)
        ):
            raise InputError(f"block must divide coarse={list(self.element_shape[::-1])}, got {block}.")
        fields, marks = (
            torch.as_tensor(samples.Z).to(self.device, dtype),
            torch.as_tensor(samples.marks).to(self.device),
        )
        active = active_cells(marks, window)
        steps = self.block[::-1]
        sizes = [b + 2 * window.layers for b in steps]
        cells = [n * window.cells for n in sizes], [b * window.cells for b in steps]
        self._Z = windows(pad_cells(fields * active, window), d, *cells)
        self._domain = windows(pad_marks(marks, window).to(dtype), d, sizes, steps)
        self._domain = self._domain.expand(len(fields), *self._domain.shape[1:])
        self._S = torch.as_tensor(samples.S).to(self.device, dtype).flatten(0, 1)
        self._whitening = None if whitening is None else whitening.to(self.device, dtype).flatten(0, 1)
        self._elements = torch.from_numpy(self._elements_of_blocks()).to(self.device)
        inside = (crop(marks, 1, d) == INSIDE).flatten(1)
        counts = inside[:, self._elements].sum(dim=2).expand(len(fields), -1)  # active elements of each block
        self._realization, self._block = torch.nonzero(counts, as_tuple=True)
        self._active = counts[self._realization, self._block].cpu()

    def _elements_of_blocks(self) -> npt.NDArray[np.int64]:
        """Numbers of the elements of each block, x fastest, shape ``(blocks, elements of a block)``."""
        d, numbers = self.window.dim, np.arange(prod(self.element_shape))
        counts = [n // b for n, b in zip(self.element_shape, self.block[::-1], strict=True)]
        split = [n for pair in zip(counts, self.block[::-1], strict=True) for n in pair]
        order = (*range(0, 2 * d, 2), *range(1, 2 * d, 2))
        return numbers.reshape(split).transpose(order).reshape(-1, self.elements_per_block)

    @property
    def elements_per_block(self) -> int:
        """Elements of a block, inactive ones included."""
        return prod(self.block)

    def count_active(self, index: Tensor) -> int:
        """How many active elements some blocks have, by their numbers."""
        return int(self._active[index.cpu()].sum())

    def __len__(self) -> int:
        """Number of blocks."""
        return len(self._realization)

    def __getitem__(self, index: Tensor) -> Batch:
        """The blocks with some numbers: realization by realization, x fastest."""
        index = index.to(self.device)
        realization, block = self._realization[index], self._block[index]
        position = torch.unravel_index(block, self._Z.shape[1 : 1 + self.window.dim])
        elements = (realization[:, None] * prod(self.element_shape) + self._elements[block]).flatten()
        place = (realization, *position)
        whitening = None if self._whitening is None else self._whitening[elements]
        return Batch(self._Z[place], self._domain[place], self._S[elements], whitening)

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


def _check_shapes(window: Window, samples: Samples) -> tuple[int, ...]:
    """Shape of the elements, from that of the fields."""
    cells, count = tuple(samples.Z.shape[1:]), len(samples.Z)
    shape = tuple(n // window.cells for n in cells)
    if len(shape) != window.dim or any(n % window.cells or not n for n in cells):
        raise InputError(f"Z must have {window.dim} axes of cells, {window.cells} an element, got shape {cells}.")
    rows, columns = window.matrix_shape
    expected = [(count, prod(shape), rows, columns + more) for more in (0, 1)]
    if tuple(samples.S.shape) not in expected:
        raise InputError(
            f"S must have shape {expected[0]}, or one column more for loads, got {tuple(samples.S.shape)}."
        )
    around = tuple(n + 2 for n in shape)
    if tuple(samples.marks.shape) not in ((1, *around), (count, *around)):
        raise InputError(
            f"marks must have shape {(count, *around)} or {(1, *around)}, got {tuple(samples.marks.shape)}."
        )
    return shape
