"""The stages of an experiment: data, trained networks, reference solutions, evaluations, multifidelity means."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from nnlod_fenics.coefficient import contrast
from nnlod_fenics.config import Config, TrainingSettings, write_config
from nnlod_fenics.dataset import Dataset
from nnlod_fenics.errors import InputError
from nnlod_fenics.fields import FieldSample, make_field
from nnlod_fenics.network import NNLOD, relative_loss
from nnlod_fenics.runtime.files import read_json, write_json, write_npy, write_npz
from nnlod_fenics.runtime.job import Interrupted
from nnlod_fenics.runtime.launcher import available_cores
from nnlod_fenics.runtime.progress import tell
from nnlod_fenics.runtime.streams import Stream
from nnlod_fenics.solvers import Solution, solve
from nnlod_fenics.training import Blocks, Samples, TrainingData, train
from nnlod_fenics.window import domain_marks
from nnlod_fenics.workflows.evaluate import compare, matrices_of
from nnlod_fenics.workflows.generation import launch_generation
from nnlod_fenics.workflows.reproduce.cache import Cache, Stage
from nnlod_fenics.workflows.reproduce.data import extend
from nnlod_fenics.workflows.reproduce.experiments import (
    BASE,
    EXPERIMENTS,
    Experiment,
    Scale,
    network_options,
    training_settings,
)
from nnlod_fenics.workflows.reproduce.multifidelity import make_estimate, settings_of

__all__ = ["Pipeline"]

Array = npt.NDArray[np.float64]


class Pipeline:
    """The stages of all experiments at one scale; whatever several of them need is made once.

    Args:
        scale: How large they are.
        cache: Where finished stages are kept.
        device: Where networks are trained, ``"cpu"`` or ``"cuda"``.
    """

    def __init__(self, scale: Scale, cache: Cache, device: str = "cpu") -> None:
        self.scale, self.cache, self.device = scale, cache, device

    # -- data ----------------------------------------------------------------------------------------

    def data(self, experiment: Experiment) -> Stage:
        """The largest dataset of an experiment, whose first part is the small one."""
        table = {
            "grid": self.scale.grid.as_dict(),
            "field": experiment.training_field,
            "dataset": {
                "realizations": self.scale.count(experiment, self.scale.largest),
                "seed": experiment.seed,
                "dtype": "float32",
            },
        }
        config = Config.model_validate(table)
        resolved = config.resolved()
        settings = {section: resolved[section] for section in table}

        def work(folder: Path) -> None:
            self._take_over(settings, folder / "data")
            launch_generation(write_config(folder, config), folder / "data", available_cores())

        return self.cache.stage("data", f"data of {experiment.name}", settings, work)

    def _take_over(self, settings: dict[str, Any], folder: Path) -> None:
        """Begin a dataset with the realizations of a shorter one of the same settings, if there is one."""
        length, found = settings["dataset"]["realizations"], {}
        for stage, given in self.cache.finished("data"):
            count = given["dataset"]["realizations"]
            same = given | {"dataset": given["dataset"] | {"realizations": length}} == settings
            if same and count < length:
                found[count] = stage
        if found:
            extend(Dataset(found[max(found)] / "data"), folder, length)

    def dataset(self, experiment: Experiment) -> Dataset:
        """The same, to read."""
        return Dataset(self.data(experiment).folder / "data")

    # -- networks ------------------------------------------------------------------------------------

    def model(self, experiment: Experiment, network: str, size: str = "", start: str = "transfer") -> Stage:
        """A trained network.

        Args:
            experiment: The experiment, or :data:`BASE` (always from scratch).
            network: One of :data:`~nnlod_fenics.workflows.reproduce.experiments.NETWORKS`.
            size: ``"small"`` or ``"large"``; the largest by default.
            start: ``"transfer"``: from the base network, or for a hierarchical experiment from the network of its
                parent's largest dataset; ``"scratch"``: from random weights.

        Returns:
            The stage, with the model folder ``model`` in it.
        """
        scale, data, size = self.scale, self.data(experiment), size or self.scale.largest
        before = self._before(experiment, network) if start == "transfer" else None
        training = training_settings(scale, experiment, network, size)
        options, count = network_options(scale, network), scale.count(experiment, size)
        settings = {
            "network": network,
            "options": options,
            "training": training,
            "data": data.key,
            "realizations": count,
            "init_from": "" if before is None else before.key,
        }

        def work(folder: Path) -> None:
            extra = {"device": self.device}
            if before is not None:
                extra["init_from"] = str((before.folder / "model").resolve())
            content, model = TrainingData.of(self.dataset(experiment), count), folder / "model"
            given = TrainingSettings.from_dict(training | extra)
            try:
                train(content, model, network, options, given, resume=True)
            except InputError as error:  # a damaged checkpoint, or one of a folder that was moved
                if not model.exists():
                    raise
                tell(f"{title}: {error} It starts anew.")
                train(content, model, network, options, given, overwrite=True)

        title = f"network {network} of {experiment.name}"
        if experiment.name != BASE.name:
            title += f", {size} dataset, {start}"
        return self.cache.stage("model", title, settings, work)

    def _before(self, experiment: Experiment, network: str) -> Stage | None:
        """The network that transfer learning starts from."""
        if experiment.name == BASE.name:
            return None
        parent = BASE if experiment.parent == BASE.name else EXPERIMENTS[experiment.parent]
        return self.model(parent, network)

    # -- fresh realizations --------------------------------------------------------------------------

    def fresh(self, experiment: Experiment, index: int = 0) -> FieldSample:
        """A realization that no dataset holds."""
        grid = self.scale.grid
        return make_field(experiment.fresh_field, grid.dim, grid.coefficient).sample(
            experiment.seed, index, stage=Stream.FRESH
        )

    def references(self, experiment: Experiment) -> Stage:
        """Fresh realizations solved by FEM and PG-LOD."""
        settings = {
            "grid": self.scale.grid.as_dict(),
            "field": experiment.fresh_field,
            "seed": experiment.seed,
            "fields": self.scale.fields,
        }

        def work(folder: Path) -> None:
            for index in range(self.scale.fields):
                path = folder / f"{index:05d}.npz"
                if not path.exists():
                    A = self.fresh(experiment, index).A
                    fem, lod = (solve(self.scale.grid, A, method).u for method in ("fem", "lod"))
                    write_npz(path, fem=fem, lod=lod, contrast=contrast(A))

        return self.cache.stage("references", f"FEM and PG-LOD of {experiment.name}", settings, work)

    def reference_solutions(self, experiment: Experiment) -> dict[str, Array]:
        """Solutions ``fem`` and ``lod`` of all fresh realizations and their ``contrast``, realizations first."""
        folder = self.references(experiment).folder
        parts = [dict(np.load(folder / f"{index:05d}.npz")) for index in range(self.scale.fields)]
        return {name: np.stack([part[name] for part in parts]) for name in ("fem", "lod", "contrast")}

    def evaluation(self, experiment: Experiment, network: str, size: str, start: str) -> Stage:
        """A network's test losses, its errors for the first fresh realization, its solutions for all of them.

        Returns:
            The stage, with ``evaluation.json`` and ``solutions.npy``, shape ``(fields, 1/H + 1, …)``, in it.
        """
        trained, references = self.model(experiment, network, size, start), self.references(experiment)

        def work(folder: Path) -> None:
            model, dataset = NNLOD.load(trained.folder / "model", device=self.device), self.dataset(experiment)
            first = np.load(references.folder / f"{0:05d}.npz")
            A, grid = self.fresh(experiment).A, self.scale.grid
            solutions = {
                "fem": Solution(grid, "fem", A, first["fem"]),
                "lod": solve(grid, A, "lod"),
                "nn": solve(grid, A, "nn", model=model),
            }
            by_field = self._losses_by_field(model, dataset, self.scale.count(experiment, size))
            u = [model.solve(grid, self.fresh(experiment, index).A) for index in range(self.scale.fields)]
            content: dict[str, Any] = {
                "parameters": model.description["network"]["parameters"],
                "losses": model.description["losses"]
                | {"test, common set": float(np.mean(by_field["test, common set"]))},
                "losses of fields": by_field,
                "history": read_json(trained.folder / "model" / "loss.json"),
                "fresh": compare(grid, solutions, matrices_of(model, A, solutions)),
            }
            write_npy(folder / "solutions.npy", np.stack(u))
            write_json(folder / "evaluation.json", content)

        title = f"evaluation of {network} of {experiment.name}, {size} dataset, {start}"
        return self.cache.stage("evaluation", title, {"model": trained.key, "references": references.key}, work)

    def base_losses(self, network: str) -> Stage:
        """Losses of the base network for single fields of its own dataset.

        Returns:
            The stage, with ``losses.json`` in it.
        """
        trained = self.model(BASE, network)

        def work(folder: Path) -> None:
            model = NNLOD.load(trained.folder / "model", device=self.device)
            count = self.scale.count(BASE, self.scale.largest)
            by_field = self._losses_by_field(model, self.dataset(BASE), count)
            write_json(folder / "losses.json", {"losses of fields": by_field})

        return self.cache.stage("losses", f"losses of the base network {network}", {"model": trained.key}, work)

    def _losses_by_field(self, model: NNLOD, dataset: Dataset, count: int) -> dict[str, list[float]]:
        """Losses (4.1) of single realizations.

        Those of the sets of a dataset of the first ``count`` ones and of the test set of the largest dataset, by
        which networks of all sizes are compared, and of the training set as many as this has.
        """
        own, common = dataset.split(count), dataset.split().test
        sets = {"train": own.train[: len(common)], "validation": own.validation, "test": own.test}
        losses = {}
        for name, members in (sets | {"test, common set": common}).items():
            fields, matrices = dataset.fields(members), dataset.matrices(members)
            samples = Samples(fields, matrices, domain_marks(dataset.grid)[None])
            patches = Blocks(dataset.window, samples, device=self.device)
            with torch.inference_mode():
                losses[name] = [
                    float(relative_loss(model.network(batch.Z, batch.domain), batch.S))
                    for batch in patches.batches(self.scale.grid.num_elements)
                ]
        return losses

    def multifidelity(self, experiment: Experiment, network: str) -> Stage:
        """The mean over fresh fields by multifidelity Monte Carlo with the network of the largest dataset.

        Returns:
            The stage, see :func:`nnlod_fenics.workflows.reproduce.multifidelity.load_estimate`.
        """
        trained = self.model(experiment, network)
        settings = {"model": trained.key, "field": experiment.fresh_field, "run": settings_of(self.scale, experiment)}

        def work(folder: Path) -> None:
            try:
                model = NNLOD.load(trained.folder / "model", device=self.device)
                make_estimate(folder, self.scale, experiment, model)
            except Interrupted:  # here as everywhere: the same command goes on
                raise KeyboardInterrupt from None

        return self.cache.stage("multifidelity", f"multifidelity mean of {experiment.name}, {network}", settings, work)
