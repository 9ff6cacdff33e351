"""Lognormal coefficients with a given covariance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from nnlod_fenics.errors import InputError
from nnlod_fenics.fields.arguments import as_list, check_number
from nnlod_fenics.fields.box import Box
from nnlod_fenics.fields.conditions import parse_conditions
from nnlod_fenics.fields.covariance import check_angles, covariance_model, settings_of_angles
from nnlod_fenics.fields.embedding import CirculantEmbedding
from nnlod_fenics.fields.kriging import Kriging
from nnlod_fenics.fields.laws import FieldSample, axis_names
from nnlod_fenics.fields.spectrum import isometry
from nnlod_fenics.fields.units import unit_length
from nnlod_fenics.runtime.streams import generator

__all__ = ["LognormalField"]

Array = npt.NDArray[np.float64]

_SAMPLERS = ("circulant", "randmeth", "fourier")


class LognormalField:
    """A = exp(Z) with a stationary Gaussian field Z, its covariance (2.3) by default.

    Args:
        dim: Space dimension.
        cells: Cells of T_ε per axis, x first; an integer where all axes have the same.
        variance: Variance σ² of log A.
        correlation_length: Correlation length ρ, in the units of D; a list has one per axis, x first.
        smoothness: Smoothness ν, from 0.2 to 20, of the Matérn covariance, which has 0.5 by default; others have none.
        covariance: Name of a GSTools covariance model.
        sampler: ``"circulant"`` (exact), or GSTools' ``"randmeth"`` or ``"fourier"`` generators.
        angles: Angles in radians by which the axes of the correlation lengths are turned, in GSTools' convention: for
            d = 2 one, counterclockwise from x to y; for d = 3 a list of yaw, pitch and roll.
        mean: Mean of log A.
        conditions: Measured values that log A takes: rows of d coordinates, x first, and the value, or the name of a
            .csv or .npy file with such rows. A value is that of the cell around its point.
        lengths: Side lengths of D, x first, or one number; 1 if None.
        unit: Unit of the correlation lengths: D, or H, the width of a coarse element.
        element: Widths of a coarse element, x first, or one number; needed for unit H.

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
        cells: int | Sequence[int],
        variance: float = 1.0,
        correlation_length: float | Sequence[float] = 0.05,
        smoothness: float | None = None,
        covariance: str = "Matern",
        sampler: str = "circulant",
        angles: float | Sequence[float] | None = None,
        mean: float = 0.0,
        conditions: Sequence[Sequence[float]] | str | None = None,
        lengths: float | Sequence[float] | None = None,
        unit: str = "D",
        element: float | Sequence[float] | None = None,
    ) -> None:
        self.box = Box.of(dim, cells, lengths)
        if sampler not in _SAMPLERS:
            raise InputError(f"field.sampler must be one of {_SAMPLERS}, got {sampler!r}.")
        check_number("field.mean", mean)
        self.mean = float(mean)
        self.dim, self.cells = self.box.dim, self.box.short_cells
        self.sampler, self.covariance = sampler, covariance
        if smoothness is None and covariance == "Matern":
            smoothness = 0.5
        self.model = covariance_model(covariance, dim, variance, correlation_length, smoothness, angles)
        self.unit = unit
        if (width := unit_length(unit, element)) != 1:
            listed = as_list(correlation_length)
            scaled = [width * each for each in listed] if listed else width * correlation_length  # type: ignore[operator]
            self.model = covariance_model(covariance, dim, variance, scaled, smoothness, angles)
        self.smoothness, self.angles = smoothness, check_angles(dim, angles)
        self.correlation_lengths = tuple(map(float, as_list(correlation_length) or [correlation_length]))
        self._anisotropic = as_list(correlation_length) is not None
        exact = sampler == "circulant"
        self.conditions = parse_conditions(dim, conditions)
        if self.conditions is not None and not exact:
            raise InputError(f"field.conditions need field.sampler = 'circulant', got {sampler!r}.")
        observed = None if self.conditions is None else self.conditions.on(self.box)
        self._embedding = CirculantEmbedding(self.model, self.box.cells, lengths=self.box.lengths) if exact else None
        self._kriging = Kriging(self._embedding, observed) if self._embedding and observed else None

    def sample(self, seed: int, index: int, stage: int = 0) -> FieldSample:
        """Draw a realization; see :class:`FieldLaw`."""
        parameters = {"variance": float(self.model.var)}
        names = axis_names("correlation_length", self.dim if self._anisotropic else None)
        parameters |= dict(zip(names, self.correlation_lengths, strict=True))
        if self.smoothness is not None:
            parameters["smoothness"] = float(self.smoothness)
        rng = generator(seed, stage, index)
        Z = self._from_gstools(rng) if self._embedding is None else self._embedding.draw(rng)
        Z = Z + self.mean if self.mean else Z
        return FieldSample(Z if self._kriging is None else self._kriging.corrected(Z), parameters)

    def _from_gstools(self, rng: np.random.Generator) -> Array:
        import gstools

        if self.sampler == "randmeth":
            field = gstools.SRF(self.model, generator="RandMeth")
        else:  # a period of twice the domain along the axes of the covariance, or opposite edges would be correlated
            turned = np.abs(isometry(self.model) * np.append(1.0, self.model.anis)[:, None])
            field = gstools.SRF(
                self.model, generator="Fourier", period=list(2 * turned @ self.box.lengths), mode_no=[64] * self.dim
            )
        midpoints = [self.box.midpoints(axis) for axis in range(self.dim)]
        values = field.structured(midpoints, seed=int(rng.integers(2**31)))
        return np.asarray(values, dtype=np.float64).T.copy()  # GSTools has x first

    def settings(self) -> dict[str, Any]:
        """The law as a configuration section."""
        lengths = list(self.correlation_lengths)
        result: dict[str, Any] = {
            "kind": "lognormal",
            "covariance": self.covariance,
            "variance": float(self.model.var),
            "correlation_length": lengths if self._anisotropic else lengths[0],
            "sampler": self.sampler,
        }
        if self.smoothness is not None:
            result["smoothness"] = float(self.smoothness)
        if self.angles:
            result["angles"] = settings_of_angles(self.angles)
        result |= {"mean": self.mean} if self.mean else {}
        result |= {"unit": self.unit} if self.unit != "D" else {}
        return result | ({} if self.conditions is None else {"conditions": self.conditions.settings()})
