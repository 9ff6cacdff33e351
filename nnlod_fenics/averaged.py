"""FEM on a coarser mesh with averaged coefficients: what costs a millisecond and is often good enough.

On isotropic lognormal fields in two dimensions the geometric mean of the cells is nearly the effective coefficient
(Matheron 1967); in d dimensions the power mean with exponent 1 - 2/d. On layers, channels and inclusions no mean of
this kind is right, whatever the mesh; an effective tensor of each cell, from periodic cell problems, knows directions.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy.sparse

from nnlod_fenics.errors import InputError
from nnlod_fenics.grid import Grid
from nnlod_fenics.loads import fine_load
from nnlod_fenics.lod.coarse import CoarseSolver, coarse_operator
from nnlod_fenics.lod.leaves import cell_forms
from nnlod_fenics.problem import Problem
from nnlod_fenics.upscaled import effective_tensors

__all__ = ["EFFECTIVE", "MEANS", "AveragedFem", "averaged_mesh", "cell_means"]

Array = npt.NDArray[np.float64]

EFFECTIVE = "effective"
"""Name of the effective tensors in the place of a mean, see :func:`nnlod_fenics.upscaled.effective_tensors`."""
MEANS = {"harmonic": -1.0, "geometric": 0.0, "arithmetic": 1.0}
"""Means by name, as exponents of power means."""


def averaged_mesh(grid: Grid, refine: int) -> Grid:
    """The mesh T_{H/r} as a grid of its own, without fine scales.

    Args:
        grid: The discretisation.
        refine: r, elements of the mesh for each element of T_H along an axis; it divides H/ε.

    Returns:
        A grid whose elements, cells and fine cells are those of the mesh.

    Raises:
        InputError: If r is no positive divisor of H/ε.
    """
    whole = isinstance(refine, (int, np.integer)) and not isinstance(refine, bool) and refine > 0
    if not whole or grid.cells_per_element % refine:
        raise InputError(f"refine must divide H/ε = {grid.cells_per_element}, got {refine!r}.")
    counts = tuple(int(n * refine) for n in grid.coarse)
    active = np.kron(grid.active, np.ones((refine,) * grid.dim, dtype=bool)).astype(bool)
    return Grid(grid.dim, counts, counts, 0, counts, grid.lengths, grid.dirichlet, active)


def cell_means(grid: Grid, A: Array, refine: int, mean: str | float = "geometric") -> Array:
    """Means of a coefficient over the cells of T_{H/r}.

    Args:
        grid: The discretisation.
        A: Positive coefficients on T_ε, shape ``(n, 1/ε, …)``.
        refine: r.
        mean: ``"geometric"``, ``"harmonic"``, ``"arithmetic"``, or the exponent p of (mean of A^p)^(1/p);
            or ``"effective"`` for tensors from cell problems, which take matrix-valued coefficients, too.

    Returns:
        Shape ``(n, r/H, …)``, for tensors ``(n, r/H, …, d, d)``.

    Raises:
        InputError: If the mean is none, or does not apply to a coefficient of matrices.
    """
    if mean == EFFECTIVE:
        return effective_tensors(grid, A, refine)
    exponent = MEANS.get(mean, mean) if isinstance(mean, str) else mean
    if isinstance(exponent, (str, bool)) or not isinstance(exponent, (int, float)) or not np.isfinite(exponent):
        raise InputError(f"mean must be one of {[*MEANS, EFFECTIVE]} or the exponent of a power mean, got {mean!r}.")
    if A.ndim > grid.dim + 1:
        raise InputError(f"A must be scalar for mean={mean!r}, got matrices; mean={EFFECTIVE!r} takes them.")
    width = grid.cells_per_element // refine
    split = [n for cells in A.shape[1:] for n in (cells // width, width)]
    cells, axes = A.reshape(len(A), *split), tuple(range(2, 2 * grid.dim + 1, 2))
    if exponent == 0:
        return np.asarray(np.exp(np.log(cells).mean(axis=axes)))
    # powers of ratios neither overflow nor vanish all together
    reference = (cells.max if exponent > 0 else cells.min)(axis=axes, keepdims=True)
    powers = ((cells / reference) ** exponent).mean(axis=axes) ** (1 / exponent)
    return np.asarray(powers * reference.reshape(powers.shape))


class AveragedFem:
    """Q1 finite elements on T_{H/r} for many coefficients with the same data.

    Args:
        grid: The discretisation.
        problem: Source, wells, fluxes and boundary values; integrated as on T_h.
        refine: r, elements of the mesh for each element of T_H along an axis.
        mean: How cells are averaged, see :func:`cell_means`.

    Attributes:
        mesh: The mesh, as a grid of its own.
        load: F(Λ_i) for its hats at all nodes, shape ``mesh.node_shape``.

    Raises:
        InputError: If an argument does not fit.
    """

    def __init__(self, grid: Grid, problem: Problem, refine: int = 1, mean: str | float = "geometric") -> None:
        self.grid, self.mesh, self.refine, self.mean = grid, averaged_mesh(grid, refine), refine, mean
        cell_means(grid, np.ones((1, *grid.coefficient_shape)), refine, mean)  # refuses a mean that is none
        plain = Problem(0.0, g=problem.g)  # its own load is the restricted one
        self._solver = CoarseSolver(self.mesh, plain)
        self.load = _restricted(self.mesh, fine_load(grid, problem))
        self._forms = _q1_forms(self.mesh)
        self._free = np.flatnonzero(self.mesh.free_nodes)

    def operator(self, means: Array) -> scipy.sparse.csr_array:
        """The stiffness matrix at all nodes of the mesh, for means over its cells, from :func:`cell_means`."""
        d, active = self.mesh.dim, self.mesh.active.reshape(-1, 1, 1)
        if means.ndim > d:
            S = np.tensordot(means.reshape(-1, d, d), self._forms, axes=2)
        else:
            S = means.reshape(-1, 1, 1) * np.einsum("aapq->pq", self._forms)
        return coarse_operator(self.mesh, S * active, boundary=True)

    def solve(self, means: Array) -> tuple[Array, scipy.sparse.csr_array]:
        """Nodal values on the mesh, NaN at nodes of no active element, and the stiffness matrix at all nodes."""
        K = self.operator(means)
        lift = (K @ self._solver.boundary.ravel()).reshape(self.mesh.node_shape)
        return self._solver.solve_symmetric(K[self._free][:, self._free], self.load, lift)[0], K


def _q1_forms(mesh: Grid) -> Array:
    """∫_E ∂_a Λ_i ∂_b Λ_j of an element, shape ``(d, d, 2^d, 2^d)``, nodes x fastest."""
    widths = np.asarray(mesh.widths)
    return cell_forms(mesh.dim, 1)[0] * (np.prod(widths) / np.outer(widths, widths))[:, :, None, None]


def _restricted(mesh: Grid, load: Array) -> Array:
    """F(Λ_i) for the hats of a mesh from F(φ_k) for those of T_h: each hat is a sum of finer ones."""
    for axis, elements in enumerate(mesh.element_shape):
        ratio = (load.shape[axis] - 1) // elements
        nodes = np.arange(load.shape[axis]) / ratio
        hats = np.clip(1 - np.abs(nodes[None, :] - np.arange(elements + 1)[:, None]), 0, None)
        load = np.moveaxis(np.tensordot(hats, load, axes=(1, axis)), 0, axis)
    return np.where(mesh.active_nodes, load, 0.0)
