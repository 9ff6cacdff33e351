"""Settings of a Monte Carlo run."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from nnlod_fenics.errors import InputError
from nnlod_fenics.montecarlo.estimators import LEAST

__all__ = ["METHODS", "MonteCarloSettings"]

METHODS = ("fem", "lod", "nn", "multifidelity")


@dataclass(frozen=True)
class MonteCarloSettings:
    """How to sample, and when to stop: at the first of ``samples``, ``tolerance`` and ``seconds`` given.

    Attributes:
        method: ``"fem"``, ``"lod"``, ``"nn"``, or ``"multifidelity"`` (NN-LOD as control variate).
        reference: High-fidelity method of ``"multifidelity"``, ``"lod"`` or ``"fem"``.
        samples: Number of samples; for ``"multifidelity"`` the cost, pilot included, in samples of the
            reference method, so that the same number means the same work.
        tolerance: Half-width of the confidence interval of ``target``, or without a target the standard
            error of the mean field in L²(D).
        target: Name of the functional that ``tolerance`` is for, and the allocation of ``"multifidelity"``; the mean
            field if None.
        seconds: Time of this call. The first block of each kind (8 pilot samples, 4 of the reference method, 32 of the
            network) is always computed, and blocks that are begun are finished. A pilot run ends after half of it.
        seed: Seed of the fields.
        pilot: Samples of the pilot run of ``"multifidelity"``; they are used for the allocation only.
        cost_ratio: Cost of the reference method over that of the network; measured in the pilot run if None.
            Measured costs vary, and with them the allocation: give it where results must have the same bits.
        level: Probability of the confidence intervals.

    Raises:
        InputError: If a value does not fit.
    """

    method: str = "multifidelity"
    reference: str = "lod"
    samples: int | None = None
    tolerance: float | None = None
    target: str | None = None
    seconds: float | None = None
    seed: int = 0
    pilot: int = 32
    cost_ratio: float | None = None
    level: float = 0.95

    def __post_init__(self) -> None:
        for name, choices in (("method", METHODS), ("reference", ("lod", "fem"))):
            if getattr(self, name) not in choices:
                raise InputError(f"{name} must be one of {choices}, got {getattr(self, name)!r}.")
        for name, least in (("samples", LEAST), ("seed", 0), ("pilot", 4)):
            value = getattr(self, name)
            whole = _is_number(value) and isinstance(value, int) and value >= least
            if not whole and not (name == "samples" and value is None):
                raise InputError(f"{name} must be an integer of at least {least}, got {value!r}.")
        for name in ("tolerance", "seconds", "cost_ratio"):
            value = getattr(self, name)
            if value is not None and not (_is_number(value) and 0 < value < math.inf):
                raise InputError(f"{name} must be a positive number, got {value!r}.")
        if not (_is_number(self.level) and 0 < self.level < 1):
            raise InputError(f"level must be a number between 0 and 1, got {self.level!r}.")
        if self.samples is None and self.tolerance is None and self.seconds is None:
            raise InputError("one of samples, tolerance and seconds must be given to know when to stop.")
        if self.target is not None and self.tolerance is None and self.method != "multifidelity":
            raise InputError(f"target {self.target!r} needs a tolerance, or the method multifidelity.")

    @property
    def models(self) -> tuple[str, ...]:
        """Methods that are applied to each field."""
        return (self.reference, "nn") if self.method == "multifidelity" else (self.method,)

    def identity(self) -> dict[str, Any]:
        """What must agree for a run to be gone on with."""
        own = asdict(self)
        kept = ["method", "seed"]
        if self.method == "multifidelity":
            kept += ["reference", "pilot", "cost_ratio"]
        return {name: own[name] for name in kept}


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
