"""Curves and points with Matplotlib: losses of a training, errors against their estimates."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.ticker import MaxNLocator

from nnlod_fenics.arrays import as_numbers
from nnlod_fenics.errors import InputError
from nnlod_fenics.output.style import figure, line_styles, save

__all__ = ["plot_calibration", "plot_loss"]

PathLike = str | os.PathLike[str]


def plot_loss(
    path: PathLike, train: Sequence[float], validation: Sequence[float], step_drops: Sequence[int] = ()
) -> Path:
    """Draw the loss (4.1) against the epoch, on a logarithmic scale, with the best epoch marked.

    Args:
        path: The file to write.
        train: Training loss of each epoch.
        validation: Validation loss of each epoch.
        step_drops: Epochs (counted from 1) at whose start the step size drops.

    Returns:
        The path.

    Raises:
        InputError: If the lengths differ or are zero.
    """
    given = {"train": train, "validation": validation}
    curves = [as_numbers(name, values).astype(np.float64) for name, values in given.items()]
    if curves[0].ndim != 1 or curves[0].shape != curves[1].shape or curves[0].size == 0:
        shapes = " and ".join(str(curve.shape) for curve in curves)
        raise InputError(f"train and validation must be lists of the same length, got shapes {shapes}.")
    epochs = np.arange(1, len(curves[0]) + 1)
    with figure(4.8, 3.0) as fig:
        ax = fig.subplots()
        for drop in step_drops:
            ax.axvline(drop - 0.5, color="0.8", lw=0.8, zorder=0)
        for values, name, style in zip(curves, ("training", "validation"), line_styles(3)[1:], strict=True):
            ax.semilogy(epochs, values, color=style.color, ls=style.dashes, lw=style.width, label=name)
        if np.isfinite(curves[1]).any():
            best = int(np.nanargmin(curves[1]))
            label = f"best: {curves[1][best]:.2g} (epoch {best + 1})"
            ax.semilogy(
                epochs[best], curves[1][best], "o", ms=6, color=line_styles(3)[2].color, mec="white", label=label
            )
        ax.set(xlabel="epoch", ylabel="relative loss", xlim=(1, max(len(epochs), 2)))
        ax.margins(y=0.1)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
        ax.grid(axis="y", color="0.92", lw=0.6)
        ax.legend()
        save(fig, path)
    return Path(path)


def plot_calibration(path: PathLike, estimates: npt.ArrayLike, errors: npt.ArrayLike) -> Path:
    """Draw true against estimated errors of local matrices.

    Args:
        path: The file to write.
        estimates: Estimates, shape ``(n,)``; infinite ones are left out.
        errors: True errors, same shape.

    Returns:
        The path.

    Raises:
        InputError: If the shapes differ.
    """
    given = {"estimates": estimates, "errors": errors}
    estimate, error = (as_numbers(name, values).astype(np.float64) for name, values in given.items())
    if estimate.ndim != 1 or estimate.shape != error.shape:
        raise InputError(f"estimates and errors must be of one shape (n,), got {estimate.shape} and {error.shape}.")
    known = np.isfinite(estimate) & (error > 0)
    estimate, error = estimate[known], error[known]
    with figure(4.0, 3.6) as fig:
        ax = fig.subplots()
        if len(estimate):
            ax.plot(estimate, error, ".", ms=2, color=line_styles(2)[1].color, alpha=0.3, mew=0, rasterized=True)
            ends = [min(estimate.min(), error.min()), max(estimate.max(), error.max())]
            below = f"error = estimate ({100 * np.mean(error <= estimate):.1f} % lie below)"
            ax.plot(ends, ends, "-", color="black", lw=1, label=below)
            ax.legend(loc="upper left")
        ax.set(xscale="log", yscale="log", xlabel="estimated error", ylabel="true relative error")
        save(fig, path)
    return Path(path)
