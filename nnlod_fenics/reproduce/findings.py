"""The qualitative findings of the paper, decided from the numbers of a run.

Each finding has a criterion that the numbers meet or do not meet, for each network on its own. A finding that needs
experiments that have not been run is not examined. The bounds in the criteria are chosen here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any

from nnlod_fenics.reproduce.experiments import EXPERIMENTS, NETWORKS, SIZES

__all__ = ["Finding", "Verdict", "findings"]

Results = Mapping[str, dict[str, Any]]
_CLOSE = 1.5  # factor between two losses that are called close
_GOOD_MEAN = 0.05  # relative L² distance of means that are called close
_HALF_ORDER = 10**0.5
_CONSISTENT = 0.9  # share of inner nodes that is called the whole domain


@dataclass(frozen=True)
class Verdict:
    """What a run says of a finding for one network.

    Attributes:
        network: The network.
        shown: Whether the criterion is met; None if what it needs has not been run.
        evidence: The numbers.
    """

    network: str
    shown: bool | None
    evidence: str


@dataclass(frozen=True)
class Finding:
    """A finding of the paper.

    Attributes:
        claim: What the paper says.
        source: Where.
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


Judge = Callable[[str, str, Results], Verdict]  # name of the experiment, network, results by name


def findings(name: str, results: Results) -> list[Finding]:
    """Decide the findings of the paper that concern an experiment.

    Args:
        name: The experiment.
        results: Results by experiment, this one and others of the same run, see
            :func:`nnlod_fenics.reproduce.results.collect`.

    Returns:
        The findings with their verdicts.
    """
    found = []
    for concerns, claim, source, criterion, judge in _FINDINGS:
        if name in concerns:
            verdicts = [judge(name, network, results) for network in NETWORKS]
            found.append(Finding(claim, source, criterion, verdicts))
    return found


# -- numbers -----------------------------------------------------------------------------------------


def _run(results: Results, name: str, network: str, size: str, start: str = "transfer") -> dict[str, Any]:
    run: dict[str, Any] = results[name]["runs"][network][size][start]
    return run


def _common_loss(run: dict[str, Any]) -> float:
    return float(run["losses"]["test, large set"])


def _own_loss(run: dict[str, Any]) -> float:
    return float(run["losses"]["test"])


def _solution_error(run: dict[str, Any]) -> float:
    return float(run["against PG-LOD"]["relative L2 error"]["mean"])


def _gap(run: dict[str, Any]) -> float:
    """Validation loss by training loss after the last epoch."""
    last = run["history"][-1]
    return float(last["validation"] / last["train"])


def _chain(name: str, results: Results) -> list[str]:
    """The experiments of the family that have been run, lowest contrast first."""
    return [other for other in EXPERIMENTS[name].family if other in results]


def _increasing(name: str, network: str, results: Results, value: Callable[[dict[str, Any]], float]) -> Verdict:
    chain = _chain(name, results)
    if len(chain) < 2:
        return Verdict(
            network, None, f"needs another of the experiments {', '.join(EXPERIMENTS[name].family)} in the same folder"
        )
    values = [value(_run(results, other, network, "small")) for other in chain]
    evidence = ", ".join(f"{other}: {_number(v)}" for other, v in zip(chain, values, strict=True))
    return Verdict(network, all(a < b for a, b in pairwise(values)), evidence)


def _number(value: float) -> str:
    return f"{value:.3g}"


def _percent(part: dict[str, float]) -> str:
    return f"{100 * part['mean']:+.2f} % (95 %: {100 * part['low']:+.2f} to {100 * part['high']:+.2f})"


# -- criteria ----------------------------------------------------------------------------------------


def _grows_with_contrast(name: str, network: str, results: Results) -> Verdict:
    return _increasing(name, network, results, _own_loss)


def _solution_grows_with_contrast(name: str, network: str, results: Results) -> Verdict:
    return _increasing(name, network, results, _solution_error)


def _gap_grows_with_contrast(name: str, network: str, results: Results) -> Verdict:
    return _increasing(name, network, results, _gap)


def _smaller_with_large(name: str, network: str, results: Results, value: Callable[[dict[str, Any]], float]) -> Verdict:
    values = {size: value(_run(results, name, network, size)) for size in SIZES}
    evidence = ", ".join(f"{size}: {_number(v)}" for size, v in values.items())
    return Verdict(network, values["large"] < values["small"], evidence)


def _more_data(name: str, network: str, results: Results) -> Verdict:
    return _smaller_with_large(name, network, results, _common_loss)


def _more_data_solution(name: str, network: str, results: Results) -> Verdict:
    return _smaller_with_large(name, network, results, _solution_error)


def _more_data_gap(name: str, network: str, results: Results) -> Verdict:
    return _smaller_with_large(name, network, results, _gap)


def _transfer(name: str, network: str, results: Results) -> Verdict:
    losses = {
        size: [_common_loss(_run(results, name, network, size, start)) for start in ("scratch", "transfer")]
        for size in SIZES
    }
    evidence = "; ".join(f"{size}: {_number(a)} from scratch, {_number(b)}" for size, (a, b) in losses.items())
    return Verdict(network, all(b < a for a, b in losses.values()), evidence)


def _test_is_validation(name: str, network: str, results: Results) -> Verdict:
    runs = {size: _run(results, name, network, size)["losses"] for size in SIZES}
    ratios = {size: losses["test"] / losses["validation"] for size, losses in runs.items()}
    evidence = ", ".join(f"{size}: {_number(ratio)}" for size, ratio in ratios.items())
    return Verdict(network, all(1 / _CLOSE <= ratio <= _CLOSE for ratio in ratios.values()), evidence)


def _biased(name: str, network: str, results: Results) -> Verdict:
    part = _run(results, name, network, "small")["against PG-LOD"]
    share = f"; too small for {100 * part['share below']:.0f} % of the fields"
    amplitude = part["amplitude"]
    return Verdict(network, amplitude["low"] > 0 or amplitude["high"] < 0, _percent(amplitude) + share)


def _means_agree(name: str, network: str, results: Results) -> Verdict:
    key = "relative L2 distance of the means"
    values = {
        "PG-LOD": results[name]["monte carlo"]["PG-LOD"]["against FEM"][key],
        "NN-LOD": _run(results, name, network, "large")["against FEM"][key],
    }
    evidence = ", ".join(f"{method}: {_number(value)}" for method, value in values.items())
    return Verdict(network, max(values.values()) <= _GOOD_MEAN, evidence)


def _mean_undershoots(name: str, network: str, results: Results) -> Verdict:
    run = _run(results, name, network, "large")
    part, amplitude = run["against FEM"], run["against FEM"]["amplitude"]
    evidence = (
        f"{_percent(amplitude)}, below at {100 * part['nodes below']:.0f} % of the nodes; against PG-LOD "
        f"{_percent(run['against PG-LOD']['amplitude'])}"
    )
    return Verdict(network, amplitude["high"] < 0 and part["nodes below"] >= _CONSISTENT, evidence)


def _more_data_bias(name: str, network: str, results: Results) -> Verdict:
    parts = [_run(results, name, network, size)["against PG-LOD"]["amplitude"] for size in SIZES]
    evidence = ", ".join(f"{size}: {_percent(part)}" for size, part in zip(SIZES, parts, strict=True))
    return Verdict(network, abs(parts[1]["mean"]) < abs(parts[0]["mean"]), evidence)


def _order_larger(name: str, network: str, results: Results) -> Verdict:
    chain = EXPERIMENTS[name].family
    missing = [other for other in chain if other not in results]
    if missing:
        return Verdict(network, None, f"needs {' and '.join(missing)} in the same folder; then run this one again")
    losses = {other: float(_run(results, other, network, "large")["losses"]["validation"]) for other in chain}
    evidence = ", ".join(f"{other}: {_number(loss)}" for other, loss in losses.items())
    lower = max(loss for other, loss in losses.items() if other != name)
    return Verdict(network, losses[name] >= _HALF_ORDER * lower, evidence)


_PLAIN, _HIERARCHICAL = ("1", "2", "3"), ("1-H", "2-H", "3-H")
_ALL = (*_PLAIN, *_HIERARCHICAL)
_TRANSFER = "with transfer learning"

_FINDINGS: tuple[tuple[tuple[str, ...], str, str, str, Judge], ...] = (
    (
        _ALL,
        "The error of the local matrices grows with the contrast at a fixed amount of data.",
        "sections 5.6, 5.7, 6.3",
        f"test loss, small dataset, {_TRANSFER}: strictly increasing with the contrast",
        _grows_with_contrast,
    ),
    (
        _ALL,
        "The error of the NN-LOD solution grows with the contrast at a fixed amount of data.",
        "section 5.7",
        f"mean relative L² error against PG-LOD over all fresh fields, small dataset, {_TRANSFER}: strictly increasing",
        _solution_grows_with_contrast,
    ),
    (
        _PLAIN,
        "With increasing contrast the network generalizes worse: validation and training loss drift apart.",
        "sections 5.6, 5.7",
        f"validation by training loss after the last epoch, small dataset, {_TRANSFER}: strictly increasing",
        _gap_grows_with_contrast,
    ),
    (
        _ALL,
        "More data lowers the error of the local matrices.",
        "sections 5.5 to 5.7",
        f"loss on the large test set, {_TRANSFER}: smaller with the large dataset",
        _more_data,
    ),
    (
        _PLAIN,
        "More data lowers the error of the NN-LOD solution.",
        "sections 5.5 to 5.7",
        f"mean relative L² error against PG-LOD over all fresh fields, {_TRANSFER}: smaller with the large dataset",
        _more_data_solution,
    ),
    (
        _PLAIN,
        "With more data training and validation loss are closer: less overfitting.",
        "sections 5.5, 5.6",
        f"validation by training loss after the last epoch, {_TRANSFER}: smaller with the large dataset",
        _more_data_gap,
    ),
    (
        _ALL,
        "Transfer learning helps.",
        "sections 5.1, 6, 7",
        "loss on the large test set: smaller with transfer than from scratch, for both datasets",
        _transfer,
    ),
    (
        _PLAIN,
        "The loss on the test set is close to the validation loss.",
        "sections 5.5 to 5.7",
        f"ratio of the losses within a factor of {_CLOSE}, {_TRANSFER}, for both datasets",
        _test_is_validation,
    ),
    (
        _PLAIN,
        "The solution of the network of the small dataset is biased in amplitude.",
        "sections 5.5 to 5.7",
        f"mean of ∫u_NN / ∫u_LOD − 1 over all fresh fields, small dataset, {_TRANSFER}: 95 % interval without zero",
        _biased,
    ),
    (
        ("1-H", "2-H"),
        "The Monte Carlo mean is well resolved by both PG-LOD and NN-LOD.",
        "sections 6.1, 6.2",
        f"relative L² distance to the mean by FEM at most {_GOOD_MEAN}, large dataset, {_TRANSFER}",
        _means_agree,
    ),
    (
        ("3-H",),
        "The losses are an order of magnitude larger than in experiments 1-H and 2-H.",
        "section 6.3",
        f"validation loss, large dataset, {_TRANSFER}: at least {_HALF_ORDER:.2f} times that of each",
        _order_larger,
    ),
    (
        ("3-H",),
        "The Monte Carlo mean of NN-LOD undershoots that of FEM across the domain.",
        "section 6.3",
        f"mean of ∫u_NN / ∫u_FEM − 1, large dataset, {_TRANSFER}: 95 % interval below zero, and the mean below FEM's "
        f"at {100 * _CONSISTENT:.0f} % of the inner nodes of T_H or more",
        _mean_undershoots,
    ),
    (
        ("3-H",),
        "The bias of the mean can be reduced by more data (a conjecture of the paper on its undershoot).",
        "section 6.3",
        f"|mean of ∫u_NN / ∫u_LOD − 1|, {_TRANSFER}: smaller with the large dataset",
        _more_data_bias,
    ),
)
