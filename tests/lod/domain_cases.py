"""Grids of many kinds of domains, problems on them, and what tests compute on them without the package's solvers."""

from __future__ import annotations

import numpy as np
import scipy.sparse.linalg
from residuals import stiffness_matrix

from nnlod_fenics import Grid
from nnlod_fenics.loads import element_loads, fine_load
from nnlod_fenics.lod.reconstruction import pad_patch
from nnlod_fenics.problem import Problem, boundary_values


def masked(shape: tuple[int, ...], *holes: tuple[int, ...]) -> np.ndarray:
    """All elements active but some, given as positions in the array."""
    active = np.ones(shape, dtype=bool)
    for hole in holes:
        active[hole] = False
    return active


def slope(x: np.ndarray) -> np.ndarray:
    """A function that is linear in each of x, y and z."""
    return 1.0 + x[0] - 0.5 * x[-1] * (1 + x[0])


GRIDS = {
    "interval": Grid(1, 6, 24, 2, dirichlet=["xmin"]),
    "interval, both ends": Grid(1, 5, 20, 1, coefficient=10, lengths=3.0),
    "square": Grid(2, 4, 16, 1),
    "flow": Grid(2, (6, 4), (24, 16), 2, (12, 8), (3.0, 1.0), ["xmin", "xmax"]),
    "one face, holes": Grid(2, (5, 4), (20, 16), 1, dirichlet=["ymax"], active=masked((4, 5), (1, 2), (2, 2), (0, 4))),
    "L": Grid(2, 4, 12, 2, lengths=(1.0, 0.2), dirichlet=["xmin", "ymin"], active=masked((4, 4), np.s_[2:, 2:])),
    "box": Grid(3, (3, 2, 2), (9, 6, 6), 1, lengths=(3.0, 2.0, 1.0), dirichlet=["zmin", "xmax"]),
    "box, hole": Grid(3, 3, 9, 1, dirichlet=["xmin", "xmax"], active=masked((3, 3, 3), (1, 1, 1), (0, 0, 0))),
}


def problem_on(grid: Grid) -> Problem:
    """Source, two wells where there is room, g and a flux on the first face without given u."""
    open_faces = [f"{axis}{side}" for axis in "xyz"[: grid.dim] for side in ("min", "max")]
    open_faces = [face for face in open_faces if face not in grid.dirichlet]
    middle = grid.elements[grid.active_elements[len(grid.active_elements) // 2]]
    widths = np.asarray(grid.widths)
    wells = [(((middle + share) * widths).tolist(), rate) for share, rate in ((0.5, 1.0), (0.25, -0.3))]
    flux = {open_faces[0]: lambda x: 1 + x[0] ** 2} if open_faces else 0.0
    return Problem(lambda x: 2 + np.sin(3 * x[0]) * x[-1], wells, slope, flux)


def coefficient_on(grid: Grid, tensor: bool = False) -> np.ndarray:
    """A rough coefficient of contrast about 100."""
    rng = np.random.default_rng(3)
    A = np.exp(rng.standard_normal(grid.coefficient_shape))
    if not tensor:
        return A
    root = rng.standard_normal((*grid.coefficient_shape, grid.dim, grid.dim))
    return A[..., None, None] * (root @ np.swapaxes(root, -1, -2) + np.eye(grid.dim))


def fine_solution(grid: Grid, A: np.ndarray, problem: Problem) -> np.ndarray:
    """u_h by a plain sparse solve, NaN at nodes of no active element."""
    fine, cells = grid.at_fine_scale, grid.active_cells.reshape(grid.coefficient_shape + (1,) * (A.ndim - grid.dim))
    K = stiffness_matrix(grid, grid.refine(np.where(cells, A, 0.0)), grid.coarse).tocsr()
    u = boundary_values(fine, problem.g).ravel()
    free = np.flatnonzero(fine.free_nodes)
    right = (fine_load(grid, problem).ravel() - K @ u)[free]
    u[free] = scipy.sparse.linalg.spsolve(K[free][:, free].tocsc(), right)
    return np.where(fine.active_nodes, u.reshape(grid.fine_node_shape), np.nan)


class Patches:
    """All that ``solve_patches`` yields with the loads of a problem, padded."""

    def __init__(self, grid: Grid, A: np.ndarray, problem: Problem) -> None:
        from nnlod_fenics.lod.correctors import solve_patches

        n, patch = grid.num_elements, (grid.patch_width * grid.ratio + 1,) * grid.dim
        self.loads = element_loads(grid, problem)
        self.S, self.load = np.zeros((n, *grid.local_matrix_shape)), np.zeros((n, grid.num_patch_nodes))
        self.correctors, self.source = np.zeros((n, 2**grid.dim, *patch)), np.zeros((n, *patch))
        for found in solve_patches(grid, A, np.arange(n), self.loads):
            slots = grid.patch_node_slots(found.element)
            self.S[found.element, slots], self.load[found.element, slots] = found.matrix, found.load
            self.correctors[found.element] = pad_patch(grid, found.element, found.correctors)
            self.source[found.element] = pad_patch(grid, found.element, found.source)
