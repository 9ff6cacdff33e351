"""Loads: sources, fluxes through faces and wells, tested with the fine hat functions element by element.

Each element T has its own load F_T(φ) = ∫_T f φ + ∫_{∂T ∩ Γ_N} q φ + its wells. All others follow: with the coarse hats
the coarse load b, added up over elements the load of the fine problem, one by one the source correctors.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from nnlod_fenics.domain import face_axis
from nnlod_fenics.grid import Grid
from nnlod_fenics.problem import Problem, check_source, evaluate_source, fluxes, place_wells

__all__ = ["element_loads", "element_means", "fine_load", "load_vector"]

Array = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

_BATCH = 1 << 22  # numbers of a batch of elements
_GAUSS = 0.5 + np.array([-0.5, 0.5]) / np.sqrt(3)


def _axis(ratio: int, width: float) -> tuple[Array, Array]:
    """Two Gauss points a fine cell along an axis of an element, and the integrals of fine hats against them.

    Returns:
        Points from the element's corner, shape ``(2r,)``, and weights, shape ``(r + 1, 2r)``.
    """
    points = (np.arange(ratio)[:, None] + _GAUSS).ravel()
    distance = np.abs(points[None, :] - np.arange(ratio + 1)[:, None])
    return points * width / ratio, np.clip(1 - distance, 0, None) * width / (2 * ratio)


def element_loads(grid: Grid, problem: Problem, elements: IntArray | None = None) -> Array:
    """F_T at the fine nodes of elements.

    Args:
        grid: The discretisation.
        problem: Source, fluxes and wells. Functions are integrated by two Gauss points a fine cell and axis.
        elements: Numbers of the elements; all of the box if None.

    Returns:
        Shape ``(len(elements), (r+1)^d)``, nodes x fastest; zero for inactive elements.

    Raises:
        InputError: If the problem does not fit.
    """
    chosen = np.arange(grid.num_elements) if elements is None else np.asarray(elements)
    result = np.zeros((len(chosen), *(grid.ratio + 1,) * grid.dim))
    live = np.flatnonzero(grid.active.ravel()[chosen])
    _add_source(grid, problem, chosen, live, result)
    for face, value in fluxes(grid, problem.flux).items():
        _add_flux(grid, face, value, chosen, live, result)
    _add_wells(grid, problem, chosen, result)
    return result.reshape(len(chosen), -1)


def element_means(grid: Grid, problem: Problem) -> Array:
    """Means of the source f over elements, shape ``(num_elements,)``; zero for inactive ones."""
    loads = element_loads(grid, Problem(problem.f))
    return np.asarray(loads.sum(axis=1) / np.prod(grid.widths))


def _add_source(grid: Grid, problem: Problem, chosen: IntArray, live: IntArray, result: Array) -> None:
    d, r = grid.dim, grid.ratio
    axes = [_axis(r, width) for width in grid.widths]
    weights = [weight for _, weight in reversed(axes)]  # of the axes of arrays
    source = check_source(grid, problem.f)
    if callable(source):
        for part in np.array_split(live, max(len(live) * (2 * r) ** d * d // _BATCH, 1)):
            mesh = np.meshgrid(*(points for points, _ in reversed(axes)), indexing="ij")
            local = np.stack([axis.ravel() for axis in reversed(mesh)])
            corners = grid.elements[chosen[part]] * np.asarray(grid.widths)
            at = (corners[:, :, None] + local[None]).transpose(1, 0, 2)
            values = evaluate_source(source, at.reshape(d, -1)).reshape(len(part), *(2 * r,) * d)
            result[part] += _along(weights, values)
    elif source.ndim == 0:
        result[live] += _along(weights, np.full((1, *(2 * r,) * d), float(source)))
    else:
        cells = source.reshape([n for pair in zip(grid.element_shape, (r,) * d, strict=True) for n in pair])
        cells = cells.transpose(*range(0, 2 * d, 2), *range(1, 2 * d, 2)).reshape(grid.num_elements, *(r,) * d)
        sums = [weight.reshape(r + 1, r, 2).sum(axis=2) for weight in weights]
        result[live] += _along(sums, cells[chosen[live]])


def _along(weights: list[Array], values: Array) -> Array:
    """Apply a matrix along each axis of arrays but the first."""
    for axis, weight in enumerate(weights, start=1):
        product = np.asarray(np.tensordot(weight, values, axes=(1, axis)), dtype=np.float64)
        values = np.moveaxis(product, 0, axis)
    return values


def _add_flux(grid: Grid, face: str, value: Any, chosen: IntArray, live: IntArray, result: Array) -> None:
    d, r = grid.dim, grid.ratio
    axis, upper = face_axis(face)
    at_face = grid.elements[chosen[live], axis] == (grid.coarse[axis] - 1 if upper else 0)
    part = live[at_face]
    if not len(part):
        return
    others = [k for k in range(d) if k != axis]
    axes = {k: _axis(r, grid.widths[k]) for k in others}
    if callable(value):
        mesh = np.meshgrid(*(axes[k][0] for k in reversed(others)), indexing="ij")
        local = np.zeros((d, mesh[0].size if mesh else 1))
        for k, points in zip(reversed(others), mesh, strict=True):
            local[k] = points.ravel()
        local[axis] = grid.widths[axis] if upper else 0.0
        corners = grid.elements[chosen[part]] * np.asarray(grid.widths)
        at = (corners[:, :, None] + local[None]).transpose(1, 0, 2).reshape(d, -1)
        values = evaluate_source(value, at, "flux").reshape(len(part), *(2 * r,) * (d - 1))
    else:
        values = np.full((len(part), *(2 * r,) * (d - 1)), float(value))
    loads = _along([axes[k][1] for k in reversed(others)], values)
    index: list[Any] = [part] + [slice(None)] * d
    index[1 + d - 1 - axis] = r if upper else 0
    result[tuple(index)] += loads


def _add_wells(grid: Grid, problem: Problem, chosen: IntArray, result: Array) -> None:
    for well in place_wells(grid, problem.wells):
        for row in np.flatnonzero(chosen == well.element):
            local = np.asarray(well.node) - grid.elements[well.element] * grid.ratio
            result[(row, *local[::-1])] += well.rate


def load_vector(grid: Grid, f: Any = 1.0) -> Array:
    """The coarse load b_i = ∫ f Λ_i + ∫_{Γ_N} q Λ_i + Σ rate Λ_i(well).

    Args:
        grid: The discretisation.
        f: A :class:`Problem`; or a source alone: a number, an array of values on the cells of T_h, or a function of
            points ``(d, n)`` (x first), integrated by two Gauss points a fine cell and axis.

    Returns:
        Shape ``grid.node_shape``, all nodes.

    Raises:
        InputError: If f is none of these or not finite.
    """
    problem = f if isinstance(f, Problem) else Problem(f)
    t = np.arange(grid.ratio + 1) / grid.ratio
    hats: Array = np.ones((1, 1))
    for _ in range(grid.dim):
        hats = np.asarray(np.kron(np.stack([1 - t, t], axis=1), hats), dtype=np.float64)
    result = np.zeros(grid.num_nodes)
    everything = np.arange(grid.num_elements)
    for part in np.array_split(everything, max(grid.num_elements * len(hats) // _BATCH, 1)):
        np.add.at(result, grid.element_nodes[part], element_loads(grid, problem, part) @ hats)
    return result.reshape(grid.node_shape)


def fine_load(grid: Grid, problem: Problem) -> Array:
    """The load of the fine problem, F(φ) for the hats of T_h.

    Args:
        grid: The discretisation.
        problem: Source, fluxes and wells.

    Returns:
        Shape ``grid.fine_node_shape``, all nodes.
    """
    d, r = grid.dim, grid.ratio
    loads = element_loads(grid, problem).reshape(*grid.element_shape, *(r + 1,) * d)
    result = np.zeros(grid.fine_node_shape)
    for local in product(*(range(r + 1),) * d):
        box = tuple(slice(k, k + (n - 1) * r + 1, r) for k, n in zip(local, grid.element_shape, strict=True))
        index: tuple[Any, ...] = (..., *local)
        result[box] += loads[index]
    return result
