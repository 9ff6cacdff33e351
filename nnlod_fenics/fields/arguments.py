"""Checks of arguments that the modules of this package share."""

from __future__ import annotations

import math
from numbers import Real
from typing import Any

import numpy as np

from nnlod_fenics.errors import InputError

__all__ = ["check_cells", "check_dim", "check_positive", "is_positive"]


def is_positive(value: Any) -> bool:
    """Whether a value is a positive, finite number (NumPy's count, True and False do not)."""
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value) and float(value) > 0


def check_positive(name: str, value: Any) -> None:
    """Raise InputError unless a value is a positive, finite number."""
    if not is_positive(value):
        raise InputError(f"{name} must be a positive number, got {value!r}.")


def check_dim(dim: Any) -> None:
    """Raise InputError unless a space dimension is 1, 2 or 3."""
    if isinstance(dim, bool) or dim not in (1, 2, 3):
        raise InputError(f"dim must be 1, 2 or 3, got {dim!r}.")


def check_cells(cells: Any) -> None:
    """Raise InputError unless a number of cells per axis is a positive integer."""
    if isinstance(cells, bool) or not isinstance(cells, (int, np.integer)) or cells < 1:
        raise InputError(f"cells must be a positive integer, got {cells!r}.")
