"""The energy of neighbourhoods: against definitions, Σ M_E ≤ K, and the bound of the error of a coarse solution."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import scipy.linalg
import torch
from domain_cases import GRIDS, coefficient_on

from nnlod_fenics import Grid, local_matrices
from nnlod_fenics.lod.coarse import coarse_operator
from nnlod_fenics.lod.neighbourhood import energy_deviations, neighbourhood_energies, whitening

PLAIN = {"interval": Grid(1, 9, 36, 1), "square": Grid(2, 6, 24, 1), "two layers": Grid(2, 5, 20, 2)}
CASES = PLAIN | {name: grid for name, grid in GRIDS.items() if grid.dim < 3}


def matrices(grid: Grid, contrast: float | None = None) -> torch.Tensor:
    A = coefficient_on(grid)
    if contrast is not None:
        A = np.where(np.random.default_rng(1).random(grid.coefficient_shape) < 0.3, contrast, 1.0)
    return torch.from_numpy(local_matrices(grid, A, form="galerkin"))[None]


def energies(grid: Grid, K: torch.Tensor, layers: int = 1) -> torch.Tensor:
    return neighbourhood_energies(K, torch.tensor(grid.active)[None], grid.ell, layers)


def assembled(grid: Grid, K: torch.Tensor) -> np.ndarray:
    """Over all nodes of active elements, those on Γ_D too."""
    nodes = np.flatnonzero(grid.active_nodes)
    return coarse_operator(grid, K[0].numpy(), boundary=True).toarray()[np.ix_(nodes, nodes)]


def perturbed(grid: Grid, K: torch.Tensor, size: float, seed: int = 0) -> torch.Tensor:
    """Relative errors of some size, symmetric, with zero sums over existing nodes."""
    rng, result = np.random.default_rng(seed), K.clone()
    for k in result[0]:
        root = np.linalg.cholesky(k.numpy() + 1e-9 * float(k.trace() + 1) * np.eye(len(k)))
        E = rng.uniform(-1, 1, k.shape)
        exists = (k.diagonal() > 0).double()
        project = torch.diag(exists) - torch.outer(exists, exists) / exists.sum().clamp(min=1)
        k += size * project @ torch.from_numpy(root @ (E + E.T) @ root.T) @ project
    return result


def by_definition(grid: Grid, K: torch.Tensor, element: int, layers: int) -> np.ndarray:
    """M_E from loops over elements and a pseudo-inverse."""
    near = [k for k in range(grid.num_elements) if grid.active.flat[k]]
    position = grid.elements

    def neighbours(e: int) -> list[int]:
        return [k for k in near if np.abs(position[k] - position[e]).max() <= layers]

    total = np.zeros((grid.num_nodes,) * 2)
    for k in neighbours(element):
        there = grid.patch_nodes[k] >= 0
        nodes = grid.patch_nodes[k][there]
        total[np.ix_(nodes, nodes)] += K[0, k].numpy()[np.ix_(there, there)] / len(neighbours(k))
    there = grid.patch_nodes[element] >= 0
    own = grid.patch_nodes[element][there]
    other = np.setdiff1d(np.arange(grid.num_nodes), own)
    part = total[np.ix_(own, other)]
    reduced = total[np.ix_(own, own)] - part @ np.linalg.pinv(total[np.ix_(other, other)], 1e-13, True) @ part.T
    result = np.zeros(K.shape[2:])
    result[np.ix_(there, there)] = reduced
    return result


@pytest.mark.parametrize(("name", "layers"), itertools.product(CASES, (1, 2)))
def test_matrices_are_what_they_are_said_to_be(name, layers):
    grid = CASES[name]
    K = matrices(grid)
    found = energies(grid, K, layers)[0].numpy()
    assert not found[~grid.active.ravel()].any()
    for element in np.flatnonzero(grid.active)[:: max(grid.active.sum() // 7, 1)]:
        expected = by_definition(grid, K, element, layers)
        np.testing.assert_allclose(found[element], expected, rtol=0, atol=1e-10 * np.abs(expected).max())


@pytest.mark.parametrize(("name", "layers", "contrast"), itertools.product(CASES, (1, 2), (None, 1e4)))
def test_they_add_up_to_no_more_than_the_coarse_matrix(name, layers, contrast):
    grid = CASES[name]
    K = matrices(grid, contrast)
    whole, sum_of_parts = assembled(grid, K), assembled(grid, energies(grid, K, layers))
    scale = 1 / np.sqrt(np.diag(whole))
    rest = scale[:, None] * (whole - sum_of_parts) * scale
    assert np.linalg.eigvalsh(rest).min() > -1e-11
    assert np.trace(sum_of_parts * np.outer(scale, scale)) > 0.05 * len(scale)  # and not to nothing


@pytest.mark.parametrize("name", CASES)
def test_deviations_are_relative_to_the_energy_of_the_neighbourhood(name):
    grid = CASES[name]
    K = matrices(grid)
    M = energies(grid, K)
    factors = torch.from_numpy(np.random.default_rng(0).uniform(-0.5, 0.5, grid.num_elements))
    found = energy_deviations(K + factors[:, None, None] * M, K, M)
    np.testing.assert_allclose(found[0], np.abs(factors.numpy()) * grid.active.ravel(), atol=1e-8)


def test_whitening_of_high_contrast_in_single_precision():
    grid = PLAIN["square"]
    K = matrices(grid, 1e4)
    M, single = energies(grid, K), energies(grid, K.float())
    assert energy_deviations(single.double(), M, M).max() < 0.1
    W = whitening(single)[0, 14]  # of an element inside: no node is missing
    values = torch.linalg.eigvalsh(W.double() @ M[0, 14] @ W.double().mT)
    np.testing.assert_allclose(values, [0] + [1] * 15, atol=1e-2)


@pytest.mark.parametrize(("name", "layers", "size"), itertools.product(CASES, (1, 2), (1e-3, 1e-2)))
def test_bound_of_the_error_of_a_coarse_solution(name, layers, size):
    grid = CASES[name]
    K = matrices(grid)
    predicted = perturbed(grid, K, size)
    delta = float(energy_deviations(predicted, K, energies(grid, K, layers)).max())
    assert 0 < delta < 1
    exact, perturbed_matrix = assembled(grid, K), assembled(grid, predicted)
    free = grid.free_nodes.ravel()[np.flatnonzero(grid.active_nodes)]
    block = np.ix_(free, free)
    values = scipy.linalg.eigh(perturbed_matrix[block], exact[block], eigvals_only=True)
    assert 1 - delta <= values.min() < 1 < values.max() <= 1 + delta
    for seed in range(3):  # sources and boundary values
        rng = np.random.default_rng(seed)
        b, u, v = rng.standard_normal(len(free)), *(np.where(free, 0, rng.standard_normal(len(free))) for _ in "uv")
        v = u.copy()
        u[free] = np.linalg.solve(exact[block], (b - exact @ u)[free])
        v[free] = np.linalg.solve(perturbed_matrix[block], (b - perturbed_matrix @ v)[free])
        error = np.sqrt(((v - u) @ exact @ (v - u)) / (u @ exact @ u))
        assert error <= delta / (1 - delta)
    # The bound is not void: 3 to 22 times what the eigenvalues really are.
    assert delta < 30 * (values.max() - 1)


def test_energy_on_the_element_alone_says_little():
    grid = PLAIN["square"]
    K = matrices(grid)
    rng = torch.Generator().manual_seed(0)
    noise = K.flatten(2).norm(dim=2)[..., None, None] * torch.randn(K.shape, generator=rng, dtype=K.dtype) * 1e-4
    exists = (K.diagonal(dim1=2, dim2=3) > 0).double()
    noise = (noise + noise.mT) * exists[..., None] * exists[..., None, :]
    count = exists.sum(2)[..., None]
    noise = noise - (noise.sum(3) / count)[..., None] * exists[..., None, :]
    noise = noise - (noise.sum(2) / count)[..., None, :] * exists[..., None]
    alone, around = (energy_deviations(K + noise, K, energies(grid, K, layers)).max() for layers in (0, 1))
    assert around < 0.5 < 20 * around < alone


def test_elements_far_apart_share_nothing():
    active = np.zeros((5, 5), bool)
    active[0, 0] = active[4, 4] = True
    grid = Grid(2, 5, 20, 1, active=active)
    K = matrices(grid)
    np.testing.assert_allclose(energies(grid, K), K, atol=1e-12 * float(K.max()))
