"""Findings on numbers for which the answer is known, both ways; statistics against hand calculations."""

from __future__ import annotations

import copy

import numpy as np
import pytest

from nnlod_fenics import Grid
from nnlod_fenics.norms import prolong
from nnlod_fenics.reproduce.experiments import EXPERIMENTS, NETWORKS
from nnlod_fenics.reproduce.findings import findings
from nnlod_fenics.reproduce.statistics import average, differences, integrals, mean_field

GAP = {"small": 2.0, "large": 1.2}


def made_run(loss: float, gap: float, solution: float, amplitude: float) -> dict:
    interval = {"mean": amplitude, "standard error": 0.01, "low": amplitude - 0.02, "high": amplitude + 0.02}
    against = {
        "relative L2 error": {"mean": solution, "standard error": 0.0, "low": solution, "high": solution},
        "amplitude": interval,
        "share below": 0.8,
        "relative L2 distance of the means": 0.01,
        "nodes below": 1.0,
    }
    return {
        "losses": {"train": loss / gap, "validation": loss, "test": 1.1 * loss, "test, large set": 1.05 * loss},
        "history": [{"train": 1.0, "validation": 1.0}, {"train": loss / gap, "validation": loss}],
        "against PG-LOD": against,
        "against FEM": copy.deepcopy(against),
    }


def made_results() -> dict:
    """Results in which every finding of the paper is shown."""
    results = {}
    for name, experiment in EXPERIMENTS.items():
        level = {"low": 1.0, "moderate": 2.0, "high": 20.0}[experiment.contrast] * 1e-3
        runs: dict = {}
        for network in NETWORKS:
            for size, factor in (("small", 1.0), ("large", 0.3)):
                for start, more in (("scratch", 3.0), ("transfer", 1.0)):
                    gap = GAP[size] * (1 + 100 * level * factor)
                    amplitude = -0.1 if size == "small" else -0.05
                    run = made_run(level * factor * more, gap, level * factor, amplitude)
                    runs.setdefault(network, {}).setdefault(size, {})[start] = run
        monte_carlo = {"PG-LOD": {"against FEM": {"relative L2 distance of the means": 0.02}}}
        results[name] = {"experiment": name, "runs": runs, "monte carlo": monte_carlo}
    return results


def verdicts(name: str, results: dict, network: str = "paper") -> dict[str, bool | None]:
    return {
        finding.claim: verdict.shown
        for finding in findings(name, results)
        for verdict in finding.verdicts
        if verdict.network == network
    }


def run(results: dict, name: str, size: str, start: str = "transfer") -> dict:
    return results[name]["runs"]["paper"][size][start]


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_all_are_shown_where_the_numbers_say_so(name):
    found = verdicts(name, made_results())
    assert len(found) == {"1": 9, "1-H": 5, "2-H": 5, "3-H": 7}.get(name, 9)
    assert set(found.values()) == {True}


def set_loss(key: str, value: float, size: str = "small", start: str = "transfer"):
    return lambda results, name: run(results, name, size, start)["losses"].update({key: value})


def set_amplitude(size: str, against: str, mean: float):
    part = {"mean": mean, "standard error": 0.01, "low": mean - 0.02, "high": mean + 0.02}
    return lambda results, name: run(results, name, size)[against].update(amplitude=part)


def set_against(size: str, against: str, key: str, value):
    return lambda results, name: run(results, name, size)[against].update({key: value})


def set_history(size: str, gap: float):
    return lambda results, name: run(results, name, size).update(history=[{"train": 1.0, "validation": gap}])


LOD, FEM, ERROR = "against PG-LOD", "against FEM", "relative L2 error"
MEANS = "relative L2 distance of the means"

CHANGES = {
    "The error of the local matrices grows": ("2", set_loss("test", 1e-4)),
    "The error of the NN-LOD solution grows": ("2", set_against("small", LOD, ERROR, {"mean": 1e-9})),
    "With increasing contrast the network generalizes worse": ("3", set_history("small", 1.0)),
    "More data lowers the error of the local": ("1-H", set_loss("test, large set", 1.0, "large")),
    "More data lowers the error of the NN-LOD": ("1", set_against("large", LOD, ERROR, {"mean": 1.0})),
    "With more data training and validation": ("2", set_history("large", 9.0)),
    "Transfer learning helps": ("3-H", set_loss("test, large set", 1e-6, "large", "scratch")),
    "The loss on the test set is close": ("3", set_loss("test", 1.0)),
    "The solution of the network of the small": ("1", set_amplitude("small", LOD, 0.01)),
    "The Monte Carlo mean is well": ("2-H", set_against("large", FEM, MEANS, 0.06)),
    "The losses are an order": ("3-H", set_loss("validation", 1e-3, "large")),
    "The Monte Carlo mean of NN-LOD undershoots": ("3-H", set_amplitude("large", FEM, -0.01)),
    "The bias of the mean can be": ("3-H", set_amplitude("large", LOD, 0.2)),
}


@pytest.mark.parametrize("claim", CHANGES)
def test_each_is_not_shown_where_the_numbers_say_so(claim):
    name, change = CHANGES[claim]
    results = made_results()
    change(results, name)
    changed = {key: shown for key, shown in verdicts(name, results).items() if key.startswith(claim)}
    assert list(changed.values()) == [False]
    assert set(verdicts(name, results, "structured").values()) == {True}  # judged on its own


def test_every_finding_is_tested_both_ways():
    claims = {claim for name in EXPERIMENTS for claim in verdicts(name, made_results())}
    assert all(sum(claim.startswith(start) for start in CHANGES) == 1 for claim in claims)
    assert len(claims) == len(CHANGES)


def test_undershoot_needs_the_whole_domain():
    results = made_results()
    run(results, "3-H", "large")["against FEM"]["nodes below"] = 0.5
    (shown,) = (s for claim, s in verdicts("3-H", results).items() if "undershoots" in claim)
    assert shown is False


def test_a_bias_in_either_direction_is_one():
    results = made_results()
    set_amplitude("small", "against PG-LOD", 0.1)(results, "1")
    (shown,) = (s for claim, s in verdicts("1", results).items() if "biased in amplitude" in claim)
    assert shown is True


def test_what_needs_other_experiments_is_not_examined_alone():
    results = made_results()
    alone = verdicts("2", {"2": results["2"]})
    assert [claim for claim, shown in alone.items() if shown is None] == [
        claim for claim in alone if "contrast" in claim
    ]
    assert sum(shown is None for shown in alone.values()) == 3
    high = verdicts("3-H", {name: results[name] for name in ("2-H", "3-H")})
    assert [claim for claim, shown in high.items() if shown is None] == [c for c in high if c.startswith("The losses")]


def test_order_of_contrast_counts_and_not_that_of_running():
    results = made_results()
    backwards = {name: results[name] for name in reversed(list(results))}
    assert verdicts("2", backwards) == verdicts("2", results)


# -- statistics --------------------------------------------------------------------------------------


def test_average():
    part = average([1.0, 2.0, 3.0])
    assert part["mean"] == 2 and part["standard error"] == pytest.approx(3**-0.5)
    assert part["high"] - 2 == pytest.approx(4.302653 * 3**-0.5, rel=1e-6)  # Student's t, 2 degrees of freedom
    assert 2 - part["low"] == pytest.approx(part["high"] - 2)


def hats(heights: list[float], n: int) -> np.ndarray:
    """Multiples of the Q1 interpolant of the pyramid on four elements, on n × n elements."""
    hat = np.zeros((5, 5))
    hat[2, 2] = 1
    return np.stack([h * prolong(Grid(dim=2, coarse=4, fine=n, ell=1), hat) for h in heights])


def test_integrals():
    for n in (4, 8, 16):
        np.testing.assert_allclose(integrals(hats([1.0, 3.0], n)), [1 / 16, 3 / 16])


def test_mean_field():
    part = mean_field(hats([1.0, 3.0], 4))
    assert part["integral"]["mean"] == pytest.approx(2 / 16)
    assert part["relative standard error"] == pytest.approx(1 / 2)  # standard deviation √2, by √2, by the mean 2


def test_differences():
    grid = Grid(dim=2, coarse=4, fine=16, ell=1)
    part = differences(grid, hats([1.1, 0.9, 1.6], 4), hats([1.0, 1.0, 2.0], 16))
    assert part["amplitude"]["mean"] == pytest.approx((0.1 - 0.1 - 0.2) / 3)
    assert part["relative L2 error"]["mean"] == pytest.approx((0.1 + 0.1 + 0.2) / 3)
    assert part["share below"] == pytest.approx(2 / 3)
    assert part["relative L2 distance of the means"] == pytest.approx(0.4 / 4)
    assert part["nodes below"] == pytest.approx(1 / 9)  # of 3 × 3 inner nodes the hat's only
    same = differences(grid, hats([1.1, 0.9, 1.6], 4), hats([1.0, 1.0, 2.0], 4))
    assert same["amplitude"] == pytest.approx(part["amplitude"])
