"""Lognormal coefficients whose covariance is random itself (section 6 of the paper)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from nnlod_fenics.fields.arguments import check_number
from nnlod_fenics.fields.box import Box
from nnlod_fenics.fields.conditions import parse_conditions
from nnlod_fenics.fields.gaussian import GaussianFamily
from nnlod_fenics.fields.parameters import parse_parameter
from nnlod_fenics.fields.parametric import ParametricField

__all__ = ["HierarchicalField"]

_LENGTHS = {"uniform": [0.05, 0.25]}


class HierarchicalField(ParametricField):
    """A = exp(Z) where the parameters of Z are drawn first, then Z given them (section 6 of the paper).

    The variance scales a field and costs nothing; the other parameters need an embedding each, see
    :class:`nnlod_fenics.fields.gaussian.GaussianFamily`.

    Args:
        dim: Space dimension.
        cells: Cells of T_ε per axis, x first; an integer where all axes have the same.
        variance: Variance σ² of log A: a positive number, or the law of one, {uniform = [a, b]}, {loguniform = [a, b]},
            {choice = [a, b, …]} or {cycle = [a, b, …]}.
        correlation_length: Correlation length ρ, in the units of D; a number or a law, or a list of them, one per axis,
            x first.
        smoothness: Smoothness ν of the Matérn covariance, which has 0.5 by default; a number or a law.
        angles: Angles in radians by which the axes of the correlation lengths are turned, in GSTools' convention: for
            d = 2 one, counterclockwise from x to y; for d = 3 a list of yaw, pitch and roll; numbers or laws.
        mean: Mean of log A.
        conditions: Measured values that log A takes: rows of d coordinates, x first, and the value, or the name of a
            .csv or .npy file with such rows. Fields take them given their parameters, whose laws stay as they are.
        anisotropy: Ratio of the correlation length, which is along x before it is turned, to that along the other
            axes; a number or a law.
        covariance: Name of a GSTools covariance model.
        unit: Unit of the correlation lengths: D, or H, the width of a coarse element.
        lengths: Side lengths of D, x first, or one number; 1 if None.
        element: Widths of a coarse element, x first, or one number; needed for unit H.

    Attributes:
        family: The Gaussian fields, of variance 1.

    Raises:
        InputError: If an argument does not fit.
    """

    def __init__(
        self,
        dim: int,
        cells: int | Sequence[int],
        variance: Any = 1.0,
        correlation_length: Any = _LENGTHS,
        smoothness: Any = None,
        angles: Any = None,
        mean: float = 0.0,
        conditions: Sequence[Sequence[float]] | str | None = None,
        anisotropy: Any = None,
        covariance: str = "Matern",
        unit: str = "D",
        lengths: float | Sequence[float] | None = None,
        element: float | Sequence[float] | None = None,
    ) -> None:
        self.box = Box.of(dim, cells, lengths)
        self.dim, self.cells = self.box.dim, self.box.short_cells
        check_number("field.mean", mean)
        self.mean = float(mean)
        self.conditions = parse_conditions(dim, conditions)
        observed = None if self.conditions is None else self.conditions.on(self.box)
        covered = (correlation_length, smoothness, covariance, anisotropy, angles, unit, element)
        variances = parse_parameter("variance", variance)
        self.family = GaussianFamily(self.box, *covered, observed)
        self.parameters = {"variance": variances} | self.family.parameters

    @property
    def covariance_error(self) -> float:
        """Largest one of the realizations so far, see :class:`nnlod_fenics.fields.CirculantEmbedding`."""
        return self.family.covariance_error

    def draw(self, rng: np.random.Generator, drawn: dict[str, float]) -> npt.NDArray[np.float64]:
        """See :class:`ParametricField`."""
        sampler = self.family.sampler(drawn)
        Z = math.sqrt(drawn["variance"]) * sampler.embedding.draw(rng)
        Z = Z + self.mean if self.mean else Z
        return Z if sampler.kriging is None else sampler.kriging.corrected(Z)

    def settings(self) -> dict[str, Any]:
        """The law as a configuration section."""
        result = {"kind": "hierarchical", "variance": self.parameters["variance"].settings()} | self.family.settings()
        result |= {"mean": self.mean} if self.mean else {}
        return result | ({} if self.conditions is None else {"conditions": self.conditions.settings()})
