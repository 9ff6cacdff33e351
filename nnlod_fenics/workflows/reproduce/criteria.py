"""Criteria of the findings: answers from the numbers of a run.

A criterion concerns numbers that are estimated from a number of fields. It is ``shown`` or ``not shown`` where the 95 %
confidence intervals lie on one side of its bound, and ``not decided`` where they contain it. Numbers of the same fields
are compared field by field; losses and errors by the ratio of their geometric means. The bounds are chosen here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from nnlod_fenics.workflows.reproduce.experiments import EXPERIMENTS, SIZES
from nnlod_fenics.workflows.reproduce.statistics import average, combination, fields_needed, share

__all__ = [
    "ANSWERS",
    "BIASED",
    "CLOSE",
    "CONSISTENT",
    "EQUAL",
    "GOOD_MEAN",
    "HALF_ORDER",
    "NOT_DECIDED",
    "NOT_EXAMINED",
    "NOT_SHOWN",
    "SHOWN",
    "Judge",
    "Parts",
    "Results",
    "bias_exceeds_error",
    "biased",
    "cheaper",
    "common_losses",
    "contrast_grows",
    "generalization_gap",
    "harder_than_base",
    "increasing",
    "losses",
    "means_agree",
    "more_data",
    "more_data_bias",
    "more_data_gap",
    "multifidelity_agrees",
    "order_larger",
    "same_on_test",
    "solution_errors",
    "transfer_helps",
    "undershoots",
]

SHOWN = "shown"
"""The numbers show the finding."""
NOT_SHOWN = "not shown"
"""The numbers contradict it."""
NOT_DECIDED = "not decided"
"""The confidence intervals are too wide to tell."""
NOT_EXAMINED = "not examined"
"""The run lacks what the finding is about."""
ANSWERS = (SHOWN, NOT_SHOWN, NOT_DECIDED, NOT_EXAMINED)
"""All answers."""

Array = npt.NDArray[np.float64]
Results = Mapping[str, dict[str, Any]]
"""Results by experiment, see :func:`nnlod_fenics.workflows.reproduce.results.collect`."""
Interval = Mapping[str, float]
Parts = Sequence[tuple[float, Array]]
"""Factors and samples of logarithms, for a combination of their means."""
Judge = Callable[[str, str, Results], tuple[str, str]]
"""From experiment, network and results to an answer and its evidence."""

CLOSE = 1.5
"""Factor between two losses that are called close."""
GOOD_MEAN = 0.05
"""Relative L² distance of means that are called close."""
BIASED = 0.005
"""Relative error of ∫u from which on a solution is called biased."""
EQUAL = 0.01
"""Relative difference of means that are called equal."""
HALF_ORDER = 10**0.5
"""Half an order of magnitude."""
CONSISTENT = 0.9
"""Share of the inner nodes that is called the whole domain."""
_MAJORITY = 0.5  # share of fields that is called the rule


# -- numbers -----------------------------------------------------------------------------------------


def _run(results: Results, name: str, network: str, size: str, start: str = "transfer") -> dict[str, Any]:
    run: dict[str, Any] = results[name]["runs"][network][size][start]
    return run


def losses(run: dict[str, Any], members: str) -> Array:
    """Logarithms of the losses of the fields of a set: ``train``, ``validation``, ``test`` or ``test, common set``."""
    return np.log(run["losses of fields"][members])


def common_losses(run: dict[str, Any]) -> Array:
    """Those of the test set that the networks of all datasets share."""
    return losses(run, "test, common set")


def solution_errors(run: dict[str, Any]) -> Array:
    """Logarithms of the errors of the solutions for the fresh fields."""
    return np.log(run["against PG-LOD"]["relative L2 error"]["values"])


def _missing(name: str, results: Results, least: int) -> str:
    """What to say if too few experiments of the family have been run; empty if not."""
    chain = EXPERIMENTS[name].family
    if sum(other in results for other in chain) >= least:
        return ""
    missing = [other for other in chain if other not in results]
    others = f"one of {', '.join(missing)}" if least < len(chain) else " and ".join(missing)
    return f"needs {others} in the same folder; then run this one again"


# -- answers -----------------------------------------------------------------------------------------


def _above(interval: Interval, bound: float = 0.0) -> str:
    """Whether a number exceeds a bound."""
    return SHOWN if interval["low"] > bound else NOT_SHOWN if interval["high"] < bound else NOT_DECIDED


def _within(interval: Interval, bound: float) -> str:
    """Whether a number lies between -bound and bound."""
    low, high = interval["low"], interval["high"]
    outside = low > bound or high < -bound
    return SHOWN if -bound < low and high < bound else NOT_SHOWN if outside else NOT_DECIDED


def _all(answers: Iterable[str]) -> str:
    given = list(answers)
    return next((answer for answer in (NOT_SHOWN, NOT_DECIDED) if answer in given), SHOWN)


def _not(answer: str) -> str:
    return {SHOWN: NOT_SHOWN, NOT_SHOWN: SHOWN}.get(answer, answer)


def _size(interval: Interval) -> Interval:
    """Interval of the absolute value of a number."""
    low, high = interval["low"], interval["high"]
    largest = max(abs(low), abs(high))
    smallest = 0.0 if low <= 0 <= high else min(abs(low), abs(high))
    return {"mean": abs(interval["mean"]), "low": smallest, "high": largest}


def _number(value: float) -> str:
    return f"{value:.3g}"


def _factor(interval: Interval) -> str:
    """An interval of a logarithm, as a factor."""
    mean, low, high = (_number(math.exp(interval[key])) for key in ("mean", "low", "high"))
    return f"factor {mean} ({low} to {high})"


def _percent(part: Interval) -> str:
    return f"{100 * part['mean']:+.2f} % ({100 * part['low']:+.2f} to {100 * part['high']:+.2f})"


# -- criteria ----------------------------------------------------------------------------------------


def increasing(value: Callable[[dict[str, Any]], Parts]) -> Judge:
    """Whether a combination of means of logarithms grows with the contrast, for the small dataset."""
    return _growing(lambda numbers, network: value(numbers["runs"][network]["small"]["transfer"]))


def contrast_grows(name: str, network: str, results: Results) -> tuple[str, str]:
    """Whether the contrast of the fresh fields does."""

    def value(numbers: dict[str, Any], network: str) -> Parts:
        return [(math.log(10), np.array(numbers["fresh"]["contrast of all fresh fields"]["values"]))]

    return _growing(value)(name, network, results)


def _growing(value: Callable[[dict[str, Any], str], Parts]) -> Judge:

    def judge(name: str, network: str, results: Results) -> tuple[str, str]:
        missing = _missing(name, results, 2)
        if missing:
            return NOT_EXAMINED, missing
        chain = [other for other in EXPERIMENTS[name].family if other in results]
        parts = {other: value(results[other], network) for other in chain}
        steps = {
            f"{a} to {b}": combination([*parts[b], *((-factor, values) for factor, values in parts[a])])
            for a, b in pairwise(chain)
        }
        levels = ", ".join(
            f"{other}: {_number(math.exp(sum(f * v.mean() for f, v in parts[other])))}" for other in chain
        )
        evidence = "; ".join(f"{step}: {_factor(interval)}" for step, interval in steps.items())
        return _all(map(_above, steps.values())), f"{levels}; {evidence}"

    return judge


def generalization_gap(run: dict[str, Any]) -> Parts:
    """Loss on fields that the network has not seen by that on fields of its training set."""
    return [(1.0, common_losses(run)), (-1.0, losses(run, "train"))]


def harder_than_base(name: str, network: str, results: Results) -> tuple[str, str]:
    """Whether the small dataset has larger losses than the base network has on its own data."""
    own, base = _run(results, name, network, "small"), results[name]["base"][network]
    ratios = {
        members: combination([(1.0, losses(own, members)), (-1.0, losses(base, members))])
        for members in ("train", "validation")
    }
    evidence = "; ".join(f"{members}: {_factor(ratio)}" for members, ratio in ratios.items())
    return _all((_above(ratios["train"]), _above(ratios["validation"], math.log(HALF_ORDER)))), evidence


def more_data(value: Callable[[dict[str, Any]], Array]) -> Judge:
    """Whether the large dataset makes something smaller, field by field."""

    def judge(name: str, network: str, results: Results) -> tuple[str, str]:
        small, large = (value(_run(results, name, network, size)) for size in SIZES)
        ratio = average(small - large)
        evidence = f"small {_number(math.exp(small.mean()))}, large {_number(math.exp(large.mean()))}, {_factor(ratio)}"
        return _above(ratio), evidence

    return judge


def more_data_gap(name: str, network: str, results: Results) -> tuple[str, str]:
    """Whether it makes the gap between training and test loss smaller."""
    small, large = (_run(results, name, network, size) for size in SIZES)
    seen = [(-1.0, losses(small, "train")), (1.0, losses(large, "train"))]
    ratio = combination([(1.0, common_losses(small) - common_losses(large)), *seen])
    gaps = [_number(math.exp(sum(f * v.mean() for f, v in generalization_gap(run)))) for run in (small, large)]
    return _above(ratio), f"small {gaps[0]}, large {gaps[1]}, {_factor(ratio)}"


def transfer_helps(name: str, network: str, results: Results) -> tuple[str, str]:
    """Whether the loss is smaller with transfer learning than from scratch."""
    ratios = {}
    for size in results[name]["runs"][network]:
        scratch, transfer = (
            common_losses(_run(results, name, network, size, start)) for start in ("scratch", "transfer")
        )
        ratios[size] = average(scratch - transfer)
    evidence = "; ".join(f"{size}: {_factor(ratio)}" for size, ratio in ratios.items())
    return _all(map(_above, ratios.values())), evidence


def same_on_test(name: str, network: str, results: Results) -> tuple[str, str]:
    """Whether test and validation loss are close."""
    ratios = {}
    for size in results[name]["runs"][network]:
        run = _run(results, name, network, size)
        ratios[size] = combination([(1.0, losses(run, "test")), (-1.0, losses(run, "validation"))])
    evidence = "; ".join(f"{size}: {_factor(ratio)}" for size, ratio in ratios.items())
    return _all(_within(ratio, math.log(CLOSE)) for ratio in ratios.values()), evidence


def biased(name: str, network: str, results: Results) -> tuple[str, str]:
    """Whether most solutions by the network of the small dataset are off to the same side."""
    part = _run(results, name, network, "small")["against PG-LOD"]["amplitude"]
    values = np.array(part["values"])
    sides = {"too small": share(values < -BIASED), "too large": share(values > BIASED)}
    answers = [_above(side, _MAJORITY) for side in sides.values()]
    answer = next((answer for answer in (SHOWN, NOT_DECIDED) if answer in answers), NOT_SHOWN)
    shares = [
        f"{side} by more than {100 * BIASED} % for {100 * of['mean']:.0f} % of the fields "
        f"({100 * of['low']:.0f} to {100 * of['high']:.0f})"
        for side, of in sides.items()
    ]
    return answer, f"{', '.join(shares)}; mean {_percent(part)}"


def means_agree(name: str, network: str, results: Results) -> tuple[str, str]:
    """Whether the means by PG-LOD and NN-LOD are close to that by FEM."""
    parts = {
        "PG-LOD": results[name]["monte carlo"]["PG-LOD"]["against FEM"]["distance of the means"],
        "NN-LOD": _run(results, name, network, "large")["against FEM"]["distance of the means"],
    }
    evidence = "; ".join(
        f"{method}: {_number(part['mean'])} ({_number(part['low'])} to {_number(part['high'])})"
        for method, part in parts.items()
    )
    return _all(_not(_above(part, GOOD_MEAN)) for part in parts.values()), evidence


def undershoots(reference: str) -> Judge:
    """Whether the mean of NN-LOD lies below that of another method all over the domain."""

    def judge(name: str, network: str, results: Results) -> tuple[str, str]:
        part = _run(results, name, network, "large")[f"against {reference}"]
        everywhere = NOT_DECIDED
        if part["nodes surely above"] > 1 - CONSISTENT:
            everywhere = NOT_SHOWN
        elif part["nodes surely below"] >= CONSISTENT:
            everywhere = SHOWN
        shares = f"surely below at {100 * part['nodes surely below']:.0f} % of the nodes, "
        shares += f"surely above at {100 * part['nodes surely above']:.0f} %"
        spreads = (float(np.std(part["amplitude"]["values"], ddof=1)), part["spread at nodes"])
        mean, nodes = (fields_needed(spread, BIASED) for spread in spreads)
        needed = f"a bias of {100 * BIASED} % shows in the mean from {mean} fields on, at the nodes from {nodes} on"
        answers = (_not(_above(part["amplitude"])), everywhere)
        return _all(answers), f"{_percent(part['amplitude'])}; {shares}; {needed}"

    return judge


def more_data_bias(name: str, network: str, results: Results) -> tuple[str, str]:
    """Whether the large dataset makes the bias of the amplitude smaller."""
    parts = [_run(results, name, network, size)["against PG-LOD"]["amplitude"] for size in SIZES]
    small, large = (np.array(part["values"]) * math.copysign(1, part["mean"]) for part in parts)
    difference = average(small - large)
    evidence = ", ".join(f"{size} {100 * part['mean']:+.2f} %" for size, part in zip(SIZES, parts, strict=True))
    return _above(difference), f"{evidence}; smaller by {_percent(difference)}"


def order_larger(name: str, network: str, results: Results) -> tuple[str, str]:
    """Whether the loss is that of the lower contrasts times half an order of magnitude or more."""
    chain = EXPERIMENTS[name].family
    missing = _missing(name, results, len(chain))
    if missing:
        return NOT_EXAMINED, missing
    own = common_losses(_run(results, name, network, "large"))
    ratios = {
        other: combination([(1.0, own), (-1.0, common_losses(_run(results, other, network, "large")))])
        for other in chain
        if other != name
    }
    evidence = "; ".join(f"to {other}: {_factor(ratio)}" for other, ratio in ratios.items())
    return _all(_above(ratio, math.log(HALF_ORDER)) for ratio in ratios.values()), evidence


def multifidelity_agrees(name: str, network: str, results: Results) -> tuple[str, str]:
    """Whether the multifidelity mean is that by PG-LOD."""
    part = results[name]["multifidelity"][network]
    gap, distance = part["difference to PG-LOD"], part["distance of the means"]
    equal_to = max(-gap["near low"], gap["near high"])  # the least margin that both one-sided tests leave
    answer = SHOWN if equal_to < EQUAL else NOT_DECIDED
    if not gap["far low"] <= 0 <= gap["far high"]:
        answer = NOT_SHOWN
    evidence = f"{_percent(gap)}, equal to within {100 * equal_to:.2g} %"
    return answer, f"{evidence}; in L² {_number(distance['value'])}, by noise alone {_number(distance['expected'])}"


def bias_exceeds_error(name: str, network: str, results: Results) -> tuple[str, str]:
    """Whether the network's bias exceeds the standard error of the multifidelity mean."""
    part = results[name]["multifidelity"][network]
    bias, error = part["bias of NN-LOD"], part["standard error"]
    return _above(_size(bias), error), f"bias {_percent(bias)}, standard error {100 * error:.2f} %"


def cheaper(name: str, network: str, results: Results) -> tuple[str, str]:
    """Whether the multifidelity mean is more accurate than that by PG-LOD at equal cost."""
    part = results[name]["multifidelity"][network]
    gain, errors = part["gain"], (part["standard error"], part["PG-LOD at equal cost"]["integral"])
    evidence = (
        f"standard errors {100 * errors[0]:.2f} % and {100 * errors[1]:.2f} %, variances by a factor "
        f"{_number(gain['mean'])} ({_number(gain['low'])} to {_number(gain['high'])}); measured cost "
        f"{part['cost']['measured, in PG-LOD solutions']:.0f} instead of {part['cost']['nominal']} solutions by PG-LOD"
    )
    if not part["network used"]:
        evidence += "; the pilot run found that the network does not pay, and it was not used"
    return _above(gain, 1.0), evidence
