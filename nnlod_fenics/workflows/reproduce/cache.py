"""A cache of finished stages, so that nothing is computed twice and interrupted stages are resumed.

A stage is named by its kind and a hash of its settings; these contain the keys of the stages it is made from. Its
folder gets the file ``stage.json`` last: a folder without it is of an interrupted stage, which is entered again and
finds what it has already written, the time spent so far included.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from nnlod_fenics.errors import InputError
from nnlod_fenics.runtime.files import read_json, write_json
from nnlod_fenics.runtime.progress import tell

__all__ = ["VERSION", "Cache", "Stage"]

VERSION = 4  # of what stages write, and of the networks and laws that they use
"""Version of the cache; results of another one are computed anew."""
_MARK, _CLOCK = "stage.json", "clock.json"
_TICK = 2.0  # seconds of a killed run that may be lost


@dataclass(frozen=True)
class Stage:
    """A finished stage.

    Attributes:
        folder: What it has written.
        key: Name of the folder; equal for equal settings.
        seconds: Time it took, interrupted runs included.
        runs: How many runs it took.
    """

    folder: Path
    key: str
    seconds: float
    runs: int = 1


class _Clock:
    """Time spent on a stage, over all runs; written now and then, since a killed run has no time to."""

    def __init__(self, path: Path) -> None:
        self._path, self._stop = path, threading.Event()
        self._before, self.runs = 0.0, 1
        with suppress(InputError, KeyError, TypeError, ValueError):
            found = read_json(path)
            self._before, self.runs = float(found["seconds"]), int(found["runs"]) + 1
        self._start = time.perf_counter()
        self._thread = threading.Thread(target=self._tick, daemon=True)

    @property
    def seconds(self) -> float:
        """Up to now."""
        return self._before + time.perf_counter() - self._start

    def _write(self) -> None:
        with suppress(InputError, OSError):  # the stage itself tells of a full disk
            write_json(self._path, {"seconds": self.seconds, "runs": self.runs})

    def _tick(self) -> None:
        while not self._stop.wait(_TICK):
            self._write()

    def __enter__(self) -> _Clock:
        self._write()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._write()


class Cache:
    """Finished stages in a folder.

    Args:
        folder: Where; made when the first stage runs.

    Attributes:
        executed: Keys of the stages that this object has run.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.executed: list[str] = []

    def stage(self, kind: str, title: str, settings: dict[str, Any], work: Callable[[Path], None]) -> Stage:
        """A stage from the cache, or run now.

        Args:
            kind: What it does; begins the name of its folder.
            title: What a user is told when it runs.
            settings: Everything that its result depends on, JSON-able.
            work: Writes the result into the folder it is given; may find what an interrupted run left there.

        Returns:
            The finished stage.
        """
        text = json.dumps({"version": VERSION, "kind": kind, "settings": settings}, sort_keys=True)
        key = f"{kind}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
        folder = self.folder / key
        if not (folder / _MARK).exists():
            folder.mkdir(parents=True, exist_ok=True)
            with _Clock(folder / _CLOCK) as clock:
                work(folder)
            spent = {"seconds": clock.seconds, "runs": clock.runs}
            mark = {"version": VERSION, "kind": kind, "title": title, **spent, "settings": settings}
            write_json(folder / _MARK, mark)
            (folder / _CLOCK).unlink(missing_ok=True)
            self.executed.append(key)
            tell(f"{title}: {clock.seconds:.1f} s" + (f" in {clock.runs} runs" if clock.runs > 1 else ""))
        found = read_json(folder / _MARK)
        return Stage(folder, key, float(found["seconds"]), int(found["runs"]))

    def finished(self, kind: str) -> Iterator[tuple[Path, dict[str, Any]]]:
        """Folders and settings of the finished stages of a kind, of this version of the cache."""
        for mark in sorted(self.folder.glob(f"{kind}-*/{_MARK}")):
            found = read_json(mark)
            if found.get("version") == VERSION:
                yield mark.parent, found["settings"]
