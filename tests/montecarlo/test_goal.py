"""Stopping by tolerance: coverage of runs that look at their own error, on synthetic quantities."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from nnlod_fenics import InputError
from nnlod_fenics.montecarlo import MonteCarloSettings
from nnlod_fenics.montecarlo.allocation import LEAST_PAIRS, Costs, make_plan
from nnlod_fenics.montecarlo.estimators import Moments, _exponents, plain
from nnlod_fenics.montecarlo.goal import Goal

REPETITIONS = 400
SIZES = {"samples": 4, "pilot": 8, "low": 32}
SPREAD = 0.3
MEAN = np.exp(SPREAD**2 / 2)
T_OF_LEAST_PAIRS = 2.131  # quantile of Student's t with 15 degrees of freedom


def draw(rng, count):
    """exp(0.3 ξ) by a reference method, and by a network that is off by a factor and a wave."""
    xi = rng.standard_normal(count)
    return np.stack([np.exp(SPREAD * xi), 1.5 * np.exp(SPREAD * xi) + 0.1 * np.sin(9 * xi)], axis=1)[:, :, None]


def run(method, seed, tolerance):
    """One run until the tolerance holds; mean, half-width and number of looks."""
    rng, looks = np.random.default_rng(seed), 0
    settings = MonteCarloSettings(method=method, tolerance=tolerance, cost_ratio=20.0)
    plan = None
    if method == "multifidelity":
        tolerated = (tolerance / T_OF_LEAST_PAIRS) ** 2
        plan = make_plan(Moments.of(draw(rng, 32)), slice(1), Costs((20.0, 1.0)), tolerated=tolerated)
    goal, found = Goal(settings, plan, SIZES), None
    pairs, low = draw(rng, 3_000), draw(rng, 30_000)[:, 1:] if plan is not None else None

    def width():
        return float(found.half_width(0.95)[0])

    while not isinstance(counts := goal.next(width), str):
        looks += 1
        some = Moments.of(pairs[: counts["samples"]])
        if low is None:
            found = plain(some).mean
        else:
            found = plan.statistics({"samples": some, "low": Moments.of(low[: counts["low"]])}).mean
    assert counts == "tolerance"
    return found.value[0], width(), looks


# Widths that take some 60 to 100 samples, some 30 pairs, and the fewest pairs with fewer samples of the network.
@pytest.mark.parametrize(("method", "tolerance"), [("lod", 0.07), ("multifidelity", 0.03), ("multifidelity", 0.05)])
def test_coverage(method, tolerance):
    results = np.array([run(method, seed, tolerance) for seed in range(REPETITIONS)])
    assert np.all(results[:, 1] <= tolerance) and results[:, 2].min() >= 2
    # Binomial with 400 and 0.93 has standard deviation 5.1: four of them below the expectation with probability 3e-5.
    assert np.sum(np.abs(results[:, 0] - MEAN) <= results[:, 1]) >= 352


def looks(settings, widths, plan=None):
    """Sample numbers of the rounds of a run, and what ended it, for given widths at each look."""
    goal, rest = Goal(settings, plan, SIZES), iter(widths)
    rounds = []
    while not isinstance(counts := goal.next(lambda: next(rest)), str):
        rounds.append(counts["samples"])
    return rounds, counts


def test_tolerance_must_hold_twice():
    settings = MonteCarloSettings(method="lod", tolerance=1.0)
    assert looks(settings, [1.0, 0.9]) == ([32, 40], "tolerance")
    assert looks(settings, [0.9, 1.2, 0.9, 0.9]) == ([32, 40, 64, 80], "tolerance")  # 1.1 · 1.2² · 40 = 63.4
    assert looks(settings, [100, 0.5, 0.5]) == ([32, 128, 160], "tolerance")
    assert looks(MonteCarloSettings(method="lod", tolerance=1.0, samples=50), [9, 9]) == ([32, 50], "samples")
    assert looks(MonteCarloSettings(method="lod", samples=50), []) == ([50], "samples")


def two_models(low=1.0, high=20.0, budget=np.inf, seed=0):
    return make_plan(Moments.of(draw(np.random.default_rng(seed), 64)), slice(1), Costs((high, low)), budget)


def test_pairs_for_a_budget():
    for budget in (10.0, 63.7, 1000.0, 1e6):
        plan = two_models()
        pairs = plan.pairs_for(budget)
        assert plan.multifidelity and plan.cost(pairs) <= budget < plan.cost(pairs + 1)
    assert plan.pairs_for(-3.0) == plan.pairs_for(0.5) == 0
    assert replace(plan, groups=((0,),), ratios=(1.0,)).pairs_for(7.5) == 7


def pilot_of(rho, count=100_000):
    """Moments of two standard normal quantities with a correlation, as of very many samples."""
    central = np.zeros((len(_exponents(2)), 1))
    for exponents, value in (((2, 0), 1.0), ((1, 1), rho), ((0, 2), 1.0)):
        central[_exponents(2).index(exponents)] = value * (count - 1)
    return Moments(count, np.zeros((2, 1)), central)


def cheapest(rho, ratio, tolerated):
    """Least cost, by trying all numbers of pairs and of network samples, and of plain samples."""
    pairs = np.arange(LEAST_PAIRS, 60_000)
    rest = tolerated - (1 - rho**2) / pairs
    low = np.maximum(np.ceil(rho**2 / np.where(rest > 0, rest, np.nan)), pairs)
    plain = max(np.ceil(1 / tolerated), LEAST_PAIRS)
    return min(plain, np.nanmin(pairs + low / ratio, initial=np.inf))


@pytest.mark.parametrize("plain", [10, 40, 108, 1000, 50_000])  # plain samples that reach the tolerance
@pytest.mark.parametrize(("rho", "ratio"), [(0.9998, 100.0), (1.0, 1000.0), (0.9, 20.0), (0.99, 2.0), (0.5, 2.0)])
def test_a_tolerance_is_reached_at_least_cost(rho, ratio, plain):
    tolerated = 1 / plain
    plan = make_plan(pilot_of(rho), slice(1), Costs((ratio, 1.0)), tolerated=tolerated)
    # real numbers, of the predicted variance
    share = plan.ratios[1] + 1 if plan.multifidelity else 1.0
    pairs = max((1 - rho**2 * (1 - 1 / share)) * plain, LEAST_PAIRS)
    least = cheapest(rho, ratio, tolerated)
    needed = pairs * (1 + share / ratio) if plan.multifidelity else pairs
    assert needed == pytest.approx(least, rel=0.02)
    counts = Goal(MonteCarloSettings(tolerance=1.0), plan, SIZES).next(lambda: np.nan)
    first = counts["samples"] + (counts["samples"] + counts["low"]) / ratio if plan.multifidelity else counts["samples"]
    assert first <= 1.02 * least + SIZES["low"] / ratio  # whole blocks


def test_a_loose_tolerance_needs_few_network_samples():
    """The ratio that is best for small tolerances would take 8,800 and 160,000 network samples at once."""
    for rho in (0.9998, 1.0):
        plan = make_plan(pilot_of(rho), slice(1), Costs((100.0, 1.0)), tolerated=1 / 108)
        counts = Goal(MonteCarloSettings(tolerance=1.0), plan, SIZES).next(lambda: np.nan)
        assert counts["samples"] == LEAST_PAIRS and 92 <= counts["low"] <= 128
        predicted = (1 - rho**2) / LEAST_PAIRS + rho**2 / (LEAST_PAIRS * (plan.ratios[1] + 1))
        assert predicted == pytest.approx(1 / 108, rel=1e-3)


def test_too_small_a_budget():
    plan = two_models(low=30.0, high=1.0, budget=-10.0)  # a network that costs more than the reference
    with pytest.raises(InputError, match=r"samples must be larger, got 40: .* 0 of the at least 3"):
        Goal(MonteCarloSettings(samples=40), plan, SIZES)


def test_allocation_aims_at_the_target():
    rng = np.random.default_rng(7)
    good, bad = draw(rng, 200), draw(rng, 200)
    bad[:, 1] = rng.standard_normal((200, 1))  # a quantity of which the network knows nothing
    pilot = Moments.of(np.concatenate([good, bad], axis=2))
    plans = [make_plan(pilot, slice(k, k + 1), Costs((20.0, 1.0))) for k in range(2)]
    assert plans[0].multifidelity and plans[0].gain > 3 and not plans[1].multifidelity
    n, cost = 100, plans[0].cost(100)
    plan = replace(plans[0], covariance=plans[0].covariance[:, :, :1])
    low = Moments.of(draw(rng, plan.counts(n)["low"])[:, 1:])
    statistics = plan.statistics({"samples": Moments.of(draw(rng, n)), "low": low})
    # its variance is that promised: relative standard deviations of some 0.15 from 100 and 200 samples, four of them
    promised = pilot.covariance[0, 0, 0] / cost / plans[0].gain
    assert statistics.mean.squared_error[0] == pytest.approx(promised, rel=0.8)
