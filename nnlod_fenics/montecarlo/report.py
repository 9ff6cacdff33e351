"""Files with the result of a run: numbers as JSON, fields as .npz and for ParaView, a figure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.colors import Normalize

from nnlod_fenics.montecarlo.allocation import Plan
from nnlod_fenics.montecarlo.estimate import Estimate
from nnlod_fenics.norms import nodal_values
from nnlod_fenics.output.drawing import centre_line, middle_plane, panel_size, shade
from nnlod_fenics.output.paraview import write_arrays
from nnlod_fenics.output.style import SOLUTION, colorbar, figure, line_styles, save
from nnlod_fenics.runtime.files import read_json, write_json, write_npz

__all__ = ["plot_mean", "table", "write_report"]


def write_report(folder: Path, estimate: Estimate) -> None:
    """Write ``fields.npz``, ``fields.vtkhdf``, ``mean.png``, and last ``montecarlo.json``.

    Args:
        folder: Folder of the run.
        estimate: Its result.
    """
    fields = estimate.fields
    write_npz(folder / "fields.npz", **fields)
    write_arrays(folder / "fields.vtkhdf", estimate.grid.dim, point_data=fields, grid=estimate.grid)
    plot_mean(folder / "mean.png", estimate)
    content: dict[str, Any] = {"run": read_json(folder / "run.json")} | estimate.summary()
    write_json(folder / "montecarlo.json", content)


def plot_mean(path: Path, estimate: Estimate) -> Path:
    """Draw the mean and its standard error: side by side, in 3D in the plane through the centre, in 1D as a band.

    Args:
        path: The file to write; the suffix chooses the format.
        estimate: The result.

    Returns:
        The path.
    """
    if estimate.grid.dim == 1:
        return _plot_band(path, estimate)
    fields = {"mean of $u$": estimate.mean, "standard error": estimate.standard_error}
    width, height = panel_size(estimate.grid.lengths)
    with figure(0.8 + 6.8 * width, 0.4 + 2.8 * height) as fig:
        axes = fig.subplots(1, 2, sharey=True)
        for ax, (label, field) in zip(axes, fields.items(), strict=True):
            plane = middle_plane(*nodal_values(label, field, estimate.grid))
            low, high = plane.inside.min(), plane.inside.max()
            image = shade(ax, plane, Normalize(low, high if high > low else low + 1.0), SOLUTION, "")
            ax.label_outer()
            colorbar(fig, image, ax, label)
        save(fig, path)
    return path


def _plot_band(path: Path, estimate: Estimate) -> Path:
    style, grid = line_styles(2)[1], estimate.grid
    with figure(4.8, 3.0) as fig:
        ax = fig.subplots()
        (at, mean), (_, half) = (
            centre_line(*nodal_values("mean", field, grid), 0) for field in (estimate.mean, estimate.half_width)
        )
        label = f"confidence intervals, level {estimate.settings.level:.4g}"
        ax.fill_between(at, mean - half, mean + half, color=style.color, alpha=0.3, lw=0, label=label)
        ax.plot(at, mean, color=style.color, lw=style.width, label="mean of $u$")
        ax.set(xlabel="$x_1$", ylabel="$u$", xlim=(0, grid.lengths[0]))
        ax.legend()
        save(fig, path)
    return path


def _choice(plan: Plan, estimate: Estimate) -> list[tuple[str, str]]:
    """What was chosen, and why: the models' costs and what they leave unexplained."""
    names, first = estimate.settings.solved, plan.costs.of((0,))
    rows = [("predicted gain over plain Monte Carlo", f"{plan.gain:.1f}")]
    for number, name in enumerate(names[1:], start=1):
        used = "used" if any(number in group for group in plan.groups) else "does not pay"
        cost = plan.costs.of((number,)) / first
        rows.append((f"model {name}", f"cost {cost:.2g}, 1 − ρ² {plan.unexplained[number]:.2g}: {used}"))
    for kind, group in zip(plan.kinds, plan.groups, strict=True):
        rows.append((f"fields solved by {', '.join(names[k] for k in group)}", str(estimate.samples.get(kind, 0))))
    return rows


def table(estimate: Estimate) -> list[tuple[str, str]]:
    """The rows of the closing table."""
    rows = [
        ("stopped by", estimate.stopped),
        ("samples", ", ".join(f"{kind} {count}" for kind, count in estimate.samples.items())),
        ("mean field, standard error in L²(D)", f"{estimate.field_error:.3e}"),
        ("variance field, standard error in L²(D)", f"{estimate.variance_field_error:.3e}"),
    ]
    if estimate.warned is not None:
        rows.append(("warned samples (signs of wrong solutions)", "{} of {}".format(*estimate.warned)))
    for name, value in estimate.functionals.items():
        level = f"{estimate.settings.level:.4g}"
        rows.append((f"{name}, mean (level {level})", f"{value.mean:.6g} ± {value.half_width:.2g}"))
        rows.append((f"{name}, variance (level {level})", f"{value.variance:.4g} ± {value.variance_half_width:.2g}"))
    if estimate.plan is not None:
        rows += _choice(estimate.plan, estimate)
    pilot = sum(estimate.seconds.get("pilot", {}).values())
    rows.append(("computing time, all ranks", f"{estimate.cost:.1f} s" + f", pilot run {pilot:.1f} s" * (pilot > 0)))
    return rows
