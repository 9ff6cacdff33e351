"""A parent that is killed takes its generation under mpirun with it, and the same command does the job again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from commands import Made
from waiting import PATIENCE, wait_for

from nnlod_fenics.dataset import Dataset

pytest.importorskip("dolfinx")  # demo and reproduce solve by FEM

COUNT = 200
REPRODUCE = Path(__file__).with_name("reproduce_job.py")
COMMANDS = {
    "demo": ["-m", "nnlod_fenics", "demo", "--overwrite", *Made.QUICK, "-s", f"dataset.realizations={COUNT}"],
    "reproduce": [str(REPRODUCE), str(COUNT)],
}


def start(name: str, folder: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, *COMMANDS[name], "-o", str(folder)]
    return subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL)


def blocks(folder: Path) -> dict[str, int]:
    """Finished blocks of the first dataset, and when they were written."""
    return {path.name: path.stat().st_mtime_ns for path in folder.rglob("data/blocks/0*.h5")}


def kill_while_generating(name: str, folder: Path, number: signal.Signals) -> dict[str, int]:
    """Kill the command, wait for the end of the processes that it started; the blocks that they leave."""
    parent = start(name, folder)
    wait_for(lambda: blocks(folder), parent)
    job = psutil.Process(parent.pid).children(recursive=True)
    assert job, "the generation must be a process of its own"
    parent.send_signal(number)
    assert parent.wait(PATIENCE) == -number
    deadline = time.monotonic() + PATIENCE
    while any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in job):
        assert time.monotonic() < deadline, f"{job} still run without their parent"
        time.sleep(0.01)
    return blocks(folder)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["SIGKILL", "SIGTERM"])
@pytest.mark.parametrize("name", COMMANDS)
def test_a_killed_parent_leaves_no_process(tmp_path, name, number):
    before = kill_while_generating(name, tmp_path, number)
    (data,) = (path.parent for path in tmp_path.rglob("data/dataset.h5"))
    assert len(before) < Dataset(data, partial=True).header.num_blocks, "the data were made to their end"

    again = start(name, tmp_path)
    if name == "demo":
        assert again.wait(PATIENCE) == 0
    else:  # what follows the data takes far longer and starts no process
        wait_for((data.parent / "stage.json").exists, again)
        again.kill()
        again.wait(PATIENCE)
        assert blocks(tmp_path).items() >= before.items(), "a finished block was computed again"
    assert len(Dataset(data).finished) == COUNT
