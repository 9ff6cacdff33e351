"""Monte Carlo: known means, wrong networks, allocation by theory, resumed and parallel runs, functionals."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from montecarlo_job import FUNCTIONALS, SETTINGS
from problem import GRID, LevelLaw, mean_solution, wrong_model
from waiting import PATIENCE

from nnlod_fenics import Grid, InputError, solve
from nnlod_fenics.config import Config, load_config
from nnlod_fenics.fields import FieldSample, make_field
from nnlod_fenics.montecarlo import MonteCarloSettings, Outflow, monte_carlo, parse_functionals
from nnlod_fenics.montecarlo.allocation import Costs, make_plan
from nnlod_fenics.montecarlo.estimators import Moments, _exponents
from nnlod_fenics.montecarlo.run import find_problem
from nnlod_fenics.montecarlo.store import Store
from nnlod_fenics.montecarlo.weights import weights

REPETITIONS = 200
MIDDLE = (GRID.coarse[0] // 2,)


def estimate(**changes):
    return monte_carlo(GRID, LevelLaw(), SETTINGS.changed(**changes), wrong_model(), functionals=FUNCTIONALS)


@pytest.fixture(scope="module")
def repeated():
    """Estimates at the middle: mean, standard error, half-width; and predicted gains."""
    rows, gains = [], []
    for seed in range(REPETITIONS):
        found = estimate(seed=seed)
        value = found.functionals["middle"]
        rows.append((value.mean, value.standard_error, value.half_width))
        gains.append(found.plan.gain)
    return np.array(rows), np.array(gains)


# -- the law -----------------------------------------------------------------------------------------


def test_coverage(repeated):
    # Binomial with 200 and 0.95 has standard deviation 3.1: below 178 with probability 1e-4.
    rows, _ = repeated
    assert np.sum(np.abs(rows[:, 0] - mean_solution()[MIDDLE]) <= rows[:, 2]) >= 178


def test_unbiased_with_a_wrong_network(repeated):
    # The mean of 200 unbiased estimates is off by four of its standard errors with probability 6e-5.
    rows, _ = repeated
    exact = mean_solution()[MIDDLE]
    assert abs(rows[:, 0].mean() - exact) < 4 * rows[:, 0].std() / np.sqrt(REPETITIONS)
    network = estimate(method="nn", samples=400).functionals["middle"]
    assert abs(network.mean - exact) > 20 * network.standard_error  # the network alone is far off, and sure of it


def test_errors_are_as_predicted(repeated):
    # A sample variance of 200 values has a relative standard deviation of 0.10: bounds of four, probability 6e-5.
    rows, gains = repeated
    assert rows[:, 0].var() / (rows[:, 1] ** 2).mean() == pytest.approx(1, abs=0.4)
    # and smaller than that of plain Monte Carlo at the same cost, by about what the pilot runs promise
    variance = (np.exp(0.3**2) - 1) * mean_solution()[MIDDLE] ** 2
    budget = SETTINGS.samples - SETTINGS.pilot * (1 + 1 / SETTINGS.cost_ratio)
    assert np.median(gains) > 3
    assert variance / budget / rows[:, 0].var() == pytest.approx(np.median(gains), rel=0.5)


def test_plain_methods():
    # Off by four standard errors with probability 6e-5.
    for method, samples in (("lod", 200), ("fem", 40)):
        found = estimate(method=method, samples=samples).functionals["middle"]
        exact = mean_solution()[MIDDLE]
        assert abs(found.mean - exact) < 4 * found.standard_error + (0.1 * exact if method == "fem" else 0)
        assert found.half_width == pytest.approx(1.97 * found.standard_error, rel=0.05)


def test_what_settings_state_wins_over_the_model():
    model = SimpleNamespace(grid=Grid(2, 4, 16, 1, 8), law={"kind": "uniform"})
    grid, law = find_problem(load_config(), model)
    assert grid == model.grid and law.settings()["kind"] == "uniform" and law.cells in (8, (8, 8))
    default = Config().field  # which is stated here
    grid, law = find_problem(Config(grid={"coarse": 8, "ell": 2}, field=default), model)
    assert grid == Grid(2, 8, 16, 2, 8) and law.settings()["kind"] == "lognormal"
    assert find_problem(load_config(), None)[0] == Grid(2, 16, 128, 2, 64)


# -- allocation --------------------------------------------------------------------------------------


def moments_of(second, count):
    """Moments of one quantity by two models with given sums of products of two deviations."""
    central = np.zeros((len(_exponents(2)), 1))
    for exponents, value in (((2, 0), second[0, 0]), ((1, 1), second[0, 1]), ((0, 2), second[1, 1])):
        central[_exponents(2).index(exponents)] = value
    return Moments(count, np.zeros((2, 1)), central)


def test_allocation_of_two_models():
    rho, ratio, n = 0.9, 50.0, 100_000
    plan = make_plan(moments_of(n * np.array([[1.0, rho * 2], [rho * 2, 4.0]]), n + 1), slice(1), Costs((ratio, 1.0)))
    share = plan.ratios[1] + 1
    assert share == pytest.approx(np.sqrt(rho**2 * ratio / (1 - rho**2)), rel=2e-3)
    pairs, low = weights(plan.covariance, plan.groups, plan.ratios)
    assert pairs[0] == 1 and low[0] == -pairs[1] == pytest.approx(rho / 2 * (1 - 1 / share), rel=1e-9)
    # Peherstorfer, Willcox & Gunzburger (2016): the variance at equal cost falls by (√(1−ρ²) + √(ρ² c_G/c_Q))²
    gain = 1 / (np.sqrt(1 - rho**2) + np.sqrt(rho**2 / ratio)) ** 2
    assert plan.gain == pytest.approx(gain, rel=1e-3)


def test_a_network_that_does_not_pay_is_not_used():
    assert not make_plan(moments_of(1000 * np.eye(2), 1001), slice(1), Costs((10.0, 1.0))).multifidelity


# -- runs --------------------------------------------------------------------------------------------


def numbers(found):
    return [found.mean, found.variance, found.standard_error, found.functionals["middle"].mean]


def test_resumed_run_has_the_same_bits(tmp_path, monkeypatch):
    save, count = Store.save_block, []

    def save_some(self, *arguments):
        if len(count) == 4:
            raise KeyboardInterrupt
        count.append(arguments)
        save(self, *arguments)

    def run(**options):
        return monte_carlo(
            GRID, LevelLaw(), SETTINGS, wrong_model(), functionals=FUNCTIONALS, output=tmp_path / "m", **options
        )

    monkeypatch.setattr(Store, "save_block", save_some)
    with pytest.raises(KeyboardInterrupt):
        run()
    computed = []
    monkeypatch.setattr(Store, "save_block", lambda self, *a: (computed.append(a[:2]), save(self, *a)))
    resumed, whole = run(resume=True), estimate()
    for a, b in zip(numbers(resumed), numbers(whole), strict=True):
        np.testing.assert_array_equal(a, b)
    assert not {a[:2] for a in count} & set(computed)  # nothing is computed twice
    table = json.loads((tmp_path / "m" / "montecarlo.json").read_text())
    assert table["functionals"]["middle"]["mean"] == whole.functionals["middle"].mean
    with pytest.raises(InputError, match="--resume"):
        run()


@pytest.mark.parametrize("ranks", [1, 2])
def test_same_bits_for_every_number_of_ranks(ranks, tmp_path):
    command = ["mpirun", "-n", str(ranks), "--bind-to", "none", sys.executable]
    command += [str(Path(__file__).with_name("montecarlo_job.py")), str(tmp_path / "m.npz")]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, env=environment)
    assert done.returncode == 0, done.stderr
    written, whole = np.load(tmp_path / "m.npz"), estimate()
    for name in ("mean", "variance", "standard_error"):
        np.testing.assert_array_equal(written[name], getattr(whole, name))


def test_stops_at_a_tolerance():
    first = estimate(method="lod", samples=32).functionals["middle"].half_width
    found = estimate(method="lod", samples=None, tolerance=first / 2, target="middle")
    assert found.stopped == "tolerance" and found.functionals["middle"].half_width <= first / 2
    assert found.samples["samples"] < 32 * 8


@pytest.mark.parametrize("target", ["middle", None])
def test_a_tolerance_is_not_overspent(target):
    """What 100 plain samples reach: by few pairs with some hundred network samples, not by thousands."""
    plain = estimate(method="lod", samples=100)
    width = plain.field_error if target is None else plain.functionals[target].half_width
    found = estimate(samples=None, tolerance=width, target=target, cost_ratio=1000.0, pilot=32)
    assert found.stopped == "tolerance" and found.width <= width
    assert found.plan.multifidelity and found.samples["samples"] <= 64 and found.samples["low"] <= 1000


def test_stops_in_time():
    assert estimate(method="lod", samples=None, seconds=0.2).stopped == "time"


# -- functionals -------------------------------------------------------------------------------------


def test_a_domain_with_a_hole():
    """u = ξ u₀ on a part of a box: the mean field, where there is one, and the balance of outflows."""
    active = np.ones((3, 4), dtype=bool)
    active[1:, 1:3] = False
    grid = Grid(2, (4, 3), (8, 6), 1, None, (4.0, 1.5), ["xmin", "xmax"], active)
    law = SimpleNamespace(
        sample=lambda seed, index, stage=0: FieldSample(np.full((6, 8), -np.log(2.0 + index % 2)), {}),
        settings=lambda: {"kind": "two values"},
    )
    named = parse_functionals(["outflow(xmin)", "outflow(x=1)", "average(0:4, 0:1.5)"])
    found = monte_carlo(grid, law, MonteCarloSettings(method="fem", samples=4), functionals=named)
    mean = solve(grid, np.full((6, 8), 1 / 2.5), "fem").coarse
    np.testing.assert_allclose(found.mean, mean, rtol=1e-8)
    assert np.isnan(mean).sum() == 2 and found.mean.shape == (4, 5)
    values = [value.mean for value in found.functionals.values()]
    assert values[0] + values[1] == pytest.approx(8 * 0.5) and values[0] == pytest.approx(values[1])
    assert values[2] > 0


@pytest.mark.parametrize("dim", [1, 2])
def test_outflows_sum_to_the_source(dim):
    grid = Grid(dim, 4, 16, 1, coefficient=16)
    A = np.exp(np.random.default_rng(dim).standard_normal(grid.coefficient_shape))
    faces = [f"{axis}={side}" for axis in "xyz"[:dim] for side in (0, 1)]
    for method in ("lod", "fem"):
        solution = solve(grid, A, method, f=3.0)
        assert sum(Outflow(face)(solution) for face in faces) == pytest.approx(3.0)


@pytest.mark.parametrize("method", ["lod", "fem"])
def test_outflows_leave_through_the_right_face(method):
    """A and f ten and one on one side and one and nought elsewhere: by finite differences on 256² cells, see below."""
    grid = Grid(2, 8, 64, 2, coefficient=64)
    x = (np.arange(64) + 0.5) / 64
    A = np.broadcast_to(np.where(x > 0.75, 10.0, 1.0), (64, 64))
    f = np.broadcast_to(np.where(x > 0.75, 1.0, 0.0), (64, 64))
    expected = {"x=0": 0.0011, "x=1": 0.1781, "y=0": 0.0354, "y=1": 0.0354}
    for turned in (False, True):  # transposed, x and y change places
        solution = solve(grid, A.T if turned else A, method, f=f.T if turned else f)
        for face, value in expected.items():
            swapped = face.translate(str.maketrans("xy", "yx")) if turned else face
            assert solution.outflow(swapped) == pytest.approx(value, abs=0.003), (face, turned)


def test_outflow_by_fem_is_that_of_lod():
    # Both are consistent fluxes of first-order methods; by symmetry each face takes a quarter for constant A.
    grid = Grid(2, 8, 32, 2, coefficient=32)
    law = make_field({"kind": "lognormal", "variance": 0.25, "correlation_length": 0.2}, 2, 32)
    named = parse_functionals([f"outflow({axis}={side})" for axis in "xy" for side in (0, 1)])
    outflows = {}
    for method in ("lod", "fem"):
        found = monte_carlo(grid, law, MonteCarloSettings(method=method, samples=4), functionals=named)
        outflows[method] = np.array([value.mean for value in found.functionals.values()])
        assert outflows[method].sum() == pytest.approx(1.0)
    np.testing.assert_allclose(outflows["lod"], outflows["fem"], rtol=0.03)


@pytest.mark.parametrize("text", ["point(0.5", "average(0:2)", "flux(x=1)", "point(a)", "outflow(x=1, y=0)"])
def test_unreadable_functionals(text):
    with pytest.raises(InputError, match=r"functional|outflow"):
        for functional in parse_functionals([text]).values():
            functional.check(Grid(1, 2, 4, 1))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "mc"}, "method must be 'fem'"),
        ({"samples": 1}, "samples must be at least 3"),
        ({"samples": None}, "one of samples, tolerance and seconds"),
        ({"tolerance": -1.0}, "tolerance must be greater than 0"),
        ({"level": 1.0}, "level must be below 1"),
        ({"target": "middle", "method": "lod"}, "needs a tolerance"),
        ({"samples": 20}, "samples must be at least 32 with a pilot run of 8"),
        ({"tolerance": 1.0, "target": "end"}, "target must be the name of one of the functionals"),
    ],
)
def test_bad_settings(changes, message):
    with pytest.raises(InputError, match=message):
        estimate(**changes)


def test_bad_models():
    with pytest.raises(InputError, match="model must be given"):
        monte_carlo(GRID, LevelLaw(), SETTINGS)
    with pytest.raises(InputError, match="grid for this model must be of the window"):
        monte_carlo(Grid(1, 4, 16, 1), LevelLaw(), SETTINGS, wrong_model())
