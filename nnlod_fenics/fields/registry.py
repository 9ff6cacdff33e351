"""The laws by name: those of the package, and those that a user registers."""

from __future__ import annotations

import importlib
import inspect
import re
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from nnlod_fenics.errors import InputError
from nnlod_fenics.fields.box import Box
from nnlod_fenics.fields.composite import MixtureField, SumField
from nnlod_fenics.fields.conditions import parse_conditions
from nnlod_fenics.fields.directed import LayeredField, TrendField
from nnlod_fenics.fields.hierarchical import HierarchicalField
from nnlod_fenics.fields.laws import PARAMETERS, FieldLaw, settings_of_law
from nnlod_fenics.fields.lognormal import LognormalField
from nnlod_fenics.fields.parameters import Parameter, parse_lengths, parse_parameter
from nnlod_fenics.fields.twophase import TwoPhaseField
from nnlod_fenics.fields.uniform import UniformlyEllipticField

__all__ = ["FieldKey", "check_field", "describe_fields", "import_laws", "make_field", "register_field"]

_NO_KEYS = {"dim", "cells", "lengths", "element", "self"}


def _lognormal(dim: int, cells: Any, lengths: Any = None, element: Any = None, **given: Any) -> LognormalField:
    for name in PARAMETERS:
        if name in given:
            laws = (
                parse_lengths(dim, given[name]) if name == "correlation_length" else parse_parameter(name, given[name])
            )
            if any(law.kind != "fixed" for law in ([laws] if isinstance(laws, Parameter) else laws)):
                raise InputError(
                    f"field.{name} is random, which needs field.kind = 'hierarchical', got {given[name]!r}."
                )
    return LognormalField(dim, cells, lengths=lengths, element=element, **given)


def _mixture(dim: int, cells: Any, laws: Any = None, lengths: Any = None, element: Any = None) -> MixtureField:
    """A mixture.

    Args:
        dim: Space dimension.
        cells: Cells of T_ε per axis.
        laws: A list of laws, each a table as [field] itself, and its weight, 1 by default: each realization has one of
            them, drawn with probabilities in proportion to the weights.
        lengths: Side lengths of D.
        element: Widths of a coarse element.
    """
    tables = _tables("mixture", laws)
    weights = [table.pop("weight", 1.0) for table in tables]
    return MixtureField(_parts(tables, dim, cells, lengths, element), weights)


def _sum(dim: int, cells: Any, laws: Any = None, lengths: Any = None, element: Any = None) -> SumField:
    """A sum.

    Args:
        dim: Space dimension.
        cells: Cells of T_ε per axis.
        laws: A list of laws, each a table as [field] itself: log A is the sum of independent fields of all of them.
        lengths: Side lengths of D.
        element: Widths of a coarse element.
    """
    return SumField(_parts(_tables("sum", laws), dim, cells, lengths, element))


def _tables(kind: str, laws: Any) -> list[dict[str, Any]]:
    """Copies of the tables of laws of a mixture or a sum."""
    if not isinstance(laws, (list, tuple)) or not all(isinstance(table, dict) for table in laws):
        raise InputError(f"field.laws of a {kind} must be a list of tables [[field.laws]], got {laws!r}.")
    for number, table in enumerate(laws):
        if "conditions" in table:
            raise InputError(f"field.laws[{number}].conditions: the laws of a {kind} take no measured values.")
    return [dict(table) for table in laws]


def _parts(tables: list[dict[str, Any]], dim: int, cells: Any, lengths: Any, element: Any) -> list[FieldLaw]:
    laws = []
    for number, table in enumerate(tables):
        try:
            laws.append(make_field(table, dim, cells, lengths, element))
        except InputError as error:
            reason = str(error)
            place = f"field.laws[{number}]"
            own = reason.startswith("field.")
            raise InputError(f"{place}.{reason.removeprefix('field.')}" if own else f"{place}: {reason}") from None
    return laws


_FACTORIES: dict[str, Callable[..., FieldLaw]] = {
    "lognormal": _lognormal,
    "hierarchical": HierarchicalField,
    "uniform": UniformlyEllipticField,
    "two-phase": TwoPhaseField,
    "layered": LayeredField,
    "trend": TrendField,
    "sum": _sum,
    "mixture": _mixture,
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
            it has none, such boxes are refused. If it has an argument ``element``, it gets the tuple of widths of a
            coarse element there wherever these are known. ``dim``, ``cells``, ``lengths`` and ``element`` are no keys
            of the section.

    Raises:
        InputError: If the name is taken by another factory, or the factory cannot be called.

    Note:
        Files hold the name only: the program that reads them registers the law again. Nothing is imported by name but
        what a settings file names as ``module:class`` and the caller allows: ``load_config(…, allow_import=True)``,
        ``--allow-import``.
    """
    if not isinstance(kind, str) or not kind:
        raise InputError(f"kind must be a name, got {kind!r}.")
    if not callable(factory):
        raise InputError(f"factory must be callable as factory(dim, cells, **settings), got {type(factory).__name__}.")
    if _FACTORIES.get(kind, factory) is not factory:
        raise InputError(f"kind must be a new name, got {kind!r}, which is registered already.")
    _FACTORIES[kind] = factory


def import_laws(settings: Any) -> None:
    """Import and register the laws that a section names as ``module:class``, also those inside mixtures and sums.

    That runs code: only settings that the user vouches for may come here, never those of a model or a dataset.

    Args:
        settings: The section ``[field]``; what is none is left to :func:`make_field`.

    Raises:
        InputError: If a module cannot be imported or has no such class.
    """
    if not isinstance(settings, dict):
        return
    laws = settings.get("laws")
    for table in laws if isinstance(laws, list) else ():
        import_laws(table)
    kind = settings.get("kind")
    if not isinstance(kind, str) or ":" not in kind or kind in _FACTORIES:
        return
    module, _, name = kind.partition(":")
    try:
        register_field(kind, getattr(importlib.import_module(module), name))
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise InputError(f"field.kind must name a module and a class in it, got {kind!r}: {error}.") from error


def make_field(
    settings: dict[str, Any],
    dim: int,
    cells: int | Sequence[int],
    lengths: float | Sequence[float] | None = None,
    element: float | Sequence[float] | None = None,
) -> FieldLaw:
    """Make the law that a configuration section describes.

    Args:
        settings: ``kind`` and the keys of that kind; ``nnlod settings`` prints all of them with their meaning.

            ``"lognormal"``: ``variance``, ``correlation_length`` (one, or one per axis, x first), ``smoothness``,
            ``angles``, ``mean``, ``covariance``, ``sampler``, ``unit``, and ``conditions``, measured values ``[[x, y,
            log_A], …]`` or the name of a file with them.

            ``"hierarchical"``: the same but for ``sampler``; and ``anisotropy``. All but the mean and the measured
            values may be random: ``{uniform = [a, b]}``, ``{loguniform = [a, b]}``, ``{choice = [...]}`` or
            ``{cycle = [...]}``. So may the numbers of the next three.

            ``"two-phase"``: ``contrast``, ``share``, and the keys of the covariance as above. ``"layered"``:
            ``variance``, ``thickness``, ``angles``, ``mean``, ``unit``. ``"trend"``: ``slope``, ``angles``, ``unit``.

            ``"sum"``: ``laws``, a list of such sections whose fields of log A are added. ``"mixture"``: ``laws``, a
            list of such sections, each with a ``weight``, one of which is drawn for each realization.

            ``"uniform"``: ``alpha``, ``beta``. Registered ones: what their factories take.
        dim: Space dimension d.
        cells: Cells of T_ε per axis: d integers, x first, or one for all axes. Fields have shape ``cells[::-1]``.
        lengths: Side lengths of the box D, x first, or one number for all axes; 1 if None.
        element: Widths of a coarse element, ``grid.widths``, or one number for all axes: laws with ``unit = "H"`` need
            it.

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
        >>> phases = {"kind": "two-phase", "contrast": {"loguniform": [0.1, 10]}, "correlation_length": 2, "unit": "H"}
        >>> rough = {"kind": "lognormal", "variance": 0.5, "weight": 3}
        >>> law = make_field({"kind": "mixture", "laws": [rough, phases]}, dim=2, cells=64, element=1 / 16)
        >>> sorted(law.sample(seed=0, index=2).parameters)
        ['correlation_length', 'law', 'smoothness', 'variance']
    """
    if not isinstance(settings, dict):
        raise InputError(f"field must be a table of settings, got {settings!r}.")
    given = dict(settings)
    kind = given.pop("kind", "lognormal")
    if not isinstance(kind, str) or kind not in _FACTORIES:
        raise InputError(
            f"field.kind must be one of {tuple(_FACTORIES)}, got {kind!r}; a law of your own must be registered first "
            "(nnlod_fenics.register_field), or be module:class in settings that may import it (--allow-import)."
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
    if element is not None and "element" in _arguments(_FACTORIES[kind]):
        given["element"] = element
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
        stated = settings_of_law(make_field(placeless, dim, 2, element=0.5))
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
