"""The qualitative findings of the paper, decided from the numbers of a run.

Each has a criterion, see :mod:`nnlod_fenics.workflows.reproduce.criteria`. Each network is judged on its own. A finding
that needs what has not been run is ``not examined``.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from nnlod_fenics.workflows.reproduce import criteria
from nnlod_fenics.workflows.reproduce.criteria import NOT_EXAMINED, Judge, Results
from nnlod_fenics.workflows.reproduce.experiments import NETWORKS

__all__ = ["CLAIMS", "Claim", "Finding", "Verdict", "findings"]


@dataclass(frozen=True)
class Verdict:
    """What a run says of a finding for one network.

    Attributes:
        network: The network.
        answer: One of :data:`nnlod_fenics.workflows.reproduce.criteria.ANSWERS`.
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


@dataclass(frozen=True)
class Claim:
    """A finding before any run.

    Attributes:
        experiments: Those that it concerns.
        claim: What is said.
        source: Where in the paper.
        criterion: What the numbers of a run must meet.
        judge: Decides that.
        needs: What that takes beside transfer learning on the small dataset: ``"large"``, ``"scratch"`` or nothing.
    """

    experiments: tuple[str, ...]
    claim: str
    source: str
    criterion: str
    judge: Judge
    needs: str = ""


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
    for item in CLAIMS:
        if name in item.experiments:
            missing = _not_run(results[name], item.needs)
            verdicts = [
                Verdict(network, *((NOT_EXAMINED, missing) if missing else item.judge(name, network, results)))
                for network in NETWORKS
            ]
            found.append(Finding(item.claim, item.source, item.criterion, verdicts))
    return found


def _not_run(numbers: dict[str, Any], needs: str) -> str:
    """What to say if the run lacks a dataset or a start of the training; empty if not."""
    runs = numbers["runs"][NETWORKS[0]]
    if not needs or needs in runs or all(needs in starts for starts in runs.values()):
        return ""
    return "needs the large dataset" if needs == _LARGE else "needs networks trained from scratch"


_PLAIN, _HIERARCHICAL = ("1", "2", "3"), ("1-H", "2-H", "3-H")
_ALL = (*_PLAIN, *_HIERARCHICAL)
_TRANSFER = "with transfer learning"
_ON_TEST = f"loss of the fields of the common test set, {_TRANSFER}"
_ON_FRESH = f"relative L² error against PG-LOD of the fresh fields, {_TRANSFER}"
_SEEN = f"loss of the fields of the common test set by that of as many training fields, {_TRANSFER}"
_BEYOND = "not in the paper; what section 6.3 leaves open"

_LARGE, _SCRATCH = "large", "scratch"

CLAIMS = (
    Claim(
        _ALL,
        "The contrast of typical realizations grows with σ².",
        "section 5.2",
        "mean of log₁₀(max A / min A) over the fresh fields: larger at each step of the contrast",
        criteria.contrast_grows,
    ),
    Claim(
        ("1",),
        "Already at low contrast the losses are larger than for uniformly elliptic coefficients, by half an order of "
        "magnitude in training and one in validation.",
        "section 5.5",
        "losses of the fields of both sets, small dataset, by those of the base network on its own data: validation at "
        f"least {criteria.HALF_ORDER:.2f}, training above 1",
        criteria.harder_than_base,
    ),
    Claim(
        _ALL,
        "The error of the local matrices grows with the contrast at a fixed amount of data.",
        "sections 5.6, 5.7, 6.3",
        f"{_ON_TEST}, small dataset: larger at each step of the contrast",
        criteria.increasing(lambda run: [(1.0, criteria.common_losses(run))]),
    ),
    Claim(
        _ALL,
        "The error of the NN-LOD solution grows with the contrast at a fixed amount of data.",
        "section 5.7",
        f"{_ON_FRESH}, small dataset: larger at each step of the contrast",
        criteria.increasing(lambda run: [(1.0, criteria.solution_errors(run))]),
    ),
    Claim(
        _PLAIN,
        "With increasing contrast the network fits a given training set worse.",
        "section 5.6",
        f"loss of training fields, {_TRANSFER}, small dataset: larger at each step of the contrast",
        criteria.increasing(lambda run: [(1.0, criteria.losses(run, "train"))]),
    ),
    Claim(
        _PLAIN,
        "With increasing contrast the network generalizes worse: validation and training loss drift apart.",
        "sections 5.6, 5.7",
        f"{_SEEN}, small dataset: larger at each step of the contrast",
        criteria.increasing(criteria.generalization_gap),
    ),
    Claim(
        _ALL,
        "More data lowers the error of the local matrices.",
        "sections 5.5 to 5.7",
        f"{_ON_TEST}: smaller with the large dataset",
        criteria.more_data(criteria.common_losses),
        _LARGE,
    ),
    Claim(
        _PLAIN,
        "More data lowers the error of the NN-LOD solution.",
        "sections 5.5 to 5.7",
        f"{_ON_FRESH}: smaller with the large dataset",
        criteria.more_data(criteria.solution_errors),
        _LARGE,
    ),
    Claim(
        _PLAIN,
        "With more data training and validation loss are closer: less overfitting.",
        "sections 5.5, 5.6",
        f"{_SEEN}: smaller with the large dataset",
        criteria.more_data_gap,
        _LARGE,
    ),
    Claim(
        _ALL,
        "Transfer learning helps.",
        "what sections 5.1, 6 and 7 rely on; the paper never trains from scratch, the comparison is made here",
        "loss of the fields of the common test set: smaller with transfer than from scratch, for each dataset",
        criteria.transfer_helps,
        _SCRATCH,
    ),
    Claim(
        _PLAIN,
        "The loss on the test set is close to the validation loss.",
        "sections 5.5 to 5.7",
        f"losses of the fields of both sets within a factor of {criteria.CLOSE}, {_TRANSFER}, for each dataset",
        criteria.same_on_test,
    ),
    Claim(
        _PLAIN,
        "The solution of the network of the small dataset is biased in amplitude.",
        "sections 5.5 to 5.7",
        f"∫u_NN / ∫u_LOD − 1 of single fresh fields, small dataset, {_TRANSFER}: beyond {100 * criteria.BIASED} % to "
        "the same side for more than half of the fields",
        criteria.biased,
    ),
    Claim(
        ("1-H", "2-H"),
        "The Monte Carlo mean is well resolved by both PG-LOD and NN-LOD.",
        "sections 6.1, 6.2",
        f"relative L² distance to FEM's mean over the same fields, large dataset, {_TRANSFER}: at most "
        f"{criteria.GOOD_MEAN}",
        criteria.means_agree,
        _LARGE,
    ),
    Claim(
        ("3-H",),
        "The losses are an order of magnitude larger than in experiments 1-H and 2-H.",
        "section 6.3",
        f"{_ON_TEST}, large dataset: at least {criteria.HALF_ORDER:.2f} times that of each",
        criteria.order_larger,
        _LARGE,
    ),
    Claim(
        ("3-H",),
        "The Monte Carlo mean of NN-LOD undershoots that of FEM across the domain.",
        "section 6.3",
        f"mean of ∫u_NN / ∫I_H u_FEM − 1, large dataset, {_TRANSFER}: below zero, and the mean solution below that of "
        f"I_H u_FEM at {100 * criteria.CONSISTENT:.0f} % of the inner nodes of T_H or more",
        criteria.undershoots("FEM"),
        _LARGE,
    ),
    Claim(
        ("3-H",),
        "The undershoot is the network's: the mean of NN-LOD undershoots that of PG-LOD too.",
        "section 6.3, read with section 5",
        f"mean of ∫u_NN / ∫u_LOD − 1, large dataset, {_TRANSFER}: below zero, and the mean solution below that of "
        f"u_LOD at {100 * criteria.CONSISTENT:.0f} % of the inner nodes of T_H or more",
        criteria.undershoots("PG-LOD"),
        _LARGE,
    ),
    Claim(
        (*_PLAIN, "3-H"),
        "The bias in amplitude is reduced by more data (in 3-H a conjecture of the paper on its undershoot).",
        "sections 5.5, 5.6, 6.3",
        f"|mean of ∫u_NN / ∫u_LOD − 1|, {_TRANSFER}: smaller with the large dataset",
        criteria.more_data_bias,
        _LARGE,
    ),
    Claim(
        _ALL,
        "The bias of plain NN-LOD exceeds the standard error of the multifidelity mean, which no number of samples of "
        "the network alone could reach.",
        _BEYOND,
        "|mean of ∫(u_NN − u_LOD)| over the fresh fields, largest dataset, above the standard error of the mean of ∫u "
        "by multifidelity Monte Carlo",
        criteria.bias_exceeds_error,
    ),
    Claim(
        _ALL,
        "The multifidelity mean has no such bias: it agrees with the mean by PG-LOD.",
        _BEYOND,
        f"means of ∫u over independent fields equal to within {100 * criteria.EQUAL:g} %, by two one-sided tests at "
        "5 %; not shown if the 99.9 % interval of the difference does not contain zero",
        criteria.multifidelity_agrees,
    ),
    Claim(
        _ALL,
        "At equal cost the multifidelity mean is more accurate than that by PG-LOD.",
        _BEYOND,
        "variance of the mean of ∫u by PG-LOD above that by multifidelity Monte Carlo, pilot run included in its cost",
        criteria.cheaper,
    ),
)
"""All findings."""
