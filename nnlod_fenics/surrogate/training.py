"""Training of a network on a dataset: Adam with step drops, best checkpoint, resumable."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nnlod_fenics.dataset.layout import software_versions
from nnlod_fenics.dataset.patches import Patches
from nnlod_fenics.dataset.reading import Dataset
from nnlod_fenics.errors import InputError, NumericalError
from nnlod_fenics.progress import show_progress
from nnlod_fenics.surrogate.loss import relative_loss
from nnlod_fenics.surrogate.networks import build_network, count_parameters
from nnlod_fenics.surrogate.settings import TrainingSettings
from nnlod_fenics.surrogate.storage import (
    DESCRIPTION,
    load_tensors,
    load_weights,
    read_json,
    read_model,
    save_model,
    save_tensors,
    write_json,
)

__all__ = ["evaluate_loss", "train"]

STATE, TENSORS = "training.json", "training.safetensors"


def evaluate_loss(network: nn.Module, patches: Patches, batch_size: int = 4096) -> float:
    """The loss (4.1) over a set of patches."""
    network.eval()
    total = 0.0
    with torch.inference_mode():
        for batch in patches.batches(batch_size):
            total += float(relative_loss(network(batch.Z, batch.inside), batch.S)) * len(batch.S)
    return total / len(patches)


class _Run:
    """A training run: network, optimizer, and the history of losses."""

    def __init__(self, network: nn.Module, settings: TrainingSettings, folder: Path) -> None:
        self.network, self.settings, self.folder = network, settings, folder
        self.optimizer = torch.optim.Adam(network.parameters(), lr=settings.learning_rate)
        self.history: list[dict[str, float]] = []
        self._saved = time.monotonic()

    @property
    def best(self) -> float:
        """Smallest validation loss so far."""
        return min((entry["validation"] for entry in self.history), default=float("inf"))

    def epoch(self, patches: Patches, number: int) -> float:
        """One pass over the training set; the mean loss of its steps."""
        self.network.train()
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.rate(number)
        order = torch.Generator().manual_seed(self.settings.seed * 1_000_003 + number)
        total = torch.zeros((), device=patches.device)
        for batch in patches.batches(self.settings.batch_size, order):
            loss = relative_loss(self.network(batch.Z, batch.inside), batch.S)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            if self.settings.clip:
                nn.utils.clip_grad_norm_(self.network.parameters(), self.settings.clip)
            self.optimizer.step()
            total += loss.detach() * len(batch.S)
        return float(total) / len(patches)

    def checkpoint(self, force: bool = False) -> None:
        """Save what is needed to go on, now and then."""
        if not force and time.monotonic() - self._saved < 60 * self.settings.checkpoint_minutes:
            return
        self._saved = time.monotonic()
        tensors = {f"network.{key}": t for key, t in self.network.state_dict().items()}
        for number, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"adam.{number}.{key}": torch.as_tensor(value) for key, value in state.items()}
        epoch = len(self.history)
        save_tensors(self.folder / f"{epoch}-{TENSORS}", tensors)
        write_json(self.folder / STATE, {"epoch": epoch, "settings": asdict(self.settings), "history": self.history})
        for old in self.folder.glob(f"*-{TENSORS}"):
            if old.name != f"{epoch}-{TENSORS}":
                old.unlink()

    def restore(self) -> None:
        """Go on from the last checkpoint, if there is one."""
        if not (self.folder / STATE).exists():
            return
        state = read_json(self.folder / STATE)
        given = TrainingSettings.from_dict(state["settings"])
        if given != self.settings:
            raise InputError(f"output {str(self.folder)!r} holds a training with other settings; it cannot be resumed.")
        tensors = load_tensors(self.folder / f"{state['epoch']}-{TENSORS}")
        device = next(self.network.parameters()).device
        self.network.load_state_dict({k[8:]: t.to(device) for k, t in tensors.items() if k.startswith("network.")})
        adam: dict[int, dict[str, Tensor]] = {}
        for key, tensor in tensors.items():
            if key.startswith("adam."):
                _, number, name = key.split(".")
                adam.setdefault(int(number), {})[name] = tensor if name == "step" else tensor.to(device)
        self.optimizer.load_state_dict(self.optimizer.state_dict() | {"state": adam})
        self.history = state["history"]


def train(
    dataset: Dataset,
    folder: str | Path,
    network: str = "paper",
    options: dict[str, Any] | None = None,
    settings: TrainingSettings | None = None,
    resume: bool = False,
    overwrite: bool = False,
    on_epoch: Callable[[int, float, float], None] | None = None,
) -> Path:
    """Train a network and keep the weights of the smallest validation loss.

    Args:
        dataset: Training data; split 80 : 10 : 10 by realization.
        folder: Model folder to write.
        network: Name of the network.
        options: Its options.
        settings: How to train.
        resume: Go on with an interrupted training.
        overwrite: Replace what is there.
        on_epoch: Called after each epoch with its number, training and validation loss.

    Returns:
        The folder: ``model.json``, ``weights.safetensors`` and ``loss.json``.

    Raises:
        InputError: If an argument does not fit.
        NumericalError: If the loss is not finite.
    """
    settings = settings or TrainingSettings()
    folder = Path(folder)
    split = dataset.split()
    _check_output(folder, resume, overwrite)
    module = build_network(network, dataset.grid, seed=settings.seed, **(options or {}))
    if settings.init_from:
        _initialise(module, network, dataset, Path(settings.init_from))
    module.to(_device(settings.device))
    run = _Run(module, settings, folder)
    if resume:
        run.restore()
    sets = {name: Patches.of(dataset, getattr(split, name), settings.device) for name in split._fields}
    description = _describe(dataset, network, options or {}, module, settings)
    with show_progress("train", settings.epochs) as report:
        for epoch in range(len(run.history), settings.epochs):
            loss, best = run.epoch(sets["train"], epoch), run.best
            validation = evaluate_loss(module, sets["validation"])
            if not loss < float("inf"):
                raise NumericalError(f"the training loss is {loss} in epoch {epoch + 1}; try a smaller learning_rate.")
            run.history.append({"train": loss, "validation": validation, "rate": settings.rate(epoch)})
            if validation < best:
                save_model(folder, description | {"losses": {"train": loss, "validation": validation}}, module)
            run.checkpoint()
            report(epoch + 1, f"loss {loss:.2e}, validation {validation:.2e}")
            if on_epoch is not None:
                on_epoch(epoch + 1, loss, validation)
    run.checkpoint(force=True)
    write_json(folder / "loss.json", run.history)
    load_weights(folder, module)
    losses = read_model(folder)["losses"] | {"test": evaluate_loss(module, sets["test"])}
    write_json(folder / DESCRIPTION, read_model(folder) | {"losses": losses})
    return folder


def _device(name: str) -> torch.device:
    if name != "cpu" and not (name.startswith("cuda") and torch.cuda.is_available()):
        raise InputError(f"training.device must be 'cpu', or 'cuda' where PyTorch finds one, got {name!r}.")
    return torch.device(name)


def _check_output(folder: Path, resume: bool, overwrite: bool) -> None:
    if not folder.exists() or resume:
        return
    if not folder.is_dir():
        raise InputError(f"output {str(folder)!r} is not a folder.")
    entries = list(folder.iterdir())
    if overwrite:
        for entry in entries:
            if entry.name in (DESCRIPTION, STATE, "loss.json", "weights.safetensors") or entry.name.endswith(TENSORS):
                entry.unlink()
    elif entries:
        raise InputError(
            f"output {str(folder)!r} already holds files; resume with --resume or replace with --overwrite."
        )


def _initialise(module: nn.Module, name: str, dataset: Dataset, source: Path) -> None:
    """Transfer learning: start from the weights of another model."""
    description = read_model(source)
    if description["network"]["name"] != name:
        given = description["network"]["name"]
        raise InputError(f"init_from {str(source)!r} is a {given!r} network, the one to train is {name!r}.")
    load_weights(source, module)


def _describe(
    dataset: Dataset, name: str, options: dict[str, Any], module: nn.Module, settings: TrainingSettings
) -> dict[str, Any]:
    """What a model tells of itself, without the losses."""
    Z = dataset.fields(dataset.split().train)
    return {
        "grid": dataset.grid.as_dict(),
        "network": {"name": name, "options": options, "parameters": count_parameters(module)},
        "training": asdict(settings),
        "training_set": {
            "field": dataset.field_settings,
            "seed": dataset.seed,
            "realizations": len(dataset.split().train),
            "range_of_Z": [float(Z.min()), float(Z.max())],
        },
        "versions": software_versions(),
    }
