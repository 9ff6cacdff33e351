"""Settings of a Monte Carlo run."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from nnlod_fenics.config.base import LARGEST_SEED, Settings
from nnlod_fenics.errors import InputError

__all__ = ["LEAST", "METHODS", "MonteCarloSection", "MonteCarloSettings", "read_model"]

METHODS = ("fem", "lod", "nn", "multifidelity")
"""Methods of a Monte Carlo run."""
_MOST = 1_000_000_000  # samples
LEAST = 3  # samples of each model, below which the error of a variance cannot be estimated
"""Samples of each model that an estimate needs at least."""
_MOST_MODELS = 4  # beside the reference: the sets of them that are compared grow as their third power

_Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_PLACES = {"averaged": ("refine", "mean"), "lod": ("ell",), "nn": ("model",)}  # options that need no name
_SWITCHES = ("source_correctors",)


def read_model(text: str) -> tuple[str, dict[str, Any]]:
    """Method and options of a model, from text such as ``"averaged:2:harmonic"``.

    Args:
        text: A solution method, then options separated by colons: ``NAME=VALUE``, ``NAME`` alone for True, and without
            a name ``averaged:REFINE:MEAN``, ``lod:ELL`` and ``nn:MODEL``. ``fem:N`` is ``averaged:N``.

    Returns:
        Method and options for :func:`nnlod_fenics.solvers.make_solver`.

    Raises:
        InputError: If the text cannot be read.

    Example:
        >>> read_model("averaged:2:mean=harmonic")
        ('averaged', {'refine': 2, 'mean': 'harmonic'})
    """
    refused = InputError(f"models must be like 'averaged:2:harmonic', 'lod:1' or 'nn:NAME', got {text!r}.")
    method, colon, rest = text.partition(":")
    parts = [] if not colon else [rest] if method == "nn" else rest.split(":")
    if method == "fem" and parts:
        method = "averaged"
    places, options = list(_PLACES.get(method, ())), dict[str, Any]()
    for part in parts:
        name, equals, value = ("model", "=", part) if method == "nn" else part.partition("=")
        if not equals and places and name not in _SWITCHES:
            name, equals, value = places.pop(0), "=", part
        if not name or name in options or (equals and not value):
            raise refused
        options[name] = _value(value) if equals else True
    if not method:
        raise refused
    return method, options


def _value(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text


class MonteCarloSettings(Settings):
    """How to sample, and when to stop: at the first of ``samples``, ``tolerance`` and ``seconds`` given."""

    method: Literal["fem", "lod", "nn", "multifidelity"] = Field(
        default="multifidelity",
        description="what is averaged; multifidelity averages reference with cheaper models as control variates",
    )
    reference: Literal["lod", "fem"] = Field(default="lod", description="high-fidelity method of multifidelity")
    models: list[str] | None = Field(
        default=None,
        description="models that multifidelity may use, such as 'averaged', 'averaged:2:harmonic', 'lod:1', 'fem' "
        "and 'nn:NAME'; those that pay are chosen by a pilot run; nn by default",
    )
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
        "reference method, 32 of cheaper models, 256 of averaged) is always computed, and blocks already begun are "
        "completed; a pilot run ends after half of them",
    )
    seed: int = Field(default=0, ge=0, le=LARGEST_SEED, description="seed of the fields")
    pilot: int = Field(
        default=32,
        ge=4,
        le=_MOST,
        description="samples of the pilot run of multifidelity; used for the allocation only",
    )
    cost_ratio: _Positive | list[_Positive] | None = Field(
        default=None,
        description="cost of the reference method over that of each of models, drawing the field included; measured in "
        "the pilot run by default, which varies and with it the allocation: give it where results must have the same "
        "bits",
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
            if "lod" not in self.solved[:1]:
                raise InputError(f"{name} applies to method lod, got it for {' and '.join(self.solved)}.")
        self._check_models()
        return self

    def _check_models(self) -> None:
        names = self.models or []
        if self.models is not None and not 1 <= len(names) <= _MOST_MODELS:
            raise InputError(f"models must be 1 to {_MOST_MODELS} models, got {len(names)}.")
        given = [read_model(text) for text in names]
        if given and self.method != "multifidelity":
            raise InputError(f"models are those of the method multifidelity, got them for {self.method!r}.")
        for k, model in enumerate(given):
            if model == (self.reference, {}) or model in given[:k]:
                raise InputError(f"models must differ from each other and from the reference, got {names[k]!r}.")
        count = len(self.solved) - 1
        if isinstance(self.cost_ratio, list) and len(self.cost_ratio) != count:
            raise InputError(f"cost_ratio must have a number for each of {count} models, got {self.cost_ratio}.")
        if isinstance(self.cost_ratio, float) and count > 1:
            raise InputError(f"cost_ratio must be a list, a number for each of {count} models, got {self.cost_ratio}.")
        if self.pilot < count + 3:
            raise InputError(f"pilot must be at least {count + 3} for {count} models, got {self.pilot}.")

    @property
    def solved(self) -> tuple[str, ...]:
        """Models that are applied to each field of a pilot run: what is averaged first."""
        return (self.reference, *(self.models or ["nn"])) if self.method == "multifidelity" else (self.method,)

    @property
    def networks(self) -> tuple[str, ...]:
        """Those of them that are networks."""
        return tuple(name for name in self.solved if read_model(name)[0] == "nn")

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
            kept += ["reference", "pilot", "cost_ratio"] + ["models"] * (self.models is not None)
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
