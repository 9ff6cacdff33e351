"""Settings of a run: one TOML file, any key of which can be overridden on the command line."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar, Literal

import tomli_w
from pydantic import Field, ValidationInfo, field_validator, model_validator

from nnlod_fenics.config.base import LARGEST_SEED, Settings, shown
from nnlod_fenics.config.grid import GridSection
from nnlod_fenics.config.montecarlo import MonteCarloSection
from nnlod_fenics.config.problem import ProblemSection
from nnlod_fenics.config.training import TrainingSettings, settings_of_network
from nnlod_fenics.errors import InputError
from nnlod_fenics.fields import FieldLaw, check_field, import_laws, make_field
from nnlod_fenics.grid import Grid
from nnlod_fenics.runtime.files import write_text

__all__ = ["Config", "load_config", "write_config"]

_MOST_BLOCKS = 100_000  # files of a dataset: all of them are listed, in memory and in its index
_DEEPEST = 50  # levels of tables and lists
_FIELD = {"kind": "lognormal", "variance": 0.5}  # where a file says nothing of the field


class DatasetSection(Settings):
    """What to generate."""

    prefix: ClassVar[str] = "dataset."

    realizations: int = Field(default=100, ge=1, description="realizations of the field")
    seed: int = Field(default=0, ge=0, le=LARGEST_SEED, description="seed of the realizations")
    method: Literal["condensed", "dolfinx"] = Field(default="condensed", description="how local matrices are computed")
    form: Literal["petrov-galerkin", "galerkin"] = Field(
        default="petrov-galerkin", description="form of the local matrices: S_T (3.6), or element energy matrices K_E"
    )
    loads: bool = Field(default=False, description="whether what elements add to the load for f = 1 is stored too")
    domains: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="share of realizations on random domains, with inactive elements and faces without given u, for "
        "models that serve all",
    )
    dtype: Literal["float64", "float32"] = Field(default="float64", description="type of the stored numbers")
    block: int = Field(default=2, ge=1, description="realizations per file, the unit of work")

    @model_validator(mode="after")
    def _fits_in_files(self) -> DatasetSection:
        blocks = -(-self.realizations // self.block)
        if blocks > _MOST_BLOCKS:
            raise InputError(
                f"dataset.realizations must fit in {_MOST_BLOCKS} files of dataset.block={self.block} realizations, "
                f"got {shown(self.realizations)}."
            )
        return self


class NetworkSection(Settings):
    """Which network; options depend on it."""

    prefix: ClassVar[str] = "network."

    name: str = Field(default="structured", description="structured, paper, or the name of a registered one")
    options: dict[str, Any] = Field(
        default_factory=dict,
        description="options of the network: channels, means, embed_depth, mix_depth, head_depth, loads of structured; "
        "widths of paper",
    )


class Config(Settings):
    """All settings of a run; the defaults are those of the demo."""

    grid: GridSection = GridSection()
    problem: ProblemSection = ProblemSection()
    field: dict[str, Any] = Field(default_factory=lambda: dict(_FIELD))
    dataset: DatasetSection = DatasetSection()
    network: NetworkSection = NetworkSection()
    training: TrainingSettings = TrainingSettings()
    montecarlo: MonteCarloSection = MonteCarloSection()

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
    def _is_a_field(cls, value: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        grid = info.data.get("grid", GridSection())
        # A dimension that is not stated may be that of a model: the field must fit one of them.
        dims = [grid.dim] if "dim" in grid.model_fields_set else sorted({1, 2, 3}, key=lambda d: d != grid.dim)
        errors = []
        for dim in dims:
            try:
                stated = check_field(value, dim)
                from_file = isinstance(value.get("conditions"), str)  # read once: its rows are the setting
                return value | {"conditions": stated["conditions"]} if from_file else value
            except InputError as error:
                errors.append(error)
        raise errors[0]

    @property
    def stated_grid(self) -> dict[str, Any]:
        """The keys of the grid that the settings state, without those that are left to their defaults."""
        return self.grid.stated

    @property
    def states_field(self) -> bool:
        """Whether the settings state a field."""
        return "field" in self.model_fields_set

    def make_grid(self, default: Grid | None = None) -> Grid:
        """The discretisation.

        Args:
            default: Where the keys that are not stated come from; the defaults of the settings if None.

        Raises:
            InputError: If the keys do not fit together.
        """
        return self.grid.make(default)

    def make_field(self) -> FieldLaw:
        """The law of the coefficient on the grid's T_ε."""
        grid = self.make_grid()
        return make_field(self.field, grid.dim, grid.coefficient, grid.lengths, grid.widths)

    def resolved(self) -> dict[str, Any]:
        """Every setting that a dataset or a model depends on with its default filled in, as stored with them."""
        return {
            "grid": self.make_grid().as_dict(),
            "field": check_field(self.field, self.grid.dim),
            "dataset": self.dataset.as_dict(),
            "network": self.network.as_dict(),
            "training": self.training.as_dict(),
        }

    def everything(self) -> dict[str, Any]:
        """:meth:`resolved`, and what neither a dataset nor a model depends on: the problem."""
        return self.resolved() | {"problem": self.problem.as_dict()}


def write_config(folder: Path, config: Config) -> Path:
    """Write the resolved settings as ``config.toml``.

    Args:
        folder: Where; made if missing.
        config: The settings.

    Returns:
        The file.
    """
    path = folder / "config.toml"
    write_text(path, tomli_w.dumps(config.everything()))
    return path


def _set(table: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    names = key.strip().split(".")
    if not equals or not all(names) or len(names) < 2:
        raise InputError(f"an override must look like section.key=value, got {override!r}.")
    for name in names[:-1]:
        table = table.setdefault(name, {})
        if not isinstance(table, dict):
            raise InputError(f"{key.strip()} cannot be set, since {name} is a value and not a section.")
    table[names[-1]] = _value(text.strip(), override)


def _value(text: str, override: str) -> Any:
    """A TOML value, or a string without quotes."""
    if "\n" in text:
        raise InputError(f"an override must be one line, got {override!r}.")
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
    except ValueError:  # Python converts no integer of more than 4,300 digits
        raise InputError(f"an override must have numbers of fewer than 4300 digits, got {override[:60]}….") from None
    except RecursionError:
        raise InputError(f"an override must not be nested so deeply, got {override[:60]}….") from None


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise InputError(f"config file {str(path)!r} cannot be read: {error.strerror}.") from None
    except RecursionError:
        raise InputError(f"config file {str(path)!r} is not valid TOML: its tables are nested too deeply.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, ValueError) as error:
        raise InputError(f"config file {str(path)!r} is not valid TOML: {str(error).rstrip('.')}.") from None


def _anchored(table: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The settings with the file of ``grid.active`` in a folder, unless its path is absolute."""
    grid = table.get("grid")
    if not isinstance(grid, dict) or not isinstance(grid.get("active"), str):
        return table
    return table | {"grid": grid | {"active": str(folder / grid["active"])}}


def _check_depth(table: dict[str, Any], source: str) -> None:
    """Refuse what could not be written to files, or copied, for its depth."""
    level: list[Any] = [table]
    for _ in range(_DEEPEST):
        inner = (value for part in level for value in (part.values() if isinstance(part, dict) else part))
        level = [value for value in inner if isinstance(value, (dict, list))]
    if level:
        raise InputError(f"settings must not be nested deeper than {_DEEPEST} levels (in {source}).")


def _scales(given: Any, source: str) -> dict[str, dict[str, dict[str, Any]]]:
    """The tables ``[scale.NAME.SECTION]`` of a file."""
    tables = given.values() if isinstance(given, dict) else [None]
    if not all(isinstance(table, dict) and all(isinstance(v, dict) for v in table.values()) for table in tables):
        raise InputError(f"scale in {source} must hold tables [scale.NAME.SECTION], got {given!r}.")
    scales: dict[str, dict[str, dict[str, Any]]] = given
    return scales


def load_config(
    path: str | Path | None = None,
    overrides: Iterable[str] = (),
    scale: str | None = None,
    whole_grid: bool = True,
    allow_import: bool = False,
) -> Config:
    """Read the settings of a run.

    Args:
        path: TOML file; the defaults alone if None.
        overrides: ``"section.key=value"`` with TOML values (strings also without quotes).
        scale: Name of a table ``[scale.NAME]`` of the file whose entries replace the others, say ``"small"``.
        whole_grid: Whether the keys of the grid must fit together with the defaults of the others, and not with those
            of a model or a coefficient.
        allow_import: Whether a law may be imported that ``field.kind`` names as ``module:class``: that runs its code.

    Returns:
        The settings.

    Raises:
        InputError: If the file cannot be read, a key is unknown or a value does not fit; names key and file.

    Example:
        >>> config = load_config(overrides=["grid.coarse=8", "field.variance=1.0", "training.epochs=5"])
        >>> config.make_grid()
        Grid(dim=2, coarse=8, fine=128, ell=2, coefficient=64)
        >>> config.field
        {'kind': 'lognormal', 'variance': 1.0}
        >>> load_config(overrides=["grid.corse=8"])
        Traceback (most recent call last):
        nnlod_fenics.errors.InputError: grid.corse is no setting...
    """
    table = {} if path is None else _anchored(_read(Path(path)), Path(path).parent)
    source = "the settings" if path is None else repr(str(path))
    scales = _scales(table.pop("scale", {}), source)
    if scale is not None:
        if scale not in scales:
            raise InputError(f"scale must be one of {sorted(scales)} in {source}, got {scale!r}.")
        for section, entries in scales[scale].items():
            if isinstance(table.setdefault(section, {}), dict):
                table[section] = table[section] | _anchored({section: entries}, Path(path or "").parent)[section]
    has_field = "field" in table
    for override in overrides:
        _set(table, override)
    _check_depth(table, source)
    given = table.get("field", {})
    if given and not has_field and isinstance(given, dict) and given.get("kind", "lognormal") == "lognormal":
        table["field"] = _FIELD | given
    try:
        if allow_import:
            import_laws(given)
        config = Config(**table)
        if whole_grid:
            config.problem.make(config.make_grid())
        return config
    except InputError as error:
        raise InputError(f"{str(error).rstrip('.')} (in {source}).") from None
