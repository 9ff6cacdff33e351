"""The fine-scale solver gives the same solution on several ranks as on one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from waiting import PATIENCE

pytest.importorskip("dolfinx")


@pytest.mark.parametrize("ranks", [2, 3])
def test_parallel_solution_is_the_serial_one(ranks: int, tmp_path: Path) -> None:
    command = ["mpirun", "-n", str(ranks), "--bind-to", "none", sys.executable]
    script = Path(__file__).with_name("fem_script.py")
    done = subprocess.run(
        [*command, str(script), str(ranks), str(tmp_path)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert done.stdout.split() == ["passed"]
