"""Moments and estimators of mean and variance on synthetic quantities whose mean and variance are known."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from nnlod_fenics.montecarlo.estimators import Moments, combined, plain

REPETITIONS = 400  # each is a quantity of its own
SPREAD = 0.3
MEAN, VARIANCE = np.exp(SPREAD**2 / 2), (np.exp(SPREAD**2) - 1) * np.exp(SPREAD**2)  # of exp(0.3 ξ)


def direct(values, *a):
    """Sum of products of powers of deviations, from the samples of all models at once."""
    return np.prod([(v - v.mean(axis=0)) ** k for v, k in zip(values.swapaxes(0, 1), a, strict=True)], axis=0).sum(0)


@pytest.mark.parametrize("models", [1, 2, 3])
def test_moments_merge(models):
    # far from zero, so that sums of raw powers would keep no digit of the fourth moments
    values = 1e4 + np.random.default_rng(1).exponential(size=(30, models, 3))
    merged = Moments.merged([Moments.of(values[:7]), Moments.of(values[7:8]), Moments.of(values[8:])])
    np.testing.assert_allclose(merged.mean, values.mean(axis=0), rtol=1e-14)
    orders = [a for a in product(range(5), repeat=models) if 2 <= sum(a) <= 4]
    assert len(orders) == len(merged.central) == {1: 3, 2: 12, 3: 31}[models]
    for a in orders:
        np.testing.assert_allclose(merged.sum(*a), direct(values, *a), rtol=1e-9, atol=1e-9)
    for q in range(3):
        np.testing.assert_allclose(merged.covariance[:, :, q], np.atleast_2d(np.cov(values[:, :, q].T)), rtol=1e-9)
    for some in ([0], [models - 1], list(range(models))[::-1]):
        alone = Moments.of(values[:, some]).central
        np.testing.assert_allclose(Moments.of(values).select(some).central, alone, rtol=1e-14)


def test_error_of_a_variance_is_the_jackknife():
    values, gamma = np.random.default_rng(2).exponential(size=(9, 2, 3)), np.array([0.0, 0.7, 1.3])
    left_out = np.stack(
        [np.delete(values, k, 0)[:, 0].var(0, ddof=1) - gamma * np.delete(values, k, 0)[:, 1].var(0, ddof=1)
         for k in range(9)]
    )  # fmt: skip
    found = Moments.of(values).squared_error_of_variance(1.0, -gamma)
    np.testing.assert_allclose(found, left_out.var(axis=0) * 8, rtol=1e-12)


def samples(seed, count):
    """exp(0.3 ξ) and a network that has it wrong by a factor and a wave; each repetition is a quantity."""
    xi = np.random.default_rng(seed).standard_normal((count, REPETITIONS))
    return np.stack([np.exp(SPREAD * xi), 1.5 * np.exp(SPREAD * xi) + 0.1 * np.sin(9 * xi)], axis=1)


def control_variate(pairs, low, beta):
    """Two models, with weights as of Peherstorfer, Willcox & Gunzburger."""
    one = np.ones_like(beta)
    groups = [(pairs, [one, -beta], [one, -(beta**2)]), (low, [beta], [beta**2])]
    return combined([(Moments.of(values), np.array(w), np.array(v)) for values, w, v in groups])


@pytest.mark.parametrize("method", ["plain", "multifidelity"])
def test_repetitions(method):
    if method == "plain":
        found = plain(Moments.of(samples(3, 400)[:, :1]))
    else:
        beta = np.full(REPETITIONS, 0.6)
        found = control_variate(samples(4, 100), samples(5, 1000)[:, 1:], beta)
    for estimated, exact in ((found.mean, MEAN), (found.variance, VARIANCE)):
        # A mean of 400 unbiased estimates is off by four of its standard errors with probability 6e-5.
        assert abs(estimated.value.mean() - exact) < 4 * estimated.value.std() / np.sqrt(REPETITIONS)
        # A variance from 400 values has a relative standard deviation of 0.07 (0.1 with some kurtosis): four of them.
        assert estimated.squared_error.mean() == pytest.approx(estimated.value.var(), rel=0.4)
        # 95 % intervals hold the mean in 95 % and the variance, skewed as it is, in 93 %: binomial with standard
        # deviations of 4.4 and 5.1, four of them below that with probability 3e-5 each.
        inside = np.sum(np.abs(estimated.value - exact) <= estimated.half_width(0.95))
        assert inside >= (362 if estimated is found.mean else 351)


def test_quantities_without_variance():
    values = np.stack([np.full((20, 1), 3.0), np.full((20, 1), 4.0)], axis=1)
    for found in (plain(Moments.of(values)), control_variate(values, values[:, 1:], np.ones(1))):
        assert found.mean.value == 3 and found.variance.value == 0
        assert found.mean.half_width(0.95) == found.variance.half_width(0.95) == 0
