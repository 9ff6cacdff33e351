"""A job on some ranks: blocks of work handed out, signals obeyed, one thread a rank."""

from __future__ import annotations

import pickle
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, TypeVar

from nnlod_fenics.errors import InputError, MissingDependencyError, NumericalError
from nnlod_fenics.runtime.devices import one_thread
from nnlod_fenics.runtime.progress import tell
from nnlod_fenics.runtime.schedule import Schedule

__all__ = [
    "EXIT_RESUMABLE",
    "STOPPED",
    "Interrupted",
    "StopSignal",
    "is_first",
    "mpi_started",
    "on_first",
    "run_blocks",
    "world",
]

EXIT_RESUMABLE = 75  # EX_TEMPFAIL: run the same command with --resume
"""Exit code of a job that was stopped: run the same command again with ``--resume``."""

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
_FIRST_RANK_ENDS_ALL = 2.0  # seconds
STOPPED = "stopped"  # reason to halt: one of them; like any other, none that comes later takes its place
"""Reason to halt: a signal."""

T = TypeVar("T")


class Interrupted(Exception):
    """The run was stopped by a signal; what is finished is kept, and the run can be resumed."""


def world() -> Any:
    """MPI's COMM_WORLD; None without mpi4py. Collective.

    With several ranks it starts PETSc as well: the first import of petsc4py is collective, and a finite element
    solution on some ranks only would wait in it for the others.
    """
    try:
        from nnlod_fenics.compat import MPI
    except ImportError:
        return None
    if MPI.COMM_WORLD.size > 1:
        with suppress(ImportError):
            from petsc4py import PETSc  # noqa: F401
    return MPI.COMM_WORLD


def mpi_started() -> bool:
    """Whether this process has begun to use MPI."""
    module = sys.modules.get("mpi4py.MPI")
    return module is not None and bool(module.Is_initialized())


def is_first(comm: Any) -> bool:
    """Whether this is the rank that speaks for the job."""
    return comm is None or comm.rank == 0


def on_first(comm: Any, function: Callable[[], T]) -> T:
    """Let rank 0 do something that only it can do; collective.

    Args:
        comm: MPI communicator, or None.
        function: Called on rank 0 only.

    Returns:
        What it returned, on every rank.

    Raises:
        Exception: What it raised, on every rank, so that none waits for one that is gone.
    """
    value: Any = None
    error: Exception | None = None
    if is_first(comm):
        try:
            value = function()
        except Exception as raised:
            error = raised
    if comm is not None and comm.size > 1:
        sent = comm.bcast((value, error if error is None else _portable(error)))
        if not is_first(comm):
            value, error = sent
    if error is not None:
        raise error
    result: T = value
    return result


def _portable(error: Exception) -> Exception:
    """An error that can be sent to other ranks, as most can; else one that says the same."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


class StopSignal:
    """Whether this process has received a signal to stop."""

    def __init__(self) -> None:
        self._received = False

    def receive(self, number: int, frame: Any) -> None:
        """Signal handler; only notes the signal, since an exception may not be raised inside a library's call."""
        self._received = True

    def check(self) -> None:
        """Break off if a signal has come."""
        if self._received:
            raise Interrupted


def run_blocks(
    comm: Any,
    blocks: Sequence[int],
    work: Callable[[Schedule, StopSignal], None],
    report: Callable[[int], None],
    receive: Callable[[Any], None] | None = None,
) -> str | None:
    """Do blocks of work together; collective.

    Args:
        comm: MPI communicator, or None.
        blocks: Their numbers; counts on rank 0.
        work: Takes blocks from the schedule and does them, on each rank.
        report: Told the sum of all finished steps, on rank 0.
        receive: Told the results of finished blocks, on rank 0.

    Returns:
        Why the work was halted, if it was, on every rank.

    Note:
        Any error on one rank of several ends the whole job at once, with that rank's message.
    """
    size = 1 if comm is None else comm.size
    if is_first(comm) and size > len(blocks) > 0:
        tell(f"{size - len(blocks)} of {size} ranks stay idle: there are only {len(blocks)} blocks to compute.")
    with ExitStack() as stack:
        stop = stack.enter_context(_stop_on_signals())
        stack.enter_context(one_thread())
        if not is_first(comm):  # one warning is enough
            stack.enter_context(warnings.catch_warnings(action="ignore"))
        schedule = Schedule(comm, blocks, report, receive)
        try:
            work(schedule, stop)
        except Exception as error:
            if size == 1:
                raise
            _abort(comm, error)
        return schedule.close()


def _abort(comm: Any, error: Exception) -> None:
    """End the whole job with the message of this rank."""
    if not is_first(comm):
        time.sleep(_FIRST_RANK_ENDS_ALL)  # if it fails as well
    known = isinstance(error, (InputError, MissingDependencyError, NumericalError))
    if not known:
        traceback.print_exception(error)
    reason = str(error).rstrip(".") if known else "see above"
    tell(f"rank {comm.rank} failed: {reason}. What is finished is kept; resume the job with --resume.")
    time.sleep(0.2)  # for the message to get through before mpirun ends all ranks
    comm.Abort(1)


@contextmanager
def _stop_on_signals() -> Iterator[StopSignal]:
    """Break off computations on SIGTERM, SIGINT and SIGUSR1, but let a block be written to its end."""
    stop = StopSignal()
    if threading.current_thread() is not threading.main_thread():  # handlers can be set in the main thread only
        yield stop
        return
    previous = {number: signal.signal(number, stop.receive) for number in _SIGNALS}
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
