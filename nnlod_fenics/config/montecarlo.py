"""Settings of a Monte Carlo run."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from nnlod_fenics.config.base import LARGEST_SEED, Settings
from nnlod_fenics.errors import InputError

__all__ = ["LEAST", "METHODS", "MonteCarloSection", "MonteCarloSettings"]

METHODS = ("fem", "lod", "nn", "multifidelity")
"""Methods of a Monte Carlo run."""
_MOST = 1_000_000_000  # samples
LEAST = 3  # samples of each model, below which the error of a variance cannot be estimated
"""Samples of each model that an estimate needs at least."""

_Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class MonteCarloSettings(Settings):
    """How to sample, and when to stop: at the first of ``samples``, ``tolerance`` and ``seconds`` given."""

    method: Literal["fem", "lod", "nn", "multifidelity"] = Field(
        default="multifidelity", description="what is averaged; multifidelity takes NN-LOD as control variate"
    )
    reference: Literal["lod", "fem"] = Field(default="lod", description="high-fidelity method of multifidelity")
    samples: Annotated[int, Field(ge=LEAST, le=_MOST)] | None = Field(
        default=None,
        description="number of samples; for multifidelity the cost, pilot included, in samples of the reference "
        "method, so that the same number means the same work",
    )
    tolerance: _Positive | None = Field(
        default=None,
        description="half-width of the confidence interval of target, or without a target the standard error of the "
        "mean field in L²(D)",
    )
    target: str | None = Field(
        default=None,
        description="name of the functional that tolerance and the allocation of multifidelity are for; the mean field "
        "by default",
    )
    seconds: _Positive | None = Field(
        default=None,
        description="seconds that this call may take; the first block of each kind (8 pilot samples, 4 of the "
        "reference method, 32 of the network) is always computed, and blocks already begun are completed; a pilot run "
        "ends after half of them",
    )
    seed: int = Field(default=0, ge=0, le=LARGEST_SEED, description="seed of the fields")
    pilot: int = Field(
        default=32,
        ge=4,
        le=_MOST,
        description="samples of the pilot run of multifidelity; used for the allocation only",
    )
    cost_ratio: _Positive | None = Field(
        default=None,
        description="cost of the reference method over that of the network; measured in the pilot run by default, "
        "which varies and with it the allocation: give it where results must have the same bits",
    )
    level: float = Field(default=0.95, gt=0, lt=1, description="probability of the confidence intervals")
    source_correctors: bool = Field(
        default=False, description="whether lod corrects the right-hand side for its fine scales"
    )
    form: Literal["petrov-galerkin", "galerkin"] = Field(
        default="petrov-galerkin",
        description="coarse problem of lod; galerkin is symmetric and stable at any contrast, and slower",
    )

    @model_validator(mode="after")
    def _fits(self) -> MonteCarloSettings:
        if self.target is not None and self.tolerance is None and self.method != "multifidelity":
            raise InputError(f"target {self.target!r} needs a tolerance, or the method multifidelity.")
        for name in self.lod_options:
            if "lod" not in self.models:
                raise InputError(f"{name} applies to method lod, got it for {' and '.join(self.models)}.")
        return self

    @property
    def models(self) -> tuple[str, ...]:
        """Methods that are applied to each field."""
        return (self.reference, "nn") if self.method == "multifidelity" else (self.method,)

    @property
    def lod_options(self) -> dict[str, Any]:
        """Options of the method lod that differ from their defaults."""
        return {
            name: getattr(self, name)
            for name in ("source_correctors", "form")
            if getattr(self, name) != type(self).model_fields[name].default
        }

    def check_stops(self) -> None:
        """Check that the settings say when to stop.

        Raises:
            InputError: If they do not.
        """
        if self.samples is None and self.tolerance is None and self.seconds is None:
            raise InputError("one of samples, tolerance and seconds must be given to know when to stop.")

    def identity(self) -> dict[str, Any]:
        """What must agree for a run to be resumed."""
        kept = ["method", "seed"]
        if self.method == "multifidelity":
            kept += ["reference", "pilot", "cost_ratio"]
        return {name: getattr(self, name) for name in kept} | self.lod_options


class MonteCarloSection(MonteCarloSettings):
    """The section ``[montecarlo]`` of a settings file: how to sample, and of what."""

    prefix: ClassVar[str] = "montecarlo."

    seed: int | None = Field(  # type: ignore[assignment]
        default=None, ge=0, le=LARGEST_SEED, description="seed of the fields; dataset.seed by default"
    )
    model: str | None = Field(default=None, description="model folder or name; by default a shipped one that fits")
    functionals: list[str] = Field(
        default_factory=list, description="functionals such as 'centre = point(0.5, 0.5)' or 'outflow(x=1)'"
    )

    def make(self, seed: int) -> MonteCarloSettings:
        """How to sample.

        Args:
            seed: Seed of the fields where the section has none.
        """
        given = self.model_dump(exclude={"model", "functionals"})
        return MonteCarloSettings(**(given | {"seed": seed if self.seed is None else self.seed}))
