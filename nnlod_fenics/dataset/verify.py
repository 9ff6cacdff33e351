"""Checks of a dataset's content."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from nnlod_fenics.dataset.layout import checksum
from nnlod_fenics.dataset.reading import Array, Dataset
from nnlod_fenics.errors import InputError, MissingDependencyError
from nnlod_fenics.fields import make_field
from nnlod_fenics.lod.local import matrices_with_loads
from nnlod_fenics.runtime.progress import show_progress
from nnlod_fenics.window import GALERKIN

__all__ = ["Verification", "verify_dataset"]

_SUM = {"float64": 1e-10, "float32": 1e-5}  # of a row or column, relative to the largest entry of the matrix
_EIGENVALUE = {"float64": 1e-12, "float32": 1e-6}  # below zero, relative to the largest one
_FIELD = {
    "float64": 1e-9,
    "float32": 1e-6,
}  # between a field and the same one drawn again, relative to its largest value
_DIFFERENCE = {"float64": 1e-9, "float32": 1e-5}  # between the methods, relative to the norm of the matrix


@dataclass
class Verification:
    """What a check found.

    Attributes:
        realizations: Realizations that were checked.
        largest_sum: Largest row or column sum of a local matrix, relative to its largest entry; 0 in theory.
        recomputed: Local matrices that were computed once more.
        largest_difference: Largest relative difference to them, in the Frobenius norm.
        problems: One sentence for each thing that is wrong.
    """

    realizations: int = 0
    largest_sum: float = 0.0
    recomputed: int = 0
    largest_difference: float = 0.0
    problems: list[str] = field(default_factory=list)


def verify_dataset(dataset: Dataset, sample: int = 8, seed: int = 0) -> Verification:
    """Check a dataset: checksums, NaNs, zero row and column sums; some fields and local matrices are made again.

    Element energy matrices must be symmetric and positive semidefinite, too, and the loads of an element, for f = 1,
    must add up to its volume.

    Args:
        dataset: The dataset.
        sample: How many local matrices to recompute with ``method="dolfinx"``; their fields are drawn again.
        seed: Which ones.

    Returns:
        What was found.

    Raises:
        InputError: If ``sample`` is negative.
        MissingDependencyError: If matrices are to be recomputed without DOLFINx.
    """
    if sample < 0:
        raise InputError(f"sample must be a number of local matrices, got {sample}.")
    result = Verification()
    most = len(dataset.grid.active_elements)
    chosen = np.random.default_rng(seed).integers([len(dataset), most], size=(sample, 2))
    _check_origins(dataset, result)
    with show_progress("verify", len(dataset)) as report:
        for k in range(len(dataset)):
            try:
                active = dataset.grid_of(k).active_elements
                elements = active[np.unique(chosen[chosen[:, 0] == k, 1] % len(active))]
                Z, S = dataset.column("Z", [k])[0], _matrices(dataset, k)
            except InputError as error:
                result.problems.append(f"realization {k} cannot be read: {error}")
                continue
            if _check_numbers(dataset, k, Z, S, result) and len(elements):
                _draw_again(dataset, k, Z, result)
                _recompute(dataset, k, Z, S, elements, result)
            result.realizations += 1
            report(k + 1)
    return result


def _matrices(dataset: Dataset, k: int) -> Array:
    """Local matrices as stored, with the loads as one more column if there are any; unchecked."""
    S = dataset.column(dataset.header.matrices, [k])[0]
    return np.concatenate([S, dataset.column("b", [k])[0][..., None]], axis=-1) if dataset.has_loads else S


def _check_origins(dataset: Dataset, result: Verification) -> None:
    """Whether each realization is there once."""
    origins, counts = np.unique(dataset.column("origin", range(len(dataset))), axis=0, return_counts=True)
    for seed, number in origins[counts > 1]:
        result.problems.append(f"realization {number} of seed {seed} is there more than once.")


def _draw_again(dataset: Dataset, k: int, Z: Array, result: Verification) -> None:
    """Whether a field is the one that its law gives for its seed and number, with its parameters."""
    try:
        grid = dataset.grid
        law = make_field(dataset.field_settings, grid.dim, grid.coefficient, grid.lengths, grid.widths)
    except InputError:  # a law of a user's own that is not registered here
        return
    seed, number = map(int, dataset.column("origin", [k])[0])
    drawn = law.sample(seed, number)
    if not np.allclose(drawn.Z, Z, rtol=0, atol=_FIELD[str(Z.dtype)] * float(np.abs(drawn.Z).max())):
        result.problems.append(f"realization {k} is not the field that its settings give for seed {seed}.")
    elif dataset.parameters(k) != {name: float(value) for name, value in drawn.parameters.items()}:
        result.problems.append(f"realization {k} has other parameters than its field.")


def _check_numbers(dataset: Dataset, k: int, Z: Array, S: Array, result: Verification) -> bool:
    """Whether the numbers of a realization are those that were stored, and finite."""
    width = dataset.window.matrix_shape[1]
    parts = [S[..., :width], S[..., width]] if dataset.has_loads else [S]
    if dataset.has_domains:
        parts.append(dataset.column("marks", [k])[0])
    if int(dataset.column("checksum", [k])[0]) != checksum(Z, *parts):
        result.problems.append(f"realization {k} has another checksum than when it was stored.")
        return False
    if not (np.isfinite(Z).all() and np.isfinite(S).all()):
        result.problems.append(f"realization {k} has NaN or infinite values.")
        return False
    active = dataset.grid_of(k).active.ravel()
    if S[~active].any():
        result.problems.append(f"realization {k} has a local matrix of an inactive element that is not 0.")
        return False
    matrices, loads = S[active][..., :width].astype(np.float64), S[active][..., width:].astype(np.float64)
    largest = np.abs(matrices).max(axis=(1, 2))
    sums = np.maximum(np.abs(matrices.sum(axis=1)).max(axis=1), np.abs(matrices.sum(axis=2)).max(axis=1))
    relative = float((sums / largest).max())
    result.largest_sum = max(result.largest_sum, relative)
    if not relative <= _SUM[str(S.dtype)]:
        result.problems.append(f"realization {k} has a local matrix with row or column sums of {relative:.1e}, not 0.")
    if dataset.form == GALERKIN:
        _check_definite(k, matrices, _EIGENVALUE[str(S.dtype)], result)
    volume = float(np.prod(dataset.grid.widths))
    size = np.maximum(np.abs(loads).sum(axis=1), volume)
    wrong = float((np.abs(loads.sum(axis=1) - volume) / size).max(initial=0.0))
    if not wrong <= _SUM[str(S.dtype)]:
        result.problems.append(f"realization {k} has loads whose sum over an element is off its volume by {wrong:.1e}.")
    return True


def _check_definite(k: int, matrices: Array, tolerance: float, result: Verification) -> None:
    """Whether matrices are symmetric and positive semidefinite, up to rounding."""
    if not np.array_equal(matrices, np.swapaxes(matrices, 1, 2)):
        result.problems.append(f"realization {k} has a local matrix that is not symmetric.")
        return
    values = np.linalg.eigvalsh(matrices)
    smallest = float((values[:, 0] / values[:, -1]).min())
    if not smallest >= -tolerance:
        result.problems.append(
            f"realization {k} has a local matrix that is not positive semidefinite: an eigenvalue is {smallest:.1e} of "
            "the largest one."
        )


def _recompute(dataset: Dataset, k: int, Z: Array, S: Array, elements: Array, result: Verification) -> None:
    try:
        A = np.exp(Z.astype(np.float64))
        fresh = matrices_with_loads(dataset.grid_of(k), A, dataset.form, dataset.has_loads, "dolfinx", elements)
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            f"recomputing local matrices needs {error.name}, which is not installed; install FEniCSx or verify with "
            f"--sample 0."
        ) from None
    width = dataset.window.matrix_shape[1]
    parts = {dataset.header.matrices: slice(width)} | ({"b": slice(width, None)} if dataset.has_loads else {})
    result.recomputed += len(elements)
    for name, part in parts.items():
        deviation = np.linalg.norm(S[elements][..., part] - fresh[..., part], axis=(1, 2))
        difference = deviation / np.linalg.norm(fresh[..., part], axis=(1, 2))
        result.largest_difference = max(result.largest_difference, float(difference.max()))
        for element, value in zip(elements, difference, strict=True):
            if not value <= _DIFFERENCE[str(S.dtype)]:
                result.problems.append(
                    f"realization {k}, element {element}: recomputed, {name} differs by {value:.1e}."
                )
