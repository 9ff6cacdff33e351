"""How much memory this process may still take: by the machine, by control groups, by its own limits.

In a container or under a batch system a process is killed long before the machine is out of memory, and the ranks
of a node share what there is.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator, Mapping
from pathlib import Path

from nnlod_fenics.runtime.launcher import local_ranks

__all__ = ["free_bytes"]


def free_bytes(root: Path = Path("/"), environment: Mapping[str, str] | None = None) -> int:
    """Memory in bytes that this process may still take.

    Args:
        root: Where ``proc`` and the mount points of control groups are found.
        environment: Environment variables, from which the ranks on this node are known; those of this process if None.

    Returns:
        The least of this rank's share of what the machine and its control groups (version 1 or 2, with those
        above them) have left, and what its own address space may still grow by; zero at least.
    """
    shared = [_machine(root), *_groups(root)]
    own = _address_space(root)
    found = [min(shared) // local_ranks(environment), *([] if own is None else [own])]
    return max(min(found), 0)


def _machine(root: Path) -> int:
    for line in _lines(root / "proc/meminfo"):
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")  # no Linux


def _address_space(root: Path) -> int | None:
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit == resource.RLIM_INFINITY:
        return None
    taken = sum(int(line.split()[0]) for line in _lines(root / "proc/self/statm"))
    return limit - taken * os.sysconf("SC_PAGE_SIZE")


def _groups(root: Path) -> Iterator[int]:
    """What each control group of this process with a limit has left."""
    own = dict(_own_groups(root))
    for line in _lines(root / "proc/self/mountinfo"):
        fields, _, details = line.partition(" - ")
        kind, _, options = details.split()[:3]
        version = {"cgroup2": 2, "cgroup": 1}.get(kind)
        if version not in own or (version == 1 and "memory" not in options.split(",")):
            continue
        inside, mount = fields.split()[3:5]  # a container sees its group, or one above, at the mount point
        folder = Path(own[version])
        below = folder.relative_to(inside) if folder.is_relative_to(inside) else Path()
        top = root / mount.lstrip("/")
        for group in (top / below, *(top / parent for parent in below.parents)):
            yield from _group(group, version)


def _own_groups(root: Path) -> Iterator[tuple[int, str]]:
    """Version and path of the control groups of this process that count memory."""
    for line in _lines(root / "proc/self/cgroup"):
        number, controllers, path = line.split(":", 2)
        if number == "0" and not controllers:
            yield 2, path
        elif "memory" in controllers.split(","):
            yield 1, path


def _group(folder: Path, version: int) -> Iterator[int]:
    limit, used, cache = {
        1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        2: ("memory.max", "memory.current", "inactive_file"),
    }[version]
    most, current = (next(_lines(folder / name), "") for name in (limit, used))
    if not most.isdecimal() or not current.isdecimal():  # "max", or a group without this file
        return
    # Files that were read count as used, although the kernel drops them before it refuses memory.
    counts = dict(line.split()[:2] for line in _lines(folder / "memory.stat"))
    yield int(most) - int(current) + int(counts.get(cache, 0))


def _lines(path: Path) -> Iterator[str]:
    try:
        yield from path.read_text().splitlines()
    except OSError:
        return
