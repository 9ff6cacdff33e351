"""The launcher, from inside an environment that has everything: what is native stays native."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

DOCKER = Path(__file__).parents[1] / "docker"


def run(*arguments: str, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [str(DOCKER / "run"), *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=os.environ | environment,
        stdin=subprocess.DEVNULL,
        timeout=300,
    )


def test_scripts_parse():
    subprocess.run(["bash", "-n", str(DOCKER / "run")], check=True)
    subprocess.run(["sh", "-n", str(DOCKER / "install")], check=True)


def test_help_and_mistakes():
    assert "Usage: docker/run" in run("--help").stdout
    assert run().returncode == 2
    for arguments, message in (
        (["--base", "etch", "shell"], "--base must be trixie or sid, got etch"),
        (["--mode", "magic", "shell"], "--mode must be native, docker or chroot, got magic"),
        (["--frobnicate", "shell"], "unknown option --frobnicate"),
    ):
        done = run(*arguments)
        assert done.returncode == 1 and message in done.stderr


@pytest.fixture
def folder(tmp_path) -> Path:
    path = tmp_path / "a folder with spaces"
    path.mkdir()
    return path


def test_native_from_any_folder_with_arguments_as_given(folder):
    script = "import os, sys; print(os.getcwd()); print(sys.argv[1:]); open('made here', 'w')"
    arguments = ["two words", "$HOME", "it's", '"quoted"', ""]
    done = run("--mode", "native", "python3", "-c", script, *arguments, cwd=folder)
    assert done.returncode == 0, done.stderr
    where, given = done.stdout.splitlines()
    assert Path(where) == folder and given == repr(arguments)
    assert done.stderr.splitlines()[0].startswith("docker/run: native")
    assert (folder / "made here").stat().st_uid == os.getuid()


def test_exit_code_passes(folder):
    assert run("--mode", "native", "bash", "-c", "exit 7", cwd=folder).returncode == 7


def test_the_command_is_there_also_under_mpirun(folder):
    done = run("--mode", "native", "mpirun", "-n", "2", "nnlod", "--help", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Commands:") == 2
