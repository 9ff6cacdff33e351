"""The result of a run: fields and functionals with their errors."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from nnlod_fenics.grid import Grid
from nnlod_fenics.montecarlo.allocation import Plan
from nnlod_fenics.montecarlo.estimators import Moments, Statistics, control_variate, plain
from nnlod_fenics.montecarlo.settings import MonteCarloSettings

__all__ = ["Estimate", "FunctionalEstimate", "Progress", "make_estimate", "mean_square_norm"]

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Progress:
    """Merged results of a run so far.

    Attributes:
        moments: By stream.
        seconds: By stream, for each model of it.
        plan: Allocation, for ``"multifidelity"``.
    """

    moments: dict[str, Moments]
    seconds: dict[str, Array]
    plan: Plan | None

    @property
    def statistics(self) -> Statistics:
        """The estimates of all quantities."""
        if self.plan is None or not self.plan.multifidelity:
            return plain(self.moments["samples"])
        return control_variate(self.moments["samples"], self.moments["low"], self.plan.beta, self.plan.gamma)

    @property
    def complete(self) -> bool:
        """Whether there are enough samples of each model for an estimate."""
        needed = ["samples"] + ["low"] * (self.plan is not None and self.plan.multifidelity)
        return all(kind in self.moments and self.moments[kind].count > 1 for kind in needed)


@dataclass(frozen=True)
class FunctionalEstimate:
    """Estimate of a functional's expectation.

    Attributes:
        mean: Estimated expectation.
        standard_error: Standard error of ``mean``.
        half_width: Half-width of the confidence interval around ``mean``.
        variance: Estimated variance of the functional.
        network_bias: Network minus reference on the same fields, for ``"multifidelity"``.
        network_bias_error: Its standard error.
    """

    mean: float
    standard_error: float
    half_width: float
    variance: float
    network_bias: float | None = None
    network_bias_error: float | None = None

    @property
    def interval(self) -> tuple[float, float]:
        """The confidence interval."""
        return self.mean - self.half_width, self.mean + self.half_width


@dataclass(frozen=True)
class Estimate:
    """Result of :func:`nnlod_fenics.monte_carlo`.

    Attributes:
        mean: Mean of the solution at the coarse nodes, shape ``(1/H + 1,)*d``.
        variance: Its variance.
        standard_error: Standard errors of ``mean``.
        network_bias: Mean of network minus reference on the same fields, for ``"multifidelity"``.
        network_bias_error: Its standard errors.
        functionals: Functionals by name.
        field_error: Standard error of the mean field in L²(D): the root of the integral of
            ``standard_error``² by the trapezoidal rule.
        width: What ``tolerance`` is compared with: half-width of the target's interval, or ``field_error``.
        samples: Samples of each stream: ``samples`` (of the method, or pairs), ``low``, ``pilot``.
        seconds: Computing time of each stream and method, summed over all ranks.
        plan: Allocation, for ``"multifidelity"``.
        settings: The settings.
        stopped: What ended the run: ``"samples"``, ``"tolerance"`` or ``"time"``.
    """

    mean: Array
    variance: Array
    standard_error: Array
    network_bias: Array | None
    network_bias_error: Array | None
    functionals: dict[str, FunctionalEstimate]
    field_error: float
    width: float
    samples: dict[str, int]
    seconds: dict[str, dict[str, float]]
    plan: Plan | None
    settings: MonteCarloSettings
    stopped: str

    @property
    def cost(self) -> float:
        """Computing time of all samples, pilot included, in seconds, summed over all ranks."""
        return sum(sum(parts.values()) for parts in self.seconds.values())

    def summary(self) -> dict[str, Any]:
        """All numbers but the fields, ready for JSON."""
        result: dict[str, Any] = {
            "settings": asdict(self.settings),
            "stopped": self.stopped,
            "samples": self.samples,
            "seconds": self.seconds,
            "mean field": {
                "norm": mean_square_norm(self.mean),
                "standard error": self.field_error,
                "standard deviation of the solution": mean_square_norm(np.sqrt(np.maximum(self.variance, 0))),
            },
            "functionals": {
                name: {k: v for k, v in asdict(value).items() if v is not None} | {"interval": list(value.interval)}
                for name, value in self.functionals.items()
            },
        }
        if self.network_bias is not None and self.network_bias_error is not None:
            result["mean field"]["network bias"] = mean_square_norm(self.network_bias)
            result["mean field"]["network bias, standard error"] = mean_square_norm(self.network_bias_error)
        if self.plan is not None:
            names = ("ratio", "cost_high", "cost_low", "explained", "gain")
            result["plan"] = {name: getattr(self.plan, name) for name in names}
        return result


def mean_square_norm(values: Array) -> float:
    """L²(D) norm of nodal values by the trapezoidal rule (nodes on ∂D count less)."""
    squares = values**2
    for _ in range(values.ndim):  # the first axis goes, the next one takes its place
        squares = (squares[:-1] + squares[1:]).mean(axis=0) / 2
    return math.sqrt(float(squares))


def make_estimate(
    progress: Progress, grid: Grid, settings: MonteCarloSettings, names: Iterable[str], stopped: str
) -> Estimate:
    """Turn moments into a result.

    Args:
        progress: Moments, at least 2 samples of each model.
        grid: The discretisation.
        settings: The settings.
        names: Names of the functionals, in the order of the quantities.
        stopped: What ended the run.

    Returns:
        The result.
    """
    statistics, shape, n = progress.statistics, (grid.coarse + 1,) * grid.dim, grid.num_nodes
    widths, errors = statistics.half_width(settings.level), statistics.standard_error
    bias, bias_error = _network_bias(progress)
    functionals = {}
    for k, name in enumerate(names, start=n):
        extra = () if bias is None or bias_error is None else (float(bias[k]), float(bias_error[k]))
        numbers = (float(v[k]) for v in (statistics.mean, errors, widths, statistics.variance))
        functionals[name] = FunctionalEstimate(*numbers, *extra)
    field_error = mean_square_norm(errors[:n].reshape(shape))
    return Estimate(
        mean=statistics.mean[:n].reshape(shape),
        variance=statistics.variance[:n].reshape(shape),
        standard_error=errors[:n].reshape(shape),
        network_bias=None if bias is None else bias[:n].reshape(shape),
        network_bias_error=None if bias_error is None else bias_error[:n].reshape(shape),
        functionals=functionals,
        field_error=field_error,
        width=field_error if settings.target is None else functionals[settings.target].half_width,
        samples={kind: m.count for kind, m in sorted(progress.moments.items())},
        seconds=_seconds(progress, settings),
        plan=progress.plan,
        settings=settings,
        stopped=stopped,
    )


def _network_bias(progress: Progress) -> tuple[Array | None, Array | None]:
    pairs = progress.moments["samples"]
    if len(pairs.mean) < 2:
        return None, None
    c = pairs.covariance
    squared = np.maximum(c[0, 0] - 2 * c[0, 1] + c[1, 1], 0) / pairs.count
    return pairs.mean[1] - pairs.mean[0], np.sqrt(squared)


def _seconds(progress: Progress, settings: MonteCarloSettings) -> dict[str, dict[str, float]]:
    result = {}
    for kind, times in sorted(progress.seconds.items()):
        methods = ("nn",) if kind == "low" else settings.models
        result[kind] = dict(zip(methods, map(float, times), strict=False))
    return result
