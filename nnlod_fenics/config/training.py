"""Settings of a training run."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, ModelWrapValidatorHandler, field_validator, model_validator

from nnlod_fenics.config.base import LARGEST_SEED, Settings
from nnlod_fenics.errors import InputError
from nnlod_fenics.window import GALERKIN

__all__ = ["ENERGY", "FINE_TUNING_RATE", "PAPER", "TrainingSettings", "settings_of_network"]

# Step size of a training that starts from another model's weights. Measured on 32 fields of other laws: for 2 and for
# 10 epochs a tenth of the default is within 15 % of the best validation loss; the default itself can ruin a good start.
FINE_TUNING_RATE = 1.2e-3
"""Step size of a training that starts from another model, unless one is given: a tenth of the usual one."""

ENERGY = "energy"
"""Name of the loss in the energy of the neighbourhood."""

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
"""Settings of a training in the paper's way, where they differ from the defaults."""


def settings_of_network(network: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a training with the defaults that go with a network.

    Args:
        network: Name of the network; the paper's is trained in the paper's way, unless the settings say otherwise.
        given: Settings; a schedule other than the paper's comes without the paper's drops.

    Returns:
        The settings.
    """
    if network != "paper":
        return dict(given)
    other = given.get("schedule", PAPER["schedule"]) != PAPER["schedule"]
    return {key: value for key, value in PAPER.items() if not (other and key == "drops")} | dict(given)


class TrainingSettings(Settings):
    """How to train a network. The defaults are for the structured network, :data:`PAPER` is for the paper's."""

    prefix: ClassVar[str] = "training."

    epochs: int = Field(default=30, ge=1, description="passes over the training set")
    batch_size: int = Field(default=256, ge=1, description="patches of a step, over all processes")
    optimizer: Literal["adam", "adamw"] = Field(default="adam", description="how the weights are updated")
    learning_rate: float = Field(
        default=1.2e-2,
        gt=0,
        le=100,
        allow_inf_nan=False,
        description=f"step size at the start (after the warm-up); {FINE_TUNING_RATE:g} by default with init_from",
    )
    beta2: float = Field(
        default=0.99,
        ge=0,
        lt=1,
        description="decay per step of Adam's mean of squared gradients; a short memory allows larger step sizes",
    )
    schedule: Literal["steps", "cosine"] = Field(
        default="cosine", description="steps: piecewise constant with drops; cosine: down to zero along a cosine"
    )
    drops: tuple[tuple[int, float], ...] = Field(
        default=(), description="epochs (counted from 0) and the step size from then on, for schedule steps"
    )
    warmup: float = Field(
        default=math.nan,
        ge=0,
        allow_inf_nan=False,
        description="epochs in which the step size grows linearly from zero, a twelfth of all epochs by default; with "
        "too few steps in it the structured network stays on a plateau",
    )
    weight_decay: float = Field(default=0.0, ge=0, allow_inf_nan=False, description="as the optimizer defines it")
    clip: float = Field(default=0.05, ge=0, allow_inf_nan=False, description="bound of the gradient's norm; 0 for none")
    patience: int = Field(
        default=0, ge=0, description="epochs without a smaller validation loss after which to stop; 0 for never"
    )
    ema: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="decay per step of the moving average of the weights that is validated and kept; 0 for none",
    )
    augment: bool = Field(default=False, description="whether a random symmetry of the cube is applied to each batch")
    block: int = Field(
        default=0,
        ge=0,
        description="neighboring elements along an axis that are drawn together, where the network can share work "
        "among them; 0 for a choice by batch size (the paper's network always draws single patches)",
    )
    amp: Literal["off", "tf32", "bf16"] = Field(
        default="off", description="precision of the layers on a GPU: off is float32"
    )
    loss: Literal["frobenius", "energy"] = Field(
        default="frobenius",
        description="norm of the errors that are minimised: frobenius is the loss (4.1) of the paper; energy is that "
        "of the elements around each one, for matrices of the Galerkin form, and for a training that starts from "
        "another model (init_from), trained by (4.1): where errors are large, as at first, matrices become too soft",
    )
    tensorboard: bool = Field(default=False, description="whether to write the loss curves for TensorBoard too")
    device: str = Field(default="cpu", description="cpu or cuda")
    seed: int = Field(
        default=0, ge=0, le=LARGEST_SEED, description="seed of the initial weights and of the order of the samples"
    )
    checkpoint_minutes: float = Field(
        default=5.0, ge=0, allow_inf_nan=False, description="minutes between checkpoints from which a run is resumed"
    )
    init_from: str = Field(
        default="", description="model (a folder, or the name of a shipped one) whose weights are the initial ones"
    )

    @model_validator(mode="wrap")
    @classmethod
    def _with_dependent_defaults(cls, given: Any, make: ModelWrapValidatorHandler[Self]) -> Self:
        """Fill in defaults that depend on other settings; they do not count as given, see :meth:`changed`."""
        if not isinstance(given, dict):
            return make(given)
        filled: dict[str, Any] = {}
        epochs = given.get("epochs", 30)
        if isinstance(epochs, int) and given.get("warmup") is None:
            filled["warmup"] = epochs / 12
        if given.get("init_from") and given.get("learning_rate") is None:
            filled["learning_rate"] = FINE_TUNING_RATE
        made = make(given | filled)
        made.model_fields_set.difference_update(filled)
        return made

    @field_validator("drops", mode="before")
    @classmethod
    def _are_drops(cls, given: Any) -> tuple[tuple[int, float], ...]:
        try:
            drops = tuple((operator.index(epoch), float(rate)) for epoch, rate in given)
        except (TypeError, ValueError):
            raise InputError(f"training.drops must be a list of [epoch, step size], got {given!r}.") from None
        epochs = [epoch for epoch, _ in drops]
        if not all(0 < rate < math.inf and epoch >= 0 for epoch, rate in drops) or epochs != sorted(set(epochs)):
            raise InputError(f"training.drops must be increasing epochs with positive step sizes, got {given!r}.")
        return drops

    def loss_of(self, form: str) -> str:
        """Name of the loss, for local matrices of a form.

        Raises:
            InputError: If it does not apply to the form.
        """
        if self.loss == ENERGY and form != GALERKIN:
            raise InputError(f"training.loss = 'energy' is for local matrices of the Galerkin form, got form {form!r}.")
        return self.loss

    def rate(self, epoch: float) -> float:
        """Step size at some time.

        Args:
            epoch: Time in epochs, with a fraction for the steps done in the current one.

        Returns:
            The step size.
        """
        if self.schedule == "cosine":
            rest = max(self.epochs - self.warmup, 1e-9)
            rate = self.learning_rate * 0.5 * (1 + math.cos(math.pi * min(max(epoch - self.warmup, 0) / rest, 1)))
        else:
            rate = ([self.learning_rate] + [rate for start, rate in self.drops if epoch >= start])[-1]
        return rate * min(1.0, (epoch / self.warmup) if self.warmup else 1.0)
