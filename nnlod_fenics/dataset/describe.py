"""What a dataset holds, for a person to read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from nnlod_fenics.dataset.reading import Dataset
from nnlod_fenics.grid import Grid

__all__ = ["describe"]


def describe(path: str | Path) -> list[tuple[str, str]]:
    """Describe a dataset, finished or not.

    Args:
        path: Its folder.

    Returns:
        Names and values.

    Raises:
        InputError: If it cannot be read.
    """
    dataset = Dataset(path, partial=True)
    header, grid, finished = dataset.header, dataset.grid, dataset.finished
    size = dataset.realization_bytes
    called = {"Z": "field", "S": "local matrices", "K": "element energy matrices", "b": "loads"}
    parts = ", ".join(f"{called[name]} {count}" for name, count in size.items())
    seeds = np.unique(dataset.column("origin", finished)[:, 0])
    field = ", ".join(f"{key} {_brief(value)}" for key, value in dataset.field_settings.items())
    return [
        ("realizations", f"{len(finished)} of {len(dataset)} finished"),
        (
            "samples",
            f"{len(finished) * len(grid.active_elements)} of {grid.num_patch_cells} inputs, "
            f"{_outputs(dataset)} outputs",
        ),
        ("grid", ", ".join(f"{key} {value}" for key, value in _grid(grid).items())),
        ("field", field),
        ("seeds", ", ".join(map(str, seeds))),
        ("form", header.form + (", with loads" if header.loads else "")),
        ("method, type", f"{header.config['dataset']['method']}, {header.dtype}"),
        ("bytes a realization", f"{sum(size.values())} ({parts})"),
        ("made by", f"{header.made_by}, blocks of {header.block}"),
        ("versions", ", ".join(f"{name} {version}" for name, version in header.versions.items())),
    ]


def _grid(grid: Grid) -> dict[str, Any]:
    """What defines a grid; of its inactive elements only how many there are."""
    table = grid.as_dict()
    return table | {"inactive": f"{grid.num_elements - len(grid.active_elements)} elements"} if grid.inactive else table


def _outputs(dataset: Dataset) -> int:
    rows, columns = dataset.window.matrix_shape
    return rows * (columns + dataset.has_loads)


def _brief(value: Any) -> str:
    """A setting of a field; of a long list, such as measured values, its length."""
    return f"in {len(value)} rows" if isinstance(value, list) and len(value) > 3 else str(value)
