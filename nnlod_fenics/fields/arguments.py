"""Checks of arguments that the modules of this package share."""

from __future__ import annotations

import math
from numbers import Real
from typing import Any

import numpy as np

from nnlod_fenics.errors import InputError

__all__ = ["as_list", "check_dim", "check_number", "check_positive", "is_number", "is_positive"]


def is_number(value: Any) -> bool:
    """Whether a value is a finite real number (NumPy's count, True and False do not)."""
    try:
        return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # an integer beyond all floating-point numbers
        return False


def is_positive(value: Any) -> bool:
    """Whether a value is a positive, finite number (NumPy's count, True and False do not)."""
    return is_number(value) and float(value) > 0


def check_number(name: str, value: Any) -> None:
    """Raise InputError unless a value is a finite number."""
    if not is_number(value):
        raise InputError(f"{name} must be a finite number, got {value!r}.")


def check_positive(name: str, value: Any) -> None:
    """Raise InputError unless a value is a positive, finite number."""
    if not is_positive(value):
        raise InputError(f"{name} must be a positive number, got {value!r}.")


def check_dim(dim: Any) -> None:
    """Raise InputError unless a space dimension is 1, 2 or 3."""
    if isinstance(dim, bool) or dim not in (1, 2, 3):
        raise InputError(f"dim must be 1, 2 or 3, got {dim!r}.")


def as_list(value: Any) -> list[Any] | None:
    """The entries of a list, tuple or array of one axis; None for anything else."""
    if isinstance(value, np.ndarray) and value.ndim == 1:
        return list(value.tolist())
    return list(value) if isinstance(value, (list, tuple)) else None
