"""The result of a run: fields and functionals with their errors."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from nnlod_fenics.config.montecarlo import MonteCarloSettings
from nnlod_fenics.grid import Grid
from nnlod_fenics.montecarlo.allocation import Plan
from nnlod_fenics.montecarlo.estimators import LEAST, Moments, Statistics, plain
from nnlod_fenics.norms import l2_norm

__all__ = ["Estimate", "FunctionalEstimate", "Progress", "make_estimate", "on_nodes"]

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Progress:
    """Merged results of a run so far.

    Attributes:
        moments: By stream.
        seconds: By stream, for each model of it.
        plan: Allocation, for ``"multifidelity"``.
        warned: How many samples of the stream ``samples`` are not to be trusted, and of how many that is known.
    """

    moments: dict[str, Moments]
    seconds: dict[str, Array]
    plan: Plan | None
    warned: tuple[int, int] | None = None

    @property
    def statistics(self) -> Statistics:
        """The estimates of all quantities."""
        return plain(self.moments["samples"]) if self.plan is None else self.plan.statistics(self.moments)

    @property
    def complete(self) -> bool:
        """Whether there are enough samples of each model for an estimate."""
        needed = ("samples",) if self.plan is None else self.plan.kinds
        return all(kind in self.moments and self.moments[kind].count >= LEAST for kind in needed)


@dataclass(frozen=True)
class FunctionalEstimate:
    """Estimate of a functional's expectation and variance.

    Attributes:
        mean: Estimated expectation.
        standard_error: Standard error of ``mean``.
        half_width: Half-width of the confidence interval around ``mean``.
        variance: Estimated variance of the functional.
        variance_standard_error: Standard error of ``variance``.
        variance_half_width: Half-width of the confidence interval around ``variance``.
        network_bias: Network minus reference on the same fields, where ``"multifidelity"`` uses one; the first one's.
        network_bias_error: Its standard error.
    """

    mean: float
    standard_error: float
    half_width: float
    variance: float
    variance_standard_error: float
    variance_half_width: float
    network_bias: float | None = None
    network_bias_error: float | None = None

    @property
    def interval(self) -> tuple[float, float]:
        """The confidence interval of the expectation."""
        return self.mean - self.half_width, self.mean + self.half_width

    @property
    def variance_interval(self) -> tuple[float, float]:
        """The confidence interval of the variance."""
        return self.variance - self.variance_half_width, self.variance + self.variance_half_width


@dataclass(frozen=True)
class Estimate:
    """Result of :func:`nnlod_fenics.monte_carlo`.

    Intervals of means hold with probability ``settings.level`` from some tens of samples on. Those of variances need
    more, the heavier the tails the more: in 2,000 repetitions, 95 % intervals from 100 samples (in brackets: 100
    pairs and 1,000 samples of a well correlated network) held the variance of ξ in 94 % (95 %), of exp(0.3 ξ) in
    90 % (93 %), of exp(0.7 ξ) in 79 % (89 %), and from 400 samples in 95 % (95 %), 93 % (94 %) and 87 % (92 %), for
    ξ standard normal.

    Attributes:
        grid: The discretisation.
        mean: Mean of the solution at the coarse nodes, shape ``grid.node_shape``; NaN, as all fields, at nodes of no
            active element.
        standard_error: Standard errors of ``mean``.
        half_width: Half-widths of the confidence intervals of ``mean``, node by node.
        variance: Variance of the solution at the coarse nodes.
        variance_standard_error: Standard errors of ``variance``.
        variance_half_width: Half-widths of the confidence intervals of ``variance``, node by node.
        network_bias: Mean of network minus reference on the same fields, where ``"multifidelity"`` uses one; the first
            one's.
        network_bias_error: Its standard errors.
        functionals: Functionals by name.
        field_error: Standard error of the mean field: L²(D) norm of ``standard_error``.
        variance_field_error: The same of ``variance``.
        width: What ``tolerance`` is compared with: half-width of the target's interval, or ``field_error``.
        samples: Samples of each stream: ``samples`` (of the method, or of the reference), ``pilot``, and ``low``,
            ``low2``, … without the reference, whose models ``plan`` has.
        seconds: Computing time of each stream (the pilot run, too) and model, and of its fields, set-up apart, summed
            over all ranks.
        plan: Allocation, for ``"multifidelity"``.
        settings: The settings.
        stopped: What ended the run: ``"samples"``, ``"tolerance"`` or ``"time"``.
        warned: How many of the averaged solutions show signs of being wrong
            (:class:`nnlod_fenics.lod.reliability.Reliability`), and of how many that is known; None for ``"fem"`` and
            the Galerkin form, which need no such warning. In ``"multifidelity"`` those of the reference method count.
    """

    grid: Grid
    mean: Array
    standard_error: Array
    half_width: Array
    variance: Array
    variance_standard_error: Array
    variance_half_width: Array
    network_bias: Array | None
    network_bias_error: Array | None
    functionals: dict[str, FunctionalEstimate]
    field_error: float
    variance_field_error: float
    width: float
    samples: dict[str, int]
    seconds: dict[str, dict[str, float]]
    plan: Plan | None
    settings: MonteCarloSettings
    stopped: str
    warned: tuple[int, int] | None = None

    @property
    def cost(self) -> float:
        """Computing time of all samples, pilot included, in seconds, summed over all ranks."""
        return sum(sum(parts.values()) for parts in self.seconds.values())

    @property
    def fields(self) -> dict[str, Array]:
        """All fields by name."""
        names = ["mean", "standard_error", "half_width"]
        names += ["variance", "variance_standard_error", "variance_half_width"]
        names += ["network_bias", "network_bias_error"] if self.network_bias is not None else []
        return {name: getattr(self, name) for name in names}

    def summary(self) -> dict[str, Any]:
        """All numbers but the fields, ready for JSON."""
        result: dict[str, Any] = {
            "settings": self.settings.as_dict(),
            "stopped": self.stopped,
            "samples": self.samples,
            "seconds": self.seconds,
            "mean field": {
                "norm": self._norm(self.mean),
                "standard error": self.field_error,
                "standard deviation of the solution": self._norm(np.sqrt(np.maximum(self.variance, 0))),
            },
            "variance field": {"norm": self._norm(self.variance), "standard error": self.variance_field_error},
            "functionals": {
                name: {k: v for k, v in asdict(value).items() if v is not None}
                | {"interval": list(value.interval), "variance_interval": list(value.variance_interval)}
                for name, value in self.functionals.items()
            },
        }
        if self.network_bias is not None and self.network_bias_error is not None:
            result["mean field"]["network bias"] = self._norm(self.network_bias)
            result["mean field"]["network bias, standard error"] = self._norm(self.network_bias_error)
        if self.plan is not None:
            result["plan"] = self._plan_as_dict(self.plan)
        if self.warned is not None:
            result["warned samples"] = dict(zip(("warned", "of"), self.warned, strict=True))
        return result

    def _plan_as_dict(self, plan: Plan) -> dict[str, Any]:
        names = self.settings.solved
        return {
            "gain": plan.gain,
            "models": [
                {"model": name, "cost": cost, "unexplained": rest, "used": any(k in group for group in plan.groups)}
                for k, (name, cost, rest) in enumerate(zip(names, plan.costs.models, plan.unexplained, strict=True))
            ],
            "cost of drawing a field": plan.costs.drawing,
            "groups": [
                {"stream": kind, "models": [names[k] for k in group], "ratio": ratio}
                for kind, group, ratio in zip(plan.kinds, plan.groups, plan.ratios, strict=True)
            ],
        }

    def _norm(self, field: Array) -> float:
        return l2_norm(field, self.grid)


def on_nodes(grid: Grid, values: Array) -> Array:
    """Values at the coarse nodes of D as a field.

    Args:
        grid: The discretisation.
        values: A value per node of an active element, x fastest.

    Returns:
        Shape ``grid.node_shape``, NaN at the other nodes.
    """
    field = np.full(grid.node_shape, np.nan)
    field[grid.active_nodes] = values
    return field


def make_estimate(
    progress: Progress, grid: Grid, settings: MonteCarloSettings, names: Iterable[str], stopped: str
) -> Estimate:
    """Turn moments into a result.

    Args:
        progress: Moments, at least 3 samples of each model.
        grid: The discretisation.
        settings: The settings.
        names: Names of the functionals, in the order of the quantities.
        stopped: What ended the run.

    Returns:
        The result.
    """
    statistics, n = progress.statistics, int(np.count_nonzero(grid.active_nodes))
    rows = [
        row
        for found in (statistics.mean, statistics.variance)
        for row in (found.value, found.standard_error, found.half_width(settings.level))
    ]
    mean, error, width, variance, variance_error, variance_width = (on_nodes(grid, row[:n]) for row in rows)
    bias, bias_error = _network_bias(progress, settings)
    functionals = {}
    for k, name in enumerate(names, start=n):
        extra = () if bias is None or bias_error is None else (float(bias[k]), float(bias_error[k]))
        functionals[name] = FunctionalEstimate(*(float(row[k]) for row in rows), *extra)
    field_error = l2_norm(error, grid)
    return Estimate(
        grid=grid,
        mean=mean,
        standard_error=error,
        half_width=width,
        variance=variance,
        variance_standard_error=variance_error,
        variance_half_width=variance_width,
        network_bias=None if bias is None else on_nodes(grid, bias[:n]),
        network_bias_error=None if bias_error is None else on_nodes(grid, bias_error[:n]),
        functionals=functionals,
        field_error=field_error,
        variance_field_error=l2_norm(variance_error, grid),
        width=field_error if settings.target is None else functionals[settings.target].half_width,
        samples={kind: m.count for kind, m in sorted(progress.moments.items())},
        seconds=_seconds(progress, settings),
        plan=progress.plan,
        settings=settings,
        stopped=stopped,
        warned=progress.warned,
    )


def _network_bias(progress: Progress, settings: MonteCarloSettings) -> tuple[Array | None, Array | None]:
    used = (0,) if progress.plan is None else progress.plan.groups[0]
    networks = [at for at, model in enumerate(used) if model and settings.solved[model] in settings.networks]
    if not networks:
        return None, None
    pairs, at = progress.moments["samples"], networks[0]
    c = pairs.covariance
    squared = np.maximum(c[0, 0] - 2 * c[0, at] + c[at, at], 0) / pairs.count
    return pairs.mean[at] - pairs.mean[0], np.sqrt(squared)


def _seconds(progress: Progress, settings: MonteCarloSettings) -> dict[str, dict[str, float]]:
    result = {}
    for kind, times in sorted(progress.seconds.items()):
        models: Sequence[int] = range(len(settings.solved))
        if progress.plan is not None and kind != "pilot":
            models = progress.plan.groups[progress.plan.kinds.index(kind)]
        names = [settings.solved[model] for model in models]
        result[kind] = dict(zip([*names, "fields"], map(float, times), strict=True))
    return result
