"""The quasi-interpolation I_H = averaging ∘ element-wise L² projection.

A function w of V_h is in the kernel of I_H if and only if, at every free coarse node, the values that its L²
projections onto Q1 take there from the surrounding active elements sum to zero. Both ways to compute local matrices
impose exactly these constraints, one multiplier a node.
"""

from __future__ import annotations

from itertools import product

import numpy as np
import numpy.typing as npt

from nnlod_fenics.arrays import as_floats, as_numbers
from nnlod_fenics.errors import InputError
from nnlod_fenics.grid import Grid

__all__ = ["element_hats", "element_projection", "quasi_interpolation"]

Matrix = npt.NDArray[np.float64]


def _tensor(factor: Matrix, dim: int) -> Matrix:
    """The d-fold Kronecker power: rows and columns of the result have x fastest."""
    result: Matrix = np.ones((1, 1))
    for _ in range(dim):
        result = np.asarray(np.kron(factor, result), dtype=np.float64)
    return result


def element_hats(dim: int, ratio: int) -> Matrix:
    """Values of the 2^d coarse hat functions of an element at its fine nodes.

    Args:
        dim: Space dimension.
        ratio: Fine cells per element along an axis, r.

    Returns:
        Shape ``((r+1)^d, 2^d)``, nodes and hats x fastest.
    """
    t = np.arange(ratio + 1) / ratio
    return _tensor(np.stack([1 - t, t], axis=1), dim)


def element_projection(dim: int, ratio: int) -> Matrix:
    """The L² projection of fine Q1 functions on an element onto coarse Q1: nodal values to nodal values.

    Args:
        dim: Space dimension.
        ratio: Fine cells per element along an axis, r.

    Returns:
        Shape ``(2^d, (r+1)^d)``; maps the hats of :func:`element_hats` to themselves.
    """
    mass = np.zeros((ratio + 1, ratio + 1))
    for cell in range(ratio):
        mass[cell : cell + 2, cell : cell + 2] += np.array([[2.0, 1.0], [1.0, 2.0]]) / 6
    hats = element_hats(1, ratio)
    along_axis = np.asarray(np.linalg.solve(hats.T @ mass @ hats, hats.T @ mass), dtype=np.float64)
    return _tensor(along_axis, dim)


def quasi_interpolation(grid: Grid, u: npt.ArrayLike, boundary: npt.ArrayLike | None = None) -> Matrix:
    """I_H of a fine function: at each free coarse node the mean of its L² projections on the active elements around.

    This is what the coarse solution of an LOD approximates; nodal values of u differ from it by what varies below H.

    Args:
        grid: The discretisation.
        u: Nodal values on T_h, shape ``grid.fine_node_shape``; those at nodes of no active element do not count.
        boundary: Values at the coarse nodes on Γ_D, shape ``grid.node_shape``, of which no others count; zero if None.

    Returns:
        Nodal values on T_H, shape ``grid.node_shape``, NaN at nodes of no active element.

    Raises:
        InputError: If a shape is another one or a value is missing.
    """
    projected = _projections(grid, _values("u", u, grid.at_fine_scale.active_nodes))
    total, count = np.zeros(grid.node_shape), np.zeros(grid.node_shape)
    for corner in product((0, 1), repeat=grid.dim):
        nodes = tuple(slice(c, c + n) for c, n in zip(corner, grid.element_shape, strict=True))
        total[nodes] += np.where(grid.active, projected[tuple(slice(c, None, 2) for c in corner)], 0)
        count[nodes] += grid.active
    given = 0.0 if boundary is None else _values("boundary", boundary, grid.fixed_nodes)
    means = total / np.maximum(count, 1)
    return np.where(grid.active_nodes, np.where(grid.fixed_nodes, given, means), np.nan)


def _values(name: str, values: npt.ArrayLike, needed: npt.NDArray[np.bool_]) -> Matrix:
    """Nodal values, with zeros where none is needed."""
    array = as_numbers(name, values)
    if array.shape != needed.shape:
        raise InputError(f"{name} must hold nodal values of shape {needed.shape}, got {array.shape}.")
    return as_floats(name, np.where(needed, array, 0))


def _projections(grid: Grid, values: Matrix) -> Matrix:
    """Nodal values of the L² projections on all elements, two an element and axis, axis by axis."""
    r, projection = grid.ratio, element_projection(1, grid.ratio)
    for axis in range(grid.dim):
        windows = np.lib.stride_tricks.sliding_window_view(np.moveaxis(values, axis, -1), r + 1, axis=-1)[..., ::r, :]
        along = windows @ projection.T  # projections are tensor products
        values = np.moveaxis(along.reshape(*along.shape[:-2], -1), -1, axis)
    return values
