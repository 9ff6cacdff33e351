"""Fine-scale solutions from coarse ones, (1 − C) u_H + Σ_T R_T, without keeping the correctors."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from nnlod_fenics.grid import Grid
from nnlod_fenics.loads import element_loads
from nnlod_fenics.norms import prolong
from nnlod_fenics.problem import Problem
from nnlod_fenics.scaling import center_exponent, exponent_of

__all__ = ["fine_solution"]

Array = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


def fine_solution(grid: Grid, A: Array, u: Array, problem: Problem, method: str = "condensed") -> Array:
    """The fine-scale solution that belongs to a coarse one: (1 − C) u_H + Σ_T R_T, patch by patch.

    Each element contributes one combination of its correctors, the only one that is computed.

    Args:
        grid: The discretisation.
        A: Checked coefficient on T_ε.
        u: Coarse nodal values, shape ``grid.node_shape``; those at nodes of no active element do not count.
        problem: Its loads give the source correctors R_T.
        method: ``"condensed"`` or ``"dolfinx"``.

    Returns:
        Shape ``grid.fine_node_shape``, NaN at nodes of no active element.
    """
    nodal = np.where(grid.active_nodes, u, 0.0)
    margin, elements = grid.ell * grid.ratio, grid.active_elements
    total = np.zeros(tuple(n + 2 * margin for n in grid.fine_node_shape))
    if not grid.trivial_fine_scale:
        combine = _condensed if method == "condensed" else _with_dolfinx
        combine(grid, A, nodal.ravel()[grid.element_nodes], element_loads(grid, problem), elements, total)
    inner = total[tuple(slice(margin, margin + n) for n in grid.fine_node_shape)]
    return np.where(grid.at_fine_scale.active_nodes, prolong(grid, nodal) + inner, np.nan)


def _add(grid: Grid, total: Array, element: int, values: npt.NDArray[Any]) -> None:
    """Add values on the padded patch of an element."""
    box = tuple(slice(p * grid.ratio, p * grid.ratio + len(values)) for p in grid.elements[element][::-1])
    total[box] += values


def _condensed(grid: Grid, A: Array, nodal: Array, loads: Array, elements: IntArray, total: Array) -> None:
    import torch

    from nnlod_fenics.lod.backsubstitution import default_rows, solve_correctors
    from nnlod_fenics.lod.condensation import Condensation, free_memory
    from nnlod_fenics.lod.threads import spread_over_threads

    exponent = center_exponent(A, A.ndim > grid.dim)
    of_loads = exponent_of(float(abs(loads).max()))
    scaled, loads = np.ldexp(A, -exponent)[None], np.ldexp(loads, -of_loads)
    condensation = Condensation(grid, scaled, "cpu", torch.float64, elements[:0], loads)
    found: dict[int, npt.NDArray[Any]] = {}

    def compute(number: int) -> None:
        part = parts[number]
        weights = np.empty((len(part), 2**grid.dim + 1, 1))
        weights[:, :-1, 0], weights[:, -1] = -nodal[part], np.ldexp(1.0, of_loads - exponent)
        positions = np.pad(grid.elements[part], ((0, 0), (1, 0)))
        found[number] = solve_correctors(condensation, positions, torch.from_numpy(weights))[1][:, 0].numpy()

    threads = torch.get_num_threads()
    size = default_rows(grid, 8, free_memory(condensation.device) // threads)
    size = max(min(size, -(-len(elements) // threads)), 1)
    parts = np.split(elements, range(size, len(elements), size))
    for first in range(0, len(parts), threads):  # added up in order, so that no bit depends on the threads
        numbers = range(first, min(first + threads, len(parts)))
        spread_over_threads(compute, numbers, condensation.device)
        for number in numbers:
            for element, contribution in zip(parts[number], found.pop(number), strict=True):
                _add(grid, total, int(element), contribution)


def _with_dolfinx(grid: Grid, A: Array, nodal: Array, loads: Array, elements: IntArray, total: Array) -> None:
    from nnlod_fenics.lod.correctors import solve_patches
