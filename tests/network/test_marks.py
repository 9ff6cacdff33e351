"""Structured networks of random weights on random domains: what is exact in both forms, and what the marks tell."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from windows import cut, padded, samples

from nnlod_fenics import NNLOD, Grid, coarse_operator, solve_coarse
from nnlod_fenics.dataset.domains import draw_domain, grid_of_marks
from nnlod_fenics.network import build_network
from nnlod_fenics.network.equivariant import group_order, turned_lattice
from nnlod_fenics.network.heads import COERCIVITY
from nnlod_fenics.problem import Problem
from nnlod_fenics.training import Blocks
from nnlod_fenics.training.augment import turned
from nnlod_fenics.window import GIVEN, INSIDE, NATURAL, Window, domain_marks, element_size

FORMS = ("petrov-galerkin", "galerkin")
BOXES = [
    Grid(1, 6, 12, 1, coefficient=12, lengths=6.0),
    Grid(2, 6, 12, 1, coefficient=12, lengths=(3.0, 3.0)),
    Grid(2, 5, 10, 2, coefficient=10),
    Grid(3, 3, 6, 1, coefficient=6, lengths=(1.5, 1.5, 1.5)),
]
IDS = ["1d", "2d-ell1", "2d-ell2", "3d"]
CASES = [pytest.param((box, k), id=f"{name}-{k}") for box, name in zip(BOXES, IDS, strict=True) for k in range(3)]
TOLERANCE = 2e-6


def random_network(window: Window, loads: bool = True, zero: bool = False) -> torch.nn.Module:
    """No weight is zero by initialisation, or all of them are."""
    network = build_network("structured", window, seed=1, channels=4, means=4, loads=loads).eval()
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in network.parameters():
            noise = 0.3 * torch.randn(parameter.shape, generator=generator)
            parameter.copy_(0 * parameter if zero else parameter * (1 + noise) if parameter.any() else noise)
    return network


def model_of(grid: Grid, form: str, **options: bool) -> NNLOD:
    window = Window.of(grid, form)
    description = {"window": window.as_dict(), "training_set": {"range_of_Z": [-1.0, 1.0]}, "losses": {}}
    return NNLOD(grid, random_network(window, **options), description, form=form)


def existing(grid: Grid) -> np.ndarray:
    """Nodes of each patch that belong to an active element in it, element by element."""
    rows = np.zeros((grid.num_elements, *(2 * grid.ell + 2,) * grid.dim), dtype=bool)
    for T in grid.active_elements:
        for E in grid.active_elements:
            offset = grid.elements[E] - grid.elements[T] + grid.ell
            if (offset >= 0).all() and (offset <= 2 * grid.ell).all():
                rows[(T, *(slice(p, p + 2) for p in offset[::-1]))] = True
    return rows.reshape(grid.num_elements, -1)


def apart(given: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(given - expected).max() / np.abs(expected).max())


@pytest.fixture(params=FORMS)
def form(request) -> str:
    return request.param


@pytest.fixture(params=CASES)
def grid(request) -> Grid:
    box, seed = request.param
    return draw_domain(box, 1.0, seed, 0)


def brute_marks(grid: Grid, layers: int) -> np.ndarray:
    """Element by element, outside the box by the faces that it lies beyond."""
    shape = tuple(n + 2 * layers for n in grid.element_shape)
    marks = np.empty(shape, dtype=np.int8)
    for place in np.ndindex(shape):
        position = tuple(p - layers for p in place)
        beyond = []
        for name, p, n in zip("xyz", position[::-1], grid.element_shape[::-1], strict=False):
            beyond += [f"{name}min"] * (p < 0) + [f"{name}max"] * (p >= n)
        if beyond:
            marks[place] = GIVEN if set(beyond) & set(grid.dirichlet) else NATURAL
        else:
            marks[place] = INSIDE if grid.active[position] else NATURAL
    return marks


def test_marks_by_their_definition(grid):
    for layers in (0, 1, 3):
        assert np.array_equal(domain_marks(grid, layers), brute_marks(grid, layers))
    assert grid_of_marks(grid, domain_marks(grid)) == grid


def test_zero_sums_zero_rows_and_loads(grid, form, rng):
    model = model_of(grid, form)
    S, b = model.local_system(grid, np.exp(2 * rng.standard_normal(grid.coefficient_shape)))
    rows, active, norm = existing(grid), grid.active.ravel(), np.abs(S).max()
    assert np.array_equal(S.any(axis=2), rows) and not b[~rows].any() and b[rows].all()
    assert max(np.abs(S.sum(axis=axis)).max() for axis in (1, 2)) < 1e-13 * norm
    np.testing.assert_allclose(b.sum(axis=1), np.where(active, element_size(grid) ** grid.dim, 0.0), atol=1e-14)
    if form == "galerkin":
        assert np.array_equal(S, S.mT) and not S[~active].any()
        assert np.linalg.eigvalsh(S).min() > -1e-13 * norm


def test_homogeneity_and_cells_outside(grid, form, rng):
    model, A = model_of(grid, form), np.exp(rng.standard_normal(grid.coefficient_shape))
    S, b = model.local_system(grid, A)
    other, same = model.local_system(grid, np.where(grid.active_cells, 1e40 * A, np.nan))
    assert apart(other / 1e40, S) < TOLERANCE and apart(same, b) < TOLERANCE


def test_windows_blocks_and_whole_fields(grid, form, rng, monkeypatch):
    """Also slab by slab of elements."""
    window, Z = Window.of(grid, form), rng.standard_normal(grid.coefficient_shape)
    model = model_of(grid, form)
    with torch.no_grad():
        whole, single = (
            model.network.forward_field(*padded(grid, Z[None], form))[0],
            model.network(*cut(grid, Z, form)),
        )
    assert apart(whole.numpy(), single.numpy()) < TOLERANCE
    blocks = Blocks(window, samples(grid, Z[None], single.numpy()[None]), grid.coarse, dtype=torch.float32)
    for batch in blocks.batches(grid.num_elements):
        with torch.no_grad():
            assert apart(model.network(batch.Z, batch.domain).numpy(), batch.S.numpy()) < TOLERANCE
    S = model.local_matrices(grid, np.exp(Z))
    monkeypatch.setattr("nnlod_fenics.network.model._ELEMENTS", 2 * grid.element_shape[-1])
    assert apart(model.local_matrices(grid, np.exp(Z)), S) < TOLERANCE


def test_equivariance_with_the_marks_turned(form, rng):
    """All symmetries in one and two dimensions, every fifth in three; batches turned for augmentation commute too."""
    for box in (BOXES[0], BOXES[1], BOXES[3]):
        grid = draw_domain(box, 1.0, 1, 0)
        window, Z = Window.of(grid, form), rng.standard_normal(grid.coefficient_shape)
        network = random_network(window)
        with torch.no_grad():
            S = network.forward_field(*padded(grid, Z[None], form))
            batch = Blocks(window, samples(grid, Z[None], S.numpy()), grid.coarse)[torch.arange(1)]
            for g in range(0, group_order(grid.dim), 5 if grid.dim == 3 else 1):
                moved = turned(window, batch, grid.coarse[0], torch.tensor([g]))
                assert apart(network(moved.Z, moved.domain).numpy(), moved.S.numpy()) < TOLERANCE, g
                points = turned_lattice(grid.dim, moved.domain.shape[-1])[g]
                assert torch.equal(moved.domain.flatten(), batch.domain.flatten()[points])


def test_the_marks_matter(form, rng):
    """A no-flow face is not a Dirichlet face, next to it; an element at the other end does not see it."""
    box = BOXES[1]
    faces = [Grid(2, 6, 12, 1, 12, (3.0, 3.0), dirichlet) for dirichlet in (box.dirichlet, box.dirichlet[1:])]
    A = np.exp(rng.standard_normal(box.coefficient_shape))
    model = model_of(box, form)
    first, second = (model.local_matrices(grid, A) for grid in faces)
    near = box.elements[:, 0] < model.window.layers
    changed = np.abs(first - second).max(axis=(1, 2)) > 1e-3 * np.abs(first).max(axis=(1, 2))
    assert box.dirichlet[0] == "xmin" and changed[near].all()
    np.testing.assert_array_equal(first[~near], second[~near])


@pytest.mark.parametrize("zero", [False, True], ids=["random", "zero"])
def test_the_galerkin_form_is_coercive_whatever_the_weights(grid, zero, rng):
    """K ≥ 1e-3 times the matrix of Q1 elements with the least A of each, up to log A in float32; at any contrast."""
    model = model_of(grid, "galerkin", zero=zero)
    for contrast in (1e2, 1e12):
        A = np.exp(np.log(contrast) * rng.random(grid.coefficient_shape))
        K = coarse_operator(grid, model.local_matrices(grid, A), boundary=True).toarray()
        m = grid.cells_per_element
        cells = A.reshape([n for count in grid.element_shape for n in (count, m)])
        least = cells.min(axis=tuple(range(1, 2 * grid.dim, 2)))
        plain = q1_matrix(grid, least)
        scale = np.sqrt(np.where(K.diagonal() > 0, K.diagonal(), 1.0))
        difference = (K - COERCIVITY * (1 - 1e-5) * plain) / np.outer(scale, scale)
        assert np.linalg.eigvalsh(difference).min() > -1e-13
        u = solve_coarse(grid, coarse_operator(grid, model.local_matrices(grid, A), boundary=True), Problem(1.0))
        assert np.isfinite(u[grid.active_nodes]).all() and np.nanmax(u) > 0


def q1_matrix(grid: Grid, A: np.ndarray) -> np.ndarray:
    """∫ A ∇Λ_i · ∇Λ_j over active elements, by Gauß points: exact for Q1."""
    d, n = grid.dim, grid.num_nodes
    points, weights = np.polynomial.legendre.leggauss(2)
    points, K = (points + 1) / 2, np.zeros((n, n))
    corners = np.array([[(c >> axis) & 1 for axis in range(d)] for c in range(2**d)])
    local = np.zeros((2**d, 2**d))
    for at in np.ndindex(*(2,) * d):
        x, weight = points[list(at)], np.prod(weights[list(at)] / 2 * np.asarray(grid.widths))
        values = np.where(corners, x, 1 - x)
        slopes = np.where(corners, 1.0, -1.0) / np.asarray(grid.widths)
        gradient = np.stack([slopes[:, k] * np.delete(values, k, axis=1).prod(axis=1) for k in range(d)])
        local += weight * gradient.T @ gradient
    for T in grid.active_elements:
        nodes = grid.element_nodes[T]
        K[np.ix_(nodes, nodes)] += A.ravel()[T] * local
    return K
