"""Errors that only rank 0 meets, one after the other; every rank tells what it caught."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from unittest.mock import patch

from montecarlo_job import FUNCTIONALS, SETTINGS
from mpi4py import MPI
from problem import GRID, LevelLaw, wrong_model

from nnlod_fenics.config import load_config
from nnlod_fenics.dataset.generate import generate
from nnlod_fenics.montecarlo import monte_carlo

RUN, DATA = "nnlod_fenics.montecarlo", "nnlod_fenics.dataset"
PLACES = [
    f"{RUN}.store.Store.held",
    f"{RUN}.store.Store.load_block",
    f"{RUN}.job.make_plan",
    f"{RUN}.goal.Goal.next",
    f"{RUN}.run.make_estimate",
    f"{RUN}.report.write_report",
    f"{DATA}.generate.prepare",
]


class Strange(Exception):
    """An error that cannot be pickled: made anew, it would lack an argument."""

    def __init__(self, first, second):
        super().__init__(f"{first} and {second}")


if __name__ == "__main__":
    rank, folder = MPI.COMM_WORLD.rank, Path(sys.argv[1])
    for place in PLACES:
        error = Strange(1, 2) if place.endswith("next") else OSError(28, "No space left on device")
        failing = patch(place, side_effect=error) if rank == 0 else contextlib.nullcontext()
        try:
            with failing:
                if "montecarlo" in place:
                    monte_carlo(
                        GRID, LevelLaw(), SETTINGS, wrong_model(), functionals=FUNCTIONALS, output=folder / place
                    )
                else:
                    generate(load_config(None, ["grid.dim=1", "dataset.realizations=2"]), folder / place)
            caught = "nothing"
        except Exception as raised:
            caught = f"{type(raised).__name__}: {raised}"
        (folder / f"{place}-{rank}.txt").write_text(caught)
