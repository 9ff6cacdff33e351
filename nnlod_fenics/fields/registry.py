"""The laws by name: those of the package, and those that a user registers."""

from __future__ import annotations

import inspect
import re
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from nnlod_fenics.errors import InputError
from nnlod_fenics.fields.box import Box
from nnlod_fenics.fields.conditions import parse_conditions
from nnlod_fenics.fields.hierarchical import HierarchicalField
from nnlod_fenics.fields.laws import PARAMETERS, FieldLaw, settings_of_law
from nnlod_fenics.fields.lognormal import LognormalField
from nnlod_fenics.fields.parameters import Parameter, parse_lengths, parse_parameter
from nnlod_fenics.fields.uniform import UniformlyEllipticField

__all__ = ["FieldKey", "check_field", "describe_fields", "make_field", "register_field"]

_LENGTHS = {"uniform": [0.05, 0.25]}
_NO_KEYS = {"dim", "cells", "lengths", "self"}


def _lognormal(dim: int, cells: Any, lengths: Any = None, **given: Any) -> LognormalField:
    for name in PARAMETERS:
        if name in given:
            laws = (
                parse_lengths(dim, given[name]) if name == "correlation_length" else parse_parameter(name, given[name])
            )
            if any(law.kind != "fixed" for law in ([laws] if isinstance(laws, Parameter) else laws)):
                raise InputError(
                    f"field.{name} is random, which needs field.kind = 'hierarchical', got {given[name]!r}."
                )
    return LognormalField(dim, cells, lengths=lengths, **given)


def _hierarchical(
    dim: int,
    cells: Any,
    variance: Any = 1.0,
    correlation_length: Any = _LENGTHS,
    smoothness: Any = 0.5,
    angles: Any = None,
    mean: Any = 0.0,
    conditions: Any = None,
    lengths: Any = None,
) -> HierarchicalField:
    """A hierarchical field.

    Args:
        dim: Space dimension.
        cells: Cells of T_ε per axis.
        variance: Variance σ² of log A: a positive number, or the law of one, {uniform = [a, b]}, {loguniform = [a, b]},
            {choice = [a, b, …]} or {cycle = [a, b, …]}.
        correlation_length: Correlation length ρ, in the units of D; a number or a law, or a list of them, one per axis,
            x first.
        smoothness: Smoothness ν of the Matérn covariance; a number or a law.
        angles: Angles in radians by which the axes of the correlation lengths are turned, in GSTools' convention: for
            d = 2 one, counterclockwise from x to y; for d = 3 a list of yaw, pitch and roll.
        mean: Mean of log A.
        conditions: Measured values that log A takes: rows of d coordinates, x first, and the value, or the name of a
            .csv or .npy file with such rows. Fields take them given their parameters, whose laws stay as they are.
        lengths: Side lengths of D.
    """
    laws = parse_parameter("variance", variance), parse_lengths(dim, correlation_length)
    smooth = parse_parameter("smoothness", smoothness)
    return HierarchicalField(dim, cells, *laws, smooth, angles, mean, conditions, lengths)


_FACTORIES: dict[str, Callable[..., FieldLaw]] = {
    "lognormal": _lognormal,
    "hierarchical": _hierarchical,
    "uniform": UniformlyEllipticField,
}
_SIGNATURES: dict[str, Callable[..., Any]] = {"lognormal": LognormalField}  # where it says more than the factory


def register_field(kind: str, factory: Callable[..., FieldLaw]) -> None:
    """Register a custom law under a name, so that settings, datasets and models can refer to it.

    Args:
        kind: Its name, as in ``field.kind``.
        factory: Called as ``factory(dim, cells, **settings)`` with the other keys of the section; gives a
            :class:`FieldLaw`, whose ``settings()`` are the section again. ``cells`` is an integer where all axes have
            the same number of cells, a tuple, x first, elsewhere. On another box than the unit cube the factory
            is called with ``lengths=`` too, the tuple of side lengths, x first, if it has an argument of that name; if
            it has none, such boxes are refused. ``dim``, ``cells`` and ``lengths`` are no keys of the section.

    Raises:
        InputError: If the name is taken by another factory, or the factory cannot be called.

    Note:
        Files hold the name only: the program that reads them registers the law again. Nothing is imported by name.
    """
    if not isinstance(kind, str) or not kind:
        raise InputError(f"kind must be a name, got {kind!r}.")
    if not callable(factory):
        raise InputError(f"factory must be callable as factory(dim, cells, **settings), got {type(factory).__name__}.")
    if _FACTORIES.get(kind, factory) is not factory:
        raise InputError(f"kind must be a new name, got {kind!r}, which is registered already.")
    _FACTORIES[kind] = factory


def make_field(
    settings: dict[str, Any],
    dim: int,
    cells: int | Sequence[int],
    lengths: float | Sequence[float] | None = None,
) -> FieldLaw:
    """Make the law that a configuration section describes.

    Args:
        settings: ``kind`` (``"lognormal"``, ``"hierarchical"``, ``"uniform"``, or a registered one) and its keys:
            ``variance``, ``correlation_length``, ``smoothness``, ``angles``, ``mean``, ``covariance``, ``sampler``; the
            first three of a hierarchical field may be ``{uniform = [a, b]}``, ``{loguniform = [a, b]}``,
            ``{choice = [...]}`` or ``{cycle = [...]}``; a correlation length may be a list of one entry per axis, x
            first; ``conditions``, measured values ``[[x, y, log_A], …]`` that fields of these two kinds take, or the
            name of a file with them; ``alpha``, ``beta`` for uniformly elliptic coefficients.
        dim: Space dimension d.
        cells: Cells of T_ε per axis: d integers, x first, or one for all axes. Fields have shape ``cells[::-1]``.
        lengths: Side lengths of the box D, x first, or one number for all axes; 1 if None.

    Returns:
        The law.

    Raises:
        InputError: If a key is unknown or a value does not fit.

    Example:
        >>> law = make_field({"kind": "lognormal", "variance": 1.0, "correlation_length": 0.1}, dim=2, cells=64)
        >>> law.sample(seed=0, index=3).A.shape
        (64, 64)
        >>> law = make_field({"correlation_length": [0.4, 0.1], "angles": 0.5}, 2, cells=(64, 32), lengths=(2.0, 1.0))
        >>> law.sample(seed=0, index=3).A.shape
        (32, 64)
    """
    if not isinstance(settings, dict):
        raise InputError(f"field must be a table of settings, got {settings!r}.")
    given = dict(settings)
    kind = given.pop("kind", "lognormal")
    if not isinstance(kind, str) or kind not in _FACTORIES:
        raise InputError(
            f"field.kind must be one of {tuple(_FACTORIES)}, got {kind!r}; a law of your own must be registered first "
            "(nnlod_fenics.register_field)."
        )
    known, any_key = _keys(kind)
    unknown = sorted(set(given) - known, key=str)
    if unknown and not any_key:
        raise InputError(f"field.{unknown[0]} is no setting of a {kind} field, expected {sorted(known)}.")
    box = Box.of(dim, cells, lengths)
    if not box.is_unit:
        if "lengths" not in _arguments(_FACTORIES[kind]):
            raise InputError(
                f"field.kind {kind!r} knows the unit cube only, got lengths {box.lengths}; a factory that has an "
                "argument lengths knows other boxes."
            )
        given["lengths"] = box.lengths
    return _FACTORIES[kind](dim, box.short_cells, **given)


def check_field(settings: dict[str, Any], dim: int) -> dict[str, Any]:
    """Check settings before a box and its cells are known.

    Args:
        settings: See :func:`make_field`.
        dim: Space dimension.

    Returns:
        The settings as the law states them, every default filled in.

    Raises:
        InputError: If a key is unknown or a value does not fit.
    """
    takes = isinstance(settings, dict) and settings.get("kind", "lognormal") in ("lognormal", "hierarchical")
    # Where points lie can only be checked on the box itself.
    placeless = {key: settings[key] for key in settings if key != "conditions"} if takes else settings
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of covariance errors on these cells, which nobody samples
        stated = settings_of_law(make_field(placeless, dim, 2))
    conditions = parse_conditions(dim, settings.get("conditions")) if takes else None
    return stated if conditions is None else stated | {"conditions": conditions.settings()}


class FieldKey(NamedTuple):
    """A key of the section ``[field]``.

    Attributes:
        name: The key.
        default: Its default; None where it has none.
        description: What the docstring of the law says of it, without its full stop.
    """

    name: str
    default: Any
    description: str


def describe_fields() -> dict[str, list[FieldKey]]:
    """The keys of the section ``[field]`` beside ``kind``, by kind, as the signatures of the laws have them."""
    return {kind: _describe(_SIGNATURES.get(kind, factory)) for kind, factory in _FACTORIES.items()}


def _describe(factory: Callable[..., Any]) -> list[FieldKey]:
    """The keys that a factory takes; descriptions from a docstring in Google's style."""
    _, _, rest = (inspect.getdoc(factory) or "").partition("Args:\n")
    entries = re.findall(r"^ {4}(\w+): (.+(?:\n {5,}.+)*)", rest.partition("\n\n")[0], re.MULTILINE)
    said = {name: " ".join(text.replace("``", "").split()).rstrip(".") for name, text in entries}
    return [
        FieldKey(name, None if p.default is p.empty else p.default, said.get(name, ""))
        for name, p in _arguments(factory).items()
        if name not in _NO_KEYS
    ]


def _arguments(factory: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """The arguments of a factory that can be given by name."""
    parameters = inspect.signature(factory).parameters.items()
    return {name: p for name, p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}


def _keys(kind: str) -> tuple[set[str], bool]:
    """The settings that a factory takes, and whether it takes any others."""
    factory = _SIGNATURES.get(kind, _FACTORIES[kind])
    any_key = any(p.kind is p.VAR_KEYWORD for p in inspect.signature(factory).parameters.values())
    return set(_arguments(factory)) - _NO_KEYS, any_key
