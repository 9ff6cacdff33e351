"""Lognormal coefficients with a given covariance."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from nnlod_fenics.errors import InputError
from nnlod_fenics.fields.arguments import check_cells
from nnlod_fenics.fields.covariance import covariance_model
from nnlod_fenics.fields.embedding import CirculantEmbedding
from nnlod_fenics.fields.laws import FieldSample
from nnlod_fenics.runtime.streams import generator

__all__ = ["LognormalField"]

Array = npt.NDArray[np.float64]

_SAMPLERS = ("circulant", "randmeth", "fourier")


class LognormalField:
    """A = exp(Z) with a centred stationary Gaussian field Z, (2.3) by default.

    Args:
        dim: Space dimension.
        cells: Cells of T_ε per axis.
        variance: Variance σ² of log A.
        correlation_length: Correlation length ρ, in units of the side of D.
        smoothness: Smoothness ν, from 0.2 to 20, of the Matérn covariance, which has 0.5 by default; others have none.
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
        rng = generator(seed, stage, index)
        Z = self._from_gstools(rng) if self._embedding is None else self._embedding.draw(rng)
        return FieldSample(Z, parameters)

    def _from_gstools(self, rng: np.random.Generator) -> Array:
        import gstools

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
