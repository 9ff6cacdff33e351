"""Local matrices by condensation: operations of each level beside their time, on the CPU and a GPU if there is one.

    python tests/benchmarks/bench_local_matrices.py                    # the paper's discretisation, d = 3, memory
    python tests/benchmarks/bench_local_matrices.py --plot picture.png # against r, ℓ and 1/H; also with DOLFINx

Prints medians, and compares with DOLFINx where it is installed. Needs nothing else but the package, PyTorch and NumPy.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from nnlod_fenics import Grid, local_matrices
from nnlod_fenics.lod.condensation import Condensation

sys.path.append(str(Path(__file__).parents[1]))
from operations import count_operations

PAPER = Grid(2, 32, 512, 2, coefficient=256)
CUBE = Grid(3, 8, 64, 1)
LARGE = Grid(2, 64, 1024, 3, coefficient=512)


CASES = {
    "paper": ("the paper's discretisation", PAPER),
    "cube": ("d = 3, 1/H = 8, r = 8, ell = 1", CUBE),
    "large": ("64 x 64 coarse, r = 16, ell = 3", LARGE),
}


def lognormal(grid: Grid, n: int | None = None) -> np.ndarray:
    shape = grid.coefficient_shape if n is None else (n, *grid.coefficient_shape)
    return np.exp(np.random.default_rng(0).standard_normal(shape))


def median(work: Callable[[], object], device: str, repeats: int) -> float:
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        work()
        if device != "cpu":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def matrix_rate(device: str) -> float:
    """Measured float64 rate of a large matrix product, in GFLOP/s."""
    n = 2048 if device == "cpu" else 8192
    a = torch.randn(n, n, dtype=torch.float64, device=device)
    return 2 * n**3 / median(lambda: a @ a, device, 5) / 1e9


def measure(name: str, grid: Grid, device: str, realizations: int, repeats: int, chunk: int | None = None) -> dict:
    A = lognormal(grid, realizations)
    patches = realizations * grid.num_elements
    seconds = median(lambda: local_matrices(grid, A, device=device, chunk=chunk), device, repeats)
    elements = median(lambda: Condensation(grid, A, device, torch.float64), device, repeats)
    counts = count_operations(grid)
    rate = sum(counts.values()) * patches / seconds / 1e9
    peak = matrix_rate(device)
    print(f"\n{name}, {device}: {patches} patches in {seconds:.3f} s")
    print(f"  {1e3 * seconds / patches:.4f} ms a patch, {patches / seconds:.0f} patches/s")
    print(f"  {rate:.1f} GFLOP/s, {100 * rate / peak:.0f} % of the measured matrix rate of {peak:.0f} GFLOP/s")
    for level, count in counts.items():
        print(f"    {level:24s} {count / 1e6:9.3f} Mflop a patch")
    print(f"    leaves and elements: {1e3 * elements / patches:.4f} ms a patch of the time above")
    return {"name": name, "device": device, "ms_a_patch": 1e3 * seconds / patches, "gflops": rate, "peak": peak}


def with_dolfinx(grid: Grid, elements: int = 16) -> float:
    """Milliseconds a patch by DOLFINx, on some elements only, without its set-up."""
    A = lognormal(grid)
    center = int(grid.element_numbers(np.asarray(grid.coarse) // 2))
    once = median(lambda: local_matrices(grid, A, method="dolfinx", elements=[center]), "cpu", 3)
    many = median(lambda: local_matrices(grid, A, method="dolfinx", elements=[center] * elements), "cpu", 3)
    return 1e3 * (many - once) / (elements - 1)


def against_dolfinx(grid: Grid) -> tuple[float, float]:
    """Milliseconds a patch of both methods."""
    A = lognormal(grid)
    return with_dolfinx(grid), 1e3 * median(lambda: local_matrices(grid, A), "cpu", 3) / grid.num_elements


def plot(path: Path) -> None:
    """Milliseconds a patch against r, ℓ and 1/H, measured in one run."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(11, 3.4), constrained_layout=True)
    sweeps = [
        ("fine cells per element $r$", [(r, Grid(2, 8, 8 * r, 2)) for r in (4, 8, 16, 32)]),
        ("layers $\\ell$", [(ell, Grid(2, 8, 64, ell)) for ell in (1, 2, 3, 4)]),
    ]
    for axis, (label, grids) in zip(axes, sweeps, strict=False):
        times = np.array([against_dolfinx(grid) for _, grid in grids])
        x = [value for value, _ in grids]
        axis.plot(x, times[:, 0], "o-", label="dolfinx")
        axis.plot(x, times[:, 1], "s-", label="condensed")
        axis.set(xlabel=label, ylabel="ms a patch", yscale="log", xticks=x)
        print(label, [(v, round(a, 3), round(b, 3)) for v, (a, b) in zip(x, times.tolist(), strict=True)])
    axes[0].set_xscale("log", base=2)
    axes[0].legend()
    sizes = [8, 16, 32, 64]
    grids = [Grid(2, n, 8 * n, 2) for n in sizes]
    seconds = [median(partial(local_matrices, grid, lognormal(grid)), "cpu", 3) for grid in grids]
    number = np.array(sizes) ** 2
    axes[2].loglog(number, seconds, "s-", color="C1", label="condensed, $r = 8$")
    axes[2].loglog(number, seconds[-1] * number / number[-1], "k:", label="linear")
    axes[2].set(xlabel="number of elements $H^{-2}$", ylabel="seconds a realization")
    axes[2].legend()
    slope = np.polyfit(np.log(number[1:]), np.log(seconds[1:]), 1)[0]
    print(f"growth with the number of elements: exponent {slope:.2f}")
    figure.savefig(path, dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plot", type=Path, help="measure against r, ℓ and 1/H and draw it here")
    parser.add_argument("--case", choices=CASES, nargs="+", default=list(CASES))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--output", type=Path, help="JSON file for the figures")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(f"{platform.processor() or platform.machine()}, PyTorch {torch.__version__}, {arguments.threads} thread(s)")
    if arguments.plot:
        plot(arguments.plot)
        return
    repeats = arguments.repeats
    results = []
    for case in arguments.case:
        name, grid = CASES[case]
        results.append(measure(name, grid, "cpu", 1, repeats if case == "paper" else 1))
        if find_spec("dolfinx"):
            dolfinx = with_dolfinx(grid)
            print(f"  dolfinx: {dolfinx:.1f} ms a patch, {dolfinx / results[-1]['ms_a_patch']:.1f} times as long")
        if torch.cuda.is_available():
            results += [measure(name, grid, "cuda", n, repeats) for n in ((1, 4, 8) if case == "paper" else (1,))]
    print(f"\npeak memory of the process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")
    if arguments.output:
        arguments.output.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
