"""Batched dense linear algebra against NumPy's."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nnlod_fenics.lod.dense import fill_empty_pivots, forward, inverse_factor, pick, square


def positive_definite(size: int, count: int = 3) -> np.ndarray:
    x = np.random.default_rng(size).standard_normal((count, size, size + 4))
    return x @ x.swapaxes(1, 2) / size


@pytest.mark.parametrize("size", [1, 16, 17, 50, 170])
def test_factors(size):
    P = positive_definite(size)
    factor = np.linalg.cholesky(P)
    B = np.random.default_rng(0).standard_normal((3, size, 5))
    np.testing.assert_allclose(inverse_factor(torch.from_numpy(P)).numpy(), np.linalg.inv(factor), atol=1e-9)
    out = torch.empty(3, size, 5, dtype=torch.float64)
    forward(torch.from_numpy(P), torch.from_numpy(B), out)
    np.testing.assert_allclose(out.numpy(), np.linalg.solve(factor, B), atol=1e-9)
    np.testing.assert_allclose(square(out).numpy(), np.swapaxes(B, 1, 2) @ np.linalg.solve(P, B), atol=1e-9)


def test_a_matrix_that_is_not_positive_definite_spoils_itself_only():
    P = positive_definite(40)
    P[1, 30, 30] = -1.0
    result = inverse_factor(torch.from_numpy(P)).isnan().flatten(1).any(dim=1)
    assert result.tolist() == [False, True, False]


def test_empty_pivots():
    block = torch.diag(torch.tensor([2.0, 0.0, 3.0]))[None]
    fill_empty_pivots(block)
    assert torch.diagonal(block[0]).tolist() == [2.0, 1.0, 3.0]


@pytest.mark.parametrize("index", [[4], [0, 1, 2], [1, 3, 5], [5, 3, 1], [2, 2], [0, 1, 5]])
def test_pick(index):
    blocks = torch.arange(12.0).reshape(6, 2)
    assert torch.equal(pick(blocks, np.array(index)), blocks[index])
