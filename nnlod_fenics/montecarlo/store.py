"""Files of a run: what it is, and the moments of each finished block.

    run.json                    what must agree for the run to be gone on with
    blocks/samples-000000.npz   moments of a block of samples
    blocks/…

All else follows from them. Each file appears whole or not at all, so that a killed job leaves finished blocks and
nothing else.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from nnlod_fenics.dataset.folder import LOCK, locked
from nnlod_fenics.errors import InputError
from nnlod_fenics.montecarlo.estimators import Moments
from nnlod_fenics.montecarlo.sampling import STAGES, BlockResult
from nnlod_fenics.output.files import replacing
from nnlod_fenics.progress import tell
from nnlod_fenics.surrogate.storage import read_json, write_json

__all__ = ["Store"]

RUN, BLOCKS = "run.json", "blocks"
RESULTS = ("montecarlo.json", "fields.npz", "fields.vtkhdf", "mean.png")
_TEMPORARY = re.compile(rf"\.(run|montecarlo|fields|mean|({'|'.join(STAGES)})-\d{{6,}})-.*")
_BLOCK = re.compile(rf"({'|'.join(STAGES)})-\d{{6,}}\.npz")


class Store:
    """The folder of a run.

    Args:
        folder: Where.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    @contextmanager
    def held(self, identity: dict[str, Any], resume: bool, overwrite: bool) -> Iterator[None]:
        """Hold the folder for this job, ready for its blocks.

        Args:
            identity: What must agree with a run that is there.
            resume: Go on with it.
            overwrite: Replace it.

        Raises:
            InputError: If it cannot be written to, holds something else, or is held by another job.
        """
        with self.written():
            if self.folder.exists() and not self.folder.is_dir():
                raise InputError(f"output {str(self.folder)!r} cannot be written: it is not a folder.")
        with locked(self.folder):
            with self.written():
                self._prepare(identity, resume, overwrite)
            yield

    @contextmanager
    def written(self) -> Iterator[None]:
        """While the folder is written to; what goes wrong is told in one sentence.

        Raises:
            InputError: If a file cannot be written.
        """
        try:
            yield
        except OSError as error:
            raise InputError(
                f"output {str(self.folder)!r} cannot be written ({error.strerror or error}); what is finished is kept, "
                f"run again with --resume when it can."
            ) from error

    def _prepare(self, identity: dict[str, Any], resume: bool, overwrite: bool) -> None:
        self._check_ours()
        if (self.folder / RUN).exists():
            if resume:
                return self._check_same(identity)
            if not overwrite:
                raise InputError(
                    f"output {str(self.folder)!r} already holds a run; go on with --resume or replace it with "
                    f"--overwrite."
                )
        for name in (RUN, *RESULTS):
            (self.folder / name).unlink(missing_ok=True)
        if (self.folder / BLOCKS).exists():
            shutil.rmtree(self.folder / BLOCKS)
        write_json(self.folder / RUN, identity)

    def _check_ours(self) -> None:
        """Refuse a folder with other files in it; remove what a killed job was writing."""
        blocks = self.folder / BLOCKS
        entries = [*self.folder.iterdir(), *(blocks.iterdir() if blocks.is_dir() else ())]
        for entry in entries:
            inside = entry.parent == blocks
            known = _BLOCK.fullmatch(entry.name) if inside else entry.name in (RUN, LOCK, BLOCKS, *RESULTS)
            if not known and not _TEMPORARY.fullmatch(entry.name):
                raise InputError(
                    f"output {str(self.folder)!r} is a folder with other files in it "
                    f"({entry.relative_to(self.folder)}); choose a new one."
                )
        for entry in entries:
            if _TEMPORARY.fullmatch(entry.name):
                entry.unlink()

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

    def save_block(self, kind: str, number: int, result: BlockResult) -> None:
        """Write the moments of a block.

        Raises:
            InputError: If the file cannot be written.
        """
        moments = result.moments
        with self.written(), replacing(self._path(kind, number)) as temporary:
            np.savez(temporary, count=moments.count, mean=moments.mean, central=moments.central, seconds=result.seconds)

    def load_block(self, kind: str, number: int, count: int, models: int, quantities: int) -> BlockResult | None:
        """Read the moments of a block.

        Args:
            kind: Which stream.
            number: Number of the block.
            count: Number of samples that it must be of.
            models: Number of models needed; a block of more of them is reduced to the first one.
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
                seconds = file["seconds"]
            there = len(moments.mean)
            expected = Moments.of(np.zeros((1, there, quantities)))
            shapes = [moments.mean.shape, moments.central.shape, seconds.shape]
            if shapes != [expected.mean.shape, expected.central.shape, (there,)]:
                raise ValueError(shapes)
        except Exception:  # whatever a damaged file makes of the reader
            tell(f"{path.name} is damaged and will be computed again.")
            return None
        if moments.count != count or there < models:
            return None
        return BlockResult(moments, seconds) if there == models else BlockResult(moments.first(), seconds[:1])

    def _path(self, kind: str, number: int) -> Path:
        return self.folder / BLOCKS / f"{kind}-{number:06d}.npz"


def _difference(found: Any, given: Any, key: str = "") -> tuple[str, Any, Any] | None:
    """The first setting that differs, as ``section.key``, with its value there and now."""
    if isinstance(found, dict) and isinstance(given, dict):
        names = sorted(set(found) | set(given))
        parts = (_difference(found.get(n), given.get(n), f"{key}.{n}".lstrip(".")) for n in names)
        return next((part for part in parts if part is not None), None)
    return None if found == given else (key, found, given)
