"""Every demo runs, at its smallest size, in serial and, where it is meant for it, under mpirun."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from waiting import PATIENCE

DEMOS = Path(__file__).parents[1] / "demos"
SMALLEST = {
    "compress_field.py": ["--coarse", "8", "--fine", "32"],
    "train_surrogate.py": ["--realizations", "10", "--epochs", "2"],
    "train_shipped_models.py": ["--realizations", "10", "--epochs", "1", "--output", "out_train_shipped_models/models"],
    "train_universal_models.py": [
        *("--realizations", "10", "--epochs", "1", "--output", "out_train_universal_models/models")
    ],
    "trust.py": [],
    "aquifer.py": ["--coarse", "12", "--cells", "4"],
    "reservoir.py": ["--size", "10", "15", "--layers", "0:5", "35:40"],
    "own_coefficient.py": ["--dim", "2", "--coarse", "4"],
    "dataset.py": ["--realizations", "10", "--coarse", "4"],
    "own_law.py": ["--realizations", "10", "--epochs", "2"],
    "own_network.py": ["--realizations", "10", "--epochs", "1"],
    "monte_carlo.py": ["--samples", "30", "--pilot", "4"],
}


def run(folder: Path, name: str, *launcher: str) -> str:
    command = [*launcher, sys.executable, str(DEMOS / name), *SMALLEST[name]]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_none_is_forgotten():
    assert {path.name for path in DEMOS.glob("*.py")} == set(SMALLEST)


@pytest.mark.parametrize("name", sorted(SMALLEST))
def test_demo(name, tmp_path):
    output = run(tmp_path, name)
    error = re.search(r"relative L2 error .*?([0-9.e+-]+)$", output, re.MULTILINE)
    bound = np.inf if "--epochs" in SMALLEST[name] else 0.6  # an epoch teaches a network nothing
    assert error is not None and 0 < float(error[1]) < bound, output
    assert list(tmp_path.iterdir()) == [tmp_path / f"out_{name.removesuffix('.py')}"]
    shown = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", (DEMOS / name).read_text(encoding="utf-8"))
    assert bool(shown) == (name not in ("train_shipped_models.py", "train_universal_models.py"))
    for picture in shown:
        assert (tmp_path / picture).is_file(), f"{name} shows {picture}, which it did not write"


@pytest.mark.parametrize("name", ["train_surrogate.py", "dataset.py", "own_law.py", "monte_carlo.py"])
def test_demo_under_mpirun(name, tmp_path):
    output = run(tmp_path, name, "mpirun", "-n", "2", "--bind-to", "none")
    assert output.count("relative L2 error") == 1
