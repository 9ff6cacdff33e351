"""Files of a run: what it is, and the moments of each finished block.

    run.json                    what must agree for the run to be resumed
    blocks/samples-000000.npz   moments of a block of samples
    blocks/…

All else follows from them. Each file appears whole or not at all, so that a killed job leaves finished blocks and
nothing else.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from nnlod_fenics.errors import InputError
from nnlod_fenics.montecarlo.estimators import Moments
from nnlod_fenics.montecarlo.sampling import STAGES, BlockResult
from nnlod_fenics.runtime.files import read_json, write_json, write_npz
from nnlod_fenics.runtime.folder import Contents, output_folder
from nnlod_fenics.runtime.progress import tell

__all__ = ["CONTENTS", "Store"]

RUN = "run.json"
"""Name of the file that describes a run."""
BLOCKS = "blocks"
"""Name of the folder of its finished blocks."""
_BLOCK = rf"{BLOCKS}/({'|'.join(STAGES)}\d*)-\d{{6,}}\.npz"
RESULTS = ("montecarlo.json", "fields.npz", "fields.vtkhdf", "mean.png")
CONTENTS = Contents("a run", RUN, (RUN, _BLOCK, *RESULTS), parts=_BLOCK)
"""What the folder of a run holds."""


class Store:
    """The folder of a run.

    Args:
        folder: Where.
        identity: What must agree with a run that is resumed.
    """

    def __init__(self, folder: str | Path, identity: dict[str, Any]) -> None:
        self.folder, self.identity = Path(folder), identity
        self._stamp = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]

    @contextmanager
    def held(self, resume: bool, overwrite: bool) -> Iterator[None]:
        """Hold the folder for this job, ready for its blocks.

        Args:
            resume: Resume a run that is there.
            overwrite: Replace it.

        Raises:
            InputError: If it cannot be written to, holds something else, or is held by another job.
        """
        with output_folder(self.folder, CONTENTS, resume, overwrite):
            if (self.folder / RUN).exists():
                self._check_same(self.identity)
            else:
                write_json(self.folder / RUN, self.identity)
            yield

    @contextmanager
    def written(self) -> Iterator[None]:
        """While the folder is written to; errors are reported in one sentence.

        Raises:
            InputError: If a file cannot be written.
        """
        try:
            yield
        except (OSError, InputError) as error:
            cause = error if isinstance(error, OSError) else error.__cause__
            if not isinstance(cause, OSError):
                raise
            raise InputError(
                f"output {str(self.folder)!r} cannot be written ({cause.strerror or cause}); what is finished is kept, "
                f"run again with --resume when it can."
            ) from error

    def _check_same(self, identity: dict[str, Any]) -> None:
        found = read_json(self.folder / RUN)
        if not isinstance(found, dict):
            raise InputError(f"file {str(self.folder / RUN)!r} is damaged: it does not hold what a run is.")
        difference = _difference(found, identity)
        if difference is not None:
            key, there, given = difference
            raise InputError(
                f"output {str(self.folder)!r} holds another run and cannot be resumed: {key} is {there!r} there and "
                f"{given!r} now."
            )

    def save_block(self, kind: str, number: int, result: BlockResult, models: tuple[int, ...]) -> None:
        """Write the moments of a block.

        Args:
            kind: Which stream.
            number: Number of the block.
            result: Moments and times.
            models: Numbers of its models.

        Raises:
            InputError: If the file cannot be written.
        """
        moments = result.moments
        path, stamp = self._path(kind, number), self._stamp_of(kind, number)
        arrays: dict[str, Any] = {"mean": moments.mean, "central": moments.central, "seconds": result.seconds}
        arrays["models"] = models
        if result.warned is not None:
            arrays["warned"] = result.warned
        with self.written():
            write_npz(path, **arrays, count=moments.count, run=stamp)

    def load_block(
        self, kind: str, number: int, count: int, models: tuple[int, ...], quantities: int
    ) -> BlockResult | None:
        """Read the moments of a block.

        Args:
            kind: Which stream.
            number: Number of the block.
            count: Number of samples that it must be of.
            models: Numbers of the models needed; a block of more of them is reduced to these.
            quantities: Number of quantities.

        Returns:
            Moments and times; None if there is no such block.
        """
        path = self._path(kind, number)
        if not path.exists():
            return None
        try:
            with np.load(path, allow_pickle=False) as file:
                moments = Moments(int(file["count"]), file["mean"], file["central"])
                seconds, run = file["seconds"], str(file["run"]) if "run" in file else ""
                warned = int(file["warned"]) if "warned" in file else None
                there = tuple(file["models"].tolist()) if "models" in file else _former(kind, len(moments.mean))
            if len(seconds) == len(there):  # of an earlier version, where drawing counted with the last model
                seconds = np.append(seconds, 0.0)
            expected = Moments.of(np.zeros((1, len(there), quantities)))
            shapes = [moments.mean.shape, moments.central.shape, seconds.shape]
            if shapes != [expected.mean.shape, expected.central.shape, (len(there) + 1,)]:
                raise ValueError(shapes)
        except Exception:  # whatever a damaged file makes of the reader
            tell(f"{path.name} is damaged and will be computed again.")
            return None
        if run != self._stamp_of(kind, number):
            tell(f"{path.name} belongs to another run or place and will be computed again.")
            return None
        if moments.count != count or not set(models) <= set(there):
            return None
        result = BlockResult(moments, seconds, warned)
        return result if there == models else result.select([there.index(model) for model in models])

    def _stamp_of(self, kind: str, number: int) -> str:
        """What a block bears: of which run it is, and which of its blocks."""
        return f"{self._stamp} {kind} {number}"

    def _path(self, kind: str, number: int) -> Path:
        return self.folder / BLOCKS / f"{kind}-{number:06d}.npz"


def _former(kind: str, count: int) -> tuple[int, ...]:
    """Models of a block of an earlier version, which knew two."""
    return (1,) if kind == "low" else tuple(range(count))


def _difference(found: Any, given: Any, key: str = "") -> tuple[str, Any, Any] | None:
    """The first setting that differs, as ``section.key``, with its value there and now."""
    if isinstance(found, dict) and isinstance(given, dict):
        names = sorted(set(found) | set(given))
        parts = (_difference(found.get(n), given.get(n), f"{key}.{n}".lstrip(".")) for n in names)
        return next((part for part in parts if part is not None), None)
    return None if found == given else (key, found, given)
