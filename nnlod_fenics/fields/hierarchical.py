"""Lognormal coefficients whose covariance is random itself (section 6 of the paper)."""

from __future__ import annotations

import math
import warnings
from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from nnlod_fenics.fields.arguments import check_number
from nnlod_fenics.fields.box import Box
from nnlod_fenics.fields.conditions import parse_conditions
from nnlod_fenics.fields.covariance import check_angles, covariance_model, settings_of_angles
from nnlod_fenics.fields.embedding import CirculantEmbedding
from nnlod_fenics.fields.kriging import Kriging
from nnlod_fenics.fields.laws import FieldSample, axis_names
from nnlod_fenics.fields.parameters import Parameter
from nnlod_fenics.runtime.streams import generator

if TYPE_CHECKING:
    import gstools

__all__ = ["HierarchicalField"]

_KEPT_BYTES = 2**28  # of embeddings that a hierarchical field keeps for its next draws


class _Sampler(NamedTuple):
    embedding: CirculantEmbedding
    kriging: Kriging | None

    @property
    def nbytes(self) -> int:
        return self.embedding.nbytes + (0 if self.kriging is None else self.kriging.nbytes)


class HierarchicalField:
    """A = exp(Z) where the parameters of Z are drawn first, then Z given them (section 6 of the paper).

    The variance scales a field and costs nothing. Each (ρ, ν) needs its own circulant embedding: they are kept,
    up to 256 MiB, where both come from finite lists, and are built anew for each realization elsewhere.

    Args:
        dim: Space dimension.
        cells: Cells of T_ε per axis, x first; an integer where all axes have the same.
        variance: Law of σ².
        correlation_length: Law of ρ, or those of one per axis, x first, independent of each other.
        smoothness: Law of ν.
        angles: Fixed angles by which the axes are turned, see :func:`nnlod_fenics.fields.covariance_model`.
        mean: Fixed mean of log A.
        conditions: Measured values of log A, see :class:`nnlod_fenics.fields.LognormalField`. Each field takes them
            given its parameters; the laws of the parameters are not conditioned on them.
        lengths: Side lengths of D, x first, or one number; 1 if None.

    Attributes:
        parameters: Laws of the parameters by name, in the order in which they are drawn.
        covariance_error: Largest one of the realizations so far, see :class:`nnlod_fenics.fields.CirculantEmbedding`.

    Raises:
        InputError: If an argument does not fit.
    """

    def __init__(
        self,
        dim: int,
        cells: int | Sequence[int],
        variance: Parameter,
        correlation_length: Parameter | Sequence[Parameter],
        smoothness: Parameter,
        angles: float | Sequence[float] | None = None,
        mean: float = 0.0,
        conditions: Sequence[Sequence[float]] | str | None = None,
        lengths: float | Sequence[float] | None = None,
    ) -> None:
        self.box = Box.of(dim, cells, lengths)
        self.dim, self.cells = self.box.dim, self.box.short_cells
        check_number("field.mean", mean)
        self.mean = float(mean)
        self.angles = check_angles(dim, angles)
        single = isinstance(correlation_length, Parameter)
        self._names = axis_names("correlation_length", None if single else dim)
        each = [correlation_length] if isinstance(correlation_length, Parameter) else correlation_length
        self.parameters = (
            {"variance": variance} | dict(zip(self._names, each, strict=True)) | {"smoothness": smoothness}
        )
        for extreme in (min, max):  # now, not at the unlucky realization
            self._model({name: extreme(law.values) for name, law in self.parameters.items()})
        self.conditions = parse_conditions(dim, conditions)
        self._observed = None if self.conditions is None else self.conditions.on(self.box)
        self.covariance_error = 0.0
        self._samplers: OrderedDict[tuple[float, ...], _Sampler] = OrderedDict()

    def _model(self, drawn: dict[str, float]) -> gstools.CovModel:
        lengths = [drawn[name] for name in self._names]
        length = lengths[0] if self._names == ["correlation_length"] else lengths
        return covariance_model("Matern", self.dim, drawn["variance"], length, drawn["smoothness"], self.angles or None)

    def sample(self, seed: int, index: int, stage: int = 0) -> FieldSample:
        """Draw the parameters, then the field; see :class:`FieldLaw`."""
        rng = generator(seed, stage, index)
        drawn = {name: law.draw(rng, index) for name, law in self.parameters.items()}
        sampler = self._sampler(drawn)
        Z = math.sqrt(drawn["variance"]) * sampler.embedding.draw(rng)
        Z = Z + self.mean if self.mean else Z
        return FieldSample(Z if sampler.kriging is None else sampler.kriging.corrected(Z), drawn)

    def _sampler(self, drawn: dict[str, float]) -> _Sampler:
        """That of a field of these parameters but of variance 1."""
        key = tuple(value for name, value in drawn.items() if name != "variance")
        sampler = self._samplers.pop(key, None)
        if sampler is None:
            model = self._model(drawn | {"variance": 1.0})
            embedding = CirculantEmbedding(model, self.box.cells, warn=False, lengths=self.box.lengths)
            self._tell(embedding)
            sampler = _Sampler(embedding, None if self._observed is None else Kriging(embedding, self._observed))
        if all(law.finite for name, law in self.parameters.items() if name != "variance"):
            self._samplers[key] = sampler
            while len(self._samplers) > 1 and sum(kept.nbytes for kept in self._samplers.values()) > _KEPT_BYTES:
                self._samplers.popitem(last=False)
        return sampler

    def _tell(self, embedding: CirculantEmbedding) -> None:
        if embedding.covariance_error > 0 and self.covariance_error == 0:
            others = "Other realizations may have such an error too; covariance_error keeps the largest."
            warnings.warn(f"{embedding.account} {others}", stacklevel=4)
        self.covariance_error = max(self.covariance_error, embedding.covariance_error)

    def settings(self) -> dict[str, Any]:
        """The law as a configuration section."""
        laws = {name: law.settings() for name, law in self.parameters.items()}
        lengths = [laws[name] for name in self._names]
        result: dict[str, Any] = {
            "kind": "hierarchical",
            "variance": laws["variance"],
            "correlation_length": lengths[0] if self._names == ["correlation_length"] else lengths,
            "smoothness": laws["smoothness"],
        }
        result |= {"angles": settings_of_angles(self.angles)} if self.angles else {}
        result |= {"mean": self.mean} if self.mean else {}
        return result | ({} if self.conditions is None else {"conditions": self.conditions.settings()})
