"""Functionals: exact weights, outflows that balance the sources, names of faces."""

from __future__ import annotations

from itertools import chain, combinations
from types import SimpleNamespace

import numpy as np
import pytest

from nnlod_fenics import Grid, InputError
from nnlod_fenics.domain import faces_of
from nnlod_fenics.functionals import (
    BoxAverage,
    Outflow,
    PointValue,
    check_functional,
    face_outflow,
    face_weights,
    given_outflow,
    parse_face,
    parse_functionals,
)
from nnlod_fenics.loads import fine_load
from nnlod_fenics.problem import Problem

ACTIVE = np.array([[True, True, True], [True, False, True]])
PART = Grid(2, (3, 2), (12, 8), 1, (6, 4), (3.0, 0.5), ["xmin", "xmax"], ACTIVE)


def values_on(grid: Grid, function) -> np.ndarray:
    """Values at the nodes of T_h in D, NaN at the others."""
    axes = [np.linspace(0, length, n + 1) for length, n in zip(grid.lengths, grid.fine, strict=True)]
    values = function(np.stack(np.meshgrid(*axes[::-1], indexing="ij")[::-1]))
    return np.where(grid.at_fine_scale.active_nodes, values, np.nan)


# -- points and averages -----------------------------------------------------------------------------


def test_weights_are_exact_for_multilinear_functions() -> None:
    grid = Grid(2, 5, 5, 0)
    x, y = np.meshgrid(*(np.linspace(0, 1, 6),) * 2)
    u = (1 + 2 * x + 3 * y + 4 * x * y).ravel()
    assert PointValue((0.3, 0.77)).weights(grid) @ u == pytest.approx(1 + 0.6 + 2.31 + 4 * 0.231)
    box = BoxAverage((0.1, 0.25), (0.75, 1.0))
    a, b = (0.1 + 0.75) / 2, (0.25 + 1) / 2
    assert box.weights(grid) @ u == pytest.approx(1 + 2 * a + 3 * b + 4 * a * b)


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_weights_on_boxes(dim: int) -> None:
    lengths, coarse = (3.0, 0.5, 2.0)[:dim], (3, 2, 4)[:dim]
    grid = Grid(dim, coarse, tuple(2 * n for n in coarse), 1, lengths=lengths)
    low, high = np.array([0.4, 0.1, 0.3])[:dim], np.array([2.9, 0.2, 2.0])[:dim]

    def multilinear(x: np.ndarray) -> np.ndarray:
        return np.prod([1 + (k + 1) * x[k] for k in range(dim)], axis=0)

    middle = (low + high) / 2  # the mean of a multilinear function over a box is its value in the middle
    for level in (grid, grid.at_fine_scale):
        axes = [np.linspace(0, a, n + 1) for a, n in zip(lengths, level.coarse, strict=True)]
        u = multilinear(np.stack(np.meshgrid(*axes[::-1], indexing="ij")[::-1])).ravel()
        assert BoxAverage(tuple(low), tuple(high)).weights(level) @ u == pytest.approx(multilinear(middle))
        assert PointValue(tuple(middle)).weights(level) @ u == pytest.approx(multilinear(middle))
        assert PointValue(lengths).weights(level) @ u == pytest.approx(multilinear(np.array(lengths)))


def test_values_and_averages_on_a_part_of_a_box() -> None:
    solution = SimpleNamespace(grid=PART, u=values_on(PART, lambda x: 1 + x[0] + 2 * x[1]))
    middles = [(i + 0.5) + (j + 0.5) / 2 for j in range(2) for i in range(3) if ACTIVE[j, i]]
    assert BoxAverage((0.0, 0.0), (3.0, 0.5))(solution) == pytest.approx(1 + np.mean(middles))
    assert BoxAverage((0.5, 0.25), (1.7, 0.5))(solution) == pytest.approx(1 + 0.75 + 2 * 0.375)  # of x < 1 only
    for point in ((1.0, 0.25), (1.5, 0.25), (2.0, 0.25), (1.5, 0.1), (0.0, 0.5)):  # also at the rim of a hole
        PointValue(point).check(PART)
        assert PointValue(point)(solution) == pytest.approx(1 + point[0] + 2 * point[1])


@pytest.mark.parametrize(
    ("functional", "message"),
    [
        (PointValue((0.5,)), "must have 2 coordinates in D"),
        (PointValue((0.5, 0.6)), r"coordinates in D, whose sides are \(3.0, 0.5\)"),
        (PointValue((1.5, 0.4)), "this point is in an inactive element"),
        (BoxAverage((0.0, 0.2), (1.0, 0.2)), "must have 2 intervals of positive length"),
        (BoxAverage((0.0,), (1.0,)), "must have 2 intervals"),
        (BoxAverage((0.0, 0.0), (3.1, 0.2)), "must have 2 intervals"),
        (BoxAverage((1.2, 0.3), (1.8, 0.4)), "must be over a box in D"),
        (Outflow("zmin"), r"functional outflow\(zmin\) must name a face of D, one of \('xmin', .*"),
        (Outflow("x=2"), r"functional outflow\(x=2\) must name a face"),
        ("point(0.5, 0.5)", "must be a PointValue, BoxAverage or Outflow"),
    ],
)
def test_functionals_that_do_not_fit(functional, message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_functional("name", functional, PART)


def test_functionals_from_text() -> None:
    named = parse_functionals(["outflow(xmax)", "left = outflow( x = 0 )", "point(2.5, 0.25)"])
    assert list(named) == ["outflow(xmax)", "left", "point(2.5, 0.25)"]
    for functional in named.values():
        functional.check(PART)
    assert [parse_face(PART, named[name].face) for name in list(named)[:2]] == ["xmax", "xmin"]
    solution = SimpleNamespace(outflow=lambda face: {"xmax": 3.0, "x=0": 4.0}[face])
    assert named["outflow(xmax)"](solution) == 3.0 and named["left"](solution) == 4.0


# -- outflows ----------------------------------------------------------------------------------------


def combinations_of_faces(dim: int) -> list[tuple[str, ...]]:
    faces = faces_of(dim)
    return list(chain.from_iterable(combinations(faces, k) for k in range(1, len(faces) + 1)))


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_weights_of_faces_sum_to_one_at_each_node_with_given_u(dim: int) -> None:
    active = np.ones((2,) * dim, dtype=bool)
    if dim > 1:
        active[(0,) * dim] = False
    for dirichlet in combinations_of_faces(dim):
        grid = Grid(dim, 2, 6, 1, dirichlet=dirichlet, active=active)
        for level in (grid, grid.at_fine_scale):
            total = sum(face_weights(face, level) for face in dirichlet)
            np.testing.assert_allclose(total, level.fixed_nodes.ravel(), atol=1e-15)


def outflows(grid: Grid, A: np.ndarray, problem: Problem, u: np.ndarray) -> dict[str, float]:
    load = fine_load(grid, problem)
    return {
        face: face_outflow(face, grid, u, A, load) if face in grid.dirichlet else given_outflow(grid, problem, face)
        for face in faces_of(grid.dim)
    }


def solver(grid: Grid):
    pytest.importorskip("dolfinx")
    from nnlod_fenics.fem import FineSolver

    return FineSolver(grid)


@pytest.fixture
def exact():
    """Solutions of the fine system to the last digits, as theorems want them."""
    pytest.importorskip("dolfinx")
    from petsc4py import PETSc

    options = PETSc.Options("nnlod_fine_")
    options.setValue("ksp_rtol", 1e-14)
    yield
    options.delValue("ksp_rtol")


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_outflows_balance_the_sources(dim: int, exact, rng) -> None:
    coarse = (3, 4, 3)[:dim]
    active = np.ones(coarse[::-1], dtype=bool)
    if dim > 1:
        active[(1,) * dim] = active[(0,) * dim] = False  # a hole and a corner
    lengths, faces = (1.5, 0.8, 2.0)[:dim], combinations_of_faces(dim)
    for dirichlet in faces if dim < 3 else faces[::13]:
        grid = Grid(dim, coarse, tuple(4 * n for n in coarse), 1, None, lengths, dirichlet, active)
        A = np.exp(rng.standard_normal(grid.coefficient_shape))
        matrices = A[..., None, None] * (np.eye(dim) + 0.4)
        wells = [(np.array([0.7, 0.3, 0.3])[:dim] * lengths, -0.4)]
        flux = {face: lambda x: np.cos(x.sum(axis=0)) for face in faces_of(dim) if face not in dirichlet}
        f = np.where(grid.active_cells, rng.standard_normal(grid.fine_shape), np.nan)
        problem = Problem(f, wells, lambda x: x[0] + 2, flux)
        sources = np.nansum(f) * np.prod(grid.fine_widths) - 0.4
        with solver(grid) as method:
            for coefficient in (A, matrices):
                found = outflows(grid, coefficient, problem, method.solve(coefficient, problem).values())
                assert abs(sum(found.values()) - sources) < 1e-10 * sum(map(abs, found.values())), dirichlet


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_outflows_have_the_sign_and_size_of_the_flow(dim: int, exact) -> None:
    """u linear: −A ∇u·n times the area of the face, on each face with all others with or without given u."""
    lengths, slope = np.array([1.5, 0.8, 2.0])[:dim], np.array([1.0, -2.0, 0.5])[:dim]
    factor = np.tril(np.full((dim, dim), 0.5)) + np.eye(dim)
    matrix = factor @ factor.T
    normal = {face: (1 if face.endswith("max") else -1) * np.eye(dim)["xyz".index(face[0])] for face in faces_of(dim)}
    flow = {face: float(n @ matrix @ slope) for face, n in normal.items()}
    area = {face: np.prod(lengths) / lengths["xyz".index(face[0])] for face in normal}
    for dirichlet in (faces_of(dim), ("xmin",), ("xmax",), faces_of(dim)[-1:]):
        coarse = (3, 2, 2)[:dim]
        grid = Grid(dim, coarse, tuple(3 * n for n in coarse), 1, lengths=lengths, dirichlet=dirichlet)
        flux = {face: flow[face] for face in normal if face not in dirichlet}
        problem = Problem(0.0, g=lambda x: slope @ x, flux=flux)
        A = np.broadcast_to(matrix, (*grid.coefficient_shape, dim, dim))
        with solver(grid) as method:
            found = outflows(grid, A, problem, method.solve(A, problem).values())
        for face, value in found.items():
            # A face shares the residual at its edges with the faces that it meets there; alone it has all of it.
            edges = 0.5 / min(grid.fine) * sum(abs(flow[name]) * area[name] for name in flow)
            size = 1e-10 if len(dirichlet) == 1 else edges
            assert value == pytest.approx(-flow[face] * area[face], abs=size), (face, dirichlet)


def test_outflows_leave_through_the_right_face(exact) -> None:
    """f in an eighth of the box at one face: most leaves there."""
    for face in faces_of(2):
        grid = Grid(2, (6, 4), (24, 16), 1, lengths=(1.5, 1.0))
        f = np.zeros(grid.fine_shape)
        if face[0] == "x":
            f[:, -3:] = 1.0
        else:
            f[-2:] = 1.0
        f = f if face.endswith("max") else f[::-1, ::-1]
        problem = Problem(f)
        with solver(grid) as method:
            found = outflows(grid, np.ones(grid.coefficient_shape), problem, method.solve(np.ones(f.shape), f).values())
        assert max(found, key=lambda name: found[name]) == face and min(found.values()) > 0


def test_faces_without_elements_of_the_domain(exact) -> None:
    active = np.array([[True, True, False]] * 3)
    grid = Grid(2, 3, 12, 1, dirichlet=["xmin", "xmax"], active=active)
    problem = Problem(1.0)
    with solver(grid) as method:
        found = outflows(grid, np.ones((12, 12)), problem, method.solve(np.ones((12, 12)), problem).values())
    assert found["xmin"] == pytest.approx(2 / 3) and found["xmax"] == found["ymin"] == found["ymax"] == 0
