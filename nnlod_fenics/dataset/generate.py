"""Generation of datasets: random fields and their local matrices, in parallel under MPI.

Small blocks of realizations are handed out one by one, so that no rank waits for a share of its own and none
holds more than one block. Realization k has the same bits for every number of ranks, every block size and
after any number of interruptions: it depends on the seed and on k only, and each rank computes with one
thread, whatever the number of ranks.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nnlod_fenics.config import Config
from nnlod_fenics.dataset.folder import held, prepare
from nnlod_fenics.dataset.layout import PARAMETERS, Block, Header, software_versions, write_block
from nnlod_fenics.dataset.schedule import Schedule
from nnlod_fenics.errors import InputError, NumericalError
from nnlod_fenics.fields import FieldLaw
from nnlod_fenics.lod.local import local_matrices
from nnlod_fenics.progress import show_progress, tell

__all__ = ["EXIT_RESUMABLE", "Interrupted", "generate"]

EXIT_RESUMABLE = 75  # EX_TEMPFAIL: run the same command with --resume

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
_STOPPED = ""  # reason to halt: one of them


class Interrupted(Exception):
    """The run was told to stop; what is finished is kept, and the run can be resumed."""


def generate(
    config: Config, output: str | Path, comm: Any = None, resume: bool = False, overwrite: bool = False
) -> Path:
    """Generate a dataset; collective.

    Args:
        config: Settings of the run.
        output: Folder of the dataset.
        comm: MPI communicator; COMM_WORLD (or none, without mpi4py) if None.
        resume: Go on with an interrupted run of the same settings, if there is one.
        overwrite: Replace a dataset that is there.

    Returns:
        The folder.

    Raises:
        InputError: If the settings or the folder do not fit, or the folder cannot be written to any more; on
            every rank. Finished realizations are kept.
        Interrupted: If the run was told to stop (SIGTERM, SIGINT, SIGUSR1) before it was complete; on every
            rank. Blocks that were being computed are dropped, finished ones kept.

    Note:
        Any other error on one rank ends the whole job at once, with that rank's traceback.
    """
    comm = _world() if comm is None else comm
    first = comm is None or comm.rank == 0
    folder = Path(output)
    header = Header(
        config.make_grid(), config.resolved(), config.dataset.realizations, config.dataset.block, software_versions()
    )
    with ExitStack() as stack:
        blocks: list[int] = []
        problem = None
        if first:
            try:
                stack.enter_context(held(folder, resume, overwrite))
                blocks = prepare(folder, header, resume)
            except InputError as error:
                problem = str(error)
        if comm is not None:
            problem = comm.bcast(problem)
        if problem is not None:
            raise InputError(problem)
        reason = _run(header, config, folder, comm, blocks)
    if reason == _STOPPED:
        raise Interrupted(f"stopped before the end; run again with --resume to finish {str(folder)!r}.")
    if reason is not None:
        raise InputError(reason)
    return folder


def _world() -> Any:
    try:
        from mpi4py import MPI
    except ImportError:
        return None
    return MPI.COMM_WORLD


def _run(header: Header, config: Config, folder: Path, comm: Any, blocks: list[int]) -> str | None:
    """Compute the missing blocks together; why that was halted, if it was."""
    first, size = comm is None or comm.rank == 0, 1 if comm is None else comm.size
    if first and size > len(blocks) > 0:
        tell(f"{size - len(blocks)} of {size} ranks stay idle: there are only {len(blocks)} blocks to compute.")
    total = sum(len(header.members(block)) for block in blocks)
    with ExitStack() as stack:
        stop = stack.enter_context(_stop_on_signals())
        stack.enter_context(_one_thread())
        report = stack.enter_context(show_progress("generate", total, first))
        if not first:  # one warning is enough
            stack.enter_context(warnings.catch_warnings(action="ignore"))
        schedule = Schedule(comm, blocks, report)
        try:
            _take_blocks(header, config.make_field(), folder, schedule, stop)
        except Exception:
            if size == 1:
                raise
            traceback.print_exc()
            print(f"nnlod: rank {comm.rank} failed, the job ends; go on with --resume.", file=sys.stderr, flush=True)
            time.sleep(0.2)  # for the message to get through before mpirun ends all ranks
            comm.Abort(1)
        return schedule.close()


def _take_blocks(header: Header, law: FieldLaw, folder: Path, schedule: Schedule, stop: _Stop) -> None:
    for block in schedule:
        try:
            content = _compute(header, law, block, stop)
        except Interrupted:
            return schedule.halt(_STOPPED)
        try:
            write_block(folder, header, block, content)
        except (OSError, InputError) as error:
            detail = error.strerror if isinstance(error, OSError) else str(error).rstrip(".")
            return schedule.halt(
                f"output {str(folder)!r} could not be written ({detail}); what is finished is kept and readable, make "
                f"room and run again with --resume."
            )
        schedule.finished(len(header.members(block)))


def _compute(header: Header, law: FieldLaw, block: int, stop: _Stop) -> Block:
    """Compute the realizations of a block one by one; a signal drops the block before the next of them."""
    grid, settings = header.grid, header.config["dataset"]
    Z, S, parameters, origin = [], [], [], []
    for k in header.members(block):
        stop.check()
        sample = law.sample(settings["seed"], k)
        Z.append(sample.Z.astype(header.dtype))  # S belongs to the field as stored
        S.append(local_matrices(grid, np.exp(Z[-1].astype(np.float64)), method=settings["method"]))
        if not np.isfinite(S[-1]).all():
            raise NumericalError(f"local matrices of realization {k} (seed {settings['seed']}) are not finite.")
        parameters.append([sample.parameters.get(name, np.nan) for name in PARAMETERS])
        origin.append([settings["seed"], k])
    stop.check()
    return Block(np.stack(Z), np.stack(S), np.array(parameters), np.array(origin, dtype=np.int64))


class _Stop:
    """Whether a signal has told this process to stop."""

    def __init__(self) -> None:
        self._received = False

    def receive(self, number: int, frame: Any) -> None:
        """Signal handler; only notes the signal, since an exception may not be raised inside a library's call."""
        self._received = True

    def check(self) -> None:
        """Break off if a signal has come."""
        if self._received:
            raise Interrupted


@contextmanager
def _stop_on_signals() -> Iterator[_Stop]:
    """Break off computations on SIGTERM, SIGINT and SIGUSR1, but let a block be written to its end."""
    stop = _Stop()
    if threading.current_thread() is not threading.main_thread():  # handlers can be set in the main thread only
        yield stop
        return
    previous = {number: signal.signal(number, stop.receive) for number in _SIGNALS}
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Compute with one thread: the ranks share the cores, and the bits do not depend on their number."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
