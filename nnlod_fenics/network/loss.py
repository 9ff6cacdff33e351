"""The loss (4.1), and errors of local matrices."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from torch import Tensor

__all__ = ["matrix_errors", "relative_loss"]


def relative_loss(predicted: Tensor, exact: Tensor) -> Tensor:
    """Relative squared error of local matrices, (4.1): mean of ‖Ŝ − S‖² / ‖S‖² in the Frobenius norm.

    Args:
        predicted: Ŝ, shape ``(n, rows, columns)``.
        exact: S, same shape.

    Returns:
        The loss, a scalar.
    """
    error = (predicted - exact).flatten(1).square().sum(dim=1)
    return (error / exact.flatten(1).square().sum(dim=1)).mean()


def matrix_errors(predicted: npt.ArrayLike, exact: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Relative errors of single local matrices, ‖Ŝ − S‖ / ‖S‖ in the Frobenius norm.

    Args:
        predicted: Ŝ, shape ``(…, rows, columns)``.
        exact: S, same shape.

    Returns:
        Shape ``(…)``; the mean of their squares is the loss (4.1).
    """
    axes = (-2, -1)
    S = np.asarray(exact, dtype=np.float64)
    return np.asarray(np.linalg.norm(np.asarray(predicted) - S, axis=axes) / np.linalg.norm(S, axis=axes))
