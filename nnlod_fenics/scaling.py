"""Exact scaling of coefficients: the model problem is linear in A, floating-point numbers only within their range.

Permeabilities in m² are 1e-14 and less, and products of such numbers soon leave the range of float64. Solvers
therefore see A / 4^k, whose geometric mean is near one, and scale their results back. Powers of two change no digit,
and those of four not even under the square roots of a Cholesky factorisation: the results keep their bits.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from nnlod_fenics.errors import InputError, NumericalError

__all__ = ["center_exponent", "check_range", "exponent_of", "scale_back", "scale_batch"]

Array = npt.NDArray[np.float64]

_FLOAT64 = np.finfo(np.float64)


def center_exponent(A: Array, tensor: bool) -> int:
    """The even number e for which 2^e is near the geometric mean of a coefficient.

    Args:
        A: Checked coefficient, any shape; for matrices the last two axes.
        tensor: Whether it is matrix-valued. Its diagonals, which are positive, stand for the matrices.

    Returns:
        e, such that A / 2^e neither overflows nor, as far as its contrast allows, underflows.
    """
    exponents = np.frexp(np.diagonal(A, axis1=-2, axis2=-1) if tensor else A)[1]
    most, least = int(exponents.max()) - _FLOAT64.maxexp + 2, int(exponents.min()) - _FLOAT64.minexp - 2
    middle = max(min(float(exponents.mean()), least), most)
    return 2 * round(middle / 2)


def scale_batch(A: Array, tensor: bool) -> tuple[Array, list[int]]:
    """Scale each realization of a batch by its own power of four.

    Args:
        A: Checked coefficients, shape ``(n, …)``.
        tensor: Whether they are matrix-valued.

    Returns:
        Scaled coefficients and their exponents e: the coefficient is the scaled one times 2^e.
    """
    exponents = [center_exponent(a, tensor) for a in A]
    return np.stack([np.ldexp(a, -e) for a, e in zip(A, exponents, strict=True)]), exponents


def scale_back(matrices: npt.NDArray[Any], exponents: list[int], live: npt.NDArray[np.bool_]) -> None:
    """Multiply the local matrices of each realization by 2^e, in place.

    Args:
        matrices: Shape ``(n, elements, rows, columns)``.
        exponents: One e a realization.
        live: Which elements have a matrix that is not zero, shape ``(elements,)``.

    Raises:
        InputError: If a matrix leaves the range of its floating-point type; the message names A.
    """
    for batch, exponent in zip(matrices, exponents, strict=True):
        largest = np.abs(batch[live]).max(axis=(1, 2)) if live.any() else np.ones(1)
        for value in (largest.max(), largest.min()):
            check_range(float(value), exponent, exponent, "local matrices", batch.dtype)
        np.ldexp(batch, exponent, out=batch)


def exponent_of(value: float) -> int:
    """The e for which 2^(e-1) ≤ value < 2^e; 0 for 0."""
    return math.frexp(value)[1]


def check_range(largest: float, shift: int, exponent: int, what: str, dtype: Any = np.float64) -> None:
    """Check that a result can be scaled back.

    Args:
        largest: The largest absolute value of the scaled result.
        shift: The result is the scaled one times 2^shift.
        exponent: The scaled coefficient was A / 2^exponent.
        what: What the result is called in an error.
        dtype: Its floating-point type.

    Raises:
        InputError: If the result overflows or underflows.
        NumericalError: If the scaled result did already.
    """
    info, name = np.finfo(dtype), np.dtype(dtype).name
    if not math.isfinite(largest) or largest == 0:
        raise NumericalError(f"the {what} came out as {largest:g} in {name}: the contrast of A is too high.")
    found = exponent_of(largest) + shift
    if not info.minexp < found <= info.maxexp:
        raise InputError(
            f"A must be such that {name} can hold the {what}, got values of about {_power(exponent)} that give "
            f"{what} of about {_power(found)}; use other units."
        )


def _power(exponent: int) -> str:
    """2^exponent as a power of ten, which may lie outside of what a number can hold."""
    return f"1e{round(exponent * math.log10(2)):+03d}"
