"""The fine-scale solver against manufactured solutions and an independent assembly with SciPy."""

from __future__ import annotations

from functools import reduce
from itertools import product

import numpy as np
import psutil
import pytest
import scipy.sparse as sp
from scipy.sparse.linalg import spsolve

from nnlod_fenics import Grid, InputError, NumericalError
from nnlod_fenics.norms import l2_norm, prolong, relative_l2

pytest.importorskip("dolfinx")

from petsc4py import PETSc

from nnlod_fenics import fem
from nnlod_fenics.fem import FineSolver, solve_fine

# CG stops at a relative preconditioned residual of 1e-10; the preconditioner is spectrally within a factor
# of a few hundred of the inverse at worst, so solutions agree with a direct solve to 1e-8 with room to spare.
SOLVED = 1e-8


def direct_solve(grid: Grid, A: np.ndarray, b: np.ndarray, g: np.ndarray | float = 0.0) -> np.ndarray:
    """Q1 stiffness from products of exact one-dimensional element integrals, solved by SuperLU.

    ``b`` holds F(Λ_i) at all nodes, ``g`` what u is on Γ_D, shape ``grid.fine_node_shape``.
    """
    d, level = grid.dim, grid.at_fine_scale
    for axis in range(d):
        A = np.repeat(A, grid.cells_per_coefficient, axis=axis)
    if A.ndim == d:
        A = A[..., None, None] * np.eye(d)
    A = np.where(level.active[..., None, None], A, 0.0)

    def one(derivatives: tuple[int, int], h: float) -> np.ndarray:
        return {
            (0, 0): h / 6 * np.array([[2, 1], [1, 2]]),
            (1, 1): np.array([[1, -1], [-1, 1]]) / h,
            (1, 0): np.array([[-1, -1], [1, 1]]) / 2,
            (0, 1): np.array([[-1, 1], [-1, 1]]) / 2,
        }[derivatives]

    axes = range(d - 1, -1, -1)  # Kronecker factors: slowest axis first
    blocks = {
        (a, c): reduce(np.kron, [one((int(k == a), int(k == c)), level.widths[k]) for k in axes])
        for a, c in product(range(d), repeat=2)
    }
    cells = A.reshape(-1, d, d)
    local = sum(cells[:, a, c, None, None] * blocks[a, c] for a, c in blocks)
    rows = np.repeat(level.element_nodes, 2**d, axis=1).ravel()
    columns = np.tile(level.element_nodes, (1, 2**d)).ravel()
    K = sp.csr_matrix((local.ravel(), (rows, columns)), shape=(b.size,) * 2)
    u = np.where(level.active_nodes, np.where(level.fixed_nodes, g, 0.0), np.nan).ravel()
    free = level.free_nodes.ravel()
    u[free] = spsolve(K[free][:, free].tocsc(), (b.ravel() - K @ np.nan_to_num(u))[free])
    return u.reshape(grid.fine_node_shape)


def load_of_cells(f: np.ndarray) -> np.ndarray:
    """∫ f Λ_i for f constant on cells: an equal share to each corner."""
    d, n = f.ndim, len(f)  # of the unit cube
    b = np.zeros((n + 1,) * d)
    for offset in product((0, 1), repeat=d):
        b[tuple(slice(o, o + n) for o in offset)] += f / (2 * n) ** d
    return b


def rough(grid: Grid, seed: int) -> np.ndarray:
    return np.exp(1.5 * np.random.default_rng(seed).standard_normal(grid.coefficient_shape))


def rough_matrices(grid: Grid, seed: int) -> np.ndarray:
    factor = np.random.default_rng(seed).standard_normal((*grid.coefficient_shape, grid.dim, grid.dim))
    return factor @ np.swapaxes(factor, -1, -2) + 0.1 * np.eye(grid.dim)


GRIDS = [Grid(1, 4, 48, 1, 16), Grid(2, 2, 24, 1, 8), Grid(3, 2, 8, 1, 4)]


@pytest.mark.parametrize("sizes", [(1, 8, 16, 32, 64), (2, 8, 16, 32, 64), (3, 4, 8, 16)], ids=lambda s: f"{s[0]}d")
def test_second_order_convergence(sizes: tuple[int, ...]) -> None:
    d = sizes[0]

    def exact(x: np.ndarray) -> np.ndarray:
        return np.prod(np.sin(np.pi * x), axis=0)

    def source(x: np.ndarray) -> np.ndarray:  # −div(exp(x₁) ∇u)
        slope = np.pi * np.cos(np.pi * x[0]) * np.prod(np.sin(np.pi * x[1:]), axis=0)
        return np.exp(x[0]) * (d * np.pi**2 * exact(x) - slope)

    errors = []
    for n in sizes[1:]:
        midpoints = (np.arange(n) + 0.5) / n
        A = np.broadcast_to(np.exp(midpoints), (n,) * d)
        u = solve_fine(Grid(d, 1, n, 0), A, source).values()
        finer = Grid(d, n, 4 * n, 0)
        nodes = np.stack(np.meshgrid(*(np.linspace(0, 1, 4 * n + 1),) * d, indexing="ij")[::-1])
        errors.append(l2_norm(prolong(finer, u) - exact(nodes)))
    rate = -np.polyfit(np.log(sizes[1:]), np.log(errors), 1)[0]
    assert rate == pytest.approx(2, abs=0.1)
    assert errors[-1] < 0.02 * np.sqrt(0.5) ** d


@pytest.mark.parametrize("kind", [rough, rough_matrices])
@pytest.mark.parametrize("grid", GRIDS, ids=lambda g: f"{g.dim}d")
def test_agrees_with_independent_assembly(grid: Grid, kind) -> None:
    A = kind(grid, 3)
    f = np.random.default_rng(4).standard_normal(grid.fine_shape)
    u = solve_fine(grid, A, f).values()
    assert u.shape == grid.fine_node_shape
    assert relative_l2(u, direct_solve(grid, A, load_of_cells(f))) < SOLVED
    for axis in range(grid.dim):
        assert not np.take(u, [0, -1], axis).any()


@pytest.mark.parametrize("grid", GRIDS, ids=lambda g: f"{g.dim}d")
def test_without_hypre(grid: Grid, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fem, "_HYPRE", False)
    A = rough(grid, 5)
    reference = direct_solve(grid, A, load_of_cells(np.ones(grid.fine_shape)))
    with FineSolver(grid) as solver:
        solver.solve(rough(grid, 6))
        assert relative_l2(solver.solve(A).values(), reference) < SOLVED


@pytest.mark.parametrize("grid", GRIDS, ids=lambda g: f"{g.dim}d")
def test_forms_of_the_source(grid: Grid) -> None:
    A = rough(grid, 7)
    with FineSolver(grid) as solver:
        number = solver.solve(A, 2).values()
        for same in (np.full(grid.fine_shape, 2), lambda x: 2.0, lambda x: 2 + 0 * x[0]):
            assert relative_l2(solver.solve(A, same).values(), number) < SOLVED
        assert not solver.solve(A, 0.0).values().any()


def test_function_source_is_integrated_exactly_up_to_degree_three() -> None:
    grid = Grid(2, 2, 12, 1, 6)
    A = rough(grid, 8)
    # f(x, y) = x y²: ∫ f Λ_i is a product of one-dimensional integrals, here by five Gauss points a cell.
    point, weight = np.polynomial.legendre.leggauss(5)
    n = grid.fine[0]
    t = (np.arange(n)[:, None] + 0.5 + point / 2).ravel() / n
    w = np.tile(weight / 2 / n, n)
    hats = np.clip(1 - np.abs(t * n - np.arange(n + 1)[:, None]), 0, None)
    b = np.outer(hats @ (w * t**2), hats @ (w * t))
    u = solve_fine(grid, A, lambda x: x[0] * x[1] ** 2).values()
    assert relative_l2(u, direct_solve(grid, A, b)) < SOLVED


def test_solutions_do_not_depend_on_what_was_solved_before() -> None:
    grid = GRIDS[1]
    A, other = rough(grid, 9), rough_matrices(grid, 10)
    with FineSolver(grid) as solver:
        first = solver.solve(A)
        before = first.values()
        solver.solve(other)
        again = solver.solve(A).values()
    np.testing.assert_array_equal(first.values(), before)
    np.testing.assert_allclose(again, before, rtol=0, atol=1e-14)
    with pytest.raises(InputError, match="destroyed"):
        solver.solve(A)
    solver.destroy()


def test_function_holds_the_solution() -> None:
    grid = GRIDS[1]
    solution = solve_fine(grid, rough(grid, 11))
    nodes = np.rint(solution.function.function_space.tabulate_dof_coordinates() * grid.fine[0]).astype(int)
    np.testing.assert_array_equal(solution.function.x.array, solution.values()[nodes[:, 1], nodes[:, 0]])
    assert 0 < solution.iterations < 30


def test_memory_stays_constant() -> None:
    grid = Grid(2, 4, 32, 1, 16)
    rng = np.random.default_rng(12)

    def solve(times: int) -> int:
        for _ in range(times):
            solver.solve(np.exp(rng.standard_normal(grid.coefficient_shape))).values()
        return psutil.Process().memory_info().rss

    with FineSolver(grid) as solver:
        before = solve(30)
        assert solve(200) - before < 2**20  # a leaked vector a solve would be 1.7 MB, a leaked matrix 15


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda A: A[:-1], "A must have shape"),
        (lambda A: np.where(A == A.max(), np.nan, A), "A must be finite"),
        (lambda A: -A, "A must be positive"),
        (lambda A: "rough", "A must be an array of real numbers"),
    ],
)
def test_bad_coefficient(change, message: str) -> None:
    grid = GRIDS[1]
    with pytest.raises(InputError, match=message):
        solve_fine(grid, change(rough(grid, 13)))


@pytest.mark.parametrize(
    ("f", "message"),
    [
        (np.ones(5), "f must be a number"),
        (1j, "f must be a number"),
        (np.inf, "f must be finite"),
        (None, "f must be a number"),
        (lambda x: x, "f must return one real value per point"),
        (lambda x: np.full(x.shape[1], np.nan), "f must be finite"),
    ],
)
def test_bad_source(f, message: str) -> None:
    grid = GRIDS[1]
    with pytest.raises(InputError, match=message):
        solve_fine(grid, rough(grid, 14), f)


def test_failure_to_converge_is_an_error() -> None:
    options = PETSc.Options("nnlod_fine_")
    options.setValue("ksp_max_it", 1)
    try:
        with pytest.raises(NumericalError, match="did not converge"):
            solve_fine(GRIDS[1], rough(GRIDS[1], 15))
    finally:
        options.delValue("ksp_max_it")
