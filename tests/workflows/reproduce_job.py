"""Script: ``nnlod reproduce 1`` with many small realizations; ``reproduce_job.py REALIZATIONS -o FOLDER``."""

from __future__ import annotations

import sys

from nnlod_fenics import Grid
from nnlod_fenics.workflows.reproduce import Scale, reproduce

if __name__ == "__main__":
    scale = Scale(
        name="tiny",
        grid=Grid(dim=2, coarse=4, fine=16, ell=1, coefficient=8),
        base=10,
        realizations={contrast: {"small": 10, "large": int(sys.argv[1])} for contrast in ("low", "moderate", "high")},
        epochs={"base": 1, "small": 1, "large": 1},
        batch_size=64,
        fields=4,
        work=24,
        pilot=4,
        cost_ratio={"lognormal": 20.0, "hierarchical": 20.0},
    )
    reproduce(["1"], scale, sys.argv[3])
