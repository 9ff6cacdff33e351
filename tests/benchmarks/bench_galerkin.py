"""PG-LOD and its Galerkin form on fields of many kinds: errors of u_H and of the reconstruction, and energies.

    python tests/benchmarks/bench_galerkin.py [--seeds 2]

1/H = 12, 1/h = 96, f = 1; errors relative to FEM on T_h in L², medians over the seeds. PG without and with source
correctors; the Galerkin form always has them. "energy" is the energy error of the Galerkin reconstruction relative to
that of u_H = 0, which it cannot exceed. About a minute of one core a seed.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

sys.path.append(str(Path(__file__).parents[1]))

from kinds import coarse_truth, fine_truth, make_coefficient

from nnlod_fenics import Grid
from nnlod_fenics.loads import element_loads
from nnlod_fenics.lod.finescale import fine_solution
from nnlod_fenics.norms import energy_norm, relative_l2
from nnlod_fenics.problem import Problem
from nnlod_fenics.solvers import make_solver

FIELDS = {
    "lognormal σ² = 1": ("lognormal", 1.0),
    "lognormal σ² = 4": ("lognormal", 4.0),
    "lognormal σ² = 9": ("lognormal", 9.0),
    "anisotropic 10:1, σ² = 2": ("anisotropic", 2.0),
    "inclusions 10³": ("conductive inclusions", 1e3),
    "inclusions 10⁻³": ("poor inclusions", 1e-3),
    "channels 10²": ("channels", 1e2),
    "channels 10⁴": ("channels", 1e4),
}
HEAD = ("PG", "PG + R", "Galerkin", "fine PG + R", "fine Gal.", "energy")


def measure(kind: str, level: float, seed: int, ell: int) -> list[float]:
    """What :data:`HEAD` says."""
    grid, problem = Grid(2, 12, 96, ell), Problem(1.0)
    A, loads = make_coefficient(kind, seed, grid, level), element_loads(grid, problem)
    fine, coarse = fine_truth(grid, A, problem), coarse_truth(grid, A, problem)
    options = ({}, {"source_correctors": True}, {"form": "galerkin"})
    solutions = [make_solver("lod", grid, problem, **given).solve_many([A])[0].u for given in options]
    rebuilt = [fine_solution(grid, A, u, loads) for u in (*solutions[1:], np.zeros(grid.node_shape))]
    energies = [energy_norm(grid, u - fine, A) for u in rebuilt[1:]]
    errors = [relative_l2(u, coarse, grid) for u in solutions] + [relative_l2(u, fine, grid) for u in rebuilt[:2]]
    return [*errors, energies[0] / energies[1]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=2)
    seeds = range(parser.parse_args().seeds)
    print(f"{'field':26s} ℓ " + " ".join(f"{name:>12s}" for name in HEAD))
    for name, (kind, level) in FIELDS.items():
        for ell in (1, 2, 3):
            values = np.median([measure(kind, level, seed, ell) for seed in seeds], axis=0)
            print(f"{name:26s} {ell} " + " ".join(f"{value:12.3%}" for value in values), flush=True)


if __name__ == "__main__":
    main()
