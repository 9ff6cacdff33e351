"""Memory of the condensation: counted before it is taken, and less taken where less is free."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from waiting import PATIENCE

from nnlod_fenics import Grid, InputError, local_matrices
from nnlod_fenics.lod import condensation
from nnlod_fenics.lod.budget import check_memory
from nnlod_fenics.lod.condensation import Condensation, default_chunk

GRID = Grid(2, 6, 72, 1)
PEAK = """
import sys
from pathlib import Path
import numpy as np
from nnlod_fenics import Grid, local_matrices
def peak():
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) * 1024
dim, coarse, fine, correctors = map(int, sys.argv[1:])
local_matrices(Grid(dim, coarse, coarse, 1), np.ones((coarse,) * dim))
before = peak()
grid = Grid(dim, coarse, fine, 1)
A = np.exp(np.random.default_rng(0).standard_normal(grid.coefficient_shape))
local_matrices(grid, A, elements=[0], chunk=1, correctors=bool(correctors))
print(peak() - before)
"""


def rough(grid: Grid) -> np.ndarray:
    return np.exp(np.random.default_rng(0).standard_normal(grid.coefficient_shape))


def needed(grid: Grid, correctors: bool) -> int:
    with pytest.raises(InputError, match=r"grid must .* need at least \d+ bytes, and 0 are free") as error:
        check_memory(grid, 1, False, correctors, 8, 0)
    return int(str(error.value).partition(" bytes")[0].rpartition(" ")[2])


@pytest.mark.parametrize("correctors", [False, True])
@pytest.mark.parametrize("grid", [Grid(2, 1, 128, 1), Grid(3, 1, 10, 1)], ids=["2d", "3d"])
def test_what_is_counted_is_what_is_taken(grid, correctors):
    """One element, one patch: the process takes what is counted, up to a factor of two.

    Measured by the peak of the address space, for ``ru_maxrss`` begins with that of the process that started this one.
    """
    if not Path("/proc/self/status").exists():
        pytest.skip("the peak is read from /proc")
    numbers = [str(number) for number in (grid.dim, grid.coarse[0], grid.fine[0], int(correctors))]
    command = [sys.executable, "-c", PEAK, *numbers]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    assert 0.5 < int(done.stdout) / needed(grid, correctors) < 2


def test_too_little_memory_is_told_before_the_work(monkeypatch):
    monkeypatch.setattr(condensation, "free_bytes", lambda: needed(GRID, False) // 2)
    monkeypatch.setattr(Condensation, "__init__", lambda *args: pytest.fail("work has started"))
    with pytest.raises(InputError, match=r"fine/coarse=12 and ell=1 need at least \d+ bytes, and \d+ are free"):
        local_matrices(GRID, rough(GRID))


def test_the_same_with_little_memory(monkeypatch):
    """Small batches, no blocks kept: the same matrices to the last bits."""
    A = rough(GRID)
    expected = local_matrices(GRID, A)
    free = 2 * needed(GRID, False)
    monkeypatch.setattr(condensation, "free_bytes", lambda: free)
    assert default_chunk(GRID, "cpu", 8) < GRID.coarse[0]
    np.testing.assert_allclose(local_matrices(GRID, A), expected, rtol=0, atol=1e-13 * np.abs(expected).max())


def test_default_chunk_follows_the_free_memory(monkeypatch):
    for grid, most in ((GRID, 6), (Grid(3, 4, 8, 1), 16)):
        found = []
        for free in (2**10, 2**24, 2**40):
            monkeypatch.setattr(condensation, "free_bytes", lambda free=free: free)
            found.append(default_chunk(grid, "cpu", 8))
        assert found[0] == 1 and found[-1] == most and found == sorted(found)
