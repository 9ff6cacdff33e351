"""Laws of random coefficients: what a realization is, given a seed and its number.

A sample is always Z = log A on T_ε, shape ``(cells,)*d``, also for uniformly elliptic coefficients.
Realization k of a seed has the same bits whatever was sampled before, on every number of processes: its
randomness comes from ``numpy.random.SeedSequence(seed, spawn_key=(stage, …))``.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any, Protocol

import gstools
import numpy as np
import numpy.typing as npt

from nnlod_fenics.errors import InputError
from nnlod_fenics.fields.covariance import covariance_model
from nnlod_fenics.fields.embedding import CirculantEmbedding
from nnlod_fenics.fields.parameters import Parameter, parse_parameter

__all__ = ["FieldLaw", "FieldSample", "HierarchicalField", "LognormalField", "UniformlyEllipticField", "make_field"]

Array = npt.NDArray[np.float64]

_SAMPLERS = ("circulant", "randmeth", "fourier")
_KEPT_EMBEDDINGS = 16
_NAMES = ("variance", "correlation_length", "smoothness")


@dataclass(frozen=True)
class FieldSample:
    """One realization.

    Attributes:
        Z: log A on T_ε, shape ``(cells,)*d``, indexed ``[y, x]``.
        parameters: Values of the field's parameters in this realization.
    """

    Z: Array
    parameters: dict[str, float] = field(default_factory=dict)


class FieldLaw(Protocol):
    """A law of random coefficients on the cells of T_ε."""

    def sample(self, seed: int, index: int, stage: int = 0) -> FieldSample:
        """Draw a realization.

        Args:
            seed: Seed of the run.
            index: Number of the realization.
            stage: Separates streams of one seed, for example training data (0) from tests (1).

        Returns:
            The realization: the same bits for the same arguments.
        """

    def settings(self) -> dict[str, Any]:
        """The law as a configuration section; :func:`make_field` gives the law back."""


def _generator(seed: int, *key: int) -> np.random.Generator:
    for name, value in (("seed", seed), *(("index", k) for k in key)):
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 0:
            raise InputError(f"{name} must be a non-negative integer, got {value!r}.")
    return np.random.Generator(np.random.SFC64(np.random.SeedSequence(int(seed), spawn_key=[int(k) for k in key])))


class LognormalField:
    """A = exp(Z) with a centred stationary Gaussian field Z, (2.3) by default.

    Realizations 2p and 2p+1 are the two independent fields of one draw of the circulant embedding.

    Args:
        dim: Space dimension.
        cells: Cells of T_ε per axis.
        variance: σ².
        correlation_length: ρ.
        smoothness: ν (Matérn only).
        covariance: Name of a GSTools covariance model.
        sampler: ``"circulant"`` (exact), or GSTools' ``"randmeth"`` or ``"fourier"`` generators.

    Note:
        GSTools' generators know only 65,535 random streams: different seeds can give correlated or equal
        fields, so they are not for Monte Carlo estimates. They are approximate in law as well.
    """

    def __init__(
        self,
        dim: int,
        cells: int,
        variance: float = 1.0,
        correlation_length: float = 0.05,
        smoothness: float | None = None,
        covariance: str = "Matern",
        sampler: str = "circulant",
    ) -> None:
        if sampler not in _SAMPLERS:
            raise InputError(f"field.sampler must be one of {_SAMPLERS}, got {sampler!r}.")
        self.dim, self.cells, self.sampler, self.covariance = dim, cells, sampler, covariance
        if smoothness is None and covariance == "Matern":
            smoothness = 0.5
        self.model = covariance_model(covariance, dim, variance, correlation_length, smoothness)
        self.smoothness = smoothness
        self._embedding = CirculantEmbedding(self.model, cells) if sampler == "circulant" else None
        self._last: tuple[tuple[int, int, int], Array] | None = None

    def sample(self, seed: int, index: int, stage: int = 0) -> FieldSample:
        """Draw a realization; see :class:`FieldLaw`."""
        parameters = {"variance": float(self.model.var), "correlation_length": float(self.model.len_scale)}
        if self.smoothness is not None:
            parameters["smoothness"] = float(self.smoothness)
        if self._embedding is None:
            return FieldSample(self._from_gstools(_generator(seed, stage, index)), parameters)
        key = (int(seed), int(stage), int(index) // 2)
        if self._last is None or self._last[0] != key:
            self._last = (key, self._embedding.sample(_generator(seed, stage, index // 2)))
        return FieldSample(self._last[1][index % 2].copy(), parameters)

    def draw(self, rng: np.random.Generator) -> Array:
        """Draw one field from a given source of randomness, shape ``(cells,)*d``."""
        return self._from_gstools(rng) if self._embedding is None else self._embedding.sample(rng)[0]

    def _from_gstools(self, rng: np.random.Generator) -> Array:
        midpoints = (np.arange(self.cells) + 0.5) / self.cells
        if self.sampler == "randmeth":
            field = gstools.SRF(self.model, generator="RandMeth")
        else:  # a period of twice the domain, or opposite edges would be correlated
            field = gstools.SRF(self.model, generator="Fourier", period=[2.0] * self.dim, mode_no=[64] * self.dim)
        values = field.structured([midpoints] * self.dim, seed=int(rng.integers(2**31)))
        return np.asarray(values, dtype=np.float64).T.copy()  # GSTools has x first

    def settings(self) -> dict[str, Any]:
        """The law as a configuration section."""
        result: dict[str, Any] = {
            "kind": "lognormal",
            "covariance": self.covariance,
            "variance": float(self.model.var),
            "correlation_length": float(self.model.len_scale),
            "sampler": self.sampler,
        }
        return result if self.smoothness is None else result | {"smoothness": float(self.smoothness)}


class HierarchicalField:
    """A = exp(Z) where the parameters of Z are drawn first, then Z given them (section 6 of the paper).

    Args:
        dim: Space dimension.
        cells: Cells of T_ε per axis.
        variance: Law of σ².
        correlation_length: Law of ρ.
        smoothness: Law of ν.
    """

    def __init__(
        self, dim: int, cells: int, variance: Parameter, correlation_length: Parameter, smoothness: Parameter
    ) -> None:
        self.dim, self.cells = dim, cells
        self.parameters = dict(zip(_NAMES, (variance, correlation_length, smoothness), strict=True))
        self._fields: OrderedDict[tuple[float, float], LognormalField] = OrderedDict()

    def sample(self, seed: int, index: int, stage: int = 0) -> FieldSample:
        """Draw the parameters, then the field; see :class:`FieldLaw`."""
        rng = _generator(seed, stage, index)
        drawn = {name: law.draw(rng) for name, law in self.parameters.items()}
        key = (drawn["correlation_length"], drawn["smoothness"])
        if key not in self._fields:  # unit variance, so that a random σ² costs no new embedding
            self._fields[key] = LognormalField(self.dim, self.cells, 1.0, *key)
            if len(self._fields) > _KEPT_EMBEDDINGS:
                self._fields.popitem(last=False)
        self._fields.move_to_end(key)
        return FieldSample(math.sqrt(drawn["variance"]) * self._fields[key].draw(rng), drawn)

    def settings(self) -> dict[str, Any]:
        """The law as a configuration section."""
        return {"kind": "hierarchical"} | {name: law.settings() for name, law in self.parameters.items()}


class UniformlyEllipticField:
    """A independent and uniform in [α, β] on each cell: the coefficients of the base network.

    Args:
        dim: Space dimension.
        cells: Cells of T_ε per axis.
        alpha: Lower bound α.
        beta: Upper bound β.
    """

    def __init__(self, dim: int, cells: int, alpha: float = 1.0, beta: float = 5.0) -> None:
        low, high = parse_parameter("alpha/beta", {"uniform": [alpha, beta]}).values
        self.dim, self.cells, self.alpha, self.beta = dim, cells, low, high

    def sample(self, seed: int, index: int, stage: int = 0) -> FieldSample:
        """Draw a realization; see :class:`FieldLaw`."""
        values = _generator(seed, stage, index).uniform(self.alpha, self.beta, (self.cells,) * self.dim)
        return FieldSample(np.log(values))

    def settings(self) -> dict[str, Any]:
        """The law as a configuration section."""
        return {"kind": "uniform", "alpha": self.alpha, "beta": self.beta}


_KEYS = {
    "lognormal": {*_NAMES, "covariance", "sampler"},
    "hierarchical": set(_NAMES),
    "uniform": {"alpha", "beta"},
}


def make_field(settings: dict[str, Any], dim: int, cells: int) -> FieldLaw:
    """Make the law that a configuration section describes.

    Args:
        settings: ``kind`` (``"lognormal"``, ``"hierarchical"`` or ``"uniform"``) and its keys: ``variance``,
            ``correlation_length``, ``smoothness``, ``covariance``, ``sampler``; the first three of a
            hierarchical field may be ``{uniform = [a, b]}``, ``{loguniform = [a, b]}`` or
            ``{choice = [...]}``; ``alpha``, ``beta`` for uniformly elliptic coefficients.
        dim: Space dimension.
        cells: Cells of T_ε per axis.

    Returns:
        The law.

    Raises:
        InputError: If a key is unknown or a value does not fit.
    """
    given = dict(settings)
    kind = given.pop("kind", "lognormal")
    if kind not in _KEYS:
        raise InputError(f"field.kind must be one of {tuple(_KEYS)}, got {kind!r}.")
    unknown = sorted(set(given) - _KEYS[kind])
    if unknown:
        raise InputError(f"field.{unknown[0]} is no setting of a {kind} field, expected {sorted(_KEYS[kind])}.")
    if kind == "hierarchical":
        defaults = {"variance": 1.0, "correlation_length": {"uniform": [0.05, 0.25]}, "smoothness": 0.5}
        laws = [parse_parameter(name, given.get(name, defaults[name])) for name in _NAMES]
        return HierarchicalField(dim, cells, *laws)
    if kind == "uniform":
        return UniformlyEllipticField(dim, cells, **given)
    for name in _NAMES:
        if name in given and parse_parameter(name, given[name]).kind != "fixed":
            raise InputError(f"field.{name} is random, which needs field.kind = 'hierarchical', got {given[name]!r}.")
    return LognormalField(dim, cells, **given)
