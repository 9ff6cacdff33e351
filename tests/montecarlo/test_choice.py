"""The choice of models and sample numbers: against other optimisers, closed formulas and another library."""

from __future__ import annotations

import json
from itertools import combinations, permutations
from pathlib import Path

import numpy as np
import pytest
from cases import CASES
from scipy.optimize import minimize

from nnlod_fenics.montecarlo.choice import _structures, _Variance, choose
from nnlod_fenics.montecarlo.weights import weights

MANY = 10**6  # pilot samples, so that no correction counts
OTHERS = json.loads((Path(__file__).parent / "allocations.json").read_text())


def all_groups(models):
    """The reference with all others, and all groups of these."""
    low = range(1, models)
    return ((0, *low), *(group for k in range(1, models) for group in combinations(low, k)))


def least_variance(covariance, groups, numbers):
    """Of all unbiased combinations of means, by Lagrange multipliers."""
    columns = [(g, i) for g, group in enumerate(groups) for i in group]
    Q = np.array([[(g == h) * covariance[i, j] / numbers[g] for h, j in columns] for g, i in columns])
    B = np.array([[float(i == k) for _, i in columns] for k in range(len(covariance))])
    system = np.block([[Q, B.T], [B, np.zeros((len(B), len(B)))]])
    right = np.zeros(len(system))
    right[len(Q)] = 1.0
    w = np.linalg.solve(system, right)[: len(Q)]
    return float(w @ Q @ w), w


def nested(covariance, costs, order):
    """Variance times cost by Peherstorfer, Willcox & Gunzburger (2016, theorem 3.4); infinite where it fails."""
    models = [0, *order]
    rho2 = np.array([covariance[0, i] ** 2 / covariance[0, 0] / covariance[i, i] for i in models] + [0.0])
    c, drop = np.array([costs[i] for i in models]), rho2[:-1] - rho2[1:]
    if np.any(drop <= 0) or np.any(c[:-1] / c[1:] <= drop[:-1] / drop[1:]):
        return np.inf
    return float(covariance[0, 0] * np.sqrt(c * drop).sum() ** 2)


def multilevel(covariance, costs, order):
    """Variance times cost of sums of independent differences (Giles 2008)."""
    models = [0, *order]
    total = 0.0
    for k, i in enumerate(models):
        j = models[k + 1] if k + 1 < len(models) else None
        variance = covariance[i, i] + (0 if j is None else covariance[j, j] - 2 * covariance[i, j])
        total += np.sqrt(variance * (costs[i] + (0 if j is None else costs[j])))
    return float(total**2)


@pytest.mark.parametrize("name", CASES)
def test_weights_are_those_of_least_variance(name, rng):
    covariance, _ = CASES[name]
    for groups in _structures(len(covariance), MANY):
        used = sorted(set().union(*groups))
        numbers = rng.integers(3, 300, size=len(groups)).astype(float)
        found = np.concatenate(weights(covariance[:, :, None], groups, numbers))[:, 0]
        at = {model: k for k, model in enumerate(used)}
        named = [tuple(at[i] for i in group) for group in groups]
        least, expected = least_variance(covariance[np.ix_(used, used)], named, numbers)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-7 * np.abs(expected).max())
        sums = np.bincount([i for group in groups for i in group], found, len(covariance))
        np.testing.assert_allclose(sums, np.eye(len(covariance))[0], atol=1e-12)
        variance, _ = _Variance(covariance[:, :, None], MANY, groups, [1.0] * len(covariance), 0.0).at(numbers)
        assert variance == pytest.approx(least, rel=1e-4)


@pytest.mark.parametrize("name", CASES)
def test_sample_numbers_are_those_of_another_optimiser(name):
    covariance, costs = CASES[name]
    groups = all_groups(len(costs))
    of_group = np.array([sum(costs[i] for i in group) for group in groups])

    def log_work(x):
        numbers = np.exp(x)
        return np.log(least_variance(covariance, groups, numbers)[0]) + np.log(of_group @ numbers)

    starts = [np.zeros(len(groups)), -np.log(of_group)]
    found = [minimize(log_work, x, method="L-BFGS-B", bounds=[(a - 12, a + 12) for a in x]) for x in starts]
    numbers, variance = _Variance(covariance[:, :, None], MANY, groups, costs, 0.0).least(1.0, None, 1e-4)
    assert of_group @ numbers == pytest.approx(1.0)
    assert variance == pytest.approx(np.exp(min(result.fun for result in found)), rel=2e-3)


@pytest.mark.parametrize("name", CASES)
def test_never_more_variance_than_nested_and_multilevel_samples(name):
    """At equal cost; the allowance is what a further model and a further group must be worth."""
    covariance, costs = CASES[name]
    chosen = choose(covariance[:, :, None], MANY, costs)
    orders = [order for k in range(1, len(costs)) for order in permutations(range(1, len(costs)), k)]
    best = min(rule(covariance, costs, order) for rule in (nested, multilevel) for order in orders)
    allowance = 1.05 ** (len(costs) - 1) * 1.01
    assert chosen.variance * chosen.cost <= allowance * best
    assert chosen.gain == pytest.approx(covariance[0, 0] * costs[0] / (chosen.variance * chosen.cost))
    if len(costs) == 2:
        assert chosen.variance * chosen.cost == pytest.approx(best, rel=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_never_more_variance_than_another_library(name):
    """As MXMCPy predicts it for a budget of 1,000 reference samples (tests/benchmarks/other_allocations.py)."""
    covariance, costs = CASES[name]
    chosen = choose(covariance[:, :, None], MANY, costs, budget=1000 * costs[0])
    assert len(OTHERS[name]) >= 3
    allowance = 1.05 ** (len(costs) - 1) * 1.02  # and whole numbers of samples
    assert all(chosen.variance <= allowance * other for other in OTHERS[name].values())


def test_useless_models_are_not_chosen(rng):
    """Of 100 pilot runs with two models that know nothing, few find one by chance, and those lose little."""
    lost = []
    for _ in range(100):
        pilot = np.cov(rng.standard_normal((3, 32)))
        chosen = choose(pilot[:, :, None], 32, [100.0, 5.0, 1.0])
        groups, ratios = chosen.groups, chosen.ratios
        w = weights(pilot[:, :, None], groups, ratios) if len(groups) > 1 else [np.ones((1, 1))]
        variance = sum(float((part**2).sum()) / n for part, n in zip(w, ratios, strict=True))
        cost = sum(n * sum([100.0, 5.0, 1.0][i] for i in group) for group, n in zip(groups, ratios, strict=True))
        lost.append(variance * cost / 100.0)
    assert np.mean(lost) < 1 / 0.9


def test_fields_cost():
    """Where drawing a field costs as much as the cheap model, fewer of them pay."""
    covariance, costs = CASES["network and averaged"]
    free, dear = (choose(covariance[:, :, None], MANY, costs, drawing) for drawing in (0.0, 1.0))
    assert free.gain > 1.2 * dear.gain > 30
    assert free.ratios[-1] > dear.ratios[-1]
