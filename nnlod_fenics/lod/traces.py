"""Element energies K_E from the condensation, without forming the correctors inside elements.

On E a function v = (1 − C)Λ_i is determined by what E's condensed block M knows: its values at the fine nodes of ∂E,
the hats, and the multipliers of the constraints. With x these values, M(x, x') = ∫_E A ∇v·∇v' + μᵀ(C v') + μ'ᵀ(C v)
where C are the constraints and (M x)_μ = C v; likewise for the load. So

    ∫_E A ∇v·∇v' = xᵀ M x' − x_qᵀ (M x')_q − (M x)_qᵀ x'_q,        q: rows of multipliers and of the load.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch

from nnlod_fenics.grid import Grid, lattice
from nnlod_fenics.lod.backsubstitution import solve_traces
from nnlod_fenics.lod.condensation import Condensation, default_chunk
from nnlod_fenics.lod.elimination import MULTIPLIER
from nnlod_fenics.lod.energy import ElementEnergy, order_of_energies
from nnlod_fenics.lod.threads import spread_over_threads
from nnlod_fenics.scaling import center_exponent, exponent_of

__all__ = ["condensed_energies"]

Array = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


def condensed_energies(grid: Grid, A: Array, loads: Array, wanted: IntArray | None = None) -> Iterator[ElementEnergy]:
    """Compute K_E and the loads of the Galerkin form row by row.

    Args:
        grid: The discretisation, with fine scales.
        A: Checked coefficient on T_ε.
        loads: F_E at the fine nodes of all elements, from :func:`nnlod_fenics.loads.element_loads`.
        wanted: Numbers of the active elements E, one or more; all of them if None. Correctors of the elements within
            ℓ layers of them are computed.

    Yields:
        The energies on each of these elements, as :func:`nnlod_fenics.lod.energy.stream_energies` does.
    """
    exponent, of_loads = center_exponent(A, A.ndim > grid.dim), exponent_of(float(abs(loads).max()))
    scaled, scaled_loads = np.ldexp(A, -exponent)[None], np.ldexp(loads, -of_loads)
    order, last = order_of_energies(grid, wanted)
    elements = grid.elements_around(order)
    condensation = Condensation(grid, scaled, "cpu", torch.float64, elements, scaled_loads)
    states = _States(grid, condensation, order)
    size, threads, done = default_chunk(grid, "cpu", 8), torch.get_num_threads(), 0
    parts = np.split(elements, range(size, len(elements), size))
    for first in range(0, len(parts), threads):
        group = parts[first : first + threads]
        states.add(group)
        complete = done + int(np.searchsorted(last[order[done:]], group[-1][-1], side="right"))
        if first + threads >= len(parts):
            complete = len(order)
        ready = [part for part in np.array_split(order[done:complete], threads) if len(part)]
        for energies in states.energies(ready):
            yield from (_scaled_back(energy, exponent, of_loads) for energy in energies)
        done = complete


def _scaled_back(energy: ElementEnergy, exponent: int, of_loads: int) -> ElementEnergy:
    """Energies for A · 2^exponent and loads · 2^of_loads."""
    return ElementEnergy(
        energy.element,
        np.ldexp(energy.matrix, exponent),
        np.ldexp(energy.load, of_loads),
        np.ldexp(energy.coupling, of_loads),
        float(np.ldexp(energy.source_energy, 2 * of_loads - exponent)),
        float(np.ldexp(energy.source_work, 2 * of_loads - exponent)),
    )


class _States:
    """What is known so far of x for (1 − C)Λ_i and R on each of the wanted elements."""

    def __init__(self, grid: Grid, condensation: Condensation, wanted: IntArray) -> None:
        d, width = grid.dim, grid.patch_width
        self.grid, self.condensation = grid, condensation
        labels = condensation.plan.element
        rest = len(labels) - condensation.sources
        self.rows = rest + 1
        self.dual = np.append(np.flatnonzero(labels.kind[:rest] == MULTIPLIER), rest)
        offsets = lattice(*(width,) * d)
        # The nodes of the elements around an element, numbered from its window; the middle one is its own.
        self.nodes = (offsets[:, None] + lattice(*(2,) * d)) @ (2 * grid.ell + 2) ** np.arange(d)
        self.strides = width ** np.arange(d)
        self.wanted = np.zeros(grid.num_elements, dtype=bool)
        self.wanted[wanted] = True
        self.known: dict[int, Array] = {}

    def add(self, parts: list[IntArray]) -> None:
        """Subtract the correctors of some elements, and add their source correctors, on their patches."""
        found: dict[int, list[tuple[IntArray, IntArray, Array]]] = {}

        def compute(number: int) -> None:
            positions = np.pad(self.grid.elements[parts[number]], ((0, 0), (1, 0)))
            traces = solve_traces(self.condensation, positions)
            found[number] = [(offset, places, values.mT.numpy()) for offset, places, values in traces]

        spread_over_threads(compute, range(len(parts)), self.condensation.device)
        for number, part in enumerate(parts):  # in order, so that no bit depends on the threads
            for offset, places, traces in found[number]:
                self._add(part[places], offset, traces)

    def _add(self, elements: IntArray, offset: IntArray, traces: Array) -> None:
        grid = self.grid
        near = grid.elements[elements] + offset
        inside = np.asarray(((near >= 0) & (near < np.asarray(grid.coarse))).all(axis=1))
        numbers = np.where(inside, grid.element_numbers(near), 0)
        nodes = self.nodes[int((grid.ell - offset) @ self.strides)]  # T lies in the opposite direction from there
        for k in np.flatnonzero(inside & self.wanted[numbers]):
            state = self._of(int(numbers[k]))
            state[nodes] -= traces[k, :-1]
            state[-1] += traces[k, -1]

    def _of(self, element: int) -> Array:
        if element not in self.known:
            self.known[element] = np.zeros((self.grid.num_patch_nodes + 1, self.rows))
        return self.known[element]

    def energies(self, parts: list[IntArray]) -> list[list[ElementEnergy]]:
        """The energies on elements whose states are complete, and are dropped."""
        found: dict[int, list[ElementEnergy]] = {}

        def compute(number: int) -> None:
            states = np.stack([self.known.pop(int(element)) for element in parts[number]])
            found[number] = self._energies(parts[number], states)

        spread_over_threads(compute, range(len(parts)), self.condensation.device)
        return [found[number] for number in range(len(parts))]

    def _energies(self, elements: IntArray, states: Array) -> list[ElementEnergy]:
        blocks = self.condensation.kept_blocks(elements).numpy()
        upper = np.triu(np.ones(blocks.shape[1:], dtype=bool))  # what stands below the diagonal is not kept up
        products = states @ np.where(upper, blocks, np.swapaxes(blocks, 1, 2))
        mixed = states[:, :, self.dual] @ np.swapaxes(products[:, :, self.dual], 1, 2)
        energies = products @ np.swapaxes(states, 1, 2) - mixed - np.swapaxes(mixed, 1, 2)
        energies, works = 0.5 * (energies + np.swapaxes(energies, 1, 2)), products[:, :, -1]
        return [
            ElementEnergy(int(element), e[:-1, :-1], w[:-1], e[:-1, -1], float(e[-1, -1]), float(w[-1]))
            for element, e, w in zip(elements, energies, works, strict=True)
        ]
