"""The reference of all settings, made from their definitions: as rows of a table, and as a settings file."""

from __future__ import annotations

import json
import math
import textwrap
from collections.abc import Iterator
from typing import Any, NamedTuple

from nnlod_fenics.about import __version__
from nnlod_fenics.config.base import Settings
from nnlod_fenics.config.settings import Config
from nnlod_fenics.fields import describe_fields

__all__ = ["Setting", "describe_settings", "settings_toml"]


class Setting(NamedTuple):
    """A key of a settings file.

    Attributes:
        key: The key, without its section.
        default: Its default as TOML; empty where it has none.
        values: Which values it takes.
        description: What it means.
        stated: Whether a file may state the default: it does not depend on other settings.
    """

    key: str
    default: str
    values: str
    description: str
    stated: bool = True

    @property
    def meaning(self) -> str:
        """Description and values in one line."""
        return f"{self.description} ({self.values})" if self.values else self.description


def describe_settings() -> dict[str, list[Setting]]:
    """Every key of a settings file, by section; those of ``field`` by kind: ``field, kind = "uniform"``."""
    config, sections = Config(), {}
    for name in Config.model_fields:
        value = getattr(config, name)
        if isinstance(value, Settings):
            sections[name] = list(_describe(value))
        else:
            sections |= {f'field, kind = "{kind}"': entries for kind, entries in _describe_fields(config).items()}
    return sections


def settings_toml() -> str:
    """A settings file with every key, its default and its meaning.

    Keys without a default, those whose default depends on other keys, and those of other kinds of fields are
    commented out: ``#key``.
    """
    lines = [
        f"# All settings of nnlod-fenics {__version__} with their defaults. A key with a # has no default, or one",
        "# that depends on other keys. Delete what you do not change: a grid or a field that is stated here is not",
        "# taken from a model or a coefficient.",
    ]
    default_field = f'field, kind = "{Config().field["kind"]}"'
    for section, entries in describe_settings().items():
        other_field = section.startswith("field") and section != default_field
        if other_field:
            lines += ["", f"# The keys of [{section.replace(', ', '] with ')}"]
        else:
            lines += ["", f"[{section.partition(',')[0]}]"]
        for entry in entries:
            lines += textwrap.wrap(entry.meaning, 100, initial_indent="# ", subsequent_indent="# ")
            lines.append(f"{'' if entry.stated and not other_field else '#'}{entry.key} = {entry.default}".rstrip())
    return "\n".join(lines) + "\n"


def _describe(section: Settings) -> Iterator[Setting]:
    properties = type(section).model_json_schema()["properties"]
    for key, field in type(section).model_fields.items():
        default, value = field.get_default(call_default_factory=True), getattr(section, key)
        depends = default is None or (isinstance(default, float) and math.isnan(default))
        values = _values(properties[key])
        yield Setting(key, "" if value is None else _toml(value), values, field.description or "", not depends)


def _describe_fields(config: Config) -> dict[str, list[Setting]]:
    """The keys of the section ``[field]`` by kind; the defaults of the default kind are those of the settings."""
    kinds = describe_fields()
    result = {}
    for kind, keys in kinds.items():
        given = config.field if kind == config.field["kind"] else {}
        entries = [Setting("kind", _toml(kind), ", ".join(kinds), "law of the coefficient")]
        for name, default, description in keys:
            value = given.get(name, default)
            text = "" if value is None else _toml(value)
            entries.append(Setting(name, text, "", description, value is not None))
        result[kind] = entries
    return result


_TYPES = {"integer": "integer", "number": "number", "boolean": "true or false", "string": "string", "object": "table"}
_BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}


def _values(schema: dict[str, Any]) -> str:
    """The values that a JSON schema allows, in words."""
    if "values" in schema:  # in words already
        return str(schema["values"])
    if "anyOf" in schema:  # a value or none
        return _values(next(option for option in schema["anyOf"] if option["type"] != "null"))
    if "enum" in schema or "const" in schema:
        return ", ".join(schema.get("enum", [schema.get("const")]))
    if schema["type"] == "array":
        parts = schema.get("prefixItems", [schema.get("items")])
        inner = ", ".join(_values(part) for part in parts)
        return f"[{inner}]" if "prefixItems" in schema else f"list of {inner.replace('string', 'strings')}"
    bounds = " and ".join(f"{sign} {schema[name]:g}" for name, sign in _BOUNDS.items() if name in schema)
    return f"{_TYPES[schema['type']]} {bounds}".rstrip()


def _toml(value: Any) -> str:
    """A value as TOML in one line: JSON but for the equals signs of inline tables."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml(entry)}" for key, entry in value.items()) + " }" if value else "{}"
    return json.dumps(value, ensure_ascii=False)
