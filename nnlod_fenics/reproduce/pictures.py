"""The pictures of a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.ticker import MaxNLocator

from nnlod_fenics.output import figures
from nnlod_fenics.output.style import figure, line_styles, save
from nnlod_fenics.reproduce.experiments import NETWORKS, SIZES, STARTS
from nnlod_fenics.reproduce.results import Outcome

__all__ = ["Picture", "draw", "plot_losses"]

Picture = tuple[Path, str]  # file and caption


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
        Files and captions by section of the report: ``losses``, ``fresh``, ``mean``.
    """
    numbers = outcome.numbers
    pictures: dict[str, list[Picture]] = {"losses": [], "fresh": [], "mean": []}
    for network in NETWORKS:
        path = plot_losses(folder / f"loss-{network}.png", _histories(numbers["runs"][network]))
        pictures["losses"].append((path, f"Loss (4.1) of the network “{network}”."))
    path = figures.plot_coefficient(folder / "coefficient.png", np.exp(outcome.Z))
    pictures["fresh"].append((path, f"Fresh realization of A, contrast {numbers['fresh']['contrast']:.3g}."))
    first = {name: u[0] for name, u in outcome.solutions.items()}
    mean = {name: u.mean(axis=0) for name, u in outcome.solutions.items()}
    for section, fields, what in (("fresh", first, "Solutions"), ("mean", mean, "Monte Carlo means")):
        path = figures.plot_solutions(folder / f"{section}-solutions.png", _named(fields, "large"), columns=2)
        pictures[section].append((path, f"{what} side by side; networks of the large dataset."))
        for size in SIZES:
            path = figures.plot_cross_sections(folder / f"{section}-{size}.png", _named(fields, size), columns=1)
            pictures[section].append((path, f"{what} along the cross-sections; networks of the {size} dataset."))
    return pictures


def _histories(runs: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    return {f"{size} dataset": {start: runs[size][start]["history"] for start in STARTS} for size in SIZES}


def _named(fields: Mapping[str, Any], size: str) -> dict[str, Any]:
    """FEM, PG-LOD and the networks of one dataset, with short names."""
    names = {"FEM": "FEM", "PG-LOD": "PG-LOD"}
    names |= {f"NN-LOD, {network}, {size}": f"NN-LOD ({network})" for network in NETWORKS}
    return {short: fields[name] for name, short in names.items()}
