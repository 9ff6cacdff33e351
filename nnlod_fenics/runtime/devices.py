"""Devices and threads of PyTorch."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from nnlod_fenics.errors import InputError
from nnlod_fenics.runtime.launcher import available_cores, local_ranks

__all__ = ["find_device", "one_thread", "sharing_cores"]


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
    except (RuntimeError, TypeError):
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
        torch.set_num_threads(min(before, max(available_cores() // local_ranks(), 1)))
    try:
        yield torch.get_num_threads()
    finally:
        torch.set_num_threads(before)


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute with one thread: the ranks share the cores, and the bits do not depend on their number."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
