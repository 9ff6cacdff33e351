"""The command line, end to end on a small grid: every subcommand, every file kind, mistakes in one sentence."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from waiting import PATIENCE, wait_for

from nnlod_fenics import NNLOD, __version__
from nnlod_fenics.norms import relative_l2

GRID = ["-s", "grid.coarse=4", "-s", "grid.fine=16", "-s", "grid.coefficient=8", "-s", "grid.ell=1"]
NETWORK = ["-s", "network.options={channels=4, means=4}"]
QUICK = [*GRID, *NETWORK, "-s", "dataset.realizations=10", "-s", "training.epochs=2"]
COMMANDS = [
    "demo",
    "sample",
    "generate",
    "train",
    "evaluate",
    "solve",
    "info",
    "montecarlo",
    "reproduce",
    "export",
    "settings",
]


def nnlod(*arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "nnlod_fenics", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=os.environ, timeout=PATIENCE)


def fails(done: subprocess.CompletedProcess, message: str) -> None:
    assert done.returncode == 2, done
    assert message in done.stderr and "Traceback" not in done.stderr
    assert done.stderr.strip().count("\n") == 0, done.stderr


@pytest.fixture(scope="module")
def work(tmp_path_factory) -> Path:
    """A folder with a dataset and a model, made by the commands themselves."""
    folder = tmp_path_factory.mktemp("work")
    for step in (["generate", "-o", "data", *QUICK], ["train", "data", "-o", "model", *QUICK]):
        done = nnlod(*step, cwd=folder)
        assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example(command):
    done = nnlod(command, "--help")
    assert "\\" not in done.stdout
    assert done.returncode == 0 and f"nnlod {command}" in done.stdout and "Example:" in done.stdout


def test_demo_at_its_smallest_size(tmp_path):
    done = nnlod("demo", "-o", "a folder/demo", *QUICK, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "a folder" / "demo"
    result = json.loads((folder / "evaluation.json").read_text())
    assert 0 < result["errors"]["relative L2 error, PG-LOD against FEM"] < 0.5
    report = (folder / "report.md").read_text()
    for name in (
        "coefficient.png",
        "solutions.png",
        "differences.png",
        "cross_sections.png",
        "loss.png",
        "local_matrix.png",
    ):
        assert (folder / name).stat().st_size > 1000 and f"({name})" in report
    assert {p.name for p in (folder / "paraview").iterdir()} == {
        "coefficient.vtkhdf",
        "fine_solution.vtkhdf",
        "coarse_solution.vtkhdf",
    }
    fails(nnlod("demo", "-o", folder, *QUICK), "already holds a demo")
    assert nnlod("demo", "-o", folder, "--overwrite", *QUICK).returncode == 0


def test_evaluate_and_info(work, tmp_path):
    done = nnlod("evaluate", work / "model", "--data", work / "data", "-o", tmp_path / "e")
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "e" / "evaluation.json").read_text())
    assert result["test loss"] == pytest.approx(NNLOD.load(work / "model").test_loss, rel=1e-5)
    fails(nnlod("evaluate", work / "model", "-o", tmp_path / "e"), "already holds an evaluation")
    for name, key in (("data", "realizations"), ("model", "losses")):
        assert key in json.loads(nnlod("info", work / name).stdout)
    fails(nnlod("info", tmp_path / "nothing"), "is neither a dataset, a model nor a settings file")


def test_training_on_fresh_realizations(work, tmp_path):
    done = nnlod("train", work / "data", "-o", tmp_path / "m", "--online", "2", *QUICK)
    assert done.returncode == 0, done.stderr
    model = json.loads((tmp_path / "m" / "model.json").read_text())
    assert model["training_set"]["realizations_per_epoch"] == 2


def test_dataset_operations(work, tmp_path):
    for command in ("info", "verify", "merge", "split"):
        done = nnlod("dataset", command, "--help")
        assert done.returncode == 0 and f"Example: nnlod dataset {command}" in done.stdout
    assert "10 of 10 finished" in nnlod("dataset", "info", work / "data").stdout
    assert nnlod("dataset", "verify", work / "data", "--sample", "2").returncode == 0
    assert nnlod("dataset", "split", work / "data", "-o", tmp_path / "parts").returncode == 0
    done = nnlod("dataset", "merge", tmp_path / "parts" / "train", tmp_path / "parts" / "test", "-o", tmp_path / "m")
    assert done.returncode == 0
    assert "9 of 9 finished" in nnlod("dataset", "info", tmp_path / "m").stdout
    with h5py.File(tmp_path / "m" / "blocks" / "000001.h5", "r+") as file:
        file["S"][0, 0, 0, 0] += 1
    done = nnlod("dataset", "verify", tmp_path / "m", "--sample", "0")
    assert done.returncode == 1 and done.stderr.startswith("nnlod: realization 2 has another checksum")
    fails(
        nnlod("dataset", "merge", tmp_path / "m", tmp_path / "m", "-o", tmp_path / "n"), "must not share realizations"
    )


def test_ctrl_c_leaves_no_traceback(work, tmp_path):
    command = [sys.executable, "-m", "nnlod_fenics", "train", work / "data", "-o", tmp_path / "m", *QUICK]
    job = subprocess.Popen(
        [*map(str, command), "-s", "training.epochs=1000000"],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # a job in the background of a script ignores Ctrl-C, and its children with it
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    wait_for((tmp_path / "m" / "loss.json").exists, job)
    job.send_signal(signal.SIGINT)
    _, message = job.communicate(timeout=PATIENCE)
    assert job.returncode == 130 and "Traceback" not in message


def test_version():
    done = nnlod("--version")
    assert (done.returncode, done.stdout) == (0, f"nnlod-fenics {__version__}\n")


def test_settings(tmp_path):
    done = nnlod("settings")
    assert done.returncode == 0, done.stderr
    assert "[montecarlo]\n" in done.stdout
    assert "coarse = 16: 1/H, coarse elements per axis; a list, x first, where they differ (integer" in done.stdout
    done = nnlod("settings", "--toml")
    (tmp_path / "run.toml").write_text(done.stdout, encoding="utf-8")
    assert json.loads(nnlod("info", tmp_path / "run.toml").stdout)["training"]["epochs"] == 30


def test_help_imports_nothing_heavy():
    heavy = "import sys, nnlod_fenics.cli; assert not {'torch', 'h5py', 'gstools', 'dolfinx'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", heavy], check=False).returncode == 0


def test_sample(tmp_path):
    done = nnlod("sample", "--count", "2", "-o", "f", *GRID, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert np.load(tmp_path / "f" / "A1.npy").shape == (8, 8)


def test_solve_by_all_methods_and_sources_of_the_coefficient(work, tmp_path):
    A = np.exp(np.random.default_rng(0).standard_normal((8, 8)))
    np.save(tmp_path / "A.npy", A)
    with h5py.File(tmp_path / "A.h5", "w") as file:
        file["group/A"] = A
        file["B"] = A
        file["C"] = A
    runs = {
        "fem": ["--method", "fem", "--coefficient", "A.npy", *GRID],
        "lod": ["--method", "lod", "--coefficient", "A.h5", "--dataset", "group/A", *GRID],
        "nn": ["--method", "nn", "--coefficient", "A.npy", "--model", work / "model"],
        "seed": ["--method", "lod", "--seed", "3", "--source", "2", *GRID],
    }
    for name, arguments in runs.items():
        done = nnlod("solve", "-o", name, *arguments, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    fem, lod = np.load(tmp_path / "fem" / "u_fem.npy"), np.load(tmp_path / "lod" / "u_lod.npy")
    assert fem.shape == (17, 17) and lod.shape == (5, 5)
    assert relative_l2(fem[::4, ::4], lod) < 0.2
    assert np.load(tmp_path / "nn" / "u_nn.npy").shape == (5, 5)
    fails(nnlod("solve", "--coefficient", "A.h5", *GRID, cwd=tmp_path), "dataset must be one of")
    fails(nnlod("solve", "--coefficient", "A.npy", "--seed", "1", *GRID, cwd=tmp_path), "exclude each other")
    # a default that is stated is a statement
    nn = ["solve", "--method", "nn", "--coefficient", "A.npy", "--model", work / "model"]
    fails(nnlod(*nn, "-s", "grid.coarse=2", cwd=tmp_path), "grid for this model must be of the window")
    fails(nnlod(*nn, "-s", "grid.fine=128", cwd=tmp_path), "grid for this model must be of the window")
    assert nnlod(*nn, "-s", "grid.coarse=4", "-o", "nn-4", cwd=tmp_path).returncode == 0
    fails(nnlod("solve", "--coefficient", "none.npy", cwd=tmp_path), "does not exist")
    fails(nnlod("solve", "--method", "nn", *GRID, cwd=tmp_path), "comes with the package")
    fails(nnlod("solve", "--method", "magic", *GRID, cwd=tmp_path), "method must be one of")
    np.save(tmp_path / "bad.npy", -A)
    fails(nnlod("solve", "--coefficient", "bad.npy", *GRID, cwd=tmp_path), "A must be positive")
    (tmp_path / "text.npy").write_text("no array")
    fails(nnlod("solve", "--coefficient", "text.npy", *GRID, cwd=tmp_path), "no array of numbers")
    assert not list(tmp_path.glob("solution*"))


def test_mistakes(work, tmp_path):
    fails(nnlod("generate", "-o", tmp_path / "d", "-s", "grid.coarse=5"), "coarse must divide")
    fails(nnlod("generate", "-o", tmp_path / "d", "-s", "grid.corse=5"), "grid.corse is no setting")
    fails(nnlod("generate", "-o", work / "data", *QUICK), "already holds a dataset")
    fails(nnlod("train", work / "data", "-o", work / "model", *QUICK), "already holds a training")
    fails(nnlod("train", tmp_path / "none", "-o", tmp_path / "m"), "does not exist")
    fails(nnlod("evaluate", tmp_path / "none"), "does not exist")
    fails(nnlod("reproduce", "4", "-o", tmp_path / "r"), "experiment must be one of")
    fails(nnlod("reproduce", "1", "--scale", "huge", "-o", tmp_path / "r"), "scale must be one of")
    assert not list(tmp_path.iterdir())
