"""The mean of the solution by multifidelity Monte Carlo, beside the network's own and that by PG-LOD."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from nnlod_fenics.fields import make_field
from nnlod_fenics.functionals import BoxAverage
from nnlod_fenics.montecarlo import Estimate, MonteCarloSettings, monte_carlo
from nnlod_fenics.network import NNLOD
from nnlod_fenics.norms import l2_norm
from nnlod_fenics.runtime.files import read_json, write_json, write_npz
from nnlod_fenics.statistics import half_width, satterthwaite
from nnlod_fenics.workflows.reproduce.experiments import Experiment, Scale
from nnlod_fenics.workflows.reproduce.statistics import average, integrals

__all__ = ["compare_means", "load_estimate", "make_estimate", "settings_of"]

Array = npt.NDArray[np.float64]
_INTEGRAL = "integral of u"  # the average over D, which has measure 1
_NUMBERS, _FIELDS = "multifidelity.json", "multifidelity.npz"


def settings_of(scale: Scale, experiment: Experiment) -> dict[str, Any]:
    """Settings of the run, for :class:`MonteCarloSettings`."""
    return {
        "method": "multifidelity",
        "reference": "lod",
        "samples": scale.work,
        "seed": experiment.seed,
        "pilot": scale.pilot,
        "cost_ratio": scale.cost_ratio[experiment.fresh_field["kind"]],
    }


def make_estimate(folder: Path, scale: Scale, experiment: Experiment, model: NNLOD) -> None:
    """Estimate the mean of the solution over the law of the fresh fields; resumes an interrupted run.

    Args:
        folder: Where ``multifidelity.json`` and ``multifidelity.npz`` go, and the run itself.
        scale: The scale.
        experiment: The experiment.
        model: The network.
    """
    grid = scale.grid
    law = make_field(experiment.fresh_field, grid.dim, grid.coefficient)
    whole = {_INTEGRAL: BoxAverage((0.0,) * grid.dim, (1.0,) * grid.dim)}
    given = settings_of(scale, experiment)
    settings = MonteCarloSettings(**given)
    estimate = monte_carlo(grid, law, settings, model, functionals=whole, output=folder / "run", resume=True)
    write_npz(folder / _FIELDS, mean=estimate.mean, error=estimate.standard_error)
    value = estimate.functionals[_INTEGRAL]
    content = {
        "settings": given,
        "network used": estimate.network_bias is not None,
        "samples": estimate.samples,
        "seconds": estimate.seconds,
        "cost": {"nominal": scale.work, "ratio": given["cost_ratio"]} | _measured(estimate),
        "integral": {
            "mean": value.mean,
            "standard error": value.standard_error,
            "low": value.mean - value.half_width,
            "high": value.mean + value.half_width,
        },
        "relative standard error": l2_norm(estimate.standard_error) / l2_norm(estimate.mean),
    }
    write_json(folder / _NUMBERS, content)


def _measured(estimate: Estimate) -> dict[str, float]:
    """Times of this run: they depend on the machine, and nothing else here depends on them."""

    def each(method: str) -> float:
        kinds = [kind for kind, times in estimate.seconds.items() if method in times]
        total = sum(estimate.seconds[kind][method] for kind in kinds)
        return total / sum(estimate.samples[kind] for kind in kinds)

    high, low = each("lod"), each("nn")
    return {"measured, in PG-LOD solutions": estimate.cost / high, "measured ratio": high / low}


def load_estimate(folder: Path) -> tuple[dict[str, Any], dict[str, Array]]:
    """The numbers, and the fields ``mean`` and ``error`` on T_H, that :func:`make_estimate` has written."""
    with np.load(folder / _FIELDS) as stored:
        return read_json(folder / _NUMBERS), dict(stored)


def compare_means(numbers: dict[str, Any], mean: Array, u: Array, lod: Array) -> dict[str, Any]:
    """Compare the mean with those over other fields by the network alone and by PG-LOD.

    Args:
        numbers: Those of :func:`make_estimate`.
        mean: The mean field by multifidelity Monte Carlo, shape ``(1/H + 1, …)``.
        u: Solutions by the network, shape ``(k, 1/H + 1, …)``.
        lod: Solutions by PG-LOD for the same fields.

    Returns:
        The numbers, and relative to the mean of ∫u by PG-LOD: ``bias of NN-LOD``, the mean of ∫(u_NN − u_LOD) (see
        :func:`average`); ``difference to PG-LOD`` of the mean of ∫u, with the ends of the 90 % (``near low``, ``near
        high``) and the 99.9 % interval (``far low``, ``far high``) too;
        ``standard error``. ``PG-LOD at equal cost``: relative standard errors of plain Monte Carlo. ``gain``: ratio
        of the variances of the means of ∫u of plain Monte Carlo and this one at equal cost, with the interval of an
        F distribution. ``distance of the means`` of u to PG-LOD in L², relative, and what noise alone lets expect.
    """
    k, work = len(lod), numbers["cost"]["nominal"]
    own, exact = numbers["integral"], integrals(lod)
    level, error = float(exact.mean()), own["standard error"]
    other = float(exact.std(ddof=1)) / math.sqrt(k)
    parts = [(error**2, max(numbers["samples"]["samples"], 2)), (other**2, k)]
    squared, degrees = satterthwaite(parts)
    difference = {"mean": own["mean"] / level - 1, "standard error": math.sqrt(float(squared)) / level}
    for name, probability in (("near ", 0.9), ("", 0.95), ("far ", 0.999)):
        width = float(half_width(difference["standard error"], degrees, probability))
        difference |= {f"{name}low": difference["mean"] - width, f"{name}high": difference["mean"] + width}
    size, noise = l2_norm(lod.mean(axis=0)), l2_norm(lod.std(axis=0, ddof=1) / math.sqrt(k))
    plain = {"integral": other * math.sqrt(k / work) / level, "field": noise * math.sqrt(k / work) / size}
    gain = (plain["integral"] * level / error) ** 2
    ends = stats.f.ppf([0.975, 0.025], k - 1, max(numbers["samples"]["samples"] - 1, 1))
    return numbers | {
        "standard error": error / level,
        "bias of NN-LOD": average(integrals(u - lod) / level),
        "bias of NN-LOD, field": l2_norm((u - lod).mean(axis=0)) / size,
        "difference to PG-LOD": difference,
        "PG-LOD at equal cost": plain,
        "gain": {"mean": gain, "low": gain / float(ends[0]), "high": gain / float(ends[1])},
        "distance of the means": {
            "value": l2_norm(mean - lod.mean(axis=0)) / size,
            "expected": math.hypot(numbers["relative standard error"], noise / size),
        },
    }
