"""What each of the paper's experiments is, and how large it is at the scales ``small`` and ``paper``.

Formula and section numbers are those of Kröpfl, Peterseim, Ullmann (arXiv 2509.12896), sections 5 and 6. What that
text does not state is listed by :func:`choices`.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from nnlod_fenics.config import PAPER, TrainingSettings
from nnlod_fenics.errors import InputError
from nnlod_fenics.grid import Grid
from nnlod_fenics.network.registry import NETWORKS as REGISTRY

__all__ = [
    "BASE",
    "EXPERIMENTS",
    "NETWORKS",
    "SCALES",
    "SIZES",
    "STARTS",
    "Experiment",
    "Scale",
    "choices",
    "network_options",
    "select",
    "training_settings",
]

NETWORKS = ("paper", "structured")
"""Networks that are compared."""
SIZES = ("small", "large")
"""Sizes of the datasets that are compared."""
STARTS = ("scratch", "transfer")
"""Starts of the training that are compared."""

_CONTRASTS = {"low": 0.1, "moderate": 0.5, "high": 1.0}  # σ²
_RHO, _SMOOTHNESS = 0.05, 0.5
_RHOS = (0.05, 0.1, 0.15, 0.2, 0.25)
_WITHOUT_EFFECT = ("device", "checkpoint_minutes", "init_from", "tensorboard")  # or told by the stage before


@dataclass(frozen=True)
class Experiment:
    """One of the paper's experiments, or the base network from which the others start.

    Attributes:
        name: As the paper calls it.
        contrast: ``"low"``, ``"moderate"`` or ``"high"``; empty for the base network.
        variance: σ² of the Gaussian field.
        hierarchical: Whether the correlation length is random.
        seed: Seed of its data.
        parent: The experiment whose networks its transfer learning starts from.
    """

    name: str
    contrast: str
    variance: float
    hierarchical: bool
    seed: int
    parent: str

    @property
    def training_field(self) -> dict[str, Any]:
        """Law of the training fields; hierarchical ones have representative correlation lengths, as many of each."""
        if self.name == BASE.name:
            return {"kind": "uniform", "alpha": 1.0, "beta": 5.0}
        return self._field({"cycle": list(_RHOS)})

    @property
    def fresh_field(self) -> dict[str, Any]:
        """Law of fresh realizations; hierarchical ones have any correlation length."""
        return self._field({"uniform": [_RHOS[0], _RHOS[-1]]})

    def _field(self, rho: dict[str, list[float]]) -> dict[str, Any]:
        kind = "hierarchical" if self.hierarchical else "lognormal"
        length = rho if self.hierarchical else _RHO
        return {"kind": kind, "variance": self.variance, "smoothness": _SMOOTHNESS, "correlation_length": length}

    @property
    def family(self) -> list[str]:
        """The experiments that differ from it in the contrast only, itself included, lowest contrast first."""
        return [e.name for e in EXPERIMENTS.values() if e.hierarchical == self.hierarchical]


BASE = Experiment("base", "", 0.0, False, 10, "")
"""The dataset of uniformly elliptic coefficients that transfer learning starts from."""

EXPERIMENTS = {
    e.name: e
    for e in (
        *(Experiment(str(k + 1), c, _CONTRASTS[c], False, 2 * k + 2, "base") for k, c in enumerate(_CONTRASTS)),
        *(Experiment(f"{k + 1}-H", c, _CONTRASTS[c], True, 7 + k, str(k + 1)) for k, c in enumerate(_CONTRASTS)),
    )
}
"""The paper's experiments by name."""


@dataclass(frozen=True)
class Scale:
    """How large the experiments are.

    Attributes:
        name: ``"small"`` or ``"paper"``.
        grid: The discretisation.
        base: Realizations of the base network's dataset.
        realizations: Realizations of the small and the large dataset by contrast, lognormal or hierarchical alike;
            the small dataset is the first part of the large one.
        epochs: Epochs for the base network, and on small and large datasets.
        batch_size: Patches of a step, for the paper's network; the default one has its usual training.
        fields: Fresh realizations for means and biases.
        work: Cost of a multifidelity mean, its pilot run included, in solutions by PG-LOD.
        pilot: Samples of its pilot run.
        cost_ratio: Cost of a solution by PG-LOD over one by a network, the field included, that its sample numbers
            are made for, by kind of field: fixed ones, since with measured ones the results would not be the same in
            the next run.
        options: Options of each network.
        sizes: Datasets that are made, of :data:`SIZES`.
        starts: Starts of the training, of :data:`STARTS`.
        epochs_of_small_only: What :meth:`small_only` has in the place of ``epochs``, where that differs.
    """

    name: str
    grid: Grid
    base: int
    realizations: Mapping[str, Mapping[str, int]]
    epochs: Mapping[str, int]
    batch_size: int
    fields: int
    work: int
    pilot: int
    cost_ratio: Mapping[str, float]
    options: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    sizes: tuple[str, ...] = SIZES
    starts: tuple[str, ...] = STARTS
    epochs_of_small_only: Mapping[str, int] = field(default_factory=dict)

    @property
    def largest(self) -> str:
        """The largest dataset that is made."""
        return self.sizes[-1]

    def small_only(self) -> Scale:
        """The part of it that needs no large dataset.

        These are the small datasets, a base network of no more realizations, and transfer learning from that.
        """
        few = max(counts["small"] for counts in self.realizations.values())
        return replace(
            self,
            base=min(self.base, few),
            epochs=dict(self.epochs) | dict(self.epochs_of_small_only),
            sizes=("small",),
            starts=("transfer",),
        )

    def as_dict(self) -> dict[str, Any]:
        """All sizes, as JSON has them."""
        table: dict[str, Any] = json.loads(json.dumps(asdict(self) | {"grid": self.grid.as_dict()}))
        return table

    def count(self, experiment: Experiment, size: str) -> int:
        """Realizations of a dataset."""
        return self.base if experiment.name == BASE.name else self.realizations[experiment.contrast][size]


SCALES = {
    "small": Scale(
        name="small",
        grid=Grid(dim=2, coarse=8, fine=64, ell=2, coefficient=32),
        base=100,
        realizations={contrast: {"small": 50, "large": 200} for contrast in _CONTRASTS},
        epochs={"base": 30, "small": 60, "large": 30},
        batch_size=256,
        fields=100,
        work=50,
        pilot=16,
        cost_ratio={"lognormal": 100.0, "hierarchical": 50.0},
        options={
            "paper": {"widths": [300, 300, 240, 240, 180, 150, 150]},
            "structured": {"channels": 8, "means": 16},
        },
    ),
    "paper": Scale(
        name="paper",
        grid=Grid(dim=2, coarse=32, fine=512, ell=2, coefficient=256),
        base=500,
        realizations={
            "low": {"small": 300, "large": 800},
            "moderate": {"small": 300, "large": 3200},
            "high": {"small": 300, "large": 3200},
        },
        epochs={"base": 60, "small": 60, "large": 60},
        batch_size=1000,
        fields=200,
        work=200,
        pilot=32,
        cost_ratio={"lognormal": 20.0, "hierarchical": 20.0},
        epochs_of_small_only={"base": 20, "small": 20},  # experiments 1 to 3: 4 hours on two cores
    ),
}
"""Sizes of the experiments by name: in small, and the paper's."""


def select(names: list[str]) -> list[Experiment]:
    """The experiments of some names, ``"all"`` for all of them, each once, in the paper's order.

    Raises:
        InputError: If a name is unknown or there is none.
    """
    for name in names:
        if name not in (*EXPERIMENTS, "all"):
            raise InputError(f"experiment must be one of {[*EXPERIMENTS, 'all']}, got {name!r}.")
    if not names:
        raise InputError(f"experiment must be one of {[*EXPERIMENTS, 'all']}, got none.")
    return [e for e in EXPERIMENTS.values() if e.name in names or "all" in names]


def training_settings(scale: Scale, experiment: Experiment, network: str, size: str) -> dict[str, Any]:
    """Settings of a training, for :meth:`TrainingSettings.from_dict`.

    All that matter are there, so that a change of a default is another training.

    Args:
        scale: The scale.
        experiment: The experiment, or :data:`BASE`.
        network: ``"paper"``: Adam with a piecewise constant step size, two drops, in hierarchical runs one, as in
            the paper; ``"structured"``: the defaults of the package.
        size: ``"small"`` or ``"large"``; of no account for the base network.

    Returns:
        The table.
    """
    given: dict[str, Any] = {"epochs": scale.epochs["base" if experiment.name == BASE.name else size]}
    epochs = given["epochs"]
    if network == "paper":
        drops = [[epochs // 2, 1e-4], [3 * epochs // 4, 1e-5]]
        first = {entry[0]: entry for entry in drops if entry[0] > 0}  # a run of a few epochs has no room for two
        own = {"batch_size": scale.batch_size, "drops": list(first.values())[: 1 if experiment.hierarchical else 2]}
        given = PAPER | given | own
    settings = TrainingSettings.from_dict(given).as_dict()
    return {key: value for key, value in settings.items() if key not in _WITHOUT_EFFECT}


def network_options(scale: Scale, network: str) -> dict[str, Any]:
    """Options of a network, those that are not given by the scale at their defaults."""
    parameters = inspect.signature(REGISTRY[network]).parameters
    defaults = {name: p.default for name, p in parameters.items() if p.default is not inspect.Parameter.empty}
    options: dict[str, Any] = json.loads(json.dumps(defaults | scale.options.get(network, {})))
    return options


def choices(scale: Scale, experiment: Experiment) -> list[dict[str, str]]:
    """What the text of the paper does not state and is therefore chosen or reconstructed here.

    Returns:
        Tables with ``what``, ``value`` and ``mark`` (``chosen``: a documented default of this package;
        ``reconstructed``: it follows from the text or the papers it builds on; ``scale``: smaller than there).
    """
    small = scale.name != "paper"
    rows = [
        *_choices_of_data(scale, experiment, small),
        *(_choices_of_hierarchy(scale, experiment) if experiment.hierarchical else []),
        *_choices_of_training(scale, experiment, small),
        *_choices_of_evaluation(scale, experiment, small),
    ]
    return [dict(zip(("what", "value", "mark"), row, strict=True)) for row in rows]


def _choices_of_data(scale: Scale, experiment: Experiment, small: bool) -> list[tuple[str, str, str]]:
    g = scale.grid
    mesh = f"H = 1/{g.coarse[0]}, ε = 1/{g.coefficient[0]}, h = 1/{g.fine[0]}, ℓ = {g.ell}"
    counts = ", ".join(f"{size} {scale.count(experiment, size)}" for size in scale.sizes)
    rows = [
        ("discretisation", mesh, "scale" if small else "reconstructed"),
        ("right-hand side", "f = 1", "chosen"),
        ("quasi-interpolation", "nodal averages of element-wise L² projections", "reconstructed"),
        ("uniformly elliptic coefficients of the base network", "A i.i.d. uniform in [1, 5] on T_ε", "chosen"),
        ("smoothness ν", f"{_SMOOTHNESS}", "chosen"),
        ("variance σ²", f"{experiment.variance}", "chosen"),
        ("sampler of the Gaussian field", "circulant embedding, exact in law", "reconstructed"),
        ("realizations of the base network", f"{scale.base}", "scale" if small else "chosen"),
        ("numbers in a dataset", "float32, computed in float64", "chosen"),
        ("seeds", f"data of the base network {BASE.seed}, of this experiment {experiment.seed}; training 0", "chosen"),
    ]
    if len(scale.sizes) > 1:
        rows.append(("small dataset", "the first part of the large one", "chosen"))
    if small or experiment.hierarchical:  # the paper's text has the others
        rows.append(("realizations", counts, "scale" if small else "chosen"))
    if not experiment.hierarchical:
        rows.append(("correlation length ρ", f"{_RHO}", "chosen"))
    return rows


def _choices_of_hierarchy(scale: Scale, experiment: Experiment) -> list[tuple[str, str, str]]:
    turn = "in turn, realization k has number k mod 5: as many of each in training, validation and test set"
    return [
        ("correlation length ρ of fresh fields", f"uniform in [{_RHOS[0]}, {_RHOS[-1]}]", "chosen"),
        ("representative correlation lengths of the datasets", ", ".join(map(str, _RHOS)), "chosen"),
        ("their order", turn, "reconstructed"),
        ("small dataset of a hierarchical experiment", "not in the paper, added here", "chosen"),
        ("transfer starts from", f"the network of experiment {experiment.parent}, {scale.largest} dataset", "chosen"),
    ]


def _choices_of_training(scale: Scale, experiment: Experiment, small: bool) -> list[tuple[str, str, str]]:
    paper, default = network_options(scale, "paper"), network_options(scale, "structured")
    usual = training_settings(scale, experiment, "structured", scale.largest)
    options = ", ".join(f"{key} {value}" for key, value in default.items())
    training = ("optimizer", "batch_size", "learning_rate", "beta2", "schedule", "warmup", "clip")
    drops = "half of all" if experiment.hierarchical else "half, and three quarters of all"
    return [
        ("hidden widths of the paper's network", "–".join(map(str, paper["widths"])), "scale" if small else "chosen"),
        ("initial weights of the paper's network without transfer", "PyTorch's default of a linear layer", "chosen"),
        ("loss (4.1)", "mean of |Ψ(Z) - vec S|² / |vec S|²", "reconstructed"),
        ("batch size of the paper's network", f"{scale.batch_size}", "chosen"),
        (
            "step sizes of the paper's network",
            f"1e-3, then {' and '.join(('1e-4', '1e-5')[: 1 if experiment.hierarchical else 2])}",
            "chosen",
        ),
        ("epochs of these drops", drops, "chosen"),
        ("Adam of the paper's network", "β = (0.9, 0.999), ε = 1e-8, no weight decay", "chosen"),
        (
            "epochs, of both networks",
            ", ".join(f"{name} {scale.epochs[name]}" for name in (BASE.name, *scale.sizes)),
            "scale" if small else "chosen",
        ),
        ("precision of the networks", "float32", "chosen"),
        ("trainings", "one of each kind: intervals are over fields, not over seeds of trainings", "chosen"),
        ("weights that are kept", "those of the smallest validation loss", "chosen"),
        ("default network, not in the paper", options, "scale" if small else "chosen"),
        ("training of the default network", ", ".join(f"{key} {usual[key]}" for key in training), "chosen"),
    ]


def _choices_of_evaluation(scale: Scale, experiment: Experiment, small: bool) -> list[tuple[str, str, str]]:
    ratio = scale.cost_ratio[experiment.fresh_field["kind"]]
    run = f"cost {scale.work} solutions by PG-LOD, pilot {scale.pilot}, PG-LOD {ratio:g} times the network"
    return [
        ("fresh realization", "the first one of its stream of random numbers, whatever its contrast", "chosen"),
        ("fresh realizations for means and biases", f"{scale.fields}", "scale" if small else "chosen"),
        ("FEM", "Q1 on T_h; its distance to PG-LOD and NN-LOD is taken on T_h", "chosen"),
        ("spectral error", "of the coarse matrices of the inner nodes", "reconstructed"),
        ("multifidelity means, not in the paper", run, "chosen"),
        ("criteria of the findings and their bounds", "stated with each of them; intervals of 95 %", "chosen"),
    ]
