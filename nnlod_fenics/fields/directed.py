"""Coefficients that vary along one direction only: layers, and trends."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from nnlod_fenics.errors import InputError
from nnlod_fenics.fields.arguments import check_number
from nnlod_fenics.fields.box import Box
from nnlod_fenics.fields.covariance import covariance_model
from nnlod_fenics.fields.parameters import parse_angles, parse_parameter, stated
from nnlod_fenics.fields.parametric import ParametricField
from nnlod_fenics.fields.spectrum import isometry
from nnlod_fenics.fields.units import unit_length

__all__ = ["LayeredField", "TrendField"]

Array = npt.NDArray[np.float64]

_MOST_LAYERS = 1_000_000


class LayeredField(ParametricField):
    """A is constant in layers whose thicknesses and values are random.

    Interfaces are a Poisson process, so thicknesses are independent and exponential; log A of a layer is normal. The
    covariance of log A is σ² exp(−t/thickness), t being the distance across the layers.

    Args:
        dim: Space dimension.
        cells: Cells of T_ε per axis, x first; an integer where all axes have the same.
        variance: Variance σ² of log A; a number or a law, {uniform = [a, b]}, {loguniform = [a, b]}, {choice =
            [a, b, …]} or {cycle = [a, b, …]}.
        thickness: Mean thickness of a layer, in the units of D; a number or a law.
        angles: Angles in radians by which the layers are turned, which lie along all axes but the last, y for d = 2
            and z for d = 3: for d = 2 one, counterclockwise from x to y; for d = 3 a list of yaw, pitch and roll in
            GSTools' convention; numbers or laws.
        mean: Mean of log A.
        unit: Unit of the thickness: D, or H, the width of a coarse element.
        lengths: Side lengths of D, x first, or one number; 1 if None.
        element: Widths of a coarse element, x first, or one number; needed for unit H.

    Raises:
        InputError: If an argument does not fit.
    """

    def __init__(
        self,
        dim: int,
        cells: int | Sequence[int],
        variance: Any = 1.0,
        thickness: Any = 0.1,
        angles: Any = None,
        mean: float = 0.0,
        unit: str = "D",
        lengths: float | Sequence[float] | None = None,
        element: float | Sequence[float] | None = None,
    ) -> None:
        self.box = Box.of(dim, cells, lengths)
        self.dim, self.cells = self.box.dim, self.box.short_cells
        check_number("field.mean", mean)
        self.mean, self.unit, self._scale = float(mean), unit, unit_length(unit, element)
        self._angles = parse_angles(dim, angles)
        own = {"variance": parse_parameter("variance", variance), "thickness": parse_parameter("thickness", thickness)}
        self.parameters = own | self._angles
        most = math.hypot(*self.box.lengths) / (min(own["thickness"].values) * self._scale)
        if most > _MOST_LAYERS:
            raise InputError(f"field.thickness must give at most {_MOST_LAYERS} layers in D, got {thickness!r}.")

    def draw(self, rng: np.random.Generator, drawn: dict[str, float]) -> Array:
        """See :class:`ParametricField`."""
        across = _along(self.box, self.dim - 1, [drawn[name] for name in self._angles])
        low, high = float(across.min()), float(across.max())
        count = rng.poisson((high - low) / (drawn["thickness"] * self._scale))
        interfaces = np.sort(rng.uniform(low, high, count))
        values = self.mean + math.sqrt(drawn["variance"]) * rng.standard_normal(count + 1)
        return np.asarray(values[np.searchsorted(interfaces, across)])

    def settings(self) -> dict[str, Any]:
        """The law as a configuration section."""
        result: dict[str, Any] = {"kind": "layered"}
        result |= {name: self.parameters[name].settings() for name in ("variance", "thickness")}
        result |= {"angles": stated(list(self._angles.values()))} if self._angles else {}
        result |= {"mean": self.mean} if self.mean else {}
        return result | ({"unit": self.unit} if self.unit != "D" else {})


class TrendField(ParametricField):
    """log A is linear: slope times the distance from the middle of D along a direction, for sums with other laws.

    Args:
        dim: Space dimension.
        cells: Cells of T_ε per axis, x first; an integer where all axes have the same.
        slope: Slope of log A along its direction, per unit of length of D; a number or a law, {uniform = [a, b]},
            {loguniform = [a, b]}, {choice = [a, b, …]} or {cycle = [a, b, …]}.
        angles: Angles in radians by which the direction is turned, which is that of x: for d = 2 one,
            counterclockwise from x to y; for d = 3 a list of yaw, pitch and roll in GSTools' convention; numbers or
            laws.
        unit: Unit of length of the slope: D, or H, the width of a coarse element.
        lengths: Side lengths of D, x first, or one number; 1 if None.
        element: Widths of a coarse element, x first, or one number; needed for unit H.

    Raises:
        InputError: If an argument does not fit.
    """

    def __init__(
        self,
        dim: int,
        cells: int | Sequence[int],
        slope: Any = 1.0,
        angles: Any = None,
        unit: str = "D",
        lengths: float | Sequence[float] | None = None,
        element: float | Sequence[float] | None = None,
    ) -> None:
        self.box = Box.of(dim, cells, lengths)
        self.dim, self.cells = self.box.dim, self.box.short_cells
        self.unit, self._scale = unit, unit_length(unit, element)
        self._angles = parse_angles(dim, angles)
        self.parameters = {"slope": parse_parameter("slope", slope, positive=False)} | self._angles

    def draw(self, rng: np.random.Generator, drawn: dict[str, float]) -> Array:
        """See :class:`ParametricField`."""
        return drawn["slope"] / self._scale * _along(self.box, 0, [drawn[name] for name in self._angles])

    def settings(self) -> dict[str, Any]:
        """The law as a configuration section."""
        result: dict[str, Any] = {"kind": "trend", "slope": self.parameters["slope"].settings()}
        result |= {"angles": stated(list(self._angles.values()))} if self._angles else {}
        return result | ({"unit": self.unit} if self.unit != "D" else {})


def _along(box: Box, axis: int, angles: list[float]) -> Array:
    """The coordinate of the cells' midpoints along a turned axis, 0 in the middle of D; shape ``cells[::-1]``."""
    # The axes that a covariance is turned to, so that all laws turn alike.
    direction = isometry(covariance_model("Exponential", box.dim, 1.0, 1.0, None, angles or None))[axis]
    result = np.zeros(box.shape)
    for number in range(box.dim):
        along = direction[number] * (box.midpoints(number) - box.lengths[number] / 2)
        result += along.reshape([-1 if k == box.dim - 1 - number else 1 for k in range(box.dim)])
    return result
