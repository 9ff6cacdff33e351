"""Generation of datasets: random fields and their local matrices, in parallel under MPI.

Blocks of realizations are handed out by a shared counter, so that no rank waits for a share of its own and
none holds more than one block. Realization k has the same bits for every number of ranks, every block size
and after any number of interruptions: it depends on the seed and on k only, and each rank computes with one
thread, whatever the number of ranks.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nnlod_fenics.config import Config
from nnlod_fenics.dataset.layout import (
    INDEX,
    PARAMETERS,
    Block,
    Header,
    block_path,
    create_index,
    read_header,
    software_versions,
    write_block,
)
from nnlod_fenics.errors import InputError
from nnlod_fenics.fields import FieldLaw
from nnlod_fenics.lod.local import local_matrices
from nnlod_fenics.progress import Progress, show_progress

__all__ = ["EXIT_RESUMABLE", "Interrupted", "generate"]

EXIT_RESUMABLE = 75  # EX_TEMPFAIL: run the same command with --resume


class Interrupted(Exception):
    """The run was told to stop; what is finished is kept, and the run can be resumed."""


class _Serial:
    """The part of an MPI communicator that is used, for one process without MPI."""

    rank, size = 0, 1

    def bcast(self, value: Any) -> Any:
        return value

    def allreduce(self, value: int) -> int:
        return value

    def Abort(self, code: int) -> None:
        sys.exit(code)


def _world() -> Any:
    try:
        from mpi4py import MPI
    except ImportError:
        return _Serial()
    return MPI.COMM_WORLD


class _Counter:
    """A number shared by all ranks that each of them can take and increase."""

    def __init__(self, comm: Any) -> None:
        self._comm, self._next = comm, 0
        self._window: Any = None
        if comm.size > 1:
            from mpi4py import MPI

            self._one, self._value = np.ones(1, dtype=np.int64), np.zeros(1, dtype=np.int64)
            # allocated by MPI: within a node it is then shared memory, which needs no help from a busy rank 0
            self._window = MPI.Win.Allocate(8 if comm.rank == 0 else 0, 8, comm=comm)
            if comm.rank == 0:
                np.frombuffer(self._window.tomemory(), dtype=np.int64)[:] = 0
            comm.Barrier()

    def take(self) -> int:
        """The next number."""
        if self._window is None:
            self._next += 1
            return self._next - 1
        self._window.Lock(0)
        self._window.Fetch_and_op(self._one, self._value, 0)
        self._window.Unlock(0)
        return int(self._value[0])

    def free(self) -> None:
        """Release the window; collective."""
        if self._window is not None:
            self._window.Free()


@contextmanager
def _stop_on_signals() -> Iterator[list[int]]:
    """Collect SIGTERM and SIGINT instead of dying in the middle of a block."""
    received: list[int] = []
    previous = {s: signal.signal(s, lambda number, _: received.append(number)) for s in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _compute(header: Header, law: FieldLaw, block: int, stop: list[int]) -> Block:
    """Compute the realizations of a block one by one."""
    grid, settings = header.grid, header.config["dataset"]
    Z, S, parameters = [], [], []
    for k in header.members(block):
        if stop:
            raise Interrupted
        sample = law.sample(settings["seed"], k)
        Z.append(sample.Z)
        S.append(local_matrices(grid, np.exp(sample.Z), method=settings["method"]))
        parameters.append([sample.parameters.get(name, np.nan) for name in PARAMETERS])
    return Block(np.stack(Z), np.stack(S), np.array(parameters))


def _prepare(config: Config, folder: Path, resume: bool, overwrite: bool) -> Header:
    """Check the output folder and write the index; on rank 0."""
    resolved = config.resolved()
    header = Header(
        config.make_grid(), resolved, config.dataset.realizations, config.dataset.block, software_versions()
    )
    if (folder / INDEX).exists():
        if overwrite:
            shutil.rmtree(folder / "blocks", ignore_errors=True)
            (folder / INDEX).unlink()
        elif not resume:
            raise InputError(
                f"output {str(folder)!r} already holds a dataset; go on with --resume or replace it with --overwrite."
            )
        else:
            found = read_header(folder).config
            different = [
                f"{section}.{key}"
                for section in ("grid", "field", "dataset")
                for key in sorted(set(resolved[section]) | set(found[section]))
                if resolved[section].get(key) != found[section].get(key)
            ]
            if different:
                raise InputError(
                    f"output {str(folder)!r} holds a run with another {different[0]}; it cannot be resumed."
                )
            return header
    elif folder.exists() and any(entry.name != ".lock" for entry in folder.iterdir()):
        raise InputError(f"output {str(folder)!r} is a folder with other files in it; choose a new one.")
    create_index(folder, header)
    (folder / "blocks").mkdir(exist_ok=True)
    return header


def _lock(folder: Path) -> int:
    """Hold the output folder for this job; the lock goes with the process, however it ends."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise InputError(f"output {str(folder)!r} cannot be written: {error.strerror}.") from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        raise InputError(f"output {str(folder)!r} is in use by another job.") from None
    return handle


def generate(
    config: Config, output: str | Path, comm: Any = None, resume: bool = False, overwrite: bool = False
) -> Path:
    """Generate a dataset; collective.

    Args:
        config: Settings of the run.
        output: Folder of the dataset.
        comm: MPI communicator; COMM_WORLD (or none, without mpi4py) if None.
        resume: Go on with an interrupted run of the same settings.
        overwrite: Replace what is there.

    Returns:
        The folder.

    Raises:
        InputError: If the settings or the folder do not fit; on every rank.
        Interrupted: If the run was told to stop (SIGTERM, SIGINT) before it was complete.

    Note:
        An unexpected error on one rank ends the whole job at once.
    """
    comm = _world() if comm is None else comm
    folder = Path(output)
    torch.set_num_threads(1)  # parallel over ranks; with one thread the bits do not depend on their number
    handle = -1
    problem: InputError | None = None
    header: Header | None = None
    if comm.rank == 0:
        try:
            handle = _lock(folder)
            header = _prepare(config, folder, resume, overwrite)
        except InputError as error:
            problem = error
            if handle >= 0:
                os.close(handle)
    problem, header = comm.bcast((problem, header))
    if problem is not None or header is None:
        raise problem or InputError("output could not be prepared.")
    try:
        complete = _work(header, config.make_field(), folder, comm)
    finally:
        if handle >= 0:
            os.close(handle)
    if not complete:
        raise Interrupted(f"stopped before the end; run again with --resume to finish {str(folder)!r}.")
    return folder


def _work(header: Header, law: FieldLaw, folder: Path, comm: Any) -> bool:
    """Take blocks until there are none; whether all are finished."""
    counter = _Counter(comm)
    if comm.rank == 0 and comm.size > header.num_blocks:
        idle = comm.size - header.num_blocks
        print(f"{idle} of {comm.size} ranks stay idle: there are only {header.num_blocks} blocks.", file=sys.stderr)
    interrupted = 0
    with _stop_on_signals() as stop, show_progress("generate", header.num_blocks, comm.rank == 0) as report:
        try:
            _take_blocks(header, law, folder, counter, stop, report)
        except Interrupted:
            interrupted = 1
        except Exception as error:
            if comm.size == 1:
                raise _explain(error, folder) from error
            traceback.print_exc()
            print(f"rank {comm.rank}: {_explain(error, folder)}", file=sys.stderr, flush=True)
            comm.Abort(1)
    interrupted = comm.allreduce(interrupted)
    counter.free()
    return not interrupted


def _take_blocks(
    header: Header, law: FieldLaw, folder: Path, counter: _Counter, stop: list[int], report: Progress
) -> None:
    while (block := counter.take()) < header.num_blocks:
        if stop:
            raise Interrupted
        if not block_path(folder, block).exists():
            write_block(folder, header, block, _compute(header, law, block, stop))
        report(block + 1)


def _explain(error: Exception, folder: Path) -> Exception:
    if isinstance(error, OSError):
        return InputError(
            f"output {str(folder)!r} could not be written ({error.strerror or error}); what is finished is kept, "
            f"run again with --resume after making room."
        )
    return error
