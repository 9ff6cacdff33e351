"""Laws of random coefficients: what a realization is, given a seed and its number.

A sample is always Z = log A on T_ε, shape ``(cells,)*d``, also for uniformly elliptic coefficients.
Realization k of a seed has the same bits whatever was sampled before, on every number of processes: all its
randomness comes from ``numpy.random.SeedSequence(seed, spawn_key=(stage, k))``.
"""

from __future__ import annotations

import math
import warnings
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any, Protocol

import gstools
import numpy as np
import numpy.typing as npt

from nnlod_fenics.errors import InputError
from nnlod_fenics.fields.arguments import check_cells, check_dim, check_positive
from nnlod_fenics.fields.covariance import covariance_model
from nnlod_fenics.fields.embedding import CirculantEmbedding
from nnlod_fenics.fields.parameters import Parameter, parse_parameter

__all__ = ["FieldLaw", "FieldSample", "HierarchicalField", "LognormalField", "UniformlyEllipticField", "make_field"]

Array = npt.NDArray[np.float64]

_SAMPLERS = ("circulant", "randmeth", "fourier")
_KEPT_BYTES = 2**28  # of embeddings that a hierarchical field keeps for its next draws
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


def _generator(seed: int, stage: int, index: int) -> np.random.Generator:
    for name, value in (("seed", seed), ("stage", stage), ("index", index)):
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 0:
            raise InputError(f"{name} must be a non-negative integer, got {value!r}.")
    sequence = np.random.SeedSequence(int(seed), spawn_key=(int(stage), int(index)))
    return np.random.Generator(np.random.SFC64(sequence))  # NumPy's fastest; half of a draw is noise


class LognormalField:
    """A = exp(Z) with a centred stationary Gaussian field Z, (2.3) by default.

    Args:
        dim: Space dimension.
        cells: Cells of T_ε per axis.
        variance: σ².
        correlation_length: ρ.
        smoothness: ν (Matérn only).
        covariance: Name of a GSTools covariance model.
        sampler: ``"circulant"`` (exact), or GSTools' ``"randmeth"`` or ``"fourier"`` generators.

    Note:
        GSTools' generators pass each seed through a draw from 65,535 numbers, so no more streams exist:
        realizations of different numbers or seeds can be equal or strongly correlated. They are approximate
        in law as well (``"fourier"`` with its 64 modes per axis lacks 18 % of the variance for d = 2, ρ = 0.05,
        ν = 0.5) and orders of magnitude slower: for comparison, not for datasets or Monte Carlo.

    Raises:
        InputError: If an argument does not fit.
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
        check_cells(cells)
        if sampler not in _SAMPLERS:
            raise InputError(f"field.sampler must be one of {_SAMPLERS}, got {sampler!r}.")
        self.dim, self.cells, self.sampler, self.covariance = dim, cells, sampler, covariance
        if smoothness is None and covariance == "Matern":
            smoothness = 0.5
        self.model = covariance_model(covariance, dim, variance, correlation_length, smoothness)
        self.smoothness = smoothness
        self._embedding = CirculantEmbedding(self.model, cells) if sampler == "circulant" else None

    def sample(self, seed: int, index: int, stage: int = 0) -> FieldSample:
        """Draw a realization; see :class:`FieldLaw`."""
        parameters = {"variance": float(self.model.var), "correlation_length": float(self.model.len_scale)}
        if self.smoothness is not None:
            parameters["smoothness"] = float(self.smoothness)
        rng = _generator(seed, stage, index)
        Z = self._from_gstools(rng) if self._embedding is None else self._embedding.draw(rng)
        return FieldSample(Z, parameters)

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

    The variance scales a field and costs nothing. Each (ρ, ν) needs its own circulant embedding: they are kept,
    up to 256 MiB, where both come from finite lists, and are built anew for each realization elsewhere.

    Args:
        dim: Space dimension.
        cells: Cells of T_ε per axis.
        variance: Law of σ².
        correlation_length: Law of ρ.
        smoothness: Law of ν.

    Attributes:
        covariance_error: Largest :attr:`CirculantEmbedding.covariance_error` of the realizations so far.

    Raises:
        InputError: If an argument does not fit.
    """

    def __init__(
        self, dim: int, cells: int, variance: Parameter, correlation_length: Parameter, smoothness: Parameter
    ) -> None:
        check_cells(cells)
        self.dim, self.cells = dim, cells
        self.parameters = dict(zip(_NAMES, (variance, correlation_length, smoothness), strict=True))
        for extreme in (min, max):  # now, not at the unlucky realization
            covariance_model("Matern", dim, *(extreme(law.values) for law in self.parameters.values()))
        self.covariance_error = 0.0
        self._embeddings: OrderedDict[tuple[float, float], CirculantEmbedding] = OrderedDict()

    def sample(self, seed: int, index: int, stage: int = 0) -> FieldSample:
        """Draw the parameters, then the field; see :class:`FieldLaw`."""
        rng = _generator(seed, stage, index)
        drawn = {name: law.draw(rng, index) for name, law in self.parameters.items()}
        embedding = self._embedding(drawn["correlation_length"], drawn["smoothness"])
        return FieldSample(math.sqrt(drawn["variance"]) * embedding.draw(rng), drawn)

    def _embedding(self, correlation_length: float, smoothness: float) -> CirculantEmbedding:
        key = (correlation_length, smoothness)
        embedding = self._embeddings.pop(key, None)
        if embedding is None:
            model = covariance_model("Matern", self.dim, 1.0, correlation_length, smoothness)
            embedding = CirculantEmbedding(model, self.cells, warn=False)
            self._tell(embedding)
        if self.parameters["correlation_length"].finite and self.parameters["smoothness"].finite:
            self._embeddings[key] = embedding
            while len(self._embeddings) > 1 and sum(e.nbytes for e in self._embeddings.values()) > _KEPT_BYTES:
                self._embeddings.popitem(last=False)
        return embedding

    def _tell(self, embedding: CirculantEmbedding) -> None:
        if embedding.covariance_error > 0 and self.covariance_error == 0:
            others = "Other realizations may have such an error too; covariance_error keeps the largest."
            warnings.warn(f"{embedding.account} {others}", stacklevel=4)
        self.covariance_error = max(self.covariance_error, embedding.covariance_error)

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

    Raises:
        InputError: If an argument does not fit.
    """

    def __init__(self, dim: int, cells: int, alpha: float = 1.0, beta: float = 5.0) -> None:
        check_dim(dim)
        check_cells(cells)
        check_positive("field.alpha", alpha)
        check_positive("field.beta", beta)
        if alpha >= beta:
            raise InputError(f"field.alpha must be less than field.beta, got {alpha!r} and {beta!r}.")
        self.dim, self.cells, self.alpha, self.beta = dim, cells, float(alpha), float(beta)

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
            hierarchical field may be ``{uniform = [a, b]}``, ``{loguniform = [a, b]}``, ``{choice = [...]}`` or
            ``{cycle = [...]}``; ``alpha``, ``beta`` for uniformly elliptic coefficients.
        dim: Space dimension.
        cells: Cells of T_ε per axis.

    Returns:
        The law.

    Raises:
        InputError: If a key is unknown or a value does not fit.
    """
    if not isinstance(settings, dict):
        raise InputError(f"field must be a table of settings, got {settings!r}.")
    given = dict(settings)
    kind = given.pop("kind", "lognormal")
    if not isinstance(kind, str) or kind not in _KEYS:
        raise InputError(f"field.kind must be one of {tuple(_KEYS)}, got {kind!r}.")
    unknown = sorted(set(given) - _KEYS[kind], key=str)
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
