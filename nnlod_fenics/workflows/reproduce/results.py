"""The numbers and arrays of an experiment, collected from its stages."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from nnlod_fenics.norms import l2_norm, prolong, relative_l2
from nnlod_fenics.runtime.files import read_json
from nnlod_fenics.workflows.reproduce.cache import VERSION, Stage
from nnlod_fenics.workflows.reproduce.experiments import (
    BASE,
    EXPERIMENTS,
    NETWORKS,
    Experiment,
    Scale,
    choices,
    network_options,
    training_settings,
)
from nnlod_fenics.workflows.reproduce.multifidelity import compare_means, load_estimate
from nnlod_fenics.workflows.reproduce.pipeline import Pipeline
from nnlod_fenics.workflows.reproduce.statistics import average, differences, mean_field

__all__ = ["Outcome", "collect", "identity"]

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Outcome:
    """An experiment that has been run.

    Attributes:
        experiment: Which one.
        numbers: What ``result.json`` holds, but for the findings.
        Z: log A of the fresh realization.
        solutions: ``FEM`` on T_h, ``PG-LOD`` on T_H, and for each network and dataset, with transfer learning,
            ``NN-LOD, network, size`` on T_H; all fresh realizations, those along the first axis.
        estimates: ``mean`` and ``error`` by multifidelity Monte Carlo on T_H, for each network.
    """

    experiment: Experiment
    numbers: dict[str, Any]
    Z: Array
    solutions: dict[str, Array]
    estimates: dict[str, dict[str, Array]]


def collect(pipeline: Pipeline, experiment: Experiment) -> Outcome:
    """Run the stages of an experiment that are not in the cache, and collect what they give.

    Args:
        pipeline: The stages.
        experiment: Which one.

    Returns:
        Its outcome.
    """
    scale, grid = pipeline.scale, pipeline.scale.grid
    stages = [pipeline.data(experiment), pipeline.references(experiment)]
    reference = pipeline.reference_solutions(experiment)
    solutions = {"FEM": reference["fem"], "PG-LOD": reference["lod"]}
    runs: dict[str, Any] = {}
    means: dict[str, Any] = {}
    estimates: dict[str, dict[str, Array]] = {}
    for network in NETWORKS:
        for size in scale.sizes:
            for start in scale.starts:
                stages.append(pipeline.model(experiment, network, size, start))
                stages.append(pipeline.evaluation(experiment, network, size, start))
                run, u = _run(pipeline, experiment, (network, size, start), reference)
                runs.setdefault(network, {}).setdefault(size, {})[start] = run
                if start == "transfer":
                    solutions[f"NN-LOD, {network}, {size}"] = u
        stages.append(pipeline.multifidelity(experiment, network))
        own, estimates[network] = load_estimate(stages[-1].folder)
        u = solutions[f"NN-LOD, {network}, {scale.largest}"]
        means[network] = compare_means(own, estimates[network]["mean"], u, reference["lod"])
    fresh, base = pipeline.fresh(experiment), _base(pipeline, experiment)
    stages += [stage for stage, _ in base.values()]
    numbers = {
        "experiment": experiment.name,
        "contrast": experiment.contrast,
        "scale": scale.name,
        "identity": identity(scale, experiment),
        "grid": grid.as_dict(),
        "realizations": {size: scale.count(experiment, size) for size in scale.sizes},
        "fresh": {
            "contrast": float(reference["contrast"][0]),
            "contrast of all fresh fields": _contrasts(reference["contrast"]),
            "parameters": fresh.parameters,
            "relative L2 error, PG-LOD against FEM": relative_l2(
                prolong(grid, reference["lod"][0]), reference["fem"][0]
            ),
        },
        "runs": runs,
        "base": {network: content for network, (_, content) in base.items()},
        "monte carlo": {
            "fields": scale.fields,
            "FEM": mean_field(reference["fem"]),
            "PG-LOD": mean_field(reference["lod"])
            | {"against FEM": differences(grid, reference["lod"], reference["fem"])},
        },
        "multifidelity": means,
        "chosen": choices(scale, experiment),
        "seconds": {
            part: {stage.key: stage.seconds for stage in some}
            for part, some in (("own", stages), ("shared", _before(pipeline, experiment)))
        },
    }
    return Outcome(experiment, numbers, fresh.Z, solutions, estimates)


def _base(pipeline: Pipeline, experiment: Experiment) -> dict[str, tuple[Stage, dict[str, Any]]]:
    """Losses of the base networks on their own data, which those of the lowest contrast are compared with."""
    if experiment.name != next(iter(EXPERIMENTS)):
        return {}
    stages = {network: pipeline.base_losses(network) for network in NETWORKS}
    return {network: (stage, read_json(stage.folder / "losses.json")) for network, stage in stages.items()}


def identity(scale: Scale, experiment: Experiment) -> dict[str, Any]:
    """Everything that the results of an experiment depend on, but for those that it starts from, as JSON has it."""
    content = {
        "version": VERSION,
        "sizes": scale.as_dict(),
        "seed": experiment.seed,
        "field": {"training": experiment.training_field, "fresh": experiment.fresh_field},
        "training": {
            network: {size: training_settings(scale, experiment, network, size) for size in scale.sizes}
            for network in NETWORKS
        },
        "options": {network: network_options(scale, network) for network in NETWORKS},
    }
    plain: dict[str, Any] = json.loads(json.dumps(content))
    return plain


def _contrasts(contrast: Array) -> dict[str, Any]:
    values = np.log10(contrast)
    return average(values) | {"values": values.tolist(), "unit": "log10"}


def _before(pipeline: Pipeline, experiment: Experiment) -> list[Stage]:
    """Stages that an experiment starts from: the base network's, and those of its parent's network."""
    stages = []
    while experiment.parent:
        experiment = EXPERIMENTS.get(experiment.parent, BASE)
        stages += [pipeline.data(experiment), *(pipeline.model(experiment, network) for network in NETWORKS)]
    return stages


def _run(
    pipeline: Pipeline, experiment: Experiment, variant: tuple[str, str, str], reference: dict[str, Array]
) -> tuple[dict[str, Any], Array]:
    grid, folder = pipeline.scale.grid, pipeline.evaluation(experiment, *variant).folder
    u = np.load(folder / "solutions.npy")
    run: dict[str, Any] = read_json(folder / "evaluation.json")
    run["fresh"]["L2 error, NN-LOD against PG-LOD"] = l2_norm(u[0] - reference["lod"][0])
    run |= mean_field(u)
    run |= {"against FEM": differences(grid, u, reference["fem"])}
    run |= {"against PG-LOD": differences(grid, u, reference["lod"])}
    run["seconds of training"] = pipeline.model(experiment, *variant).seconds
    return run, u
