"""The models that come with the package: trained by ``demos/train_shipped_models.py``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nnlod_fenics.errors import InputError
from nnlod_fenics.grid import Grid
from nnlod_fenics.network.storage import DESCRIPTION, read_model, window_of
from nnlod_fenics.window import Window

__all__ = ["find_model", "find_shipped", "shipped_models"]

_FOLDER = Path(__file__).parent.parent / "models"


def shipped_models() -> dict[str, Path]:
    """Names and folders of the models that come with the package."""
    return {path.parent.name: path.parent for path in sorted(_FOLDER.glob(f"*/{DESCRIPTION}"))}


def find_model(name: str | Path) -> Path:
    """The folder of a model.

    Args:
        name: Name of a model that comes with the package, or a folder.

    Returns:
        The folder.
    """
    return shipped_models().get(str(name), Path(name))


def find_shipped(grid: Grid, field: dict[str, Any] | None) -> Path:
    """The model that comes with the package for a grid and a field.

    Args:
        grid: The discretisation; the model's may have other numbers of elements.
        field: The law of the coefficient, as in the model file; any if None.

    Returns:
        Its folder.

    Raises:
        InputError: If there is none; names those that there are.
    """
    for folder in shipped_models().values():
        description = read_model(folder)
        _, own = window_of(folder, description)
        if own == Window.of(grid, own.form) and field in (None, description["training_set"]["field"]):
            return folder
    law = "" if field is None else f" and field {field}"
    raise InputError(
        f"no model for the window {Window.of(grid)}{law} comes with the package, only {sorted(shipped_models())}; "
        "train one with nnlod train and name it with --model."
    )
