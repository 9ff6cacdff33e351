"""Script: a small training, alone or under torchrun. ``python train_job.py FOLDER SETTINGS(JSON) [resume]``."""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np

from nnlod_fenics import Grid, local_matrices
from nnlod_fenics.training import TrainingData, TrainingSettings, train

GRID = Grid(2, 4, 8, 1, coefficient=8)


def data() -> TrainingData:
    """Realizations of white noise with their local matrices; one for validation, of which only one process sees any."""
    Z = np.random.default_rng(0).standard_normal((12, *GRID.coefficient_shape))
    S = local_matrices(GRID, np.exp(Z))
    return TrainingData(GRID, (Z[:8], S[:8]), (Z[9:10], S[9:10]), (Z[10:], S[10:]), {"field": {}, "seed": 0})


def job(folder: str, settings: dict[str, Any], resume: bool) -> None:
    options = {"channels": 4, "means": 4}
    train(data(), folder, "structured", options, TrainingSettings.from_dict(settings), resume=resume)


if __name__ == "__main__":
    job(sys.argv[1], json.loads(sys.argv[2]), "resume" in sys.argv[3:])
