"""Norms and prolongation against integrals known in closed form."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse

from nnlod_fenics import Grid, InputError
from nnlod_fenics.norms import energy_norm, l2_norm, nodal_values, prolong, relative_l2, spectral_norm


def at_nodes(function, dim: int, n: int) -> np.ndarray:
    """Values of a function of points (d, ...) at the nodes of n cells per axis, indexed [y, x]."""
    return function(np.stack(np.meshgrid(*(np.linspace(0, 1, n + 1),) * dim, indexing="ij")[::-1]))


def multilinear(x: np.ndarray) -> np.ndarray:
    return np.prod([x[k] - 0.3 * (k + 1) for k in range(len(x))], axis=0)


@pytest.mark.parametrize("n", [1, 3, 10])
@pytest.mark.parametrize("dim", [1, 2, 3])
def test_l2_norm_is_exact_for_multilinear_functions(dim: int, n: int) -> None:
    # ∫₀¹ (t − c)² dt = (1 − 3c + 3c²)/3
    expected = np.prod([(1 - 3 * c + 3 * c * c) / 3 for c in 0.3 * np.arange(1, dim + 1)])
    assert l2_norm(at_nodes(multilinear, dim, n)) ** 2 == pytest.approx(expected, rel=1e-13)


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_l2_norm_of_a_hat(dim: int) -> None:
    u = np.zeros((7,) * dim)
    u[(2,) * dim] = 1
    assert l2_norm(u) ** 2 == pytest.approx((2 / 3 / 6) ** dim, rel=1e-13)


def test_relative_l2() -> None:
    u = np.random.default_rng(0).standard_normal((9, 9))
    assert relative_l2(1.25 * u, u) == pytest.approx(0.25, rel=1e-12)
    assert relative_l2(u, u) == 0


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_energy_norm_of_linear_functions(dim: int) -> None:
    grid = Grid(dim, 2, 8, 1, 4)
    rng = np.random.default_rng(1)
    slope = rng.standard_normal(dim)
    u = at_nodes(lambda x: np.tensordot(slope, x, axes=1), dim, grid.fine[0])
    A = rng.uniform(1, 5, grid.coefficient_shape)
    assert energy_norm(grid, u, A) ** 2 == pytest.approx(A.mean() * slope @ slope, rel=1e-12)
    factor = rng.standard_normal((*grid.coefficient_shape, dim, dim))
    matrices = factor @ np.swapaxes(factor, -1, -2) + np.eye(dim)
    mean = matrices.reshape(-1, dim, dim).mean(axis=0)
    assert energy_norm(grid, u, matrices) ** 2 == pytest.approx(slope @ mean @ slope, rel=1e-12)


def test_energy_norm_of_a_bilinear_function() -> None:
    # u = x y, A = diag(2, 3) with off-diagonal 1: ∫ 2y² + 3x² + 2xy = 2/3 + 1 + 1/2
    grid = Grid(2, 1, 5, 0)
    A = np.broadcast_to(np.array([[2.0, 1.0], [1.0, 3.0]]), (5, 5, 2, 2))
    u = at_nodes(lambda x: x[0] * x[1], 2, 5)
    assert energy_norm(grid, u, A) ** 2 == pytest.approx(13 / 6, rel=1e-12)


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_prolongation_is_exact_for_the_coarse_space(dim: int) -> None:
    grid = Grid(dim, 4, 12, 1)
    u = at_nodes(multilinear, dim, grid.coarse[0])
    np.testing.assert_allclose(prolong(grid, u), at_nodes(multilinear, dim, grid.fine[0]), atol=1e-14)
    rough = np.random.default_rng(2).standard_normal(grid.node_shape)
    fine = prolong(grid, rough)
    np.testing.assert_allclose(fine[(slice(None, None, grid.ratio),) * dim], rough, rtol=1e-14)
    assert l2_norm(fine) == pytest.approx(l2_norm(rough), rel=1e-12)  # the same function


@pytest.mark.parametrize(
    "call",
    [
        lambda: l2_norm(np.ones((3, 4))),
        lambda: l2_norm(np.ones((1, 1))),
        lambda: l2_norm(np.ones((3,) * 4)),
        lambda: l2_norm(np.array([0, 1j])),
        lambda: relative_l2(np.ones(3), np.ones(4)),
        lambda: relative_l2(np.ones(3), np.zeros(3)),
        lambda: prolong(Grid(2, 4, 8, 1), np.ones((4, 4))),
        lambda: energy_norm(Grid(2, 4, 8, 1), np.ones((5, 5)), np.ones((8, 8))),
        lambda: energy_norm(Grid(2, 4, 8, 1), np.ones((9, 9)), np.ones((4, 4))),
    ],
)
def test_bad_input(call) -> None:
    with pytest.raises(InputError):
        call()


@pytest.mark.parametrize("size", [1, 2, 7, 60])
def test_spectral_norm_of_a_sparse_matrix(size, rng):
    dense = rng.standard_normal((size, size)) * (rng.random((size, size)) < 0.5) + np.eye(size)
    for scale in (1e-200, 1.0, 1e200):
        matrix = scipy.sparse.csr_array(scale * dense)
        assert spectral_norm(matrix) == pytest.approx(scale * np.linalg.norm(dense, 2), rel=1e-8)
    assert spectral_norm(scipy.sparse.csr_array((size, size))) == 0.0


# -- boxes and inactive elements ---------------------------------------------------------------------

ACTIVE = np.array([[True, True, True], [True, False, True]])
PART = Grid(2, (3, 2), (12, 8), 1, (6, 4), (3.0, 0.5), ["xmin", "xmax"], ACTIVE)


def on(grid: Grid, function, level: str = "fine") -> np.ndarray:
    """Values at the nodes of T_h or T_H in D, NaN at the others."""
    mesh = grid.at_fine_scale if level == "fine" else grid
    axes = [np.linspace(0, length, n) for length, n in zip(grid.lengths[::-1], mesh.node_shape, strict=True)]
    return np.where(mesh.active_nodes, function(np.stack(np.meshgrid(*axes, indexing="ij")[::-1])), np.nan)


@pytest.mark.parametrize("level", ["coarse", "fine"])
def test_norms_are_over_the_active_elements(level: str) -> None:
    # Elements of 1 by 1/4; ∫ (1 + x + 2y)² = Σ over them, by the formula for one: mean² + (slope · side)²/12.
    u = on(PART, lambda x: 1 + x[0] + 2 * x[1], level)
    middles = [(1 + i + 0.5) + 2 * (j + 0.5) / 4 for j in range(2) for i in range(3) if ACTIVE[j, i]]
    expected = sum(m**2 + 1 / 12 + (2 / 4) ** 2 / 12 for m in middles) / 4
    assert l2_norm(u, PART) ** 2 == pytest.approx(expected, rel=1e-13)
    assert relative_l2(0.5 * u, u, PART) == pytest.approx(0.5, rel=1e-14)


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_norms_of_rough_functions_are_sums_over_cells(dim: int, rng) -> None:
    lengths, coarse = (3.0, 0.5, 2.0)[:dim], (3, 2, 2)[:dim]
    active = np.ones(coarse[::-1], dtype=bool)
    active[(0,) * dim] = False
    grid = Grid(dim, coarse, tuple(2 * n for n in coarse), 1, None, lengths, ["xmax"], active)
    u = np.where(grid.at_fine_scale.active_nodes, rng.standard_normal(grid.fine_node_shape), np.nan)
    A = np.where(grid.active_cells, rng.uniform(1, 5, grid.coefficient_shape), np.nan)
    matrices = A[..., None, None] * (np.eye(dim) + 0.3)
    square = energy = tilted = 0.0
    for cell in np.argwhere(grid.active_cells):
        box = tuple(slice(k, k + 2) for k in cell)
        one = Grid(dim, 1, 1, 0, lengths=grid.fine_widths)
        square += l2_norm(u[box]) ** 2 * np.prod(grid.fine_widths)
        energy += energy_norm(one, u[box], np.full((1,) * dim, A[tuple(cell)])) ** 2
        tilted += energy_norm(one, u[box], matrices[tuple(cell)].reshape((1,) * dim + (dim, dim))) ** 2
    assert l2_norm(u, grid) ** 2 == pytest.approx(square, rel=1e-12)
    assert energy_norm(grid, u, A) ** 2 == pytest.approx(energy, rel=1e-12)
    assert energy_norm(grid, u, matrices) ** 2 == pytest.approx(tilted, rel=1e-12)


def test_energy_norm_on_a_part_of_a_box() -> None:
    # ∇(x y) = (y, x): ∫ 2y² + 3x² over elements of 1 by 1/4
    u = on(PART, lambda x: x[0] * x[1])
    A = np.broadcast_to(np.diag([2.0, 3.0]), (*PART.coefficient_shape, 2, 2))
    cells = [(i, j) for j in range(2) for i in range(3) if ACTIVE[j, i]]
    expected = sum(2 * ((j + 1) ** 3 - j**3) / 64 / 3 + 3 * ((i + 1) ** 3 - i**3) / 3 / 4 for i, j in cells)
    assert energy_norm(PART, u, A) ** 2 == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("shift", [0.0, 0.3])
def test_prolongation_on_a_part_of_a_box(shift: float) -> None:
    def bilinear(x: np.ndarray) -> np.ndarray:
        return (x[0] - shift) * (x[1] + 1)

    fine = prolong(PART, on(PART, bilinear, "coarse"))
    np.testing.assert_allclose(fine, on(PART, bilinear), rtol=0, atol=1e-13)


def test_shapes_tell_the_level() -> None:
    level, values = nodal_values("u", on(PART, lambda x: x[0], "coarse"), PART)
    assert level.coarse == PART.coarse and not np.isnan(values).any()
    assert nodal_values("u", on(PART, lambda x: x[0]), PART)[0] is PART.at_fine_scale
    level, _ = nodal_values("u", np.ones((4, 4)))
    assert level.unit_cube and level.coarse == (3, 3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: l2_norm(np.ones((3, 4))), "on other boxes than the unit cube, give the grid"),
        (lambda: l2_norm(np.array([0, np.nan])), "u must be finite, got 1 NaN .* inactive elements, give the grid"),
        (lambda: l2_norm(np.full((9, 13), np.nan), PART), "u must be finite, got .* at nodes of D"),
        (lambda: l2_norm(np.ones((4, 4)), PART), r"u must have shape \(3, 4\) or \(9, 13\)"),
        (lambda: relative_l2(np.ones((3, 4)), np.ones((9, 13)), PART), "u and v must have the same shape"),
        (lambda: prolong(PART, np.ones((9, 13))), r"u must have shape \(3, 4\)"),
        (lambda: energy_norm(PART, np.ones((3, 4)), np.ones((4, 6))), r"u must have shape \(9, 13\)"),
    ],
)
def test_bad_input_on_a_part_of_a_box(call, message: str) -> None:
    with pytest.raises(InputError, match=message):
        call()
