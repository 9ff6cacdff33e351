"""Progress of long work: a bar on a terminal, a line now and then in a log file."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

__all__ = ["Progress", "show_progress", "tell"]

_SECONDS_BETWEEN_LINES = 30.0


class Progress(Protocol):
    """What work reports to."""

    def __call__(self, done: int, note: str = "") -> None:
        """Report how many steps are done, and what is worth knowing (a loss, a width)."""


def tell(message: str) -> None:
    """Say something that a user should know, on stderr."""
    print(f"nnlod: {message}", file=sys.stderr, flush=True)


def _quiet(done: int, note: str = "") -> None:
    pass


@contextmanager
def show_progress(title: str, total: int, enabled: bool = True) -> Iterator[Progress]:
    """Show the progress of some work on stderr.

    Args:
        title: What is being done.
        total: Number of steps.
        enabled: False on all ranks but the first.

    Yields:
        The function to report to.

    Note:
        Without a terminal one line is printed every half minute, and none for quick work.
    """
    if not enabled:
        yield _quiet
    elif sys.stderr.isatty():
        with _bar(title, total) as report:
            yield report
    else:
        yield _lines(title, total)


@contextmanager
def _bar(title: str, total: int) -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with RichProgress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(title, total=total, note="")

        def report(done: int, note: str = "") -> None:
            bar.update(task, completed=done, note=note)

        yield report


def _lines(title: str, total: int) -> Progress:
    start = last = time.monotonic()

    def report(done: int, note: str = "") -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= _SECONDS_BETWEEN_LINES:
            last = now
            left = (now - start) * (total - done) / max(done, 1)
            print(f"{title}: {done} of {total}, {left:.0f} s left {note}".rstrip(), file=sys.stderr, flush=True)

    return report
