"""Script for mpirun: generate a small dataset, noting what is computed; one rank may fail on purpose.

``generate_job.py FOLDER NOTES [KEY=VALUE ...] [fail=RANK]`` appends to ``NOTES/RANK`` one line for each
realization before it is computed, and writes its process number to ``NOTES/pid-RANK``; with ``fail=all`` all fail.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import mpi4py

if "threads=single" in sys.argv:
    mpi4py.rc.thread_level = "single"

from mpi4py import MPI

import nnlod_fenics.dataset.generate as generation
from nnlod_fenics.config import load_config
from nnlod_fenics.dataset.generate import EXIT_RESUMABLE, Interrupted, generate
from nnlod_fenics.errors import NumericalError

SETTINGS = [
    "grid.coarse=4",
    "grid.fine=8",
    "grid.coefficient=8",
    "grid.ell=1",
    "field.correlation_length=0.2",
    "dataset.realizations=100",
    "dataset.block=2",
]


def main() -> None:
    folder, notes = Path(sys.argv[1]), Path(sys.argv[2])
    options = dict(item.split("=") for item in sys.argv[3:])
    failing = options.pop("fail", "")
    options.pop("threads", None)
    rank, compute = MPI.COMM_WORLD.rank, generation.matrices_with_loads
    notes.mkdir(exist_ok=True)
    (notes / f"pid-{rank}").write_text(str(os.getpid()))

    def noted(grid, A, *options):
        with (notes / str(rank)).open("a") as log:
            log.write(f"{A.sum()!r}\n")
        if failing == "all":
            raise NumericalError("the problem is singular.")
        if failing == str(rank):
            raise RuntimeError(f"rank {rank} breaks")
        if failing:
            time.sleep(86_400)
        return compute(grid, A, *options)

    generation.matrices_with_loads = noted
    try:
        generate(load_config(None, [*SETTINGS, *(f"{k}={v}" for k, v in options.items())]), folder, resume=True)
    except Interrupted:
        sys.exit(EXIT_RESUMABLE)


if __name__ == "__main__":
    main()
