"""The fine-scale solver on boxes with inactive elements, given values, fluxes and wells: known answers and theorems."""

from __future__ import annotations

from itertools import chain, combinations

import numpy as np
import pytest
from domains import NAMES, load_domain

from nnlod_fenics import Grid, InputError, NumericalError
from nnlod_fenics.domain import faces_of
from nnlod_fenics.loads import fine_load
from nnlod_fenics.norms import l2_norm, prolong
from nnlod_fenics.problem import Problem, boundary_values

pytest.importorskip("dolfinx")

import ufl
from dolfinx import fem as dolfinx_fem
from test_fem import direct_solve

from nnlod_fenics import fem
from nnlod_fenics.fem import FineSolver, nodal_function, solve_fine

SOLVED = 1e-8  # see test_fem.py


def combinations_of_faces(dim: int) -> list[tuple[str, ...]]:
    faces = faces_of(dim)
    return list(chain.from_iterable(combinations(faces, k) for k in range(1, len(faces) + 1)))


def hole(coarse: tuple[int, ...], *elements: tuple[int, ...]) -> np.ndarray:
    """All elements of a box but some, given x first, active."""
    active = np.ones(coarse[::-1], dtype=bool)
    for element in elements:
        active[element[::-1]] = False
    return active


def points(grid: Grid) -> np.ndarray:
    """Fine nodes, x first, shape ``(d, *fine_node_shape)``."""
    axes = [np.linspace(0, length, n + 1) for length, n in zip(grid.lengths, grid.fine, strict=True)]
    return np.stack(np.meshgrid(*axes[::-1], indexing="ij")[::-1])


def rough(grid: Grid, seed: int, spread: float = 1.5) -> np.ndarray:
    return np.exp(spread * np.random.default_rng(seed).standard_normal(grid.coefficient_shape))


def close(u: np.ndarray, v: np.ndarray) -> float:
    """Largest difference, relative to the largest value; infinite if one is NaN where the other is not."""
    if not np.array_equal(np.isnan(u), np.isnan(v)):
        return np.inf
    return float(np.nanmax(np.abs(u - v)) / np.nanmax(np.abs(v)))


DOMAINS = [
    Grid(1, 5, 20, 1, 10, lengths=2.5, dirichlet=["xmax"]),
    Grid(2, (5, 4), (20, 16), 1, (10, 8), (2.0, 0.7), ["xmin", "ymax"], hole((5, 4), (1, 1), (2, 1), (4, 0))),
    Grid(3, (3, 2, 2), (9, 6, 6), 1, None, (1.0, 2.0, 0.5), ["ymin", "zmax"], hole((3, 2, 2), (1, 1, 0))),
]


def everything(grid: Grid) -> Problem:
    """A problem with data of all kinds."""
    faces = [face for face in faces_of(grid.dim) if face not in grid.dirichlet]
    flux = {faces[0]: -0.7} | {face: lambda x: np.cos(3 * x.sum(axis=0)) for face in faces[1:]}
    wells = [(np.asarray(grid.lengths) * (0.25, 0.6, 0.6)[: grid.dim], 0.4)] * 2
    return Problem(lambda x: 1 + x[0] ** 2, wells, lambda x: 2 + np.sin(x.sum(axis=0)), flux)


@pytest.mark.parametrize("name", NAMES)
def test_known_answers(name: str) -> None:
    grid, A, problem, data = load_domain(name)
    u = solve_fine(grid, A, problem).values()
    assert close(u, data["u_fem"].reshape(u.shape)) < 1e-9


@pytest.mark.parametrize("hypre", [True, False])
@pytest.mark.parametrize("kind", ["scalar", "matrices"])
@pytest.mark.parametrize("grid", DOMAINS, ids=lambda g: f"{g.dim}d")
def test_agrees_with_independent_assembly(grid: Grid, kind: str, hypre: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fem, "_HYPRE", hypre and fem._HYPRE)
    A = rough(grid, 1)
    if kind == "matrices":
        factor = np.random.default_rng(2).standard_normal((*A.shape, grid.dim, grid.dim))
        A = factor @ np.swapaxes(factor, -1, -2) + 0.1 * np.eye(grid.dim)
    problem = everything(grid)
    reference = direct_solve(grid, A, fine_load(grid, problem), boundary_values(grid.at_fine_scale, problem.g))
    A[~grid.active_cells] = np.nan  # what stands there does not count
    with FineSolver(grid) as solver:
        assert close(solver.solve(A, problem).values(), reference) < SOLVED
        zero = solver.solve(A, 0.0).values()  # nothing is left of the other problem
        np.testing.assert_array_equal(zero, np.where(grid.at_fine_scale.active_nodes, 0.0, np.nan))


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_linear_functions_are_reproduced(dim: int) -> None:
    coarse = (3, 2, 2)[:dim]
    rng = np.random.default_rng(dim)
    factor, slope = rng.standard_normal((dim, dim)), rng.standard_normal(dim)
    matrix = factor @ factor.T + np.eye(dim)
    flow = matrix @ slope
    faces = combinations_of_faces(dim)
    for dirichlet in faces if dim < 3 else faces[::9]:
        grid = Grid(dim, coarse, tuple(3 * n for n in coarse), 1, lengths=(2.0, 0.5, 3.0)[:dim], dirichlet=dirichlet)
        A = np.broadcast_to(matrix, (*grid.coefficient_shape, dim, dim))
        flux = {
            face: flow["xyz".index(face[0])] * (1 if face.endswith("max") else -1)
            for face in faces_of(dim)
            if face not in dirichlet
        }
        problem = Problem(0.0, g=lambda x: 3 + slope @ x, flux=flux)
        u = solve_fine(grid, A, problem).values()
        assert close(u, 3 + np.tensordot(slope, points(grid), axes=1)) < SOLVED, dirichlet


def test_one_dimension_is_exact_at_the_nodes() -> None:
    # −2 u″ = 3, u(0) = 5, 2 u′(4) = q and a well at 1: u = 5 + s x − 3/4 x², less the well's bend beyond 1.
    grid = Grid(1, 4, 16, 1, lengths=4.0, dirichlet=["xmin"])
    u = solve_fine(grid, np.full(16, 2.0), Problem(3.0, [((1.0,), 0.5)], 5.0, -0.25)).values()
    x = np.linspace(0, 4, 17)
    exact = 5 + (-0.25 + 12) / 2 * x - 0.75 * x**2 + 0.25 * np.minimum(x, 1)
    np.testing.assert_allclose(u, exact, rtol=1e-10)
    given = {"xmin": lambda x: 5 + x[0], "xmax": -1.0}  # a function is evaluated at the face
    turned = Grid(1, 4, 16, 1, lengths=4.0, dirichlet=["xmax"])
    same = solve_fine(turned, np.ones(16), Problem(0.0, g=-1.0, flux={"xmin": given["xmin"]})).values()
    np.testing.assert_allclose(same, -1 + 5 * (4 - x), rtol=1e-10)


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_a_no_flow_face_is_half_of_the_reflected_problem(dim: int) -> None:
    coarse = (3, 4, 2)[:dim]
    active = hole(coarse, (1, 1, 0)[:dim]) if dim > 1 else None
    half = Grid(dim, coarse, tuple(4 * n for n in coarse), 1, None, 1.5, ["xmax"], active)
    double = (6, *coarse[1:])
    whole = Grid(
        dim,
        double,
        tuple(4 * n for n in double),
        1,
        lengths=(3.0, 1.5, 1.5)[:dim],
        dirichlet=["xmin", "xmax"],
        active=None if active is None else np.concatenate([active[..., ::-1], active], axis=-1),
    )
    A, at = rough(half, 3), (0.5, 0.3, 0.3)
    wells = [(at[:dim], 1.0)]
    both = [((1.5 + s * at[0], *at[1:dim]), 1.0) for s in (1, -1)]
    u = solve_fine(half, A, Problem(1.0, wells, 2.0)).values()
    v = solve_fine(whole, np.concatenate([A[..., ::-1], A], axis=-1), Problem(1.0, both, 2.0)).values()
    assert close(v[..., 12:], u) < SOLVED
    assert close(v[..., 12::-1], u) < SOLVED


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_a_box_is_the_pulled_back_unit_cube(dim: int) -> None:
    lengths, n = np.array([2.0, 0.3, 1.4][:dim]), 6
    dirichlet, active = ["xmax"], hole((3,) * dim, (1,) * dim) if dim > 1 else None
    box, cube = (Grid(dim, 3, n, 1, lengths=sides, dirichlet=dirichlet, active=active) for sides in (lengths, None))
    A, volume, at = rough(box, 4), lengths.prod(), np.array([0.2, 0.8, 0.4][:dim])
    pulled = A[..., None, None] * np.diag(volume / lengths**2)
    on_box = Problem(lambda x: 1 + x[0], [(at * lengths, 2.0)], lambda x: x.sum(axis=0), {"xmin": 0.5})
    on_cube = Problem(
        lambda x: volume * (1 + lengths[0] * x[0]),
        [(at, 2.0)],
        lambda x: lengths @ x,
        {"xmin": 0.5 * volume / lengths[0]},
    )
    u, v = solve_fine(box, A, on_box).values(), solve_fine(cube, pulled, on_cube).values()
    assert close(u, v) < SOLVED


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_second_order_convergence_with_given_values_and_fluxes(dim: int) -> None:
    """u = Π cos(x_k + k) with A = exp(x₁) on a box that is no cube, g and q functions."""
    lengths = (1.5, 0.8, 1.0)[:dim]
    shift = np.arange(dim)[:, None]

    def exact(x: np.ndarray) -> np.ndarray:
        return np.prod([np.cos(x[k] + k) for k in range(dim)], axis=0)

    def slope(x: np.ndarray, axis: int) -> np.ndarray:
        return -exact(x) * np.tan(x + shift)[axis]

    def source(x: np.ndarray) -> np.ndarray:
        return np.exp(x[0]) * (dim * exact(x) - slope(x, 0))

    flux = {"xmin": lambda x: -np.exp(x[0]) * slope(x, 0)}
    if dim > 1:
        flux["ymax"] = lambda x: np.exp(x[0]) * slope(x, 1)
    errors, sizes = [], (4, 8, 16, 32) if dim < 3 else (4, 8, 12)
    for n in sizes:
        coarse = (n, n // 2, n // 2)[:dim]
        grid = Grid(dim, coarse, coarse, 0, None, lengths, [face for face in faces_of(dim) if face not in flux])
        A = np.broadcast_to(np.exp((np.arange(n) + 0.5) * lengths[0] / n), grid.coefficient_shape)
        u = solve_fine(grid, A, Problem(source, g=exact, flux=flux)).values()
        finer = Grid(dim, coarse, tuple(4 * k for k in coarse), 0, None, lengths)
        errors.append(l2_norm(prolong(finer, u) - exact(points(finer)), finer))
    assert -np.polyfit(np.log(sizes), np.log(errors), 1)[0] == pytest.approx(2, abs=0.15)
    assert errors[-1] < 0.05 / sizes[-1]


def test_powers_of_two_change_no_digit() -> None:
    grid = DOMAINS[1]
    A, many = rough(grid, 5), 2.0**300
    flux = {"xmax": lambda x: scale * x[1], "ymin": lambda x: 0 * x[0]}

    def solution(a: float, load: float, g: float) -> np.ndarray:
        nonlocal scale
        scale = load
        problem = Problem(load * 3.0, [((1.0, 0.6), load)], lambda x: g * (1 + x[0]), flux)
        return solver.solve(a * A, problem).values()

    scale = 1.0
    with FineSolver(grid) as solver:
        u = solution(1.0, 1.0, 1.0)
        for factor in (many, 1 / many):
            np.testing.assert_array_equal(solution(factor, factor, 1.0), u)
            np.testing.assert_array_equal(solution(1.0, factor, factor), factor * u)
            np.testing.assert_array_equal(solution(factor, 1.0, 1 / factor), u / factor)
            np.testing.assert_array_equal(solution(factor, 0.0, 1.0), solution(1.0, 0.0, 1.0))
            np.testing.assert_array_equal(solution(factor, 1.0, 0.0), solution(1.0, 1.0, 0.0) / factor)
        # A alone: the part by the load shrinks until only that by g is left.
        np.testing.assert_array_equal(solution(many, 1.0, 1.0), solution(1.0, 0.0, 1.0))


@pytest.mark.skipif(not fem._HYPRE, reason="GAMG does not converge at such contrasts")
@pytest.mark.parametrize("contrast", [1e4, 1e10])
def test_high_contrast(contrast: float) -> None:
    grid = Grid(2, 8, 64, 1, None, (5.0, 1.0), ["xmin"], hole((8, 8), (3, 3), (3, 4), (4, 3), (7, 7)))
    A = np.where(np.random.default_rng(6).random(grid.coefficient_shape) < 0.3, contrast, 1.0) * 1e-12
    reference = direct_solve(grid, A, fine_load(grid, Problem(0.0, flux={"xmax": 1e-12})))
    for base in (0.0, 1e6):  # what u is counted from
        u = solve_fine(grid, A, Problem(0.0, g=base, flux={"xmax": 1e-12})).values() - base
        # The entries of the matrix are rounded, to 1e-16 of the contrast: rows do not sum to zero any more.
        assert close(u, reference) < SOLVED + 1e-13 * contrast


def test_sources_are_asked_in_the_domain_only() -> None:
    grid = Grid(2, 3, 12, 1, active=hole((3, 3), (1, 1)))
    A, f = rough(grid, 7), np.ones(grid.fine_shape)
    f[4:8, 4:8] = np.nan

    def source(x: np.ndarray) -> np.ndarray:
        assert not np.all((x > 1 / 3) & (x < 2 / 3), axis=0).any()
        return np.ones(x.shape[1])

    with FineSolver(grid) as solver:
        u = solver.solve(A).values()
        assert np.isnan(u).sum() == 9
        for same in (f, source):
            assert close(solver.solve(A, same).values(), u) < SOLVED


@pytest.mark.parametrize("level", ["fine", "coarse"])
def test_functions_live_on_the_active_cells(level: str) -> None:
    grid = DOMAINS[1]
    u = solve_fine(grid, rough(grid, 8), everything(grid)).values()
    values = u if level == "fine" else u[:: grid.ratio, :: grid.ratio]
    function = nodal_function(values, "pressure", grid=grid)
    one = dolfinx_fem.form(dolfinx_fem.Constant(function.function_space.mesh, 1.0) * ufl.dx)
    area = dolfinx_fem.assemble_scalar(one)
    assert area == pytest.approx(grid.active.mean() * np.prod(grid.lengths))
    norm = dolfinx_fem.assemble_scalar(dolfinx_fem.form(function**2 * ufl.dx)) ** 0.5
    assert function.name == "pressure" and norm == pytest.approx(l2_norm(values, grid))
    with pytest.raises(InputError, match="u must have shape"):
        nodal_function(u[:-1], grid=grid)
    hurt = values.copy()
    hurt[0, 0] = np.nan
    with pytest.raises(InputError, match="u must be finite, got 1 NaN"):
        nodal_function(hurt, grid=grid)


@pytest.mark.parametrize(
    ("problem", "message"),
    [
        (Problem(np.inf), "f must be finite"),
        (Problem(g={"xmax": 1.0}), "g must be given on faces with u given"),
        (Problem(g=lambda x: x), "g must return one real value per point"),
        (Problem(flux={"ymax": 1.0}), "flux must be given on no-flow faces only"),
        (Problem(flux=lambda x: np.nan), "flux must be finite"),
        (Problem(wells=[((0.6, 0.3), 1.0)]), "in an inactive element"),
        (Problem(wells=[((9.0, 0.3), 1.0)]), "wells must lie in D"),
    ],
)
def test_bad_problems(problem: Problem, message: str) -> None:
    with pytest.raises(InputError, match=message):
        solve_fine(DOMAINS[1], rough(DOMAINS[1], 9), problem)


def test_failure_to_converge_names_the_mesh() -> None:
    from petsc4py import PETSc

    options = PETSc.Options("nnlod_fine_")
    options.setValue("ksp_max_it", 1)
    try:
        with pytest.raises(NumericalError, match="on 20 × 16 cells did not converge"):
            solve_fine(DOMAINS[1], rough(DOMAINS[1], 10))
    finally:
        options.delValue("ksp_max_it")
