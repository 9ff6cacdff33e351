"""Realizations made while a network is trained on them, so that it never sees a sample twice."""

from __future__ import annotations

import numpy as np
import torch

from nnlod_fenics.errors import InputError
from nnlod_fenics.fields import FieldLaw
from nnlod_fenics.grid import Grid
from nnlod_fenics.lod.condensation import Condensation, default_chunk
from nnlod_fenics.runtime.streams import Stream

__all__ = ["OnlineDataset"]

_MOST = 1_000_000  # realizations of an epoch: all of them are in memory


class OnlineDataset:
    """Fresh fields and their local matrices, computed on the device on which a network is trained.

    Epoch e consists of the realizations e·n … (e+1)·n − 1 of the stream ONLINE: the same ones for the same
    seed, whenever and wherever they are made, so that a resumed training sees the same fields as an
    uninterrupted one.

    Args:
        grid: The discretisation.
        law: Law of the fields on the grid's T_ε.
        seed: Seed of the run.
        realizations: Realizations n of an epoch.
        device: Where they are computed and kept.

    Raises:
        InputError: If a number does not fit.
    """

    def __init__(
        self,
        grid: Grid,
        law: FieldLaw,
        seed: int,
        realizations: int,
        device: str | torch.device = "cpu",
    ) -> None:
        if not 1 <= realizations <= _MOST:
            raise InputError(f"realizations of an epoch must be between 1 and {_MOST}, got {realizations}.")
        self.grid, self.law, self.seed, self.realizations = grid, law, seed, realizations
        self.device = torch.device(device)

    def arrays(self, numbers: range) -> tuple[torch.Tensor, torch.Tensor]:
        """Make some realizations.

        Args:
            numbers: Their numbers in the stream of this seed.

        Returns:
            Fields Z ``(k, 1/ε, …)`` and local matrices S ``(k, num_elements, (2ℓ+2)^d, 2^d)`` in float64, on
            the device.
        """
        grid = self.grid
        Z = np.stack([self.law.sample(self.seed, k, stage=Stream.ONLINE).Z for k in numbers])
        S = torch.zeros((len(Z), grid.num_elements, *grid.local_matrix_shape), dtype=torch.float64, device=self.device)
        chunk = min(default_chunk(grid, self.device.type, S.itemsize), grid.num_elements)
        parts = np.array_split(grid.active_elements, np.arange(chunk, len(grid.active_elements), chunk))
        for k, A in enumerate(np.exp(Z)):
            condensation = Condensation(grid, A[None], self.device, torch.float64)
            for part in parts:
                position = np.pad(grid.elements[part], ((0, 0), (1, 0)))  # realization 0 of the batch, then x, y, z
                S[k, torch.from_numpy(part)] = condensation.patches(position)
        return torch.from_numpy(Z).to(self.device), S
