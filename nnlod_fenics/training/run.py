"""A training run: its steps, its moving average of weights, and checkpoints from which it is resumed."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nnlod_fenics.config.training import TrainingSettings
from nnlod_fenics.errors import InputError, NumericalError
from nnlod_fenics.network.loss import training_loss
from nnlod_fenics.network.storage import checksum_of, load_tensors, save_tensors
from nnlod_fenics.runtime.files import read_json, write_json
from nnlod_fenics.runtime.streams import Stream, seed_sequence
from nnlod_fenics.training.augment import symmetries_of, turned
from nnlod_fenics.training.blocks import Blocks
from nnlod_fenics.training.processes import Processes

__all__ = ["STATE", "TENSORS", "Run"]

STATE = "training.json"
"""Name of the file of a checkpoint's numbers."""
TENSORS = "training.safetensors"
"""Name of the file of its tensors, after the numbers of epoch and step."""
_FREE = {"device", "checkpoint_minutes"}  # settings that may differ when a run goes on


class Run:
    """A training run.

    Args:
        network: The network, on its device.
        settings: How to train.
        group: The processes that train together.
        folder: Where checkpoints go.
        identity: What else must agree for a checkpoint to be resumed: the grid, the training set.

    Attributes:
        history: One entry an epoch: ``train`` and ``validation`` loss, ``rate``, ``seconds``.
        start: Validation loss of the weights that a fine-tuning starts from, a candidate like those of every epoch;
            None where there is no such start.
    """

    def __init__(
        self,
        network: nn.Module,
        settings: TrainingSettings,
        group: Processes,
        folder: Path,
        identity: dict[str, Any] | None = None,
    ) -> None:
        self._identity = identity or {}
        self.network, self.settings, self.group, self.folder = network, settings, group, folder
        self.history: list[dict[str, float]] = []
        self.start: float | None = None
        self._step, self._total = 0, torch.zeros((), dtype=torch.float64, device=group.device)
        self._parallel = group.parallel(network)
        make = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[settings.optimizer]
        self.optimizer = make(
            network.parameters(),
            lr=settings.learning_rate,
            betas=(0.9, settings.beta2),
            weight_decay=settings.weight_decay,
            fused=group.device.type == "cuda",
        )
        average = torch.optim.swa_utils.get_ema_multi_avg_fn(settings.ema)
        self._average = torch.optim.swa_utils.AveragedModel(network, multi_avg_fn=average) if settings.ema else None
        self._saved = time.monotonic()

    @property
    def kept(self) -> nn.Module:
        """The network that is validated and kept: the moving average, if there is one."""
        return self.network if self._average is None else self._average.module

    @property
    def best(self) -> float:
        """Smallest validation loss so far; infinite before the first."""
        return self._candidates[self.best_epoch]

    @property
    def best_epoch(self) -> int:
        """Epoch of the smallest validation loss, from 1; 0 for the start, and before the first epoch."""
        return int(np.argmin(self._candidates))

    @property
    def stale_epochs(self) -> int:
        """Epochs since the smallest validation loss."""
        return len(self.history) - self.best_epoch

    @property
    def untouched(self) -> bool:
        """Whether the weights are still the initial ones."""
        return not self.history and not self._step

    @property
    def _candidates(self) -> list[float]:
        """Validation losses of the start and of each epoch."""
        start = float("inf") if self.start is None else self.start
        return [start, *(entry["validation"] for entry in self.history)]

    def epoch(self, blocks: Blocks) -> float:
        """Run the current epoch to its end.

        Args:
            blocks: Training set.

        Returns:
            Mean loss of its steps.

        Raises:
            NumericalError: If the loss is not finite.
        """
        number = len(self.history)
        order = np.random.default_rng(seed_sequence(self.settings.seed, Stream.ORDER, number)).permutation(len(blocks))
        parts = torch.from_numpy(order).split(max(self.settings.batch_size // blocks.elements_per_block, 1))
        self._parallel.train()
        for part in parts[self._step :]:
            self._optimise(blocks, part, (number, self._step), number + self._step / len(parts))
            self._step += 1
            self.checkpoint()
        loss = float(self._total) / len(blocks)
        self._step = 0
        self._total.zero_()
        return loss

    def add_epoch(self, entry: dict[str, float]) -> None:
        """Add an epoch to the history.

        Raises:
            NumericalError: If a loss is not finite.
        """
        for name in ("train", "validation"):
            if not np.isfinite(entry[name]):
                raise self._diverged(name, entry[name], len(self.history))
        self.history.append(entry)

    def _diverged(self, name: str, loss: float, epoch: int) -> NumericalError:
        kept = f"the best weights, of epoch {self.best_epoch}, are kept" if self.history else "no weights are kept"
        if self.start is not None and not self.best_epoch:
            kept = "the weights of the start are kept"
        return NumericalError(
            f"the {name} loss is {loss} in epoch {epoch + 1}; {kept}. Try a smaller training.learning_rate."
        )

    def _optimise(self, blocks: Blocks, part: Tensor, index: tuple[int, int], epoch: float) -> None:
        share = self.group.share(torch.arange(len(part)))
        taken = share if len(share) else torch.zeros(1, dtype=torch.long)  # every process takes part in every step
        batch = blocks[part[taken]]
        if self.settings.augment:
            symmetries = symmetries_of(blocks.window)
            seed = seed_sequence(self.settings.seed, Stream.SYMMETRY, *index)
            turns = symmetries[np.random.default_rng(seed).integers(len(symmetries), size=len(part))]
            batch = turned(blocks.window, batch, blocks.block[0], torch.from_numpy(turns)[taken])
        for parameters in self.optimizer.param_groups:
            parameters["lr"] = self.settings.rate(epoch)
        with torch.autocast(self.group.device.type, torch.bfloat16, enabled=self.settings.amp == "bf16"):
            predicted = self._parallel(batch.Z, batch.domain)
        weight = len(part) * blocks.count_active(part[share]) / blocks.count_active(part)  # the share's, in blocks
        columns = blocks.window.matrix_shape[1]
        loss = training_loss(predicted.to(batch.S.dtype), batch.S, columns, batch.whitening) * weight
        self.optimizer.zero_grad(set_to_none=True)
        (loss * (self.group.count / len(part))).backward()
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), self.settings.clip or torch.inf)
        self._total += self.group.reduce(loss.detach().double())
        if bool(torch.isfinite(norm)):  # one overflow of a gradient must not end a long training
            self.optimizer.step()
        elif not bool(torch.isfinite(self._total)):
            raise self._diverged("train", float(self._total), index[0])
        if self._average is not None:
            self._average.update_parameters(self.network)

    # -- checkpoints ---------------------------------------------------------------------------------

    def checkpoint(self, force: bool = False) -> None:
        """Save what is needed to resume, if the last time is long ago."""
        if not force and time.monotonic() - self._saved < 60 * self.settings.checkpoint_minutes:
            return
        self._saved = time.monotonic()
        if self.group.rank:
            return
        tensors = {f"network.{key}": value for key, value in self.network.state_dict().items()}
        for number, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{number}.{key}": torch.as_tensor(value) for key, value in state.items()}
        if self._average is not None:
            tensors |= {f"average.{key}": value for key, value in self._average.state_dict().items()}
        state = {
            **self._table(),
            "history": self.history,
            "start": self.start,
            "step": self._step,
            "total": float(self._total),
        }
        name = f"{len(self.history)}-{self._step}-{TENSORS}"
        checksum = save_tensors(self.folder / name, tensors)
        state |= {"tensors": name, "checksum": checksum}
        write_json(self.folder / STATE, state | {"digest": _digest(state)})
        for old in self.folder.glob(f"*-{TENSORS}"):
            if old.name != name:
                old.unlink()

    def restore(self) -> None:
        """Resume from the last checkpoint, if there is one.

        Raises:
            InputError: If it belongs to another training or is damaged.
        """
        if not (self.folder / STATE).exists():
            return
        state = read_json(self.folder / STATE)
        if not isinstance(state, dict):
            raise InputError(f"file {str(self.folder / STATE)!r} is damaged: it must hold a table.")
        digest = state.pop("digest", None)
        if digest != _digest(state) and (digest is not None or "checksum" in state):  # version 0.1 has neither
            raise InputError(
                f"file {str(self.folder / STATE)!r} is damaged: its checksum is not the one that was stored; train "
                "again with --overwrite."
            )
        own = self._table()
        different = sorted(key for key in own if key not in _FREE and state.get(key) != own[key])
        if different and digest is None and "tensors" in state:
            raise InputError(
                f"output {str(self.folder)!r} holds an interrupted training of version 0.1, which this version cannot "
                "resume; finish it with version 0.1 or train again with --overwrite."
            )
        if different:
            raise InputError(
                f"output {str(self.folder)!r} holds a training with another {different[0]} and cannot be resumed with "
                f"{own[different[0]]!r}."
            )
        self._check_state(state)
        tensors = load_tensors(self.folder / state["tensors"], state.get("checksum"))
        _load(self.network, _part(tensors, "network."), self.folder)
        if self._average is not None:
            _load(self._average, _part(tensors, "average."), self.folder)
        optimizer: dict[int, dict[str, Tensor]] = {}
        for key, tensor in _part(tensors, "optimizer.").items():
            number, name = key.split(".")
            optimizer.setdefault(int(number), {})[name] = tensor
        self.optimizer.load_state_dict(self.optimizer.state_dict() | {"state": optimizer})
        self.history, self._step, self.start = state["history"], state["step"], state.get("start")
        self._total.fill_(state["total"])

    def _check_state(self, state: dict[str, Any]) -> None:
        """Check the types of what a checkpoint says."""
        history = state.get("history")
        fits = {
            "tensors": isinstance(state.get("tensors"), str) and "/" not in str(state.get("tensors")),
            "history": isinstance(history, list) and all(isinstance(e, dict) and "validation" in e for e in history),
            "start": isinstance(state.get("start"), (float, int, type(None))),  # version 0.1 had none
            "step": isinstance(state.get("step"), int),
            "total": isinstance(state.get("total"), (int, float)),
        }
        wrong = [key for key, fine in fits.items() if not fine]
        if wrong:
            given = repr(state[wrong[0]]) if wrong[0] in state else "nothing"
            raise InputError(f"file {str(self.folder / STATE)!r} is damaged: {wrong[0]!r} cannot be {given[:60]}.")

    def _table(self) -> dict[str, Any]:
        """What must be the same to resume, as it comes back from JSON."""
        table: dict[str, Any] = json.loads(json.dumps(self.settings.as_dict() | self._identity))
        return table


def _digest(state: dict[str, Any]) -> str:
    """Checksum of what a checkpoint says."""
    return checksum_of(json.dumps(state, sort_keys=True).encode())


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def _load(network: nn.Module, tensors: dict[str, Tensor], folder: Path) -> None:
    try:
        network.load_state_dict(tensors)
    except RuntimeError:
        raise InputError(f"output {str(folder)!r} holds a training of another network; it cannot be resumed.") from None
