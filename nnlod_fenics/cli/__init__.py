"""The ``nnlod`` command: each subcommand reads its settings and calls one public function."""

from __future__ import annotations

import io
import sys
from typing import Annotated, Any

import typer

from nnlod_fenics.cli import datasets, learning, solving, telling  # noqa: F401  # they add their commands to app
from nnlod_fenics.cli.common import app
from nnlod_fenics.errors import InputError, MissingDependencyError, NumericalError

__all__ = ["main"]

# Newer Typers come with a Click of their own; the base of a mistaken command line's errors, in either.
_ClickException: Any = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")


def _show_version(wanted: bool) -> None:
    if wanted:
        from nnlod_fenics.about import __version__

        typer.echo(f"nnlod-fenics {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Options of the command itself."""


def main() -> None:
    """Run the command; a user's mistake is one sentence and exit code 2."""
    from nnlod_fenics.runtime.launcher import is_first_rank

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that cannot show ² or ℓ must not end a run
    try:
        code = app(prog_name="nnlod", standalone_mode=False)
    except typer.Abort:  # Ctrl-C
        print("nnlod: interrupted", file=sys.stderr)
        sys.exit(130)
    except _ClickException as error:
        if is_first_rank():
            error.show()
        sys.exit(error.exit_code)
    except (InputError, MissingDependencyError) as error:
        if is_first_rank():
            print(f"nnlod: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:  # of the system: a name that is too long, a folder that may not be read
        if is_first_rank():
            place = "" if error.filename is None else f"{str(error.filename)!r}: "
            print(f"nnlod: {place}{error.strerror or error}.", file=sys.stderr)
        sys.exit(2)
    except NumericalError as error:
        if is_first_rank():
            print(f"nnlod: {error}", file=sys.stderr)
        sys.exit(1)
    except MemoryError as error:
        print(f"nnlod: there is not enough memory for this problem ({str(error) or 'out of memory'}).", file=sys.stderr)
        sys.exit(1)
    sys.exit(code)
