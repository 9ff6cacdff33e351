"""Free memory by the machine, control groups of both versions, limits of the process, and ranks of the node."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from waiting import PATIENCE

from nnlod_fenics.runtime.launcher import local_ranks
from nnlod_fenics.runtime.memory import free_bytes

GIB = 2**30


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return root


@pytest.fixture
def machine(tmp_path, monkeypatch) -> Path:
    """16 GiB available, no limits."""
    monkeypatch.setattr(resource, "getrlimit", lambda which: (resource.RLIM_INFINITY,) * 2)
    return write(tmp_path, {"proc/meminfo": f"MemTotal: {99 * 2**20} kB\nMemAvailable:   {16 * 2**20} kB"})


def test_machine(machine):
    assert free_bytes(machine, {}) == 16 * GIB
    assert free_bytes(machine, {"OMPI_COMM_WORLD_LOCAL_SIZE": "4"}) == 4 * GIB


def version_2(path: str, inside: str = "/") -> dict[str, str]:
    mount = f"31 23 0:28 {inside} /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw"
    return {"proc/self/cgroup": f"0::{path}", "proc/self/mountinfo": f"22 1 8:1 / / rw - ext4 /dev/x rw\n{mount}"}


def test_the_tightest_group_above_counts(machine):
    group = "sys/fs/cgroup/job/step"
    files = version_2("/job/step/task") | {
        f"{group}/task/memory.max": "max",
        f"{group}/task/memory.current": str(GIB),
        f"{group}/memory.max": str(6 * GIB),
        f"{group}/memory.current": str(4 * GIB),
        "sys/fs/cgroup/job/memory.max": str(9 * GIB),
        "sys/fs/cgroup/job/memory.current": str(4 * GIB),
    }
    assert free_bytes(write(machine, files), {}) == 2 * GIB
    write(machine, {f"{group}/memory.stat": f"anon {GIB}\ninactive_file {GIB}"})
    assert free_bytes(machine, {}) == 3 * GIB
    assert free_bytes(machine, {"SLURM_STEP_TASKS_PER_NODE": "1,3(x2)"}) == GIB
    write(machine, {f"{group}/memory.current": str(8 * GIB)})
    assert free_bytes(machine, {}) == 0


def test_container_that_sees_its_own_group_at_the_top(machine):
    """With the group's path on the host, mounted from there, or with a path that is not below the mount."""
    limits = {"sys/fs/cgroup/memory.max": str(5 * GIB), "sys/fs/cgroup/memory.current": str(GIB)}
    for path, inside in (("/", "/"), ("/docker/1a2b", "/docker/1a2b"), ("/docker/1a2b", "/other")):
        assert free_bytes(write(machine, version_2(path, inside) | limits), {}) == 4 * GIB


def test_version_1(machine):
    mounts = "\n".join(
        f"3{k} 31 0:3{k} / /sys/fs/cgroup/{name} rw,relatime - {kind} cgroup rw,{name}"
        for k, (name, kind) in enumerate([("cpu", "cgroup"), ("memory", "cgroup"), ("unified", "cgroup2")])
    )
    files = {
        "proc/self/cgroup": "4:memory:/a/b\n1:cpu,cpuacct:/\n0::/",
        "proc/self/mountinfo": mounts,
        "sys/fs/cgroup/memory/a/b/memory.limit_in_bytes": str(2**63 - 4096),
        "sys/fs/cgroup/memory/a/b/memory.usage_in_bytes": str(GIB),
        "sys/fs/cgroup/memory/a/memory.limit_in_bytes": str(8 * GIB),
        "sys/fs/cgroup/memory/a/memory.usage_in_bytes": str(3 * GIB),
        "sys/fs/cgroup/memory/a/memory.stat": f"inactive_file 1\ntotal_inactive_file {GIB}",
    }
    assert free_bytes(write(machine, files), {}) == 6 * GIB


def test_limit_of_the_process_is_not_shared(machine, monkeypatch):
    write(machine, {"proc/self/statm": "256 100 50"})
    monkeypatch.setattr(resource, "getrlimit", lambda which: (GIB, GIB))
    expected = GIB - 256 * resource.getpagesize()
    assert free_bytes(machine, {}) == free_bytes(machine, {"LOCAL_WORLD_SIZE": "8"}) == expected


@pytest.mark.parametrize(
    ("environment", "ranks"),
    [
        ({}, 1),
        ({"OMPI_COMM_WORLD_LOCAL_SIZE": "3", "SLURM_STEP_TASKS_PER_NODE": "7"}, 3),
        ({"MPI_LOCALNRANKS": "5"}, 5),
        ({"LOCAL_WORLD_SIZE": "2"}, 2),
        ({"SLURM_STEP_TASKS_PER_NODE": "4(x2),6"}, 6),
        ({"SLURM_STEP_TASKS_PER_NODE": "", "MPI_LOCALNRANKS": "many"}, 1),
    ],
)
def test_local_ranks(environment, ranks):
    assert local_ranks(environment) == ranks


def test_this_machine():
    found = free_bytes()
    assert 0 < found <= psutil.virtual_memory().total


def test_ulimit_of_a_real_process():
    code = "from nnlod_fenics.runtime.memory import free_bytes; print(free_bytes())"
    command = ["bash", "-c", f"ulimit -v {2**20}; exec {sys.executable} -c '{code}'"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=True)
    assert 0 < int(done.stdout) < GIB
