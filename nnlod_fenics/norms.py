"""Norms of Q1 functions given by their nodal values on a regular grid, and prolongation to finer nodes.

Plain NumPy: needs neither DOLFINx nor PETSc. Nodal arrays are indexed ``[y, x]`` (``[z, y, x]``), boundary nodes
included, and their shape shows whether they belong to the nodes of T_H or of T_h. Integrals are over D, the active
elements; values at nodes of no active element (NaN in solutions) do not count.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse
import scipy.sparse.linalg

from nnlod_fenics.arrays import as_numbers
from nnlod_fenics.coefficient import check_coefficient
from nnlod_fenics.errors import InputError
from nnlod_fenics.grid import Grid

__all__ = ["energy_norm", "energy_product", "l2_norm", "nodal_values", "prolong", "relative_l2", "spectral_norm"]

Array = npt.NDArray[np.float64]


def l2_norm(u: npt.ArrayLike, grid: Grid | None = None) -> float:
    """L²(D) norm of a Q1 function, exact.

    Args:
        u: Nodal values on T_H or T_h, shape ``grid.node_shape`` or ``grid.fine_node_shape``.
        grid: The discretisation. If None, D is the unit cube with n cells per axis, ``u`` of shape ``(n+1,)*d``.

    Returns:
        (∫_D u² dx)^(1/2).

    Raises:
        InputError: If ``u`` is not such an array, or has NaN at a node of D.
    """
    return _l2(*nodal_values("u", u, grid))


def relative_l2(u: npt.ArrayLike, v: npt.ArrayLike, grid: Grid | None = None) -> float:
    """Relative L² distance ‖u − v‖ / ‖v‖ of two Q1 functions on the same grid.

    Args:
        u: Nodal values, see :func:`l2_norm`.
        v: Nodal values of the reference, same shape.
        grid: The discretisation; the unit cube if None.

    Returns:
        The relative error.

    Raises:
        InputError: If the shapes differ or v = 0.
    """
    (level, first), (_, reference) = nodal_values("u", u, grid), nodal_values("v", v, grid)
    if first.shape != reference.shape:
        raise InputError(f"u and v must have the same shape, got {first.shape} and {reference.shape}.")
    scale = _l2(level, reference)
    if scale == 0:
        raise InputError("v must not vanish: the error is relative to its norm.")
    return _l2(level, first - reference) / scale


def energy_norm(grid: Grid, u: npt.ArrayLike, A: npt.ArrayLike) -> float:
    """Energy seminorm a(u, u)^(1/2) = (∫_D A ∇u·∇u dx)^(1/2) of a Q1 function on T_h.

    Args:
        grid: The discretisation.
        u: Nodal values on T_h, shape ``grid.fine_node_shape``.
        A: Coefficient on T_ε, shape ``coefficient_shape`` or ``coefficient_shape + (d, d)``.

    Returns:
        The seminorm, exact up to rounding.

    Raises:
        InputError: If an array does not fit.
    """
    level, values = nodal_values("u", u, grid)
    if values.shape != grid.fine_node_shape:
        raise InputError(f"u must have shape {grid.fine_node_shape} (one value per node of T_h), got {values.shape}.")
    coefficient = grid.refine(check_coefficient(grid, A))
    if grid.inactive:
        coefficient[~level.active] = 0
    return math.sqrt(max(energy_product(values, values, coefficient, level.widths), 0.0))


def energy_product(u: Array, v: Array, A: Array, widths: tuple[float, ...]) -> float:
    """∫ A ∇u·∇v dx of Q1 functions over the cells of a box, exact up to rounding.

    Args:
        u: Nodal values.
        v: Nodal values, same shape.
        A: Values on the cells, one less along each axis; two more axes ``(d, d)`` if they are matrices.
        widths: Sides of a cell, x first.

    Returns:
        The integral.
    """
    d = u.ndim
    if A.ndim == d:
        parts = {(i, i): A for i in range(d)}
    else:
        parts = {(i, j): A[..., i, j] for i, j in np.ndindex(d, d)}
    total = 0.0
    # A gradient has degree one per axis: two Gauss points per axis integrate products of them exactly.
    for point in _gauss_points(d):
        gradient, test = (
            [_derivative(w, axis, point) / widths[d - 1 - axis] for axis in range(d - 1, -1, -1)] for w in (u, v)
        )
        total += sum(float(np.vdot(part * gradient[j], test[i])) for (i, j), part in parts.items())
    return total * math.prod(widths) / 2**d


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
        u: Nodal values on T_H, shape ``grid.node_shape``; those at nodes of no active element do not count.

    Returns:
        Nodal values on T_h of the same function, shape ``grid.fine_node_shape``, NaN at nodes of no active element.

    Raises:
        InputError: If ``u`` has another shape.
    """
    values = _check_nodal("u", u)
    if values.shape != grid.node_shape:
        raise InputError(f"u must have shape {grid.node_shape} (one value per node of T_H), got {values.shape}.")
    values = _in_domain("u", values, _coarse_level(grid), grid)
    for axis, elements in enumerate(grid.element_shape):
        node = np.arange(elements * grid.ratio + 1)
        left = np.minimum(node // grid.ratio, elements - 1)
        weight = np.expand_dims(node / grid.ratio - left, tuple(k for k in range(grid.dim) if k != axis))
        values = (1 - weight) * values.take(left, axis) + weight * values.take(left + 1, axis)
    return np.where(grid.at_fine_scale.active_nodes, values, np.nan) if grid.inactive else values


def nodal_values(name: str, u: Any, grid: Grid | None = None) -> tuple[Grid, Array]:
    """Check nodal values and find the mesh they belong to.

    Args:
        name: What to call them in an error.
        u: Nodal values on T_H or T_h.
        grid: The discretisation; the unit cube with as many cells along every axis if None.

    Returns:
        The mesh, as a grid whose elements are its cells, and the values in float64, zero at nodes of no active element.

    Raises:
        InputError: If the shape does not fit, or a value at a node of D is masked or not finite.
    """
    values = _check_nodal(name, u)
    level = _level(grid, values.shape)
    if level is None and grid is None:
        raise InputError(
            f"{name} must be a real array of nodal values of shape (n+1,)*d with d = 1, 2 or 3, got shape "
            f"{values.shape}; on other boxes than the unit cube, give the grid, too."
        )
    if level is None:
        assert grid is not None
        expected = f"{grid.node_shape} or {grid.fine_node_shape} (a value per node of T_H or T_h)"
        raise InputError(f"{name} must have shape {expected}, got {values.shape}.")
    return level, _in_domain(name, values, level, grid)


def _check_nodal(name: str, u: Any) -> Array:
    values = as_numbers(name, u, "a real array of nodal values")
    return values.astype(np.float64, copy=False)


def _in_domain(name: str, values: Array, level: Grid, grid: Grid | None) -> Array:
    """The values, zero outside D; those in D must be finite."""
    if grid is not None and grid.inactive:
        values = np.where(level.active_nodes, values, 0.0)
    bad = values.size - int(np.count_nonzero(np.isfinite(values)))
    if bad:
        advice = "; for a domain with inactive elements, give the grid, too" if grid is None else " at nodes of D"
        raise InputError(f"{name} must be finite, got {bad} NaN or infinite values of {values.size}{advice}.")
    return values


@lru_cache(maxsize=32)
def _level(grid: Grid | None, shape: tuple[int, ...]) -> Grid | None:
    """The mesh that has as many nodes, None if there is none."""
    if grid is None:
        cube = len(shape) in (1, 2, 3) and len(set(shape)) == 1 and shape[0] > 1
        return Grid(len(shape), shape[0] - 1, shape[0] - 1, 0) if cube else None
    if shape == grid.fine_node_shape:
        return grid.at_fine_scale
    return _coarse_level(grid) if shape == grid.node_shape else None


@lru_cache(maxsize=32)
def _coarse_level(grid: Grid) -> Grid:
    """T_H alone, as :attr:`Grid.at_fine_scale` is T_h alone."""
    active = grid.active if grid.inactive else None
    return Grid(grid.dim, grid.coarse, grid.coarse, 0, None, grid.lengths, grid.dirichlet, active)


def _l2(level: Grid, values: Array) -> float:
    means = _mean_squares(values)
    total = np.sum(means, where=level.active) if level.inactive else np.sum(means)
    return math.sqrt(float(total) * math.prod(level.widths))


def _mean_squares(values: Array, axis: int = 0) -> Array:
    """Means of u² over the cells. Along an axis, u is a mean and a slope with mean zero, which are orthogonal."""
    if axis == values.ndim:
        return values * values
    low, high = (values[(slice(None),) * axis + (part,)] for part in (slice(None, -1), slice(1, None)))
    return _mean_squares(low + high, axis + 1) / 4 + _mean_squares(high - low, axis + 1) / 12


def _gauss_points(dim: int) -> Array:
    """Two Gauss points per axis of the unit cube, shape ``(2^d, d)``."""
    return 0.5 + (np.array(list(np.ndindex(*(2,) * dim))) - 0.5) / np.sqrt(3.0)


def _derivative(values: Array, axis: int, point: Array) -> Array:
    """Difference along ``axis``, interpolation along the others, at one point of every cell's unit cube."""
    for k in range(values.ndim):
        low, high = np.moveaxis(values, k, 0)[:-1], np.moveaxis(values, k, 0)[1:]
        values = np.moveaxis(high - low if k == axis else (1 - point[k]) * low + point[k] * high, 0, k)
    return values
