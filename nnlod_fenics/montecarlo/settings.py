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
        target: Name of a functional.
        seconds: Time of this call, on each rank; the first samples are always finished.
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
            whole = isinstance(value, int) and not isinstance(value, bool) and value >= least
            if not whole and not (name == "samples" and value is None):
                raise InputError(f"{name} must be an integer of at least {least}, got {value!r}.")
        for name in ("tolerance", "seconds", "cost_ratio"):
            value = getattr(self, name)
            if value is not None and not (isinstance(value, (int, float)) and 0 < value < math.inf):
                raise InputError(f"{name} must be a positive number, got {value!r}.")
        if not 0 < self.level < 1:
            raise InputError(f"level must lie between 0 and 1, got {self.level!r}.")
        if self.samples is None and self.tolerance is None and self.seconds is None:
            raise InputError("one of samples, tolerance and seconds must be given to know when to stop.")
        if self.target is not None and self.tolerance is None:
            raise InputError(f"target {self.target!r} needs a tolerance.")

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
