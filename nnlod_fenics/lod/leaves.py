"""Matrices of the leaves of a coarse element, as linear functions of the coefficient in their cells."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from nnlod_fenics.grid import lattice
from nnlod_fenics.lod.elimination import HAT, MULTIPLIER, NODE, Labels, Leaf, Leaves, as_tuples
from nnlod_fenics.lod.interpolation import element_hats

__all__ = ["LeafTemplates", "cell_forms", "leaf_templates"]

Array = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


class LeafTemplates(NamedTuple):
    """The matrix of leaf k is ``constant[k] + Σ_c a_c per_cell[k][c]``.

    Attributes:
        per_cell: For each leaf, shape ``(cells, m, m)``; for matrix-valued coefficients ``(cells·d², m, m)``.
        constant: For each leaf, the constraints I_H w = 0, shape ``(m, m)``.
    """

    per_cell: list[Array]
    constant: list[Array]


def cell_forms(dim: int, ratio: int) -> tuple[Array, Array]:
    """∫ ∂_a u ∂_b v and ∫ u v on a fine cell of an element of width one.

    Returns:
        Shapes ``(d, d, 2^d, 2^d)`` and ``(2^d, 2^d)``, corners x fastest.
    """
    h = 1.0 / ratio
    mass = h / 6 * np.array([[2.0, 1.0], [1.0, 2.0]])
    stiffness = 1 / h * np.array([[1.0, -1.0], [-1.0, 1.0]])
    derivative = 0.5 * np.array([[-1.0, -1.0], [1.0, 1.0]])  # ∫ φ_i' φ_j

    def product(factors: list[Array]) -> Array:
        result: Array = np.ones((1, 1))
        for factor in factors:
            result = np.kron(factor, result).astype(np.float64)
        return result

    forms = np.empty((dim, dim, 2**dim, 2**dim))
    for a in range(dim):
        for b in range(dim):
            factor = {a: derivative, b: derivative.T} if a != b else {a: stiffness}
            forms[a, b] = product([factor.get(axis, mass) for axis in range(dim)])
    return forms, product([mass] * dim)


@lru_cache(maxsize=1)
def _coarse_mass(dim: int, ratio: int) -> Array:
    """∫ Λ_i Λ_j on an element of width one, cell by cell."""
    corners, strides = lattice(*(2,) * dim), (ratio + 1) ** np.arange(dim)
    hats, mass = element_hats(dim, ratio), cell_forms(dim, ratio)[1]
    values = (hats[(cell + corners) @ strides] for cell in lattice(*(ratio,) * dim))
    return np.asarray(sum(h.T @ mass @ h for h in values))


@lru_cache(maxsize=8)
def leaf_templates(ratio: int, leaves: Leaves, spread: int, tensor: bool, stretch: tuple[float, ...]) -> LeafTemplates:
    """Build the templates for an element of volume one.

    Args:
        ratio: Fine cells per element along an axis, r.
        leaves: The parts of the element.
        spread: Fine cells along an axis that share a coefficient value; divides the widths of all leaves.
        tensor: Whether the coefficient is matrix-valued.
        stretch: The reciprocals of the element's sides, x first: ones for a cube.

    Returns:
        Templates whose rows are the leaf's inner nodes, then its ``labels``.
    """
    forms = cell_forms(len(stretch), ratio)[0] * np.multiply.outer(stretch, stretch)[:, :, None, None]
    parts = zip(leaves.boxes, leaves.corners, strict=True)
    found = [_template(ratio, leaf, at, spread, tensor, forms) for leaf, at in parts]
    return LeafTemplates(*([part[which] for part in found] for which in (0, 1)))


def _template(ratio: int, leaf: Leaf, origin: IntArray, spread: int, tensor: bool, forms: Array) -> tuple[Array, Array]:
    """``per_cell`` and ``constant`` of one leaf, whose lower corner is ``origin``."""
    dim = len(leaf.size)
    corners = lattice(*(2,) * dim)
    labels = Labels.join([Labels.of(NODE, leaf.inner), leaf.labels])
    number = {position: row for row, position in enumerate(as_tuples(labels.position[labels.nodes]))}
    mass = cell_forms(dim, ratio)[1]
    hats, coarse_mass = element_hats(dim, ratio), _coarse_mass(dim, ratio)
    strides = (ratio + 1) ** np.arange(dim)
    hat_rows, multiplier_rows = labels.at(HAT), labels.at(MULTIPLIER)
    m, groups = len(labels), np.asarray(leaf.size) // spread
    group_strides = np.cumprod([1, *groups[:-1]])
    per_cell = np.zeros((int(np.prod(groups)), dim, dim, m, m))
    constant = np.zeros((m, m))
    for cell in lattice(*leaf.size):
        own = np.array([number[p] for p in as_tuples(cell + corners)])
        values = hats[(origin + cell + corners) @ strides]
        extend = np.zeros((2**dim, m))  # the corner values that each row stands for
        extend[np.arange(2**dim), own] = 1
        extend[:, hat_rows] = values
        per_cell[int((cell // spread) @ group_strides)] += extend.T @ forms @ extend
        projection = np.linalg.solve(coarse_mass, values.T @ mass)
        constant[np.ix_(multiplier_rows, own)] += projection
        constant[np.ix_(own, multiplier_rows)] += projection.T
    if tensor:
        return per_cell.reshape(-1, m, m), constant
    return np.einsum("caapq->cpq", per_cell), constant
