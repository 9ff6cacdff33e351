"""Commands that inform: what a file holds, which settings there are."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from nnlod_fenics.cli.common import (
    app,
    once,
    read_settings,
)
from nnlod_fenics.errors import InputError


@app.command(short_help="Show what a dataset or model contains.")
@once
def info(path: Annotated[Path, typer.Argument(help="Dataset folder, model folder or name, or settings file.")]) -> None:
    """Show what a dataset, a model or a settings file contains.

    Example: nnlod info data
    """
    import json

    from nnlod_fenics.dataset import Dataset
    from nnlod_fenics.dataset.layout import INDEX
    from nnlod_fenics.network.shipped import find_model
    from nnlod_fenics.network.storage import DESCRIPTION, read_model
    from nnlod_fenics.runtime.files import is_file

    if is_file(path / INDEX):
        data = Dataset(path, partial=True)
        content: dict[str, Any] = {"realizations": len(data), "finished": len(data.finished), "versions": data.versions}
        content |= data.config
    elif is_file(find_model(path) / DESCRIPTION):
        content = read_model(find_model(path))
    elif is_file(path):
        content = read_settings(path, None).everything()
    else:
        raise InputError(f"{str(path)!r} is neither a dataset, a model nor a settings file.")
    typer.echo(json.dumps(content, indent=1))


@app.command(short_help="List all settings.")
def settings(
    toml: Annotated[bool, typer.Option("--toml", help="Print a settings file with all defaults.")] = False,
) -> None:
    """List every key of a settings file with its default, its values and its meaning.

    Example: nnlod settings --toml > run.toml
    """
    from nnlod_fenics.config import describe_settings, settings_toml

    if toml:
        typer.echo(settings_toml(), nl=False)
    elif sys.stdout.isatty():
        _print_settings(describe_settings())
    else:
        for section, entries in describe_settings().items():
            typer.echo(f"[{section}]")
            for entry in entries:
                typer.echo(f"{entry.key} = {entry.default}".rstrip() + f": {entry.meaning}")


def _print_settings(sections: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(markup=False)  # [grid] is no markup
    for section, entries in sections.items():
        table = Table("key", "default", "values", "meaning", title=f"[{section}]", title_justify="left")
        for entry in entries:
            table.add_row(entry.key, entry.default, entry.values, entry.description)
        console.print(table)
