"""Realizations made while a network is trained on them, so that it never sees a sample twice."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch

from nnlod_fenics.dataset.patches import Batch, Patches
from nnlod_fenics.errors import InputError
from nnlod_fenics.fields import FieldLaw
from nnlod_fenics.grid import Grid
from nnlod_fenics.lod.condensation import Condensation, default_chunk

__all__ = ["ONLINE_STAGE", "OnlineDataset"]

Array = npt.NDArray[np.float64]

ONLINE_STAGE = 2  # of the random streams: realizations that are in no dataset and no evaluation


class OnlineDataset:
    """Fresh fields and their local matrices, computed on the device on which a network is trained.

    Epoch e consists of the realizations e·n … (e+1)·n − 1 of stage ``ONLINE_STAGE``: the same ones for the same
    seed, whenever and wherever they are made, so that an interrupted training goes on with those that it would
    have seen.

    Args:
        grid: The discretisation.
        law: Law of the fields on the grid's T_ε.
        seed: Seed of the run.
        realizations: Realizations n of an epoch.
        pool: Realizations whose patches are shuffled together; all of an epoch if None.
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
        pool: int | None = None,
        device: str | torch.device = "cpu",
    ) -> None:
        for name, value in (("realizations", realizations), ("pool", pool or 1)):
            if value < 1:
                raise InputError(f"{name} must be at least 1, got {value}.")
        self.grid, self.law, self.seed, self.realizations = grid, law, seed, realizations
        self.pool, self.device = min(pool or realizations, realizations), torch.device(device)

    def __len__(self) -> int:
        """Patches of an epoch."""
        return self.realizations * self.grid.num_elements

    def arrays(self, numbers: range) -> tuple[torch.Tensor, torch.Tensor]:
        """Make some realizations.

        Args:
            numbers: Their numbers in the stream of this seed.

        Returns:
            Fields Z ``(k, 1/ε, …)`` and local matrices S ``(k, num_elements, (2ℓ+2)^d, 2^d)`` in float64, on
            the device.
        """
        grid = self.grid
        Z = np.stack([self.law.sample(self.seed, k, stage=ONLINE_STAGE).Z for k in numbers])
        S = torch.empty((len(Z), grid.num_elements, *grid.local_matrix_shape), dtype=torch.float64, device=self.device)
        chunk = min(default_chunk(grid, self.device.type, S.itemsize), grid.num_elements)
        for k, A in enumerate(np.exp(Z)):
            condensation = Condensation(grid, A[None], self.device, torch.float64)
            position = np.pad(grid.elements, ((0, 0), (1, 0)))  # realization 0 of the batch, then x, y, z
            for start in range(0, grid.num_elements, chunk):
                S[k, start : start + chunk] = condensation.patches(position[start : start + chunk])
        return torch.from_numpy(Z).to(self.device), S

    def epoch(self, number: int, size: int, order: torch.Generator | None = None) -> Iterator[Batch]:
        """The patches of an epoch, each once, in batches.

        Args:
            number: Number of the epoch, from 0.
            size: Patches of a batch.
            order: Shuffles across the realizations of a pool; in order if None.

        Yields:
            The batches, on the device.
        """
        last = (number + 1) * self.realizations
        for first in range(number * self.realizations, last, self.pool):
            Z, S = self.arrays(range(first, min(first + self.pool, last)))
            yield from Patches(self.grid, Z, S, self.device).batches(size, order)

    def __call__(self, number: int) -> tuple[Array, Array]:
        """Fields and local matrices of an epoch as arrays."""
        first = number * self.realizations
        Z, S = self.arrays(range(first, first + self.realizations))
        return Z.cpu().numpy(), S.cpu().numpy()
