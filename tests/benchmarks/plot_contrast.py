"""Error of PG-LOD and of its Galerkin form against contrast, for ℓ = 1, 2, 3, with and without source correctors.

    python tests/benchmarks/plot_contrast.py --picture demos/pictures/contrast.png [--seeds 5]

Relative L² errors of u_H against I_H u_h, f = 1, 1/H = 10, 1/h = 80; medians over the seeds. Two minutes of
one core.
"""

from __future__ import annotations

import argparse
import sys
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

sys.path.append(str(Path(__file__).parents[1]))

from kinds import coarse_truth, make_coefficient

from nnlod_fenics import Grid
from nnlod_fenics.lod.coarse import CoarseSolver
from nnlod_fenics.norms import relative_l2
from nnlod_fenics.output.style import figure, line_styles, save
from nnlod_fenics.problem import Problem
from nnlod_fenics.solvers import make_solver

FAMILIES = {
    "conductive channels in 30 % of D": ("channels", (3.0, 10.0, 1e2, 1e3, 1e4, 1e5)),
    "lognormal fields": ("lognormal", (0.1, 0.25, 1.0, 2.0, 4.0, 9.0)),
}
FORMS = ("Petrov–Galerkin", "Galerkin")
ELLS = (1, 2, 3)


def errors(A: np.ndarray, ell: int) -> dict[tuple[str, bool], float]:
    """By form, and whether with source correctors."""
    grid, problem = Grid(2, 10, 80, ell), Problem(1.0)
    truth, coarse = coarse_truth(grid, A, problem), CoarseSolver(grid, problem)
    galerkin = make_solver("lod", grid, problem, form="galerkin").solve_many([A])[0]
    found = {
        (FORMS[0], True): make_solver("lod", grid, problem, source_correctors=True).solve_many([A])[0].u,
        (FORMS[0], False): make_solver("lod", grid, problem).solve_many([A])[0].u,
        (FORMS[1], True): galerkin.u,
        (FORMS[1], False): coarse.solve(galerkin.K),
    }
    return {key: relative_l2(u, truth, grid) for key, u in found.items()}


def measure(kind: str, levels: tuple[float, ...], seeds: int) -> tuple[np.ndarray, dict[Any, np.ndarray]]:
    """Median contrasts by level, and median errors by form, source correctors and ℓ."""
    contrasts = np.empty((len(levels), seeds))
    results = {key: np.empty_like(contrasts) for key in product(FORMS, (True, False), ELLS)}
    for k, level in enumerate(levels):
        for seed in range(seeds):
            A = make_coefficient(kind, seed, Grid(2, 10, 80, 1), level)
            contrasts[k, seed] = A.max() / A.min()
            for ell in ELLS:
                for key, error in errors(A, ell).items():
                    results[(*key, ell)][k, seed] = error
        medians = [f"{np.median(values[k]):.2g}" for values in results.values()]
        print(f"{kind} {level:g}: {', '.join(medians)}", flush=True)
    return np.median(contrasts, axis=1), {key: np.median(values, axis=1) for key, values in results.items()}


def plot(path: Path, families: dict[str, tuple[np.ndarray, dict[Any, np.ndarray]]]) -> None:
    with figure(7.5, 6.0) as fig:
        axes = fig.subplots(2, 2, sharex="col", sharey=True)
        for column, (title, (contrast, results)) in enumerate(families.items()):
            axes[0, column].set_title(title)
            axes[1, column].set_xlabel("contrast max $A$ / min $A$")
            for row, form in enumerate(FORMS):
                ax = axes[row, column]
                for ell, line in zip(ELLS, line_styles(len(ELLS)), strict=True):
                    for source, dashes, marker in ((True, "-", "o"), (False, "--", None)):
                        label = f"$\\ell = {ell}$" if source else None
                        values = results[form, source, ell]
                        ax.loglog(contrast, values, color=line.color, ls=dashes, marker=marker, ms=4, label=label)
                ax.axhline(0.02, color="0.7", lw=0.8, zorder=0)
                ax.set_ylim(2e-7, 10)
                if column == 0:
                    ax.set_ylabel(f"{form}: relative $L^2$ error")
        axes[0, 0].plot([], [], color="0.3", marker="o", ms=4, label="source correctors")
        axes[0, 0].plot([], [], color="0.3", ls="--", label="without")
        axes[0, 0].legend(loc="lower right", ncols=1)
        save(fig, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--picture", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    plot(options.picture, {title: measure(*family, options.seeds) for title, family in FAMILIES.items()})


if __name__ == "__main__":
    main()
