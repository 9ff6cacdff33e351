"""What a network is trained on: blocks for training, validation and test, and where they come from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy.typing as npt
import torch
from torch import Tensor

from nnlod_fenics.dataset.online import OnlineDataset
from nnlod_fenics.dataset.reading import Dataset
from nnlod_fenics.errors import InputError
from nnlod_fenics.fields import make_field
from nnlod_fenics.grid import Grid

__all__ = ["Arrays", "TrainingData", "fresh_each_epoch"]

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
        identity: What the model file tells of the training set: ``field`` (its law), ``seed``, ``realizations``.
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
        train, validation, test = ((dataset.fields(part), dataset.matrices(part)) for part in split)
        identity = {"field": dataset.field_settings, "seed": dataset.seed, "realizations": len(split.train)}
        return cls(dataset.grid, train, validation, test, identity)

    @classmethod
    def online(cls, source: OnlineDataset, held_out: Dataset) -> TrainingData:
        """Realizations made during training, validated and tested on the last fifth of a dataset."""
        if source.grid != held_out.grid:
            raise InputError(f"dataset must be of grid {source.grid.as_dict()}, got {held_out.grid.as_dict()}.")
        n, split = source.realizations, held_out.split()
        validation, test = ((held_out.fields(part), held_out.matrices(part)) for part in (split.validation, split.test))
        identity = {"field": source.law.settings(), "seed": source.seed, "realizations_per_epoch": n}
        return cls(source.grid, lambda k: source.arrays(range(k * n, (k + 1) * n)), validation, test, identity)

    def epoch(self, number: int) -> Arrays:
        """Fields and local matrices of an epoch.

        Raises:
            InputError: If there are none, or a value is not finite.
        """
        Z, S = self.train(number) if callable(self.train) else self.train
        if not len(Z) or not all(bool(torch.isfinite(torch.as_tensor(values)).all()) for values in (Z, S)):
            raise InputError(
                f"training data must be finite and not empty, got {len(Z)} realizations in epoch {number}."
            )
        return Z, S


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
    law = make_field(dataset.field_settings, dataset.grid.dim, dataset.grid.coefficient)
    return TrainingData.online(OnlineDataset(dataset.grid, law, seed, realizations, device=device), dataset)
