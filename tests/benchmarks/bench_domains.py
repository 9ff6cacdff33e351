"""What source correctors, the Galerkin form and the reconstruction cost beside plain PG-LOD and FEM, in one run.

    OMP_NUM_THREADS=1 python tests/benchmarks/bench_domains.py [--repeats 5]

Medians in seconds, and ratios to the local matrices of PG-LOD on the same grid; then the same field on a domain with
no-flow faces and inactive elements, where patches with open ends cost more.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch

from nnlod_fenics import Grid, local_matrices, make_field, solve
from nnlod_fenics.problem import Problem


def median(work: Callable[[], object], repeats: int) -> float:
    """Median of the seconds of some calls, after one that does not count."""
    work()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def report(name: str, seconds: float, base: float) -> None:
    """Print a line of the table."""
    print(f"  {name:46s} {seconds:8.3f} s   {seconds / base:5.2f}")


def compare(title: str, grid: Grid, repeats: int) -> None:
    """All methods on one grid."""
    law = make_field({"kind": "lognormal", "variance": 1.0}, grid.dim, grid.coefficient, grid.lengths)
    A = law.sample(seed=0, index=0).A
    smaller = Grid.from_dict(grid.as_dict() | {"ell": grid.ell - 1})
    base = median(lambda: local_matrices(grid, A), repeats)
    print(f"{title}: {grid}")
    report("local matrices", base, base)
    report("with source correctors", median(lambda: local_matrices(grid, A, source=Problem()), repeats), base)
    for own in (smaller, grid):
        work = median(lambda own=own: local_matrices(own, A, source=Problem(), form="galerkin"), repeats)
        report(f"matrices of the Galerkin form, ℓ = {own.ell}", work, base)
    found = solve(grid, A, source_correctors=True, reconstruct=True)
    report("reconstruction", found.seconds["reconstruction"], base)
    report("FEM on T_h", median(lambda: solve(grid, A, "fem"), repeats), base)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    active = np.ones((32, 32), dtype=bool)
    active[12:16, 10:20] = active[:4, :4] = False
    compare("square", Grid(2, 32, 512, 2, 256), arguments.repeats)
    compare("domain", Grid(2, 32, 512, 2, 256, dirichlet=("xmin", "xmax"), active=active), arguments.repeats)
    compare("cube", Grid(3, 6, 24, 1), arguments.repeats)


if __name__ == "__main__":
    main()
