"""Findings on numbers for which the answer is known, all ways; statistics against hand calculations."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from nnlod_fenics import Grid
from nnlod_fenics.lod.interpolation import quasi_interpolation
from nnlod_fenics.norms import prolong
from nnlod_fenics.workflows.reproduce.criteria import ANSWERS, NOT_DECIDED, NOT_EXAMINED, NOT_SHOWN, SHOWN
from nnlod_fenics.workflows.reproduce.experiments import EXPERIMENTS, NETWORKS
from nnlod_fenics.workflows.reproduce.findings import findings
from nnlod_fenics.workflows.reproduce.multifidelity import compare_means
from nnlod_fenics.workflows.reproduce.statistics import (
    average,
    combination,
    differences,
    distance_of_means,
    fields_needed,
    integrals,
    mean_field,
    share,
)

GAP = {"small": 3.0, "large": 1.2}
FIELDS = 20
LOD, FEM, TEST = "against PG-LOD", "against FEM", "test, common set"


def spread(middle: float, width: float = 0.05, shift: int = 0) -> list[float]:
    """Values of some fields whose logarithms average to that of the middle."""
    pattern = np.roll(np.linspace(-1, 1, FIELDS), shift)
    return list(middle * np.exp(width * pattern))


def around(middle: float, width: float) -> dict:
    values = middle + width * np.linspace(-1, 1, FIELDS)
    return average(values) | {"values": list(values)}


def interval(mean: float, width: float) -> dict:
    return {"mean": mean, "standard error": width / 2, "low": mean - width, "high": mean + width}


def made_run(loss: float, gap: float, solution: float, amplitude: float, shift: int) -> dict:
    against = {
        "relative L2 error": {"values": spread(solution, shift=shift)},
        "amplitude": around(amplitude, 0.01),
        "share below": 0.8,
        "distance of the means": interval(0.01, 0.002),
        "nodes surely below": 1.0,
        "nodes surely above": 0.0,
        "spread at nodes": 0.02,
    }
    sets = {"train": loss / gap, "validation": loss, "test": 1.1 * loss, TEST: loss}
    fields = {name: spread(value, shift=shift + k) for k, (name, value) in enumerate(sets.items())}
    return {"losses of fields": fields, LOD: dict(against), FEM: dict(against)}


def gap(mean: float, width: float) -> dict:
    """A difference with its three intervals."""
    wider = {"near low": mean - 0.8 * width, "near high": mean + 0.8 * width}
    return interval(mean, width) | wider | {"far low": mean - 2 * width, "far high": mean + 2 * width}


def made_mean() -> dict:
    return {
        "difference to PG-LOD": gap(0.001, 0.008),
        "distance of the means": {"value": 0.01, "expected": 0.012},
        "bias of NN-LOD": interval(-0.02, 0.005),
        "standard error": 0.003,
        "PG-LOD at equal cost": {"integral": 0.03},
        "gain": {"mean": 100.0, "low": 40.0, "high": 200.0},
        "network used": True,
        "cost": {"nominal": 50, "measured, in PG-LOD solutions": 51.0},
    }


def made_results() -> dict:
    """Results in which every finding is shown."""
    results = {}
    for number, (name, experiment) in enumerate(EXPERIMENTS.items()):
        level = {"low": 1.0, "moderate": 2.0, "high": 20.0}[experiment.contrast] * 1e-3
        runs: dict = {}
        for network in NETWORKS:
            for size, factor in (("small", 1.0), ("large", 0.3)):
                for start, more in (("scratch", 3.0), ("transfer", 1.0)):
                    gap = GAP[size] * (1 + 100 * level * factor)
                    amplitude = -0.1 if size == "small" else -0.05
                    shift = number + len(size) + len(start)
                    run = made_run(level * factor * more, gap, level * factor, amplitude, shift)
                    runs.setdefault(network, {}).setdefault(size, {})[start] = run
        monte_carlo = {"PG-LOD": {FEM: {"distance of the means": interval(0.02, 0.005)}}}
        means = {network: made_mean() for network in NETWORKS}
        results[name] = {"experiment": name, "runs": runs, "monte carlo": monte_carlo, "multifidelity": means}
        results[name]["fresh"] = {"contrast of all fresh fields": around(1.0 + 1e2 * level, 0.05)}
        base = {members: spread(1e-4, shift=number) for members in ("train", "validation")}
        results[name]["base"] = {network: {"losses of fields": dict(base)} for network in NETWORKS}
    return results


def verdicts(name: str, results: dict, network: str = "paper") -> dict[str, str]:
    return {
        finding.claim: verdict.answer
        for finding in findings(name, results)
        for verdict in finding.verdicts
        if verdict.network == network
    }


def run(results: dict, name: str, size: str, start: str = "transfer") -> dict:
    return results[name]["runs"]["paper"][size][start]


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_all_are_shown_where_the_numbers_say_so(name):
    found = verdicts(name, made_results())
    assert len(found) == {"1": 16, "1-H": 9, "2-H": 9, "3-H": 12}.get(name, 15)
    assert set(found.values()) == {SHOWN}


def losses(members: str, middle: float, width: float = 0.05, size: str = "small", start: str = "transfer"):
    values = spread(middle, width)
    return lambda results, name: run(results, name, size, start)["losses of fields"].update({members: values})


def against(size: str, method: str, **change):
    named = {key.replace("_", " "): value for key, value in change.items()}
    return lambda results, name: run(results, name, size)[method].update(named)


def errors(size: str, middle: float, width: float = 0.05):
    changed = {"relative L2 error": {"values": spread(middle, width)}}
    return lambda results, name: run(results, name, size)[LOD].update(changed)


def unbiased(**change):
    named = {key.replace("_", " "): value for key, value in change.items()}
    return lambda results, name: results[name]["multifidelity"]["paper"].update(named)


def bias(part: dict):
    return lambda results, name: results[name]["multifidelity"]["paper"].update({"bias of NN-LOD": part})


def contrasts(middle: float, width: float):
    part = {"contrast of all fresh fields": around(middle, width)}
    return lambda results, name: results[name].update(fresh=part)


def base(members: str, middle: float, width: float):
    values = spread(middle, width)
    return lambda results, name: results[name]["base"]["paper"]["losses of fields"].update({members: values})


def difference(mean: float, width: float):
    part = {"difference to PG-LOD": gap(mean, width)}
    return lambda results, name: results[name]["multifidelity"]["paper"].update(part)


# Claim, experiment, a change with which it is not shown, and one with which it is not decided.
CHANGES = {
    "The contrast of typical": ("3", contrasts(0.5, 0.05), contrasts(1.2, 0.5)),
    "Already at low contrast": ("1", base("train", 1.0, 0.05), base("validation", 3e-4, 0.5)),
    "With increasing contrast the network fits": ("2", losses("train", 1e-6), losses("train", 3.1e-4, 0.5)),
    "The error of the local matrices grows": ("2", losses(TEST, 1e-4), losses(TEST, 1.1e-3, 0.7)),
    "The error of the NN-LOD solution grows": ("2", errors("small", 1e-9), errors("small", 1.1e-3, 0.7)),
    "With increasing contrast the network generalizes worse": ("3", losses("train", 9.0), losses("train", 5e-3, 2.0)),
    "More data lowers the error of the local": (
        "1-H",
        losses(TEST, 1.0, size="large"),
        losses(TEST, 1e-3, 0.5, size="large"),
    ),
    "More data lowers the error of the NN-LOD": ("1", errors("large", 1.0), errors("large", 1e-3, 0.5)),
    "With more data training and validation": (
        "2",
        losses("train", 1e-6, size="large"),
        losses("train", 1.7e-4, 1.0, size="large"),
    ),
    "Transfer learning helps": (
        "3-H",
        losses(TEST, 1e-6, size="large", start="scratch"),
        losses(TEST, 6e-3, 1.0, size="large", start="scratch"),
    ),
    "The loss on the test set is close": ("3", losses("test", 1.0), losses("test", 30e-3, 0.5)),
    "The solution of the network of the small": (
        "1",
        against("small", LOD, amplitude=around(0.001, 0.002)),
        against("small", LOD, amplitude=around(0.005, 0.01)),
    ),
    "The Monte Carlo mean is well": (
        "2-H",
        against("large", FEM, distance_of_the_means=interval(0.07, 0.01)),
        against("large", FEM, distance_of_the_means=interval(0.05, 0.01)),
    ),
    "The losses are an order": ("3-H", losses(TEST, 1e-3, size="large"), losses(TEST, 2e-3, 0.5, size="large")),
    "The Monte Carlo mean of NN-LOD undershoots that of FEM": (
        "3-H",
        against("large", FEM, amplitude=around(0.02, 0.01)),
        against("large", FEM, amplitude=around(0.0, 0.01)),
    ),
    "The undershoot is the network's": (
        "3-H",
        against("large", LOD, nodes_surely_above=0.2, nodes_surely_below=0.7),
        against("large", LOD, nodes_surely_below=0.7),
    ),
    "The bias in amplitude is reduced": (
        "3-H",
        against("large", LOD, amplitude=around(0.2, 0.01)),
        against("large", LOD, amplitude=around(0.1, 0.1)),
    ),
    "The bias of plain NN-LOD exceeds": (
        "3-H",
        bias(interval(0.0, 0.002)),
        bias(interval(0.0, 0.004)),
    ),
    "The multifidelity mean has no such bias": ("1", difference(0.1, 0.02), difference(0.0, 0.1)),
    "At equal cost the multifidelity": (
        "2",
        unbiased(gain={"mean": 0.5, "low": 0.3, "high": 0.8}, network_used=False),
        unbiased(gain={"mean": 1.5, "low": 0.8, "high": 3.0}),
    ),
}


@pytest.mark.parametrize("claim", CHANGES)
@pytest.mark.parametrize("answer", [NOT_SHOWN, NOT_DECIDED])
def test_each_has_another_answer_where_the_numbers_say_so(claim, answer):
    name, *changes = CHANGES[claim]
    results = made_results()
    changes[answer == NOT_DECIDED](results, name)
    changed = {key: given for key, given in verdicts(name, results).items() if key.startswith(claim)}
    assert list(changed.values()) == [answer]
    other = verdicts(name, results, "structured")
    if claim.startswith("The contrast"):  # of the law of the fields, whatever the network
        assert other.pop(next(key for key in other if key.startswith(claim))) == answer
    assert set(other.values()) == {SHOWN}  # judged on its own


def test_every_finding_is_tested_all_ways():
    claims = {claim for name in EXPERIMENTS for claim in verdicts(name, made_results())}
    assert all(sum(claim.startswith(start) for start in CHANGES) == 1 for claim in claims)
    assert len(claims) == len(CHANGES)
    assert ANSWERS == (SHOWN, NOT_SHOWN, NOT_DECIDED, NOT_EXAMINED)


def test_a_bias_in_either_direction_is_one():
    results = made_results()
    against("small", LOD, amplitude=around(0.1, 0.01))(results, "1")
    bias(interval(0.02, 0.005))(results, "1")
    assert set(verdicts("1", results).values()) == {SHOWN}


def test_the_bias_of_the_small_network_is_one_of_most_fields():
    """Not one of a few fields that are far off, and not errors to both sides."""
    claim = next(claim for claim in CHANGES if claim.startswith("The solution of the network"))
    few, both = np.zeros(FIELDS), np.zeros(FIELDS)
    few[:4], both[:4], both[4:8] = -0.5, -0.02, 0.02
    for values, answer in ((few, NOT_SHOWN), (both, NOT_SHOWN), (np.full(FIELDS, 0.02), SHOWN)):
        results = made_results()
        against("small", LOD, amplitude=average(values) | {"values": list(values)})(results, "1")
        assert next(given for key, given in verdicts("1", results).items() if key.startswith(claim)) == answer


@pytest.mark.parametrize(
    ("mean", "width", "answer"),
    [
        (0.0, 0.012, SHOWN),  # 90 % interval ± 0.0096
        (0.0, 0.013, NOT_DECIDED),
        (-0.008, 0.005, NOT_DECIDED),
        (0.003, 0.001, NOT_SHOWN),  # within the margin, but an unbiased mean would not be so far off
        (0.05, 0.1, NOT_DECIDED),
    ],
)
def test_agreement_is_an_equivalence(mean, width, answer):
    results = made_results()
    difference(mean, width)(results, "2")
    assert next(given for key, given in verdicts("2", results).items() if "no such bias" in key) == answer


def test_one_step_that_is_not_decided_leaves_the_whole_so():
    results = made_results()
    losses(TEST, 1.9e-3, 0.7)(results, "1")
    grows = next(answer for claim, answer in verdicts("3", results).items() if claim.startswith("The error of the loc"))
    assert grows == NOT_DECIDED


def test_what_needs_other_experiments_is_not_examined_alone():
    results = made_results()
    alone = verdicts("2", {"2": results["2"]})
    assert [claim for claim, answer in alone.items() if answer == NOT_EXAMINED] == [
        claim for claim in alone if "contrast" in claim
    ]
    assert sum(answer == NOT_EXAMINED for answer in alone.values()) == 5
    high = {name: results[name] for name in ("2-H", "3-H")}
    open_ = [(f.claim, v.evidence) for f in findings("3-H", high) for v in f.verdicts if v.answer == NOT_EXAMINED]
    assert len(open_) == 2 and all(claim.startswith("The losses") and "needs 1-H in" in text for claim, text in open_)


@pytest.mark.parametrize(("kept", "number"), [("small", 4), ("transfer", 1)])
def test_what_needs_a_dataset_or_a_start_that_was_left_out_is_not_examined(kept, number):
    results, whole = made_results(), verdicts("3", made_results())
    for runs in results["3"]["runs"].values():
        for size in list(runs):
            runs[size] = {start: runs[size][start] for start in runs[size] if kept in (size, start)}
            if not runs[size]:
                del runs[size]
    found = findings("3", results)
    open_ = {f.claim: v.evidence for f in found for v in f.verdicts if v.answer == NOT_EXAMINED}
    missing = {"small": "needs the large dataset", "transfer": "needs networks trained from scratch"}[kept]
    assert len(open_) == number and set(open_.values()) == {missing}
    rest = {f.claim: v.answer for f in found for v in f.verdicts if v.answer != NOT_EXAMINED}
    assert rest == {claim: whole[claim] for claim in rest} and len(rest) + number == len(whole)


def test_order_of_contrast_counts_and_not_that_of_running():
    results = made_results()
    backwards = {name: results[name] for name in reversed(list(results))}
    assert verdicts("2", backwards) == verdicts("2", results)


def test_undershoots_say_how_many_fields_they_need():
    results = made_results()
    (evidence,) = [
        v.evidence
        for f in findings("3-H", results)
        for v in f.verdicts
        if "of FEM across" in f.claim and v.network == "paper"
    ]
    mean = fields_needed(float(np.std(around(0.0, 0.01)["values"], ddof=1)), 0.005)
    assert f"a bias of 0.5 % shows in the mean from {mean} fields on" in evidence
    assert f"at the nodes from {fields_needed(0.02, 0.005)} on" in evidence


# -- statistics --------------------------------------------------------------------------------------


def test_share():
    part = share([True] * 3 + [False] * 7)
    assert part["mean"] == 0.3
    assert (part["low"], part["high"]) == pytest.approx((0.06674, 0.65245), abs=1e-5)  # tables of Clopper & Pearson
    assert share([False] * 5)["low"] == 0 and share([True] * 5)["high"] == 1


def test_average():
    part = average([1.0, 2.0, 3.0])
    assert part["mean"] == 2 and part["standard error"] == pytest.approx(3**-0.5)
    assert part["high"] - 2 == pytest.approx(4.302653 * 3**-0.5, rel=1e-6)  # Student's t, 2 degrees of freedom
    assert 2 - part["low"] == pytest.approx(part["high"] - 2)


def test_fields_needed():
    """The number is where the power of the t-test passes 90 %; false alarms of the simulation 1e-6 each."""
    rng, n = np.random.default_rng(6), fields_needed(2.0, 1.0)
    for count, side in ((n, 1), (n - 4, -1)):
        x = 1 + 2 * rng.standard_normal((20_000, count))
        low = x.mean(axis=1) - stats.t.ppf(0.975, count - 1) * x.std(axis=1, ddof=1) / math.sqrt(count)
        hits, noise = (low > 0).mean(), stats.norm.isf(1e-6) * math.sqrt(0.1 * 0.9 / 20_000)
        assert side * (hits - 0.9) > -noise if side > 0 else hits < 0.9
    large = fields_needed(1.0, 0.01)  # many fields: the normal distribution
    assert large == pytest.approx(((stats.norm.ppf(0.975) + stats.norm.ppf(0.9)) * 100) ** 2, rel=1e-3)
    assert fields_needed(0.0, 1.0) == 2


def test_combination_is_the_test_of_welch():
    rng = np.random.default_rng(4)
    a, b = rng.normal(1, 1, 12), rng.normal(0, 3, 7)
    part = combination([(1.0, a), (-1.0, b)])
    expected = stats.ttest_ind(a, b, equal_var=False).confidence_interval(0.95)
    assert (part["low"], part["high"]) == pytest.approx((expected.low, expected.high))
    assert combination([(1.0, a)]) == pytest.approx(average(a))
    exact = combination([(2.0, [3.0]), (1.0, [1.0])])
    assert exact == {"mean": 7.0, "standard error": 0.0, "low": 7.0, "high": 7.0}


def test_interval_of_the_distance_of_means():
    """Fraction of intervals that hold the true distance: 95 % of 300, false-alarm probability 1e-6 each way."""
    rng, hits = np.random.default_rng(5), 0
    hat = hats([1.0], 4)[0]
    for _ in range(300):
        v = hat * (1 + 0.3 * rng.standard_normal((40, 1, 1)))
        part = distance_of_means(v + hat * (0.1 + 0.05 * rng.standard_normal((40, 1, 1))), v)
        hits += part["low"] < 0.1 < part["high"]
    low, high = stats.binom.ppf([1e-6, 1 - 1e-6], 300, 0.95)
    assert low <= hits <= high
    heights = np.array([1.1, 1.3, 1.2, 1.5])  # for a fixed reference the distance is a mean, with its standard error
    part = distance_of_means(heights[:, None, None] * hat, np.stack([hat] * 4))
    assert part["mean"] == pytest.approx(heights.mean() - 1)
    assert part["standard error"] == pytest.approx(heights.std(ddof=1) / 2)


def test_compare_means():
    """Against the formulas, for solutions that are multiples of one hat."""
    lod, nn = hats([1.0, 3.0, 2.0, 2.0], 4), hats([0.9, 2.7, 1.8, 1.8], 4)
    integral = {"mean": 2.1 / 16, "standard error": 0.02 / 16, "low": 0.0, "high": 0.0}
    numbers = {
        "cost": {"nominal": 2},
        "integral": integral,
        "samples": {"samples": 17},
        "relative standard error": 0.01,
    }
    part = compare_means(numbers, hats([2.1], 4)[0], nn, lod)
    assert part["standard error"] == pytest.approx(0.01)
    assert part["bias of NN-LOD"]["mean"] == pytest.approx(-0.1)
    assert part["bias of NN-LOD, field"] == pytest.approx(0.1)
    error = math.sqrt(2 / 3) / 2  # of the mean of four
    plain = part["PG-LOD at equal cost"]
    assert plain["integral"] == pytest.approx(plain["field"]) == error * math.sqrt(2) / 2  # of two
    gap, spreads = part["difference to PG-LOD"], (0.02 / 16, error / 16)  # of both means, of 17 and of 4 values
    degrees = (spreads[0] ** 2 + spreads[1] ** 2) ** 2 / (spreads[0] ** 4 / 16 + spreads[1] ** 4 / 3)
    assert gap["mean"] == pytest.approx(0.05) and gap["standard error"] == pytest.approx(math.hypot(0.01, error / 2))
    ends = [gap[f"{interval}{end}"] for end in ("low", "high") for interval in ("far ", "", "near ")]
    assert ends[:3] == sorted(ends[:3]) and ends[2] < gap["mean"] < ends[5] and ends[3:] == sorted(ends[3:])[::-1]
    assert ends[5] - gap["mean"] == pytest.approx(stats.t.ppf(0.95, degrees) * gap["standard error"])
    gain = part["gain"]
    assert gain["mean"] == pytest.approx((plain["integral"] / 0.01) ** 2)
    assert gain["mean"] / gain["low"] == pytest.approx(stats.f.ppf(0.975, 3, 16))
    assert part["distance of the means"]["value"] == pytest.approx(0.05)


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
    assert part["relative L2 error"]["values"] == pytest.approx([0.1, 0.1, 0.2])
    assert part["amplitude"]["values"] == pytest.approx([0.1, -0.1, -0.2])
    assert part["distance of the means"]["mean"] == pytest.approx(0.4 / 4)
    assert part["nodes below"] == pytest.approx(1 / 9)  # of 3 × 3 inner nodes the hat's only
    assert part["nodes surely below"] == part["nodes surely above"] == 0
    assert part["spread at nodes"] == pytest.approx(np.std([0.1, -0.1, -0.4], ddof=1) / (4 / 3))  # at that node
    surely = differences(grid, hats([0.9, 0.8, 1.9], 4), hats([1.0, 1.0, 2.0], 16))
    assert surely["nodes surely below"] == 0  # −2/15 ± 0.14
    surely = differences(grid, hats([1.1, 1.11, 2.1], 4), hats([1.0, 1.0, 2.0], 16))
    assert surely["nodes surely above"] == pytest.approx(1 / 9)
    same = differences(grid, hats([1.1, 0.9, 1.6], 4), hats([1.0, 1.0, 2.0], 4))
    found, expected = dict(same["amplitude"]), dict(part["amplitude"])
    assert found.pop("values") == pytest.approx(expected.pop("values"))  # newer pytest compares no lists in a table
    assert found == pytest.approx(expected)


def test_differences_to_fine_solutions_are_those_to_their_quasi_interpolation(rng):
    """What varies below H is no error of a coarse solution: neither below nor above, whatever its nodal values."""
    grid = Grid(dim=2, coarse=4, fine=16, ell=1)
    fine = np.zeros((12, 17, 17))
    fine[:, 1:-1, 1:-1] = 1 + 0.1 * rng.standard_normal((12, 15, 15))
    fine[:, 4:-1:4, 4:-1:4] -= 0.5  # the nodes of T_H are lower than what is around them
    exact = np.stack([quasi_interpolation(grid, v) for v in fine])
    noise = rng.standard_normal((6, *exact.shape[1:])) * 1e-3
    part = differences(grid, exact + np.concatenate([noise, -noise]), fine)
    assert part["nodes surely above"] == part["nodes surely below"] == 0
    assert part["amplitude"]["mean"] == pytest.approx(0, abs=1e-3)
    assert differences(grid, exact * 0.97, fine)["amplitude"]["mean"] == pytest.approx(-0.03)
    assert differences(grid, exact * 0.97, fine)["nodes surely below"] == 1
