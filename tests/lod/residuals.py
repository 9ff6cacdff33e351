"""Residuals of correctors: how well they satisfy the constraints I_H φ = 0 and the corrector equation (3.1)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.sparse

from nnlod_fenics.coefficient import check_coefficient
from nnlod_fenics.domain import nodes_of
from nnlod_fenics.errors import InputError
from nnlod_fenics.grid import Grid, lattice
from nnlod_fenics.lod.interpolation import element_hats, element_projection
from nnlod_fenics.lod.leaves import cell_forms

__all__ = ["CorrectorResiduals", "corrector_residuals", "stiffness_matrix"]

Array = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


class CorrectorResiduals(NamedTuple):
    """Relative residuals, one an element; zero for inactive ones.

    Attributes:
        constraint: Largest |I_H φ| at a node, relative to the largest |φ|.
        equation: Largest residual of (3.1) outside the span of the constraints, relative to the largest sum
            of absolute values of its terms at a node (the backward error).
        support: Largest |φ| at a node that is not free.
    """

    constraint: Array
    equation: Array
    support: Array


def _numbers(cells: IntArray, corners: IntArray, nodes: tuple[int, ...]) -> IntArray:
    """Node numbers of the corners of cells, x fastest, on a lattice of ``nodes`` points."""
    return (cells[:, None, :] + corners[None]) @ np.cumprod([1, *nodes[:-1]])


def _constraints(grid: Grid, start: tuple[int, ...], size: tuple[int, ...]) -> scipy.sparse.csr_matrix:
    """Rows of I_H for the nodes of active elements of a patch that are not on Γ_D."""
    d, r = grid.dim, grid.ratio
    box = list(zip(start[::-1], size[::-1], strict=True))
    active = grid.active[tuple(slice(s, s + n) for s, n in box)]
    fixed = grid.fixed_nodes[tuple(slice(s, s + n + 1) for s, n in box)]
    elements, corners = lattice(*size)[active.ravel()], lattice(*(2,) * d)
    coarse = _numbers(elements, corners, tuple(n + 1 for n in size))
    fine = _numbers(elements * r, lattice(*(r + 1,) * d), tuple(n * r + 1 for n in size))
    projection = element_projection(d, r)
    shape = (len(elements), *projection.shape)
    rows = np.broadcast_to(coarse[:, :, None], shape).ravel()
    columns = np.broadcast_to(fine[:, None, :], shape).ravel()
    nodes = (int(np.prod([n + 1 for n in size])), int(np.prod([n * r + 1 for n in size])))
    matrix = scipy.sparse.csr_matrix((np.broadcast_to(projection, shape).ravel(), (rows, columns)), shape=nodes)
    return matrix[np.flatnonzero((nodes_of(active) & ~fixed).ravel())]


def stiffness_matrix(grid: Grid, A: Array, size: tuple[int, ...]) -> scipy.sparse.csr_matrix:
    """Stiffness matrix of Q1 on a box of elements.

    Args:
        grid: The discretisation.
        A: Values on the fine cells of the box, ``[y, x]``; zero in inactive elements.
        size: Extent in coarse elements, x first.
    """
    d, r = grid.dim, grid.ratio
    widths = np.asarray(grid.widths)
    forms = cell_forms(d, r)[0] * (np.prod(widths) / np.outer(widths, widths))[:, :, None, None]
    cells = lattice(*(n * r for n in size))
    tensor = A.reshape(len(cells), *A.shape[d:]) if A.ndim > d else A.reshape(-1, 1, 1) * np.eye(d)
    values = np.einsum("cab,abij->cij", tensor, forms)
    nodes = _numbers(cells, lattice(*(2,) * d), tuple(n * r + 1 for n in size))
    rows, columns = (np.broadcast_to(nodes[index], values.shape) for index in (np.s_[:, :, None], np.s_[:, None, :]))
    return scipy.sparse.csr_matrix((values.ravel(), (rows.ravel(), columns.ravel())))


def corrector_residuals(
    grid: Grid, A: npt.ArrayLike, correctors: npt.ArrayLike, elements: npt.ArrayLike | None = None
) -> CorrectorResiduals:
    """Compute the residuals of correctors.

    Args:
        grid: The discretisation.
        A: Diffusion coefficient on T_ε.
        correctors: φ_{T,j} from ``local_matrices(..., correctors=True)``.
        elements: Numbers of their elements; all if None.

    Returns:
        The residuals.

    Raises:
        InputError: If a shape does not fit.
    """
    d, r = grid.dim, grid.ratio
    chosen = np.arange(grid.num_elements) if elements is None else np.asarray(elements)
    phi = np.asarray(correctors, dtype=np.float64)
    expected = (len(chosen), 2**d, *(grid.patch_width * r + 1,) * d)
    if phi.shape != expected:
        raise InputError(f"correctors must have shape {expected}, got {phi.shape}.")
    coefficient = check_coefficient(grid, A)
    cells = grid.active_cells.reshape(grid.coefficient_shape + (1,) * (coefficient.ndim - d))
    fine = grid.refine(np.where(cells, coefficient, 0.0))
    result = CorrectorResiduals(*np.zeros((3, len(chosen))))
    for k, element in enumerate(chosen):
        if grid.active.flat[element]:
            for values, value in zip(result, _residuals(grid, fine, int(element), phi[k]), strict=True):
                values[k] = value
    return result


def _residuals(grid: Grid, fine: Array, element: int, phi: Array) -> tuple[float, float, float]:
    """The three residuals of one element."""
    d, r = grid.dim, grid.ratio
    start, size = grid.patch_box(element)
    box = tuple(slice(s * r, (s + n) * r) for s, n in zip(start[::-1], size[::-1], strict=True))
    origin = np.asarray(start) - grid.elements[element] + grid.ell
    own = tuple(slice(o * r, (o + n) * r + 1) for o, n in zip(origin[::-1], size[::-1], strict=True))
    values = phi[(slice(None), *own)].reshape(2**d, -1).T
    free = grid.free_patch_nodes(element)[own].ravel()
    support = np.abs(values[~free]).max(initial=0.0)
    rows = _constraints(grid, start, size)
    largest = max(np.abs(values).max(), np.finfo(float).tiny)
    constraint = np.abs(rows @ values).max(initial=0.0) / largest
    matrix, terms = _terms(grid, fine[box], size, grid.elements[element] - np.asarray(start), values)
    basis, _ = np.linalg.qr(rows[:, free].toarray().T)
    residual = matrix[free] - basis @ (basis.T @ matrix[free])
    return constraint, np.abs(residual).max(initial=0.0) / terms.max(), support


def _terms(grid: Grid, A: Array, size: tuple[int, ...], center: IntArray, values: Array) -> tuple[Array, Array]:
    """K φ − K_T Λ at the fine nodes of a patch, and the sums of the absolute values of its terms."""
    d, r = grid.dim, grid.ratio
    stiffness = stiffness_matrix(grid, A, size)
    own = tuple(slice(c * r, (c + 1) * r) for c in center[::-1])
    source = stiffness_matrix(grid, A[own], (1,) * d) @ element_hats(d, r)
    nodes = _numbers((center * r)[None], lattice(*(r + 1,) * d), tuple(n * r + 1 for n in size))[0]
    flux = stiffness @ values
    flux[nodes] -= source
    terms = abs(stiffness) @ np.abs(values)
    terms[nodes] += np.abs(source)
    return flux, terms
