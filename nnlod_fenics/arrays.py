"""Arrays as users give them: real numbers, of which none is missing."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from nnlod_fenics.errors import InputError

__all__ = ["as_floats", "as_numbers", "check_kind"]

_REAL = "fiu"
_KINDS = {
    "b": "booleans",
    "c": "complex numbers",
    "M": "dates",
    "m": "time spans",
    "O": "objects",
    "S": "strings",
    "T": "strings",
    "U": "strings",
    "V": "records",
}


def as_numbers(
    name: str, values: Any, expected: str = "an array of real numbers", kinds: str = _REAL
) -> npt.NDArray[Any]:
    """Check that an argument is an array of numbers without masked cells.

    Args:
        name: What to call the argument in an error.
        values: The argument: anything that NumPy takes for an array.
        expected: What it should be, for an error.
        kinds: NumPy's codes of the kinds of numbers allowed.

    Returns:
        The array, of the type and shape given; not a copy where that can be avoided.

    Raises:
        InputError: If it is no array, one of other things than such numbers, or has masked cells.
    """
    _refuse_masked(name, values)  # at first: a list of masked arrays becomes an array without a mask
    try:
        array = np.asanyarray(values)
    except MemoryError:
        raise
    except Exception as error:  # an object's __array__ may raise anything
        raise InputError(f"{name} must be {expected}, got {type(values).__name__}{_reason(error)}.") from error
    _refuse_masked(name, array)  # an object's __array__ may return a masked array
    check_kind(name, array.dtype, expected, kinds, type(values).__name__)
    return np.asarray(array)


def as_floats(name: str, values: Any, expected: str = "an array of real numbers") -> npt.NDArray[np.float64]:
    """Check that an argument is a non-empty array of finite real numbers without masked cells.

    Args:
        name: What to call the argument in an error.
        values: The argument: anything that NumPy takes for an array.
        expected: What it should be, for an error.

    Returns:
        The array in float64, of the shape given.

    Raises:
        InputError: If it is no such array.
    """
    array = as_numbers(name, values, expected)
    if array.size == 0:
        raise InputError(f"{name} must be {expected}, got an empty array of shape {array.shape}.")
    with np.errstate(over="ignore"):  # what float64 cannot hold becomes infinite, and is refused as such
        floats = array.astype(np.float64, copy=False)
    bad = floats.size - int(np.count_nonzero(np.isfinite(floats)))
    if bad:
        raise InputError(f"{name} must be finite, got {bad} NaN or infinite values of {floats.size}.")
    return floats


def check_kind(
    name: str, dtype: np.dtype[Any], expected: str = "an array of real numbers", kinds: str = _REAL, owner: str = ""
) -> None:
    """Check that the entries of an array are numbers.

    Args:
        name: What to call the array in an error.
        dtype: Type of the entries.
        expected: What the array should be, for an error.
        kinds: NumPy's codes of the kinds of numbers allowed.
        owner: Type of the object that holds the entries, for an error.

    Raises:
        InputError: If they are not of these kinds.
    """
    if dtype.kind not in kinds:
        given = _KINDS.get(dtype.kind, str(dtype))
        raise InputError(f"{name} must be {expected}, got {given}{f' ({owner})' if owner else ''}.")


def _refuse_masked(name: str, values: Any) -> None:
    masked = _count_masked(values)
    if masked:
        raise InputError(f"{name} must have a value in every cell, got {masked} masked cells; fill them first.")


def _count_masked(values: Any) -> int:
    if isinstance(values, np.ma.MaskedArray):
        return int(np.ma.count_masked(values))
    if isinstance(values, list | tuple):
        return sum(map(_count_masked, values))
    return 0


def _reason(error: Exception) -> str:
    text = str(error).partition("\n")[0].rstrip(".")
    if "inhomogeneous" in text:
        return " with rows of different lengths"
    return f", which NumPy cannot take for an array: {text}"
