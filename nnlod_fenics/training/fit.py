"""Training of a network: best weights kept, interrupted runs resumed, one process or many."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from math import gcd
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from nnlod_fenics.config.training import ENERGY, TrainingSettings, settings_of_network
from nnlod_fenics.dataset.reading import Dataset
from nnlod_fenics.errors import InputError, MissingDependencyError
from nnlod_fenics.grid import Grid
from nnlod_fenics.network.loss import count_matrices, training_loss
from nnlod_fenics.network.model import NNLOD
from nnlod_fenics.network.registry import NETWORKS, build_network, check_network, count_parameters
from nnlod_fenics.network.shipped import find_model
from nnlod_fenics.network.storage import DESCRIPTION, ERRORS, WEIGHTS, load_weights, read_model, save_model, window_of
from nnlod_fenics.network.windows import active_cells, level_of
from nnlod_fenics.runtime.devices import sharing_cores
from nnlod_fenics.runtime.files import write_json
from nnlod_fenics.runtime.folder import Contents, output_folder
from nnlod_fenics.runtime.progress import show_progress
from nnlod_fenics.runtime.versions import software_versions
from nnlod_fenics.training.blocks import Batch, Blocks, Samples
from nnlod_fenics.training.data import Arrays, TrainingData, check_size, energy_whitening, of_unit_size, without_level
from nnlod_fenics.training.processes import Processes, processes
from nnlod_fenics.training.refit import refit_error_estimates
from nnlod_fenics.training.run import STATE, TENSORS, Run
from nnlod_fenics.window import Window

__all__ = ["CONTENTS", "HISTORY", "evaluate_loss", "train"]

HISTORY = "loss.json"
"""Name of the file of the losses."""
CONTENTS = Contents(
    "a training",
    STATE,
    (STATE, DESCRIPTION, WEIGHTS, ERRORS, HISTORY, "loss.png", rf"\d+-\d+-{TENSORS}", "tensorboard/.*"),
    parts=DESCRIPTION,
    exclusive=False,
)
"""What a model folder holds."""
_IDENTITY = ("grid", "window", "network", "training_set")  # of the description: what must be the same to go on
Report = Callable[[int, float, float], None]


def evaluate_loss(network: nn.Module, blocks: Blocks, batch_size: int = 4096) -> float:
    """The loss over a set of patches, see :func:`nnlod_fenics.network.loss.training_loss`, that of loads included.

    Args:
        network: The network.
        blocks: The set.
        batch_size: Patches at a time.

    Returns:
        Mean over all patches of elements of D.
    """
    network.eval()
    total, count, columns = 0.0, 0, blocks.window.matrix_shape[1]
    with torch.inference_mode():
        for batch in blocks.batches(batch_size):
            matrices = count_matrices(batch.S)
            loss = training_loss(network(batch.Z, batch.domain), batch.S, columns, batch.whitening)
            total += float(loss) * matrices
            count += matrices
    return total / count


def _shared_loss(network: nn.Module, blocks: Blocks, group: Processes) -> float:
    """The loss over a set of patches, of which each process evaluates a part."""
    network.eval()
    sums = torch.zeros(2, dtype=torch.float64, device=group.device)
    with torch.inference_mode():
        for batch in blocks.batches(4096, np.arange(group.rank, len(blocks), group.count)):
            columns = blocks.window.matrix_shape[1]
            loss = training_loss(network(batch.Z, batch.domain), batch.S, columns, batch.whitening)
            matrices = count_matrices(batch.S)
            sums += torch.stack([loss * matrices, torch.full_like(loss, matrices)])
    total, count = group.reduce(sums).tolist()
    return float(total / count)


def train(
    data: Dataset | TrainingData | str | Path,
    folder: str | Path,
    network: str | nn.Module = "structured",
    options: dict[str, Any] | None = None,
    settings: TrainingSettings | None = None,
    resume: bool = False,
    overwrite: bool = False,
    on_epoch: Report | None = None,
) -> Path:
    """Train a network and keep the weights of the smallest validation loss.

    With ``settings.init_from`` the weights that the training starts from are a candidate, too, as epoch 0: the result
    has never a larger validation loss than its start. The default step size is then a smaller one,
    :data:`nnlod_fenics.config.training.FINE_TUNING_RATE`.

    Args:
        data: A dataset or its folder, split 80 : 10 : 10 by realization; or training, validation and test data, see
            :class:`TrainingData`.
        folder: Model folder to write; in a training on several nodes, on a file system that all of them see.
        network: Name of the network, or a module of your own, see :class:`nnlod_fenics.network.Network`; it
            is trained in its place.
        options: Options of a network given by name.
        settings: How to train; the defaults of the network if None.
        resume: Resume an interrupted training.
        overwrite: Replace what is there.
        on_epoch: Called after each epoch with its number, training and validation loss.

    Returns:
        The folder: ``model.json``, ``weights.safetensors`` and ``loss.json``. In ``model.json``, ``losses`` are those
        of the kept weights; with ``init_from``, ``start`` among them is the validation loss of the start.

    Raises:
        InputError: If an argument does not fit.
        NumericalError: If the loss is not finite.

    Note:
        Under ``torchrun`` every process calls this; batches are shared between them, and the losses are those of
        one process up to rounding. Under ``mpirun`` each process trains alone, unless all of them have called
        :func:`nnlod_fenics.training.processes.adopt_launcher` before, as ``nnlod train`` does.

    Example:
        >>> from nnlod_fenics import generate, load_config
        >>> small = ["grid.coarse=4", "grid.fine=16", "grid.coefficient=8", "grid.ell=1", "dataset.realizations=10"]
        >>> config = load_config(overrides=[*small, "training.epochs=2"])
        >>> dataset = Dataset(generate(config, "data"))
        >>> model = NNLOD.load(train(dataset, "model", settings=config.training))
        >>> model.solve(model.grid, dataset.A(9)).shape
        (5, 5)
    """
    name = network if isinstance(network, str) else type(network).__name__
    settings = settings or TrainingSettings(**settings_of_network(name, {}))
    folder, options = Path(folder), dict(options or {})
    if isinstance(data, (str, Path)):
        data = Dataset(data)
    if isinstance(data, Dataset):
        data = TrainingData.of(data)
    if not isinstance(data, TrainingData):
        raise InputError(f"data must be a Dataset, its folder or TrainingData, got {type(data).__name__}.")
    data.check()
    with ExitStack() as stack:
        group = stack.enter_context(processes(settings.device))
        stack.enter_context(sharing_cores())
        stack.enter_context(_precision(settings))
        with group.agreeing():
            if group.rank == 0:
                stack.enter_context(output_folder(folder, CONTENTS, resume, overwrite))
            module = _module(network, name, data, settings, options)
            arrays = data.epoch(0)
            description = {
                "grid": data.grid.as_dict(),
                "window": data.window.as_dict(),
                "network": {"name": name, "options": options, "parameters": count_parameters(module)},
                "training": settings.as_dict(),
                "training_set": data.identity | _ranges(data, arrays) | {"checksum": data.checksum(arrays[0])},
                "versions": software_versions(),
            }
            module.to(group.device)
            sets = _Sets(data, module, settings, group.device)
            if not settings.init_from and hasattr(module, "start_from"):
                first = sets.fields(arrays, 8)
                module.start_from(first.Z, first.domain, first.S)
        run = Run(module, settings, group, folder, {key: description[key] for key in _IDENTITY})
        with group.agreeing():
            if resume:
                run.restore()
        with group.agreeing():
            run.checkpoint(force=True)  # a folder without one holds no training that could be resumed
        _fit(run, sets, arrays, description, on_epoch)
        with group.agreeing():
            if group.rank == 0:
                _conclude(run, sets, arrays)
    return folder


def _module(
    network: str | nn.Module, name: str, data: TrainingData, settings: TrainingSettings, options: dict[str, Any]
) -> nn.Module:
    """The network to train, with its initial weights."""
    window = data.window
    if isinstance(network, str):
        if data.has_loads and "loads" in inspect.signature(NETWORKS.get(name, nn.Module)).parameters:
            options.setdefault("loads", True)
        module = build_network(name, window, seed=settings.seed, **options)
    elif options:
        raise InputError(f"options apply to a network given by name, got {options} with a module.")
    else:
        module = network
    check_network(module, window)
    if bool(getattr(module, "loads", False)) != data.has_loads:
        wanted, given = ("predict", "does not") if data.has_loads else ("not predict", "does")
        raise InputError(f"network must {wanted} loads for these data, got {name!r} that {given}; see dataset.loads.")
    if settings.init_from:
        _initialise(module, name, window, settings.init_from)
    return module


def _ranges(data: TrainingData, arrays: Arrays) -> dict[str, Any]:
    """In what range the training fields lie on D, and their deviations from their means."""
    samples = data.samples(arrays)
    fields = torch.as_tensor(samples.Z).double()
    active = active_cells(torch.as_tensor(samples.marks), data.window).to(fields.device)
    shared = active.expand(fields.shape)
    ranges = {}
    for name, values in (("range_of_Z", fields), ("range_of_deviations", fields - level_of(fields, active))):
        ranges[name] = [float(values[shared].min()), float(values[shared].max())]
    return ranges


def _fit(run: Run, sets: _Sets, first_epoch: Arrays, description: dict[str, Any], on_epoch: Report | None) -> None:
    """All epochs of a run."""
    settings, group, first = run.settings, run.group, run.group.rank == 0
    with group.agreeing():
        train, validation = sets.train(first_epoch), sets.held_out(sets.data.validation)
        log = _TensorBoard(run.folder) if first and settings.tensorboard else None
    _evaluate_start(run, train, validation, description)
    with show_progress("train", settings.epochs, enabled=first) as report:
        while len(run.history) < settings.epochs and not 0 < settings.patience <= run.stale_epochs:
            number, best, start = len(run.history), run.best, time.monotonic()
            if callable(sets.data.train) and number:
                train = sets.train(sets.data.epoch(number))
            loss = run.epoch(train)
            losses = {"train": loss, "validation": _shared_loss(run.kept, validation, group)}
            run.add_epoch(losses | {"rate": settings.rate(number), "seconds": time.monotonic() - start})
            with group.agreeing():
                if first:
                    if losses["validation"] < best:
                        _save(run, description, losses, number + 1)
                    write_json(run.folder / HISTORY, run.history)
                run.checkpoint()
                report(number + 1, f"loss {loss:.2e}, validation {losses['validation']:.2e}")
                if log is not None:
                    log.add(number + 1, run.history[-1])
                if on_epoch is not None and first:
                    on_epoch(number + 1, loss, losses["validation"])
    with group.agreeing():
        run.checkpoint(force=True)


def _evaluate_start(run: Run, train: Blocks, validation: Blocks, description: dict[str, Any]) -> None:
    """Make the weights that a fine-tuning starts from its first candidate."""
    if not run.settings.init_from or run.start is not None or not run.untouched:
        return
    sets = {"train": train, "validation": validation}
    losses = {name: _shared_loss(run.kept, blocks, run.group) for name, blocks in sets.items()}
    if not np.isfinite(losses["validation"]):
        return
    run.start = losses["validation"]
    with run.group.agreeing():
        if run.group.rank == 0:
            _save(run, description, losses, 0)
        run.checkpoint(force=True)


def _save(run: Run, description: dict[str, Any], losses: dict[str, float], epoch: int) -> None:
    """Write the weights of an epoch as the model."""
    start = {} if run.start is None else {"start": run.start}
    save_model(run.folder, description | {"losses": losses | {"epoch": epoch} | start}, run.kept)


def _conclude(run: Run, sets: _Sets, training: Arrays) -> None:
    """Evaluate the kept weights on the test set, and learn how large their errors are."""
    description = read_model(run.folder)
    load_weights(run.folder, run.kept, description.get("checksums", {}).get(WEIGHTS))
    losses = description["losses"] | {"test": evaluate_loss(run.kept, sets.held_out(sets.data.test))}
    model = NNLOD(sets.data.grid, run.kept, description | {"losses": losses}, form=sets.data.form)
    refit_error_estimates(model, sets.data, run.settings.seed, training)
    model.save(run.folder)


class _Sets:
    """Training, validation and test data as a network takes them: in blocks, on its device."""

    def __init__(
        self, data: TrainingData, network: nn.Module, settings: TrainingSettings, device: torch.device
    ) -> None:
        self.data, self._device = data, device
        self._whole = data.grid.coarse if getattr(network, "takes_blocks", False) else (1,) * data.grid.dim
        self._block = _block(data.grid, settings, network)
        self._homogeneous = bool(getattr(network, "homogeneous", False))
        self._energy = settings.loss_of(data.form) == ENERGY

    def train(self, arrays: Arrays) -> Blocks:
        """Blocks for independent samples."""
        return self._blocks(arrays, (self._block,) * self.data.grid.dim)

    def held_out(self, arrays: Arrays) -> Blocks:
        """Blocks that need not be independent: a field at once where the network can share work in it."""
        return self._blocks(arrays, self._whole)

    def fields(self, arrays: Arrays, most: int) -> Batch:
        """The first fields, whole, as one batch."""
        samples = self.data.samples(arrays)
        some = Samples(samples.Z[:most], samples.S[:most], samples.marks[:most])
        return self._blocks(some, self.data.grid.coarse)[torch.arange(min(most, len(some.Z)))]

    def _blocks(self, arrays: Arrays, block: tuple[int, ...]) -> Blocks:
        data = self.data
        samples = of_unit_size(data.grid, data.window, data.samples(arrays))
        if self._homogeneous:
            samples = without_level(data.window, samples)
        else:
            check_size(samples.S)
        whitening = energy_whitening(data.window, samples, self._device) if self._energy else None
        return Blocks(data.window, samples, block, self._device, whitening=whitening)


def _block(grid: Grid, settings: TrainingSettings, network: nn.Module) -> int:
    """Elements of a block along an axis: at least 4 blocks a batch, for batches of independent samples."""
    if not getattr(network, "takes_blocks", False):
        return 1
    if settings.block:
        if gcd(*grid.coarse) % settings.block:
            raise InputError(f"training.block must divide coarse={grid.as_dict()['coarse']}, got {settings.block}.")
        return settings.block
    common = gcd(*grid.coarse)
    fitting = [b for b in range(1, common + 1) if common % b == 0 and 4 * b**grid.dim <= settings.batch_size]
    return max(fitting, default=1)


@contextmanager
def _precision(settings: TrainingSettings) -> Iterator[None]:
    """TF32 products on a GPU if the settings allow them."""
    places = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [place.allow_tf32 for place in places]
    for place in places:
        place.allow_tf32 = settings.amp == "tf32"
    try:
        yield
    finally:
        for place, value in zip(places, before, strict=True):
            place.allow_tf32 = value


def _initialise(module: nn.Module, name: str, window: Window, model: str) -> None:
    """Transfer learning: start from the weights of another model."""
    source = find_model(model)
    description = read_model(source)
    _, own = window_of(source, description)
    if description["network"]["name"] != name or own != window:
        given = f"{description['network']['name']!r} network for the window {own}"
        raise InputError(f"init_from {model!r} is a {given}, the one to train is {name!r} for {window}.")
    load_weights(source, module, description.get("checksums", {}).get(WEIGHTS))


class _TensorBoard:
    """Loss curves for TensorBoard."""

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            message = "training.tensorboard needs tensorboard, which is not installed; pip install tensorboard."
            raise MissingDependencyError(message) from None
        self._writer: Any = SummaryWriter(str(folder / "tensorboard"))

    def add(self, epoch: int, entry: dict[str, float]) -> None:
        for name, value in entry.items():
            self._writer.add_scalar(name, value, epoch)
        self._writer.flush()
