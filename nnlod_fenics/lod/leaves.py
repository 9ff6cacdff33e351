"""Matrices of the leaves of a coarse element, as linear functions of the coefficient in their cells."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from nnlod_fenics.grid import lattice
from nnlod_fenics.lod.elimination import HAT, MULTIPLIER, NODE, Labels, Leaves, as_tuples
from nnlod_fenics.lod.interpolation import element_hats

__all__ = ["LeafTemplates", "cell_forms", "leaf_templates"]

Array = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


class LeafTemplates(NamedTuple):
    """The matrix of leaf k is ``constant[k] + Σ_c a_c per_cell[k, c]``.

    Attributes:
        per_cell: Shape ``(leaves, cells, m, m)``; for matrix-valued coefficients ``(leaves, cells·d², m, m)``.
        constant: The constraints I_H w = 0, shape ``(leaves, m, m)``.
    """

    per_cell: Array
    constant: Array


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


@lru_cache(maxsize=8)
def leaf_templates(dim: int, ratio: int, leaves: Leaves, spread: int, tensor: bool) -> LeafTemplates:
    """Build the templates for an element of width one.

    Args:
        dim: Space dimension.
        ratio: Fine cells per element along an axis, r.
        leaves: The parts of the element.
        spread: Fine cells along an axis that share a coefficient value; divides the width of a leaf.
        tensor: Whether the coefficient is matrix-valued.

    Returns:
        Templates whose rows are the leaf's inner nodes, then ``leaves.labels``.
    """
    corners, width = lattice(*(2,) * dim), leaves.width
    labels = Labels.join([Labels.of(NODE, leaves.inner), leaves.labels])
    number = {position: row for row, position in enumerate(as_tuples(labels.position[labels.nodes]))}
    forms, mass = cell_forms(dim, ratio)
    hats = element_hats(dim, ratio)
    strides = (ratio + 1) ** np.arange(dim)
    cells = lattice(*(ratio,) * dim)
    hats_at = {key: hats[(cell + corners) @ strides] for key, cell in zip(as_tuples(cells), cells, strict=True)}
    coarse_mass = sum(h.T @ mass @ h for h in hats_at.values())
    hat_rows, multiplier_rows = labels.at(HAT), labels.at(MULTIPLIER)
    m, groups = len(labels), width // spread
    per_cell = np.zeros((leaves.per_axis**dim, groups**dim, dim, dim, m, m))
    constant = np.zeros((leaves.per_axis**dim, m, m))
    for k, origin in enumerate(lattice(*(leaves.per_axis,) * dim) * width):
        for cell in lattice(*(width,) * dim):
            own = np.array([number[p] for p in as_tuples(cell + corners)])
            values = hats_at[as_tuples((origin + cell)[None])[0]]
            extend = np.zeros((2**dim, m))  # the corner values that each row stands for
            extend[np.arange(2**dim), own] = 1
            extend[:, hat_rows] = values
            group = int((cell // spread) @ (groups ** np.arange(dim)))
            per_cell[k, group] += extend.T @ forms @ extend
            projection = np.linalg.solve(coarse_mass, values.T @ mass)
            constant[k][np.ix_(multiplier_rows, own)] += projection
            constant[k][np.ix_(own, multiplier_rows)] += projection.T
    if tensor:
        return LeafTemplates(per_cell.reshape(len(constant), -1, m, m), constant)
    return LeafTemplates(np.einsum("kcaapq->kcpq", per_cell), constant)
