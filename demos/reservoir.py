# # Flow through a layered and channelised reservoir
#
# This demo illustrates how to
#
# - solve in three dimensions on flat cells, with a conductivity that is a matrix: less across layers than along them,
# - see where the Petrov–Galerkin form fails, and that its reliability says so,
# - take the Galerkin form there.
#
# ## The problem
#
# Find the pressure $p$ with $-\nabla\cdot(A \nabla p) = 0$ where $A = k/\mu$. Water of viscosity $\mu$ = 0.3 cP enters
# at 6,000 psi at $y = 0$ and leaves at 4,000 psi at the opposite side; nothing flows through the others.
#
# The permeability $k$ has the character of that of the tenth SPE comparative solution project, model 2 (M. A. Christie
# and M. J. Blunt, SPE Reservoir Evaluation & Engineering 4, 2001): 60 × 220 × 85 cells of 20 × 10 × 2 ft; 35 layers of
# the Tarbert formation, a shore, whose permeability varies smoothly, upon 50 of Upper Ness, where rivers left channels
# of sand in mud. It is drawn from a few statistics, none of its data are needed.

import argparse
import time
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import LogNorm

from nnlod_fenics import Grid, energy_norm, make_field, prolong, relative_l2, solve
from nnlod_fenics.output.paraview import write_results
from nnlod_fenics.output.style import FIELD, SOLUTION, colorbar, figure, save


def layers(text):
    """``first:last``, without the last."""
    first, last = map(int, text.split(":"))
    if not 0 <= first < last <= 85 or (last - first) % 5:
        raise ValueError
    return first, last


parser = argparse.ArgumentParser()
parser.add_argument("--size", type=int, nargs=2, default=(20, 30), help="cells along x and y, multiples of 5")
parser.add_argument("--layers", type=layers, nargs="+", default=[(0, 10), (35, 45)], help="0:85 for all, from the top")
parser.add_argument("--ell", type=int, default=1, help="layers of elements around one in its patch")
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--output", type=Path, default=Path("out_reservoir"))
arguments = parser.parse_args()

# ## Permeability
#
# In millidarcy. Tarbert: lognormal, long along the layers. Upper Ness: sand of about 500 mD in channels that meander
# along $y$, in mud of about 0.1 mD. Across layers it is less by a factor: 0.3 in the channels and 0.001 in the mud, as
# in the model; 0.1 in Tarbert is our choice. `A` is indexed `[z, y, x]`, here from the bottom to the top, and each
# entry is a 3 × 3 matrix.

cell = np.array([20.0, 10.0, 2.0])  # ft


def lognormal(cells, median, variance, correlation_length, index):
    """Realizations of other numbers are independent."""
    law = {"kind": "lognormal", "mean": float(np.log(median)), "variance": variance}
    law["correlation_length"] = correlation_length
    return make_field(law, 3, cells, tuple(cell * cells)).sample(arguments.seed, index).A


def channels(cells, share=0.35):
    """Which cells are sand: channels are drawn until a share of the volume is."""
    rng = np.random.default_rng(arguments.seed)
    z, y, x = ((index + 0.5) * side for index, side in zip(np.indices(cells[::-1]), cell[::-1], strict=True))
    sand = np.zeros(x.shape, dtype=bool)
    while sand.mean() < share:
        low, high = (50, 4, 50, 600, 0), (110, 8, 150, 1200, 2 * np.pi)  # ft
        width, thickness, swing, length, phase = rng.uniform(low, high)
        middle = rng.uniform(0, cell[0] * cells[0]) + swing * np.sin(2 * np.pi * y / length + phase)
        sand |= ((x - middle) / width) ** 2 + ((z - rng.uniform(0, cell[2] * cells[2])) / thickness) ** 2 < 1
    return sand


def permeability(first, last):
    """Along and across layers, of some layers that are numbered from the top."""
    along, across = [], []
    if last > 35:
        cells = (*arguments.size, last - max(first, 35))
        sand = channels(cells)
        k = np.where(sand, lognormal(cells, 500, 0.5, [100, 200, 4], 0), lognormal(cells, 0.1, 1.0, [100, 100, 4], 1))
        along.append(k)
        across.append(k * np.where(sand, 0.3, 0.001))
    if first < 35:
        cells = (*arguments.size, min(last, 35) - first)
        along.append(lognormal(cells, 50, 2.0, [200, 200, 6], 2))
        across.append(0.1 * along[-1])
    return np.concatenate(along), np.concatenate(across)


# ## Solutions
#
# Elements of 5 × 5 × 5 cells, 100 × 50 × 10 ft. In these units $A$ is in barrels per day, ft and psi if millidarcy over
# centipoise are multiplied by 0.001127. Errors are relative, against FEM: of the coarse solution and with fine scales
# in $L^2$, and the latter in energy. $p$ is taken from 4,000 psi, so that errors are those of the fall of pressure.

options = {
    "FEM": {"method": "fem"},
    "PG-LOD": {"reconstruct": True},
    "Galerkin LOD": {"form": "galerkin", "reconstruct": True},
}
arguments.output.mkdir(exist_ok=True)
pictures, worst = {}, 0.0
for first, last in arguments.layers:
    cells = (*arguments.size, last - first)
    coarse = tuple(n // 5 for n in cells)
    grid = Grid(3, coarse, cells, arguments.ell, lengths=tuple(cell * cells), dirichlet=("ymin", "ymax"))
    along, across = permeability(first, last)
    A = 0.001127 / 0.3 * np.stack([along, along, across], axis=-1)[..., None] * np.eye(3)
    bounds = f"{along.min():.0e} to {along.max():.0e} mD"
    print(f"layers {first} to {last}: {grid.num_elements} elements of 125 cells, k {bounds}")
    print(f"{'':13s}{'into':>13s}{'out of':>13s} the cut-out  {'coarse':>9s}{'fine':>9s}{'energy':>9s}{'time':>9s}")
    solutions = {}
    for name, given in options.items():
        start = time.perf_counter()
        solution = solutions[name] = solve(grid, A, f=0.0, g={"ymin": 2000.0, "ymax": 0.0}, **given)
        seconds = time.perf_counter() - start
        line = f"{name:13s}{-solution.outflow('ymin'):13.2f}{solution.outflow('ymax'):13.2f} barrels/day"
        if name == "FEM":
            fem = solution.u
            line += 28 * " "
        else:
            errors = [relative_l2(prolong(grid, solution.u), fem, grid), relative_l2(solution.u_fine, fem, grid)]
            errors.append(energy_norm(grid, solution.u_fine - fem, A) / energy_norm(grid, fem, A))
            line += " " + "".join(f"{error:9.1e}" for error in errors)
            worst = errors[0] if name == "Galerkin LOD" and errors[0] > worst else worst
        print(f"{line}{seconds:7.1f} s")
    print(f"PG-LOD: {solutions['PG-LOD'].reliability}")
    heads = {name: 4000 + solution.u_fine for name, solution in solutions.items()}
    write_results(arguments.output / f"layers_{first}_to_{last}", grid, A, heads)
    pictures[f"layers {first} to {last}"] = grid, along, heads
print(f"largest relative L2 error of Galerkin LOD {worst:.2e}")

# What this tells at the default size. In Tarbert both forms are right: to 0.3 % in the flow and 1 % in the pressure;
# the reliability is too cautious there, since correctors reach the ends of patches of one layer. In Upper Ness, where
# channels cross whole patches, the Petrov–Galerkin form is no longer coercive. Its pressure is wrong by more than it
# falls, and the reliability says so by every sign; that the flow is right nevertheless, to 0.1 %, is nothing to rely
# on. The Galerkin form cannot lose coercivity: its error in energy is 10 %, that in the flow 1 %. In the mud, where
# hardly anything flows, its pressure is wrong by more. Correctors decay so slowly at this contrast that a second layer
# (`--ell 2`, minutes) improves on neither form here.
#
# ## Pictures
#
# The permeability along layers: on a layer in the middle, and on two sections, ten times as high as they are.


def draw(ax, image, sides, labels, title, stretch=1):
    """Cell values on a plane."""
    (width, height), (horizontal, vertical) = sides, labels
    drawn = ax.imshow(image, extent=(0, width, 0, height), cmap=FIELD, norm=norm)
    ax.set(aspect=stretch, xlabel=f"${horizontal}$ in ft", ylabel=f"${vertical}$ in ft", title=title)
    return drawn


norm = LogNorm(min(k.min() for _, k, _ in pictures.values()), max(k.max() for _, k, _ in pictures.values()))
across = [cell[0] * arguments.size[0]] * 2 + [cell[1] * arguments.size[1]]
with figure(10.0, 3.0 * len(pictures)) as fig:
    panels = fig.subplots(len(pictures), 3, squeeze=False, width_ratios=across)
    for row, (name, (grid, k, _)) in zip(panels, pictures.items(), strict=True):
        (X, Y, Z), middle = grid.lengths, [n // 2 for n in k.shape]
        z, y, x = ((n + 0.5) * side for n, side in zip(middle, cell[::-1], strict=True))
        image = draw(row[0], k[middle[0]], (X, Y), "xy", f"{name}, $z = {z:g}$ ft")
        draw(row[1], k[:, middle[1]], (X, Z), "xz", f"$y = {y:g}$ ft", 10)
        draw(row[2], k[:, :, middle[2]], (Y, Z), "yz", f"$x = {x:g}$ ft", 10)
    colorbar(fig, image, panels, "$k$ along layers, in mD")
    save(fig, arguments.output / "permeability.png")

# The pressure half-way between bottom and top. Values beyond those that are given, which no pressure can have, are red.

red = colormaps[SOLUTION].with_extremes(under="red", over="red")
with figure(9.0, 2.9 * len(pictures)) as fig:
    panels = fig.subplots(len(pictures), len(options), squeeze=False, sharex=True, sharey=True)
    for row, (name, (grid, _, heads)) in zip(panels, pictures.items(), strict=True):
        nodes = [np.linspace(0, side, n + 1) for side, n in zip(grid.lengths[:2], grid.fine[:2], strict=True)]
        for ax, (method, p) in zip(row, heads.items(), strict=True):
            image = ax.pcolormesh(*nodes, p[len(p) // 2], vmin=3999, vmax=6001, cmap=red, shading="gouraud")
            ax.set(aspect="equal", xlabel="$x$ in ft", ylabel="$y$ in ft", title=f"{name}, {method}")
            ax.label_outer()
    colorbar(fig, image, panels, "pressure in psi")
    save(fig, arguments.output / "pressure.png")

# ![The permeability on planes through the cut-outs](out_reservoir/permeability.png)
#
# ![The pressure by FEM and by both forms of the LOD](out_reservoir/pressure.png)
