"""The package as pip installs it, in a virtual environment of its own."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import nnlod_fenics

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
NOT_FOR_PIP = {"fenics-dolfinx", "petsc4py", "mpi4py"}


def run(*command: str | Path, **environment: str) -> subprocess.CompletedProcess:
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        [*map(str, command)], capture_output=True, text=True, stdin=subprocess.DEVNULL, env=kept | environment, cwd="/"
    )


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """A copy, since building leaves files beside the source."""
    path = tmp_path_factory.mktemp("source")
    shutil.copytree(ROOT / "nnlod_fenics", path / "nnlod_fenics", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, path)
    return path


@pytest.fixture(scope="module")
def python(tmp_path_factory) -> Path:
    """The Python of a clean virtual environment with pip."""
    folder = tmp_path_factory.mktemp("clean")
    if run(sys.executable, "-m", "venv", folder).returncode:
        pytest.skip("this Python makes no virtual environments with pip")
    return folder / "bin" / "python"


@pytest.fixture(scope="module")
def installed(source, python, tmp_path_factory) -> Path:
    """The Python of an environment with the package and nothing else; built by the setuptools at hand, if any."""
    wheels = tmp_path_factory.mktemp("wheels")
    build = [python, "-m", "pip", "wheel", "--no-deps", "--retries", "0", "--timeout", "20", "-w", wheels, source]
    try:
        at_hand = tuple(map(int, importlib.metadata.version("setuptools").split(".")[:2])) >= (70, 1)
    except importlib.metadata.PackageNotFoundError:
        at_hand = False
    if at_hand:
        done = run(*build, "--no-build-isolation", PYTHONPATH=packages())
    else:
        done = run(*build)
        if done.returncode and re.search("No matching distribution found for setuptools|onnection", done.stderr):
            pytest.skip("no setuptools of 70.1 or newer here, and no package registry answers")
    assert done.returncode == 0, done.stderr
    (wheel,) = wheels.iterdir()
    done = run(python, "-m", "pip", "install", "--no-index", "--no-deps", wheel)
    assert done.returncode == 0, done.stderr
    return python


def packages() -> str:
    """Where this Python has its packages."""
    return os.pathsep.join(path for path in sys.path if path.endswith("-packages"))


def test_conda_has_the_same_dependencies():
    listed = re.findall(r"^  - ([\w-]+)", (ROOT / "docker" / "environment.yml").read_text(), re.M)
    names = {"torch": "pytorch", "matplotlib": "matplotlib-base"}
    for text in PROJECT["dependencies"] + PROJECT["optional-dependencies"]["fenics"]:
        name = re.match(r"[\w-]+", text)[0]
        assert names.get(name, name) in listed


METADATA = """
import importlib.metadata, json
found = importlib.metadata.distribution("nnlod-fenics")
print(json.dumps([found.version, found.requires, sorted(map(str, found.files)), found.metadata.get_all("Project-URL")]))
"""


@pytest.fixture(scope="module")
def metadata(installed) -> tuple[str, list[str], list[str], list[str]]:
    return json.loads(run(installed, "-c", METADATA).stdout)


def test_version_stands_in_one_place(metadata):
    assert metadata[0] == nnlod_fenics.__version__ and "version" not in PROJECT
    assert len(metadata[3]) == len(PROJECT["urls"])


def test_core_is_what_pip_can_install(metadata):
    core = {re.match(r"[\w-]+", text)[0] for text in metadata[1] if "extra ==" not in text}
    assert core and not core & NOT_FOR_PIP and "dolfinx-solver-real" not in core
    assert {"fenics", "wheels", "plot", "geo", "test", "docs", "tensorboard"} <= {*PROJECT["optional-dependencies"]}


def test_models_and_types_are_installed(metadata):
    kept = {f"nnlod_fenics/models/{path.parent.name}/{path.name}" for path in ROOT.glob("nnlod_fenics/models/*/*")}
    assert kept and kept | {"nnlod_fenics/py.typed"} <= {*metadata[2]}
    assert not [name for name in metadata[2] if name.startswith(("tests", "demos", "docker"))]


def test_command_and_shipped_model_run(installed):
    """With the dependencies of this Python."""
    done = run(installed.parent / "nnlod", "--help", PYTHONPATH=packages())
    assert done.returncode == 0 and "generate" in done.stdout, done.stderr
    infer = (
        "import nnlod_fenics as n; model = n.NNLOD.load('lognormal-0.5');"
        "A = __import__('numpy').ones((64, 64)); S = model.local_matrices(model.grid, A);"
        "print(n.__file__, S.shape, model.solve(model.grid, A).shape)"
    )
    done = run(installed, "-c", infer, PYTHONPATH=packages())
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(installed.parents[1])) and "(256, 36, 4) (17, 17)" in done.stdout


@pytest.mark.slow
@pytest.mark.skipif("NNLOD_TEST_INSTALL" not in os.environ, reason="downloads gigabytes; NNLOD_TEST_INSTALL=1 runs it")
def test_pip_install_with_all_dependencies(source, tmp_path):
    run(sys.executable, "-m", "venv", tmp_path)
    done = run(tmp_path / "bin" / "pip", "install", source)
    assert done.returncode == 0, done.stderr
    done = run(tmp_path / "bin" / "nnlod", "sample", "--count", "1", "-o", tmp_path / "fields")
    assert done.returncode == 0, done.stderr
