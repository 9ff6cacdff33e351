"""Families of fields: two phases, layers, trends, sums, mixtures, random anisotropy and angles, units of H.

Statistical bounds are those of sample_covariance.py: false-alarm probability 1e-6 for each assertion, seeds fixed.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
from sample_covariance import FALSE_ALARM, assert_covariance, formula, lags, turned_formula
from scipy.spatial.transform import Rotation

import nnlod_fenics as nnlod
from nnlod_fenics import NNLOD, Dataset, Grid, InputError, load_config
from nnlod_fenics.dataset.verify import verify_dataset
from nnlod_fenics.fields import FieldSample, make_field, registry
from nnlod_fenics.fields.radial import matern_correlation
from nnlod_fenics.workflows.evaluate import fresh_realization

UNIVERSAL = Path(__file__).parents[2] / "demos" / "config" / "universal-2d.toml"
BOXES = {1: ((6,), (1.0,)), 2: ((4, 3), (1.0, 0.5)), 3: ((3, 2, 2), (1.0, 0.5, 0.7))}
TURNED = {1: {}, 2: {"angles": 0.6}, 3: {"angles": [0.6, -0.4, 0.3]}}


def angles_of(dim: int) -> tuple[float, ...]:
    given = TURNED[dim].get("angles", ())
    return tuple(given) if isinstance(given, list) else (given,) if given else ()


def drawn(law, count: int, seed: int = 3) -> list[FieldSample]:
    return [law.sample(seed, k) for k in range(count)]


def flat(samples) -> np.ndarray:
    return np.stack([sample.Z.ravel() for sample in samples])


@pytest.mark.parametrize("nu", [0.2, 0.5, 1.0, 1.7, 5.0, 20.0])
def test_the_spline_is_the_matern_correlation(nu):
    s = np.concatenate([[0.0], np.logspace(-7, 2.5, 3001)])
    own = matern_correlation((s**2).reshape(2, -1), nu).ravel()
    np.testing.assert_allclose(own, formula(s, 1.0, np.sqrt(2 * nu), nu), rtol=0, atol=1e-12)


@pytest.mark.parametrize("dim", [2, 3])
def test_random_angles_and_anisotropy(dim):
    """Given its parameters, a field has the covariance (2.3) with these axes."""
    names = {2: ["angle"], 3: ["yaw", "pitch", "roll"]}[dim]
    turns = [{"choice": [0.6, -0.9]}, -0.4, 0.3][: len(names)]
    settings = {"kind": "hierarchical", "variance": 2.0, "correlation_length": 0.8, "anisotropy": {"choice": [2, 5]}}
    settings |= {"angles": turns[0] if dim == 2 else turns}
    law = make_field(settings, dim, *BOXES[dim])
    assert law.settings() == settings | {"smoothness": 0.5} and law.parameter_names[-len(names) :] == tuple(names)
    samples = drawn(law, 8000)
    for ratio in (2, 5):
        for first in (0.6, -0.9):
            mine = [s for s in samples if (s.parameters["anisotropy"], s.parameters[names[0]]) == (ratio, first)]
            rho = (0.8, *(0.8 / ratio,) * (dim - 1))
            angles = (first, -0.4, 0.3)[: len(names)]
            assert_covariance(flat(mine), turned_formula(lags(*BOXES[dim]), 2.0, rho, angles, 0.5))


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_two_phases(dim):
    """Shares of single cells and of pairs, which are orthant probabilities of the Gaussian field."""
    lengths = [0.5, 0.1, 0.3][:dim] if dim > 1 else 0.5
    settings = {"kind": "two-phase", "contrast": 0.02, "share": 0.3, "correlation_length": lengths, "mean": 0.4}
    law = make_field(settings | {"smoothness": 0.5} | TURNED[dim], dim, *BOXES[dim])
    inside = flat(samples := drawn(law, 6000)) < -1
    assert {*np.unique(flat(samples))} == {0.4, 0.4 + np.log(0.02)} and samples[0].parameters["contrast"] == 0.02
    rho = tuple(lengths) if dim > 1 else (0.5,)
    correlation = turned_formula(lags(*BOXES[dim]), 1.0, rho, angles_of(dim), 0.5)
    level = scipy.stats.norm.ppf(0.3)
    both = np.full_like(correlation, 0.3)
    for i, j in zip(*np.nonzero(correlation < 1), strict=True):
        both[i, j] = scipy.stats.multivariate_normal([0, 0], [[1, correlation[i, j]], [correlation[i, j], 1]]).cdf(
            [level, level]
        )
    count = inside.T.astype(int) @ inside.astype(int)
    tails = scipy.stats.binom(len(inside), both)
    lower, upper = tails.cdf(count), tails.sf(count - 1)
    assert np.minimum(lower, upper).min() > FALSE_ALARM / count.size / 2


def test_random_contrasts_and_shares():
    """The share is that of a cell; the contrast is drawn above and below one, by its law (Kolmogorov–Smirnov)."""
    given = {"contrast": {"loguniform": [0.01, 100]}, "share": {"uniform": [0.1, 0.5]}}
    law = make_field({"kind": "two-phase", "correlation_length": 0.2} | given, 2, 4)
    samples = drawn(law, 4000)
    share = np.array([s.parameters["share"] for s in samples])
    jump = np.log([s.parameters["contrast"] for s in samples])
    assert scipy.stats.kstest(share, scipy.stats.uniform(0.1, 0.4).cdf).pvalue > FALSE_ALARM
    assert scipy.stats.kstest(jump / np.log(100), scipy.stats.uniform(-1, 2).cdf).pvalue > FALSE_ALARM
    cell = np.array([s.Z[1, 2] for s in samples])
    assert np.all((cell == 0) | (cell == jump))
    score = ((cell == jump) - share).sum() / np.sqrt((share * (1 - share)).sum())
    assert abs(score) < scipy.stats.norm.isf(FALSE_ALARM / 2)


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_layers(dim):
    """The covariance is σ² exp(−t/thickness), t across: a product has variance σ⁴ (1 + 2p − p²), p that exponential."""
    law = make_field(
        {"kind": "layered", "variance": 1.7, "thickness": 0.3, "mean": 0.5} | TURNED[dim], dim, *BOXES[dim]
    )
    n, Z = 6000, flat(drawn(law, 6000)) - 0.5
    across = (*(1e12,) * (dim - 1), 0.3)
    p = turned_formula(lags(*BOXES[dim]), 1.0, across, angles_of(dim), 0.5)
    z = scipy.stats.norm.isf(FALSE_ALARM / p.size / 2)
    assert (np.abs(Z.T @ Z / n / 1.7 - p) <= z * np.sqrt((1 + 2 * p - p**2) / n)).all()
    assert (np.abs(Z.mean(axis=0)) <= z * np.sqrt(1.7 / n)).all()
    assert scipy.stats.kstest(Z[:, 0], scipy.stats.norm(0, np.sqrt(1.7)).cdf).pvalue > FALSE_ALARM


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_a_trend_is_linear_along_its_direction(dim):
    cells, lengths = BOXES[dim]
    sample = make_field({"kind": "trend", "slope": {"choice": [-0.7, 0.4]}} | TURNED[dim], dim, cells, lengths).sample(
        0, 5
    )
    direction = {
        1: lambda: np.ones(1),
        2: lambda: np.array([np.cos(0.6), np.sin(0.6)]),
        3: lambda: Rotation.from_euler("zyx", [0.6, -0.4, 0.3]).apply([1.0, 0, 0]),
    }[dim]()
    steps = lags(cells, lengths)[:, 0]  # from the first cell
    expected = sample.parameters["slope"] * steps @ direction
    assert sample.parameters["slope"] in (-0.7, 0.4)
    np.testing.assert_allclose(sample.Z.ravel() - sample.Z.ravel()[0], expected, atol=1e-14)
    assert sample.Z.mean() == pytest.approx(0, abs=1e-14)


def test_sums_are_of_independent_fields():
    """Two scales: covariances add up; of two equal laws too, which the same noise would give four times."""
    fine = {"kind": "lognormal", "variance": 0.5, "correlation_length": 0.1}
    coarse = {"kind": "hierarchical", "variance": {"choice": [1.5]}, "correlation_length": 0.9, "mean": 0.3}
    law = make_field({"kind": "sum", "laws": [fine, coarse]}, 2, *BOXES[2])
    samples = drawn(law, 6000)
    distance = np.linalg.norm(lags(*BOXES[2]), axis=-1)
    assert_covariance(flat(samples) - 0.3, formula(distance, 0.5, 0.1, 0.5) + formula(distance, 1.5, 0.9, 0.5))
    assert samples[0].parameters == {
        "variance_0": 0.5,
        "correlation_length_0": 0.1,
        "smoothness_0": 0.5,
        "variance_1": 1.5,
        "correlation_length_1": 0.9,
        "smoothness_1": 0.5,
    }
    twice = make_field({"kind": "sum", "laws": [fine, fine]}, 2, *BOXES[2])
    assert_covariance(flat(drawn(twice, 6000)), 2 * formula(distance, 0.5, 0.1, 0.5))


def test_mixtures():
    """Weights (χ²), and given the law its parameters (Kolmogorov–Smirnov) and covariance, as if it were alone."""
    lognormal = {"kind": "lognormal", "variance": 0.5, "correlation_length": 0.3}
    random = {"kind": "hierarchical", "variance": {"uniform": [0.2, 0.6]}, "correlation_length": 0.3, "weight": 2.5}
    law = make_field({"kind": "mixture", "laws": [lognormal, random, lognormal | {"weight": 0.5}]}, 1, *BOXES[1])
    samples = drawn(law, 12000)
    number = np.array([s.parameters["law"] for s in samples])
    counts = [np.count_nonzero(number == i) for i in range(3)]
    assert scipy.stats.chisquare(counts, np.array([1, 2.5, 0.5]) / 4 * 12000).pvalue > FALSE_ALARM
    distance = np.abs(lags(*BOXES[1])[..., 0])
    for i in (0, 2):
        assert_covariance(flat([s for s in samples if s.parameters["law"] == i]), formula(distance, 0.5, 0.3, 0.5))
    mine = [s for s in samples if s.parameters["law"] == 1]
    variances = np.array([s.parameters["variance"] for s in mine])
    assert scipy.stats.kstest(variances, scipy.stats.uniform(0.2, 0.4).cdf).pvalue > FALSE_ALARM
    assert_covariance(flat(mine) / np.sqrt(variances)[:, None], formula(distance, 1.0, 0.3, 0.5))


def nested(dim: int) -> dict:
    turned = TURNED[dim] | ({} if dim == 1 else {"anisotropy": {"loguniform": [1, 10]}})
    phases = {"kind": "two-phase", "contrast": {"loguniform": [0.1, 10]}, "correlation_length": 1.5, "unit": "H"}
    rough = {"kind": "hierarchical", "correlation_length": {"uniform": [0.5, 2]}, "unit": "H", "covariance": "Gaussian"}
    layers = {"kind": "layered", "thickness": {"choice": [0.2, 0.3]}, "weight": 2.0} | TURNED[dim]
    trend = {"kind": "trend", "slope": {"uniform": [-1, 1]}, "unit": "H"} | TURNED[dim]
    plain = {"kind": "lognormal", "correlation_length": 0.8, "unit": "H"}
    laws = [layers, {"kind": "sum", "laws": [phases | turned, rough, trend]}, plain, {"kind": "uniform"}]
    return {"kind": "mixture", "laws": laws}


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_realizations_depend_on_seed_index_and_stage_alone(dim):
    laws = [make_field(nested(dim), dim, 8, None, 0.25) for _ in range(2)]
    first = [laws[0].sample(5, k) for k in range(20)]
    for k in (13, 0, 19, 7, *range(20)):
        again = laws[1].sample(5, k)
        assert np.array_equal(again.Z, first[k].Z) and again.parameters == first[k].parameters
    assert len({s.Z.tobytes() for s in first}) == 20 and {s.parameters["law"] for s in first} == {0, 1, 2, 3}
    assert not np.array_equal(laws[0].sample(5, 0, stage=1).Z, first[0].Z)
    assert not np.array_equal(laws[0].sample(6, 0).Z, first[0].Z)
    settings = json.loads(json.dumps(laws[0].settings()))
    other = make_field(settings, dim, 8, None, 0.25)
    assert other.settings() == settings
    assert all(np.array_equal(other.sample(5, k).Z, first[k].Z) for k in range(20))
    assert {name for s in first for name in s.parameters} <= set(laws[0].parameter_names)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("lognormal", "correlation_length"),
        ("hierarchical", "correlation_length"),
        ("two-phase", "correlation_length"),
        ("layered", "thickness"),
    ],
)
def test_lengths_in_units_of_elements(kind, name):
    law = make_field({"kind": kind, name: 2, "unit": "H"}, 2, 8, 3.0, (0.25, 0.25))
    assert law.settings()["unit"] == "H" and law.settings()[name] == 2 == law.sample(0, 0).parameters[name]
    same = make_field({"kind": kind, name: 0.5}, 2, 8, 3.0)
    assert np.array_equal(law.sample(1, 2).Z, same.sample(1, 2).Z) and "unit" not in same.settings()
    with pytest.raises(InputError, match=r"field\.unit = 'H' needs the width of a coarse element, got none"):
        make_field({"kind": kind, "unit": "H"}, 2, 8)
    with pytest.raises(InputError, match=r"as wide along all axes, got \(0\.25, 0\.5\)"):
        make_field({"kind": kind, "unit": "H"}, 2, 8, None, (0.25, 0.5))
    with pytest.raises(InputError, match=r"field\.unit must be 'D' .* or 'H' .* got 'h'"):
        make_field({"kind": kind, "unit": "h"}, 2, 8)


def test_slopes_in_units_of_elements():
    per_element = make_field({"kind": "trend", "slope": 0.5, "unit": "H"}, 2, 8, None, 0.25).sample(0, 0).Z
    np.testing.assert_allclose(np.diff(per_element, axis=1), 0.25, atol=1e-14)  # two cells an element


CONFIG = [
    "grid.coarse=4",
    "grid.fine=8",
    "grid.ell=1",
    "grid.coefficient=8",
    "dataset.realizations=12",
    "training.epochs=1",
    "network.options={channels=4, means=4}",
]


def test_datasets_and_models_keep_law_and_parameters(tmp_path):
    table = tmp_path / "run.toml"
    table.write_text("[field]\nkind = 'mixture'\n" + "\n".join(f"[[field.laws]]\n{text}" for text in LAWS_IN_TOML))
    config = load_config(table, CONFIG)
    data = Dataset(nnlod.generate(config, tmp_path / "data"))
    law = config.make_field()
    assert data.field_settings == law.settings() == config.resolved()["field"]
    for k in range(12):
        assert data.parameters(k) == law.sample(0, k).parameters
        np.testing.assert_array_equal(data.Z(k), law.sample(0, k).Z)
    assert len({frozenset(data.parameters(k)) for k in range(12)}) == 3
    assert verify_dataset(data, 12).problems == []
    model = NNLOD.load(nnlod.train(data, tmp_path / "model", options=config.network.options, settings=config.training))
    grid = model.grid
    again = make_field(model.law, grid.dim, grid.coefficient, grid.lengths, grid.widths)
    assert np.array_equal(again.sample(0, 3).Z, data.Z(3))
    assert fresh_realization(model, 0).parameters["law"] in (0, 1, 2)


LAWS_IN_TOML = [
    "kind = 'two-phase'\ncontrast = {loguniform = [0.1, 10]}\ncorrelation_length = 1.0\nunit = 'H'",
    "kind = 'layered'\nthickness = 0.2\nweight = 2",
    "kind = 'sum'\nlaws = [{variance = 0.5, unit = 'H'}, {kind = 'trend', slope = 0.3}]",
]


def test_the_universal_family():
    config = load_config(UNIVERSAL)
    grid, law = config.make_grid(), config.make_field()
    assert (grid.cells_per_element, grid.ratio, grid.ell) == (4, 8, 1)
    assert law.sample(0, 0).Z.shape == (64, 64)
    few = make_field(config.field, 2, 16, None, 1 / 16)
    samples = drawn(few, 100)
    assert all(np.isfinite(s.Z).all() for s in samples)
    assert {s.parameters["law"] for s in samples} == set(range(7))
    other = Grid(2, (4, 6), (32, 48), 2, coefficient=(16, 24), lengths=(40.0, 60.0))
    assert make_field(config.field, 2, other.coefficient, other.lengths, other.widths).sample(0, 0).Z.shape == (24, 16)


class Strange:
    """A law of a user's own in a mixture, which says nothing of its parameters."""

    def __init__(self, dim, cells, value=1.0, name="value"):
        self.cells, self.value, self.name = cells, value, name

    def sample(self, seed, index, stage=0):
        return FieldSample(np.full((self.cells, self.cells), self.value), {self.name: self.value})

    def settings(self):
        return {"kind": "strange", "value": self.value, "name": self.name}


def test_registered_laws_in_mixtures(monkeypatch):
    monkeypatch.setitem(registry._FACTORIES, "strange", Strange)
    law = make_field({"kind": "mixture", "laws": [{"kind": "strange", "value": 2.0}, {}]}, 2, 4)
    assert law.parameter_names == ("law", "value", "variance", "correlation_length", "smoothness")
    assert {"law": 0.0, "value": 2.0} in [s.parameters for s in drawn(law, 20)]
    with pytest.raises(InputError, match=r"field\.laws\[1\] must .* have no parameter called law"):
        make_field({"kind": "mixture", "laws": [{}, {"kind": "strange", "name": "law"}]}, 2, 4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "mixture"}, r"field\.laws of a mixture must be a list of tables .* got None"),
        ({"kind": "mixture", "laws": []}, r"field\.laws must have at least one law of a mixture, got none"),
        ({"kind": "sum", "laws": {}}, r"field\.laws of a sum must be a list of tables .* got \{\}"),
        ({"kind": "sum", "laws": ["lognormal"]}, r"must be a list of tables .* got \['lognormal'\]"),
        ({"kind": "sum", "laws": [{"weight": 2}]}, r"field\.laws\[0\]\.weight is no setting of a lognormal field"),
        (
            {"kind": "mixture", "laws": [{}, {"weight": 0}]},
            r"field\.laws\[1\]\.weight must be a positive number, got 0",
        ),
        (
            {"kind": "mixture", "laws": [{"kind": "sum", "laws": [{}, {"variance": 0}]}]},
            r"field\.laws\[0\]\.laws\[1\]\.var",
        ),
        ({"kind": "mixture", "laws": [{"smoothness": 0.1}]}, r"field\.laws\[0\]: GSTools' Matern model does not take"),
        (
            {"kind": "mixture", "laws": [{"conditions": [[0.1, 0.1, 1]]}]},
            r"field\.laws\[0\]\.conditions: .* no measured",
        ),
        ({"kind": "mixture", "laws": [{}, {"kind": "mixture", "laws": [{}]}]}, r"field\.laws\[1\] must be no mixture"),
        ({"kind": "two-phase", "share": 1}, r"field\.share must be between 0 and 1, got 1"),
        ({"kind": "two-phase", "share": {"uniform": [0.5, 1.5]}}, r"field\.share must be between 0 and 1"),
        ({"kind": "two-phase", "contrast": -2}, r"field\.contrast must be a positive number, .* got -2"),
        ({"kind": "layered", "thickness": 1e-9}, r"field\.thickness must give at most 1000000 layers"),
        ({"kind": "layered", "angles": [0.1, 0.2]}, r"field\.angles must be one number or law for d = 2"),
        ({"kind": "trend", "slope": {"loguniform": [-1, 1]}}, r"field\.slope must be a number, .* got .*\[-1, 1\]"),
        ({"kind": "trend", "slope": {"uniform": [1, -1]}}, r"field\.slope must be .* a < b"),
        ({"kind": "hierarchical", "anisotropy": 0}, r"field\.anisotropy must be a positive number"),
        ({"kind": "hierarchical", "anisotropy": 2, "correlation_length": [1, 2]}, r"needs d > 1 and one correlation"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(InputError, match=message):
        make_field(settings, 2, 8)
