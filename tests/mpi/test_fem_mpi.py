"""The fine-scale solver gives the same solution on several ranks as on one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from waiting import PATIENCE

pytest.importorskip("dolfinx")


def check_passed(ranks: int, script: str, *arguments: object) -> None:
    """Run a script under mpirun, which says that it has passed."""
    command = ["mpirun", "-n", str(ranks), "--bind-to", "none", sys.executable]
    done = subprocess.run(
        [*command, str(Path(__file__).with_name(script)), *map(str, arguments)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert done.stdout.split() == ["passed"]


@pytest.mark.parametrize("ranks", [2, 3])
def test_parallel_solution_is_the_serial_one(ranks: int, tmp_path: Path) -> None:
    check_passed(ranks, "fem_script.py", ranks, tmp_path)


def test_a_rank_may_solve_alone() -> None:
    """PETSc starts on all ranks together: it must not wait for ranks that never solve."""
    check_passed(2, "fem_on_one_rank.py")
