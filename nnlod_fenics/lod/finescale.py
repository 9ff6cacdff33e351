"""Correctors of all elements as a stream, and fine-scale solutions (1 − C) u_H + Σ_T R_T without keeping them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from nnlod_fenics.grid import Grid
from nnlod_fenics.lod.reconstruction import box_of, pad_patch, padded_shape, patch_of, prolong_elements
from nnlod_fenics.scaling import center_exponent, exponent_of

__all__ = ["fine_solution", "stream_correctors"]

Array = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


def stream_correctors(
    grid: Grid, A: Array, loads: Array, method: str = "condensed", elements: IntArray | None = None
) -> Iterator[tuple[int, Array, Array]]:
    """Correctors and source correctors of active elements, in the order of their numbers.

    Args:
        grid: The discretisation.
        A: Checked coefficient on T_ε.
        loads: F_T at the fine nodes of all elements, from :func:`nnlod_fenics.loads.element_loads`.
        method: ``"condensed"`` or ``"dolfinx"``.
        elements: Numbers of active elements in ascending order; all of them if None.

    Yields:
        Number of T, φ_{T,j} on its padded patch, shape ``(2^d, (2ℓ+1) r + 1, …)``, and R_T, without the first axis.
    """
    stream = _condensed if method == "condensed" else _with_dolfinx
    for element, values in stream(grid, A, loads, grid.active_elements if elements is None else elements, None):
        yield element, values[:-1], values[-1]


def fine_solution(grid: Grid, A: Array, u: Array, loads: Array, method: str = "condensed") -> Array:
    """The fine-scale solution that belongs to a coarse one: (1 − C) u_H + Σ_T R_T, patch by patch.

    By ``"condensed"`` each element has but one combination of its correctors computed, the one that is needed.

    Args:
        grid: The discretisation.
        A: Checked coefficient on T_ε.
        u: Coarse nodal values, shape ``grid.node_shape``; those at nodes of no active element do not count.
        loads: F_T at the fine nodes of all elements: the source correctors R_T are those of them.
        method: ``"condensed"`` or ``"dolfinx"``.

    Returns:
        Shape ``grid.fine_node_shape``, NaN at nodes of no active element.
    """
    nodal = np.where(grid.active_nodes, u, 0.0).ravel()[grid.element_nodes]
    weights = np.concatenate([-nodal, np.ones((len(nodal), 1))], axis=1)
    total = np.zeros(padded_shape(grid))
    if not grid.trivial_fine_scale:
        stream = _condensed if method == "condensed" else _with_dolfinx
        for element, values in stream(grid, A, loads, grid.active_elements, weights):
            total[patch_of(grid, element)] += values[0]
    return prolong_elements(grid, nodal) + total[box_of(grid)]


def _condensed(
    grid: Grid, A: Array, loads: Array, elements: IntArray, weights: Array | None
) -> Iterator[tuple[int, npt.NDArray[Any]]]:
    """For some active elements φ_{T,j} and R_T, shape ``(2^d + 1, …)``, or their combination, shape ``(1, …)``."""
    import torch

    from nnlod_fenics.lod.backsubstitution import default_rows, solve_correctors
    from nnlod_fenics.lod.condensation import Condensation, free_memory
    from nnlod_fenics.lod.threads import spread_over_threads

    exponent, of_loads = center_exponent(A, A.ndim > grid.dim), exponent_of(float(abs(loads).max()))
    columns = 2**grid.dim + 1
    scaled, scaled_loads = np.ldexp(A, -exponent)[None], np.ldexp(loads, -of_loads)
    condensation = Condensation(grid, scaled, "cpu", torch.float64, elements[:0], scaled_loads)
    back = np.array([1.0] * (columns - 1) + [np.ldexp(1.0, of_loads - exponent)])  # R grows as F / A
    found: dict[int, npt.NDArray[Any]] = {}

    def compute(number: int) -> None:
        part = parts[number]
        combined = None if weights is None else torch.from_numpy((weights[part] * back)[:, :, None])
        positions = np.pad(grid.elements[part], ((0, 0), (1, 0)))
        values = solve_correctors(condensation, positions, combined)[1].numpy()
        found[number] = values * back.reshape(-1, *(1,) * grid.dim) if weights is None else values

    threads = torch.get_num_threads()
    size = default_rows(grid, 8, free_memory(condensation.device) // threads)
    size = max(min(size, -(-len(elements) // threads)), 1)
    parts = np.split(elements, range(size, len(elements), size))
    for first in range(0, len(parts), threads):  # one after another to the caller: no bit depends on the threads
        numbers = range(first, min(first + threads, len(parts)))
        spread_over_threads(compute, numbers, condensation.device)
        for number in numbers:
            yield from zip(map(int, parts[number]), found.pop(number), strict=True)


def _with_dolfinx(
    grid: Grid, A: Array, loads: Array, elements: IntArray, weights: Array | None
) -> Iterator[tuple[int, npt.NDArray[Any]]]:
    """As :func:`_condensed`."""
    from nnlod_fenics.lod.correctors import solve_patches

    exponent = center_exponent(A, A.ndim > grid.dim)
    back = np.array([1.0] * 2**grid.dim + [np.ldexp(1.0, -exponent)])
    for found in solve_patches(grid, np.ldexp(A, -exponent), elements, loads[elements]):
        values = pad_patch(grid, found.element, found.functions * back)
        yield found.element, values if weights is None else np.tensordot(weights[found.element], values, axes=1)[None]
