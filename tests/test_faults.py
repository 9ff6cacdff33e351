"""Faults that the command line meets: full disks, long names, huge numbers, odd files; each told in one sentence."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from commands import Made

MANY = "1" * 5000
GRID, QUICK = Made.GRID, Made.QUICK


@pytest.fixture
def work(made, tmp_path) -> Path:
    """A folder with a dataset, a model and a coefficient, to write to."""
    for name in ("data", "model"):
        shutil.copytree(made / name, tmp_path / name)
    shutil.copy(made / "A.npy", tmp_path)
    return tmp_path


def said(done, *words: str, code: int = 2) -> None:
    """A command has failed with one sentence."""
    lines = done.stderr.strip().splitlines()
    assert done.returncode == code and len(lines) == 1 and lines[0].startswith("nnlod: "), done
    assert all(word in lines[0] for word in words), lines[0]


# -- full disks ----------------------------------------------------------------------------------------

COMMANDS = {
    "train": ["train", "data", "-o", "new", *QUICK],
    "solve": ["solve", "--coefficient", "A.npy", "-o", "new", *GRID],
    "solve by FEM": ["solve", "--method", "fem", "--coefficient", "A.npy", "-o", "new", *GRID],
    "sample": ["sample", "-o", "new", *GRID],
    "evaluate": ["evaluate", "model", "--data", "data", "-o", "new"],
    "demo": ["demo", "-o", "new", *QUICK],
    "generate": ["generate", "-o", "new", *QUICK],
    "montecarlo": ["montecarlo", "--method", "lod", "--samples", "8", "-o", "new", *GRID],
    "split": ["dataset", "split", "data", "-o", "new"],
}


@pytest.mark.parametrize(
    ("command", "size"),
    # MPI's own files do not fit in 20 kB where a step of the demo starts it
    [(command, size) for command in COMMANDS for size in (600, 20_000) if (command, size) != ("demo", 20_000)],
)
def test_full_disk(nnlod, made, tmp_path, command, size):
    """Files that can hold so many bytes: one sentence, and each file is whole or not there."""
    for name in ("data", "model", "A.npy"):
        (tmp_path / name).symlink_to(made / name)
    new = tmp_path / "new"
    done = nnlod(*COMMANDS[command], cwd=tmp_path, largest_file=size)
    assert done.returncode in (0, 2) and "Traceback" not in done.stderr, done
    if done.returncode:
        told = [line for line in done.stderr.splitlines() if line.startswith("nnlod: ")]
        # the demo's own step speaks before it
        assert 1 <= len(told) <= 1 + (command == "demo") and "File too large" in told[0], done.stderr
    for path in new.rglob("*") if new.exists() else ():
        assert not path.name.startswith("."), path
        assert path.is_dir() or path.stat().st_size != size, f"{path} is cut off"


# -- names and numbers ---------------------------------------------------------------------------------

LONG = "x" * 256


@pytest.mark.parametrize(
    "arguments",
    [
        ["solve", "-o", LONG, *GRID],
        ["sample", "-o", f"new/{LONG}", *GRID],
        ["generate", "-o", LONG, *QUICK],
        ["train", "data", "-o", LONG, *QUICK],
        ["evaluate", "model", "-o", LONG],
        ["demo", "-o", LONG, *QUICK],
        ["montecarlo", "--method", "lod", "--samples", "8", "-o", LONG, *GRID],
        ["reproduce", "1", "-o", LONG],
        ["export", "model", "-o", f"{LONG}.pt2"],
        ["dataset", "split", "data", "-o", LONG],
        ["dataset", "info", LONG],
        ["info", LONG],
        ["train", LONG],
        ["evaluate", LONG],
        ["generate", f"{LONG}.toml"],
        ["solve", "--coefficient", f"{LONG}.npy", *GRID],
    ],
    ids=lambda arguments: " ".join(arguments)[:20],
)
def test_names_that_are_too_long(nnlod, work, arguments):
    said(nnlod(*arguments, cwd=work), "File name too long")
    assert {path.name for path in work.iterdir()} <= {"data", "model", "A.npy", "new"}


HUGE = str(10**12)
NUMBERS = {
    "realizations": (
        ["generate", "-s", f"dataset.realizations={HUGE}"],
        "dataset.realizations must fit in 100000 files",
    ),
    "a block of all": (
        ["generate", "-s", f"dataset.realizations={10**20}", "-s", "dataset.block=2"],
        "dataset.realizations must fit",
    ),
    "samples": (["montecarlo", "--samples", HUGE], "montecarlo.samples must be at most 1000000000"),
    "blocks": (["montecarlo", "--method", "lod", "--samples", "10000000"], "samples must fit in 1000000 blocks"),
    "pilot": (["montecarlo", "--samples", "100", "--pilot", HUGE], "montecarlo.pilot must be at most 1000000000"),
    "online": (["train", "data", "--online", HUGE], "realizations of an epoch must be between 1 and 1000000"),
    "count": (["sample", "--count", HUGE], "count must be between 1 and 100000"),
    "digits": (["generate", "-s", f"dataset.seed={MANY}"], "numbers of fewer than 4300 digits"),
    "digits of a float": (["generate", "-s", f"field.variance={MANY}"], "numbers of fewer than 4300 digits"),
    "hexadecimal": (["generate", "-s", f"dataset.seed=0x{'f' * 5000}"], "dataset.seed must be at most"),
    "seed": (["generate", "-s", f"dataset.seed={2**63}"], f"dataset.seed must be at most {2**63 - 1}"),
    "seed of a training": (["train", "data", "-s", f"training.seed={2**64}"], "training.seed must be at most"),
    "brackets": (["generate", "-s", f"network.options.a={'[' * 5000}{']' * 5000}"], "nested"),
    "tables": (["generate", "-s", f"network.options.{'a.' * 5000}a=1"], "nested"),
    "tables of a training": (["train", "data", "-s", f"network.options.{'a.' * 5000}a=1"], "nested"),
    "covariance": (["generate", "-s", "field.covariance=exponential"], "did you mean 'Exponential'?"),
}


@pytest.mark.parametrize("case", NUMBERS)
def test_numbers_and_names_out_of_bounds(nnlod, work, case):
    arguments, message = NUMBERS[case]
    done = nnlod(*arguments[:1], *arguments[1:2], *arguments[2:], *GRID, "-o", "new", cwd=work)
    said(done, message)
    assert len(done.stderr) < 600 and not (work / "new").exists()


@pytest.mark.parametrize(
    "text", [f"[dataset]\nseed = {MANY}", f"a = {'[' * 100_000}{']' * 100_000}", "[a" + ".a" * 5000 + "]"]
)
def test_settings_files_out_of_bounds(nnlod, tmp_path, text):
    (tmp_path / "c.toml").write_text(text)
    said(nnlod("generate", "c.toml", "-o", "new", cwd=tmp_path), "c.toml")
