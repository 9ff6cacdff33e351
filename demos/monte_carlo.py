# # Monte Carlo with a surrogate and without its bias
#
# This demo illustrates how to
#
# - estimate expectations of the solution over random coefficients, with confidence intervals,
# - estimate those of functionals, one of them a Python function,
# - use a network as control variate, so that its errors cost time but no accuracy.
#
# It runs on one process, or on any number of them: `mpirun -n 4 python demos/monte_carlo.py`. On the command line the
# same is done by `nnlod montecarlo`.

import argparse
from pathlib import Path

import numpy as np
from mpi4py import MPI

from nnlod_fenics import NNLOD, MonteCarloSettings, make_field, monte_carlo
from nnlod_fenics.montecarlo import BoxAverage, Outflow, PointValue
from nnlod_fenics.norms import l2_norm
from nnlod_fenics.output.figures import plot_cross_sections, plot_solutions

parser = argparse.ArgumentParser()
parser.add_argument("--model", default="lognormal-0.5", help="model folder, or the name of one of the package")
parser.add_argument("--samples", type=int, default=60, help="work, in solutions by PG-LOD")
parser.add_argument("--pilot", type=int, default=12, help="samples of the pilot run")
parser.add_argument("--output", type=Path, default=Path("out_monte_carlo"))
arguments = parser.parse_args()

model = NNLOD.load(arguments.model)
grid = model.grid
law = make_field(model.law, grid.dim, grid.coefficient)

# ## Functionals
#
# Those of the package, and any function of a solution that returns a number. A solution knows its grid, its nodal
# values `u`, the coefficient `A` and, for PG-LOD and NN-LOD, its local matrices.


def largest(solution):
    """Largest nodal value."""
    return float(solution.u.max())


functionals = {
    "centre": PointValue((0.5, 0.5)),
    "left half": BoxAverage((0.0, 0.0), (0.5, 1.0)),
    "outflow at the right": Outflow("x=1"),
    "largest value": largest,
}

# ## Estimate
#
# `"multifidelity"` solves few realizations by PG-LOD and by the network, and many more by the network alone. Sample
# numbers come from a pilot run. The expectation is that of PG-LOD: the bias of the network drops out. `samples` is the
# work of all this, in solutions by PG-LOD. One may give a `tolerance` or a time (`seconds`) as well.

settings = MonteCarloSettings(method="multifidelity", samples=arguments.samples, pilot=arguments.pilot, seed=1)
estimate = monte_carlo(
    grid, law, settings, model, functionals=functionals, output=arguments.output / "means", overwrite=True
)

# ## Result
#
# All ranks have the estimate; one of them tells it. The folder `means` holds the same numbers as JSON, NumPy and
# ParaView files. Beside each error stands that of plain Monte Carlo by PG-LOD for the same work.

if MPI.COMM_WORLD.rank == 0:
    print(f"samples: {estimate.samples}")
    print(
        f"{'functional':22s} {'mean':>9s}  {'95 % interval':21s} {'error':>8s} {'plain MC':>9s} {'network bias':>13s}"
    )
    for name, found in estimate.functionals.items():
        low, high = found.interval
        plain = np.sqrt(found.variance / arguments.samples)
        bias = "not used" if found.network_bias is None else f"{found.network_bias:.1e}"
        print(
            f"{name:22s} {found.mean:9.5f}  {f'[{low:.5f}, {high:.5f}]':21s} {found.standard_error:8.1e} {plain:9.1e}"
            f" {bias:>13s}"
        )
    plot_solutions(arguments.output / "mean.png", {"mean": estimate.mean})
    deviation = np.sqrt(estimate.variance.clip(0))
    plot_solutions(arguments.output / "deviation.png", {"standard deviation": deviation})
    lines = {"mean": estimate.mean, "minus twice the deviation": estimate.mean - 2 * deviation}
    lines["plus twice the deviation"] = estimate.mean + 2 * deviation
    plot_cross_sections(arguments.output / "spread.png", lines)
    print(f"relative L2 error of the mean field, as estimated: {estimate.field_error / l2_norm(estimate.mean):.1e}")

# ![The mean of the solution](out_monte_carlo/mean.png)
#
# ![Its standard deviation](out_monte_carlo/deviation.png)
#
# ![The spread of the solution along two lines](out_monte_carlo/spread.png)
