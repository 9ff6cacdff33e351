"""Blocks of work, handed out one by one to the ranks of an MPI job.

Rank 0 hands out and computes as well: a thread of its answers the others. The thread looks for messages every
two milliseconds and sleeps in between, which costs less than a percent of a core; a rank waits that long for
its next block, and a blocking receive would keep a core busy instead. Waiting ranks hold no lock and no
window, so nothing depends on how far MPI proceeds while rank 0 computes.
"""

from __future__ import annotations

import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

__all__ = ["Schedule"]

_PAUSE = 0.002  # seconds between two looks for messages


class _Note(NamedTuple):
    """What a rank tells when it asks for its next block."""

    steps: int
    halt: str | None
    results: list[Any]


class _Desk:
    """Rank 0's pile of blocks."""

    def __init__(
        self, blocks: Sequence[int], report: Callable[[int], None], receive: Callable[[Any], None] | None
    ) -> None:
        self._blocks, self._report, self._receive, self._steps = deque(blocks), report, receive, 0
        self._lock = threading.Lock()
        self.halt: str | None = None

    def turn(self, note: _Note) -> int | None:
        """Take a note; the next block, if there is one."""
        with self._lock:
            if note.halt is not None:
                self.halt = self.halt or note.halt
                self._blocks.clear()
            if self._receive is not None:
                for result in note.results:
                    self._receive(result)
            if note.steps:
                self._steps += note.steps
                self._report(self._steps)
            return self._blocks.popleft() if self._blocks else None


class Schedule:
    """The blocks of this rank; iterate over it on every rank, then call :meth:`close`.

    Args:
        comm: MPI communicator, or None for one process without MPI.
        blocks: What there is to do; counts on rank 0.
        report: Told the sum of all finished steps, on rank 0, possibly by another thread.
        receive: Told the result of each finished block that has one, on rank 0, possibly by another thread.

    Note:
        Making and closing are collective. If MPI was started without support for threads, rank 0 of several
        only hands out.
    """

    def __init__(
        self,
        comm: Any,
        blocks: Sequence[int],
        report: Callable[[int], None],
        receive: Callable[[Any], None] | None = None,
    ) -> None:
        self._comm: Any = None if comm is None or comm.size == 1 else comm.Dup()
        self._desk = _Desk(blocks, report, receive) if comm is None or comm.rank == 0 else None
        self._steps = 0
        self._results: list[Any] = []
        self._server: threading.Thread | None = None
        self._only_serves = False
        if self._comm is not None and self._desk is not None:
            from mpi4py import MPI

            self._only_serves = MPI.Query_thread() < MPI.THREAD_MULTIPLE
            if not self._only_serves:
                self._server = threading.Thread(target=self._serve_or_abort, name="schedule", daemon=True)
                self._server.start()

    def __iter__(self) -> Iterator[int]:
        if self._only_serves:
            self._serve()
            return
        while (block := self._turn(None)) is not None:
            yield block

    def finished(self, steps: int, result: Any = None) -> None:
        """Say that a block with some steps is finished, and with what result."""
        self._steps += steps
        if result is not None:
            self._results.append(result)

    def halt(self, reason: str) -> None:
        """Let no rank start another block; do not ask for one after that."""
        self._turn(reason)

    def close(self) -> str | None:
        """Wait for all ranks; why the work was halted, if it was, on every rank."""
        if self._comm is None:
            return None if self._desk is None else self._desk.halt
        if self._server is not None:
            self._server.join()
        waiting = self._comm.Ibarrier()
        while not waiting.Test():
            time.sleep(_PAUSE)
        reason: str | None = self._comm.bcast(None if self._desk is None else self._desk.halt)
        self._comm.Free()
        return reason

    def _turn(self, halt: str | None) -> int | None:
        note = _Note(self._steps, halt, self._results)
        self._steps, self._results = 0, []
        if self._desk is not None:
            return self._desk.turn(note)
        self._comm.send(note, 0)
        block: int | None = self._comm.recv(source=0)
        return block

    def _serve(self) -> None:
        """Answer the other ranks until each has been told that nothing is left for it."""
        from mpi4py import MPI

        assert self._desk is not None
        status, waiting = MPI.Status(), self._comm.size - 1
        while waiting:
            message = self._comm.improbe(status=status)
            if message is None:
                time.sleep(_PAUSE)
                continue
            block = self._desk.turn(_Note(*message.recv()))
            self._comm.send(block, status.source)
            waiting -= block is None

    def _serve_or_abort(self) -> None:
        try:
            self._serve()
        except BaseException:
            traceback.print_exc()
            self._comm.Abort(1)
