"""What a network is trained on: blocks for training, validation and test, and where they come from."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy.typing as npt
import torch
from torch import Tensor

from nnlod_fenics.dataset.reading import Dataset
from nnlod_fenics.errors import InputError
from nnlod_fenics.fields import make_field, settings_of_law
from nnlod_fenics.grid import Grid, told_apart
from nnlod_fenics.network.windows import level_of
from nnlod_fenics.training.online import OnlineDataset

__all__ = ["Arrays", "TrainingData", "check_size", "fresh_each_epoch", "without_level"]

_SIZES = (1e-15, 1e15)

Arrays: TypeAlias = tuple[npt.NDArray[Any] | Tensor, npt.NDArray[Any] | Tensor]
"""Fields Z, shape ``(k, 1/ε, …)``, and local matrices S, shape ``(k, num_elements, (2ℓ+2)^d, 2^d)``."""


@dataclass(frozen=True)
class TrainingData:
    """Realizations for training, validation and test.

    Attributes:
        grid: The discretisation.
        train: Fields and local matrices to train with; or a function that gives those of an epoch (its argument,
            from 0), for training on realizations that are never seen twice.
        validation: Those that choose the best weights.
        test: Those that give the test loss of the model file.
        identity: What the model file records of the training set: ``field`` (its law), ``seed``, ``realizations``.
    """

    grid: Grid
    train: Arrays | Callable[[int], Arrays]
    validation: Arrays
    test: Arrays
    identity: dict[str, Any]

    @classmethod
    def of(cls, dataset: Dataset, realizations: int | None = None) -> TrainingData:
        """The data of a dataset, or of the first realizations of it, split 80 : 10 : 10 by realization."""
        split = dataset.split(realizations)
        train, validation, test = (dataset.arrays(part) for part in split)
        identity = {"field": dataset.field_settings, "seed": dataset.seed, "realizations": len(split.train)}
        return cls(dataset.grid, train, validation, test, identity)

    @classmethod
    def online(cls, source: OnlineDataset, held_out: Dataset) -> TrainingData:
        """Realizations made during training, validated and tested on the last fifth of a dataset."""
        if source.grid != held_out.grid:
            expected, given = told_apart(source.grid, held_out.grid)
            raise InputError(f"dataset must be of grid {expected}, got {given}.")
        n, split = source.realizations, held_out.split()
        validation, test = (held_out.arrays(part) for part in (split.validation, split.test))
        identity = {"field": settings_of_law(source.law), "seed": source.seed, "realizations_per_epoch": n}
        return cls(source.grid, lambda k: source.arrays(range(k * n, (k + 1) * n)), validation, test, identity)

    def check(self) -> None:
        """Check the data that are held out.

        Raises:
            InputError: If there are none, or a value is not finite.
        """
        _check(self.validation, "validation data")
        _check(self.test, "test data")

    def checksum(self, training_fields: npt.NDArray[Any] | Tensor) -> int:
        """CRC-32 of the fields of training and validation, by which two sets of data of one description differ."""
        result = 0
        for fields in (training_fields, self.validation[0]):
            for Z in fields:
                result = zlib.crc32(torch.as_tensor(Z).cpu().contiguous().numpy(), result)
        return result

    def epoch(self, number: int) -> Arrays:
        """Fields and local matrices of an epoch.

        Raises:
            InputError: If there are none, or a value is not finite.
        """
        Z, S = self.train(number) if callable(self.train) else self.train
        _check((Z, S), f"training data of epoch {number}" if callable(self.train) else "training data")
        return Z, S


def _check(arrays: Arrays, name: str) -> None:
    if not len(arrays[0]) or not all(bool(torch.isfinite(torch.as_tensor(values)).all()) for values in arrays):
        raise InputError(f"{name} must be finite and not empty, got {len(arrays[0])} realizations.")


def without_level(grid: Grid, Z: npt.NDArray[Any] | Tensor, S: npt.NDArray[Any] | Tensor) -> tuple[Tensor, Tensor]:
    """Fields of mean zero over D with their local matrices: S(Z − c) = e^(−c) S(Z).

    The relative loss of a network that is homogeneous too does not change, and numbers of any size fit in float32.

    Args:
        grid: The discretisation.
        Z: Fields, shape ``(k, 1/ε, …)``.
        S: Local matrices, shape ``(k, num_elements, (2ℓ+2)^d, 2^d)``.

    Returns:
        Both in float32.
    """
    Z, S = torch.as_tensor(Z), torch.as_tensor(S)
    level = level_of(grid, Z.double())
    shifted = (Z - level).float()
    scaled = torch.empty(S.shape, dtype=torch.float32, device=S.device)
    for target, matrices, factor in zip(scaled, S, (-level).exp().flatten(), strict=True):  # no copy of all in float64
        target.copy_(matrices * factor)
    return shifted, scaled


def check_size(S: npt.NDArray[Any] | Tensor) -> None:
    """Check that squares of local matrices fit in float32, for a network that needs them as they are.

    Raises:
        InputError: If they do not.
    """
    sizes = [float(abs(matrices).max()) for matrices in S]
    if not _SIZES[0] < min(sizes) <= max(sizes) < _SIZES[1]:
        raise InputError(
            f"local matrices must have sizes of {_SIZES[0]:g} to {_SIZES[1]:g} here, got {min(sizes):.1e} to "
            f"{max(sizes):.1e}; subtract a constant from the fields, or train the structured network."
        )


def fresh_each_epoch(dataset: Dataset, realizations: int, seed: int, device: str) -> TrainingData:
    """Training on realizations that are never seen twice, of the law of a dataset that validates and tests.

    Args:
        dataset: The dataset.
        realizations: Realizations of an epoch.
        seed: Seed of the realizations.
        device: Where they are made.

    Returns:
        The data.
    """
    grid = dataset.grid
    law = make_field(dataset.field_settings, grid.dim, grid.coefficient, grid.lengths)
    return TrainingData.online(OnlineDataset(grid, law, seed, realizations, device=device), dataset)
