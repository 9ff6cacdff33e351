"""Losses of training, and errors of local matrices."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

__all__ = ["count_matrices", "energy_loss", "matrix_errors", "relative_loss", "training_loss"]

_FLOOR = 1e-3  # added to the identity, as no energy may be left in the neighbourhood
_ROUNDING = 1e-6  # of X, whose rounding in single precision must not make 1 + X indefinite


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
    loss, outside = predicted.new_zeros(()), _outside(exact)
    for part in parts:
        error = (predicted[..., part] - exact[..., part]).flatten(1).square().sum(dim=1)
        norm = exact[..., part].flatten(1).square().sum(dim=1)
        loss = loss + _mean(error / norm.masked_fill(norm == 0, 1), outside)
    return loss


def energy_loss(predicted: Tensor, exact: Tensor, whitening: Tensor) -> Tensor:
    """Relative error of matrices of the Galerkin form in the energy of the neighbourhood.

    Mean of 2 (tr X − log det(1 + X)) / ‖W K Wᵀ‖² with X = W(K̂ − K)Wᵀ, which is ‖X‖² / ‖W K Wᵀ‖² for small X. Here
    WᵀW is the inverse of the energy N of the elements around E, that of E itself included. All directions count, those
    of little energy too, on which u depends. Where the network cannot tell K, the Frobenius norm makes it predict the
    mean of K, which is too stiff, as u depends on 1/K; ‖X‖² makes it too soft. Here the mean of (N + K̂ − K)⁻¹ is that
    of N⁻¹, so that solutions in the neighbourhood are right in the mean.

    Args:
        predicted: K̂, positive semidefinite with zero sums over existing nodes, shape ``(n, rows, rows)``.
        exact: K, same shape. Where it is zero, for elements outside D, K̂ does not count.
        whitening: W, same shape, see :func:`nnlod_fenics.training.data.energy_whitening`.

    Returns:
        The loss, a scalar; 0 where nothing counts.
    """
    W, outside = whitening.to(predicted), _outside(exact)
    X = (W @ (predicted - exact) @ W.mT).masked_fill(outside[:, None, None], 0)
    diagonal = X.diagonal(dim1=1, dim2=2)
    one = 1 + _FLOOR + _ROUNDING * diagonal.detach().abs().sum(dim=1, keepdim=True)
    factor = torch.linalg.cholesky((X + X.mT) / 2 + torch.diag_embed(one.expand(diagonal.shape)))
    logarithms = 2 * (factor.diagonal(dim1=1, dim2=2) / one.sqrt()).log()
    divergence = 2 * (diagonal / one - logarithms).sum(dim=1)
    norm = (W @ exact.to(W) @ W.mT).flatten(1).square().sum(dim=1)
    return _mean(divergence / norm.masked_fill(norm == 0, 1), outside)


def training_loss(predicted: Tensor, exact: Tensor, columns: int, whitening: Tensor | None = None) -> Tensor:
    """What trainings minimise: the relative squared error (4.1), or with W the error in energy, plus that of loads.

    Args:
        predicted: Predicted matrices, with the loads as one more column if there are any.
        exact: Exact ones, same shape.
        columns: Columns of the matrices.
        whitening: W for all matrices, for the loss in energy, or None.

    Returns:
        The loss, a scalar.
    """
    if whitening is None:
        return relative_loss(predicted, exact, columns)
    loads = relative_loss(predicted[..., columns:], exact[..., columns:])
    return energy_loss(predicted[..., :columns], exact[..., :columns], whitening) + loads


def _outside(exact: Tensor) -> Tensor:
    """Which matrices are zero: those of elements outside D."""
    return (exact == 0).flatten(1).all(dim=1)


def _mean(values: Tensor, outside: Tensor) -> Tensor:
    """Mean over elements of D; 0 if there are none."""
    return values.masked_fill(outside, 0).sum() / (~outside).sum().clamp(min=1)


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
