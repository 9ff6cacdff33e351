"""What an estimate reports: bias of the network, norms of error fields, and the plan from a pilot run."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from problem import GRID, LevelLaw, wrong_model
from scipy.interpolate import RegularGridInterpolator
from scipy.optimize import minimize_scalar

from nnlod_fenics import Grid, solve
from nnlod_fenics.montecarlo import BoxAverage, MonteCarloSettings, monte_carlo
from nnlod_fenics.montecarlo.allocation import Costs, Plan, make_plan
from nnlod_fenics.montecarlo.estimate import Progress, make_estimate
from nnlod_fenics.montecarlo.estimators import Moments
from nnlod_fenics.runtime.streams import Stream

PLAIN, PAIRS = MonteCarloSettings(method="lod", samples=8), MonteCarloSettings(samples=200)


def norm_by_quadrature(values: np.ndarray) -> float:
    """L² norm over (0, 1)^d of the multilinear interpolant, by Gauss points of each cell."""
    n, d = values.shape[0] - 1, values.ndim
    nodes, weights = np.polynomial.legendre.leggauss(3)
    points = ((np.arange(n)[:, None] + (nodes + 1) / 2) / n).ravel()
    w = np.tile(weights / 2 / n, n)
    interpolant = RegularGridInterpolator([np.linspace(0, 1, n + 1)] * d, values)
    found = interpolant(np.array(list(itertools.product(points, repeat=d))))
    return float(np.sqrt(np.prod(list(itertools.product(w, repeat=d)), axis=1) @ found**2))


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_errors_of_fields_are_norms_on_the_domain(dim, rng):
    grid = Grid(dim, 3, 6, 1)
    values = rng.exponential(size=(8, 1, grid.num_nodes))
    found = make_estimate(Progress({"samples": Moments.of(values)}, {}, None), grid, PLAIN, [], "")
    nodal = grid.node_shape
    error = (values[:, 0].std(axis=0, ddof=1) / np.sqrt(8)).reshape(nodal)
    assert found.field_error == pytest.approx(norm_by_quadrature(error), rel=1e-12)
    assert found.width == found.field_error
    assert found.variance_field_error == pytest.approx(norm_by_quadrature(found.variance_standard_error), rel=1e-12)
    told = found.summary()
    assert told["mean field"]["norm"] == pytest.approx(norm_by_quadrature(values[:, 0].mean(axis=0).reshape(nodal)))
    assert told["mean field"]["standard error"] == found.field_error
    assert told["variance field"]["standard error"] == found.variance_field_error


def test_errors_of_fields_are_norms_on_a_part_of_a_box(rng):
    grid = Grid(2, (3, 2), (6, 4), 1, lengths=(3.0, 0.5), active=[[True, True, True], [True, False, False]])
    values = rng.exponential(size=(8, 1, grid.num_nodes)) * grid.active_nodes.ravel()
    found = make_estimate(Progress({"samples": Moments.of(values)}, {}, None), grid, PLAIN, [], "")
    mean = np.where(grid.active_nodes, values[:, 0].mean(axis=0).reshape(grid.node_shape), np.nan)
    np.testing.assert_allclose(found.mean, mean, rtol=1e-12)
    elements = [mean[0:2, 0:2], mean[0:2, 1:3], mean[0:2, 2:4], mean[1:3, 0:2]]  # of 1 by 1/4
    expected = np.sqrt(sum(norm_by_quadrature(corners) ** 2 for corners in elements) / 4)
    assert found.summary()["mean field"]["norm"] == pytest.approx(expected)
    assert all(np.array_equal(np.isnan(field), ~grid.active_nodes) for field in found.fields.values())


def test_the_bias_is_that_of_network_minus_reference(rng):
    """From numbers, against a paired t statistic: nodes, functional and summary."""
    reference = rng.exponential(size=(9, GRID.num_nodes + 1))
    network = reference + 0.25 * np.arange(1, GRID.num_nodes + 2) + 0.1 * rng.standard_normal(reference.shape)
    pairs = Moments.of(np.stack([reference, network], axis=1))
    plan = Plan(((0, 1),), (1.0,), pairs.covariance, Costs((20.0, 1.0)), (0.0, 0.0), 1.0)
    found = make_estimate(Progress({"samples": pairs}, {}, plan), GRID, PAIRS, ["all"], "")
    difference = network - reference
    error = difference.std(axis=0, ddof=1) / 3
    np.testing.assert_allclose(found.network_bias, difference.mean(axis=0)[:-1], rtol=1e-12)
    np.testing.assert_allclose(found.network_bias_error, error[:-1], rtol=1e-12)
    assert found.functionals["all"].network_bias == pytest.approx(difference[:, -1].mean())
    assert found.functionals["all"].network_bias_error == pytest.approx(error[-1])
    told = found.summary()["mean field"]
    assert told["network bias"] == pytest.approx(norm_by_quadrature(found.network_bias))
    assert told["network bias, standard error"] == pytest.approx(norm_by_quadrature(error[:-1]))


def test_a_network_whose_matrices_are_too_large_has_a_negative_bias():
    """Of a run, on the very fields of its pairs: larger matrices, smaller solutions."""
    settings, model, law = MonteCarloSettings(samples=60, pilot=8, cost_ratio=20.0), wrong_model(), LevelLaw()
    found = monte_carlo(GRID, law, settings, model, functionals={"all": BoxAverage((0.0,), (1.0,))})
    fields = [law.sample(0, k, stage=Stream.SAMPLES).A for k in range(found.samples["samples"])]
    exact = np.array([solve(GRID, A, "lod").u for A in fields])
    network = np.array([solve(GRID, A, "nn", model=model).u for A in fields])
    np.testing.assert_allclose(found.network_bias, (network - exact).mean(axis=0), rtol=1e-9, atol=1e-12)
    assert np.all(found.network_bias[1:-1] < -5 * found.network_bias_error[1:-1])
    assert found.functionals["all"].network_bias < 0


def test_the_plan_is_that_of_a_linear_regression(rng):
    """α, and the variance that it leaves with n − 2 degrees of freedom, by least squares."""
    n, cost = 7, 40.0
    q = rng.standard_normal((n, 3))
    g = 0.5 * q + 0.2 * rng.standard_normal((n, 3))
    plan = make_plan(Moments.of(np.stack([q, g], axis=1)), slice(3), Costs((cost, 1.0)))
    slopes, left = [], []
    for k in range(3):
        (slope, _), residuals, *_ = np.polyfit(g[:, k], q[:, k], 1, full=True)
        slopes.append(slope)
        left.append(residuals[0] / (n - 2))
    total, rest = q.var(axis=0, ddof=1).sum(), sum(left)
    assert plan.unexplained[1] == pytest.approx(rest / total, rel=1e-10)
    assert plan.groups == ((0, 1), (1,))
    ratio = plan.ratios[1]

    def times_cost(r: float) -> float:
        """Variance times cost of one pair and r further G; f is (n − 1)/(n − 2), for the pairs as a whole."""
        f, own, low = (n - 1) / (n - 2), q.var(axis=0, ddof=1), g.var(axis=0, ddof=1)
        cross = np.array(slopes) * low
        beta = f * cross / (f * low + low / r)
        return float((f * (own - 2 * beta * cross + beta**2 * low) + beta**2 * low / r).sum() * (cost + 1 + r))

    best = minimize_scalar(times_cost, bounds=(0.1, 1e4), method="bounded")
    assert times_cost(ratio) == pytest.approx(best.fun, rel=1e-5)
    assert plan.gain == pytest.approx(total * cost / best.fun, rel=1e-4)
