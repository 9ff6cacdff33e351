"""Coarse systems of the Galerkin form (ℓ = 1) and of PG-LOD (ℓ = 2): what their solution costs.

    OMP_NUM_THREADS=1 python tests/benchmarks/bench_coarse_solve.py [--large] [--fields lognormal-1 …]

Both matrices come from windows of the same size and have (7, 49, 343) entries a row for d = (1, 2, 3). Sizes are
1/H = 32, 64, 128 for d = 2 and 8, 16 for d = 3, with ``--large`` also 256 and 32. The right-hand side is that of f = 1.
Columns: CPU time of a solution with all that belongs to it (a shared machine counts other work in elapsed time),
iterations, the largest difference from the first method of the form, relative, and the residual, relative.

PyAMG and PETSc take part where they are installed. The package's own are "Cholesky" and "CG, two levels" for the
Galerkin form and "SuperLU" for PG-LOD.

The fields repeat after a few elements, so that local matrices repeat but for those near the boundary, and large
matrices can be had for little.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np
import scipy.sparse
import scipy.sparse.linalg

sys.path.append(str(Path(__file__).parents[1]))

from kinds import gaussian

from nnlod_fenics import Grid, coarse_operator, local_matrices
from nnlod_fenics.lod import symmetric
from nnlod_fenics.lod.coarse import solve_sparse

Array = np.ndarray
Matrix = scipy.sparse.csr_array
Method = Callable[[Grid, Matrix, Array], tuple[Array, int | None]]

PERIOD, RATIO = {2: 16, 3: 4}, {2: 4, 3: 2}  # elements; H/h
LAYERS = {"galerkin": 1, "petrov-galerkin": 2}
REACH = 3  # elements from the boundary on, local matrices do not see it: two layers, and the constraints at their ends
SIZES = {False: ((2, 32), (2, 64), (2, 128), (3, 8), (3, 16)), True: ((2, 256), (3, 32))}
FIELDS = {
    "constant": lambda Z: np.ones_like(Z),
    "lognormal-1": np.exp,
    "lognormal-4": lambda Z: np.exp(2 * Z),
    "two-phase-1e4": lambda Z: np.where(np.quantile(Z, 0.7) < Z, 1e4, 1.0),
}
TOLERANCE, MOST = 1e-12, 2000


@lru_cache(maxsize=2)
def small_matrices(dim: int, width: int, field: str, form: str) -> Array:
    """Local matrices on ``width`` elements along each axis, a multiple of the period."""
    period, ratio = PERIOD[dim], RATIO[dim]
    Z = gaussian(np.random.default_rng(0), (period * ratio,) * dim, (0.5 * ratio,) * dim)
    A = np.tile(FIELDS[field](Z), (width // period,) * dim)
    return local_matrices(Grid(dim, width, width * ratio, LAYERS[form]), A, form=form)


def systems(dim: int, n: int, field: str) -> Iterator[tuple[str, Grid, Matrix]]:
    """The matrices of both forms on n elements along each axis."""
    period = PERIOD[dim]
    width = min(n, period * -(-(period + 2 * REACH) // period))
    along = REACH + (np.arange(n) - REACH) % period
    along[:REACH], along[-REACH:] = np.arange(REACH), np.arange(width - REACH, width)
    same = np.ravel_multi_index(np.meshgrid(*(along,) * dim, indexing="ij"), (width,) * dim).ravel()
    same = same if n > width else slice(None)
    for form, ell in LAYERS.items():
        grid = Grid(dim, n, n * RATIO[dim], ell)
        local = small_matrices(dim, width, field, form)[same] * (width / n) ** (dim - 2)
        yield form, grid, sum_energies(grid, local) if form == "galerkin" else coarse_operator(grid, local)


def sum_energies(grid: Grid, local: Array) -> Matrix:
    """Σ K_E on the free nodes."""
    n, total = grid.num_free_nodes, scipy.sparse.csr_array((grid.num_free_nodes,) * 2)
    numbers = np.append(grid.free_numbers, -1)[grid.patch_nodes]
    for part in np.array_split(np.arange(len(local)), max(local.size >> 24, 1)):
        rows = np.broadcast_to(numbers[part][:, :, None], local[part].shape)
        columns = np.broadcast_to(numbers[part][:, None, :], local[part].shape)
        kept = (rows >= 0) & (columns >= 0)
        total = total + scipy.sparse.coo_array((local[part][kept], (rows[kept], columns[kept])), shape=(n, n)).tocsr()
    return total


def own(work: float) -> Method:
    def run(grid: Grid, K: Matrix, b: Array) -> tuple[Array, int | None]:
        symmetric.LARGEST_WORK = work
        x, how = symmetric.solve_symmetric(grid, K, b)
        return x, how.iterations or None

    return run


def superlu(grid: Grid, K: Matrix, b: Array) -> tuple[Array, None]:
    return solve_sparse(K, b), None


def krylov(name: str, preconditioner: Callable[[Matrix], object]) -> Method:
    def run(grid: Grid, K: Matrix, b: Array) -> tuple[Array, int]:
        count = [0]

        def callback(_: object) -> None:
            count[0] += 1

        M, limit = preconditioner(K), {"maxiter": MOST}
        if name == "gmres":
            limit = {"maxiter": MOST // 100, "restart": 100, "callback_type": "pr_norm"}
        solver = getattr(scipy.sparse.linalg, name)
        return solver(K, b, rtol=TOLERANCE, atol=0, M=M, callback=callback, **limit)[0], count[0]

    return run


def diagonal(K: Matrix) -> object:
    return scipy.sparse.diags_array(1 / K.diagonal())


def petsc(kind: str, package: str | None = None) -> Method:
    from petsc4py import PETSc

    def run(grid: Grid, K: Matrix, b: Array) -> tuple[Array, int | None]:
        csr = (K.indptr.astype(PETSc.IntType), K.indices.astype(PETSc.IntType), K.data)
        matrix = PETSc.Mat().createAIJ(K.shape, csr=csr, comm=PETSc.COMM_SELF)
        matrix.setOption(PETSc.Mat.Option.SPD, kind != "lu")
        solver = PETSc.KSP().create(PETSc.COMM_SELF)
        solver.setOperators(matrix)
        solver.setType("preonly" if package else "cg")
        solver.getPC().setType(kind)
        if package:
            solver.getPC().setFactorSolverType(package)
        solver.setTolerances(rtol=TOLERANCE, max_it=MOST)
        x, right = matrix.createVecs()
        right.setArray(b)
        solver.solve(right, x)
        found = x.getArray().copy(), None if package else solver.getIterationNumber()
        for thing in (solver, matrix, x, right):
            thing.destroy()
        return found

    return run


def tables() -> dict[str, dict[str, Method]]:
    galerkin: dict[str, Method] = {
        "Cholesky": own(np.inf),
        "CG, two levels": own(0.0),
        "SuperLU": superlu,
        "CG, diagonal": krylov("cg", diagonal),
    }
    pg: dict[str, Method] = {
        "SuperLU": superlu,
        "GMRES(100), diagonal": krylov("gmres", diagonal),
        "BiCGStab, diagonal": krylov("bicgstab", diagonal),
    }
    try:
        import pyamg

        def aggregation(symmetry: str) -> Callable[[Matrix], object]:
            return lambda K: pyamg.smoothed_aggregation_solver(
                scipy.sparse.csr_matrix(K), symmetry=symmetry
            ).aspreconditioner()

        galerkin["CG, PyAMG"] = krylov("cg", aggregation("symmetric"))
        pg["GMRES(100), PyAMG"] = krylov("gmres", aggregation("nonsymmetric"))
    except ImportError:
        print("PyAMG is not installed")
    try:
        galerkin |= {f"PETSc Cholesky, {name}": petsc("cholesky", name) for name in ("cholmod", "mumps")}
        galerkin |= {f"PETSc CG, {name}": petsc(name) for name in ("gamg", "hypre", "icc")}
        pg["PETSc LU, mumps"] = petsc("lu", "mumps")
    except ImportError:
        print("PETSc is not installed")
    return {"galerkin": galerkin, "petrov-galerkin": pg}


def measure(method: Method, grid: Grid, K: Matrix, b: Array) -> tuple[float, Array, int | None]:
    """The least CPU time of five solutions, of one where it takes long."""
    least, x, iterations = np.inf, b, None
    for _ in range(5):
        start = time.process_time()
        x, iterations = method(grid, K, b)
        least = min(least, time.process_time() - start)
        if least > 0.5:
            break
    return least, x, iterations


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--large", action="store_true", help="also 1/H = 256 (d = 2) and 32 (d = 3)")
    parser.add_argument("--fields", nargs="+", choices=FIELDS, default=list(FIELDS))
    given, methods = parser.parse_args(), tables()
    print(f"{'d':1s} {'1/H':>3s} {'field':14s} {'form':16s} {'method':26s} {'CPU ms':>9s} {'it.':>5s}  diff.    res.")
    for dim, n in SIZES[False] + (SIZES[True] if given.large else ()):
        for field in given.fields:
            for form, grid, K in systems(dim, n, field):
                b, first = np.full(grid.num_free_nodes, n**-dim), None
                for name, method in methods[form].items():
                    head = f"{dim} {n:3d} {field:14s} {form:16s} {name:26s}"
                    if name == "SuperLU" and dim == 3 and n >= 32:  # minutes, and gigabytes
                        continue
                    seconds, x, iterations = measure(method, grid, K, b)
                    first = x if first is None else first
                    difference, residual = abs(x - first).max() / abs(first).max(), b - K @ x
                    print(
                        f"{head} {1e3 * seconds:9.1f} {'' if iterations is None else iterations:>5} "
                        f"{difference:8.0e} {np.linalg.norm(residual) / np.linalg.norm(b):7.0e}",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
