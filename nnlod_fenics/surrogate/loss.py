"""The loss (4.1)."""

from __future__ import annotations

from torch import Tensor

__all__ = ["relative_loss"]


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
