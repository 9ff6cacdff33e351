"""The data of a problem: what is accepted, what is refused in one sentence, and the loads that follow."""

from __future__ import annotations

import numpy as np
import pytest

from nnlod_fenics import Grid, InputError, local_matrices, solve
from nnlod_fenics.loads import element_loads, fine_load, load_vector
from nnlod_fenics.problem import Problem, boundary_values, check_problem, place_wells

HOLE = np.ones((3, 4), dtype=bool)
HOLE[1, 2] = False
BOX = Grid(2, (4, 3), (16, 12), 1, (8, 6), lengths=(2.0, 1.5), dirichlet=["xmin", "xmax"], active=HOLE)
LINE = Grid(1, 4, 8, 1, lengths=3.0, dirichlet=["xmin"])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"wells": [((1.25, 0.75), 1.0)]}, r"wells must lie in D, got one at \(1.25, 0.75\), which is in an inactive"),
        ({"wells": [((2.5, 0.75), 1.0)]}, r"wells must lie in D, whose sides are \(2.0, 1.5\) \(x first\), got one at"),
        ({"wells": [((1.0,), 1.0)]}, "wells must have points of 2 finite coordinates and finite rates"),
        ({"wells": [((1.0, 0.2), np.nan)]}, "wells must have points of 2 finite coordinates and finite rates"),
        ({"wells": [(0.5, 0.5)]}, r"wells must be pairs of a point \(x first\) and a rate"),
        ({"wells": [((0.01, 0.5), 1.0)]}, "wells must lie away from faces with u given, where they have no effect"),
        ({"g": {"ymin": 1.0}}, r"g must be given on faces with u given \(dirichlet\) only, .* got face 'ymin'"),
        ({"g": {"top": 1.0}}, "g must name faces out of .* got 'top'"),
        ({"g": np.nan}, "g must be finite, got nan"),
        ({"g": lambda x: x[0] + np.inf}, "g must be finite, got NaN or infinite"),
        ({"g": lambda x: x}, "g must return one real value per point"),
        ({"g": "1"}, "g must be a number, a function of points or a table .* got str"),
        ({"g": {"xmin": None}}, "g must be a number, a function .* got NoneType for face 'xmin'"),
        ({"flux": {"xmin": 1.0}}, "flux must be given on no-flow faces only, .* got face 'xmin'"),
        ({"flux": {"zmax": 1.0}}, "flux must name faces out of .* got 'zmax'"),
        ({"flux": np.inf}, "flux must be finite, got inf"),
        ({"f": np.ones((3, 3))}, r"f must be a number, .* shape \(12, 16\)"),
    ],
)
@pytest.mark.parametrize("method", ["lod", "fem"])
def test_bad_data_is_refused_in_one_sentence(data, message, method):
    with pytest.raises(InputError, match=message) as caught:
        solve(BOX, np.ones(BOX.coefficient_shape), method, **data)
    assert "\n" not in str(caught.value)


def test_options_of_the_wrong_kind():
    A = np.ones(BOX.coefficient_shape)
    for name, value in (("source_correctors", "yes"), ("reconstruct", 2)):
        with pytest.raises(InputError, match=f"{name} must be True or False, got {value!r}"):
            solve(BOX, A, **{name: value})
    with pytest.raises(InputError, match="source must be a Problem, got int"):
        local_matrices(BOX, A, source=3)


def test_a_flux_needs_a_face_for_it():
    with pytest.raises(InputError, match="flux must be 0 where u is given on all faces of D, got 1"):
        check_problem(Grid(2, 4, 8, 1), Problem(flux=1))
    check_problem(Grid(2, 4, 8, 1), Problem(flux=0))


def test_what_stands_in_inactive_elements_does_not_count():
    rng = np.random.default_rng(0)
    A = np.exp(rng.standard_normal(BOX.coefficient_shape))
    others = [np.where(BOX.active_cells, A, value) for value in (0.0, -1.0, np.nan, 1e300)]
    f = rng.random(BOX.fine_shape)
    strange = np.where(BOX.at_fine_scale.active, f, np.nan)
    for method in ("lod", "fem"):
        expected = solve(BOX, A, method, f)
        for other in others:
            np.testing.assert_array_equal(solve(BOX, other, method, strange).u, expected.u)
    np.testing.assert_array_equal(local_matrices(BOX, np.stack(others)), local_matrices(BOX, np.stack([A] * 4)))
    with pytest.raises(InputError, match="A must be positive, got values down to -1"):
        local_matrices(BOX, -np.ones(BOX.coefficient_shape))


def test_loads_are_exact_for_linear_data():
    """Moments of sources, fluxes and wells against the fine and the coarse hats, which sum to 1 and to x."""
    problem = Problem(lambda x: 1 + x[1], [((0.49, 0.26), 0.3)], flux={"ymin": 2.0, "ymax": lambda x: x[0]})
    x, y = (np.linspace(0, side, n + 1) for side, n in zip(BOX.lengths, BOX.fine, strict=True))
    hole = 0.5 * 0.5 * (1 + 0.75)  # ∫ 1 + y over it
    total = 2 * (1.5 + 1.5**2 / 2) - hole + 0.3 + 2 * 2 + 2
    fine, coarse = fine_load(BOX, problem), load_vector(BOX, problem)
    assert fine.sum() == pytest.approx(total) and coarse.sum() == pytest.approx(total)
    moment = (1.5 + 1.5**2 / 2) * 2 - hole * 1.25 + 0.3 * 0.5 + 2 * 2 + 8 / 3  # the well's node is at x = 0.5
    assert (fine @ x).sum() == pytest.approx(moment)
    assert (coarse @ x[::4]).sum() == pytest.approx(moment)
    assert y[::4] @ coarse.sum(axis=1) == pytest.approx(y @ fine.sum(axis=1))
    loads = element_loads(BOX, problem)
    assert not loads[6].any() and loads.sum() == pytest.approx(total)
    np.testing.assert_array_equal(element_loads(BOX, problem, np.array([5, 1])), loads[[5, 1]])


def test_wells_belong_to_one_element():
    wells = place_wells(BOX, [((1.0, 0.5), 1.0), ((1.5, 0.75), 2.0), ((0.98, 0.6), 1.0)])
    assert [well.element for well in wells] == [1, 7, 5]  # at the edge of the hole the first active one
    assert [well.node for well in wells] == [(8, 4), (12, 6), (8, 5)]


def test_given_values():
    values = boundary_values(BOX, {"xmin": 1.0, "xmax": lambda x: x[1]})
    np.testing.assert_allclose(values[:, 0], 1.0)
    np.testing.assert_allclose(values[:, -1], [0, 0.5, 1.0, 1.5])
    assert not values[:, 1:-1].any()
    whole = Grid(2, 2, 4, 1)
    assert boundary_values(whole, {"xmin": 1.0, "ymin": 2.0})[0, 0] == 2.0  # the one named last
    assert boundary_values(whole, {"ymin": 2.0, "xmin": 1.0})[0, 0] == 1.0


def test_exact_solutions_in_one_dimension():
    """−u'' = 0 with u(0) = 2 and flux q at the end: u = 2 + q x / A; a well adds a kink."""
    found = solve(LINE, np.full(8, 4.0), "fem", 0.0, g=2.0, flux=1.0, wells=[((1.5,), 3.0)])
    x = np.linspace(0, 3, 9)
    np.testing.assert_allclose(found.u, 2 + x / 4 + 3 / 4 * np.minimum(x, 1.5), rtol=1e-11)
    assert found.outflow("xmin") == pytest.approx(4.0) and found.outflow("xmax") == pytest.approx(-1.0)
