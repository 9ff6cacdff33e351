"""Monte Carlo by PG-LOD alone and with NN-LOD as control variate: errors and costs in one run.

``OMP_NUM_THREADS=1 python tests/benchmarks/bench_montecarlo.py [--config FILE] [-s KEY=VALUE] [--model MODEL]
[--samples 200] [--repeats 8]``

repeats both with different fields and tells the root-mean-square error of the mean field at its nodes, around the mean
of all repetitions by control variates, the cost in seconds (pilot runs and the drawing of fields included), the ratio
of RMSE² × cost, which is how many times cheaper the second is at equal error, and the bias of the network alone beside
the standard error of the second. Grid and field are those of the settings, or of the model where they state none. The
hierarchical fields of experiment 3-H, with a network that was trained for lognormal ones:

``… --model lognormal-1.0 -s field.kind=hierarchical -s field.variance=1.0``
"""

from __future__ import annotations

import argparse

import numpy as np

from nnlod_fenics import NNLOD
from nnlod_fenics.config import load_config
from nnlod_fenics.montecarlo import Estimate, MonteCarloSettings, monte_carlo
from nnlod_fenics.montecarlo.run import find_problem
from nnlod_fenics.norms import l2_norm


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", help="TOML file with the settings")
    parser.add_argument("-s", "--set", action="append", default=[], metavar="KEY=VALUE", help="override a setting")
    parser.add_argument("--model", default="lognormal-1.0", help="model folder, or the name of one of the package")
    parser.add_argument("--samples", type=int, default=200, help="samples of PG-LOD, or their cost")
    parser.add_argument("--repeats", type=int, default=8)
    parser.add_argument("--network-samples", type=int, default=2000, help="samples of the network alone")
    return parser.parse_args()


def root_mean_square(values: list[float]) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


def describe(method: str, estimates: list[Estimate], best: np.ndarray) -> tuple[float, float]:
    """Print errors and costs of repetitions; measured and stated RMSE² × cost."""
    error = root_mean_square([l2_norm(e.mean - best) for e in estimates])
    if method == "multifidelity":  # best is their mean, itself one of their errors away
        error *= np.sqrt(len(estimates) / (len(estimates) - 1))
    cost, stated = float(np.mean([e.cost for e in estimates])), root_mean_square([e.field_error for e in estimates])
    print(f"{method:14s} RMSE {error:.3e} (stated {stated:.3e}), {cost:.1f} s, samples {estimates[0].samples}")
    for plan in [e.plan for e in estimates[:1] if e.plan is not None]:
        print(
            f"  explained {plan.explained:.6f}, cost ratio {plan.cost_high / plan.cost_low:.1f}, gain {plan.gain:.1f}"
        )
    return error**2 * cost, stated**2 * cost


def main() -> None:
    arguments = parse()
    model = NNLOD.load(arguments.model)
    grid, law = find_problem(load_config(arguments.config, arguments.set), model)

    def run(method: str, samples: int, seed: int) -> Estimate:
        return monte_carlo(grid, law, MonteCarloSettings(method=method, samples=samples, seed=seed), model)

    found = {
        method: [run(method, arguments.samples, seed) for seed in range(arguments.repeats)]
        for method in ("multifidelity", "lod")
    }
    best = np.mean([e.mean for e in found["multifidelity"]], axis=0)
    print(f"{law.settings()}, norm of the mean field {l2_norm(best):.4e}, {arguments.repeats} repetitions each")
    work = {method: describe(method, estimates, best) for method, estimates in found.items()}
    for k, which in enumerate(("measured", "stated")):
        print(f"times cheaper at equal error ({which}): {work['lod'][k] / work['multifidelity'][k]:.1f}")
    network = run("nn", arguments.network_samples, 1000)
    biases = [e.network_bias for e in found["multifidelity"] if e.network_bias is not None]
    bias = l2_norm(np.mean(biases, axis=0)) if biases else float("nan")
    error = root_mean_square([e.field_error for e in found["multifidelity"]])
    print(
        f"nn alone: bias {bias:.2e} in L2(D), {bias / error:.1f} standard errors of multifidelity ({error:.2e}); "
        f"its own standard error {network.field_error:.2e} after {network.cost:.1f} s"
    )


if __name__ == "__main__":
    main()
