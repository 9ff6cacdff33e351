"""Script: a serial job without MPI, killed at random moments and resumed, again and again.

``python killing.py FOLDER LOG KILLS`` forks a child for each try, so that the imports are paid once. The log
gets a JSON line a try: the blocks that were finished before it, and the realizations computed in it.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

import nnlod_fenics.dataset.generate as generation
from nnlod_fenics.config import load_config

SETTINGS = [
    "grid.coarse=4",
    "grid.fine=8",
    "grid.coefficient=8",
    "grid.ell=1",
    "field.correlation_length=0.2",
    "dataset.realizations=100",
    "dataset.block=2",
]


def run(folder: Path, computed: Path) -> None:
    """A job that notes each realization before it is computed."""
    original = generation.matrices_with_loads

    def noted(grid, A, *options):
        with computed.open("a") as log:
            log.write(f"{A.sum()!r}\n")
        return original(grid, A, *options)

    generation.matrices_with_loads = noted
    generation.generate(load_config(None, SETTINGS), folder, resume=True)


def main() -> None:
    sys.modules["mpi4py"] = None  # type: ignore[assignment]  # what a machine without MPI looks like
    folder, log, kills = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    with tempfile.TemporaryDirectory() as name:  # children inherit what is cached
        generation.generate(load_config(None, [*SETTINGS, "dataset.realizations=1"]), Path(name) / "d")
    rng, computed = random.Random(1), log.with_suffix(".computed")
    for attempt in range(kills + 1):
        before = sorted(path.name for path in folder.glob("blocks/0*.h5"))
        computed.write_text("")
        child = os.fork()
        if child == 0:
            run(folder, computed)
            os._exit(0)
        if attempt < kills:
            begun = rng.randrange(9)  # realizations; not a time, so that slow machines are hit at the same stages
            while computed.read_text().count("\n") < begun:
                time.sleep(0.001)
            time.sleep(rng.uniform(0.0, 0.03))
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        entry = {"killed": os.WIFSIGNALED(status), "before": before, "computed": computed.read_text().split()}
        with log.open("a") as file:
            file.write(json.dumps(entry) + "\n")


if __name__ == "__main__":
    main()
