"""What the commands share: the application, options, settings, tables."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, TypeVar, cast

import typer
import typer.core

__all__ = [
    "AllowImport",
    "CommandGroup",
    "ConfigFile",
    "Data",
    "Model",
    "Output",
    "Overrides",
    "Overwrite",
    "Resume",
    "Scale",
    "app",
    "once",
    "print_table",
    "read_settings",
    "resumable",
]

Function = TypeVar("Function", bound=Callable[..., Any])


class _Command(typer.core.TyperCommand):
    def get_help(self, ctx: Any) -> str:
        # Typer 0.15 escapes the brackets of defaults for Rich, which does not print the help here
        return super().get_help(ctx).replace(r"\[", "[")


def once(function: Function) -> Function:
    """A command for one process: of several ranks the first one runs it alone."""

    @wraps(function)
    def run(*arguments: Any, **options: Any) -> Any:
        from nnlod_fenics.runtime.launcher import is_first_rank

        return function(*arguments, **options) if is_first_rank() else None

    return cast(Function, run)


class CommandGroup(typer.Typer):
    """Commands whose help shows brackets as they are."""

    def command(self, *arguments: Any, **options: Any) -> Callable[[Function], Function]:
        """A decorator that adds a command."""
        return super().command(*arguments, cls=_Command, **options)


app = CommandGroup(
    name="nnlod",
    help="NN-LOD on FEniCSx: compress diffusion problems with rough random coefficients into small coarse matrices.",
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=False,
    pretty_exceptions_enable=False,
)
"""The application that commands are added to."""

ConfigFile = Annotated[Path | None, typer.Argument(help="TOML file with the settings; defaults if omitted.")]
"""Argument: a settings file."""
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", "-s", metavar="KEY=VALUE", help="Override a setting, e.g. field.variance=1."),
]
"""Option: settings in the place of those of the file."""
AllowImport = Annotated[
    bool,
    typer.Option("--allow-import", help="Import a law that field.kind names as module:class, which runs its code."),
]
"""Option: laws of one's own by name."""
Scale = Annotated[str | None, typer.Option(help="Use the file's table [scale.NAME], e.g. small.")]
"""Option: a table of the settings file."""
Output = Annotated[Path, typer.Option("--output", "-o", help="Output folder.")]
"""Option: where results go."""
Resume = Annotated[bool, typer.Option("--resume", help="Resume an interrupted run.")]
"""Option: resume an interrupted run."""
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace existing results.")]
"""Option: replace what is there."""
Data = Annotated[Path, typer.Argument(help="Dataset folder, as written by nnlod generate.")]
"""Argument: a dataset."""
Model = Annotated[
    Path,
    typer.Argument(help="Model folder, as written by nnlod train, or the name of one that comes with the package."),
]
"""Argument: a model."""


def print_table(title: str, rows: list[tuple[str, str]]) -> None:
    """Print a table of names and values."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, show_header=False, title_justify="left")
    for name, value in rows:
        table.add_row(name, value)
    width = None if sys.stdout.isatty() else 120
    Console(width=width).print(table)


def read_settings(
    config: Path | None,
    overrides: list[str] | None,
    scale: str | None = None,
    whole_grid: bool = True,
    allow_import: bool = False,
) -> Any:
    """The settings of a file with overrides, see :func:`nnlod_fenics.config.load_config`."""
    from nnlod_fenics.config import load_config

    if allow_import and "" not in sys.path:  # modules of the current folder, as for python -m
        sys.path.insert(0, "")
    return load_config(config, overrides or [], scale, whole_grid, allow_import)


@contextmanager
def resumable() -> Iterator[None]:
    """While a job runs that a signal may stop: reported in one sentence, with the exit code of such jobs."""
    from nnlod_fenics.runtime.job import EXIT_RESUMABLE, Interrupted
    from nnlod_fenics.runtime.launcher import is_first_rank

    try:
        yield
    except Interrupted as stopped:
        if is_first_rank():
            typer.echo(f"nnlod: {stopped}", err=True)
        raise typer.Exit(EXIT_RESUMABLE) from None
