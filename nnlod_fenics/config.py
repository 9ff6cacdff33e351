"""Settings of a run: one TOML file, any key of which can be overridden on the command line."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from nnlod_fenics.errors import InputError
from nnlod_fenics.fields import FieldLaw, make_field
from nnlod_fenics.grid import Grid
from nnlod_fenics.surrogate.settings import TrainingSettings, settings_of_network

__all__ = ["Config", "load_config"]

_FIELD = {"kind": "lognormal", "variance": 0.5}  # where a file says nothing of the field


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class GridSection(_Section):
    """The discretisation; see :class:`nnlod_fenics.Grid`."""

    dim: int = 2
    coarse: int = 16
    fine: int = 128
    ell: int = 2
    coefficient: int | None = 64

    @model_validator(mode="after")
    def _is_a_grid(self) -> GridSection:
        self.make()
        return self

    def make(self) -> Grid:
        """The grid."""
        return Grid(**self.model_dump())


class DatasetSection(_Section):
    """What to generate."""

    realizations: int = Field(default=100, ge=1)
    seed: int = Field(default=0, ge=0)
    method: Literal["condensed", "dolfinx"] = "condensed"
    dtype: Literal["float64", "float32"] = "float64"
    block: int = Field(default=2, ge=1)


class NetworkSection(_Section):
    """Which network; options depend on it."""

    name: str = "structured"
    options: dict[str, Any] = Field(default_factory=dict)


class TrainingSection(_Section):
    """How to train; see :class:`nnlod_fenics.surrogate.TrainingSettings` for the keys and their defaults."""

    model_config = ConfigDict(extra="allow", frozen=True)

    @model_validator(mode="after")
    def _is_settings(self) -> TrainingSection:
        self.make()
        return self

    def make(self) -> TrainingSettings:
        """The settings of the training."""
        return TrainingSettings.from_dict(self.model_extra or {})


class Config(_Section):
    """All settings of a run; the defaults are those of the demo."""

    grid: GridSection = Field(default_factory=GridSection)
    field: dict[str, Any] = Field(default_factory=lambda: dict(_FIELD))
    dataset: DatasetSection = Field(default_factory=DatasetSection)
    network: NetworkSection = Field(default_factory=NetworkSection)
    training: TrainingSection = Field(default_factory=TrainingSection)

    @model_validator(mode="before")
    @classmethod
    def _with_defaults_of_network(cls, given: Any) -> Any:
        """The paper's network is trained in the paper's way unless the settings say otherwise."""
        network, training = (given.get(key) for key in ("network", "training"))
        if isinstance(network, dict) and network.get("name") == "paper" and isinstance(training or {}, dict):
            return given | {"training": settings_of_network("paper", training or {})}
        return given

    @field_validator("field")
    @classmethod
    def _is_a_field(cls, value: dict[str, Any]) -> dict[str, Any]:
        make_field(value, 1, 2)
        return value

    def make_grid(self) -> Grid:
        """The discretisation."""
        return self.grid.make()

    def make_field(self) -> FieldLaw:
        """The law of the coefficient on the grid's T_ε."""
        return make_field(self.field, self.grid.dim, self.make_grid().coefficient)

    def resolved(self) -> dict[str, Any]:
        """Every setting with its default filled in, as stored with outputs."""
        return {
            "grid": self.make_grid().as_dict(),
            "field": make_field(self.field, self.grid.dim, 2).settings(),
            "dataset": self.dataset.model_dump(),
            "network": self.network.model_dump(),
            "training": asdict(self.training.make()),
        }


def _set(table: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    names = key.strip().split(".")
    if not equals or not all(names) or len(names) < 2:
        raise InputError(f"an override must look like section.key=value, got {override!r}.")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()
    for name in names[:-1]:
        table = table.setdefault(name, {})
        if not isinstance(table, dict):
            raise InputError(f"{key.strip()} cannot be set, since {name} is a value and not a section.")
    table[names[-1]] = value


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise InputError(f"config file {str(path)!r} cannot be read: {error.strerror}.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"config file {str(path)!r} is not valid TOML: {error}.") from None


def _scales(given: Any, source: str) -> dict[str, dict[str, dict[str, Any]]]:
    """The tables ``[scale.NAME.SECTION]`` of a file."""
    tables = given.values() if isinstance(given, dict) else [None]
    if not all(isinstance(table, dict) and all(isinstance(v, dict) for v in table.values()) for table in tables):
        raise InputError(f"scale in {source} must hold tables [scale.NAME.SECTION], got {given!r}.")
    scales: dict[str, dict[str, dict[str, Any]]] = given
    return scales


def _sentence(error: ValidationError, source: str) -> str:
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        section = Config
        for part in first["loc"][:-1]:
            section = section.model_fields[str(part)].annotation  # type: ignore[assignment]
        return f"{key} in {source} is no setting; expected one of {sorted(section.model_fields)}."
    if first["type"] == "value_error":
        return f"{key} in {source}: {str(first['ctx']['error']).rstrip('.')}."
    given = first["input"]
    if first["type"] in ("model_type", "dict_type"):
        return f"{key} in {source} must be a table, got {given!r}."
    return f"{key} in {source}: {first['msg'][0].lower()}{first['msg'][1:]}, got {given!r}."


def load_config(path: str | Path | None = None, overrides: Iterable[str] = (), scale: str | None = None) -> Config:
    """Read the settings of a run.

    Args:
        path: TOML file; the defaults alone if None.
        overrides: ``"section.key=value"`` with TOML values (strings also without quotes).
        scale: Name of a table ``[scale.NAME]`` of the file whose entries replace the others, say ``"small"``.

    Returns:
        The settings.

    Raises:
        InputError: If the file cannot be read, a key is unknown or a value does not fit; names key and file.
    """
    table = {} if path is None else _read(Path(path))
    source = "the settings" if path is None else repr(str(path))
    scales = _scales(table.pop("scale", {}), source)
    if scale is not None:
        if scale not in scales:
            raise InputError(f"scale must be one of {sorted(scales)} in {source}, got {scale!r}.")
        for section, entries in scales[scale].items():
            if isinstance(table.setdefault(section, {}), dict):
                table[section] = table[section] | entries
    has_field = "field" in table
    for override in overrides:
        _set(table, override)
    given = table.get("field", {})
    if not has_field and isinstance(given, dict) and given.get("kind", "lognormal") == "lognormal":
        table["field"] = _FIELD | given
    try:
        return Config.model_validate(table)
    except ValidationError as error:
        raise InputError(_sentence(error, source)) from None
