"""Random parameters of a field: a number, an interval, or a finite list."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from nnlod_fenics.errors import InputError
from nnlod_fenics.fields.arguments import as_list, is_positive

__all__ = ["Parameter", "parse_lengths", "parse_parameter"]

_FORMS = "a positive number, {uniform = [a, b]}, {loguniform = [a, b]}, {choice = [a, b, …]} or {cycle = [a, b, …]}"


@dataclass(frozen=True)
class Parameter:
    """The law of a positive parameter.

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


def parse_parameter(key: str, given: Any) -> Parameter:
    """Read the law of a parameter.

    Args:
        key: Name of the setting.
        given: A positive number, ``{"uniform": [a, b]}``, ``{"loguniform": [a, b]}``, ``{"choice": [...]}`` or
            ``{"cycle": [...]}``.

    Returns:
        The law.

    Raises:
        InputError: If it is none of these.
    """
    if is_positive(given):
        return Parameter("fixed", (float(given),))
    if isinstance(given, dict) and len(given) == 1:
        ((kind, values),) = given.items()
        fits = isinstance(values, (list, tuple)) and len(values) > 0 and all(is_positive(v) for v in values)
        if fits and kind in ("choice", "cycle"):
            return Parameter(kind, tuple(map(float, values)))
        if fits and kind in ("uniform", "loguniform") and len(values) == 2 and values[0] < values[1]:
            return Parameter(kind, tuple(map(float, values)))
    raise InputError(f"field.{key} must be {_FORMS} with positive values and a < b, got {given!r}.")


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
