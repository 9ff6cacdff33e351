# # A coefficient of your own, in one, two or three dimensions
#
# This demo illustrates how to
#
# - compress a coefficient that is given as an array (here: conducting layers of contrast 20),
# - pass a right-hand side as a function,
# - do the same in any dimension.

import argparse
from pathlib import Path

import numpy as np

from nnlod_fenics import Grid, solve
from nnlod_fenics.norms import prolong, relative_l2
from nnlod_fenics.output.figures import plot_coefficient, plot_cross_sections
from nnlod_fenics.output.paraview import write_results

parser = argparse.ArgumentParser()
parser.add_argument("--dim", type=int, default=3, choices=[1, 2, 3])
parser.add_argument("--coarse", type=int, default=8)
parser.add_argument("--output", type=Path, default=Path("out_own_coefficient"))
arguments = parser.parse_args()

# ## Coefficient
#
# One positive number per cell, indexed `A[y, x]` or `A[z, y, x]`: here layers across the last axis.

grid = Grid(dim=arguments.dim, coarse=arguments.coarse, fine=4 * arguments.coarse, ell=1)
A = np.ones(grid.coefficient_shape)
A[1::5] = 20.0


# ## Source
#
# A function of points of shape `(d, n)`, x first.


def f(x):
    """A source around the center."""
    return np.exp(-10 * np.sum((x - 0.5) ** 2, axis=0))


# ## Solution

u_lod, u_fem = (solve(grid, A, method, f).u for method in ("lod", "fem"))
print(f"d = {grid.dim}: relative L2 error against the fine solution {relative_l2(prolong(grid, u_lod), u_fem):.2e}")

# ## Pictures, and files for ParaView
#
# In three dimensions, the coefficient on the three planes through the centre, and the solutions along two lines.

arguments.output.mkdir(exist_ok=True)
plot_coefficient(arguments.output / "coefficient.png", A)
plot_cross_sections(arguments.output / "cross_sections.png", {"FEM": u_fem, "PG-LOD": u_lod})
write_results(arguments.output, grid, A, {"u_fem": u_fem, "u_lod": u_lod})

# ![The coefficient](out_own_coefficient/coefficient.png)
#
# ![The solutions](out_own_coefficient/cross_sections.png)
