"""Known answers on boxes with inactive elements, other boundary conditions and wells: tests/data/domain."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from nnlod_fenics import Grid
from nnlod_fenics.problem import Problem

FILES = sorted((Path(__file__).parents[1] / "data" / "domain").glob("*.npz"))


class DomainReference:
    """One file, with its grid and problem; the keys are explained in tests/data/domain/README.md."""

    def __init__(self, path: Path) -> None:
        self.data = dict(np.load(path))
        coarse = self.data["coarse"]
        self.grid = Grid(
            len(coarse),
            coarse.tolist(),
            (coarse * self.data["ratio"]).tolist(),
            int(self.data["ell"]),
            (coarse * self.data["cells"]).tolist(),
            self.data["lengths"].tolist(),
            [str(face) for face in self.data["dirichlet"]],
            self.data["active"],
        )
        wells = [(row[:-1].tolist(), float(row[-1])) for row in self.data["wells"]]
        self.problem = Problem(float(self.data["f"]), wells, self._linear)

    def __getitem__(self, key: str) -> np.ndarray:
        return self.data[key]

    def _linear(self, x: np.ndarray) -> np.ndarray:
        """g, which the file has at the coarse nodes, and is linear in x."""
        g = self.data["g"]
        low, high = g[..., 0].ravel()[0], g[..., -1].ravel()[0]
        return low + (high - low) * x[0] / self.grid.lengths[0]
