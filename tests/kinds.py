"""Kinds of rough coefficients of low to extreme contrast, on any grid, and fine solutions to compare with."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy.sparse.linalg
import scipy.spatial

from nnlod_fenics import Grid
from nnlod_fenics.coefficient import check_coefficient
from nnlod_fenics.grid import lattice
from nnlod_fenics.loads import fine_load
from nnlod_fenics.lod.interpolation import quasi_interpolation
from nnlod_fenics.lod.leaves import cell_forms
from nnlod_fenics.problem import Problem, boundary_values

Array = np.ndarray
Make = Callable[[np.random.Generator, tuple[int, ...], int, float], Array]


def gaussian(rng: np.random.Generator, shape: tuple[int, ...], lengths: tuple[float, ...], angle: float = 0.0) -> Array:
    """About a Gaussian field of unit variance with an exponential covariance.

    Args:
        rng: Where it is drawn from.
        shape: Cells per axis.
        lengths: Correlation lengths in cells, x first.
        angle: By which the axes of the lengths are turned from x to y.
    """
    doubled = [2 * n for n in shape]  # opposite ends are not correlated
    waves = np.meshgrid(*(2 * np.pi * np.fft.fftfreq(n) for n in doubled), indexing="ij")[::-1]
    if angle:
        c, s = np.cos(angle), np.sin(angle)
        waves = [c * waves[0] + s * waves[1], -s * waves[0] + c * waves[1], *waves[2:]]
    squares = sum((length * wave) ** 2 for length, wave in zip(lengths, waves, strict=True))
    colour = (1 + squares) ** (-(0.5 + len(shape) / 2) / 2)
    noise = np.fft.ifftn(np.fft.fftn(rng.standard_normal(doubled)) * colour).real
    return noise[tuple(slice(n) for n in shape)] / np.sqrt(np.mean(colour**2))


def _lognormal(short: float, long: float | None = None, angle: float = 0.0) -> Make:
    """Correlation lengths in elements; the level is the variance of log A."""

    def make(rng: np.random.Generator, shape: tuple[int, ...], width: int, level: float) -> Array:
        lengths = [(short if long is None else long) * width] + [short * width] * (len(shape) - 1)
        return np.exp(np.sqrt(level) * gaussian(rng, shape, tuple(lengths), angle))

    return make


def _two_scale(rng: np.random.Generator, shape: tuple[int, ...], width: int, level: float) -> Array:
    parts = [gaussian(rng, shape, (k * width,) * len(shape)) for k in (3, 0.25)]
    return np.exp(np.sqrt(level / 2) * (parts[0] + parts[1]))


def _trend(rng: np.random.Generator, shape: tuple[int, ...], width: int, level: float) -> Array:
    """Contrast ``level`` from one side to the other beside a lognormal field."""
    along = np.linspace(0, np.log(level), shape[-1])
    return np.exp(along + gaussian(rng, shape, (0.5 * width,) * len(shape)))


def _two_phase(share: float, short: float, long: float | None = None) -> Make:
    """Value ``level`` in a share of D, one elsewhere."""

    def make(rng: np.random.Generator, shape: tuple[int, ...], width: int, level: float) -> Array:
        lengths = [(short if long is None else long) * width] + [short * width] * (len(shape) - 1)
        Z = gaussian(rng, shape, tuple(lengths), rng.uniform(0, np.pi) if long else 0.0)
        return np.where(np.quantile(Z, 1 - share) < Z, level, 1.0)

    return make


def _jumps(rng: np.random.Generator, shape: tuple[int, ...], width: int, level: float) -> Array:
    """A level for each block of the size of an element, but not aligned with them."""
    blocks = np.exp(level * rng.standard_normal([n // width + 2 for n in shape]))
    shift = width // 2 if rng.random() < 0.5 else 0
    spread = blocks
    for axis, n in enumerate(shape):
        spread = np.repeat(spread, width, axis=axis).take(range(shift, shift + n), axis=axis)
    return spread * np.exp(0.5 * gaussian(rng, shape, (0.3 * width,) * len(shape)))


def _checkerboard(rng: np.random.Generator, shape: tuple[int, ...], width: int, level: float) -> Array:
    """Squares of a side that changes from field to field."""
    side = max(int(rng.choice([width // 4, width // 2, width, 3 * width // 2])), 1)
    squares = sum(index // side for index in np.indices(shape)) % 2
    return np.where(squares == 1, level, 1.0)


def _layers(rng: np.random.Generator, shape: tuple[int, ...], width: int, level: float) -> Array:
    """Thin layers across all of D, along every axis, that cross."""
    A = np.ones(shape)
    for axis, n in enumerate(shape):
        for position in rng.choice(n, max(n // (3 * width), 1), replace=False):
            A[(slice(None),) * axis + (slice(position, position + max(width // 4, 1)),)] = level
    return A


def _boxes(rng: np.random.Generator, shape: tuple[int, ...], width: int, level: float) -> Array:
    """Closed barriers, a cell thin, around boxes of one to four elements a side: compartments that nearly float."""
    A = np.ones(shape)
    for _ in range(max(int(np.prod(shape)) // (12 * width ** len(shape)), 2)):
        sizes = [int(min(rng.uniform(1, 4) * width, n - 2)) for n in shape]
        corner = [int(rng.integers(0, n - size)) for n, size in zip(shape, sizes, strict=True)]
        box = tuple(slice(c, c + size) for c, size in zip(corner, sizes, strict=True))
        inner = tuple(slice(c + 1, c + size - 1) for c, size in zip(corner, sizes, strict=True))
        kept = A[inner].copy()
        A[box] = level
        A[inner] = kept
    return A


def _noise(rng: np.random.Generator, shape: tuple[int, ...], width: int, level: float) -> Array:
    """Independent in all cells, log-uniform."""
    return np.exp(np.log(level) * rng.random(shape))


def _grains(rng: np.random.Generator, shape: tuple[int, ...], width: int, level: float) -> Array:
    """Voronoi cells about as large as elements, each with a log-uniform value."""
    cells = np.stack([index.ravel() for index in np.indices(shape)], axis=1)
    centres = rng.random((int(np.prod(shape)) // width ** len(shape), len(shape))) * shape
    owner = scipy.spatial.cKDTree(centres).query(cells)[1]
    return np.exp(np.log(level) * rng.random(len(centres)))[owner].reshape(shape)


def _fractures(rng: np.random.Generator, shape: tuple[int, ...], width: int, level: float) -> Array:
    """Conductive lines of random direction and of a length of up to five elements in a lognormal field."""
    A = np.exp(0.5 * gaussian(rng, shape, (0.3 * width,) * len(shape)))
    for _ in range(int(np.prod(shape)) // (2 * width ** len(shape))):
        direction = rng.standard_normal(len(shape))
        along = np.linspace(0, rng.uniform(1, 5) * width, 20 * width)[:, None] * direction / np.linalg.norm(direction)
        at = (rng.random(len(shape)) * shape + along).astype(int)
        at = at[((at >= 0) & (at < shape)).all(axis=1)]
        A[tuple(at.T)] = level
    return A


KINDS: dict[str, tuple[Make, tuple[float, ...]]] = {
    "lognormal": (_lognormal(0.5), (0.5, 1.0)),
    "lognormal, rough": (_lognormal(0.5), (4.0, 9.0)),
    "anisotropic": (_lognormal(0.2, 2.0), (2.0, 4.0)),
    "anisotropic, turned": (_lognormal(0.2, 2.0, 0.5), (2.0, 6.0)),
    "two scales": (_two_scale, (1.0, 3.0)),
    "trend": (_trend, (1e2, 1e4)),
    "conductive inclusions": (_two_phase(0.2, 0.3), (1e2, 1e3, 1e4, 1e6)),
    "poor inclusions": (_two_phase(0.2, 0.3), (1e-2, 1e-3, 1e-4, 1e-6)),
    "weak channels": (_two_phase(0.3, 0.2, 3.0), (1e1, 1e2)),
    "channels": (_two_phase(0.3, 0.2, 3.0), (1e3, 1e4, 1e6)),
    "barriers": (_two_phase(0.3, 0.2, 3.0), (1e-1, 1e-2, 1e-3, 1e-4)),
    "jumps": (_jumps, (1.0, 2.0)),
    "checkerboards": (_checkerboard, (1e1, 1e2, 1e3, 1e4)),
    "crossing layers": (_layers, (1e1, 1e2, 1e3, 1e4)),
    "crossing barriers": (_layers, (1e-1, 1e-2, 1e-3, 1e-4)),
    "noise": (_noise, (1e2, 1e3, 1e4, 1e6)),
    "grains": (_grains, (1e2, 1e3, 1e4, 1e6)),
    "fractures": (_fractures, (1e1, 1e2, 1e3, 1e4)),
    "boxes": (_boxes, (1e-1, 1e-2, 1e-3, 1e-4)),
}
"""Name of a kind: how it is made, and the levels that seeds go through: variances, contrasts or factors."""


def make_coefficient(kind: str, seed: int, grid: Grid, level: float | None = None) -> Array:
    """A coefficient on T_ε of a grid.

    Args:
        kind: One of :data:`KINDS`.
        seed: Says which; levels of the kind take turns.
        grid: The discretisation.
        level: In the place of the seed's.

    Returns:
        Shape ``grid.coefficient_shape``.
    """
    make, levels = KINDS[kind]
    rng = np.random.default_rng([seed, list(KINDS).index(kind)])
    chosen = levels[seed % len(levels)] if level is None else level
    return make(rng, grid.coefficient_shape, grid.cells_per_element, chosen)


def stiffness(grid: Grid, A: Array) -> scipy.sparse.csr_array:
    """The stiffness matrix of T_h at all fine nodes of the box."""
    d, widths = grid.dim, np.asarray(grid.widths)
    forms = cell_forms(d, grid.ratio)[0] * (np.prod(widths) / np.outer(widths, widths))[:, :, None, None]
    cells = lattice(*grid.fine)
    values = grid.refine(np.where(grid.active_cells, check_coefficient(grid, A), 0.0)).ravel()
    strides = np.cumprod([1, *(n + 1 for n in grid.fine[:-1])])
    nodes = (cells[:, None, :] + lattice(*(2,) * d)) @ strides
    entries = values[:, None, None] * np.einsum("aapq->pq", forms)
    rows, columns = (np.broadcast_to(part, entries.shape) for part in (nodes[:, :, None], nodes[:, None, :]))
    n = int(np.prod([size + 1 for size in grid.fine]))
    return scipy.sparse.coo_array((entries.ravel(), (rows.ravel(), columns.ravel())), shape=(n, n)).tocsr()


def fine_truth(grid: Grid, A: Array, problem: Problem) -> Array:
    """u_h by a sparse direct solve, without DOLFINx; NaN at nodes of no active element."""
    fine, K = grid.at_fine_scale, stiffness(grid, A)
    u = boundary_values(fine, problem.g).ravel()
    free = np.flatnonzero(fine.free_nodes)
    right = (fine_load(grid, problem).ravel() - K @ u)[free]
    options = {"permc_spec": "MMD_AT_PLUS_A", "diag_pivot_thresh": 0.0, "options": {"SymmetricMode": True}}
    u[free] = scipy.sparse.linalg.splu(K[free][:, free].tocsc(), **options).solve(right)
    return np.where(fine.active_nodes, u.reshape(grid.fine_node_shape), np.nan)


def coarse_truth(grid: Grid, A: Array, problem: Problem) -> Array:
    """I_H u_h: what the coarse solution with source correctors is for ideal patches."""
    return quasi_interpolation(grid, fine_truth(grid, A, problem), boundary_values(grid, problem.g))
