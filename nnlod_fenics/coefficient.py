"""Checks of diffusion coefficients given as arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from nnlod_fenics.arrays import as_floats, as_numbers
from nnlod_fenics.errors import InputError
from nnlod_fenics.grid import Grid

__all__ = ["check_coefficient", "check_field", "check_positive_field", "contrast"]


def check_field(grid: Grid, Z: Any, name: str = "Z") -> npt.NDArray[np.float64]:
    """Check one field of cell values on T_ε.

    Args:
        grid: The discretisation.
        Z: Values, shape ``grid.coefficient_shape``.
        name: What to call the argument in an error.

    Returns:
        The values in float64.

    Raises:
        InputError: If the shape differs or a value is masked or not finite.
    """
    array = as_floats(name, Z)
    if array.shape != grid.coefficient_shape:
        expected = f"{grid.coefficient_shape} (one value per cell of T_ε)"
        raise InputError(f"{name} must have shape {expected}, got {array.shape}.")
    return array


def check_positive_field(grid: Grid, A: Any) -> npt.NDArray[np.float64]:
    """Check a scalar diffusion coefficient.

    Args:
        grid: The discretisation.
        A: Cell values, shape ``grid.coefficient_shape``.

    Returns:
        The coefficient in float64.

    Raises:
        InputError: If the shape differs, or a value is not positive or not finite.
    """
    array = check_coefficient(grid, A)
    if array.ndim > grid.dim:
        raise InputError(f"A must be scalar here, shape {grid.coefficient_shape}; got matrices, shape {array.shape}.")
    return array


def check_coefficient(grid: Grid, A: Any, batched: bool = False) -> npt.NDArray[np.float64]:
    """Check a diffusion coefficient: positive numbers, or symmetric positive definite matrices.

    Args:
        grid: The discretisation.
        A: Cell values, shape ``coefficient_shape`` or ``coefficient_shape + (d, d)``; those of inactive elements do not
            count.
        batched: Also accept a leading axis of realizations.

    Returns:
        The coefficient in float64, shape as given; in inactive elements the value of a cell of D.

    Raises:
        InputError: If the shape, a value, the symmetry or the definiteness does not fit.
    """
    array = as_floats("A", _without_inactive(grid, A))
    cells, d = grid.coefficient_shape, grid.dim
    shapes = [cells, cells + (d, d)]
    given = [array.shape] + ([array.shape[1:]] if batched and array.ndim > d else [])
    matching = [shape for shape in given if shape in shapes]
    if not matching:
        lead = " (with or without a leading axis of realizations)" if batched else ""
        raise InputError(f"A must have shape {cells} or {cells + (d, d)}{lead}, got {array.shape}.")
    if matching[0] == cells:
        if array.min() <= 0:
            raise InputError(f"A must be positive, got values down to {array.min():g}.")
        return array
    if not np.allclose(array, np.swapaxes(array, -1, -2), rtol=1e-12, atol=0):
        raise InputError("A must hold symmetric matrices, got unsymmetric ones.")
    least = np.linalg.eigvalsh(array).min()
    if least <= 0:
        raise InputError(f"A must hold positive definite matrices, got an eigenvalue of {least:g}.")
    return array


def _without_inactive(grid: Grid, A: Any) -> Any:
    """A with the value of the first active cell in all that do not belong to D, whatever stands there."""
    if not grid.inactive:
        return A
    array = as_numbers("A", A)
    cells, d = grid.coefficient_shape, grid.dim
    lead = next((k for k in (0, 1) if array.shape[k : k + d] == cells and array.ndim - k in (d, d + 2)), None)
    if lead is None:
        return array
    active = grid.active_cells
    filled = array.astype(np.float64)
    flat = filled.reshape(array.shape[:lead] + (active.size,) + array.shape[lead + d :])
    index: tuple[Any, ...] = (slice(None),) * lead
    flat[(*index, ~active.ravel())] = flat[(*index, slice(int(active.argmax()), int(active.argmax()) + 1))]
    return filled


def contrast(A: npt.NDArray[np.float64]) -> float:
    """Contrast max A / min A of a scalar coefficient."""
    return float(A.max() / A.min())
