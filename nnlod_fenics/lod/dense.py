"""Dense linear algebra in batches for the condensation: products, factors by halving, sums of blocks."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

__all__ = ["BlockSum", "Factors", "fill_empty_pivots", "forward", "inverse_factor", "pick", "product", "square"]

IntArray = npt.NDArray[np.int64]

_BASE = 16  # size of a pivot block that LAPACK factorises; larger ones are halved, so that products dominate
_WHOLE = 160  # size of a pivot block whose L⁻¹ is formed


def fill_empty_pivots(block: Tensor) -> None:
    """Set pivots that nothing contributes to, those of nodes outside D, to one."""
    diagonal = torch.diagonal(block, dim1=-2, dim2=-1)
    diagonal += (diagonal == 0).to(block.dtype)


def product(x: Tensor, y: Tensor, out: Tensor | None = None) -> Tensor:
    """Batched matrix product.

    On a CPU NumPy calls BLAS once a matrix without PyTorch's overhead, and for xᵀ x takes the symmetric
    rank-k update, half the operations.
    """
    if x.is_cuda:
        return torch.matmul(x, y, out=out)
    return torch.from_numpy(np.matmul(x.numpy(), y.numpy(), out=None if out is None else out.numpy()))


def square(x: Tensor, out: Tensor | None = None) -> Tensor:
    """Batched xᵀ x."""
    return product(x.mT, x, out)


def inverse_factor(pivot: Tensor) -> Tensor:
    """L⁻¹ for the Cholesky factors L of symmetric positive definite matrices (their upper half), by halving.

    Matrix products run many times faster than triangular solves of this size, on CPUs and GPUs. Where a
    matrix is not positive definite the result is NaN, which spreads to the patches that need it.
    """
    n = pivot.shape[-1]
    if n <= _BASE:
        factor, info = torch.linalg.cholesky_ex(pivot, upper=True)
        if bool((info != 0).any()):
            factor[info != 0] = torch.nan
        identity = torch.eye(n, dtype=pivot.dtype, device=pivot.device).expand_as(factor)
        return torch.linalg.solve_triangular(factor.mT, identity, upper=False)
    half = n // 2
    first = inverse_factor(pivot[:, :half, :half])
    coupling = product(first, pivot[:, :half, half:])
    second = inverse_factor(pivot[:, half:, half:] - square(coupling))
    result = torch.zeros_like(pivot, memory_format=torch.contiguous_format)
    result[:, :half, :half] = first
    result[:, half:, half:] = second
    result[:, half:, :half] = -product(product(second, coupling.mT), first)
    return result


def forward(pivot: Tensor, right: Tensor, out: Tensor) -> None:
    """L⁻¹ B, for large pivots without forming all of L⁻¹, which would take half as many operations again."""
    n = pivot.shape[-1]
    if n <= _WHOLE:
        product(inverse_factor(pivot), right, out)
        return
    half = n // 2
    both = torch.cat([pivot[:, :half, half:], right[:, :half]], dim=2)
    solved = torch.empty_like(both)
    forward(pivot[:, :half, :half], both, solved)
    coupling, first = solved[:, :, : n - half], solved[:, :, n - half :]
    out[:, :half] = first
    rest = right[:, half:] - product(coupling.mT, first)
    forward(pivot[:, half:, half:] - square(coupling), rest, out[:, half:])


class Factors(NamedTuple):
    """An elimination: with pivot block P = L Lᵀ and coupling block B, what is eliminated is −L⁻ᵀ (L⁻¹ B) x.

    Attributes:
        inverse: L⁻¹, shape ``(batch, p, p)``.
        coupling: L⁻¹ B, shape ``(batch, p, m)``.
    """

    inverse: Tensor
    coupling: Tensor


class BlockSum(NamedTuple):
    """The sum of some symmetric blocks, cut into pivot, coupling and rest.

    Only what stands above the diagonal is kept up, and the carried rows and columns, the last ones, whole.
    """

    pivot: Tensor
    coupling: Tensor
    rest: Tensor

    def _part(self, row: int, column: int, height: int, width: int) -> Tensor:
        count = self.pivot.shape[1]
        if row >= count:
            return self.rest[:, row - count : row - count + height, column - count : column - count + width]
        if column >= count:
            return self.coupling[:, row : row + height, column - count : column - count + width]
        return self.pivot[:, row : row + height, column : column + width]

    def add(self, child: Tensor, runs: tuple[tuple[int, int, int], ...], carried: int) -> None:
        """Add the block of a child, run by run; its carried rows start at ``carried``."""
        for place, (row, row_target, height) in enumerate(runs):
            for column, column_target, width in runs[place:]:
                source = child[:, row : row + height, column : column + width]
                if row_target <= column_target:
                    self._part(row_target, column_target, height, width).add_(source)
                else:
                    self._part(column_target, row_target, width, height).add_(source.mT)
                if row >= carried and row != column:
                    self._part(column_target, row_target, width, height).add_(source.mT)


def pick(blocks: Tensor, index: IntArray) -> Tensor:
    """Blocks by number: a view where the numbers count up evenly, as they do for a row of patches."""
    steps = np.diff(index)
    if len(index) == 1 or (steps[0] > 0 and (steps == steps[0]).all()):
        step = int(steps[0]) if len(steps) else 1
        return blocks[int(index[0]) : int(index[-1]) + 1 : step]
    return blocks[torch.from_numpy(index).to(blocks.device)]
