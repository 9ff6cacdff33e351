"""Random parameters of a field: a number, an interval, or a finite list."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nnlod_fenics.errors import InputError
from nnlod_fenics.fields.arguments import as_list, is_number, is_positive

__all__ = ["Parameter", "parse_angles", "parse_lengths", "parse_parameter", "stated"]

_FORMS = "number, {uniform = [a, b]}, {loguniform = [a, b]}, {choice = [a, b, …]} or {cycle = [a, b, …]}"
_ANGLES = {1: [], 2: ["angle"], 3: ["yaw", "pitch", "roll"]}


@dataclass(frozen=True)
class Parameter:
    """The law of a parameter.

    Attributes:
        kind: ``"fixed"``, ``"uniform"``, ``"loguniform"``, ``"choice"`` or ``"cycle"``.
        values: The number, the ends of the interval, or the list.

    Note:
        ``"cycle"`` gives realization k the entry k mod n of its list of n: every part of a dataset has as many of
        each, up to one. Two such lists are gone through in step.
    """

    kind: str
    values: tuple[float, ...]

    @property
    def finite(self) -> bool:
        """Whether it takes finitely many values only."""
        return self.kind in ("fixed", "choice", "cycle")

    def draw(self, rng: np.random.Generator, index: int) -> float:
        """Draw the value of realization ``index``."""
        if self.kind == "fixed":
            return self.values[0]
        if self.kind == "choice":
            return self.values[int(rng.integers(len(self.values)))]
        if self.kind == "cycle":
            return self.values[index % len(self.values)]
        low, high = self.values
        if self.kind == "uniform":
            return float(rng.uniform(low, high))
        return math.exp(rng.uniform(math.log(low), math.log(high)))

    def settings(self) -> float | dict[str, list[float]]:
        """The parameter as it stands in a configuration file."""
        return self.values[0] if self.kind == "fixed" else {self.kind: list(self.values)}


def parse_parameter(key: str, given: Any, positive: bool = True) -> Parameter:
    """Read the law of a parameter.

    Args:
        key: Name of the setting.
        given: A number, ``{"uniform": [a, b]}``, ``{"loguniform": [a, b]}``, ``{"choice": [...]}`` or
            ``{"cycle": [...]}``; or a law that was read already.
        positive: Whether all values must be positive; those of ``loguniform`` are in any case.

    Returns:
        The law.

    Raises:
        InputError: If it is none of these.
    """
    if isinstance(given, Parameter):
        return given
    fits = is_positive if positive else is_number
    if fits(given):
        return Parameter("fixed", (float(given),))
    if isinstance(given, dict) and len(given) == 1:
        ((kind, values),) = given.items()
        if isinstance(values, (list, tuple)) and len(values) > 0 and all(map(fits, values)):
            interval = len(values) == 2 and values[0] < values[1]
            interval = interval and (kind == "uniform" or (kind == "loguniform" and values[0] > 0))
            if kind in ("choice", "cycle") or interval:
                return Parameter(kind, tuple(map(float, values)))
    forms = f"a positive {_FORMS} with positive values" if positive else f"a {_FORMS} with finite values"
    raise InputError(f"field.{key} must be {forms} and a < b, got {given!r}.")


def parse_lengths(dim: int, given: Any) -> Parameter | tuple[Parameter, ...]:
    """Read the law of the correlation length, or a list of the laws of one per axis; see :func:`parse_parameter`."""
    entries = as_list(given)
    if entries is None:
        return parse_parameter("correlation_length", given)
    if len(entries) != dim:
        raise InputError(
            f"field.correlation_length must be one entry or a list of {dim} for d = {dim}, x first, got {given!r}."
        )
    return tuple(parse_parameter(f"correlation_length[{number}]", entry) for number, entry in enumerate(entries))


def parse_angles(dim: int, given: Any) -> dict[str, Parameter]:
    """Read the laws of the angles by which axes are turned; see :func:`nnlod_fenics.fields.covariance_model`.

    Returns:
        They by name: ``angle`` for d = 2, ``yaw``, ``pitch`` and ``roll`` for d = 3; none if there are none, or all
        of them are 0.

    Raises:
        InputError: If they are not as many as the dimension has.
    """
    if given is None:
        return {}
    entries = [given] if (listed := as_list(given)) is None else listed
    names = _ANGLES[dim]
    if len(entries) != len(names):
        expected = ("left out", "one number or law", "", "a list of three: yaw, pitch and roll")[len(names)]
        raise InputError(f"field.angles must be {expected} for d = {dim}, got {given!r}.")
    laws = {name: parse_parameter("angles", entry, positive=False) for name, entry in zip(names, entries, strict=True)}
    return laws if any(law != Parameter("fixed", (0.0,)) for law in laws.values()) else {}


def stated(laws: Sequence[Parameter]) -> Any:
    """Laws as they stand in a configuration file: one alone, or a list of them."""
    entries = [law.settings() for law in laws]
    return entries[0] if len(entries) == 1 else entries
