"""A lognormal and a hierarchical experiment as a whole, tiny; the cache; the report opened in a browser."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
import subprocess
import time
from html.parser import HTMLParser
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
from waiting import PATIENCE

from nnlod_fenics import Grid, InputError
from nnlod_fenics.cli import main
from nnlod_fenics.config import load_config
from nnlod_fenics.dataset import Dataset
from nnlod_fenics.errors import NumericalError
from nnlod_fenics.fields.parameters import parse_parameter
from nnlod_fenics.norms import l2_norm
from nnlod_fenics.runtime.folder import locked
from nnlod_fenics.runtime.job import Interrupted
from nnlod_fenics.training import TrainingSettings
from nnlod_fenics.workflows.reproduce import EXPERIMENTS, SCALES, Scale, reproduce
from nnlod_fenics.workflows.reproduce.cache import Cache
from nnlod_fenics.workflows.reproduce.criteria import NOT_EXAMINED
from nnlod_fenics.workflows.reproduce.experiments import (
    BASE,
    NETWORKS,
    SIZES,
    STARTS,
    choices,
    select,
    training_settings,
)
from nnlod_fenics.workflows.reproduce.findings import CLAIMS
from nnlod_fenics.workflows.reproduce.pipeline import Pipeline
from nnlod_fenics.workflows.reproduce.results import collect
from nnlod_fenics.workflows.reproduce.statements import NOT_EXAMINED_HERE

CONFIG = Path(__file__).parents[2] / "demos" / "config"
CONTRASTS = ("low", "moderate", "high")
TINY = Scale(
    name="tiny",
    grid=Grid(dim=2, coarse=4, fine=16, ell=1, coefficient=8),
    base=10,
    realizations={contrast: {"small": 10, "large": 20} for contrast in CONTRASTS},
    epochs={"base": 4, "small": 5, "large": 4},
    batch_size=64,
    fields=4,
    work=24,
    pilot=4,
    cost_ratio={"lognormal": 20.0, "hierarchical": 20.0},
    options={"paper": {"widths": [20, 20]}, "structured": {"channels": 2, "means": 2}},
)
NAMES = ["1", "1-H"]


@pytest.fixture(scope="module", autouse=True)
def one_rank():
    """Data without mpirun, which takes longer to start than these data to make; tests of the demo have it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nnlod_fenics.workflows.reproduce.pipeline.available_cores", lambda: 1)
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> tuple[Path, dict]:
    """Experiments 1 and 1-H, and what they return."""
    folder = tmp_path_factory.mktemp("reproduce")
    return folder, reproduce(NAMES, TINY, folder)


def stages(folder: Path) -> dict[str, float]:
    """Times at which the stages in a cache were finished."""
    return {path.parent.name: path.stat().st_mtime_ns for path in (folder / "tiny" / "cache").glob("*/stage.json")}


# -- what is run -------------------------------------------------------------------------------------


def test_experiments_are_those_of_the_settings_files():
    assert [*EXPERIMENTS] == ["1", "2", "3", "1-H", "2-H", "3-H"]
    scale = SCALES["paper"]
    for experiment in EXPERIMENTS.values():
        if experiment.hierarchical:
            files = {f"hierarchical-{experiment.contrast}.toml": "large"}
        else:
            files = {f"lognormal-{experiment.contrast}-{size}.toml": size for size in SIZES}
        for name, size in files.items():
            config = load_config(CONFIG / name, ["network.name=paper"])
            assert config.make_grid() == scale.grid
            assert experiment.training_field.items() <= config.field.items()
            assert config.dataset.realizations == scale.count(experiment, size)
            ours = TrainingSettings.from_dict(training_settings(scale, experiment, "paper", size))
            theirs = config.training
            assert ours == (theirs.changed(drops=theirs.drops[:1]) if experiment.hierarchical else theirs)
    base = load_config(CONFIG / "base.toml")
    assert base.field == BASE.training_field and base.dataset.realizations == scale.count(BASE, "large")


def test_select():
    assert [e.name for e in select(["2-H", "1", "1"])] == ["1", "2-H"]
    assert [e.name for e in select(["all"])] == [*EXPERIMENTS]
    assert [EXPERIMENTS[name].parent for name in ("3", "3-H")] == ["base", "3"]
    with pytest.raises(InputError, match=r"experiment must be one of .*, got '4'"):
        select(["4"])
    with pytest.raises(InputError, match="scale must be one of"):
        reproduce(["1"], "huge")


@pytest.mark.parametrize("scale", SCALES.values(), ids=lambda scale: scale.name)
def test_representative_correlation_lengths_are_balanced(scale):
    """As many of each in training, validation and test set of both datasets."""
    for experiment in EXPERIMENTS.values():
        if experiment.hierarchical:
            law = parse_parameter("correlation_length", experiment.training_field["correlation_length"])
            for size in SIZES:
                n, rng = scale.count(experiment, size), np.random.default_rng(0)
                drawn = np.array([law.draw(rng, k) for k in range(n)])
                for part in (drawn[: 8 * n // 10], drawn[8 * n // 10 : 9 * n // 10], drawn[9 * n // 10 :]):
                    counts = np.unique(part, return_counts=True)[1]
                    assert len(counts) == 5 and len(set(counts)) == 1


@pytest.mark.parametrize("scale", SCALES.values(), ids=lambda scale: scale.name)
def test_what_is_chosen_is_listed_once(scale):
    for experiment in EXPERIMENTS.values():
        rows = {row["what"]: row for row in choices(scale, experiment)}
        assert len(rows) == len(choices(scale, experiment))
        assert {row["mark"] for row in rows.values()} <= {"chosen", "reconstructed", "scale"}
        assert ("scale" in {row["mark"] for row in rows.values()}) == (scale.name == "small")
        assert ("representative correlation lengths of the datasets" in rows) == experiment.hierarchical
        assert f"of this experiment {experiment.seed};" in rows["seeds"]["value"]
        assert {"right-hand side", "numbers in a dataset", "multifidelity means, not in the paper"} <= set(rows)
        assert f"{TrainingSettings().learning_rate}" in rows["training of the default network"]["value"]


# -- before anything is computed ---------------------------------------------------------------------


def refused(folder: Path, message: str, **options) -> None:
    with pytest.raises(InputError, match=message):
        reproduce(["1"], TINY, folder, **options)
    assert not list(folder.glob("**/data-*"))


def test_a_device_that_is_not_there(tmp_path):
    refused(tmp_path, "device must be 'cpu', or 'cuda' where PyTorch finds one, got 'cuda:99'", device="cuda:99")
    assert not list(tmp_path.iterdir())


def test_folders_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    refused(tmp_path / "file", "file/tiny/cache' cannot be written: Not a directory")
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "1").touch()
    refused(tmp_path, "tiny/1' cannot be written: File exists")


def test_one_of_several_ranks(tmp_path, monkeypatch):
    monkeypatch.setenv("OMPI_COMM_WORLD_RANK", "0")
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "2")
    refused(tmp_path, "reproduce must be run as a single process, got 2 ranks")


# -- results -----------------------------------------------------------------------------------------


def test_results(run):
    folder, results = run
    for name in NAMES:
        numbers = json.loads((folder / "tiny" / name / "result.json").read_text())
        assert numbers == json.loads(json.dumps(results[name]))
        pipeline = Pipeline(TINY, Cache(folder / "tiny" / "cache"))
        size_of_u = l2_norm(pipeline.reference_solutions(EXPERIMENTS[name])["lod"][0])
        for network in NETWORKS:
            for size in SIZES:
                for start in STARTS:
                    result = numbers["runs"][network][size][start]
                    assert len(result["history"]) == TINY.epochs[size]
                    losses = {key: loss for key, loss in result["losses"].items() if key != "epoch"}  # 0: the start
                    assert all(0 < loss < 10 for loss in losses.values()), (network, losses)
                    relative = result["fresh"]["relative L2 error, NN-LOD against PG-LOD"]
                    absolute = result["fresh"]["L2 error, NN-LOD against PG-LOD"]
                    assert relative > 0 and absolute == pytest.approx(relative * size_of_u, rel=1e-6)
        small, large = (numbers["runs"]["paper"][size]["transfer"]["losses"] for size in SIZES)
        assert large["test"] == pytest.approx(large["test, common set"], rel=1e-5)  # its own test set
        assert small["test"] != pytest.approx(small["test, common set"], rel=1e-5)
        assert numbers["monte carlo"]["PG-LOD"]["against FEM"]["distance of the means"]["mean"] < 0.3
        assert {path.name for path in (folder / "tiny" / name / "paraview").iterdir()} == {
            "coefficient.vtkhdf",
            "fine_solution.vtkhdf",
            "coarse_solution.vtkhdf",
        }
        for network in NETWORKS:
            means = numbers["multifidelity"][network]
            assert abs(means["difference to PG-LOD"]["mean"]) < 1 and means["gain"]["mean"] > 0
            assert means["samples"]["pilot"] == TINY.pilot and means["cost"]["measured ratio"] > 0
            run = numbers["runs"][network]["large"]["transfer"]
            for key, count in (("train", 2), ("validation", 2), ("test, common set", 2)):
                assert len(run["losses of fields"][key]) == count
            assert np.mean(run["losses of fields"]["test"]) == pytest.approx(run["losses"]["test"], rel=1e-5)
            assert np.mean(run["losses of fields"]["validation"]) == pytest.approx(
                run["losses"]["validation"], rel=1e-5
            )
    assert set(results["1"]["seconds"]["shared"]) < set(results["1-H"]["seconds"]["shared"])
    assert 0.05 <= results["1-H"]["fresh"]["parameters"]["correlation_length"] <= 0.25


def test_small_dataset_is_the_first_part_of_the_large_one(run):
    pipeline = Pipeline(TINY, Cache(run[0] / "tiny" / "cache"))
    dataset = pipeline.dataset(EXPERIMENTS["1"])
    assert pipeline.cache.executed == [] and len(dataset) == 20
    assert dataset.split(10) == (range(8), range(8, 9), range(9, 10))
    with pytest.raises(InputError, match="has 20 realizations, 21 are asked for"):
        dataset.split(21)
    description = pipeline.model(EXPERIMENTS["1"], "paper", "small").folder / "model" / "model.json"
    assert json.loads(description.read_text())["training_set"]["realizations"] == 8


def test_transfer_starts_from_the_right_network(run):
    pipeline = Pipeline(TINY, Cache(run[0] / "tiny" / "cache"))

    def source(name: str, start: str) -> str:
        folder = pipeline.model(EXPERIMENTS[name], "structured", "small", start).folder
        return json.loads((folder / "model" / "model.json").read_text())["training"]["init_from"]

    assert source("1", "scratch") == source("1-H", "scratch") == ""
    assert Path(source("1", "transfer")) == pipeline.model(BASE, "structured").folder / "model"
    assert Path(source("1-H", "transfer")) == pipeline.model(EXPERIMENTS["1"], "structured", "large").folder / "model"
    assert pipeline.cache.executed == []


def test_fresh_realizations_are_in_no_dataset(run):
    pipeline = Pipeline(TINY, Cache(run[0] / "tiny" / "cache"))
    fields = pipeline.dataset(EXPERIMENTS["1"]).fields(range(20))
    fresh = np.stack([pipeline.fresh(EXPERIMENTS["1"], k).Z for k in range(TINY.fields)])
    difference = np.abs(fields[:, None] - fresh[None]).max(axis=(2, 3))
    assert difference.min() > 0.1 and len(np.unique(fresh[:, 0, 0])) == TINY.fields


# -- cache -------------------------------------------------------------------------------------------


def test_finished_stages_are_not_repeated_and_missing_ones_are(run, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(run[0], folder)
    before = stages(folder)
    assert {key.split("-")[0] for key in before} == {
        "data", "model", "losses", "references", "evaluation", "multifidelity"
    }  # fmt: skip
    assert len(before) == 3 + 4 + 2 * (1 + 8 + 8 + 2)  # base and two datasets, base networks, two experiments
    again = reproduce(["1"], TINY, folder)
    assert stages(folder) == before and again["1"] == run[1]["1"]
    lost = next(key for key in before if key.startswith("evaluation"))
    shutil.rmtree(folder / "tiny" / "cache" / lost)
    for name in NAMES:
        collect(Pipeline(TINY, Cache(folder / "tiny" / "cache")), EXPERIMENTS[name])
    after = stages(folder)
    assert {key for key in before if after[key] != before[key]} == {lost}


def test_a_change_of_settings_is_another_stage(tmp_path):
    cache, calls = Cache(tmp_path), []
    for value in (1, 2, 1):
        cache.stage("kind", "title", {"a": value}, lambda folder, value=value: calls.append(value))
    assert calls == [1, 2] and len(cache.executed) == len(set(cache.executed)) == 2


def test_every_default_is_part_of_the_key(run):
    """Or a new default of the package would find the networks of the old one."""
    pipeline = Pipeline(TINY, Cache(run[0] / "tiny" / "cache"))
    stage = pipeline.model(BASE, "structured")
    settings = json.loads((stage.folder / "stage.json").read_text())["settings"]
    assert {"learning_rate", "batch_size", "beta2", "clip", "warmup", "seed"} <= set(settings["training"])
    assert {"channels", "means", "head_depth"} <= set(settings["options"])


def test_time_of_interrupted_runs_is_added_up(tmp_path, monkeypatch):
    cache = Cache(tmp_path)

    def interrupted(folder):
        time.sleep(0.3)
        raise KeyboardInterrupt

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            cache.stage("kind", "title", {}, interrupted)
    stage = cache.stage("kind", "title", {}, lambda folder: time.sleep(0.2))
    assert stage.seconds >= 0.8 and stage.runs == 3
    again = Cache(tmp_path).stage("kind", "title", {}, interrupted)  # finished: not run, not counted again
    assert again == stage and not (stage.folder / "clock.json").exists()
    (tmp_path / cache.executed[0] / "stage.json").unlink()
    (tmp_path / cache.executed[0] / "clock.json").write_text('{"seconds": 100, "runs": 4}')  # of a killed run
    assert cache.stage("kind", "title", {}, lambda folder: None).seconds >= 100


def test_a_killed_run_has_written_its_time(tmp_path, monkeypatch):
    from nnlod_fenics.workflows.reproduce import cache as module

    monkeypatch.setattr(module, "_TICK", 0.01)
    seen = []

    def work(folder):
        for _ in range(500):
            time.sleep(0.02)
            seen.append(json.loads((folder / "clock.json").read_text())["seconds"])
            if len(set(seen)) > 2:
                return

    Cache(tmp_path).stage("kind", "title", {}, work)
    assert len(set(seen)) > 2 and seen == sorted(seen)


def test_an_interrupted_multifidelity_run_goes_on(run, tmp_path, monkeypatch):
    from nnlod_fenics.workflows.reproduce import pipeline as module

    shutil.copytree(run[0] / "tiny" / "cache", tmp_path / "cache")
    before = Pipeline(TINY, Cache(tmp_path / "cache")).multifidelity(EXPERIMENTS["1"], "paper").folder
    (before / "stage.json").unlink()
    kept = sorted((before / "run" / "blocks").iterdir())
    kept.pop().unlink()
    times = [path.stat().st_mtime_ns for path in kept]
    make_estimate = module.make_estimate

    def interrupted(*given):
        raise Interrupted

    monkeypatch.setattr(module, "make_estimate", interrupted)
    pipeline = Pipeline(TINY, Cache(tmp_path / "cache"))
    with pytest.raises(KeyboardInterrupt):
        pipeline.multifidelity(EXPERIMENTS["1"], "paper")
    monkeypatch.setattr(module, "make_estimate", make_estimate)
    pipeline.multifidelity(EXPERIMENTS["1"], "paper")
    assert [path.stat().st_mtime_ns for path in kept] == times
    again = json.loads((before / "multifidelity.json").read_text())
    for key in ("integral", "samples", "relative standard error"):
        assert again[key] == run[1]["1"]["multifidelity"]["paper"][key]


def test_an_interrupted_stage_goes_on(run, tmp_path, monkeypatch):
    pipeline, solved = Pipeline(TINY, Cache(tmp_path)), []

    def interrupted(grid, Z, method):
        if len(solved) == 5:
            raise KeyboardInterrupt
        solved.append(method)
        return solve(grid, Z, method)

    from nnlod_fenics.workflows.reproduce import pipeline as module

    solve = module.solve
    monkeypatch.setattr(module, "solve", interrupted)
    with pytest.raises(KeyboardInterrupt):
        pipeline.references(EXPERIMENTS["1"])
    assert solved == ["fem", "lod"] * 2 + ["fem"] and not list(tmp_path.glob("*/stage.json"))
    monkeypatch.setattr(module, "solve", lambda *given: solved.append(given[2]) or solve(*given))
    u = pipeline.reference_solutions(EXPERIMENTS["1"])
    assert solved[5:] == ["fem", "lod"] * 2  # two of four fields were there
    expected = Pipeline(TINY, Cache(run[0] / "tiny" / "cache")).reference_solutions(EXPERIMENTS["1"])
    np.testing.assert_array_equal(u["fem"], expected["fem"])


def test_interrupted_data_go_on(run, tmp_path):
    source, folder = Pipeline(TINY, Cache(run[0] / "tiny" / "cache")), tmp_path
    stage = source.data(EXPERIMENTS["1"])
    shutil.copytree(stage.folder, folder / stage.key)
    (folder / stage.key / "stage.json").unlink()
    blocks = sorted((folder / stage.key / "data" / "blocks").iterdir())
    blocks[-1].unlink()
    kept = {path: path.stat().st_mtime_ns for path in blocks[:-1]}
    whole = Pipeline(TINY, Cache(folder)).dataset(EXPERIMENTS["1"])
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    np.testing.assert_array_equal(whole.S(19), Dataset(stage.folder / "data").S(19))


def test_an_interrupted_training_goes_on(run, tmp_path, monkeypatch):
    from nnlod_fenics.workflows.reproduce import pipeline as module

    train = module.train

    def stop(epoch, *losses):
        if epoch == 3:
            raise KeyboardInterrupt

    def interrupted(data, folder, network, options, settings, **how):
        return train(data, folder, network, options, settings.changed(checkpoint_minutes=0.0), on_epoch=stop, **how)

    source = Pipeline(TINY, Cache(run[0] / "tiny" / "cache"))
    shutil.copytree(source.data(EXPERIMENTS["1"]).folder, tmp_path / source.data(EXPERIMENTS["1"]).key)
    pipeline, arguments = Pipeline(TINY, Cache(tmp_path)), (EXPERIMENTS["1"], "paper", "small", "scratch")
    monkeypatch.setattr(module, "train", interrupted)
    with pytest.raises(KeyboardInterrupt):
        pipeline.model(*arguments)
    (history,) = tmp_path.glob("model-*/model/loss.json")
    before = json.loads(history.read_text())
    assert len(before) == 3 and not list(tmp_path.glob("model-*/stage.json"))
    monkeypatch.setattr(module, "train", train)
    pipeline.model(*arguments)
    after, whole = json.loads(history.read_text()), source.model(*arguments).folder / "model" / "loss.json"
    assert after[:3] == before  # the seconds too: these epochs were not repeated
    expected = [entry["train"] for entry in json.loads(whole.read_text())]
    assert [entry["train"] for entry in after] == pytest.approx(expected, rel=1e-4)


def test_a_training_whose_checkpoint_does_not_fit_starts_anew(run, tmp_path, capsys):
    """The folder was moved: the path of the model that transfer starts from is another one."""
    shutil.copytree(run[0] / "tiny" / "cache", tmp_path / "cache")
    pipeline, arguments = Pipeline(TINY, Cache(tmp_path / "cache")), (EXPERIMENTS["1"], "structured", "small")
    stage = pipeline.model(*arguments)
    (stage.folder / "stage.json").unlink()
    pipeline.model(*arguments)
    assert pipeline.cache.executed == [stage.key] and "It starts anew." in capsys.readouterr().err
    source = Pipeline(TINY, Cache(run[0] / "tiny" / "cache")).model(*arguments).folder
    losses = [json.loads((f / "model" / "loss.json").read_text())[-1]["train"] for f in (stage.folder, source)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_one_job_at_a_time(run):
    with locked(run[0] / "tiny" / "cache"), pytest.raises(InputError, match="in use by another job"):
        reproduce(["1"], TINY, run[0])


# -- several experiments -----------------------------------------------------------------------------


def without_pictures(monkeypatch) -> None:
    from nnlod_fenics.workflows.reproduce import run as module

    monkeypatch.setattr(module, "draw", lambda *_: dict.fromkeys(("losses", "fresh", "mean", "multifidelity"), ()))


def test_one_failure_leaves_the_others(run, tmp_path, monkeypatch, capsys):
    from nnlod_fenics.workflows.reproduce import run as module

    folder, collect_all = tmp_path / "copy", module.collect
    shutil.copytree(run[0], folder)
    (folder / "tiny" / "1-H" / "report.html").unlink()

    def failing(pipeline, experiment):
        if experiment.name == "1":
            raise NumericalError("the loss is nan.")
        return collect_all(pipeline, experiment)

    monkeypatch.setattr(module, "collect", failing)
    without_pictures(monkeypatch)
    with pytest.raises(NumericalError, match=r"^experiment 1 failed: the loss is nan\. What is finished is kept in"):
        reproduce(NAMES, TINY, folder)
    assert (folder / "tiny" / "1-H" / "report.html").exists()
    page = " ".join(Page((folder / "tiny" / "index.html").read_text(encoding="utf-8")).texts)
    assert "Experiment 1 failed: the loss is nan." in page and "Experiment 1-H: low contrast" in page
    monkeypatch.setattr(module, "collect", lambda *given: 1 / 0)
    with pytest.raises(NumericalError, match="experiment 1 failed: division by zero"):
        reproduce(["1"], TINY, folder)
    assert "ZeroDivisionError" in capsys.readouterr().err  # an error of ours comes with its traceback
    monkeypatch.setattr(
        "sys.argv", ["nnlod", "reproduce", "1", "--scale", "small", "-o", str(tmp_path), "--device", "x"]
    )
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 2 and "device must be" in capsys.readouterr().err


def test_results_of_other_settings_are_not_used(run, tmp_path, monkeypatch):
    without_pictures(monkeypatch)
    folder = tmp_path / "copy"
    shutil.copytree(run[0], folder)
    path = folder / "tiny" / "1" / "result.json"
    numbers = json.loads(path.read_text())
    numbers["identity"]["training"]["structured"]["small"]["learning_rate"] = 1.0
    path.write_text(json.dumps(numbers))
    reproduce(["1-H"], TINY, folder)
    page = (folder / "tiny" / "index.html").read_text(encoding="utf-8")
    assert "1-H/report.html" in page and "'1/report.html" not in page


def test_index_leads_to_all_reports(run):
    text = (run[0] / "tiny" / "index.html").read_text(encoding="utf-8")
    page = Page(text)
    links = [reference for reference in page.references if not reference.startswith("data:")]
    assert links == [f"{name}/report.html" for name in NAMES]
    assert all((run[0] / "tiny" / link).exists() for link in links)
    words = " ".join(page.texts)
    for name in NAMES:
        assert f"{run[1][name]['runs']['paper']['large']['transfer']['losses']['test']:.2e}" in words
        assert all(finding["claim"] in words for finding in run[1][name]["findings"])
    for item in CLAIMS:
        assert item.claim in words and item.criterion in words
    for item in NOT_EXAMINED_HERE:
        assert item.claim in words and item.reason in words
    assert "not run: 2, 3, 2\N{NON-BREAKING HYPHEN}H, 3\N{NON-BREAKING HYPHEN}H" in words
    found = [finding for name in NAMES for finding in run[1][name]["findings"]]
    open_ = {f["claim"] for f in found for v in f["verdicts"] if v["answer"] == NOT_EXAMINED}
    assert page.texts.count(NOT_EXAMINED) == len(open_) > 0


# -- small datasets only -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small_run(tmp_path_factory) -> tuple[Path, dict]:
    """Experiment 1 with its small dataset only, and what that returns."""
    folder = tmp_path_factory.mktemp("small-only")
    return folder, reproduce(["1"], TINY, folder, small_only=True)


def test_small_only_has_no_large_dataset_and_says_so(small_run):
    folder, results = small_run
    numbers = results["1"]
    assert numbers["realizations"] == {"small": 10}
    assert {network: [*runs["small"]] for network, runs in numbers["runs"].items()} == {
        network: ["transfer"] for network in NETWORKS
    }
    kinds = [key.split("-")[0] for key in stages(folder)]
    assert {kind: kinds.count(kind) for kind in kinds} == {
        "data": 2, "model": 4, "losses": 2, "references": 1, "evaluation": 2, "multifidelity": 2
    }  # fmt: skip
    text = (folder / "tiny" / "1" / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    words = " ".join(page.texts)
    assert len(page.pictures) == 9 and "Not run: the large dataset and networks trained from scratch." in words
    left_out = {f["claim"] for f in numbers["findings"] for v in f["verdicts"] if v["answer"] == NOT_EXAMINED}
    alone = {f["claim"] for f in numbers["findings"] if "at each step of the contrast" in f["criterion"]}
    large = {f["claim"] for f in numbers["findings"] if "smaller with the large dataset" in f["criterion"]}
    assert (len(alone), len(large)) == (5, 4) and left_out == alone | large | {"Transfer learning helps."}
    assert "Not run: the large dataset" in (folder / "tiny" / "index.html").read_text(encoding="utf-8")


def test_the_large_dataset_goes_on_with_the_small_one(run, small_run, tmp_path, monkeypatch):
    """Its first realizations are not computed again, and it has the bits of one that was made at once."""
    from nnlod_fenics.workflows.reproduce import pipeline as module

    shutil.copytree(small_run[0] / "tiny" / "cache", tmp_path / "cache")
    whole = Pipeline(TINY, Cache(run[0] / "tiny" / "cache")).dataset(EXPERIMENTS["1"])
    launch, there = module.launch_generation, []

    def interrupted(settings, folder, ranks):
        there.extend(sorted((path, path.stat().st_mtime_ns) for path in (folder / "blocks").iterdir()))
        there[-1][0].unlink()  # as if it had been killed while it copied
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "launch_generation", interrupted)
    with pytest.raises(KeyboardInterrupt):
        Pipeline(TINY, Cache(tmp_path / "cache")).data(EXPERIMENTS["1"])
    assert len(there) * whole.header.block == 10
    computed = []

    def recorded(settings, folder, ranks):
        before = {path.name for path in folder.glob("blocks/*")}
        launch(settings, folder, ranks)
        computed.extend(path.name for path in folder.glob("blocks/*") if path.name not in before)

    monkeypatch.setattr(module, "launch_generation", recorded)
    longer = Pipeline(TINY, Cache(tmp_path / "cache")).dataset(EXPERIMENTS["1"])
    assert len(longer) == 20 and len(computed) * longer.header.block == 10
    assert all(path.stat().st_mtime_ns == time for path, time in there[:-1])
    for name in ("Z", "S", "parameters", "origin", "checksum"):
        np.testing.assert_array_equal(longer.column(name, range(20)), whole.column(name, range(20)))
    other = EXPERIMENTS["2"]  # of another law: nothing is taken over
    computed.clear()
    assert len(Pipeline(TINY, Cache(tmp_path / "cache")).dataset(other)) == 20
    assert len(computed) * longer.header.block == 20


def test_epochs_of_small_only():
    scale = SCALES["paper"].small_only()
    assert scale.base == 300 and {scale.count(e, "small") for e in EXPERIMENTS.values()} == {300}
    assert scale.grid == SCALES["paper"].grid and scale.largest == "small"
    table = training_settings(scale, EXPERIMENTS["3"], "paper", "small")
    assert table["epochs"] == scale.epochs["small"] and [drop[1] for drop in table["drops"]] == [1e-4, 1e-5]
    assert "large" not in json.dumps(choices(scale, EXPERIMENTS["3"]), ensure_ascii=False)


# -- report ------------------------------------------------------------------------------------------


class Page(HTMLParser):
    """Pictures, references and text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.pictures, self.references, self.tags, self.texts = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        table = dict(attributes)
        if tag == "img":
            self.pictures.append(table["src"])
            assert table["alt"]
        self.references += [value for key, value in table.items() if key in ("href", "src", "srcset", "action")]

    def handle_data(self, data):
        self.texts.append(data)


@pytest.mark.parametrize("name", NAMES)
def test_report_holds_everything(run, name):
    text = (run[0] / "tiny" / name / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    assert len(page.pictures) == 11 and "script" not in page.tags and "@import" not in text and "url(" not in text
    assert all(reference.startswith(("data:", "#")) for reference in page.references)
    for picture in page.pictures:
        kind, _, content = picture.partition(",")
        assert kind == "data:image/png;base64"
        pixels = matplotlib.image.imread(io.BytesIO(base64.b64decode(content, validate=True)), format="png")
        assert min(pixels.shape[:2]) > 200 and np.ptp(pixels[..., :3]) > 0.5
    words = " ".join(page.texts)
    for finding in run[1][name]["findings"]:
        assert finding["claim"] in words and finding["criterion"] in words
        assert all(verdict["evidence"] in words for verdict in finding["verdicts"])
    for row in run[1][name]["chosen"]:
        assert row["what"] in words and row["mark"] in ("chosen", "reconstructed", "scale")
    losses = run[1][name]["runs"]["paper"]["small"]["transfer"]["losses"]
    assert f"{losses['test']:.2e}" in words


BROWSER = next(filter(None, map(shutil.which, ("chromium-headless-shell", "chromium", "google-chrome"))), None)
COUNT = """<script>addEventListener("load", () => { const all = [...document.images];
const loaded = all.filter(i => i.complete && i.naturalWidth > 0).length;
document.title = `loaded ${loaded} of ${all.length}, width ${document.documentElement.scrollWidth}`; });</script>"""


def browse(path: Path, profile: Path) -> tuple[str, list[str]]:
    """Open a page on a phone's width; its title and the lines on the console."""
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    command += [f"--user-data-dir={profile}", "--window-size=390,844", "--hide-scrollbars", "--enable-logging=stderr"]
    command += ["--virtual-time-budget=10000", "--dump-dom", path.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    title = re.search(r"<title>(.*?)</title>", done.stdout, re.DOTALL)
    assert title is not None, done.stdout[:1000]
    return title[1], [line for line in done.stderr.splitlines() if "CONSOLE" in line]


@pytest.mark.skipif(BROWSER is None, reason="no Chromium: chromium-headless-shell, chromium or google-chrome")
def test_report_in_a_browser(run, tmp_path):
    for name in NAMES:
        report = run[0] / "tiny" / name / "report.html"
        title, console = browse(report, tmp_path / "profile")
        assert title.startswith(f"Experiment {name}:") and console == []
        counting = tmp_path / "report.html"
        counting.write_text(report.read_text(encoding="utf-8").replace("</body>", COUNT + "</body>"), encoding="utf-8")
        assert browse(counting, tmp_path / "profile") == ("loaded 11 of 11, width 390", [])
    counting.write_text(
        (run[0] / "tiny" / "index.html").read_text(encoding="utf-8").replace("</body>", COUNT + "</body>"),
        encoding="utf-8",
    )
    assert browse(counting, tmp_path / "profile") == ("loaded 0 of 0, width 390", [])
    broken = tmp_path / "broken.html"  # what the test would say of a broken page
    broken.write_text(f"<title></title><img src='data:image/png;base64,AAAA'><script>nothing()</script>{COUNT}")
    title, console = browse(broken, tmp_path / "profile")
    assert title.startswith("loaded 0 of 1") and "nothing is not defined" in console[0]
