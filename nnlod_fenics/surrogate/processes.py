"""Data-parallel training: the processes that ``torchrun`` started, or one alone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, distributed, nn

from nnlod_fenics.errors import InputError

__all__ = ["Processes", "find_device", "processes", "sharing_cores"]

_LOCAL_PROCESSES = ("LOCAL_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_SIZE", "MPI_LOCALNRANKS", "SLURM_NTASKS_PER_NODE")


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

    def barrier(self) -> None:
        """Wait for all processes."""
        if self.count > 1:
            distributed.barrier()

    def parallel(self, network: nn.Module) -> nn.Module:
        """The network with gradients averaged over all processes."""
        return nn.parallel.DistributedDataParallel(network) if self.count > 1 else network


def find_device(name: str, setting: str = "training.device") -> torch.device:
    """The device of a setting.

    Args:
        name: ``"cpu"``, ``"cuda"`` or ``"cuda:N"``.
        setting: What an error calls it.

    Returns:
        The device.

    Raises:
        InputError: If PyTorch has no such device.
    """
    try:
        device = torch.device(name)
        found = device.type == "cpu" or (device.type == "cuda" and (device.index or 0) < torch.cuda.device_count())
    except RuntimeError:
        found = False
    if not found:
        raise InputError(f"{setting} must be 'cpu', or 'cuda' where PyTorch finds one, got {name!r}.")
    return device


@contextmanager
def sharing_cores() -> Iterator[int]:
    """Compute with this process's share of the node's cores, unless OMP_NUM_THREADS says how many threads to take.

    PyTorch would start a thread for each core in every process that torchrun or mpirun started.

    Yields:
        Threads that PyTorch uses.
    """
    before = torch.get_num_threads()
    if "OMP_NUM_THREADS" not in os.environ:
        neighbors = next((int(os.environ[name]) for name in _LOCAL_PROCESSES if name in os.environ), 1)
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        torch.set_num_threads(min(before, max(cores // neighbors, 1)))
    try:
        yield torch.get_num_threads()
    finally:
        torch.set_num_threads(before)


@contextmanager
def processes(device: str) -> Iterator[Processes]:
    """Join the other processes of ``torchrun``, if there are any.

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
            distributed.destroy_process_group()
