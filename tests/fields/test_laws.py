"""Laws of the random fields: covariance against formula (2.3), independence, reproducibility, bad input.

Statistical bound: for N independent centred Gaussian fields with covariance C, an entry of the sample
covariance has standard deviation √((C_ii C_jj + C_ij²)/N). All P entries compared must lie within z of these
standard deviations, where z is the normal quantile for a false-alarm probability of 1e-6 over all P entries
together (Bonferroni); seeds are fixed, so a pass stays a pass.
"""

from __future__ import annotations

import numpy as np
import pytest
import scipy.special
import scipy.stats

from nnlod_fenics import InputError
from nnlod_fenics.fields import CirculantEmbedding, LognormalField, covariance_model, make_field, matern

FALSE_ALARM = 1e-6


def formula(distance: np.ndarray, variance: float, rho: float, nu: float) -> np.ndarray:
    """(2.3), written with SciPy's Bessel function."""
    scaled = np.sqrt(2 * nu) * np.where(distance == 0, 1.0, distance) / rho
    values = variance * 2 ** (1 - nu) / scipy.special.gamma(nu) * scaled**nu * scipy.special.kv(nu, scaled)
    return np.where(distance == 0, variance, values)


def midpoints(dim: int, cells: int) -> np.ndarray:
    axis = (np.arange(cells) + 0.5) / cells
    return np.stack([a.ravel() for a in np.meshgrid(*(axis,) * dim, indexing="ij")], axis=1)


def assert_covariance(samples: np.ndarray, expected: np.ndarray) -> None:
    """``samples`` has shape (N, points)."""
    n = len(samples)
    deviation = np.sqrt((np.outer(np.diag(expected), np.diag(expected)) + expected**2) / n)
    z = scipy.stats.norm.isf(FALSE_ALARM / expected.size / 2)
    assert (np.abs(samples.T @ samples / n - expected) <= z * deviation).all()
    mean_bound = scipy.stats.norm.isf(FALSE_ALARM / len(expected) / 2) * np.sqrt(np.diag(expected) / n)
    assert (np.abs(samples.mean(axis=0)) <= mean_bound).all()


@pytest.mark.parametrize("nu", [0.5, 1.0, 1.5])
@pytest.mark.parametrize(("dim", "cells"), [(1, 24), (2, 6), (3, 4)])
def test_both_fields_of_a_pair_have_the_covariance_and_are_independent(dim, cells, nu):
    variance, rho, draws = 1.7, 0.3, 4000
    embedding = CirculantEmbedding(matern(dim, variance, rho, nu), cells)
    assert embedding.clipped_mass == 0
    rng = np.random.default_rng(1)
    pairs = np.stack([embedding.sample(rng).reshape(2, -1) for _ in range(draws)])
    points = midpoints(dim, cells)
    expected = formula(np.linalg.norm(points[:, None] - points[None], axis=2), variance, rho, nu)
    both = np.block([[expected, np.zeros_like(expected)], [np.zeros_like(expected), expected]])
    assert_covariance(pairs.reshape(draws, -1), both)


def test_embedding_that_fails_is_enlarged_until_exact():
    embedding = CirculantEmbedding(matern(2, 1.0, 0.3, 1.5), 64)
    assert len(embedding.tried) > 1 and embedding.tried[0] == 126
    assert embedding.clipped_mass == 0 and embedding.covariance_error == 0
    periodic = np.fft.ifftn(embedding._root**2 * embedding.size**2).real[:64, :64]
    i = np.arange(64)
    exact = formula(np.hypot(i[:, None], i[None]) / 64, 1.0, 0.3, 1.5)
    assert np.abs(periodic - exact).max() < 1e-12


def test_embedding_that_cannot_be_enlarged_reports_its_error():
    with pytest.warns(UserWarning, match="negative eigenvalues"):
        embedding = CirculantEmbedding(matern(2, 2.0, 0.5, 1.5), 16, max_factor=2)
    assert 1e-4 < embedding.clipped_mass < 0.1
    # the covariance that it really samples, from its spectrum by an explicit Fourier sum
    k = np.arange(embedding.size)
    lag = np.exp(2j * np.pi * np.outer(np.arange(16), k) / embedding.size)
    actual = np.einsum("ak,bl,kl->ab", lag, lag, embedding._root**2).real
    i = np.arange(16)
    exact = formula(np.hypot(i[:, None], i[None]) / 16, 2.0, 0.5, 1.5)
    assert embedding.covariance_error == pytest.approx(np.abs(actual - exact).max() / 2.0, rel=1e-9)


def test_paper_convention_of_the_correlation_length():
    """√(2ν), not GSTools' √ν: the correlation at ρ/2 for ν = 1.3 is 0.77, not 0.86."""
    assert matern(2, 1.0, 0.4, 1.3).correlation(0.2) == pytest.approx(0.768, abs=1e-3)
    assert matern(2, 2.0, 0.1, 0.5).covariance(0.1) == pytest.approx(2 * np.exp(-1), rel=1e-12)


@pytest.mark.parametrize("name", ["Gaussian", "Exponential", "Spherical", "Stable"])
def test_other_models_of_gstools(name):
    law = make_field({"covariance": name, "correlation_length": 0.1, "variance": 0.5}, 2, 8)
    samples = np.stack([law.sample(3, k).Z.ravel() for k in range(4000)])
    points = midpoints(2, 8)
    distance = np.linalg.norm(points[:, None] - points[None], axis=2)
    model = covariance_model(name, 2, 0.5, 0.1)
    assert_covariance(samples, model.covariance(distance.ravel()).reshape(distance.shape))


@pytest.mark.parametrize("sampler", ["randmeth", "fourier"])
def test_generators_of_gstools(sampler):
    """Approximate in law: only the variance, over many fields, within 15 %."""
    law = LognormalField(2, 8, 1.5, 0.1, sampler=sampler)
    values = np.stack([law.sample(0, k).Z for k in range(30)])
    assert values.shape == (30, 8, 8)
    assert values.var() == pytest.approx(1.5, rel=0.15)
    assert np.array_equal(law.sample(0, 5).Z, values[5])


def test_orientation_of_anisotropic_models():
    """Arrays are [y, x] whatever GSTools thinks: a longer correlation along x shows along the last axis."""
    law = LognormalField(2, 16, 1.0, 0.1, sampler="randmeth")
    law.model.anis = 0.1
    Z = np.stack([law.sample(0, k).Z for k in range(6)])
    assert np.mean(np.diff(Z, axis=2) ** 2) < 0.5 * np.mean(np.diff(Z, axis=1) ** 2)


PARAMETER_LAWS = [
    ({"uniform": [0.25, 0.75]}, scipy.stats.uniform(0.25, 0.5).cdf),
    ({"loguniform": [0.25, 2.0]}, scipy.stats.loguniform(0.25, 2.0).cdf),
]


@pytest.mark.parametrize("name", ["variance", "correlation_length", "smoothness"])
@pytest.mark.parametrize(("law", "cdf"), PARAMETER_LAWS)
def test_random_parameters_follow_their_law(name, law, cdf):
    """Kolmogorov–Smirnov test, false-alarm probability 1e-6."""
    field = make_field({"kind": "hierarchical", "correlation_length": 0.1, name: law}, 1, 2)
    drawn = [field.sample(11, k).parameters[name] for k in range(400)]
    assert scipy.stats.kstest(drawn, cdf).pvalue > FALSE_ALARM


def test_choice_lists_and_conditional_variance():
    field = make_field({"kind": "hierarchical", "variance": {"choice": [0.1, 4.0]}, "correlation_length": 0.1}, 2, 8)
    samples = [field.sample(2, k) for k in range(600)]
    for variance in (0.1, 4.0):
        Z = np.stack([s.Z for s in samples if s.parameters["variance"] == variance])
        assert 200 < len(Z) < 400  # binomial(600, 1/2): outside with probability below 1e-15
        assert Z.var() == pytest.approx(variance, rel=0.1)


def test_uniformly_elliptic():
    Z = make_field({"kind": "uniform", "alpha": 1, "beta": 5}, 2, 64).sample(0, 0).Z
    assert scipy.stats.kstest(np.exp(Z).ravel(), scipy.stats.uniform(1, 4).cdf).pvalue > FALSE_ALARM


LAWS = [
    {"kind": "lognormal", "variance": 0.5, "correlation_length": 0.1},
    {"kind": "lognormal", "covariance": "Gaussian", "correlation_length": 0.05},
    {"kind": "hierarchical", "correlation_length": {"uniform": [0.05, 0.25]}},
    {"kind": "hierarchical", "correlation_length": {"choice": [0.05, 0.1]}, "smoothness": {"uniform": [0.5, 1]}},
    {"kind": "uniform"},
]


@pytest.mark.parametrize("settings", LAWS)
def test_realizations_do_not_depend_on_what_was_sampled_before(settings):
    forwards, backwards = make_field(settings, 2, 8), make_field(settings, 2, 8)
    first = [forwards.sample(5, k).Z for k in range(6)]
    for k in (3, 0, 5, 4, 1, 2):
        assert np.array_equal(backwards.sample(5, k).Z, first[k])
    assert len({Z.tobytes() for Z in first}) == 6
    assert not np.array_equal(forwards.sample(5, 0, stage=1).Z, first[0])
    assert not np.array_equal(forwards.sample(6, 0).Z, first[0])
    again = make_field(forwards.settings(), 2, 8)
    assert np.array_equal(again.sample(5, 2).Z, first[2]) and again.settings() == forwards.settings()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "magic"}, "field.kind must be one of"),
        ({"variance": 0}, "field.variance must be .* got 0"),
        ({"correlation_length": -1}, "field.correlation_length must be"),
        ({"smoothness": float("nan")}, "field.smoothness must be"),
        ({"smoothness": 0.1}, "GSTools' Matern model does not take"),
        ({"variance": {"uniform": [1, 2]}}, "needs field.kind = 'hierarchical'"),
        ({"rho": 1}, "field.rho is no setting of a lognormal field"),
        ({"sampler": "dice"}, "field.sampler must be one of"),
        ({"covariance": "Nonsense"}, "covariance must be the name of a GSTools"),
        ({"covariance": "Gaussian", "smoothness": 1.0}, "smoothness belongs to the Matern model"),
        ({"kind": "hierarchical", "variance": {"uniform": [2, 1]}}, "field.variance must be"),
        ({"kind": "hierarchical", "variance": {"choice": []}}, "field.variance must be"),
        ({"kind": "hierarchical", "variance": {"normal": [0, 1]}}, "field.variance must be"),
        ({"kind": "uniform", "alpha": 5, "beta": 1}, "field.alpha/beta must be"),
        ({"kind": "uniform", "alpha": 0}, "field.alpha/beta must be"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(InputError, match=message):
        make_field(settings, 2, 8)


def test_bad_arguments():
    with pytest.raises(InputError, match="cells must be a positive integer"):
        CirculantEmbedding(matern(2), 0)
    with pytest.raises(InputError, match="max_factor must be at least 2"):
        CirculantEmbedding(matern(2), 8, max_factor=1)
    with pytest.raises(InputError, match="seed must be a non-negative integer, got -1"):
        make_field({}, 2, 8).sample(-1, 0)
    with pytest.raises(InputError, match="index must be a non-negative integer"):
        make_field({}, 2, 8).sample(0, -2)
