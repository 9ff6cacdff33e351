# # Compress a rough random coefficient into a small coarse matrix
#
# This demo illustrates how to
#
# - draw a lognormal Matérn field,
# - compute the local matrices of the Petrov–Galerkin LOD, and assemble the coarse operator in PETSc,
# - solve on the coarse mesh, and compare with the fine finite element solution.
#
# ## The problem
#
# Find $u$ with $-\nabla\cdot(A \nabla u) = f$ in $D = (0,1)^2$, $u = 0$ on $\partial D$, where
# $A = \exp(Z)$ and $Z$ is a Gaussian field with covariance (2.3). The meshes are nested:
# $T_H \supset T_\varepsilon \supset T_h$.

import argparse
import time
from pathlib import Path

from nnlod_fenics import Grid, coarse_matrix, local_matrices, make_field, solve_coarse, solve_fine
from nnlod_fenics.norms import prolong, relative_l2
from nnlod_fenics.output.figures import plot_coefficient, plot_solutions
from nnlod_fenics.output.paraview import write_results

parser = argparse.ArgumentParser()
parser.add_argument("--coarse", type=int, default=32, help="1/H")
parser.add_argument("--fine", type=int, default=256, help="1/h")
parser.add_argument("--output", type=Path, default=Path("out_compress_field"))
arguments = parser.parse_args()

# ## Field
#
# A law of coefficients gives the same realization for the same seed and number, on every machine size.

grid = Grid(dim=2, coarse=arguments.coarse, fine=arguments.fine, ell=2, coefficient=arguments.fine // 2)
law = make_field({"kind": "lognormal", "variance": 1.0, "correlation_length": 0.05}, grid.dim, grid.coefficient)
A = law.sample(seed=0, index=0).A
print(f"contrast of A: {A.max() / A.min():.0f}")

# ## Compression
#
# One local matrix (3.6) for each coarse element, from the coefficient on its patch; then (3.7).

start = time.perf_counter()
S = local_matrices(grid, A)
K = coarse_matrix(grid, S)
print(f"{grid.num_elements} local matrices in {time.perf_counter() - start:.2f} s; coarse matrix {K.getSize()}")

# ## Solution
#
# The coarse solution serves for any right-hand side; here $f = 1$.

u_lod = solve_coarse(grid, K, f=1.0)
u_fem = solve_fine(grid, A, f=1.0).values()
print(f"relative L2 error against the fine solution: {relative_l2(prolong(grid, u_lod), u_fem):.2e}")

# ## Pictures, and files for ParaView

arguments.output.mkdir(exist_ok=True)
plot_coefficient(arguments.output / "coefficient.png", A)
plot_solutions(arguments.output / "solutions.png", {"FEM": u_fem, "PG-LOD": u_lod})
for path in write_results(arguments.output, grid, A, {"u_fem": u_fem, "u_lod": u_lod}):
    print(f"wrote {path}")

# ![The coefficient](out_compress_field/coefficient.png)
#
# ![The solutions](out_compress_field/solutions.png)
