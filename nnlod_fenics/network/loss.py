"""The loss (4.1), and errors of local matrices."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from torch import Tensor

__all__ = ["count_matrices", "matrix_errors", "relative_loss"]


def relative_loss(predicted: Tensor, exact: Tensor, columns: int | None = None) -> Tensor:
    """Relative squared error of local matrices, (4.1): mean of ‖Ŝ − S‖² / ‖S‖² in the Frobenius norm.

    Args:
        predicted: Ŝ, shape ``(n, rows, columns)``.
        exact: S, same shape. Where it is zero, for elements outside D, Ŝ does not count.
        columns: Columns of the matrices, if loads follow, whose relative squared error is added; None for all.

    Returns:
        The loss, a scalar; 0 where nothing counts.
    """
    parts = [slice(None)] if columns is None else [slice(columns), slice(columns, None)]
    loss, outside = predicted.new_zeros(()), (exact == 0).flatten(1).all(dim=1)
    for part in parts:
        error = (predicted[..., part] - exact[..., part]).flatten(1).square().sum(dim=1)
        norm = exact[..., part].flatten(1).square().sum(dim=1)
        relative = error.masked_fill(outside, 0) / norm.masked_fill(norm == 0, 1)
        loss = loss + relative.sum() / (~outside).sum().clamp(min=1)
    return loss


def count_matrices(exact: Tensor) -> int:
    """How many matrices, shape ``(n, rows, columns)``, count in :func:`relative_loss`."""
    return int((exact.flatten(1).square().sum(dim=1) > 0).sum())


def matrix_errors(predicted: npt.ArrayLike, exact: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Relative errors of single local matrices, ‖Ŝ − S‖ / ‖S‖ in the Frobenius norm.

    Args:
        predicted: Ŝ, shape ``(…, rows, columns)``.
        exact: S, same shape.

    Returns:
        Shape ``(…)``; the mean of their squares is the loss (4.1). NaN where S is zero: for elements outside D.
    """
    axes = (-2, -1)
    S = np.asarray(exact, dtype=np.float64)
    norm = np.linalg.norm(S, axis=axes)
    return np.asarray(np.linalg.norm(np.asarray(predicted) - S, axis=axes) / np.where(norm == 0, np.nan, norm))
