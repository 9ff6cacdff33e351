"""Media of two phases: a Gaussian field cut at a level."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.special

from nnlod_fenics.errors import InputError
from nnlod_fenics.fields.arguments import check_number
from nnlod_fenics.fields.box import Box
from nnlod_fenics.fields.gaussian import GaussianFamily
from nnlod_fenics.fields.parameters import parse_parameter
from nnlod_fenics.fields.parametric import ParametricField

__all__ = ["TwoPhaseField"]


class TwoPhaseField(ParametricField):
    """A is e^mean, and contrast · e^mean in a random set: inclusions, or channels where that is anisotropic.

    The set is where a Gaussian field lies below the level that it lies below with probability ``share``. Variation
    inside the phases is another law of a sum, see :class:`nnlod_fenics.fields.SumField`.

    Args:
        dim: Space dimension.
        cells: Cells of T_ε per axis, x first; an integer where all axes have the same.
        contrast: A in the set over A elsewhere, above or below 1; a number or a law, {uniform = [a, b]}, {loguniform =
            [a, b]}, {choice = [a, b, …]} or {cycle = [a, b, …]}.
        share: Share of the set in D in the mean, between 0 and 1; a number or a law.
        correlation_length: Correlation length of the Gaussian field, in the units of D; a number or a law, or a list
            of them, one per axis, x first.
        smoothness: Smoothness ν of its Matérn covariance, which has 1.5 by default; a number or a law.
        angles: Angles in radians by which the axes of the correlation lengths are turned, in GSTools' convention: for
            d = 2 one, counterclockwise from x to y; for d = 3 a list of yaw, pitch and roll; numbers or laws.
        mean: Of log A outside of the set.
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
        contrast: Any = 10.0,
        share: Any = 0.5,
        correlation_length: Any = 0.1,
        smoothness: Any = None,
        angles: Any = None,
        mean: float = 0.0,
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
        own = {"contrast": parse_parameter("contrast", contrast), "share": parse_parameter("share", share)}
        if max(own["share"].values) >= 1:
            raise InputError(f"field.share must be between 0 and 1, got {share!r}.")
        smoothness = 1.5 if smoothness is None and covariance == "Matern" else smoothness
        covered = (correlation_length, smoothness, covariance, anisotropy, angles, unit, element)
        self.family = GaussianFamily(self.box, *covered)
        self.parameters = own | self.family.parameters

    def draw(self, rng: np.random.Generator, drawn: dict[str, float]) -> npt.NDArray[np.float64]:
        """See :class:`ParametricField`."""
        inside = self.family.draw(rng, drawn) < scipy.special.ndtri(drawn["share"])
        return np.where(inside, self.mean + math.log(drawn["contrast"]), self.mean)

    def settings(self) -> dict[str, Any]:
        """The law as a configuration section."""
        own = {name: self.parameters[name].settings() for name in ("contrast", "share")}
        result = {"kind": "two-phase"} | own | self.family.settings()
        return result | ({"mean": self.mean} if self.mean else {})
