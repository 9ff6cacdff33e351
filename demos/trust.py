# # Knowing when the network is wrong
#
# This demo illustrates how to
#
# - estimate the error of each predicted local matrix,
# - let the patches whose estimate exceeds a tolerance be computed exactly,
# - see that on fields that the network was trained for few patches are recomputed, and on others as many as needed.

import argparse
from pathlib import Path

import numpy as np

from nnlod_fenics import NNLOD, coarse_operator, local_matrices, solve_coarse
from nnlod_fenics.fields import make_field
from nnlod_fenics.network import matrix_errors
from nnlod_fenics.norms import relative_l2
from nnlod_fenics.output import figures

parser = argparse.ArgumentParser()
parser.add_argument("--model", default="lognormal-0.5", help="model folder, or the name of one of the package")
parser.add_argument("--tolerance", type=float, default=0.02, help="relative error of a local matrix")
parser.add_argument("--output", type=Path, default=Path("out_trust"))
arguments = parser.parse_args()

model = NNLOD.load(arguments.model)
grid, cells = model.grid, model.grid.coefficient[0]
law = make_field(model.law, grid.dim, cells)

# ## Fields
#
# One like those of the training, and some that it has never seen.

rng = np.random.default_rng(0)
plain = law.sample(seed=0, index=0, stage=1).Z
channel, inclusions = plain.copy(), plain.copy()
channel[..., 5 * cells // 16 : 6 * cells // 16, :] += np.log(1e4)
for corner in rng.integers(0, cells - 3, (8, grid.dim)):
    inclusions[tuple(slice(k, k + 3) for k in corner)] += np.log(1e4)


def lognormal(correlation_length, index):
    settings = {"kind": "lognormal", "variance": 1.0, "correlation_length": correlation_length}
    return make_field(settings, grid.dim, cells).sample(seed=1, index=index, stage=1).Z


def layered():
    """Much longer along x than across, with the variance of the training and about the mean of its jumps."""
    exact = make_field({"kind": "lognormal", "variance": 1.0, "correlation_length": 0.025}, 1, cells)
    profile = np.sqrt(law.settings().get("variance", 1.0)) * exact.sample(seed=1, index=4, stage=1).Z
    return np.broadcast_to(profile.reshape((cells, *(1,) * (grid.dim - 1))), grid.coefficient_shape).copy()


fields = {
    "as in training": plain,
    "channel of contrast 1e4": channel,
    "inclusions of contrast 1e4": inclusions,
    "correlation length 0.2": lognormal(0.2, 0),
    "correlation length 0.0125": lognormal(0.0125, 1),
    "Gaussian mixture": 1.5 * np.sign(lognormal(0.05, 2)) + 0.3 * lognormal(0.05, 3),
    "layers": layered(),
    "constant": np.zeros(grid.coefficient_shape),
}

# ## Estimates, and the solution with the doubtful patches computed exactly

largest = 0.0
print(f"{'field':28s} recomputed  true error > {arguments.tolerance:g}: before, after   solution: before, after")
for name, Z in fields.items():
    A = np.exp(Z)
    exact, predicted = local_matrices(grid, A), model.local_matrices(grid, A)
    mended = model.local_matrices(grid, A, trust=arguments.tolerance)
    doubtful = model.error_estimates(grid, A) > arguments.tolerance
    wrong = [np.mean(matrix_errors(S, exact) > arguments.tolerance) for S in (predicted, mended)]
    u = [solve_coarse(grid, coarse_operator(grid, S)) for S in (exact, predicted, mended)]
    errors = [relative_l2(v, u[0]) for v in u[1:]]
    largest = max(largest, errors[1])
    print(
        f"{name:28s} {100 * doubtful.mean():8.1f} % {100 * wrong[0]:21.1f} %, {100 * wrong[1]:4.1f} %"
        f"{100 * errors[0]:14.2f} %, {100 * errors[1]:5.2f} %"
    )
    folder = arguments.output / name.replace(" ", "_").replace(".", "_")
    if grid.dim == 2:
        figures.plot_coefficient(folder / "coefficient.png", A)
        shape = grid.element_shape
        recomputed = doubtful.reshape(shape).astype(float)
        figures.plot_elements(folder / "recomputed.png", recomputed, "recomputed (1) or predicted (0)")
        figures.plot_elements(folder / "true_errors.png", matrix_errors(predicted, exact).reshape(shape), "true error")
print(f"largest relative L2 error against PG-LOD with doubtful patches computed exactly: {largest:.1e}")

# Patches that the channel passes through are computed exactly; the others are predicted.
#
# ![The coefficient with a channel](out_trust/channel_of_contrast_1e4/coefficient.png)
#
# ![The true errors of its predicted local matrices](out_trust/channel_of_contrast_1e4/true_errors.png)
#
# ![The patches that are recomputed](out_trust/channel_of_contrast_1e4/recomputed.png)
