"""Several models beside the reference: unbiased, resumed, parallel, told of, and refused in one sentence."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from montecarlo_job import FUNCTIONALS, SETTINGS
from problem import GRID, LevelLaw, mean_solution, wrong_model
from waiting import PATIENCE

from nnlod_fenics import InputError
from nnlod_fenics.config.montecarlo import read_model
from nnlod_fenics.fields import FieldSample
from nnlod_fenics.montecarlo import MonteCarloSettings, monte_carlo
from nnlod_fenics.montecarlo.allocation import Costs, Plan, kind_of, models_of
from nnlod_fenics.montecarlo.estimators import Moments
from nnlod_fenics.montecarlo.report import table

MODELS = ["nn", "averaged", "averaged:2"]
SEVERAL = SETTINGS.changed(samples=40, models=MODELS, cost_ratio=[5.0, 10.0, 8.0])
REPETITIONS = 400


class CellsLaw(LevelLaw):
    """The level, and some noise of each cell, of which models differ in what they know."""

    def sample(self, seed: int, index: int, stage: int = 0) -> FieldSample:
        noise = np.random.default_rng([seed, stage, index, 1]).standard_normal(GRID.coefficient_shape)
        return FieldSample(super().sample(seed, index, stage).Z + 0.1 * noise, {})


def run(settings=SEVERAL, law=None, output=None, **options):
    return monte_carlo(
        GRID, law or LevelLaw(), settings, wrong_model(), functionals=FUNCTIONALS, output=output, **options
    )


def test_coverage_with_several_models():
    """Binomial with 25 and 0.95: fewer than 19 with probability 2e-04."""
    exact, inside = mean_solution()[GRID.coarse[0] // 2], 0
    for seed in range(25):
        low, high = run(SEVERAL.changed(seed=seed)).functionals["middle"].interval
        inside += low <= exact <= high
    assert inside >= 19


def test_unbiased_for_groups_of_all_kinds():
    """exp(0.3 ξ + 0.1 η), by itself, by a model without η, and by one that is off by a factor and a wave."""
    groups = ((0, 1, 2), (1, 2), (2,), (1,))
    counts = {"samples": 20, "low3": 60, "low2": 400, "low": 100}

    def draw(seed, count):
        xi, eta = np.random.default_rng(seed).standard_normal((2, count, REPETITIONS))
        crude = 2 * np.exp(0.3 * xi) + 0.1 * np.sin(9 * xi) + 1
        return np.stack([np.exp(0.3 * xi + 0.1 * eta), np.exp(0.3 * xi), crude], axis=1)

    pilot = Moments.of(draw(0, 200))
    plan = Plan(groups, (1, 3, 20, 5), pilot.covariance, Costs((9.0, 1.0, 1.0)), (0, 0, 0), 1.0)
    parts = zip(groups, counts.items(), strict=True)
    moments = {
        kind: Moments.of(draw(k, count)[:, list(group)]) for k, (group, (kind, count)) in enumerate(parts, start=1)
    }
    found, spread = plan.statistics(moments), 0.3**2 + 0.1**2
    exact = {"mean": np.exp(spread / 2), "variance": (np.exp(spread) - 1) * np.exp(spread)}
    for name, value in exact.items():
        estimated = getattr(found, name)
        # A mean of 400 unbiased estimates is off by four of its standard errors with probability 6e-5.
        assert abs(estimated.value.mean() - value) < 4 * estimated.value.std() / np.sqrt(REPETITIONS)
        # A variance from 400 values has a relative standard deviation of 0.07 (0.1 with some kurtosis): four of them.
        assert estimated.squared_error.mean() == pytest.approx(estimated.value.var(), rel=0.4)
    assert found.mean.value.var() < 0.2 * exact["variance"] / 20  # a tenth is what η has, and the rest is corrected


def test_names_of_streams():
    for models in [(1,), (2,), (1, 2), (3,), (1, 3), (1, 2, 3, 4)]:
        assert models_of(kind_of(models)) == models
    assert [kind_of(models) for models in [(0, 2), (1,), (2,), (1, 2)]] == ["samples", "low", "low2", "low3"]


def test_resumed_with_other_sample_numbers(tmp_path):
    """Blocks with more models than the new plan takes are kept, those with fewer are computed again."""
    settings, law = SEVERAL, CellsLaw()
    first = run(settings, law, tmp_path / "m")
    then = run(settings.changed(samples=80), law, tmp_path / "m", resume=True)
    again = run(settings.changed(samples=80), law)
    for name, field in then.fields.items():
        np.testing.assert_array_equal(field, again.fields[name])
    assert then.samples == again.samples and first.samples != then.samples
    with pytest.raises(InputError, match="holds another run and cannot be resumed: models"):
        run(settings.changed(models=MODELS[::-1]), law, tmp_path / "m", resume=True)
    told = json.loads((tmp_path / "m" / "montecarlo.json").read_text())["plan"]
    assert [model["model"] for model in told["models"]] == ["lod", *MODELS]
    assert told["groups"][0]["stream"] == "samples" and told["groups"][0]["models"][0] == "lod"
    rows = dict(table(then))
    assert all(f"model {name}" in rows for name in MODELS)


@pytest.mark.parametrize("ranks", [1, 2])
def test_same_bits_for_every_number_of_ranks(ranks, tmp_path):
    command = ["mpirun", "-n", str(ranks), "--bind-to", "none", sys.executable]
    command += [str(Path(__file__).with_name("montecarlo_job.py")), str(tmp_path / "m.npz"), *MODELS]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, env=environment)
    assert done.returncode == 0, done.stderr
    written, whole = np.load(tmp_path / "m.npz"), run()
    for name in ("mean", "variance", "standard_error"):
        np.testing.assert_array_equal(written[name], getattr(whole, name))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("averaged", ("averaged", {})),
        ("averaged:2", ("averaged", {"refine": 2})),
        ("fem:1:geometric", ("averaged", {"refine": 1, "mean": "geometric"})),
        ("averaged:mean=0.5:refine=2", ("averaged", {"refine": 2, "mean": 0.5})),
        ("fem", ("fem", {})),
        ("lod:1:source_correctors", ("lod", {"ell": 1, "source_correctors": True})),
        ("nn:folder/model:1", ("nn", {"model": "folder/model:1"})),
    ],
)
def test_texts_of_models(text, expected):
    assert read_model(text) == expected


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"models": ["averaged:"]}, "models must be like 'averaged:2:harmonic'"),
        ({"models": ["averaged:2:harmonic:3:4"]}, "models must fit the problem, got 'averaged:2:harmonic:3:4': "),
        ({"models": ["averaged:3"]}, "models must fit the problem, got 'averaged:3': refine must divide"),
        ({"models": ["averaged:1:middle"]}, "'averaged:1:middle': mean must be one of"),
        ({"models": ["lod:form=wrong"]}, "'lod:form=wrong': form must be one of"),
        ({"models": ["fvm"]}, "models must be by one of the methods .*, got 'fvm'"),
        ({"models": ["nn:nowhere"]}, "nowhere"),
        ({"models": ["lod"]}, "models must differ from each other and from the reference, got 'lod'"),
        ({"models": ["nn", "averaged:1", "fem:1"]}, "models must differ from each other"),
        ({"models": []}, "models must be 1 to 4 models, got 0"),
        ({"models": [*MODELS, "fem", "lod:1"]}, "models must be 1 to 4 models, got 5"),
        ({"models": ["nn", "averaged"], "cost_ratio": 20.0}, "cost_ratio must be a list, a number for each of 2"),
        ({"models": ["nn", "averaged"], "cost_ratio": [1.0]}, "cost_ratio must have a number for each of 2 models"),
        ({"models": ["averaged"], "method": "lod"}, "models are those of the method multifidelity"),
        ({"models": MODELS, "pilot": 5}, "pilot must be at least 6 for 3 models"),
        ({"models": ["averaged"], "cost_ratio": 0.01, "samples": 60}, "samples must be larger, got 60: the pilot run"),
    ],
)
def test_models_that_do_not_fit(changes, message, tmp_path):
    given = {"samples": 60, "pilot": 8, "cost_ratio": None} | changes
    with pytest.raises(InputError, match=message):
        run(MonteCarloSettings(**given), output=tmp_path / "m")
    if "samples must be larger" not in message:
        assert not (tmp_path / "m").exists()
