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
from nnlod_fenics.lod.neighbourhood import neighbourhood_energies, whitening
from nnlod_fenics.network.windows import active_cells, crop, level_of
from nnlod_fenics.training.blocks import Samples
from nnlod_fenics.training.online import OnlineDataset
from nnlod_fenics.window import INSIDE, PETROV_GALERKIN, Window, domain_marks, element_size

__all__ = [
    "Arrays",
    "TrainingData",
    "check_size",
    "energy_whitening",
    "fresh_each_epoch",
    "of_unit_size",
    "without_level",
]

_SIZES = (1e-15, 1e15)
_LEAST = 1e-4  # added to eigenvalues of 0.01 to 1: roundings of float32 data stay far below

_Array: TypeAlias = npt.NDArray[Any] | Tensor
Arrays: TypeAlias = tuple[_Array, _Array] | tuple[_Array, _Array, _Array]
"""Fields Z, shape ``(k, 1/ε, …)``, and local matrices S, shape ``(k, num_elements, rows, columns)``; with what elements
add to the load as one more column where that is to be learned. Where fields have domains of their own, the marks of
their elements too, see :func:`nnlod_fenics.window.domain_marks`, shape ``(k, 1/H + 2, …)``."""


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
        form: Form of the local matrices.
    """

    grid: Grid
    train: Arrays | Callable[[int], Arrays]
    validation: Arrays
    test: Arrays
    identity: dict[str, Any]
    form: str = PETROV_GALERKIN

    @classmethod
    def of(cls, dataset: Dataset, realizations: int | None = None) -> TrainingData:
        """The data of a dataset, or of the first realizations of it, split 80 : 10 : 10 by realization."""
        split = dataset.split(realizations)
        train, validation, test = (dataset.arrays(part) for part in split)
        identity = {"field": dataset.field_settings, "seed": dataset.seed, "realizations": len(split.train)}
        return cls(dataset.grid, train, validation, test, identity, dataset.form)

    @classmethod
    def online(cls, source: OnlineDataset, held_out: Dataset) -> TrainingData:
        """Realizations made during training, validated and tested on the last fifth of a dataset."""
        if source.grid != held_out.grid:
            expected, given = told_apart(source.grid, held_out.grid)
            raise InputError(f"dataset must be of grid {expected}, got {given}.")
        n, split = source.realizations, held_out.split()
        validation, test = (held_out.arrays(part) for part in (split.validation, split.test))
        identity = {"field": settings_of_law(source.law), "seed": source.seed, "realizations_per_epoch": n}
        return cls(
            source.grid, lambda k: source.arrays(range(k * n, (k + 1) * n)), validation, test, identity, held_out.form
        )

    @property
    def window(self) -> Window:
        """What the local matrices depend on."""
        return Window.of(self.grid, self.form)

    @property
    def has_loads(self) -> bool:
        """Whether what elements add to the load is among the data."""
        return int(self.validation[1].shape[-1]) > self.window.matrix_shape[1]

    def samples(self, arrays: Arrays) -> Samples:
        """Fields and local matrices with the marks of their elements: their own, or those of the grid."""
        if len(arrays) == 3:
            return Samples(*arrays)
        return Samples(*arrays, domain_marks(self.grid)[None])

    def check(self) -> None:
        """Check the data that are held out.

        Raises:
            InputError: If there are none, or a value is not finite.
        """
        _check(self.validation, "validation data")
        _check(self.test, "test data")

    def checksum(self, training_fields: _Array) -> int:
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
        arrays = self.train(number) if callable(self.train) else self.train
        _check(arrays, f"training data of epoch {number}" if callable(self.train) else "training data")
        return arrays


def _check(arrays: Arrays, name: str) -> None:
    if not len(arrays[0]) or not all(bool(torch.isfinite(torch.as_tensor(values)).all()) for values in arrays):
        raise InputError(f"{name} must be finite and not empty, got {len(arrays[0])} realizations.")


def of_unit_size(grid: Grid, window: Window, samples: Samples) -> Samples:
    """Samples with the local matrices, and loads, of elements of size one: those of networks."""
    size, columns = element_size(grid), window.matrix_shape[1]
    S = torch.as_tensor(samples.S)
    factor = torch.full((S.shape[-1],), size ** (2 - grid.dim), dtype=S.dtype, device=S.device)
    factor[columns:] = size**-grid.dim
    return samples if bool((factor == 1).all()) else samples._replace(S=S * factor)


def without_level(window: Window, samples: Samples) -> Samples:
    """Fields of mean zero over D with their local matrices: S(Z − c) = e^(−c) S(Z); loads do not depend on c.

    The relative loss of a network that is homogeneous too does not change, and numbers of any size fit in float32.

    Args:
        window: What local matrices depend on.
        samples: The fields.

    Returns:
        Fields and matrices in float32.
    """
    Z, S, marks = (torch.as_tensor(values) for values in samples)
    level = level_of(Z.double(), active_cells(marks, window).to(Z.device))
    shifted, columns = (Z - level).float(), window.matrix_shape[1]
    scaled = torch.empty(S.shape, dtype=torch.float32, device=S.device)
    for target, matrices, factor in zip(scaled, S, (-level).exp().flatten(), strict=True):  # no copy of all in float64
        target[..., :columns].copy_(matrices[..., :columns] * factor)
        target[..., columns:].copy_(matrices[..., columns:])
    return Samples(shifted, scaled, marks)


def energy_whitening(window: Window, samples: Samples, device: str | torch.device = "cpu") -> Tensor:
    """W of the loss in energy, see :func:`nnlod_fenics.network.loss.energy_loss`.

    Args:
        window: What the matrices depend on, of the Galerkin form.
        samples: The fields.
        device: Where to compute.

    Returns:
        Float32, shape ``(k, num_elements, rows, rows)``; the elements within one layer are the neighbourhood.
    """
    rows, shared = window.matrix_shape[0], 3**window.dim  # M_E is about 1/3^d of the energy of the neighbourhood
    S, marks = torch.as_tensor(samples.S), torch.as_tensor(samples.marks)
    active = (crop(marks, 1, window.dim) == INSIDE).to(device)
    result = torch.empty(*S.shape[:2], rows, rows, dtype=torch.float32, device=S.device)
    for k, target in enumerate(result):  # one by one: a neighbourhood's matrices are several times as large
        own = active[k : k + 1] if len(active) > 1 else active
        K = S[k : k + 1, :, :, :rows].to(device, torch.float64)
        target.copy_(whitening(neighbourhood_energies(K, own, window.ell), _LEAST)[0] / shared**0.5)
    return result


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
    law = make_field(dataset.field_settings, grid.dim, grid.coefficient, grid.lengths, grid.widths)
    source = OnlineDataset(grid, law, seed, realizations, device=device, form=dataset.form, loads=dataset.has_loads)
    return TrainingData.online(source, dataset)
