"""Field to solution by NN-LOD and by PG-LOD at the paper's discretisation, in one run: where the time goes.

    python tests/benchmarks/bench_inference.py [--threads 2]

Prints medians, for the default network and the paper's. Times do not depend on the weights, which are random here.
On a GPU, if there is one, also the local matrices of many realizations at once.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch

from nnlod_fenics import NNLOD, Grid, coarse_operator, local_matrices, solve_coarse
from nnlod_fenics.fields import make_field
from nnlod_fenics.network.registry import NETWORKS, build_network
from nnlod_fenics.window import Window

PAPER = Grid(2, 32, 512, 2, coefficient=256)
NAMES = tuple(NETWORKS)


def median(work: Callable[[], object], repeats: int) -> float:
    """Median time in milliseconds, after one run to warm up."""
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return 1e3 * statistics.median(times[1:])


def stages(matrices: Callable[[Grid, np.ndarray], np.ndarray], A: np.ndarray, repeats: int) -> dict[str, float]:
    """Milliseconds for local matrices, assembly of the coarse operator, and solve."""
    S = matrices(PAPER, A)
    K = coarse_operator(PAPER, S)
    return {
        "local matrices": median(lambda: matrices(PAPER, A), repeats),
        "assembly": median(lambda: coarse_operator(PAPER, S), repeats),
        "solve": median(lambda: solve_coarse(PAPER, K), repeats),
        "all together": median(lambda: solve_coarse(PAPER, coarse_operator(PAPER, matrices(PAPER, A))), repeats),
    }


def on_gpu(name: str, A: np.ndarray, count: int = 16) -> None:
    model = NNLOD(PAPER, build_network(name, Window.of(PAPER), seed=0).cuda(), {})
    fields = torch.from_numpy(A).cuda().repeat(count, 1, 1)

    def predict() -> None:
        model.predict(model.grid, fields)
        torch.cuda.synchronize()

    print(
        f"{name} on {torch.cuda.get_device_name()}: {median(predict, 10) / count:.2f} ms a realization, {count} at once"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=9)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(f"{platform.processor() or platform.machine()}, PyTorch {torch.__version__}, {arguments.threads} thread(s)")
    A = make_field({"kind": "lognormal", "variance": 1.0}, 2, PAPER.coefficient).sample(seed=0, index=0).A
    found = {"PG-LOD, condensed": stages(local_matrices, A, 3)}
    for name in NAMES:
        model = NNLOD(PAPER, build_network(name, Window.of(PAPER), seed=0), {})
        found[f"NN-LOD, {name}"] = stages(model.local_matrices, A, arguments.repeats)
    exact = found["PG-LOD, condensed"]["all together"]
    print(
        f"{'milliseconds':20s}" + "".join(f"{stage:>16s}" for stage in next(iter(found.values()))) + f"{'faster':>9s}"
    )
    for name, times in found.items():
        print(f"{name:20s}" + "".join(f"{t:16.1f}" for t in times.values()) + f"{exact / times['all together']:8.1f}x")
    if torch.cuda.is_available():
        for name in NAMES:
            on_gpu(name, A)


if __name__ == "__main__":
    main()
