"""Unbiased combinations of sample means of several models, and the weights of least variance."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

__all__ = ["weights"]

Array = npt.NDArray[np.float64]

_RIDGE = 1e-12  # of the diagonal: models that are alike share a weight, quantities without variance have none


def weights(covariance: Array, groups: Sequence[tuple[int, ...]], counts: Sequence[float]) -> list[Array]:
    """Weights w of least variance of Σ_g Σ_i w_gi mean_g(Q_i), an estimate of E[Q_0] with the expectation of mean(Q_0).

    Group g is a set of n_g samples, independent of those of the other groups, of the models i in it. The weights of a
    model sum to zero over the groups, those of model 0 to one: whatever the covariances are, the estimate is unbiased
    if they do not depend on the samples. Of all such weights these have the least variance Σ_g w_g·C_g w_g / n_g (the
    multilevel best linear unbiased estimator of Schaden & Ullmann 2020). Multilevel and multifidelity Monte Carlo and
    approximate control variates (Giles 2008; Peherstorfer, Willcox & Gunzburger 2016; Gorodetsky et al. 2020) are other
    weights for groups of special kinds.

    Args:
        covariance: Covariances of m models for each of q quantities, shape ``(m, m, q)``.
        groups: The models of each group; model 0 is in the first group and in no other.
        counts: Samples n_g of each group.

    Returns:
        For each group its weights, shape ``(models, q)``.

    Example:
        >>> covariance = np.array([[4.0, 3.0], [3.0, 9.0]])[:, :, None]
        >>> pairs, low = weights(covariance, [(0, 1), (1,)], [10, 30])
        >>> pairs.round(6).ravel().tolist(), low.round(6).ravel().tolist()
        ([1.0, -0.25], [0.25])
    """
    spread = np.sqrt(np.einsum("iiq->iq", covariance))
    known = spread > 0
    scale = np.where(known, spread, 1.0)
    correlation = np.moveaxis(covariance / (scale[:, None] * scale[None, :]), 2, 0)
    columns = [(g, i) for g, models in enumerate(groups) for i in models]
    moves, size = _moves(columns, counts)
    block = np.zeros((len(correlation), len(columns), len(columns)))
    for a, (g, i) in enumerate(columns):
        for b, (h, j) in enumerate(columns):
            if g == h:
                block[:, a, b] = correlation[:, i, j] / counts[g]
    start = np.array([float(i == 0) for _, i in columns])
    normal = moves @ block @ moves.T / np.outer(size, size) + _RIDGE * np.eye(len(size))
    right = np.einsum("ra,qab,b->qr", moves, block, start) / size
    moved = np.linalg.solve(normal, right[:, :, None])[:, :, 0] / size
    found = (start - moved @ moves).T * np.array([known[0] * known[i] / scale[i] for _, i in columns]) * scale[0]
    found[0] = 1.0
    ends = np.cumsum([len(models) for models in groups])
    return np.split(found, ends[:-1])


def _moves(columns: list[tuple[int, int]], counts: Sequence[float]) -> tuple[Array, Array]:
    """Moves of the weights that leave the estimate unbiased, and the standard deviations that belong to them.

    Each shifts the weight of a model from its largest group to another one.
    """
    largest: dict[int, int] = {}
    for g, i in columns:
        if i not in largest or counts[g] > counts[largest[i]]:
            largest[i] = g
    free = [(g, i) for g, i in columns if i and g != largest[i]]
    moves = np.zeros((len(free), len(columns)))
    for row, (g, i) in enumerate(free):
        moves[row, columns.index((g, i))], moves[row, columns.index((largest[i], i))] = 1.0, -1.0
    size = np.array([np.sqrt(1 / counts[g] + 1 / counts[largest[i]]) for g, i in free])
    return moves, size
