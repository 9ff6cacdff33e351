"""The Galerkin form as local matrices: known answers, its properties, and the solution that it gives."""

from __future__ import annotations

import numpy as np
import pytest
from domain_cases import GRIDS, Patches, coefficient_on, fine_solution, problem_on
from domains import NAMES, load_domain
from residuals import stiffness_matrix

from nnlod_fenics import Grid, InputError
from nnlod_fenics.lod.coarse import CoarseSolver, sum_local
from nnlod_fenics.lod.energy import ElementEnergies, element_energies, stream_energies
from nnlod_fenics.lod.interpolation import quasi_interpolation
from nnlod_fenics.lod.reconstruction import reconstruct
from nnlod_fenics.problem import boundary_values


def stream(grid, found, source=True):
    for element in range(grid.num_elements):
        yield element, found.correctors[element], found.source[element] if source else None


def assembled(grid: Grid, matrices: np.ndarray) -> np.ndarray:
    """Σ_E K_E over all coarse nodes of the box."""
    nodes = np.where(grid.patch_nodes < 0, grid.num_nodes, grid.patch_nodes)
    total = np.zeros((grid.num_nodes + 1,) * 2)
    np.add.at(total, (nodes[:, :, None], nodes[:, None, :]), matrices)
    return total[:-1, :-1]


def galerkin_solution(grid: Grid, found: ElementEnergies, boundary: np.ndarray) -> np.ndarray:
    K, load = assembled(grid, found.matrices), sum_local(grid, found.loads - found.couplings).ravel()
    u, free = boundary.ravel().copy(), np.flatnonzero(grid.free_nodes)
    u[free] = np.linalg.solve(K[np.ix_(free, free)], (load - K @ u)[free])
    return np.where(grid.active_nodes, u.reshape(grid.node_shape), np.nan)


@pytest.mark.parametrize("name", NAMES)
def test_known_answers(name):
    grid, A, problem, reference = load_domain(name)
    patches = Patches(grid, A, problem)
    found = element_energies(grid, A, stream(grid, patches, source=False), patches.loads)
    K = reference["K_galerkin"]
    np.testing.assert_allclose(assembled(grid, found.matrices), K, rtol=0, atol=1e-12 * np.abs(K).max())
    load, expected = sum_local(grid, found.loads), reference["load_galerkin"]
    np.testing.assert_allclose(load[grid.active_nodes], expected[grid.active_nodes], atol=1e-12)
    assert not found.couplings.any() and not found.source_energies.any() and not found.source_works.any()


@pytest.mark.parametrize("tensor", [False, True])
@pytest.mark.parametrize("name", GRIDS)
def test_matrices_are_symmetric_positive_semidefinite_with_constants_in_their_kernel(name, tensor):
    grid = GRIDS[name]
    A, problem = coefficient_on(grid, tensor), problem_on(grid)
    patches = Patches(grid, A, problem)
    matrices = element_energies(grid, A, stream(grid, patches)).matrices
    scale = np.abs(matrices).max()
    np.testing.assert_array_equal(matrices, matrices.swapaxes(1, 2))
    assert np.abs(matrices.sum(axis=2)).max() < 1e-12 * scale
    assert np.linalg.eigvalsh(matrices).min() > -1e-13 * scale
    assert not matrices[~grid.active.ravel()].any()
    missing = ~np.append(grid.active_nodes.ravel(), False)[grid.patch_nodes]
    assert not matrices[missing].any()


@pytest.mark.parametrize("name", GRIDS)
def test_ideal_patches_reproduce_the_fine_solution(name):
    grid = Grid.from_dict({**GRIDS[name].as_dict(), "ell": max(GRIDS[name].coarse) - 1})
    A, problem = coefficient_on(grid), problem_on(grid)
    patches, fine = Patches(grid, A, problem), fine_solution(grid, A, problem)
    boundary = boundary_values(grid, problem.g)
    u = galerkin_solution(grid, element_energies(grid, A, stream(grid, patches), patches.loads), boundary)
    size = np.nanmax(np.abs(fine))
    np.testing.assert_allclose(u, quasi_interpolation(grid, fine, boundary), atol=1e-10 * size)
    np.testing.assert_allclose(reconstruct(grid, u, patches.correctors, patches.source), fine, atol=1e-10 * size)


@pytest.mark.parametrize("name", GRIDS)
def test_the_energy_of_a_reconstruction_is_the_sum_of_those_on_elements(name, rng):
    """And the Galerkin solution has the least."""
    grid = GRIDS[name]
    A, problem = coefficient_on(grid), problem_on(grid)
    patches = Patches(grid, A, problem)
    found = element_energies(grid, A, stream(grid, patches), patches.loads)
    K, load = assembled(grid, found.matrices), sum_local(grid, found.loads - found.couplings).ravel()
    constant = (0.5 * found.source_energies - found.source_works).sum()

    def of_coarse(u):
        values = np.nan_to_num(u).ravel()
        return 0.5 * values @ K @ values - load @ values + constant

    stiffness = stiffness_matrix(grid, grid.refine(np.where(grid.active_cells, A, 0)), grid.coarse)
    forces = found_load(grid, patches.loads)

    def of_fine(u):
        values = np.nan_to_num(reconstruct(grid, u, patches.correctors, patches.source)).ravel()
        return 0.5 * values @ (stiffness @ values) - forces @ values

    solver = CoarseSolver(grid, problem)
    u = galerkin_solution(grid, found, solver.boundary)
    other = u + np.where(grid.free_nodes, rng.standard_normal(u.shape), 0)
    for function in (u, other):
        assert of_fine(function) == pytest.approx(of_coarse(function), rel=1e-10)
    assert of_fine(u) < of_fine(other)


def found_load(grid: Grid, loads: np.ndarray) -> np.ndarray:
    """Σ_E F_E at all fine nodes."""
    total = np.zeros(grid.fine_node_shape)
    for position, load in zip(grid.elements, loads.reshape(-1, *(grid.ratio + 1,) * grid.dim), strict=True):
        total[tuple(slice(p * grid.ratio, (p + 1) * grid.ratio + 1) for p in position[::-1])] += load
    return total.ravel()


def test_elements_are_dropped_when_they_are_complete():
    """Each is yielded with the last element of its patch, holes or not."""
    grid = GRIDS["one face, holes"]
    A = coefficient_on(grid)
    patches, seen, came = Patches(grid, A, problem_on(grid)), [], []

    def watched():
        for element, phi, source in stream(grid, patches):
            seen.append(element)
            yield element, phi, source

    for energy in stream_energies(grid, A, watched()):
        last = np.minimum(grid.elements[energy.element] + grid.ell, np.array(grid.coarse) - 1)
        assert seen[-1] >= grid.element_numbers(last) and seen[-1] <= grid.element_numbers(last) + 2
        came.append(energy.element)
    assert sorted(came) == grid.active_elements.tolist()


def test_bad_input():
    grid = GRIDS["one face, holes"]
    A = coefficient_on(grid)
    phi = np.zeros((4, 13, 13))
    with pytest.raises(InputError, match="those of element 2 where those of element 1 were due"):
        element_energies(grid, A, [(0, phi, None), (2, phi, None)])
    with pytest.raises(InputError, match="got none of element 1"):
        element_energies(grid, A, [(0, phi, None)])
    with pytest.raises(InputError, match=r"correctors must have shape \(4, 13, 13\) .* got \(4, 12, 13\)"):
        element_energies(grid, A, [(0, phi[:, 1:], None)])
    with pytest.raises(InputError, match="elements 0 to 19, got 20"):
        element_energies(grid, A, [(20, phi, None)])
    with pytest.raises(InputError, match=r"loads must have shape \(20, 25\), got \(20, 16\)"):
        element_energies(grid, A, [], np.zeros((20, 16)))
