"""Threads for batches of small matrices: several batches at a time, each with one thread of BLAS."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

__all__ = ["spread_over_threads"]

Item = TypeVar("Item")


def spread_over_threads(work: Callable[[Item], None], items: Sequence[Item], device: torch.device) -> None:
    """Do some work for each of many items.

    On a CPU as many at a time as PyTorch may use threads (``torch.get_num_threads()``): for matrices of this
    size BLAS gains little from threads of its own. The bits of the results do not depend on their number.

    Args:
        work: Called for each item; independent of the others.
        items: The items.
        device: Where the work computes.
    """
    threads = min(torch.get_num_threads(), len(items))
    if device.type != "cpu" or threads < 2:
        for item in items:
            work(item)
        return
    allowed = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            for future in [pool.submit(work, item) for item in items]:
                future.result()
    finally:
        torch.set_num_threads(allowed)
