"""The quasi-interpolation I_H = averaging ∘ element-wise L² projection.

A function w of V_h is in the kernel of I_H if and only if, at every coarse node inside D, the values that
its L² projections onto Q1 take there from the surrounding elements sum to zero. Both ways to compute local
matrices impose exactly these constraints, one multiplier a node.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from nnlod_fenics.arrays import as_floats
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


def quasi_interpolation(grid: Grid, u: npt.ArrayLike) -> Matrix:
    """I_H of a fine function: at each inner coarse node the mean of its L² projections on the surrounding elements.

    This is what the coarse solution of an LOD approximates; nodal values of u differ from it by what varies below H.

    Args:
        grid: The discretisation.
        u: Nodal values on T_h, shape ``(1/h + 1,)*d``.

    Returns:
        Nodal values on T_H, shape ``(1/H + 1,)*d``, zero on ∂D.

    Raises:
        InputError: If the shape is another one or a value is missing.
    """
    values, shape = as_floats("u", u), (grid.fine + 1,) * grid.dim
    if values.shape != shape:
        raise InputError(f"u must hold nodal values of shape {shape}, got {values.shape}.")
    along_axis, projection = np.zeros((grid.coarse + 1, grid.fine + 1)), element_projection(1, grid.ratio)
    for element in range(grid.coarse):
        first = element * grid.ratio
        along_axis[element : element + 2, first : first + grid.ratio + 1] += projection / 2
    along_axis[[0, -1]] = 0  # projection and mean are tensor products, and so is their composition
    for axis in range(grid.dim):
        product = np.asarray(np.tensordot(along_axis, values, axes=(1, axis)), dtype=np.float64)
        values = np.moveaxis(product, 0, axis)
    return values
