"""The base of all settings: checked when made, unknown keys refused, a mistake reported in one sentence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from nnlod_fenics.errors import InputError

__all__ = ["LARGEST_SEED", "Settings", "shown"]

LARGEST_SEED = 2**63 - 1
"""That files and PyTorch can hold."""


class Settings(BaseModel):
    """A table of settings, frozen.

    Raises:
        InputError: If a key is unknown or a value does not fit; names key, value and what was expected.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    prefix: ClassVar[str] = ""  # of the keys in messages: the section of the file, if any

    def __init__(self, **given: Any) -> None:
        try:
            super().__init__(**given)
        except ValidationError as error:
            raise InputError(_sentence(error, type(self), type(self).prefix) + ".") from None

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> Self:
        """Settings from a table."""
        return cls(**given)

    def as_dict(self) -> dict[str, Any]:
        """The settings as a table, every default filled in."""
        return self.model_dump()

    def changed(self, **updates: Any) -> Self:
        """The same settings but for some, checked again; what was not stated stays so, and follows what is changed."""
        return type(self)(**(self.model_dump(exclude_unset=True) | updates))


_EXPECTED = {
    "int_type": "an integer",
    "int_from_float": "an integer",
    "float_type": "a number",
    "bool_type": "true or false",
    "string_type": "a string",
    "list_type": "a list",
    "tuple_type": "a list",
    "model_type": "a table",
    "dict_type": "a table",
    "finite_number": "a finite number",
    "greater_than_equal": "at least {ge}",
    "greater_than": "greater than {gt}",
    "less_than_equal": "at most {le}",
    "less_than": "below {lt}",
    "literal_error": "{expected}",
}


def _sentence(error: ValidationError, model: type[BaseModel], prefix: str = "") -> str:
    """The first mistake that Pydantic found, in one sentence without its full stop.

    Args:
        error: What it found.
        model: What it checked.
        prefix: What to put before the keys.

    Returns:
        The sentence.
    """
    first = error.errors()[0]
    parts = [str(part) for part in first["loc"]]
    if first["type"] != "extra_forbidden":  # without the branches of a union, such as constrained-float
        parts = [part for part in parts if not set(part) & set("-[")]
    key = prefix + ".".join(parts)
    if first["type"] == "extra_forbidden":
        section: Any = model
        for part in first["loc"][:-1]:
            section = section.model_fields[str(part)].annotation
        return f"{key} is no setting; expected one of {sorted(section.model_fields)}"
    if first["type"] == "value_error":
        return str(first["ctx"]["error"]).rstrip(".")
    if first["type"] in _EXPECTED:
        expected = _EXPECTED[first["type"]].format(**first.get("ctx", {}))
        return f"{key} must be {expected}, got {shown(first['input'])}"
    return f"{key}: {first['msg'][0].lower()}{first['msg'][1:]}, got {shown(first['input'])}"


def shown(value: Any) -> str:
    """A value in a message, not longer than a line."""
    try:
        text = repr(value)
    except ValueError:  # Python converts no integer of more than 4,300 digits
        return "an integer of thousands of digits"
    return text if len(text) <= 100 else f"{text[:97]}..."
