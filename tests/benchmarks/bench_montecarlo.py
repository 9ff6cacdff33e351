"""Monte Carlo by PG-LOD alone and with cheaper models as control variates: errors and costs in one run.

``OMP_NUM_THREADS=1 python tests/benchmarks/bench_montecarlo.py [--config FILE] [-s KEY=VALUE] [--model MODEL]
[--with MODELS]… [--reference lod] [--samples 200] [--repeats 8]``

repeats all with different fields; each ``--with`` is a list of models such as ``nn,averaged``, by default the network
alone, FEM with averaged coefficients alone, and both. It tells the root-mean-square error of the mean field at its
nodes, around the mean of all repetitions by the last of them, the cost in seconds (pilot runs and the drawing of fields
included), the ratio of RMSE² × cost, which is how many times cheaper they are than the reference alone at equal error,
and the models and sample numbers that the first repetition has chosen. Grid and field are those of the settings, or of
the model where they state none. The hierarchical fields of experiment 3-H, with a network that was trained for
lognormal ones:

``… --model lognormal-1.0 -s field.kind=hierarchical -s field.variance=1.0``
"""

from __future__ import annotations

import argparse

import numpy as np

from nnlod_fenics import NNLOD
from nnlod_fenics.config import load_config
from nnlod_fenics.montecarlo import Estimate, MonteCarloSettings, monte_carlo
from nnlod_fenics.montecarlo.report import table
from nnlod_fenics.montecarlo.run import find_problem
from nnlod_fenics.norms import l2_norm


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", help="TOML file with the settings")
    parser.add_argument("-s", "--set", action="append", default=[], metavar="KEY=VALUE", help="override a setting")
    parser.add_argument("--model", default="lognormal-1.0", help="model folder, or the name of one of the package")
    parser.add_argument("--with", dest="models", action="append", metavar="MODELS", help="models, with commas")
    parser.add_argument("--reference", default="lod", choices=("lod", "fem"))
    parser.add_argument("--samples", type=int, default=200, help="samples of the reference, or their cost")
    parser.add_argument("--repeats", type=int, default=8)
    return parser.parse_args()


def root_mean_square(values: list[float]) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


def describe(name: str, estimates: list[Estimate], best: np.ndarray, own: bool) -> tuple[float, float]:
    """Print errors and costs of repetitions; measured and stated RMSE² × cost."""
    error = root_mean_square([l2_norm(e.mean - best) for e in estimates])
    if own:  # best is their mean, itself one of their errors away
        error *= np.sqrt(len(estimates) / (len(estimates) - 1))
    cost, stated = float(np.mean([e.cost for e in estimates])), root_mean_square([e.field_error for e in estimates])
    print(f"{name:14s} RMSE {error:.3e} (stated {stated:.3e}), {cost:.1f} s")
    if estimates[0].plan is not None:
        for row in table(estimates[0]):
            if row[0].startswith(("predicted", "model", "fields")):
                print("   ", ": ".join(row))
    return error**2 * cost, stated**2 * cost


def main() -> None:
    arguments = parse()
    model = NNLOD.load(arguments.model)
    grid, law = find_problem(load_config(arguments.config, arguments.set), model)
    reference, samples = arguments.reference, arguments.samples
    settings = {reference: {"method": reference}}
    for names in arguments.models or ["nn", "averaged", "nn,averaged"]:
        settings[names] = {"method": "multifidelity", "reference": reference, "models": names.split(",")}
    found = {
        name: [
            monte_carlo(grid, law, MonteCarloSettings(**given, samples=samples, seed=seed), model)
            for seed in range(arguments.repeats)
        ]
        for name, given in settings.items()
    }
    last = list(found)[-1]
    best = np.mean([e.mean for e in found[last]], axis=0)
    print(f"{law.settings()}, norm of the mean field {l2_norm(best):.4e}, {arguments.repeats} repetitions each")
    work = {name: describe(name, estimates, best, name == last) for name, estimates in found.items()}
    for name in list(found)[1:]:
        measured, stated = (work[reference][k] / work[name][k] for k in range(2))
        print(f"{name}: times cheaper at equal error {measured:.1f} (measured), {stated:.1f} (stated)")


if __name__ == "__main__":
    main()
