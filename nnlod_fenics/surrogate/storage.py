"""Model folders: weights as safetensors, everything else as JSON. Nothing that is loaded can run code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from nnlod_fenics.errors import InputError
from nnlod_fenics.output.files import replacing

__all__ = ["MODEL_VERSION", "load_weights", "read_json", "read_model", "save_tensors", "write_json"]

MODEL_VERSION = 1
DESCRIPTION, WEIGHTS = "model.json", "weights.safetensors"
_SECTIONS = {  # of the description, and what each must have
    "grid": ("dim", "coarse", "fine", "ell", "coefficient"),
    "network": ("name", "options"),
    "training_set": ("range_of_Z",),
    "losses": (),
}


def write_json(path: Path, content: Any) -> None:
    """Write JSON, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """Read JSON; an InputError names a file that is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"file {str(path)!r} cannot be read: {error.strerror}.") from None
    except ValueError:
        raise InputError(f"file {str(path)!r} is damaged: it is not JSON.") from None


def save_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write tensors, whole or not at all."""
    with replacing(path) as temporary:
        safetensors.torch.save_file({key: t.detach().cpu().contiguous() for key, t in tensors.items()}, temporary)


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Read tensors; an InputError names a file that is missing or damaged."""
    try:
        return safetensors.torch.load_file(path)
    except FileNotFoundError:
        raise InputError(f"file {str(path)!r} does not exist.") from None
    except (SafetensorError, OSError) as error:
        raise InputError(f"file {str(path)!r} is damaged or truncated: {error}.") from None


def save_model(folder: Path, description: dict[str, Any], network: nn.Module) -> None:
    """Write a model folder; the description last, so that a folder with one is whole."""
    save_tensors(folder / WEIGHTS, network.state_dict())
    write_json(folder / DESCRIPTION, description | {"model_version": MODEL_VERSION})


def read_model(folder: Path) -> dict[str, Any]:
    """Read the description of a model.

    Raises:
        InputError: If there is no model, or none that this version can read.
    """
    if not (folder / DESCRIPTION).is_file():
        raise InputError(f"model {str(folder)!r} does not exist: there is no {DESCRIPTION} in it.")
    description = read_json(folder / DESCRIPTION)
    for name in ("model_version", *_SECTIONS):
        if not isinstance(description, dict) or name not in description:
            raise InputError(f"model {str(folder)!r} is damaged: {DESCRIPTION} has no {name!r}.")
    version = description["model_version"]
    if version not in range(1, MODEL_VERSION + 1):
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
    result: dict[str, Any] = description
    return result


def load_weights(folder: Path, network: nn.Module) -> None:
    """Fill a network with the weights of a model folder.

    Raises:
        InputError: If they do not fit the network; names a tensor that does not.
    """
    tensors = load_tensors(folder / WEIGHTS)
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
