"""A random coefficient whose mean solution is known, and a network that is wrong."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from nnlod_fenics import NNLOD, Grid, coarse_matrix, local_matrices, solve_coarse
from nnlod_fenics.fields import FieldSample

GRID = Grid(1, 4, 8, 1, coefficient=8)
ROUGH = np.random.default_rng(0).standard_normal(GRID.coefficient_shape)
SPREAD = 0.3


class LevelLaw:
    """Z = Z₀ + s ξ with one standard normal ξ a realization.

    S(Z) = e^{s ξ} S(Z₀), so that u = e^{-s ξ} u₀ and E[u] = e^{s²/2} u₀.
    """

    def sample(self, seed: int, index: int, stage: int = 0) -> FieldSample:
        rng = np.random.default_rng([seed, stage, index])
        return FieldSample(ROUGH + SPREAD * rng.standard_normal(), {})

    def settings(self) -> dict[str, object]:
        return {"kind": "level"}


class WrongNetwork(nn.Module):
    """S(Z₀) times a factor that follows the level of the field, but not as it should."""

    homogeneous = False

    def __init__(self) -> None:
        super().__init__()
        self.S = nn.Parameter(torch.from_numpy(local_matrices(GRID, np.exp(ROUGH))))

    def forward_field(self, Z: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
        level = Z[:, GRID.ell * 2 : -GRID.ell * 2].double().mean(dim=1) - ROUGH.mean()
        factor = 1.5 * (0.8 * level + 0.1 * torch.sin(20 * level)).exp()
        return factor[:, None, None, None] * self.S


def wrong_model() -> NNLOD:
    return NNLOD(GRID, WrongNetwork(), {"training_set": {"field": {}}})


def mean_solution() -> np.ndarray:
    u = solve_coarse(GRID, coarse_matrix(GRID, local_matrices(GRID, np.exp(ROUGH))))
    return np.exp(SPREAD**2 / 2) * u
