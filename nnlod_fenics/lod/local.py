"""Local PG-LOD matrices (3.6): one function in front of two independent ways to compute them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from nnlod_fenics.coefficient import check_coefficient
from nnlod_fenics.errors import InputError
from nnlod_fenics.grid import Grid

__all__ = ["local_matrices"]

METHODS = ("dolfinx",)


def local_matrices(
    grid: Grid,
    A: npt.ArrayLike,
    method: str = "dolfinx",
    elements: npt.ArrayLike | None = None,
) -> npt.NDArray[np.float64]:
    """Compute the local matrices S_T of (3.6) for the elements of T_H.

    Args:
        grid: The discretisation.
        A: Diffusion coefficient on T_ε: positive numbers of shape ``(1/ε,)*d``, indexed ``A[y, x]``.
        method: ``"dolfinx"``: one finite element problem a patch, assembled by DOLFINx, solved by PETSc.
        elements: Numbers of the elements to compute (x fastest); all if None.

    Returns:
        Shape ``(number of elements, (2ℓ+2)^d, 2^d)``, padded: rows of nodes outside D are zero. Rows are
        the nodes of N^ℓ(T), columns those of T, both x fastest.

    Raises:
        InputError: If an argument does not fit.
        NumericalError: If a patch cannot be solved; the message names it.
    """
    if method not in METHODS:
        raise InputError(f"method must be one of {METHODS}, got {method!r}.")
    coefficient = check_coefficient(grid, A)
    chosen = _check_elements(grid, elements)
    return _with_dolfinx(grid, coefficient, chosen)


def _check_elements(grid: Grid, elements: Any) -> npt.NDArray[np.int64]:
    if elements is None:
        return np.arange(grid.num_elements)
    chosen = np.asarray(elements)
    if chosen.ndim != 1 or (chosen.size and chosen.dtype.kind not in "iu"):
        raise InputError(f"elements must be a list of element numbers, got an array of {chosen.dtype} of shape {chosen.shape}.")
    if chosen.size and (chosen.min() < 0 or chosen.max() >= grid.num_elements):
        raise InputError(
            f"elements must lie between 0 and {grid.num_elements - 1}, got values from {chosen.min()} to {chosen.max()}."
        )
    return chosen.astype(np.int64)


def _with_dolfinx(
    grid: Grid, A: npt.NDArray[np.float64], elements: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    from nnlod_fenics.lod.correctors import solve_patches

    result = np.zeros((len(elements), *grid.local_matrix_shape))
    for k, (element, matrix, _) in enumerate(solve_patches(grid, A, elements)):
        result[k, grid.patch_node_slots(element)] = matrix
    return result
