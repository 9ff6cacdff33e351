"""The pictures of a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.ticker import MaxNLocator

from nnlod_fenics.output import figures
from nnlod_fenics.output.style import figure, line_styles, save
from nnlod_fenics.workflows.reproduce.experiments import NETWORKS
from nnlod_fenics.workflows.reproduce.results import Outcome

__all__ = ["Picture", "draw", "plot_bias", "plot_losses"]

Picture = tuple[Path, str]  # file and caption
"""A file and its caption."""


def plot_losses(path: Path, histories: Mapping[str, Mapping[str, Sequence[Mapping[str, float]]]]) -> Path:
    """Draw training and validation losses of several trainings, a panel for each dataset, one below the other.

    Args:
        path: The file to write.
        histories: By panel and curve, entries of each epoch with ``train`` and ``validation``.

    Returns:
        The path.
    """
    with figure(4.8, 0.6 + 2.6 * len(histories)) as fig:
        axes = fig.subplots(len(histories), 1, squeeze=False, sharey=True)[:, 0]
        for ax, (panel, curves) in zip(axes, histories.items(), strict=True):
            for (name, history), style in zip(curves.items(), line_styles(len(curves) + 1)[1:], strict=True):
                epochs = np.arange(1, len(history) + 1)
                for key, dashes in (("train", (0, (4, 2))), ("validation", "-")):
                    label = f"{name}: {'training' if key == 'train' else key}"
                    values = [entry[key] for entry in history]
                    ax.semilogy(epochs, values, color=style.color, ls=dashes, lw=1.6, label=label)
            ax.set(ylabel="relative loss", title=panel)
            ax.xaxis.set_major_locator(MaxNLocator(integer=True))
            ax.grid(axis="y", color="0.92", lw=0.6)
        axes[-1].set_xlabel("epoch")
        fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
        save(fig, path)
    return path


def draw(outcome: Outcome, folder: Path) -> dict[str, list[Picture]]:
    """Draw all pictures of an experiment.

    Args:
        outcome: The experiment.
        folder: Where the PNG files go.

    Returns:
        Files and captions by section of the report: ``losses``, ``fresh``, ``mean``, ``multifidelity``.
    """
    numbers, sizes = outcome.numbers, [*outcome.numbers["realizations"]]
    pictures: dict[str, list[Picture]] = {"losses": [], "fresh": [], "mean": [], "multifidelity": []}
    for network in NETWORKS:
        path = plot_losses(folder / f"loss-{network}.png", _histories(numbers["runs"][network]))
        pictures["losses"].append((path, f"Loss (4.1) of the network “{network}”."))
    path = figures.plot_coefficient(folder / "coefficient.png", np.exp(outcome.Z))
    pictures["fresh"].append((path, f"Fresh realization of A, contrast {numbers['fresh']['contrast']:.3g}."))
    first = {name: u[0] for name, u in outcome.solutions.items()}
    mean = {name: u.mean(axis=0) for name, u in outcome.solutions.items()}
    for section, fields, what in (("fresh", first, "Solutions"), ("mean", mean, "Monte Carlo means")):
        path = figures.plot_solutions(folder / f"{section}-solutions.png", _named(fields, sizes[-1]), columns=2)
        pictures[section].append((path, f"{what} side by side; networks of the {sizes[-1]} dataset."))
        for size in sizes:
            path = figures.plot_cross_sections(folder / f"{section}-{size}.png", _named(fields, size), columns=1)
            pictures[section].append((path, f"{what} along the cross-sections; networks of the {size} dataset."))
    fields = {f"multifidelity ({network})": outcome.estimates[network]["mean"] for network in NETWORKS}
    path = figures.plot_solutions(
        folder / "multifidelity.png", {name: mean[name] for name in ("FEM", "PG-LOD")} | fields, columns=2
    )
    pictures["multifidelity"].append(
        (path, "Mean of the solution by FEM and PG-LOD, and by multifidelity Monte Carlo with either network.")
    )
    path = plot_bias(folder / "bias.png", outcome)
    caption = (
        "Bias of the mean by plain NN-LOD on the same fields along x₂ = 0.5, with its 95 % interval, beside twice the "
        "standard errors of the means by multifidelity Monte Carlo and, at equal cost, by PG-LOD."
    )
    pictures["multifidelity"].append((path, caption))
    return pictures


def plot_bias(path: Path, outcome: Outcome) -> Path:
    """Draw the bias of each network's mean along x₂ = 0.5 beside the standard errors of unbiased means.

    Args:
        path: The file to write.
        outcome: The experiment.

    Returns:
        The path.
    """
    lod = outcome.solutions["PG-LOD"]
    dim, largest = lod.ndim - 1, [*outcome.numbers["realizations"]][-1]
    noise = lod.std(axis=0, ddof=1) / np.sqrt(outcome.numbers["multifidelity"][NETWORKS[0]]["cost"]["nominal"])
    nodes = np.linspace(0, 1, lod.shape[1])
    with figure(4.8, 0.8 + 2.6 * len(NETWORKS)) as fig:
        axes = fig.subplots(len(NETWORKS), 1, squeeze=False, sharex=True, sharey=True)[:, 0]
        for ax, network in zip(axes, NETWORKS, strict=True):
            difference = _middle_line(outcome.solutions[f"NN-LOD, {network}, {largest}"] - lod, dim)
            mean, error = difference.mean(axis=0), difference.std(axis=0, ddof=1) / np.sqrt(len(lod))
            bands = {
                "PG-LOD, equal cost": (_middle_line(noise, dim), "0.88"),
                "multifidelity": (_middle_line(outcome.estimates[network]["error"], dim), "0.62"),
            }
            for label, (width, color) in bands.items():
                ax.fill_between(nodes, -2 * width, 2 * width, color=color, lw=0, label=f"±2 standard errors, {label}")
            style = line_styles(3)[2]
            ax.fill_between(nodes, mean - 2 * error, mean + 2 * error, color=style.color, alpha=0.35, lw=0)
            ax.plot(nodes, mean, color=style.color, lw=1.6, label="bias of plain NN-LOD")
            ax.axhline(0, color="0.3", lw=0.8)
            ax.set(ylabel="difference to $E[u]$", title=f"network “{network}”", xlim=(0, 1))
            ax.ticklabel_format(axis="y", scilimits=(-2, 2), useMathText=True)
        axes[-1].set_xlabel("$x_1$")
        fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=1)
        save(fig, path)
    return path


def _middle_line(u: npt.NDArray[np.float64], dim: int) -> npt.NDArray[np.float64]:
    """Nodal values, perhaps of many fields, on the line along x₁ through the centre."""
    for _ in range(dim - 1):
        u = np.take(u, u.shape[-1] // 2, axis=-2)
    return u


def _histories(runs: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        f"{size} dataset": {start: run["history"] for start, run in starts.items()} for size, starts in runs.items()
    }


def _named(fields: Mapping[str, Any], size: str) -> dict[str, Any]:
    """FEM, PG-LOD and the networks of one dataset, with short names."""
    names = {"FEM": "FEM", "PG-LOD": "PG-LOD"}
    names |= {f"NN-LOD, {network}, {size}": f"NN-LOD ({network})" for network in NETWORKS}
    return {short: fields[name] for name, short in names.items()}
