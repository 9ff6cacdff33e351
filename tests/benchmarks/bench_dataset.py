"""Speed of datasets: generation on ranks, writing, and files against parallel HDF5.

Run ``python tests/benchmarks/bench_dataset.py PART ...`` with some of the parts ``generate``, ``schedule``,
``storage``; without any, all of them. Set OMP_NUM_THREADS=1.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import nnlod_fenics.dataset.generate as generation
from nnlod_fenics import Grid, local_matrices
from nnlod_fenics.config import load_config
from nnlod_fenics.dataset.layout import Block, Header, write_block
from nnlod_fenics.runtime import schedule

PAPER = ["grid.coarse=32", "grid.fine=512", "grid.coefficient=256", "dataset.block=2"]
GRID = Grid(2, 32, 512, 2, coefficient=256)


def mpirun(ranks: int, *arguments: str) -> None:
    command = ["mpirun", "-n", str(ranks), "--bind-to", "none", sys.executable, __file__, *arguments]
    subprocess.run(command, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"})


def generate(realizations: int) -> None:
    """Under mpirun: realizations per second, and the share of writing."""
    from mpi4py import MPI

    comm, seconds = MPI.COMM_WORLD, [0.0]
    original = generation.write_block

    def timed(*args: object) -> None:
        start = time.perf_counter()
        original(*args)
        seconds[0] += time.perf_counter() - start

    generation.write_block = timed
    for warm_up in (True, False):
        count = comm.size * (2 if warm_up else realizations)
        with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_FOLDER")) as name:
            folder = comm.bcast(name)
            seconds[0] = 0.0
            comm.Barrier()
            start = time.perf_counter()
            generation.generate(load_config(None, [*PAPER, f"dataset.realizations={count}"]), Path(folder) / "d")
            elapsed = time.perf_counter() - start
            comm.Barrier()
    share = comm.reduce(seconds[0])
    if comm.rank == 0:
        rate, part = count / elapsed, share / elapsed / comm.size
        print(f"generate, {comm.size} ranks: {rate:.3f} realizations/s, writing {100 * part:.2f} % of the time")


def handing_out(blocks: int = 2000) -> None:
    """Time in which the other rank gets a block, and in which rank 0 serves it, while rank 0 computes."""
    from mpi4py import MPI

    comm = MPI.COMM_WORLD
    for pause, what in ((schedule._PAUSE, "a rank waits for a block"), (0.0, "rank 0 serves a block in at most")):
        schedule._PAUSE = pause
        handed = schedule.Schedule(comm, range(blocks), lambda steps: None)
        if comm.rank == 0:
            A = np.exp(np.random.default_rng(0).standard_normal(GRID.coefficient_shape))
            while handed._server is not None and handed._server.is_alive():
                local_matrices(GRID, A, elements=np.arange(64))
        else:
            start = time.perf_counter()
            taken = sum(1 for _ in handed)
            print(f"schedule: {what} {1e3 * (time.perf_counter() - start) / taken:.2f} ms", flush=True)
        handed.close()


def storage(blocks: int = 40) -> None:
    """Under mpirun: writing blocks to files of their own, and to one file by parallel HDF5."""
    import h5py
    from mpi4py import MPI

    comm = MPI.COMM_WORLD
    config = load_config(None, [*PAPER, "dataset.block=4"])
    header = Header(GRID, config.resolved(), 4 * blocks * comm.size, 4, {})
    columns = header.columns()
    Z, S = (np.random.default_rng(comm.rank).standard_normal((4, *columns[name][0])) for name in "ZS")
    content = Block(Z, S, np.zeros((4, 3)), np.zeros((4, 2), dtype=np.int64))
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_FOLDER")) as name:
        folder = Path(comm.bcast(name))
        size = comm.size * blocks * (Z.nbytes + S.nbytes)
        for kind in ("files", "mpio"):
            comm.Barrier()
            start = time.perf_counter()
            if kind == "files":
                for block in range(comm.rank, blocks * comm.size, comm.size):
                    write_block(folder, header, block, content)
            elif not h5py.get_config().mpi:
                break
            else:
                with h5py.File(folder / "all.h5", "w", driver="mpio", comm=comm) as file:
                    sets = [
                        file.create_dataset(n, (header.realizations, *columns[n][0]), "f8", chunks=(1, *columns[n][0]))
                        for n in "ZS"
                    ]
                    for block in range(comm.rank, blocks * comm.size, comm.size):
                        for target, values in zip(sets, (Z, S), strict=True):
                            target[4 * block : 4 * block + 4] = values
                    file.flush()
            comm.Barrier()
            if comm.rank == 0:
                print(f"storage, {comm.size} ranks, {kind}: {size / (time.perf_counter() - start) / 1e6:.0f} MB/s")


def main() -> None:
    parts = sys.argv[1:] or ["generate", "schedule", "storage"]
    if parts[0] == "--worker":
        {"generate": generate, "schedule": handing_out, "storage": storage}[parts[1]](*map(int, parts[2:]))
        return
    if "generate" in parts:
        for ranks in (1, 2):
            mpirun(ranks, "--worker", "generate", os.environ.get("BENCH_REALIZATIONS", "8"))
    if "schedule" in parts:
        mpirun(2, "--worker", "schedule")
    if "storage" in parts:
        mpirun(2, "--worker", "storage")


if __name__ == "__main__":
    main()
