"""Allocations by MXMCPy 1.0, which tests/montecarlo/test_choice.py compares with.

``pip install mxmcpy && python tests/benchmarks/other_allocations.py`` writes
tests/montecarlo/allocations.json: the variance that each of its algorithms predicts for a budget of 1,000 samples of
the reference, where it finds an allocation.
"""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from mxmc import Optimizer
from mxmc.optimizers.optimizer_base import InconsistentModelError

FOLDER = Path(__file__).parents[1] / "montecarlo"
sys.path.insert(0, str(FOLDER))
from cases import CASES

torch.solve = lambda B, A: (torch.linalg.solve(A, B), None)  # which MXMCPy 1.0 calls, and PyTorch no longer has
ALGORITHMS = ("mfmc", "mlmc", "acvmf", "acvis", "wrdiff")


def allocations() -> dict[str, dict[str, float]]:
    """Predicted variances by case and algorithm, where it finds an allocation."""
    found: dict[str, dict[str, float]] = {}
    for name, (covariance, costs) in CASES.items():
        optimizer = Optimizer(np.array(costs), covariance)
        found[name] = {}
        for algorithm in ALGORITHMS:
            with suppress(InconsistentModelError):  # the order of the models is not one for multifidelity
                result = optimizer.optimize(algorithm=algorithm, target_cost=1000 * costs[0])
                found[name][algorithm] = float(f"{result.variance:.6e}")
    return found


if __name__ == "__main__":
    (FOLDER / "allocations.json").write_text(json.dumps(allocations(), indent=1) + "\n")
