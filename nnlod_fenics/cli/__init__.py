"""The ``nnlod`` command: each subcommand reads its settings and calls one public function."""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Callable
from typing import Annotated, Any, NoReturn

import typer

from nnlod_fenics.cli import datasets, learning, solving, telling  # noqa: F401  # they add their commands to app
from nnlod_fenics.cli.common import app
from nnlod_fenics.errors import InputError, MissingDependencyError, NumericalError

__all__ = ["main"]

# Newer Typers come with a Click of their own; the base of a mistaken command line's errors, in either.
_ClickException: Any = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")

_FIRST_RANK_SPEAKS = 10.0  # seconds


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
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that cannot show ² or ℓ must not end a run
    try:
        code = app(prog_name="nnlod", standalone_mode=False)
    except typer.Abort:  # Ctrl-C
        print("nnlod: interrupted", file=sys.stderr)
        sys.exit(130)
    except _ClickException as error:
        _fail(error.show, error.exit_code)
    except (InputError, MissingDependencyError) as error:
        _fail(str(error), 2)
    except OSError as error:  # of the system: a name that is too long, a folder that may not be read
        place = "" if error.filename is None else f"{str(error.filename)!r}: "
        _fail(f"{place}{error.strerror or error}.", 2)
    except NumericalError as error:
        _fail(str(error), 1)
    except MemoryError as error:
        print(f"nnlod: there is not enough memory for this problem ({str(error) or 'out of memory'}).", file=sys.stderr)
        sys.exit(1)
    sys.exit(code)


def _fail(message: str | Callable[[], Any], code: int) -> NoReturn:
    """End this process with a message, which is printed once where all ranks of a job fail alike.

    Another rank than the first gives it the time to speak: launchers end all ranks as soon as one has failed. If it is
    not ended in that time, it has failed alone and speaks itself. Once MPI has started, errors are agreed on between
    the ranks, and the end of MPI waits for the first one.
    """
    from nnlod_fenics.runtime.job import mpi_started
    from nnlod_fenics.runtime.launcher import launched

    rank = launched().rank
    if rank == 0 or not mpi_started():
        if rank > 0:
            time.sleep(_FIRST_RANK_SPEAKS)
        if callable(message):
            message()
        else:
            print(f"nnlod: {f'rank {rank}: ' if rank else ''}{message}", file=sys.stderr)
    sys.exit(code)
