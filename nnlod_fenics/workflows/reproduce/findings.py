"""The qualitative findings of the paper, decided from the numbers of a run.

Each finding has a criterion on numbers that are estimated from a number of fields. It is ``shown`` or ``not shown``
where the 95 % confidence intervals lie on one side of its bound, and ``not decided`` where they contain it. Numbers of
the same fields are compared field by field; losses and errors by the ratio of their geometric means. Each network is
judged on its own. A finding that needs experiments that have not been run is ``not examined``. The bounds are chosen
here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from nnlod_fenics.workflows.reproduce.experiments import EXPERIMENTS, NETWORKS, SIZES
from nnlod_fenics.workflows.reproduce.statistics import average, combination, share

__all__ = ["ANSWERS", "NOT_DECIDED", "NOT_EXAMINED", "NOT_SHOWN", "SHOWN", "Finding", "Verdict", "findings"]

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
Interval = Mapping[str, float]

_CLOSE = 1.5  # factor between two losses that are called close
_GOOD_MEAN = 0.05  # relative L² distance of means that are called close
_BIASED = 0.005  # relative error of ∫u from which on a solution is called biased
_MAJORITY = 0.5  # share of fields that is called the rule
_EQUAL = 0.01  # relative difference of means that are called equal
_HALF_ORDER = 10**0.5
_CONSISTENT = 0.9  # share of inner nodes that is called the whole domain


@dataclass(frozen=True)
class Verdict:
    """What a run says of a finding for one network.

    Attributes:
        network: The network.
        answer: One of :data:`ANSWERS`.
        evidence: The numbers.
    """

    network: str
    answer: str
    evidence: str


@dataclass(frozen=True)
class Finding:
    """A finding of the paper, or on what it leaves open.

    Attributes:
        claim: What is said.
        source: Where in the paper.
        criterion: What the numbers of a run must meet.
        verdicts: What they say, for each network.
    """

    claim: str
    source: str
    criterion: str
    verdicts: list[Verdict] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self)


Judge = Callable[[str, str, Results], tuple[str, str]]  # experiment, network, results by name -> answer, evidence


def findings(name: str, results: Results) -> list[Finding]:
    """Decide the findings that concern an experiment.

    Args:
        name: The experiment.
        results: Results by experiment, this one and others of the same run, see
            :func:`nnlod_fenics.workflows.reproduce.results.collect`.

    Returns:
        The findings with their verdicts.
    """
    found = []
    for concerns, claim, source, criterion, judge, needs in _FINDINGS:
        if name in concerns:
            missing = _not_run(results[name], needs)
            verdicts = [
                Verdict(network, *((NOT_EXAMINED, missing) if missing else judge(name, network, results)))
                for network in NETWORKS
            ]
            found.append(Finding(claim, source, criterion, verdicts))
    return found


# -- numbers -----------------------------------------------------------------------------------------


def _run(results: Results, name: str, network: str, size: str, start: str = "transfer") -> dict[str, Any]:
    run: dict[str, Any] = results[name]["runs"][network][size][start]
    return run


def _losses(run: dict[str, Any], members: str) -> Array:
    """Logarithms of the losses of the fields of a set."""
    return np.log(run["losses of fields"][members])


def _common(run: dict[str, Any]) -> Array:
    return _losses(run, "test, common set")


def _solution_errors(run: dict[str, Any]) -> Array:
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


def _not_run(numbers: dict[str, Any], needs: str) -> str:
    """What to say if the run lacks a dataset or a start of the training; empty if not."""
    runs = numbers["runs"][NETWORKS[0]]
    if not needs or needs in runs or all(needs in starts for starts in runs.values()):
        return ""
    return "needs the large dataset" if needs == _LARGE else "needs networks trained from scratch"


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


def _increasing(value: Callable[[dict[str, Any]], Sequence[tuple[float, Array]]]) -> Judge:
    """Whether a combination of means of logarithms grows with the contrast, for the small dataset."""

    def judge(name: str, network: str, results: Results) -> tuple[str, str]:
        missing = _missing(name, results, 2)
        if missing:
            return NOT_EXAMINED, missing
        chain = [other for other in EXPERIMENTS[name].family if other in results]
        parts = {other: value(_run(results, other, network, "small")) for other in chain}
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


def _gap(run: dict[str, Any]) -> list[tuple[float, Array]]:
    """Loss on fields that the network has not seen by that on fields of its training set."""
    return [(1.0, _common(run)), (-1.0, _losses(run, "train"))]


def _more_data(value: Callable[[dict[str, Any]], Array]) -> Judge:
    """Whether the large dataset makes something smaller, field by field."""

    def judge(name: str, network: str, results: Results) -> tuple[str, str]:
        small, large = (value(_run(results, name, network, size)) for size in SIZES)
        ratio = average(small - large)
        evidence = f"small {_number(math.exp(small.mean()))}, large {_number(math.exp(large.mean()))}, {_factor(ratio)}"
        return _above(ratio), evidence

    return judge


def _more_data_gap(name: str, network: str, results: Results) -> tuple[str, str]:
    small, large = (_run(results, name, network, size) for size in SIZES)
    seen = [(-1.0, _losses(small, "train")), (1.0, _losses(large, "train"))]
    ratio = combination([(1.0, _common(small) - _common(large)), *seen])
    gaps = [_number(math.exp(sum(f * v.mean() for f, v in _gap(run)))) for run in (small, large)]
    return _above(ratio), f"small {gaps[0]}, large {gaps[1]}, {_factor(ratio)}"


def _transfer(name: str, network: str, results: Results) -> tuple[str, str]:
    ratios = {}
    for size in results[name]["runs"][network]:
        scratch, transfer = (_common(_run(results, name, network, size, start)) for start in ("scratch", "transfer"))
        ratios[size] = average(scratch - transfer)
    evidence = "; ".join(f"{size}: {_factor(ratio)}" for size, ratio in ratios.items())
    return _all(map(_above, ratios.values())), evidence


def _test_is_validation(name: str, network: str, results: Results) -> tuple[str, str]:
    ratios = {}
    for size in results[name]["runs"][network]:
        run = _run(results, name, network, size)
        ratios[size] = combination([(1.0, _losses(run, "test")), (-1.0, _losses(run, "validation"))])
    evidence = "; ".join(f"{size}: {_factor(ratio)}" for size, ratio in ratios.items())
    return _all(_within(ratio, math.log(_CLOSE)) for ratio in ratios.values()), evidence


def _biased(name: str, network: str, results: Results) -> tuple[str, str]:
    part = _run(results, name, network, "small")["against PG-LOD"]["amplitude"]
    values = np.array(part["values"])
    sides = {"too small": share(values < -_BIASED), "too large": share(values > _BIASED)}
    answers = [_above(side, _MAJORITY) for side in sides.values()]
    answer = next((answer for answer in (SHOWN, NOT_DECIDED) if answer in answers), NOT_SHOWN)
    shares = [
        f"{side} by more than {100 * _BIASED} % for {100 * of['mean']:.0f} % of the fields "
        f"({100 * of['low']:.0f} to {100 * of['high']:.0f})"
        for side, of in sides.items()
    ]
    return answer, f"{', '.join(shares)}; mean {_percent(part)}"


def _means_agree(name: str, network: str, results: Results) -> tuple[str, str]:
    parts = {
        "PG-LOD": results[name]["monte carlo"]["PG-LOD"]["against FEM"]["distance of the means"],
        "NN-LOD": _run(results, name, network, "large")["against FEM"]["distance of the means"],
    }
    evidence = "; ".join(
        f"{method}: {_number(part['mean'])} ({_number(part['low'])} to {_number(part['high'])})"
        for method, part in parts.items()
    )
    return _all(_not(_above(part, _GOOD_MEAN)) for part in parts.values()), evidence


def _undershoots(reference: str) -> Judge:
    """Whether the mean of NN-LOD lies below that of another method all over the domain."""

    def judge(name: str, network: str, results: Results) -> tuple[str, str]:
        part = _run(results, name, network, "large")[f"against {reference}"]
        everywhere = NOT_DECIDED
        if part["nodes surely above"] > 1 - _CONSISTENT:
            everywhere = NOT_SHOWN
        elif part["nodes surely below"] >= _CONSISTENT:
            everywhere = SHOWN
        shares = f"surely below at {100 * part['nodes surely below']:.0f} % of the nodes, "
        shares += f"surely above at {100 * part['nodes surely above']:.0f} %"
        answers = (_not(_above(part["amplitude"])), everywhere)
        return _all(answers), f"{_percent(part['amplitude'])}; {shares}"

    return judge


def _more_data_bias(name: str, network: str, results: Results) -> tuple[str, str]:
    parts = [_run(results, name, network, size)["against PG-LOD"]["amplitude"] for size in SIZES]
    small, large = (np.array(part["values"]) * math.copysign(1, part["mean"]) for part in parts)
    difference = average(small - large)
    evidence = ", ".join(f"{size} {100 * part['mean']:+.2f} %" for size, part in zip(SIZES, parts, strict=True))
    return _above(difference), f"{evidence}; smaller by {_percent(difference)}"


def _order_larger(name: str, network: str, results: Results) -> tuple[str, str]:
    chain = EXPERIMENTS[name].family
    missing = _missing(name, results, len(chain))
    if missing:
        return NOT_EXAMINED, missing
    own = _common(_run(results, name, network, "large"))
    ratios = {
        other: combination([(1.0, own), (-1.0, _common(_run(results, other, network, "large")))])
        for other in chain
        if other != name
    }
    evidence = "; ".join(f"to {other}: {_factor(ratio)}" for other, ratio in ratios.items())
    return _all(_above(ratio, math.log(_HALF_ORDER)) for ratio in ratios.values()), evidence


def _multifidelity_agrees(name: str, network: str, results: Results) -> tuple[str, str]:
    part = results[name]["multifidelity"][network]
    gap, distance = part["difference to PG-LOD"], part["distance of the means"]
    equal_to = max(-gap["near low"], gap["near high"])  # the least margin that both one-sided tests leave
    answer = SHOWN if equal_to < _EQUAL else NOT_DECIDED
    if not gap["far low"] <= 0 <= gap["far high"]:
        answer = NOT_SHOWN
    evidence = f"{_percent(gap)}, equal to within {100 * equal_to:.2g} %"
    return answer, f"{evidence}; in L² {_number(distance['value'])}, by noise alone {_number(distance['expected'])}"


def _bias_exceeds_error(name: str, network: str, results: Results) -> tuple[str, str]:
    part = results[name]["multifidelity"][network]
    bias, error = part["bias of NN-LOD"], part["standard error"]
    return _above(_size(bias), error), f"bias {_percent(bias)}, standard error {100 * error:.2f} %"


def _cheaper(name: str, network: str, results: Results) -> tuple[str, str]:
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


_PLAIN, _HIERARCHICAL = ("1", "2", "3"), ("1-H", "2-H", "3-H")
_ALL = (*_PLAIN, *_HIERARCHICAL)
_TRANSFER = "with transfer learning"
_ON_TEST = f"loss of the fields of the common test set, {_TRANSFER}"
_ON_FRESH = f"relative L² error against PG-LOD of the fresh fields, {_TRANSFER}"
_SEEN = f"loss of the fields of the common test set by that of as many training fields, {_TRANSFER}"
_BEYOND = "not in the paper; what section 6.3 leaves open"

_LARGE, _SCRATCH, _ALWAYS = "large", "scratch", ""  # what a finding needs beside transfer on the small dataset

_FINDINGS: tuple[tuple[tuple[str, ...], str, str, str, Judge, str], ...] = (
    (
        _ALL,
        "The error of the local matrices grows with the contrast at a fixed amount of data.",
        "sections 5.6, 5.7, 6.3",
        f"{_ON_TEST}, small dataset: larger at each step of the contrast",
        _increasing(lambda run: [(1.0, _common(run))]),
        _ALWAYS,
    ),
    (
        _ALL,
        "The error of the NN-LOD solution grows with the contrast at a fixed amount of data.",
        "section 5.7",
        f"{_ON_FRESH}, small dataset: larger at each step of the contrast",
        _increasing(lambda run: [(1.0, _solution_errors(run))]),
        _ALWAYS,
    ),
    (
        _PLAIN,
        "With increasing contrast the network generalizes worse: validation and training loss drift apart.",
        "sections 5.6, 5.7",
        f"{_SEEN}, small dataset: larger at each step of the contrast",
        _increasing(_gap),
        _ALWAYS,
    ),
    (
        _ALL,
        "More data lowers the error of the local matrices.",
        "sections 5.5 to 5.7",
        f"{_ON_TEST}: smaller with the large dataset",
        _more_data(_common),
        _LARGE,
    ),
    (
        _PLAIN,
        "More data lowers the error of the NN-LOD solution.",
        "sections 5.5 to 5.7",
        f"{_ON_FRESH}: smaller with the large dataset",
        _more_data(_solution_errors),
        _LARGE,
    ),
    (
        _PLAIN,
        "With more data training and validation loss are closer: less overfitting.",
        "sections 5.5, 5.6",
        f"{_SEEN}: smaller with the large dataset",
        _more_data_gap,
        _LARGE,
    ),
    (
        _ALL,
        "Transfer learning helps.",
        "what sections 5.1, 6 and 7 rely on; the paper never trains from scratch, the comparison is made here",
        "loss of the fields of the common test set: smaller with transfer than from scratch, for each dataset",
        _transfer,
        _SCRATCH,
    ),
    (
        _PLAIN,
        "The loss on the test set is close to the validation loss.",
        "sections 5.5 to 5.7",
        f"losses of the fields of both sets within a factor of {_CLOSE}, {_TRANSFER}, for each dataset",
        _test_is_validation,
        _ALWAYS,
    ),
    (
        _PLAIN,
        "The solution of the network of the small dataset is biased in amplitude.",
        "sections 5.5 to 5.7",
        f"∫u_NN / ∫u_LOD − 1 of single fresh fields, small dataset, {_TRANSFER}: beyond {100 * _BIASED} % to the same "
        "side for more than half of the fields",
        _biased,
        _ALWAYS,
    ),
    (
        ("1-H", "2-H"),
        "The Monte Carlo mean is well resolved by both PG-LOD and NN-LOD.",
        "sections 6.1, 6.2",
        f"relative L² distance to FEM's mean over the same fields, large dataset, {_TRANSFER}: at most {_GOOD_MEAN}",
        _means_agree,
        _LARGE,
    ),
    (
        ("3-H",),
        "The losses are an order of magnitude larger than in experiments 1-H and 2-H.",
        "section 6.3",
        f"{_ON_TEST}, large dataset: at least {_HALF_ORDER:.2f} times that of each",
        _order_larger,
        _LARGE,
    ),
    (
        ("3-H",),
        "The Monte Carlo mean of NN-LOD undershoots that of FEM across the domain.",
        "section 6.3",
        f"mean of ∫u_NN / ∫I_H u_FEM − 1, large dataset, {_TRANSFER}: below zero, and the mean solution below that of "
        f"I_H u_FEM at {100 * _CONSISTENT:.0f} % of the inner nodes of T_H or more",
        _undershoots("FEM"),
        _LARGE,
    ),
    (
        ("3-H",),
        "The undershoot is the network's: the mean of NN-LOD undershoots that of PG-LOD too.",
        "section 6.3, read with section 5",
        "the same, against PG-LOD",
        _undershoots("PG-LOD"),
        _LARGE,
    ),
    (
        ("3-H",),
        "The bias of the mean can be reduced by more data (a conjecture of the paper on its undershoot).",
        "section 6.3",
        f"|mean of ∫u_NN / ∫u_LOD − 1|, {_TRANSFER}: smaller with the large dataset",
        _more_data_bias,
        _LARGE,
    ),
    (
        _ALL,
        "The bias of plain NN-LOD exceeds the standard error of the multifidelity mean, which no number of samples of "
        "the network alone could reach.",
        _BEYOND,
        "|mean of ∫(u_NN − u_LOD)| over the fresh fields, largest dataset, above the standard error of the mean of ∫u "
        "by multifidelity Monte Carlo",
        _bias_exceeds_error,
        _ALWAYS,
    ),
    (
        _ALL,
        "The multifidelity mean has no such bias: it agrees with the mean by PG-LOD.",
        _BEYOND,
        f"means of ∫u over independent fields equal to within {100 * _EQUAL:g} %, by two one-sided tests at 5 %; not "
        "shown if the 99.9 % interval of the difference does not contain zero",
        _multifidelity_agrees,
        _ALWAYS,
    ),
    (
        _ALL,
        "At equal cost the multifidelity mean is more accurate than that by PG-LOD.",
        _BEYOND,
        "variance of the mean of ∫u by PG-LOD above that by multifidelity Monte Carlo, pilot run included in its cost",
        _cheaper,
        _ALWAYS,
    ),
)
