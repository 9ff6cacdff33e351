"""The data of the model problem −∇·(A∇u) = f beside the coefficient, as a user gives them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from nnlod_fenics.arrays import as_numbers
from nnlod_fenics.errors import InputError
from nnlod_fenics.grid import Grid

__all__ = ["Problem", "Source", "check_source", "evaluate_source"]

Array = npt.NDArray[np.float64]
Source = float | npt.ArrayLike | Callable[[Array], npt.ArrayLike]
"""A number; cell values on T_h, shape ``(fine,)*d``; or a function of points (d, n), x first, -> (n,)."""


@dataclass(frozen=True)
class Problem:
    """What is to be solved for many coefficients: −∇·(A∇u) = f in D, u = 0 on ∂D.

    Attributes:
        f: The source.
    """

    f: Source = 1.0


def check_source(grid: Grid, f: Source) -> Array | Callable[[Array], npt.ArrayLike]:
    """Check a right-hand side.

    Args:
        grid: The discretisation.
        f: Number, function or array of shape ``(fine,)*d``.

    Returns:
        A function as given, anything else as a float64 array of shape () or ``(fine,)*d``.

    Raises:
        InputError: If f is none of these, or has masked or infinite values.
    """
    if callable(f):
        return f
    shape = (grid.fine,) * grid.dim
    expected = f"a number, a function or a real array of shape {shape} (one value per cell of T_h)"
    values = as_numbers("f", f, expected)
    if values.shape not in ((), shape):
        raise InputError(f"f must be {expected}, got {type(f).__name__} of shape {values.shape}.")
    return _finite(values)


def evaluate_source(f: Callable[[Array], npt.ArrayLike], points: Array) -> Array:
    """Values of a right-hand side given as a function.

    Args:
        f: Function of points; may return one number where f is constant.
        points: Shape ``(d, n)``, x first.

    Returns:
        Shape ``(n,)``.

    Raises:
        InputError: If f takes other arguments, or returns another shape or a value that is not finite.
    """
    expected = f"one real value per point, shape {points.shape[1:]} for points of shape {points.shape}"
    values = as_numbers("f(points)", _call(f, points), expected)
    if values.shape not in ((), points.shape[1:]):
        raise InputError(f"f must return {expected}, got shape {values.shape}.")
    return np.broadcast_to(_finite(values), points.shape[1:])


def _call(f: Callable[[Array], npt.ArrayLike], points: Array) -> Any:
    try:
        return f(points)
    except TypeError as error:
        # An error that the body of f raised has a frame of f in its traceback, and is the user's to see.
        if error.__traceback__ is None or error.__traceback__.tb_next is not None:
            raise
        raise InputError(
            f"f must be a function of one array of points of shape (d, n) = {points.shape}, x first, such as "
            f"lambda x: x[0] * x[1], got one that cannot be called like this: {error}."
        ) from error


def _finite(values: npt.NDArray[Any]) -> Array:
    if not np.isfinite(values).all():
        raise InputError("f must be finite, got NaN or infinite values.")
    return values.astype(np.float64, copy=False)
