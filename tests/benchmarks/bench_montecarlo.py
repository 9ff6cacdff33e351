"""Monte Carlo by PG-LOD alone and with NN-LOD as control variate: errors and costs in one run.

``OMP_NUM_THREADS=1 python tests/benchmarks/bench_montecarlo.py [--model lognormal-1.0] [--samples 200] [--repeats 8]``
repeats both with different fields and tells the root-mean-square error of the mean field at its nodes, around the mean
of all repetitions by control variates, the cost in seconds (pilot runs and the drawing of fields included), and how
many times cheaper the second is at equal error; then the bias of the network alone beside its standard error.
"""

from __future__ import annotations

import argparse

import numpy as np

from nnlod_fenics import NNLOD
from nnlod_fenics.fields import make_field
from nnlod_fenics.montecarlo import MonteCarloSettings, monte_carlo
from nnlod_fenics.montecarlo.estimate import mean_square_norm


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="lognormal-1.0", help="model folder, or the name of one of the package")
    parser.add_argument("--samples", type=int, default=200, help="samples of PG-LOD, or their cost")
    parser.add_argument("--repeats", type=int, default=8)
    parser.add_argument("--network-samples", type=int, default=2000)
    arguments = parser.parse_args()
    model = NNLOD.load(arguments.model)
    grid, law = model.grid, make_field(model.description["training_set"]["field"], 2, model.grid.coefficient)
    found = {
        method: [
            monte_carlo(grid, law, MonteCarloSettings(method, samples=arguments.samples, seed=seed), model)
            for seed in range(arguments.repeats)
        ]
        for method in ("multifidelity", "lod")
    }
    best = np.mean([e.mean for e in found["multifidelity"]], axis=0)
    print(f"norm of the mean field {mean_square_norm(best):.4e}, {arguments.repeats} repetitions each")
    work = {}
    for method, estimates in found.items():
        # the mean of the repetitions by control variates is itself one of their errors away
        error = np.sqrt(np.mean([mean_square_norm(e.mean - best) ** 2 for e in estimates]))
        if method == "multifidelity":
            error *= np.sqrt(arguments.repeats / (arguments.repeats - 1))
        cost = float(np.mean([e.cost for e in estimates]))
        stated = np.sqrt(np.mean([e.field_error**2 for e in estimates]))
        work[method] = (error**2 * cost, stated**2 * cost)
        print(f"{method:14s} RMSE {error:.3e} (stated {stated:.3e}), {cost:.1f} s, samples {estimates[0].samples}")
        if estimates[0].plan is not None:
            plans = [e.plan for e in estimates if e.plan is not None]
            print(f"  explained {plans[0].explained:.6f}, cost ratio {plans[0].cost_high / plans[0].cost_low:.1f}")
    for k, which in enumerate(("measured", "stated")):
        print(f"times cheaper at equal error ({which}): {work['lod'][k] / work['multifidelity'][k]:.1f}")
    network = monte_carlo(grid, law, MonteCarloSettings("nn", samples=arguments.network_samples, seed=1000), model)
    total = [e for e in found["multifidelity"] if e.network_bias is not None]
    bias = mean_square_norm(np.mean([e.network_bias for e in total], axis=0)) if total else float("nan")
    print(f"nn alone: bias {bias:.2e} in L2(D), standard error {network.field_error:.2e}, {network.cost:.1f} s")


if __name__ == "__main__":
    main()
