"""Data-parallel training: the processes that ``torchrun``, ``mpirun`` or ``srun`` started, or one alone."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, distributed, nn

from nnlod_fenics.errors import InputError, MissingDependencyError
from nnlod_fenics.runtime.devices import find_device
from nnlod_fenics.runtime.launcher import launched

__all__ = ["Processes", "adopt_launcher", "processes"]


@dataclass(frozen=True)
class Processes:
    """This process among those that train together.

    Attributes:
        rank: Number of this process.
        count: Number of processes.
        device: Where this process computes.
    """

    rank: int
    count: int
    device: torch.device

    def share(self, part: Tensor) -> Tensor:
        """This process's part of the samples of a step."""
        return part[self.rank :: self.count]

    def reduce(self, value: Tensor) -> Tensor:
        """Sum of a tensor over all processes, in its place."""
        if self.count > 1:
            distributed.all_reduce(value)
        return value

    @contextmanager
    def agreeing(self) -> Iterator[None]:
        """Do something that can fail on some processes only; then all of them fail, and none waits for another."""
        error: Exception | None = None
        try:
            yield
        except Exception as caught:
            error = caught
        failed = self.reduce(torch.tensor(float(error is not None), device=self.device))
        reasons: list[str | None] = [None] * self.count
        if failed and self.count > 1:
            distributed.all_gather_object(reasons, None if error is None else str(error))
        if error is not None:
            raise error
        for rank, reason in enumerate(reasons):
            if reason is not None:
                raise InputError(f"process {rank} of this training failed: {reason}")

    def parallel(self, network: nn.Module) -> nn.Module:
        """The network with gradients averaged over all processes."""
        return nn.parallel.DistributedDataParallel(network) if self.count > 1 else network


def adopt_launcher() -> None:
    """Let processes that ``mpirun`` or ``srun`` started train together, as if ``torchrun`` had started them.

    Sets the variables of torchrun, where they are missing, from those of the launcher. MASTER_ADDR and MASTER_PORT are
    agreed on through MPI, unless they are set.

    Raises:
        MissingDependencyError: If mpi4py is needed for that and missing.
        InputError: If MPI knows nothing of the other processes.

    Note:
        Collective. For programs all of whose processes train; a process may also train alone in a job of others.
    """
    if "WORLD_SIZE" in os.environ:
        return
    rank, count, local = launched()
    if count == 1:
        return
    if not {"MASTER_ADDR", "MASTER_PORT"} <= os.environ.keys():
        os.environ |= _agreed_address(count)
    os.environ.setdefault("USE_LIBUV", "0")  # Debian's PyTorch has none
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(local), "WORLD_SIZE": str(count)}


def _agreed_address(count: int) -> dict[str, str]:
    """Where the processes of an MPI job meet: a free port of the first one's node."""
    try:
        from mpi4py import MPI
    except ImportError:
        raise MissingDependencyError(
            f"training with {count} processes that torchrun did not start needs mpi4py, or MASTER_ADDR and MASTER_PORT "
            "set to a host and a free port of the first of them."
        ) from None
    comm = MPI.COMM_WORLD
    if comm.size != count:
        raise InputError(
            f"the launcher started {count} processes but MPI sees {comm.size}; set MASTER_ADDR and MASTER_PORT to a "
            "host and a free port of the first process."
        )
    hosts = comm.allgather(socket.gethostname())
    host = "127.0.0.1" if len(set(hosts)) == 1 else hosts[0]
    port = 0
    if comm.rank == 0:
        with socket.socket() as free:
            free.bind(("", 0))
            port = free.getsockname()[1]
    return {"MASTER_ADDR": host, "MASTER_PORT": str(comm.bcast(port))}


@contextmanager
def processes(device: str) -> Iterator[Processes]:
    """Join the other processes of ``torchrun``, if there are any; see :func:`adopt_launcher` for other launchers.

    Args:
        device: ``"cpu"`` or ``"cuda"``; each process takes a GPU of its own.

    Yields:
        This process.

    Raises:
        InputError: If PyTorch has no such device.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield Processes(0, 1, find_device(device))
        return
    own = find_device(f"cuda:{os.environ['LOCAL_RANK']}" if device == "cuda" else device)
    if own.type == "cuda":
        torch.cuda.set_device(own)
    joined = not distributed.is_initialized()
    if joined:
        distributed.init_process_group("nccl" if own.type == "cuda" else "gloo")
    try:
        yield Processes(distributed.get_rank(), distributed.get_world_size(), own)
    finally:
        if joined:
            # right after a collective on tensors that nobody else holds this hung (gloo, PyTorch 2.6), probably since
            # the threads that it waits for need Python's lock to let go of them; after a pause it does not
            time.sleep(0.2)
            distributed.destroy_process_group()
