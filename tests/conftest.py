"""Fixtures shared by all tests."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

# Before any library starts its threads: many tests run under mpirun, where ranks with several threads each
# would wait for one another; every test and every process it starts uses one thread a rank.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Before a test imports DOLFINx or PETSc itself.
with contextlib.suppress(ImportError):
    import nnlod_fenics.compat  # noqa: F401

import numpy as np
import pytest
from commands import Commands, Made

from nnlod_fenics import Grid

DATA = Path(__file__).parent / "data"


class Reference:
    """Known answers of an independent code (gridlod) for one coefficient; see tests/data/README.md."""

    def __init__(self, path: Path) -> None:
        data = dict(np.load(path))
        self.name = path.stem
        dim, coarse, ratio, ell = (int(data[key]) for key in ("d", "NH", "r", "ell"))
        self.grid = Grid(dim, coarse, coarse * ratio, ell)
        self.A = data["a"].reshape(self.grid.coefficient_shape)
        self.local = {int(key[2:]): data[key] for key in data if key.startswith("S_")}
        n = self.grid.num_nodes
        full = np.zeros((n, n))
        np.add.at(full, (data["K_row"], data["K_col"]), data["K_data"])
        interior = np.flatnonzero(self.grid.free_numbers >= 0)
        self.K = full[np.ix_(interior, interior)]
        self.u = data["u"].reshape((coarse + 1,) * dim)


REFERENCES = sorted(DATA.glob("*.npz"))


@pytest.fixture(params=REFERENCES, ids=[path.stem for path in REFERENCES])
def reference(request: pytest.FixtureRequest) -> Reference:
    return Reference(request.param)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20260101)


@pytest.fixture(scope="session")
def nnlod() -> Iterator[Commands]:
    """The command line."""
    commands = Commands()
    yield commands
    commands.close()


@pytest.fixture(scope="session")
def made(nnlod: Commands, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a dataset, a model and a coefficient, made by the commands themselves; only to be read."""
    folder: Path = tmp_path_factory.mktemp("made")
    for step in (["generate", "-o", "data"], ["train", "data", "-o", "model"]):
        done = nnlod(*step, *Made.QUICK, cwd=folder)
        assert done.returncode == 0, done.stderr
    np.save(folder / "A.npy", np.exp(np.random.default_rng(0).standard_normal((8, 8))))
    return folder
