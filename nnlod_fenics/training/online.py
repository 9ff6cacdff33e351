"""Realizations made while a network is trained on them, so that it never sees a sample twice."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from nnlod_fenics.errors import InputError
from nnlod_fenics.fields import FieldLaw
from nnlod_fenics.grid import Grid
from nnlod_fenics.lod.condensation import Condensation, default_chunk
from nnlod_fenics.lod.local import matrices_with_loads
from nnlod_fenics.runtime.streams import Stream
from nnlod_fenics.window import PETROV_GALERKIN

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
        device: Where they are computed and kept; with loads or in the Galerkin form they are computed on the CPU.
        form: Form of the local matrices.
        loads: Whether what elements add to the load is computed too, as one more column.

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
        form: str = PETROV_GALERKIN,
        loads: bool = False,
    ) -> None:
        if not 1 <= realizations <= _MOST:
            raise InputError(f"realizations of an epoch must be between 1 and {_MOST}, got {realizations}.")
        self.grid, self.law, self.seed, self.realizations = grid, law, seed, realizations
        self.device, self.form, self.loads = torch.device(device), form, loads

    def arrays(self, numbers: range) -> tuple[torch.Tensor, torch.Tensor]:
        """Make some realizations.

        Args:
            numbers: Their numbers in the stream of this seed.

        Returns:
            Fields Z ``(k, 1/ε, …)`` and local matrices ``(k, num_elements, rows, columns)`` in float64, on the device.
        """
        Z = np.stack([self.law.sample(self.seed, k, stage=Stream.ONLINE).Z for k in numbers])
        if self.loads or self.form != PETROV_GALERKIN:
            S = torch.from_numpy(matrices_with_loads(self.grid, np.exp(Z), self.form, self.loads)).to(self.device)
        else:
            S = self._condensed(np.exp(Z))
        return torch.from_numpy(Z).to(self.device), S

    def _condensed(self, fields: npt.NDArray[np.float64]) -> torch.Tensor:
        """Local matrices of the Petrov–Galerkin form, computed on the device."""
        grid = self.grid
        S = torch.zeros(
            (len(fields), grid.num_elements, *grid.local_matrix_shape), dtype=torch.float64, device=self.device
        )
        chunk = min(default_chunk(grid, self.device.type, S.itemsize), grid.num_elements)
        parts = np.array_split(grid.active_elements, np.arange(chunk, len(grid.active_elements), chunk))
        for k, A in enumerate(fields):
            condensation = Condensation(grid, A[None], self.device, torch.float64)
            for part in parts:
                position = np.pad(grid.elements[part], ((0, 0), (1, 0)))  # realization 0 of the batch, then x, y, z
                S[k, torch.from_numpy(part)] = condensation.patches(position)
        return S
