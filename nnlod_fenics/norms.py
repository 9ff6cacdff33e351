"""Norms of Q1 functions given by their nodal values on a regular grid, and prolongation to finer nodes.

Plain NumPy: needs neither DOLFINx nor PETSc. A nodal array of n cells per axis has shape ``(n+1,)*d`` and is
indexed ``[y, x]`` (``[z, y, x]``), boundary nodes included; the domain is D = (0,1)^d.
"""

from __future__ import annotations

import math
from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse
import scipy.sparse.linalg

from nnlod_fenics.arrays import as_numbers
from nnlod_fenics.coefficient import check_coefficient
from nnlod_fenics.errors import InputError
from nnlod_fenics.grid import Grid

__all__ = ["energy_norm", "l2_norm", "prolong", "relative_l2", "spectral_norm"]

Array = npt.NDArray[np.float64]


def l2_norm(u: npt.ArrayLike) -> float:
    """L²(D) norm of a Q1 function, exact: the mass matrix is a tensor product of tridiagonal ones.

    Args:
        u: Nodal values, shape ``(n+1,)*d`` with n ≥ 1 and d = 1, 2 or 3.

    Returns:
        (∫_D u² dx)^(1/2).

    Raises:
        InputError: If ``u`` is not such an array.
    """
    values = _nodal("u", u)
    weighted = reduce(_apply_mass, range(values.ndim), values)
    return math.sqrt(max(float(np.vdot(values, weighted)), 0.0))


def relative_l2(u: npt.ArrayLike, v: npt.ArrayLike) -> float:
    """Relative L² distance ‖u − v‖ / ‖v‖ of two Q1 functions on the same grid.

    Args:
        u: Nodal values, shape ``(n+1,)*d``.
        v: Nodal values of the reference, same shape.

    Returns:
        The relative error.

    Raises:
        InputError: If the shapes differ or v = 0.
    """
    first, reference = _nodal("u", u), _nodal("v", v)
    if first.shape != reference.shape:
        raise InputError(f"u and v must have the same shape, got {first.shape} and {reference.shape}.")
    scale = l2_norm(reference)
    if scale == 0:
        raise InputError("v must not vanish: the error is relative to its norm.")
    return l2_norm(first - reference) / scale


def energy_norm(grid: Grid, u: npt.ArrayLike, A: npt.ArrayLike) -> float:
    """Energy seminorm a(u, u)^(1/2) = (∫_D A ∇u·∇u dx)^(1/2) of a Q1 function on T_h.

    Args:
        grid: The discretisation.
        u: Nodal values on T_h, shape ``(fine+1,)*d``.
        A: Coefficient on T_ε, shape ``coefficient_shape`` or ``coefficient_shape + (d, d)``.

    Returns:
        The seminorm, exact up to rounding.

    Raises:
        InputError: If an array does not fit.
    """
    d, n = grid.dim, grid.fine
    values = _nodal("u", u)
    if values.shape != (n + 1,) * d:
        raise InputError(f"u must have shape {(n + 1,) * d} (one value per node of T_h), got {values.shape}.")
    coefficient = grid.refine(check_coefficient(grid, A))
    if coefficient.ndim == d:
        coefficient = coefficient[..., None, None] * np.eye(d)
    matrices = coefficient.reshape(-1, d, d)
    # The gradient has degree one per axis: two Gauss points per axis integrate its square exactly.
    total = 0.0
    for corner in np.ndindex(*(2,) * d):
        point = 0.5 + (np.array(corner) - 0.5) / np.sqrt(3.0)
        gradient = n * np.stack([_derivative(values, axis, point).ravel() for axis in _axes_of_x(d)])
        total += float(np.einsum("in,nij,jn->", gradient, matrices, gradient)) / (2 * n) ** d
    return math.sqrt(max(total, 0.0))


def spectral_norm(matrix: scipy.sparse.sparray) -> float:
    """Spectral norm ‖M‖₂ of a sparse matrix, which is never made dense: by Lanczos iteration.

    Args:
        matrix: Sparse and square.

    Returns:
        Its largest singular value.
    """
    largest = float(abs(matrix).max())
    if largest == 0:
        return 0.0
    if min(matrix.shape) < 3:  # too small for the iteration
        return float(np.linalg.norm(matrix.toarray(), 2))
    start = np.random.default_rng(0).standard_normal(min(matrix.shape))  # the same result every time
    return largest * float(scipy.sparse.linalg.svds(matrix / largest, k=1, v0=start, return_singular_vectors=False)[0])


def prolong(grid: Grid, u: npt.ArrayLike) -> Array:
    """Values of a coarse Q1 function at the fine nodes.

    Args:
        grid: The discretisation.
        u: Nodal values on T_H, shape ``(coarse+1,)*d``.

    Returns:
        Nodal values on T_h of the same function, shape ``(fine+1,)*d``.

    Raises:
        InputError: If ``u`` has another shape.
    """
    values = _nodal("u", u)
    if values.shape != (grid.coarse + 1,) * grid.dim:
        expected = (grid.coarse + 1,) * grid.dim
        raise InputError(f"u must have shape {expected} (one value per node of T_H), got {values.shape}.")
    node = np.arange(grid.fine + 1)
    left = np.minimum(node // grid.ratio, grid.coarse - 1)
    weight = node / grid.ratio - left
    for axis in range(grid.dim):
        w = np.expand_dims(weight, tuple(k for k in range(grid.dim) if k != axis))
        values = (1 - w) * values.take(left, axis) + w * values.take(left + 1, axis)
    return values


def _nodal(name: str, u: Any) -> Array:
    expected = "a real array of nodal values of shape (n+1,)*d with d = 1, 2 or 3"
    values = as_numbers(name, u, expected)
    if values.ndim not in (1, 2, 3) or len(set(values.shape)) != 1 or values.shape[0] < 2:
        raise InputError(f"{name} must be {expected}, got shape {values.shape}.")
    return values.astype(np.float64, copy=False)


def _apply_mass(values: Array, axis: int) -> Array:
    """Multiply by the Q1 mass matrix h/6 tridiag(1, 4, 1) of the unit interval along an axis."""
    v = np.moveaxis(values, axis, 0)
    result = np.zeros_like(v)
    result[:-1] += 2 * v[:-1] + v[1:]
    result[1:] += v[:-1] + 2 * v[1:]
    return np.moveaxis(result / (6 * (len(v) - 1)), 0, axis)


def _axes_of_x(dim: int) -> range:
    """Array axes in the order x, y, z."""
    return range(dim - 1, -1, -1)


def _derivative(values: Array, axis: int, point: Array) -> Array:
    """Difference along ``axis``, interpolation along the others, at one point of every cell's unit cube."""
    for k in range(values.ndim):
        low, high = np.moveaxis(values, k, 0)[:-1], np.moveaxis(values, k, 0)[1:]
        values = np.moveaxis(high - low if k == axis else (1 - point[k]) * low + point[k] * high, 0, k)
    return values
