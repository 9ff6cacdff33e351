"""Settings of a training run, checked by hand so that a GPU node needs no further package."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from nnlod_fenics.errors import InputError

__all__ = ["TrainingSettings"]


@dataclass(frozen=True)
class TrainingSettings:
    """How to train a network.

    Attributes:
        epochs: Passes over the training set.
        batch_size: Patches of a step.
        learning_rate: Step size of Adam at the start.
        drops: Epochs (counted from 0) and the step size from then on.
        seed: Seed of the initial weights and of the order of the patches.
        clip: Bound of the gradient's norm; 0 for none.
        augment: Whether each batch is turned by a random symmetry of the cube.
        device: ``"cpu"`` or ``"cuda"``.
        checkpoint_minutes: Time between checkpoints from which an interrupted run goes on.
        init_from: Model folder whose weights are the initial ones (transfer learning).
    """

    epochs: int = 60
    batch_size: int = 1000
    learning_rate: float = 1e-3
    drops: tuple[tuple[int, float], ...] = ((30, 1e-4), (45, 1e-5))
    seed: int = 0
    clip: float = 0.0
    augment: bool = False
    device: str = "cpu"
    checkpoint_minutes: float = 5.0
    init_from: str = ""

    def __post_init__(self) -> None:
        for name, least in (("epochs", 1), ("batch_size", 1), ("seed", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise InputError(f"training.{name} must be an integer of at least {least}, got {value!r}.")
        for name in ("learning_rate", "clip", "checkpoint_minutes"):
            value = getattr(self, name)
            positive = isinstance(value, (int, float)) and not isinstance(value, bool) and value >= 0
            if not positive or (name == "learning_rate" and value == 0):
                raise InputError(f"training.{name} must be a positive number, got {value!r}.")
        if not isinstance(self.augment, bool):
            raise InputError(f"training.augment must be true or false, got {self.augment!r}.")
        for name in ("device", "init_from"):
            if not isinstance(getattr(self, name), str):
                raise InputError(f"training.{name} must be a string, got {getattr(self, name)!r}.")
        object.__setattr__(self, "drops", self._checked_drops())

    def _checked_drops(self) -> tuple[tuple[int, float], ...]:
        try:
            drops = tuple((int(epoch), float(rate)) for epoch, rate in self.drops)
        except (TypeError, ValueError):
            raise InputError(f"training.drops must be a list of [epoch, step size], got {self.drops!r}.") from None
        epochs = [epoch for epoch, _ in drops]
        if any(rate <= 0 for _, rate in drops) or epochs != sorted(set(epochs)):
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

    def rate(self, epoch: int) -> float:
        """Step size in an epoch."""
        reached = [rate for start, rate in self.drops if epoch >= start]
        return reached[-1] if reached else self.learning_rate
