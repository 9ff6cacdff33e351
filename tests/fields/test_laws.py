"""Laws of the random fields: parameters, conditional covariance, reproducibility, bad input."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
import scipy.stats
from sample_covariance import FALSE_ALARM, assert_covariance, distances, formula

from nnlod_fenics import InputError
from nnlod_fenics.fields import LognormalField, gaussian, make_field


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"variance": 0.5, "correlation_length": 0.3}, lambda r: formula(r, 0.5, 0.3, 0.5)),
        ({"variance": 1.5, "correlation_length": 0.2, "smoothness": 1.0}, lambda r: formula(r, 1.5, 0.2, 1.0)),
        ({"covariance": "Exponential", "correlation_length": 0.2}, lambda r: np.exp(-r / 0.2)),
    ],
)
def test_realizations_have_the_covariance(settings, expected):
    """Realizations 0, 1, … of one seed, neighbours independent; bound (1e-6) as in sample_covariance.py."""
    law = make_field(settings, 2, 6)
    samples = np.stack([law.sample(3, k).Z.ravel() for k in range(6000)])
    one = expected(distances(2, 6))
    assert_covariance(samples, one)
    both = np.block([[one, np.zeros_like(one)], [np.zeros_like(one), one]])
    assert_covariance(samples.reshape(3000, -1), both)


@pytest.mark.parametrize(("sampler", "rho", "bias"), [("randmeth", 0.05, 0.0), ("fourier", 0.1, 0.1)])
def test_generators_of_gstools(sampler, rho, bias):
    """Approximate in law: only the variance, which the Fourier generator's finite sum makes 10 % too small.

    The 12·16² values, correlated over a cell or three, have at least 500 degrees of freedom: the sample variance
    has a standard deviation of at most 6.3 %, and is outside of 20 % with probability 2e-3 at most.
    """
    law = LognormalField(2, 16, 1.5, rho, sampler=sampler)
    values = np.stack([law.sample(0, k).Z for k in range(12)])
    assert values.shape == (12, 16, 16)
    assert values.var() == pytest.approx(1.5 * (1 - bias), rel=0.2)
    assert np.array_equal(law.sample(0, 5).Z, values[5])


def test_orientation_of_anisotropic_models():
    """Arrays are [y, x] whatever GSTools thinks: a longer correlation along x shows along the last axis."""
    law = LognormalField(2, 16, 1.0, 0.1, sampler="randmeth")
    law.model.anis = 0.1
    Z = np.stack([law.sample(0, k).Z for k in range(3)])
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


def test_choice_lists_and_conditional_law():
    """Given its parameters, a hierarchical field is Gaussian with covariance (2.3)."""
    choices = {"variance": [0.1, 4.0], "correlation_length": [0.1, 0.4], "smoothness": [0.5, 1.5]}
    field = make_field({"kind": "hierarchical"} | {name: {"choice": v} for name, v in choices.items()}, 1, 8)
    samples = [field.sample(2, k) for k in range(8000)]
    counts = []
    for variance in choices["variance"]:
        for rho in choices["correlation_length"]:
            for nu in choices["smoothness"]:
                given = {"variance": variance, "correlation_length": rho, "smoothness": nu}
                Z = np.stack([s.Z for s in samples if s.parameters == given])
                assert_covariance(Z, formula(distances(1, 8), variance, rho, nu))
                counts.append(len(Z))
    assert sum(counts) == 8000
    assert scipy.stats.chisquare(counts).pvalue > FALSE_ALARM  # the three choices are uniform and independent


def test_a_cycle_is_balanced_in_every_part():
    rho = [0.1, 0.2, 0.3]
    law = make_field({"kind": "hierarchical", "correlation_length": {"cycle": rho}}, 1, 4)
    assert [law.sample(3, k).parameters["correlation_length"] for k in (7, 0, 1, 2, 3, 8)] == [
        rho[k % 3] for k in (7, 0, 1, 2, 3, 8)
    ]
    assert not np.array_equal(law.sample(3, 0).Z, law.sample(3, 3).Z)
    again = make_field(law.settings(), 1, 4)
    np.testing.assert_array_equal(again.sample(3, 7).Z, law.sample(3, 7).Z)


def test_continuous_parameters_enter_the_field():
    """Whitened with the Cholesky factor of (2.3) for its recorded parameters, each field is white noise."""
    laws = {"variance": {"loguniform": [0.1, 4]}, "correlation_length": {"uniform": [0.1, 0.9]}}
    field = make_field({"kind": "hierarchical", "smoothness": {"uniform": [0.3, 1.5]}} | laws, 1, 6)
    white = []
    for k in range(2000):
        sample = field.sample(4, k)
        rho, nu = sample.parameters["correlation_length"], sample.parameters["smoothness"]
        factor = np.linalg.cholesky(formula(distances(1, 6), sample.parameters["variance"], rho, nu))
        white.append(np.linalg.solve(factor, sample.Z))
    assert_covariance(np.stack(white), np.eye(6))


def test_embeddings_are_kept_for_lists_only_and_within_bounds(monkeypatch):
    built = []

    class Counting(gaussian.CirculantEmbedding):
        def __init__(self, *arguments, **options):
            built.append(self)
            super().__init__(*arguments, **options)

    monkeypatch.setattr(gaussian, "CirculantEmbedding", Counting)
    lists = make_field({"kind": "hierarchical", "correlation_length": {"choice": [0.1, 0.2, 0.3]}}, 2, 8)
    first = [lists.sample(1, k).Z for k in range(40)]
    assert len(built) == 3
    monkeypatch.setattr(gaussian, "_KEPT_BYTES", 2 * built[0].nbytes)
    assert all(np.array_equal(lists.sample(1, k).Z, first[k]) for k in range(40))
    assert len(lists.family._samplers) == 2 and len(built) > 3
    built.clear()
    interval = make_field({"kind": "hierarchical", "correlation_length": {"uniform": [0.1, 0.3]}}, 2, 8)
    for k in range(5):
        interval.sample(1, k)
    assert len(built) == 5 and not interval.family._samplers


def test_hierarchical_field_tells_of_covariance_errors_once():
    settings = {"kind": "hierarchical", "correlation_length": {"uniform": [5.0, 6.0]}, "smoothness": 1.5}
    field = make_field(settings, 2, 4)
    with pytest.warns(UserWarning, match="changes the covariance by up to") as caught:
        field.sample(0, 0)
    assert len(caught) == 1 and field.covariance_error > 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        field.sample(0, 1)


def test_uniformly_elliptic():
    """Kolmogorov–Smirnov test, false-alarm probability 1e-6."""
    Z = make_field({"kind": "uniform", "alpha": 1, "beta": 5}, 2, 64).sample(0, 0).Z
    assert Z.shape == (64, 64)
    assert scipy.stats.kstest(np.exp(Z).ravel(), scipy.stats.uniform(1, 4).cdf).pvalue > FALSE_ALARM


LAWS = [
    {"kind": "lognormal", "variance": 0.5, "correlation_length": 0.1},
    {"kind": "lognormal", "covariance": "Gaussian", "correlation_length": 0.05},
    {"kind": "hierarchical", "correlation_length": {"uniform": [0.05, 0.25]}},
    {"kind": "hierarchical", "correlation_length": {"choice": [0.05, 0.1]}, "smoothness": {"uniform": [0.5, 1]}},
    {"kind": "uniform", "alpha": 2, "beta": np.float32(3)},
    {},
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
    again = make_field(json.loads(json.dumps(forwards.settings())), 2, 8)
    assert np.array_equal(again.sample(5, 2).Z, first[2]) and again.settings() == forwards.settings()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "magic"}, "field.kind must be one of .* got 'magic'"),
        ({"kind": ["lognormal"]}, "field.kind must be one of"),
        ([("variance", 1)], "field must be a table of settings"),
        ({"variance": 0}, "field.variance must be .* got 0"),
        ({"variance": "much"}, "field.variance must be .* got 'much'"),
        ({"variance": True}, "field.variance must be .* got True"),
        ({"correlation_length": -1}, "field.correlation_length must be .* got -1"),
        ({"smoothness": float("nan")}, "field.smoothness must be .* got nan"),
        ({"smoothness": 0.1}, "GSTools' Matern model does not take"),
        ({"smoothness": 21}, "smoothness must be at most 20, got 21"),
        ({"variance": {"uniform": [1, 2]}}, "field.variance is random, which needs field.kind = 'hierarchical'"),
        ({"rho": 1}, "field.rho is no setting of a lognormal field, expected .*correlation_length"),
        ({3: 1}, "field.3 is no setting of a lognormal field"),
        ({"sampler": "dice"}, "field.sampler must be one of .* got 'dice'"),
        ({"sampler": ["circulant"]}, "field.sampler must be one of"),
        ({"covariance": "Nonsense"}, "covariance must be the name of a GSTools"),
        ({"covariance": 1}, "covariance must be the name of a GSTools"),
        ({"covariance": "Gaussian", "smoothness": 1.0}, "smoothness belongs to the Matern model"),
        ({"kind": "hierarchical", "variance": {"uniform": [2, 1]}}, r"field.variance must be .* a < b, got .*\[2, 1\]"),
        ({"kind": "hierarchical", "variance": {"loguniform": [0, 1]}}, "field.variance must be"),
        ({"kind": "hierarchical", "variance": {"uniform": [1, 2, 3]}}, "field.variance must be"),
        ({"kind": "hierarchical", "variance": {"uniform": 2}}, "field.variance must be"),
        ({"kind": "hierarchical", "variance": {"choice": []}}, "field.variance must be"),
        ({"kind": "hierarchical", "variance": {"choice": [1, -1]}}, "field.variance must be"),
        ({"kind": "hierarchical", "variance": {"cycle": []}}, "field.variance must be"),
        ({"kind": "hierarchical", "variance": {"normal": [0, 1]}}, "field.variance must be"),
        ({"kind": "hierarchical", "smoothness": {"uniform": [0.1, 1]}}, "GSTools' Matern model does not take"),
        ({"kind": "hierarchical", "smoothness": {"choice": [1, 30, 2]}}, "smoothness must be at most 20, got 30"),
        ({"kind": "hierarchical", "alpha": 1}, "field.alpha is no setting of a hierarchical field"),
        ({"kind": "uniform", "alpha": 5, "beta": 1}, "field.alpha must be less than field.beta, got 5 and 1"),
        ({"kind": "uniform", "alpha": 0}, "field.alpha must be a positive number, got 0"),
        ({"kind": "uniform", "beta": "five"}, "field.beta must be a positive number, got 'five'"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(InputError, match=message):
        make_field(settings, 2, 8)


@pytest.mark.parametrize("kind", ["lognormal", "hierarchical", "uniform"])
def test_bad_arguments(kind):
    with pytest.raises(InputError, match="dim must be 1, 2 or 3, got 4"):
        make_field({"kind": kind}, 4, 8)
    with pytest.raises(InputError, match="cells must be a positive integer, got 0"):
        make_field({"kind": kind}, 2, 0)
    law = make_field({"kind": kind}, 2, 8)
    with pytest.raises(InputError, match="seed must be a non-negative integer, got -1"):
        law.sample(-1, 0)
    with pytest.raises(InputError, match=r"index must be a non-negative integer, got 1\.5"):
        law.sample(0, 1.5)
    with pytest.raises(InputError, match="stage must be a non-negative integer, got -2"):
        law.sample(0, 0, stage=-2)
