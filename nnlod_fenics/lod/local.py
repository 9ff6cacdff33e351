"""Local PG-LOD matrices (3.6): one function in front of two independent ways to compute them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from nnlod_fenics.coefficient import check_coefficient
from nnlod_fenics.errors import InputError
from nnlod_fenics.grid import Grid

__all__ = ["local_matrices"]

METHODS = ("condensed", "dolfinx")


def local_matrices(
    grid: Grid,
    A: npt.ArrayLike,
    method: str = "condensed",
    *,
    device: str = "cpu",
    dtype: npt.DTypeLike = np.float64,
    chunk: int | None = None,
    elements: npt.ArrayLike | None = None,
) -> npt.NDArray[Any]:
    """Compute the local matrices S_T of (3.6) for the elements of T_H.

    Args:
        grid: The discretisation.
        A: Diffusion coefficient on T_ε: positive numbers of shape ``(1/ε,)*d``, indexed ``A[y, x]``, or
            symmetric positive definite matrices, shape ``(1/ε,)*d + (d, d)``. A leading axis of
            realizations is allowed.
        method: ``"condensed"``: static condensation with batched dense linear algebra, shared between
            patches (fast). ``"dolfinx"``: one finite element problem a patch, assembled by DOLFINx, solved
            by PETSc (the reference).
        device: ``"cpu"`` or ``"cuda"``, where ``"condensed"`` computes.
        dtype: Floating-point type in which ``"condensed"`` computes.
        chunk: Patches that ``"condensed"`` treats at a time; bounds its memory. By default from the
            free memory.
        elements: Numbers of the elements to compute (x fastest); all if None.

    Returns:
        Shape ``(number of elements, (2ℓ+2)^d, 2^d)``, after the axis of realizations if A has one; padded:
        rows of nodes outside D are zero. Rows are the nodes of N^ℓ(T), columns those of T, both x fastest.

    Raises:
        InputError: If an argument does not fit.
        NumericalError: If a patch cannot be solved; the message names it.
    """
    if method not in METHODS:
        raise InputError(f"method must be one of {METHODS}, got {method!r}.")
    coefficient = check_coefficient(grid, A, batched=True)
    chosen = _check_elements(grid, elements)
    batched = (coefficient.ndim - grid.dim) % 2 == 1
    batch = coefficient if batched else coefficient[None]
    if method == "dolfinx":
        result = np.stack([_with_dolfinx(grid, a, chosen) for a in batch])
    else:
        result = _condensed(grid, batch, chosen, device, np.dtype(dtype), chunk)
    return result if batched else result[0]


def _condensed(
    grid: Grid,
    A: npt.NDArray[np.float64],
    elements: npt.NDArray[np.int64],
    device: str,
    dtype: np.dtype[Any],
    chunk: int | None,
) -> npt.NDArray[Any]:
    import torch

    from nnlod_fenics.lod.condensation import Condensation, default_chunk

    types = {np.dtype(np.float64): torch.float64, np.dtype(np.float32): torch.float32}
    if dtype not in types:
        raise InputError(f"dtype must be float64 or float32, got {dtype}.")
    if device != "cpu" and not (device.startswith("cuda") and torch.cuda.is_available()):
        raise InputError(f"device must be 'cpu', or 'cuda' where PyTorch finds one, got {device!r}.")
    if chunk is not None and (isinstance(chunk, bool) or not isinstance(chunk, (int, np.integer)) or chunk < 1):
        raise InputError(f"chunk must be a positive number of patches, got {chunk!r}.")
    condensation = Condensation(grid, A, device, types[dtype])
    result = np.empty((len(A) * len(elements), *grid.local_matrix_shape), dtype=dtype)
    realization = np.repeat(np.arange(len(A)), len(elements))[:, None]
    positions = np.concatenate([realization, np.tile(grid.elements[elements], (len(A), 1))], axis=1)
    size = chunk or default_chunk(grid, device, dtype.itemsize)
    for start in range(0, len(positions), size):
        part = slice(start, start + size)
        result[part] = condensation.patches(positions[part]).cpu().numpy()
    return result.reshape(len(A), len(elements), *grid.local_matrix_shape)


def _check_elements(grid: Grid, elements: Any) -> npt.NDArray[np.int64]:
    if elements is None:
        return np.arange(grid.num_elements)
    chosen = np.asarray(elements)
    if chosen.ndim != 1 or (chosen.size and chosen.dtype.kind not in "iu"):
        raise InputError(f"elements must be a list of element numbers, got shape {chosen.shape} of {chosen.dtype}.")
    if chosen.size and (chosen.min() < 0 or chosen.max() >= grid.num_elements):
        raise InputError(
            f"elements must lie between 0 and {grid.num_elements - 1}, got {chosen.min()} to {chosen.max()}."
        )
    return chosen.astype(np.int64)


def _with_dolfinx(grid: Grid, A: npt.NDArray[np.float64], elements: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    from nnlod_fenics.lod.correctors import solve_patches

    result = np.zeros((len(elements), *grid.local_matrix_shape))
    for k, (element, matrix, _) in enumerate(solve_patches(grid, A, elements)):
        result[k, grid.patch_node_slots(element)] = matrix
    return result
