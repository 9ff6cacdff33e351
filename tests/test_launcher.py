"""The launcher, from inside an environment that has everything: what is native stays native."""

from __future__ import annotations

import contextlib
import csv
import itertools
import os
import pty
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from waiting import PATIENCE

DOCKER = Path(__file__).parents[1] / "docker"


def run(*arguments: str, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [str(DOCKER / "run"), *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=os.environ | environment,
        stdin=subprocess.DEVNULL,
        timeout=PATIENCE,
    )


def test_scripts_parse():
    subprocess.run(["bash", "-n", str(DOCKER / "run")], check=True)
    subprocess.run(["sh", "-n", str(DOCKER / "install")], check=True)


def test_help_and_mistakes():
    assert "Usage: docker/run" in run("--help").stdout
    assert run().returncode == 2
    for arguments, message in (
        (["--base", "etch", "shell"], "--base must be trixie or sid, got etch"),
        (["--mode", "magic", "shell"], "--mode must be native, docker, wheels or chroot, got magic"),
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


# -- the ways, with tools that only pretend ---------------------------------------------------------------

TOOLS = (
    "bash cat chown chmod cp cut dirname env flock grep id ls mkdir mktemp mv printenv readlink realpath rm sed seq "
    "sha256sum sh sleep sort tail timeout touch tr uname"
).split()


@pytest.fixture
def tools(tmp_path) -> Path:
    """A folder for PATH with no Python, compiler, engine or package manager but those that a test puts there."""
    path = tmp_path / "tools"
    path.mkdir()
    for name in TOOLS:
        found = shutil.which(name)
        assert found, f"{name} is missing"
        (path / name).symlink_to(found)
    return path


def pretend(tools: Path, name: str, script: str) -> None:
    (tools / name).unlink(missing_ok=True)
    (tools / name).write_text(f"#!{shutil.which('bash')}\n{script}\n")
    (tools / name).chmod(0o755)


ENGINE = "case $1 in run) printf '%s\\0' \"$@\" ;; esac"


def launch(tools: Path, cwd: Path, mode: str, *command: str, **environment: str) -> subprocess.CompletedProcess:
    own = {"PATH": str(tools), "HOME": str(cwd), "PYENV_ROOT": str(cwd), "NNLOD_CACHE": str(tools.parent / "cache")}
    return run(*(["--mode", mode] if mode else []), *command, cwd=cwd, **own | environment)


def mounts(tools: Path, cwd: Path, *command: str) -> list[Path]:
    """The folders of the host that a container for this command sees, each at its own place."""
    pretend(tools, "docker", ENGINE)
    done = launch(tools, cwd, "docker", *command)
    assert done.returncode == 0, done.stderr
    given = done.stdout.split("\0")
    found = []
    for option, value in itertools.pairwise(given):
        if option == "--mount":
            (fields,) = csv.reader([value])
            names = dict(field.split("=", 1) for field in fields)
            if names["target"] != "/nnlod":
                assert names["source"] == names["target"] and names["type"] == "bind"
                found.append(Path(names["source"]))
    assert Path(found[0]).is_absolute()
    assert not any(inner != outer and inner.is_relative_to(outer) for inner in found for outer in found)
    return found


def seen(path: Path, among: list[Path]) -> bool:
    return any(path.is_relative_to(folder) for folder in among)


@pytest.fixture
def here(tmp_path) -> Path:
    path = tmp_path / "some" / "where" / "here"
    path.mkdir(parents=True)
    return path


@pytest.mark.parametrize(
    "arguments",
    [["-o", "../out"], ["--output=../out"], ["-o../out"], ["-s", "data=../out"], [".."], ["-o", "./../new/out"]],
    ids=" ".join,
)
def test_relative_paths_are_mounted(tools, here, arguments):
    assert not seen(here.parent / "out", mounts(tools, here, "nnlod", "sample", "--count", "3", "x=y"))
    assert seen(here.parent / "out", mounts(tools, here, "nnlod", "sample", *arguments))


@pytest.mark.parametrize("argument", ["model", "--model=model", "model/weights"])
def test_links_are_mounted_with_all_that_they_lead_to(tools, here, tmp_path, argument):
    (tmp_path / "far" / "model").mkdir(parents=True)
    (tmp_path / "between").mkdir()
    (tmp_path / "between" / "link").symlink_to(tmp_path / "far" / "model")
    (here / "model").symlink_to("../../../between/link")
    found = mounts(tools, here, "nnlod", "info", argument)
    assert seen(here, found) and seen(tmp_path / "far" / "model", found) and seen(tmp_path / "between" / "link", found)
    assert tmp_path not in found


def test_a_linked_file_is_mounted_with_its_folder(tools, here, tmp_path):
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "real.toml").touch()
    (here / "config.toml").symlink_to(tmp_path / "far" / "real.toml")
    assert seen(tmp_path / "far" / "real.toml", mounts(tools, here, "nnlod", "generate", "config.toml"))


def test_what_is_no_path_is_not_mounted(tools, here):
    code = "import os\nprint(1 / 2, '../..')"
    assert {*mounts(tools, here, "python3", "-c", code, "a=b", "", "-")} == {here, DOCKER.parent}


def test_a_path_that_no_container_can_keep_is_refused(tools, here):
    pretend(tools, "docker", ENGINE)
    done = launch(tools, here, "docker", "nnlod", "sample", "-o", "/no-such-folder/out")
    assert done.returncode == 1 and "cannot be seen in the environment" in done.stderr
    assert {*mounts(tools, here, "cat", "/dev/null", "/etc/hostname")} == {here, DOCKER.parent}


@pytest.mark.parametrize("name", ['a "quoted" name', "commas, and, so on", "x=y:z"])
def test_unusual_names_of_folders(tools, here, name):
    path = here / name
    path.mkdir()
    assert path in mounts(tools, path, "ls")


def test_a_line_break_in_the_name_of_the_folder(tools, here):
    pretend(tools, "docker", ENGINE)
    path = here / "two\nlines"
    path.mkdir()
    done = launch(tools, path, "docker", "ls")
    assert done.returncode == 1 and "line break" in done.stderr and not done.stdout


def test_without_a_temporary_folder_nothing_is_written(tools, here):
    pretend(tools, "docker", "echo $1 >>log; case $1 in image) exit 1 ;; esac")
    missing = str(here / "missing")
    done = launch(tools, here, "docker", "ls", TMPDIR=missing)
    assert done.returncode == 1 and f"cannot make a temporary folder in {missing}" in done.stderr
    assert {*(here / "log").read_text().split()} == {"info", "image"}


# A Python of which only the version counts, and whose virtual environments have a pip that is a script.
PYTHON = """
case $1 in
    -) cat >/dev/null; exit {suits} ;;
    -c) echo 3.13 ;;
    -m) mkdir -p "$3/bin"; printf '#!%s\\n%s\\n' "$BASH" '{pip}' >"$3/bin/pip"; chmod +x "$3/bin/pip" ;;
esac
"""


@pytest.mark.parametrize(("suits", "compilers"), [(1, ["cc"]), (0, [])])
def test_wheels_need_a_python_and_a_compiler(tools, here, suits, compilers):
    for name in compilers:
        pretend(tools, name, "")
    pretend(tools, "python3", PYTHON.format(suits=suits, pip="exit 0"))
    done = launch(tools, here, "wheels", "ls")
    assert done.returncode == 1 and "no wheels here" in done.stderr


def test_wheels_are_installed_once(tools, here):
    pretend(tools, "cc", "")
    pretend(tools, "python3", "exit 1")
    pretend(tools, "python3.13", PYTHON.format(suits=0, pip=f'echo "$@" >>{tools}/log'))
    for _ in range(2):
        done = launch(tools, here, "wheels", "printenv", "PATH")
        assert done.returncode == 0, done.stderr
        first, second, *_ = done.stdout.split(":")
        assert first == str(DOCKER / "bin") and second.startswith(str(tools.parent / "cache" / "wheels-3.13-"))
    assert len((tools / "log").read_text().splitlines()) == 1


def test_wheels_that_cannot_be_installed_leave_nothing(tools, here):
    pretend(tools, "cc", "")
    pretend(tools, "python3", PYTHON.format(suits=0, pip="echo no registry answers; exit 1"))
    done = launch(tools, here, "wheels", "ls")
    assert done.returncode == 1 and "pip could not install" in done.stderr and "no registry answers" in done.stderr
    assert not [*(tools.parent / "cache").glob("wheels-*")]


def test_an_engine_comes_before_wheels_and_wheels_before_root(tools, here):
    pretend(tools, "cc", "")
    pretend(tools, "python3", "exit 1")
    pretend(tools, "python3.12", PYTHON.format(suits=0, pip="exit 0"))
    pretend(tools, "apt-get", "touch called")
    pretend(tools, "unshare", "exit 0")
    for engine, way in ((ENGINE, "container: docker"), ("exit 1", "wheels: ")):
        pretend(tools, "docker", engine)
        done = launch(tools, here, "", "ls")
        assert done.returncode == 0 and done.stderr.startswith(f"docker/run: {way}")
    assert not (here / "called").exists()


@pytest.mark.skipif(
    not re.search(r"^ID(_LIKE)?=.*(debian|ubuntu)", Path("/etc/os-release").read_text(), re.M), reason="needs Debian"
)
@pytest.mark.parametrize("answer", [None, "n", "y"])
def test_installing_an_engine_is_asked_for_in_a_terminal_and_said_elsewhere(tools, here, answer):
    pretend(tools, "id", "echo 0")
    pretend(tools, "unshare", "exit 0")
    pretend(tools, "apt-get", f'echo "$@" >>{here}/called; exit 1')
    command = [str(DOCKER / "run"), "--mode", "docker", "ls"]
    environment = os.environ | {"PATH": str(tools), "NNLOD_CACHE": str(here / "cache")}
    if answer is None:
        done = subprocess.run(command, cwd=here, env=environment, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
        said, code = done.stderr.decode(), done.returncode
    else:
        ours, theirs = pty.openpty()
        os.write(ours, f"{answer}\n".encode())
        code = subprocess.run(
            command, cwd=here, env=environment, stdin=theirs, stderr=theirs, timeout=PATIENCE
        ).returncode
        os.set_blocking(ours, False)
        said = ""
        with contextlib.suppress(BlockingIOError):
            while True:
                said += os.read(ours, 10000).decode()
        assert "install? [y/N]" in said
    assert code == 1 and "docker.io must be installed on this machine" in said
    assert (here / "called").exists() == (answer != "n")
