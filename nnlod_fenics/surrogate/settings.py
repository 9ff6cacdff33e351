"""Settings of a training run, checked by hand so that a GPU node needs no further package."""

from __future__ import annotations

import math
import operator
from dataclasses import asdict, dataclass, fields
from typing import Any

from nnlod_fenics.errors import InputError

__all__ = ["PAPER", "TrainingSettings", "settings_of_network"]

# How the paper's network is trained: step sizes dropped at half and at three quarters of the epochs.
PAPER: dict[str, Any] = {
    "epochs": 60,
    "batch_size": 1000,
    "learning_rate": 1e-3,
    "beta2": 0.999,
    "schedule": "steps",
    "drops": ((30, 1e-4), (45, 1e-5)),
    "warmup": 0.0,
    "clip": 0.0,
}


def settings_of_network(network: str, given: dict[str, Any]) -> dict[str, Any]:
    """Settings of a training with the defaults that go with a network.

    Args:
        network: Name of the network; the paper's is trained in the paper's way, unless the settings say otherwise.
        given: Settings; a schedule other than the paper's comes without the paper's drops.

    Returns:
        The settings.
    """
    if network != "paper":
        return given
    other = given.get("schedule", PAPER["schedule"]) != PAPER["schedule"]
    return {key: value for key, value in PAPER.items() if not (other and key == "drops")} | given


_CHOICES = {"optimizer": ("adam", "adamw"), "schedule": ("steps", "cosine"), "amp": ("off", "tf32", "bf16")}
_INTEGERS = {"epochs": 1, "batch_size": 1, "patience": 0, "block": 0, "seed": 0}
_NUMBERS = ("learning_rate", "beta2", "warmup", "weight_decay", "clip", "ema", "checkpoint_minutes")


@dataclass(frozen=True)
class TrainingSettings:
    """How to train a network. The defaults are for the structured network, :data:`PAPER` is for the paper's.

    Attributes:
        epochs: Passes over the training set.
        batch_size: Patches of a step, over all processes.
        optimizer: ``"adam"`` or ``"adamw"``.
        learning_rate: Step size at the start (after the warm-up).
        beta2: Decay a step of Adam's mean of squared gradients. A short memory bears larger step sizes.
        schedule: ``"steps"``: piecewise constant with ``drops``; ``"cosine"``: down to zero along a cosine.
        drops: Epochs (counted from 0) and the step size from then on, for ``"steps"``.
        warmup: Epochs in which the step size grows linearly from zero; a twelfth of all epochs by default. With too few
            steps in it the structured network stays on a plateau.
        weight_decay: Decay of the weights, as the optimizer defines it.
        clip: Bound of the gradient's norm; 0 for none.
        patience: Epochs without a smaller validation loss after which to stop; 0 for never.
        ema: Decay a step of the moving average of the weights that is validated and kept; 0 for none.
        augment: Whether each batch is turned by a random symmetry of the cube.
        block: Neighbouring elements along an axis that are drawn together, where the network can share work
            among them; 0 for a choice by batch size. The paper's network always draws single patches.
        amp: ``"off"`` (float32), ``"tf32"`` or ``"bf16"`` for the layers on a GPU.
        tensorboard: Whether to write the loss curves for TensorBoard too.
        device: ``"cpu"`` or ``"cuda"``.
        seed: Seed of the initial weights and of the order of the samples.
        checkpoint_minutes: Time between checkpoints from which an interrupted run goes on.
        init_from: Model (a folder, or the name of one that comes with the package) whose weights are the initial ones.
    """

    epochs: int = 30
    batch_size: int = 256
    optimizer: str = "adam"
    learning_rate: float = 1.2e-2
    beta2: float = 0.99
    schedule: str = "cosine"
    drops: tuple[tuple[int, float], ...] = ()
    warmup: float | None = None
    weight_decay: float = 0.0
    clip: float = 0.05
    patience: int = 0
    ema: float = 0.0
    augment: bool = False
    block: int = 0
    amp: str = "off"
    tensorboard: bool = False
    device: str = "cpu"
    seed: int = 0
    checkpoint_minutes: float = 5.0
    init_from: str = ""

    def __post_init__(self) -> None:
        for name, least in _INTEGERS.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise InputError(f"training.{name} must be an integer of at least {least}, got {value!r}.")
        if self.warmup is None:
            object.__setattr__(self, "warmup", self.epochs / 12)
        for name in _NUMBERS:
            value = getattr(self, name)
            number = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < math.inf
            if not number or (name == "learning_rate" and value == 0):
                kind = "positive" if name == "learning_rate" else "non-negative"
                raise InputError(f"training.{name} must be a {kind} number, got {value!r}.")
        for name in ("beta2", "ema"):
            if getattr(self, name) >= 1:
                raise InputError(f"training.{name} must be below 1, got {getattr(self, name)!r}.")
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise InputError(f"training.{name} must be one of {list(choices)}, got {getattr(self, name)!r}.")
        for name in ("augment", "tensorboard"):
            if not isinstance(getattr(self, name), bool):
                raise InputError(f"training.{name} must be true or false, got {getattr(self, name)!r}.")
        for name in ("device", "init_from"):
            if not isinstance(getattr(self, name), str):
                raise InputError(f"training.{name} must be a string, got {getattr(self, name)!r}.")
        object.__setattr__(self, "drops", self._checked_drops())

    def _checked_drops(self) -> tuple[tuple[int, float], ...]:
        try:
            drops = tuple((operator.index(epoch), float(rate)) for epoch, rate in self.drops)
        except (TypeError, ValueError):
            raise InputError(f"training.drops must be a list of [epoch, step size], got {self.drops!r}.") from None
        epochs = [epoch for epoch, _ in drops]
        if not all(0 < rate < math.inf and epoch >= 0 for epoch, rate in drops) or epochs != sorted(set(epochs)):
            raise InputError(f"training.drops must have increasing epochs and positive step sizes, got {self.drops!r}.")
        return drops

    @classmethod
    def from_dict(cls, given: dict[str, Any]) -> TrainingSettings:
        """Settings from a table; unknown keys are an error."""
        names = {item.name for item in fields(cls)}
        unknown = sorted(set(given) - names)
        if unknown:
            raise InputError(f"training.{unknown[0]} is no setting; expected one of {sorted(names)}.")
        return cls(**given)

    def as_dict(self) -> dict[str, Any]:
        """The settings as a table."""
        return asdict(self)

    def rate(self, epoch: float) -> float:
        """Step size at some time.

        Args:
            epoch: Time in epochs, with a fraction for the steps done in the current one.

        Returns:
            The step size.
        """
        warmup = self.warmup or 0.0
        if self.schedule == "cosine":
            rest = max(self.epochs - warmup, 1e-9)
            rate = self.learning_rate * 0.5 * (1 + math.cos(math.pi * min(max(epoch - warmup, 0) / rest, 1)))
        else:
            rate = ([self.learning_rate] + [rate for start, rate in self.drops if epoch >= start])[-1]
        return rate * min(1.0, (epoch / warmup) if warmup else 1.0)
