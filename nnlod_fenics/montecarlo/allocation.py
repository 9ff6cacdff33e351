"""Which models, together on which fields, and how many: the allocation of samples from a pilot run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from nnlod_fenics.config.montecarlo import LEAST
from nnlod_fenics.montecarlo.choice import LEAST_PAIRS, choose
from nnlod_fenics.montecarlo.estimators import Moments, Statistics, combined, plain
from nnlod_fenics.montecarlo.weights import weights

__all__ = ["LEAST_PAIRS", "Costs", "Plan", "kind_of", "make_plan", "models_of"]

Array = npt.NDArray[np.float64]


def kind_of(models: Sequence[int]) -> str:
    """The name of the stream of a group of models: ``samples`` with the reference, else ``low`` and a number."""
    if 0 in models:
        return "samples"
    number = sum(1 << (i - 1) for i in models)
    return "low" if number == 1 else f"low{number}"


def models_of(kind: str) -> tuple[int, ...]:
    """The models of a stream ``low…``; the first model's alone is ``low``."""
    number = int(kind.removeprefix("low") or 1)
    return tuple(i + 1 for i in range(number.bit_length()) if number >> i & 1)


@dataclass(frozen=True)
class Costs:
    """Costs of a sample, in seconds or other units.

    Attributes:
        models: Of each model, the reference first.
        drawing: Of drawing a field, once for all models that are applied to it.
    """

    models: tuple[float, ...]
    drawing: float = 0.0

    def of(self, models: Sequence[int]) -> float:
        """Cost of a field and its solutions by some models."""
        return self.drawing + sum(self.models[i] for i in models)


@dataclass(frozen=True)
class Plan:
    """Allocation of samples, and what the weights of the estimate follow from.

    Attributes:
        groups: Models that are applied to the same fields, by number; the reference, number 0, is in the first group
            only. A single group where no other model pays: the estimate is plain.
        ratios: Samples of each group for each sample of the reference.
        covariance: Covariances of all models in the pilot run, shape ``(m, m, q)``.
        costs: Costs of a sample.
        unexplained: 1 − Σ ρ² σ² / Σ σ² of each model over the quantities that are aimed at, with as many degrees of
            freedom as a regression leaves; 0 for the reference.
        gain: Predicted variance of plain Monte Carlo over that of this plan, at equal cost.
        budget: What may be spent, in samples of the reference.
    """

    groups: tuple[tuple[int, ...], ...]
    ratios: tuple[float, ...]
    covariance: Array = field(repr=False)
    costs: Costs
    unexplained: tuple[float, ...]
    gain: float
    budget: float = math.inf

    @property
    def multifidelity(self) -> bool:
        """Whether any model but the reference is used."""
        return len(self.groups) > 1

    @property
    def kinds(self) -> tuple[str, ...]:
        """The stream of each group."""
        return tuple(map(kind_of, self.groups))

    def counts(self, pairs: int) -> dict[str, int]:
        """Samples of each stream for n of the reference."""
        further = zip(self.kinds[1:], self.ratios[1:], strict=True)
        return {"samples": pairs} | {kind: max(round(ratio * pairs), LEAST) for kind, ratio in further}

    def cost(self, pairs: int) -> float:
        """Cost of n samples of the reference and all that belong to them, in plain samples of the reference."""
        counts = self.counts(pairs).values()
        total = sum(n * self.costs.of(models) for n, models in zip(counts, self.groups, strict=True))
        return total / self.costs.of((0,))

    def pairs_for(self, budget: float) -> int:
        """The largest n whose cost is within a finite budget, in samples of the reference; 0 if there is none."""
        fits, exceeds = 0, max(math.floor(budget), 0) + 1  # a sample costs at least 1, and each further one more
        while exceeds - fits > 1:
            middle = (fits + exceeds) // 2
            fits, exceeds = (middle, exceeds) if self.cost(middle) <= budget else (fits, middle)
        return fits

    def statistics(self, moments: Mapping[str, Moments]) -> Statistics:
        """The estimates of all quantities, from the moments of each stream.

        The weights have the least variance for the sample numbers that there are, by the covariances of the pilot run;
        those of the variance if all models are Gaussian, where covariances of sample variances are 2 C²/(n − 1).
        """
        if not self.multifidelity:
            return plain(moments["samples"])
        found = [moments[kind] for kind in self.kinds]
        counts = [part.count for part in found]
        of_mean = weights(self.covariance, self.groups, counts)
        of_variance = weights(self.covariance**2, self.groups, counts)
        return combined(list(zip(found, of_mean, of_variance, strict=True)))


def make_plan(pilot: Moments, aim: slice, costs: Costs, budget: float = math.inf, tolerated: float = 0.0) -> Plan:
    """The allocation for the means of some quantities, from a pilot run with all models.

    Args:
        pilot: Moments of all models, the reference first.
        aim: The quantities whose variances are to be small: nodal values of the mean field, or a functional.
        costs: Costs of a sample.
        budget: What may be spent, in samples of the reference.
        tolerated: Variance of the mean, summed over the quantities that are aimed at, which is small enough.

    Returns:
        The plan: :func:`nnlod_fenics.montecarlo.choice.choose` says which.
    """
    covariance = pilot.covariance
    unit = costs.of((0,))
    chosen = choose(covariance[:, :, aim], pilot.count, costs.models, costs.drawing, budget * unit, tolerated)
    return Plan(
        chosen.groups,
        chosen.ratios,
        covariance,
        costs,
        _unexplained(covariance[:, :, aim], pilot.count),
        chosen.gain,
        budget,
    )


def _unexplained(c: Array, count: int) -> tuple[float, ...]:
    own = np.einsum("iiq->iq", c)
    part = np.divide(c[0] ** 2, own, out=np.zeros_like(own), where=own > 0)
    rest = np.minimum(np.maximum(own[0] - part, 0) * (count - 1) / (count - 2), own[0]).sum(axis=1)
    total = own[0].sum()
    return (0.0, *(rest[1:] / total if total else 0 * rest[1:]).tolist())
