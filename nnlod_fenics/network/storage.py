"""Model folders: weights as safetensors, everything else as JSON. Nothing that is loaded can run code."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from nnlod_fenics.errors import InputError
from nnlod_fenics.grid import Grid
from nnlod_fenics.runtime.files import is_file, read_json, write_bytes, write_json
from nnlod_fenics.window import PETROV_GALERKIN, Window

__all__ = [
    "DESCRIPTION",
    "ERRORS",
    "MODEL_VERSION",
    "WEIGHTS",
    "checksum_of",
    "has_estimator",
    "load_tensors",
    "load_weights",
    "read_model",
    "save_model",
    "save_tensors",
    "window_of",
]

MODEL_VERSION = 3
"""Version of the model folders that this package writes: they state a window."""
DESCRIPTION = "model.json"
"""Name of the file that describes a model."""
WEIGHTS = "weights.safetensors"
"""Name of the file of its weights."""
ERRORS = "errors.safetensors"
"""Name of the file of its error estimates."""
_SECTIONS = {  # of the description, and what each must have
    "grid": ("dim", "coarse", "fine", "ell", "coefficient"),
    "network": ("name", "options"),
    "training_set": ("range_of_Z",),
    "losses": (),
}


def save_tensors(path: Path, tensors: dict[str, Tensor]) -> str:
    """Write tensors, whole or not at all; returns the checksum of the file."""
    content = safetensors.torch.save({key: t.detach().cpu().contiguous() for key, t in tensors.items()})
    write_bytes(path, content)
    return checksum_of(content)


def checksum_of(content: bytes) -> str:
    """SHA-256 of a file's bytes."""
    return hashlib.sha256(content).hexdigest()


def load_tensors(path: Path, checksum: str | None = None) -> dict[str, Tensor]:
    """Read tensors.

    Args:
        path: The file.
        checksum: What its bytes must have; not checked if None.

    Returns:
        The tensors.

    Raises:
        InputError: If the file is missing or damaged; names it.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"file {str(path)!r} does not exist.") from None
    except OSError as error:
        raise InputError(f"file {str(path)!r} cannot be read: {error.strerror}.") from None
    if checksum is not None and checksum_of(content) != checksum:
        raise InputError(
            f"file {str(path)!r} is damaged or belongs to another model: its checksum is not the one that was stored."
        )
    try:
        return safetensors.torch.load(content)
    except (SafetensorError, ValueError, KeyError) as error:
        raise InputError(f"file {str(path)!r} is damaged or truncated: {error}.") from None


def save_model(
    folder: Path, description: dict[str, Any], network: nn.Module, estimator: nn.Module | None = None
) -> dict[str, Any]:
    """Write a model folder; the description last, so that a folder with one is whole.

    Args:
        folder: Where.
        description: What to record of it.
        network: Its weights.
        estimator: Estimates of its errors, if there are any.

    Returns:
        The description as written, with the checksums of the files that belong to it.
    """
    checksums = {WEIGHTS: save_tensors(folder / WEIGHTS, network.state_dict())}
    if estimator is not None:
        checksums[ERRORS] = save_tensors(folder / ERRORS, estimator.state_dict())
    written = description | {"checksums": checksums, "model_version": MODEL_VERSION}
    write_json(folder / DESCRIPTION, written)
    if estimator is None:
        (folder / ERRORS).unlink(missing_ok=True)  # those of the model before
    return written


def window_of(folder: Path, description: dict[str, Any]) -> tuple[Grid, Window]:
    """The grid that a model was trained on, and the window that it serves.

    Args:
        folder: Its folder, for errors.
        description: What :func:`read_model` found; version 0.1 states no window, and knows one form only.

    Raises:
        InputError: If they are none, or do not belong together.
    """
    try:
        grid = Grid.from_dict(description["grid"])
    except (InputError, TypeError, ValueError) as error:
        reason = str(error).rstrip(".")
        raise InputError(f"model {str(folder)!r} is damaged: its grid is none ({reason}).") from None
    window = Window.of(grid, description.get("window", {}).get("form", PETROV_GALERKIN))
    if description.get("window", window.as_dict()) != window.as_dict():
        raise InputError(f"model {str(folder)!r} is damaged: its window is not that of its grid.")
    return grid, window


def has_estimator(folder: Path, description: dict[str, Any]) -> bool:
    """Whether a model has error estimates; models of version 0.1 list no files."""
    listed = description.get("checksums")
    return (folder / ERRORS).exists() if listed is None else ERRORS in listed


def read_model(folder: Path) -> dict[str, Any]:
    """Read the description of a model.

    Raises:
        InputError: If there is no model, or none that this version can read.
    """
    if not is_file(folder / DESCRIPTION):
        raise InputError(f"model {str(folder)!r} does not exist: there is no {DESCRIPTION} in it.")
    description = read_json(folder / DESCRIPTION)
    if not isinstance(description, dict):
        raise InputError(f"model {str(folder)!r} is damaged: {DESCRIPTION} must hold a table.")
    for name in ("model_version", *_SECTIONS):
        if name not in description:
            raise InputError(f"model {str(folder)!r} is damaged: {DESCRIPTION} has no {name!r}.")
    version = description["model_version"]
    if isinstance(version, bool) or not isinstance(version, int) or not 1 <= version <= MODEL_VERSION:
        raise InputError(
            f"model {str(folder)!r} has version {version!r}, this nnlod-fenics reads versions up to {MODEL_VERSION}; "
            "install a newer one."
        )
    for name, keys in _SECTIONS.items():
        section = description[name]
        if not isinstance(section, dict):
            raise InputError(
                f"model {str(folder)!r} is damaged: {name} in {DESCRIPTION} must be a table, got {section!r}."
            )
        for key in keys:
            if key not in section:
                raise InputError(f"model {str(folder)!r} is damaged: {name} in {DESCRIPTION} has no {key!r}.")
    checksums = description.get("checksums", {})
    if not isinstance(checksums, dict) or not all(isinstance(v, str) for v in checksums.values()):
        raise InputError(f"model {str(folder)!r} is damaged: checksums in {DESCRIPTION} must be a table of strings.")
    for name, fits in _entries(description).items():
        if not fits:
            raise InputError(f"model {str(folder)!r} is damaged: {name} in {DESCRIPTION} is of the wrong kind.")
    result: dict[str, Any] = description
    return result


def _entries(description: dict[str, Any]) -> dict[str, bool]:
    """Whether entries of the sections are of the kind that they must be."""
    network, training = description["network"], description["training_set"]
    losses = description["losses"].values()
    return {
        "window": isinstance(description.get("window", {}), dict),  # version 0.1 had none
        "network.name": isinstance(network["name"], str),
        "network.options": isinstance(network["options"], dict),
        "losses": all(value is None or _is_number(value) for value in losses),
        "training_set.range_of_Z": _is_range(training["range_of_Z"]),
        "training_set.range_of_deviations": _is_range(training.get("range_of_deviations", [0, 0])),
        "training_set.field": isinstance(training.get("field") or {}, dict),
    }


def _is_range(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(_is_number, value))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def load_weights(folder: Path, network: nn.Module, checksum: str | None = None) -> None:
    """Fill a network with the weights of a model folder.

    Args:
        folder: The folder.
        network: The network.
        checksum: What the file must have, if it is known.

    Raises:
        InputError: If they do not fit the network; names a tensor that does not.
    """
    tensors = load_tensors(folder / WEIGHTS, checksum)
    if adapt := getattr(network, "adapt", None):
        tensors = adapt(tensors, network.state_dict())
    expected = {key: tuple(t.shape) for key, t in network.state_dict().items()}
    found = {key: tuple(t.shape) for key, t in tensors.items()}
    for key in sorted(expected.keys() | found.keys()):
        if expected.get(key) != found.get(key):
            told = {None: "none", (): "a number"}
            shapes = [told.get(shapes.get(key), f"shape {shapes.get(key)}") for shapes in (expected, found)]
            raise InputError(
                f"weights of {str(folder)!r} do not fit the network: other layers, or another grid; {key!r} should be "
                f"{shapes[0]} and is {shapes[1]}."
            )
        if not bool(torch.isfinite(tensors[key]).all()):
            raise InputError(f"weights of {str(folder)!r} are damaged: {key!r} has NaN or infinite values.")
    network.load_state_dict(tensors)
