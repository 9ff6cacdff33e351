"""Files of a run: what it is, its plan, and the moments of each finished block.

    run.json                    what must agree for the run to be gone on with
    plan.npz                    allocation from the pilot run
    blocks/samples-000000.npz   moments of a block of samples
    blocks/…

Each file appears whole or not at all, so that a killed job leaves finished blocks and nothing else.
"""

from __future__ import annotations

import re
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from nnlod_fenics.dataset.folder import LOCK, locked
from nnlod_fenics.errors import InputError
from nnlod_fenics.montecarlo.allocation import Plan
from nnlod_fenics.montecarlo.estimators import Moments
from nnlod_fenics.montecarlo.sampling import BlockResult
from nnlod_fenics.output.files import replacing
from nnlod_fenics.progress import tell
from nnlod_fenics.surrogate.storage import read_json, write_json

__all__ = ["Store"]

RUN, PLAN = "run.json", "plan.npz"
RESULTS = ("montecarlo.json", "fields.npz", "fields.vtkhdf", "mean.png")
_TEMPORARY = re.compile(r"\.(run|plan|montecarlo|fields|mean|samples|pilot|low)-.*")


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
        if self.folder.exists() and not self.folder.is_dir():
            raise InputError(f"output {str(self.folder)!r} cannot be written: it is not a folder.")
        with locked(self.folder):
            self._prepare(identity, resume, overwrite)
            yield

    def _prepare(self, identity: dict[str, Any], resume: bool, overwrite: bool) -> None:
        ours = {RUN, PLAN, LOCK, "blocks", *RESULTS}
        for entry in self.folder.iterdir():
            if _TEMPORARY.fullmatch(entry.name):
                entry.unlink()
            elif entry.name not in ours:
                raise InputError(f"output {str(self.folder)!r} is a folder with other files in it ({entry.name}).")
        if (self.folder / RUN).exists():
            if resume:
                return self._check_same(identity)
            if not overwrite:
                raise InputError(
                    f"output {str(self.folder)!r} already holds a run; go on with --resume or replace it with "
                    f"--overwrite."
                )
        for name in (RUN, PLAN, *RESULTS):
            (self.folder / name).unlink(missing_ok=True)
        if (self.folder / "blocks").exists():
            shutil.rmtree(self.folder / "blocks")
        write_json(self.folder / RUN, identity)

    def _check_same(self, identity: dict[str, Any]) -> None:
        found = read_json(self.folder / RUN)
        for key in sorted(set(identity) | set(found)):
            if identity.get(key) != found.get(key):
                raise InputError(
                    f"output {str(self.folder)!r} holds a run with another {key} ({found.get(key)!r}, now "
                    f"{identity.get(key)!r}); it cannot be resumed."
                )

    def save_plan(self, plan: Plan) -> None:
        """Write the allocation."""
        with replacing(self.folder / PLAN) as temporary:
            np.savez(temporary, **{f.name: getattr(plan, f.name) for f in fields(Plan)})

    def load_plan(self) -> Plan | None:
        """Read the allocation, if there is one."""
        if not (self.folder / PLAN).exists():
            return None
        with np.load(self.folder / PLAN, allow_pickle=False) as file:
            values: dict[str, Any] = {name: v if v.ndim else float(v) for name, v in file.items()}
        return Plan(**values)

    def save_block(self, kind: str, number: int, result: BlockResult) -> None:
        """Write the moments of a block."""
        moments = result.moments
        with replacing(self._path(kind, number)) as temporary:
            np.savez(
                temporary,
                count=moments.count,
                mean=moments.mean,
                central=moments.central,
                seconds=result.seconds,
            )

    def load_block(self, kind: str, number: int, count: int) -> BlockResult | None:
        """Read the moments of a block of some samples; None if there are none, or of another number."""
        path = self._path(kind, number)
        if not path.exists():
            return None
        try:
            with np.load(path, allow_pickle=False) as file:
                moments = Moments(int(file["count"]), file["mean"], file["central"])
                result = BlockResult(moments, file["seconds"])
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            tell(f"{path.name} is damaged and will be computed again.")
            return None
        return result if moments.count == count else None

    def _path(self, kind: str, number: int) -> Path:
        return self.folder / "blocks" / f"{kind}-{number:06d}.npz"
