"""A cache of finished stages, so that nothing is computed twice and what was interrupted goes on.

A stage is named by its kind and a hash of its settings; these contain the keys of the stages it is made from. Its
folder gets the file ``stage.json`` last: a folder without it is of an interrupted stage, which is entered again and
finds what it has already written.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnlod_fenics.progress import tell
from nnlod_fenics.surrogate.storage import read_json, write_json

__all__ = ["Cache", "Stage"]

_MARK = "stage.json"
_VERSION = 1  # of what stages write


@dataclass(frozen=True)
class Stage:
    """A finished stage.

    Attributes:
        folder: What it has written.
        key: Name of the folder; equal for equal settings.
        seconds: Time it took, in the run that finished it.
    """

    folder: Path
    key: str
    seconds: float


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
        text = json.dumps({"version": _VERSION, "kind": kind, "settings": settings}, sort_keys=True)
        key = f"{kind}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
        folder = self.folder / key
        if not (folder / _MARK).exists():
            folder.mkdir(parents=True, exist_ok=True)
            start = time.perf_counter()
            work(folder)
            seconds = time.perf_counter() - start
            write_json(folder / _MARK, {"kind": kind, "title": title, "seconds": seconds, "settings": settings})
            self.executed.append(key)
            tell(f"{title}: {seconds:.1f} s")
        return Stage(folder, key, float(read_json(folder / _MARK)["seconds"]))
