"""Files with the result of a run: numbers as JSON, fields as .npz and for ParaView, a figure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.colors import Normalize

from nnlod_fenics.montecarlo.estimate import Estimate
from nnlod_fenics.output.paraview import write_arrays
from nnlod_fenics.output.style import SOLUTION, colorbar, figure, line_styles, save
from nnlod_fenics.runtime.files import read_json, write_json, write_npz

__all__ = ["plot_mean", "table", "write_report"]

Array = npt.NDArray[np.float64]


def write_report(folder: Path, estimate: Estimate) -> None:
    """Write ``fields.npz``, ``fields.vtkhdf``, ``mean.png``, and last ``montecarlo.json``.

    Args:
        folder: Folder of the run.
        estimate: Its result.
    """
    fields = estimate.fields
    write_npz(folder / "fields.npz", **fields)
    write_arrays(folder / "fields.vtkhdf", estimate.mean.ndim, point_data=fields)
    plot_mean(folder / "mean.png", estimate)
    content: dict[str, Any] = {"run": read_json(folder / "run.json")} | estimate.summary()
    write_json(folder / "montecarlo.json", content)


def plot_mean(path: Path, estimate: Estimate) -> Path:
    """Draw the mean and its standard error: side by side, in 3D in the plane x₃ = 0.5, in 1D as a band.

    Args:
        path: The file to write; the suffix chooses the format.
        estimate: The result.

    Returns:
        The path.
    """
    if estimate.mean.ndim == 1:
        return _plot_band(path, estimate)
    fields = [_plane(estimate.mean), _plane(estimate.standard_error)]
    labels = ["mean of $u$", "standard error"]
    with figure(7.6, 3.2) as fig:
        axes = fig.subplots(1, 2, sharey=True)
        for ax, values, label in zip(axes, fields, labels, strict=True):
            nodes = np.linspace(0, 1, len(values))
            norm = Normalize(min(values.min(), 0.0), values.max() or 1.0)
            image = ax.pcolormesh(nodes, nodes, values, norm=norm, cmap=SOLUTION, shading="gouraud", rasterized=True)
            ax.set(xlabel="$x_1$", aspect="equal", xlim=(0, 1), ylim=(0, 1))
            ax.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
            ax.set_yticks([0, 0.5, 1], ["0", "0.5", "1"])
            colorbar(fig, image, ax, label)
        axes[0].set_ylabel("$x_2$")
        save(fig, path)
    return path


def _plane(values: Array) -> Array:
    if values.ndim == 2:
        return values
    n = len(values)
    return values.take([(n - 1) // 2, n // 2], 0).mean(axis=0)


def _plot_band(path: Path, estimate: Estimate) -> Path:
    nodes = np.linspace(0, 1, len(estimate.mean))
    style = line_styles(2)[1]
    with figure(4.8, 3.0) as fig:
        ax = fig.subplots()
        low, high = (estimate.mean + sign * estimate.half_width for sign in (-1, 1))
        label = f"confidence intervals, level {estimate.settings.level:.4g}"
        ax.fill_between(nodes, low, high, color=style.color, alpha=0.3, lw=0, label=label)
        ax.plot(nodes, estimate.mean, color=style.color, lw=style.width, label="mean of $u$")
        ax.set(xlabel="$x_1$", ylabel="$u$", xlim=(0, 1))
        ax.legend()
        save(fig, path)
    return path


def table(estimate: Estimate) -> list[tuple[str, str]]:
    """The rows of the closing table."""
    rows = [
        ("stopped by", estimate.stopped),
        ("samples", ", ".join(f"{kind} {count}" for kind, count in estimate.samples.items())),
        ("mean field, standard error in L²(D)", f"{estimate.field_error:.3e}"),
        ("variance field, standard error in L²(D)", f"{estimate.variance_field_error:.3e}"),
    ]
    for name, value in estimate.functionals.items():
        level = f"{estimate.settings.level:.4g}"
        rows.append((f"{name}, mean (level {level})", f"{value.mean:.6g} ± {value.half_width:.2g}"))
        rows.append((f"{name}, variance (level {level})", f"{value.variance:.4g} ± {value.variance_half_width:.2g}"))
    if estimate.plan is not None:
        plan = estimate.plan
        rows.append(("predicted gain over plain Monte Carlo", f"{plan.gain:.1f}"))
        rows.append(("cost of a reference sample, in network samples", f"{plan.cost_high / plan.cost_low:.1f}"))
    pilot = sum(estimate.seconds.get("pilot", {}).values())
    rows.append(("computing time, all ranks", f"{estimate.cost:.1f} s" + f", pilot run {pilot:.1f} s" * (pilot > 0)))
    return rows
