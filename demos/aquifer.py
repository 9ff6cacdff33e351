# # Heads and flow lines in an aquifer with a well
#
# This demo illustrates how to
#
# - solve on a box with sides in metres, of which a corner and a clay lens are left out,
# - draw a log-conductivity with layers that dip, and with measured values that it takes,
# - give heads on two sides and a well, and get the water that flows through a side,
# - see what source correctors are for, and how two forms of the coarse problem differ,
# - draw flow lines from a coarse solution.
#
# ## The problem
#
# Find the head $u$ in metres with $-\nabla\cdot(K \nabla u) = q \delta_w$ in $D$, where $D$ is a part of
# $(0, 1200) \times (0, 600)$ metres. At the left $u = 10$, at the right $u = 8$; no water flows through the other
# sides, nor into the corner and the lens. $K$ is the hydraulic conductivity in metres per second. The aquifer is one
# metre thick, and a well at the point $w$ pumps: its rate $q$ is negative.

import argparse
import time
from pathlib import Path

import numpy as np

from nnlod_fenics import Grid, energy_norm, make_field, prolong, relative_l2, solve
from nnlod_fenics.output.paraview import write_results
from nnlod_fenics.output.style import FIELD, SOLUTION, colorbar, figure, save

parser = argparse.ArgumentParser()
parser.add_argument("--coarse", type=int, default=24, help="coarse elements along x, a multiple of 12")
parser.add_argument("--cells", type=int, default=8, help="cells per element and axis")
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--output", type=Path, default=Path("out_aquifer"))
arguments = parser.parse_args()

# ## Domain
#
# Elements are left out by a mask, one entry per coarse element, indexed `[y, x]`. Here it comes from their midpoints.

lengths = (1200.0, 600.0)
coarse = (arguments.coarse, arguments.coarse // 2)
fine = tuple(arguments.cells * n for n in coarse)
x, y = np.meshgrid(*((np.arange(n) + 0.5) * side / n for n, side in zip(coarse, lengths, strict=True)))
corner = (x < 200) & (y > 400)
lens = (x > 600) & (x < 800) & (y > 300) & (y < 400)
grid = Grid(2, coarse, fine, ell=2, lengths=lengths, dirichlet=("xmin", "xmax"), active=~corner & ~lens)

# ## Conductivity
#
# Layers are 100 m long and 25 m thick, as correlation lengths tell, and dip by 20°. Twelve boreholes gave values of
# $\log K$. We have none, so we invent them: places at random, values of another realization of the same law.

law = {"kind": "lognormal", "mean": -9.0, "variance": 2.0, "correlation_length": [100.0, 25.0]}
law["angles"] = float(np.radians(20))
other = make_field(law, 2, fine, lengths).sample(arguments.seed, index=1).Z
rng = np.random.default_rng(arguments.seed)
measured = []
while len(measured) < 12:
    point = np.round(rng.uniform((0, 0), lengths))
    cell = tuple((point / grid.at_fine_scale.widths).astype(int).clip(max=np.array(fine) - 1))[::-1]
    if grid.at_fine_scale.active[cell] and cell not in [known for *_, known in measured]:
        measured.append((*point, round(other[cell], 2), cell))

conditions = [row[:3] for row in measured]
sample = make_field(law | {"conditions": conditions}, 2, fine, lengths).sample(arguments.seed, index=0)
K = sample.A
missed = max(abs(sample.Z[cell] - value) for *_, value, cell in measured)
print(f"12 measured values of log K, from {min(m[2] for m in measured)} to {max(m[2] for m in measured)}")
print(f"largest difference of the field from them {missed:.0e}; contrast of K {K.max() / K.min():.0f}")

# ## Solutions
#
# Finite elements on $T_h$ for comparison, then three coarse solutions: by the Petrov–Galerkin form without and with
# source correctors, and by the Galerkin form, which always has them. With `reconstruct=True` a solution has its fine
# scales, too: `u_fine`.

well, rate = (450.0, 250.0), -2e-4
problem = {"f": 0.0, "g": {"xmin": 10.0, "xmax": 8.0}, "wells": [(well, rate)]}
options = {
    "FEM": {"method": "fem"},
    "PG-LOD, no source correctors": {"reconstruct": True},
    "PG-LOD": {"source_correctors": True, "reconstruct": True},
    "Galerkin LOD": {"form": "galerkin", "reconstruct": True},
}
solutions, seconds = {}, {}
for name, given in options.items():
    start = time.perf_counter()
    solutions[name] = solve(grid, K, **problem, **given)
    seconds[name] = time.perf_counter() - start

# ## Errors and fluxes
#
# Water through a side comes from the residual of the discrete problem, so what flows in, out, and to the well sums to
# zero for coarse solutions as well. Errors are relative, against FEM: those of the coarse solution in $L^2$, and
# those with fine scales in $L^2$ and in energy.

fem = solutions["FEM"]
day = 86400
print(f"the well takes {-rate * day:.2f} m³ of water a day and lowers the head to {np.nanmin(fem.u):.2f} m")
print(f"{'':29s}in at the left  out at the right   balance    coarse     fine   energy     time")
for name, solution in solutions.items():
    into, out = -day * solution.outflow("xmin"), day * solution.outflow("xmax")
    line = f"{name:29s}{into:8.3f} m³/day {out:10.3f} m³/day {into - out + rate * day:9.0e}"
    if solution is not fem:
        errors = [relative_l2(prolong(grid, solution.u), fem.u, grid), relative_l2(solution.u_fine, fem.u, grid)]
        errors.append(energy_norm(grid, solution.u_fine - fem.u, K) / energy_norm(grid, fem.u, K))
        line += "".join(f"{error:9.1e}" for error in errors)
    print(f"{line:97s}{seconds[name]:7.1f} s")
pg, galerkin = solutions["PG-LOD"], solutions["Galerkin LOD"]
print(f"PG-LOD: {pg.reliability}")
print(f"relative L2 error of PG-LOD with fine scales {relative_l2(pg.u_fine, fem.u, grid):.2e}")

# ## Files for ParaView

heads = {"head FEM": fem.u, "head PG-LOD": pg.u_fine, "head Galerkin LOD": galerkin.u_fine, "coarse head": pg.u}
arguments.output.mkdir(exist_ok=True)
write_results(arguments.output, grid, K, heads)

# ## Pictures
#
# The conductivity with the boreholes, whose colours are the measured values, and the well.


def furnish(ax, title):
    """Axes in metres, the well and the parts that are left out."""
    ax.imshow(np.where(grid.active, np.nan, 0.0), extent=(0, 1200, 0, 600), cmap="gray", vmin=-3, vmax=1)
    ax.plot(*well, "v", ms=8, mfc="white", mec="black")
    ax.set(aspect="equal", xlabel="$x$ in m", ylabel="$y$ in m", title=title, xlim=(0, 1200), ylim=(0, 600))
    ax.set(xticks=range(0, 1201, 200), yticks=range(0, 601, 200))


inside = grid.at_fine_scale.active
log_K = np.where(inside, np.log10(K), np.nan)
colours = {"cmap": FIELD, "vmin": np.nanmin(log_K), "vmax": np.nanmax(log_K)}
with figure(8.0, 4.2) as fig:
    ax = fig.subplots()
    image = ax.imshow(log_K, extent=(0, 1200, 0, 600), **colours)
    furnish(ax, "conductivity, boreholes (circles) and well (triangle)")
    x, y, values = np.array(conditions).T
    ax.scatter(x, y, c=values / np.log(10), s=60, edgecolors="white", clip_on=False, zorder=3, **colours)
    colorbar(fig, image, ax, r"$\log_{10} K$, with $K$ in m/s")
    save(fig, arguments.output / "conductivity.png")

# Flow lines follow the flux $-K \nabla u$, which is taken at the midpoints of cells. They start at the left, one for
# each thirtieth of the water that enters there: those that end in the well tell its share.


def flux(u):
    """The flux at the midpoints of cells, x and y components."""
    dx, dy = grid.at_fine_scale.widths
    along, across = (u[1:] + u[:-1]) / 2, (u[:, 1:] + u[:, :-1]) / 2
    return -K * np.diff(along, axis=1) / dx, -K * np.diff(across, axis=0) / dy


def starts(inflow, y):
    """Places in the first column of cells that split what enters there in thirty equal parts."""
    share = np.cumsum(np.where(np.isfinite(inflow), inflow, 0))
    return np.interp((np.arange(30) + 0.5) / 30 * share[-1], share, y)


x, y = ((np.arange(n) + 0.5) * width for n, width in zip(fine, grid.at_fine_scale.widths, strict=True))
nodes = [np.linspace(0, side, n + 1) for n, side in zip(fine, lengths, strict=True)]
with figure(8.0, 8.0) as fig:
    axes = fig.subplots(2, 1)
    for ax, (name, u) in zip(axes, {"FEM": fem.u, "PG-LOD": pg.u_fine}.items(), strict=True):
        shown = np.ma.masked_invalid(u)
        image = ax.pcolormesh(*nodes, shown, shading="gouraud", cmap=SOLUTION, vmin=np.nanmin(fem.u), vmax=10)
        ax.contour(*nodes, shown, levels=np.arange(7.0, 10.0, 0.25), colors="black", linewidths=0.5, alpha=0.6)
        qx, qy = flux(u)
        seeds = [(x[0], start) for start in starts(qx[:, 0], y)]
        ax.streamplot(
            x, y, *map(np.ma.masked_invalid, (qx, qy)), color="white", linewidth=0.8, arrowsize=0.8, start_points=seeds,
            integration_direction="forward", broken_streamlines=False, density=10,  # which means short steps here
        )  # fmt: skip
        furnish(ax, f"head and flow lines, {name}")
    axes[0].label_outer()
    colorbar(fig, image, axes, "head in m, lines every 0.25 m")
    save(fig, arguments.output / "heads.png")

# ![The conductivity with the boreholes and the well](out_aquifer/conductivity.png)
#
# ![Heads and flow lines by FEM and by PG-LOD](out_aquifer/heads.png)
