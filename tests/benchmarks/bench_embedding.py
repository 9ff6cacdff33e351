"""How long circulant embedding takes, and the parts of it. Run: ``python tests/benchmarks/bench_embedding.py``.

For each grid: seconds to build the sampler and to draw a field; then of a draw its white noise alone, its
transforms alone (pruned to D), and, as a yardstick, half of the full complex transform of the periodic grid,
which is what a field costs in the classical form of the method. One thread; minimum of many runs.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import scipy.fft

from nnlod_fenics.fields import CirculantEmbedding, matern


def fastest(work: Callable[[], object], times: int = 50) -> float:
    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


class Zeros:
    """A random generator that costs nothing: leaves the transforms of a draw."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.noise = np.zeros(shape)

    def standard_normal(self, shape: tuple[int, ...]) -> np.ndarray:
        return self.noise


def main() -> None:
    print("dim cells  size | build ms | draw ms = noise + rest | full FFT/2 ms | draw/rest  draw/full")
    rng = np.random.Generator(np.random.SFC64(0))
    for dim, cells in ((1, 4096), (2, 64), (2, 128), (2, 256), (2, 512), (3, 32), (3, 64)):
        model = matern(dim, 1.0, 0.05, 0.5)
        build = fastest(lambda model=model, cells=cells: CirculantEmbedding(model, cells), 3)
        embedding = CirculantEmbedding(model, cells)
        shape = (*(embedding.size[0],) * (dim - 1), embedding.size[0] // 2 + 1, 2)
        zeros, periodic = Zeros(shape), np.zeros(embedding.size, dtype=np.complex128)
        draw = fastest(lambda e=embedding: e.draw(rng))
        noise = fastest(lambda shape=shape: rng.standard_normal(shape))
        rest = fastest(lambda e=embedding, z=zeros: e.draw(z))
        full = fastest(lambda p=periodic: scipy.fft.fftn(p, workers=1)) / 2
        size = embedding.size[0]
        print(
            f"{dim:3d} {cells:5d} {size:5d} | {1e3 * build:8.2f} | {1e3 * draw:7.3f} = {1e3 * noise:7.3f} + "
            f"{1e3 * rest:7.3f} | {1e3 * full:13.3f} | {draw / rest:9.2f} {draw / full:10.2f}"
        )


if __name__ == "__main__":
    main()
