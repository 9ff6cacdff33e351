"""Exact properties of Z ↦ S_T that the default network has for any weights, held in float32."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest
import torch
from windows import cut, padded, samples

from nnlod_fenics import NNLOD, Grid, InputError
from nnlod_fenics.network import build_network, shipped_models
from nnlod_fenics.training import Blocks
from nnlod_fenics.window import INSIDE, Window
from nnlod_fenics.workflows.evaluate import fresh_realization

TOLERANCE = 1e-6
GRIDS = [
    Grid(1, 8, 32, 2, coefficient=32),
    Grid(2, 6, 24, 2, coefficient=24),
    Grid(2, 6, 18, 1, coefficient=18),
    Grid(2, 4, 8, 0, coefficient=8),
    Grid(2, 4, 32, 1, coefficient=32),
    Grid(2, 8, 8, 3, coefficient=8),
    Grid(3, 4, 8, 1, coefficient=8),
    Grid(3, 3, 12, 1, coefficient=12),
    Grid(3, 3, 6, 2, coefficient=6),
    Grid(3, 4, 12, 0, coefficient=12),
]
IDS = [f"{grid.dim}d-ell{grid.ell}-{grid.cells_per_element}cells" for grid in GRIDS]


def network_of(grid: Grid) -> torch.nn.Module:
    """A network whose weights are all random, so that nothing is zero by initialisation."""
    network = build_network("structured", Window.of(grid), seed=1, channels=4, means=4)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in network.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(parameter * (1 + 0.3 * noise) if parameter.any() else 0.3 * noise)
    return network.eval()


def predict(network: torch.nn.Module, grid: Grid, Z: np.ndarray) -> np.ndarray:
    """All local matrices of a field, patch by patch."""
    with torch.no_grad():
        return network(*cut(grid, Z)).double().numpy()


def predict_at_once(network: torch.nn.Module, grid: Grid, Z: np.ndarray) -> np.ndarray:
    """All local matrices of a field, with shared work."""
    with torch.no_grad():
        return network.forward_field(*padded(grid, Z[None]))[0].double().numpy()


def turn(values: np.ndarray, dim: int, axes: tuple[int, ...], flips: tuple[bool, ...]) -> np.ndarray:
    """Move elements, rows and columns alike: each has d axes."""
    groups = values.ndim // dim
    order = [dim * group + axis for group in range(groups) for axis in axes]
    flipped = [dim * group + axis for group in range(groups) for axis in range(dim) if flips[axis]]
    return np.flip(values.transpose(order), flipped)


def symmetries(dim: int) -> list[tuple[tuple[int, ...], tuple[bool, ...]]]:
    """All permutations of axes with all flips."""
    return list(product(permutations(range(dim)), product((False, True), repeat=dim)))


def error(given: np.ndarray, expected: np.ndarray) -> float:
    """Largest error of a matrix relative to its norm."""
    axes = (-2, -1)
    return float((np.linalg.norm(given - expected, axis=axes) / np.linalg.norm(expected, axis=axes)).max())


@pytest.fixture(params=GRIDS, ids=IDS)
def case(request, rng):
    grid = request.param
    return grid, network_of(grid), 2 * rng.standard_normal(grid.coefficient_shape)


def test_homogeneity(case):
    grid, network, Z = case
    Z = np.round(Z * 2**16) / 2**16  # Z and Z + c without rounding in float32, which is no error of the network
    for c in (-1.5, 2.0):
        assert error(predict(network, grid, Z + c), np.exp(c) * predict(network, grid, Z)) < TOLERANCE


def test_zero_sums_and_rows_outside(case):
    grid, network, Z = case
    S = predict(network, grid, Z)
    norm = np.linalg.norm(S, axis=(1, 2)).max()
    assert np.abs(S.sum(axis=1)).max() < TOLERANCE * norm and np.abs(S.sum(axis=2)).max() < TOLERANCE * norm
    outside = grid.patch_nodes < 0
    assert outside.any() == (grid.ell > 0)
    assert not S[outside].any() and S[~outside].all()


def test_equivariance_under_each_symmetry_of_the_cube(case):
    """S_gT(g·Z) has the entries of S_T(Z), for g a permutation of axes followed by flips."""
    grid, network, Z = case
    d, n = grid.dim, 2 * grid.ell + 2
    S = predict_at_once(network, grid, Z).reshape(grid.element_shape + (n,) * d + (2,) * d)
    for axes, flips in symmetries(d):
        turned = predict_at_once(network, grid, turn(Z, d, axes, flips).copy())
        expected = turn(S, d, axes, flips).reshape(turned.shape)
        assert error(turned, expected) < TOLERANCE, (axes, flips)


def test_a_field_at_once_is_the_same_as_patch_by_patch(case):
    grid, network, Z = case
    S = predict_at_once(network, grid, Z)
    assert error(S, predict(network, grid, Z)) < TOLERANCE


def test_blocks_are_the_same_as_patch_by_patch(case):
    grid, network, Z = case
    S = predict(network, grid, Z)
    blocks = Blocks(Window.of(grid), samples(grid, Z[None], S[None]), block=grid.coarse[0] // 2)
    for batch in blocks.batches(64, np.random.default_rng(0).permutation(len(blocks))):
        with torch.no_grad():
            assert error(network(batch.Z, batch.domain).double().numpy(), batch.S.double().numpy()) < TOLERANCE


def test_what_stands_outside_the_domain_does_not_matter(case):
    grid, network, Z = case
    cells, domain = padded(grid, Z[None])
    outside = torch.from_numpy(np.kron(domain.numpy() != INSIDE, np.ones((1, *(grid.cells_per_element,) * grid.dim))))
    assert outside.any() == (grid.ell > 0)
    with torch.no_grad():
        first = network.forward_field(cells, domain)[0].double().numpy()
        second = network.forward_field(cells + 7 * outside.float(), domain)[0].double().numpy()
    assert error(second, first) < TOLERANCE


def test_only_the_patch_matters(case):
    """A change beyond N^ℓ(T) leaves S_T as it is, one inside it does not."""
    grid, network, Z = case
    changed = Z.copy()
    changed[(0,) * grid.dim] += 1.0
    first, second = predict(network, grid, Z), predict(network, grid, changed)
    touched = (grid.elements <= grid.ell).all(axis=1)
    assert np.array_equal(first[~touched], second[~touched])
    assert all(np.abs(first[k] - second[k]).max() > 1e-9 for k in np.flatnonzero(touched))


def test_starts_from_the_mean_matrix():
    """Where all samples are multiples of one symmetric matrix, that one is predicted before any training."""
    grid = GRIDS[1]
    zero = np.zeros(grid.coefficient_shape)
    middle = int(np.flatnonzero((grid.elements == 3).all(axis=1))[0])  # its patch does not touch ∂D
    M = predict(network_of(grid), grid, zero)[middle]
    matrices = np.stack([np.exp(c) * np.broadcast_to(M, (grid.num_elements, *M.shape)) for c in (0.5, -1.0)])
    fields = np.stack([np.full(grid.coefficient_shape, c) for c in (0.5, -1.0)])
    window = Window.of(grid)
    network = build_network("structured", window, seed=0, channels=2, means=2).eval()
    network.start_from(*Blocks(window, samples(grid, fields, matrices), grid.coarse)[torch.arange(2)][:3])
    with torch.no_grad():
        network.matrix.head.weight.zero_()
    assert error(predict(network, grid, zero)[middle], M) < TOLERANCE


@pytest.mark.parametrize("name", sorted(shipped_models()))
def test_trained_models_of_full_size_keep_these_properties(name):
    """From field to local matrices in float64, for the models that come with the package; and for any level."""
    model = NNLOD.load(name)
    grid = model.grid
    d, n = grid.dim, 2 * grid.ell + 2
    Z = fresh_realization(model, 0).Z
    S = model.local_matrices(model.grid, np.exp(Z))
    for c in (-1.5, 2.0, 200.0, -200.0):
        assert error(np.exp(-c) * model.local_matrices(model.grid, np.exp(Z + c)), S) < TOLERANCE
    norm = np.linalg.norm(S, axis=(1, 2))[:, None]
    assert max(np.abs(S.sum(axis=axis) / norm).max() for axis in (1, 2)) < 1e-14  # projected in float64
    assert not S[grid.patch_nodes < 0].any()
    lattices = S.reshape(grid.element_shape + (n,) * d + (2,) * d)
    for axes, flips in symmetries(d):
        expected = turn(lattices, d, axes, flips).reshape(S.shape)
        assert error(model.local_matrices(model.grid, np.exp(turn(Z, d, axes, flips))), expected) < TOLERANCE, (
            axes,
            flips,
        )


@pytest.mark.parametrize("option", [{"channels": 0}, {"means": "many"}, {"head_depth": -1}, {"mix_depth": True}])
def test_bad_options(option):
    with pytest.raises(InputError, match=rf"network\.options\.{next(iter(option))} must be"):
        build_network("structured", Window.of(GRIDS[1]), **option)
