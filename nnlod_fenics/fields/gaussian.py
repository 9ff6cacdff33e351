"""Gaussian fields of variance 1 whose covariance has random parameters."""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from nnlod_fenics.errors import InputError
from nnlod_fenics.fields.box import Box
from nnlod_fenics.fields.conditions import Observed
from nnlod_fenics.fields.covariance import covariance_model
from nnlod_fenics.fields.embedding import CirculantEmbedding
from nnlod_fenics.fields.kriging import Kriging
from nnlod_fenics.fields.laws import axis_names
from nnlod_fenics.fields.parameters import Parameter, parse_angles, parse_lengths, parse_parameter, stated
from nnlod_fenics.fields.units import unit_length

if TYPE_CHECKING:
    import gstools

__all__ = ["GaussianFamily", "GaussianSampler"]

_KEPT_BYTES = 2**28  # of embeddings that are kept for the next draws


class GaussianSampler(NamedTuple):
    """What draws fields of one covariance.

    Attributes:
        embedding: Of the covariance, variance 1.
        kriging: Correction to measured values, if there are any.
    """

    embedding: CirculantEmbedding
    kriging: Kriging | None

    @property
    def nbytes(self) -> int:
        """Memory that it keeps."""
        return self.embedding.nbytes + (0 if self.kriging is None else self.kriging.nbytes)


class GaussianFamily:
    """Centred Gaussian fields of variance 1; the parameters of their covariance are numbers or random.

    Each set of parameters needs its own circulant embedding: they are kept, up to 256 MiB, where all parameters come
    from finite lists, and are built anew for each realization elsewhere.

    Args:
        box: D and its cells.
        correlation_length: Law of ρ, or those of one per axis, x first, independent of each other.
        smoothness: Law of ν of the Matérn covariance, which has 0.5 by default; others have none.
        covariance: Name of a GSTools covariance model.
        anisotropy: Law of the ratio of ρ, which is along x, to the correlation lengths along the other axes.
        angles: Laws of the angles by which the axes are turned.
        unit: Of the correlation lengths, ``"D"`` or ``"H"``.
        element: Widths of an element, see :func:`nnlod_fenics.fields.units.unit_length`.
        observed: Measured values that the fields take.

    Attributes:
        parameters: Laws of the parameters by name, in the order in which they are drawn.
        covariance_error: Largest one of the realizations so far, see :class:`nnlod_fenics.fields.CirculantEmbedding`.

    Raises:
        InputError: If an argument does not fit.
    """

    def __init__(
        self,
        box: Box,
        correlation_length: Any,
        smoothness: Any = None,
        covariance: str = "Matern",
        anisotropy: Any = None,
        angles: Any = None,
        unit: str = "D",
        element: float | Sequence[float] | None = None,
        observed: Observed | None = None,
    ) -> None:
        self.box, self.covariance, self.unit = box, covariance, unit
        self._scale, self._observed = unit_length(unit, element), observed
        lengths = parse_lengths(box.dim, correlation_length)
        single = isinstance(lengths, Parameter)
        self._names = axis_names("correlation_length", None if single else box.dim)
        each = [lengths] if isinstance(lengths, Parameter) else lengths
        self.parameters = dict(zip(self._names, each, strict=True))
        self._per_axis = not single
        if smoothness is None and covariance == "Matern":
            smoothness = 0.5
        if smoothness is not None:
            self.parameters["smoothness"] = parse_parameter("smoothness", smoothness)
        if anisotropy is not None:
            if box.dim == 1 or not single:
                raise InputError(
                    f"field.anisotropy needs d > 1 and one correlation length, got it for d = {box.dim} and "
                    f"correlation_length = {correlation_length!r}."
                )
            self.parameters["anisotropy"] = parse_parameter("anisotropy", anisotropy)
        self._angles = parse_angles(box.dim, angles)
        self.parameters |= self._angles
        for extreme in (min, max):  # now, not at the unlucky realization
            self._model({name: extreme(law.values) for name, law in self.parameters.items()})
        self.covariance_error = 0.0
        self._samplers: OrderedDict[tuple[float, ...], GaussianSampler] = OrderedDict()

    def _model(self, drawn: dict[str, float]) -> gstools.CovModel:
        lengths = [drawn[name] * self._scale for name in self._names]
        if "anisotropy" in drawn:
            lengths += [lengths[0] / drawn["anisotropy"]] * (self.box.dim - 1)
        # one number where all axes have the same: fields of earlier versions keep their bits
        length = lengths if self._per_axis or "anisotropy" in drawn else lengths[0]
        angles = [drawn[name] for name in self._angles] or None
        return covariance_model(self.covariance, self.box.dim, 1.0, length, drawn.get("smoothness"), angles)

    def draw(self, rng: np.random.Generator, drawn: dict[str, float]) -> npt.NDArray[np.float64]:
        """Draw a field, without regard to measured values.

        Args:
            rng: Source of randomness.
            drawn: Values of the parameters by name; others are ignored.

        Returns:
            Shape ``cells[::-1]``.
        """
        return self.sampler(drawn).embedding.draw(rng)

    def sampler(self, drawn: dict[str, float]) -> GaussianSampler:
        """What draws fields of these parameters; others are ignored."""
        key = tuple(drawn[name] for name in self.parameters)
        sampler = self._samplers.pop(key, None)
        if sampler is None:
            model = self._model({name: drawn[name] for name in self.parameters})
            embedding = CirculantEmbedding(model, self.box.cells, warn=False, lengths=self.box.lengths)
            self._tell(embedding)
            sampler = GaussianSampler(embedding, None if self._observed is None else Kriging(embedding, self._observed))
        if all(law.finite for law in self.parameters.values()):
            self._samplers[key] = sampler
            while len(self._samplers) > 1 and sum(kept.nbytes for kept in self._samplers.values()) > _KEPT_BYTES:
                self._samplers.popitem(last=False)
        return sampler

    def _tell(self, embedding: CirculantEmbedding) -> None:
        if embedding.covariance_error > 0 and self.covariance_error == 0:
            others = "Other realizations may have such an error too; covariance_error keeps the largest."
            warnings.warn(f"{embedding.account} {others}", stacklevel=5)
        self.covariance_error = max(self.covariance_error, embedding.covariance_error)

    def settings(self) -> dict[str, Any]:
        """The family as keys of a configuration section."""
        lengths = [self.parameters[name].settings() for name in self._names]
        result: dict[str, Any] = {"correlation_length": lengths if self._per_axis else lengths[0]}
        for name in ("smoothness", "anisotropy"):
            if name in self.parameters:
                result[name] = self.parameters[name].settings()
        result |= {"angles": stated(list(self._angles.values()))} if self._angles else {}
        result |= {"covariance": self.covariance} if self.covariance != "Matern" else {}
        return result | ({"unit": self.unit} if self.unit != "D" else {})
