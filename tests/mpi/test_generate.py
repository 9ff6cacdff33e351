"""Generation on several ranks: the same bytes as on one, dynamic shares, and what faults leave behind."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from waiting import PATIENCE, wait_for

pytest.importorskip("mpi4py")

import generate_job

from nnlod_fenics.config import load_config
from nnlod_fenics.dataset import Dataset
from nnlod_fenics.dataset.generate import EXIT_RESUMABLE, generate

SCRIPT = Path(generate_job.__file__)
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def mpirun(ranks: int, *arguments: object) -> list[str]:
    return ["mpirun", "-n", str(ranks), "--bind-to", "none", sys.executable, *map(str, arguments)]


def run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, timeout=PATIENCE, check=False)


def start(command: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT)


def computed(notes: Path) -> list[set[str]]:
    return [set(path.read_text().splitlines()) for path in sorted(notes.glob("[0-9]*"))]


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """The dataset of one undisturbed process."""
    return generate(load_config(None, generate_job.SETTINGS), tmp_path_factory.mktemp("whole") / "d")


@pytest.mark.parametrize(("ranks", "options"), [(2, []), (3, []), (2, ["threads=single"])])
def test_the_files_of_one_rank(whole, tmp_path, ranks, options):
    done = run(mpirun(ranks, SCRIPT, tmp_path / "d", tmp_path / "notes", *options))
    assert done.returncode == 0, done.stderr
    assert files(tmp_path / "d") == files(whole)
    shares = computed(tmp_path / "notes")
    assert len(shares) == (ranks if not options else 1)  # without threads rank 0 only hands out
    assert sum(map(len, shares)) == len(set.union(*shares)) == 100


def test_the_galerkin_form_with_loads_has_the_files_of_one_rank(tmp_path):
    own = ["dataset.form=galerkin", "dataset.loads=true", "dataset.realizations=8"]
    done = run(mpirun(2, SCRIPT, tmp_path / "d", tmp_path / "notes", *own))
    assert done.returncode == 0, done.stderr
    alone = generate(load_config(None, [*generate_job.SETTINGS, *own]), tmp_path / "alone")
    assert files(tmp_path / "d") == files(alone)


def test_blocks_do_not_change_the_bits(whole, tmp_path):
    done = run(mpirun(2, SCRIPT, tmp_path / "d", tmp_path / "notes", "dataset.block=7"))
    assert done.returncode == 0, done.stderr
    one, other = Dataset(whole), Dataset(tmp_path / "d")
    for name in ("Z", "S", "parameters", "origin", "checksum"):
        everything = [data.column(name, range(100)).tobytes() for data in (one, other)]
        assert everything[0] == everything[1]


def test_more_ranks_than_blocks(tmp_path):
    done = run(mpirun(4, SCRIPT, tmp_path / "d", tmp_path / "notes", "dataset.realizations=3"))
    assert done.returncode == 0, done.stderr
    assert "2 of 4 ranks stay idle" in done.stderr
    assert len(Dataset(tmp_path / "d")) == 3


def test_killed_ranks_and_jobs(whole, tmp_path):
    """Six kills, of a rank or of everything, at random moments; then resumed, byte by byte the same."""
    rng, output, stages = random.Random(2), tmp_path / "d", set()
    dataset = Dataset(whole)
    sums = [repr(np.exp(Z).sum()) for Z in dataset.fields(range(100))]
    for attempt in range(7):
        notes = tmp_path / f"notes-{attempt}"
        before = {k for path in output.glob("blocks/0*.h5") for k in dataset.header.members(int(path.stem))}
        stages.add(len(before))
        job = start(mpirun(2, SCRIPT, output, notes))
        if attempt < 6:
            begun = rng.randrange(1, 12)  # realizations; not a time, so that slow machines are hit at the same stages
            wait_for(lambda notes=notes, begun=begun: sum(map(len, computed(notes))) >= begun, job)
            time.sleep(rng.uniform(0.0, 0.05))
            if attempt % 2:
                victims = [psutil.Process(int((notes / f"pid-{rng.randrange(2)}").read_text()))]
            else:
                mpi = psutil.Process(job.pid)
                victims = [mpi, *mpi.children(recursive=True)]
            for victim in victims:
                victim.kill()
        _, message = job.communicate(timeout=PATIENCE)
        assert (job.returncode == 0) == (attempt == 6), message
        assert not {sums[k] for k in before} & set.union(*computed(notes)), "a finished realization was computed again"
    assert len(stages) > 3
    assert files(output) == files(whole)


@pytest.mark.parametrize("rank", [0, 1])
def test_an_error_on_one_rank_ends_the_job(tmp_path, rank):
    """The others, which would sleep for a day, do not go on."""
    done = run(mpirun(3, SCRIPT, tmp_path / "d", tmp_path / "notes", f"fail={rank}"))
    assert done.returncode not in (0, EXIT_RESUMABLE)
    assert f"RuntimeError: rank {rank} breaks" in done.stderr and f"nnlod: rank {rank} failed" in done.stderr


def test_an_error_on_all_ranks_is_told_once(tmp_path):
    done = run(mpirun(2, SCRIPT, tmp_path / "d", tmp_path / "notes", "fail=all"))
    said = [line.strip() for line in done.stderr.splitlines() if "nnlod: " in line]
    # which block comes to rank 0 first is a matter of time
    assert len(said) == 1
    assert re.match(r"nnlod: rank 0 failed: realization \d+ \(seed 0\): the problem is singular\.", said[0])
    assert done.returncode == 1 and "Traceback" not in done.stderr


@pytest.mark.parametrize("target", ["ranks", "mpirun"])
def test_signals_of_a_batch_system(tmp_path, target):
    """SIGTERM to every rank (as srun does), or SIGUSR1 to mpirun, which passes it on: exit code 75, resumable."""
    output, notes = tmp_path / "d", tmp_path / "notes"
    job = start(mpirun(2, SCRIPT, output, notes, "dataset.realizations=20000"))
    wait_for(lambda: list(output.glob("blocks/0*.h5")), job)
    if target == "ranks":
        for rank in range(2):
            os.kill(int((notes / f"pid-{rank}").read_text()), signal.SIGTERM)
    else:
        job.send_signal(signal.SIGUSR1)
    _, message = job.communicate(timeout=PATIENCE)
    assert job.returncode == EXIT_RESUMABLE, message
    assert {path.suffix for path in output.rglob("*") if path.is_file()} == {".h5"}
    assert not list(output.rglob(".*"))


def test_refusals_reach_every_rank(whole, tmp_path):
    """One sentence, not one a rank, and no rank waits for another."""
    overrides = [part for item in generate_job.SETTINGS for part in ("-s", item)]
    command = mpirun(2, "-m", "nnlod_fenics", "generate", "-o", whole, *overrides)
    for extra, message in (([], "already holds a dataset"), (["-s", "grid.coarse=5"], "coarse must divide")):
        done = run([*command, *extra])
        assert done.returncode == 2
        said = [line for line in done.stderr.splitlines() if line.startswith("nnlod: ")]
        assert len(said) == 1 and message in said[0], done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("seconds", "option", "others", "message"),
    [
        (4, "-sgrid.coarse=5", "", "nnlod: coarse must divide"),
        (4, "--no", "", "Error: No such option: --no"),
        (0, "--resume", "-sgrid.coarse=5", "nnlod: rank 1: coarse must divide"),
    ],
)
def test_a_refusal_is_told_although_ranks_differ(tmp_path, seconds, option, others, message):
    """The first rank is late, and mpirun ends it as soon as the other one fails; or only the other one fails."""
    script, output = Path(__file__).with_name("uneven.py"), tmp_path / "d"
    done = run(mpirun(2, script, seconds, others, "generate", "-o", output, option))
    said = [line for line in done.stderr.splitlines() if "nnlod: " in line or "Error: " in line]
    assert done.returncode == 2 and len(said) == 1 and said[0].startswith(message), done.stderr
    assert not (output / "dataset.h5").exists()


def test_the_demo_is_refused_under_mpirun(tmp_path):
    """It starts mpirun itself: one sentence, not a hang."""
    done = run(mpirun(2, "-m", "nnlod_fenics", "demo", "-o", tmp_path / "d"))
    said = [line for line in done.stderr.splitlines() if line.startswith("nnlod: ")]
    assert done.returncode == 2 and len(said) == 1 and "must be run as a single process, got 2 ranks" in said[0]
    assert not (tmp_path / "d").exists()
