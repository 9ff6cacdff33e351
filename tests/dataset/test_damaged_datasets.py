"""Killed jobs, full disks, signals and other mishaps of a job without MPI; those with MPI are in tests/mpi."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import h5py
import killing
import numpy as np
import pytest
from waiting import PATIENCE, wait_for

import nnlod_fenics.dataset.generate as generation
from nnlod_fenics import InputError, NumericalError
from nnlod_fenics.config import load_config
from nnlod_fenics.dataset import Dataset
from nnlod_fenics.dataset.generate import EXIT_RESUMABLE, Interrupted, generate
from nnlod_fenics.dataset.layout import INDEX

TINY = [*killing.SETTINGS, "dataset.realizations=12", "dataset.block=3"]


def files(folder: Path) -> dict[str, bytes]:
    """All files of a dataset, byte by byte."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def config(*extra: str):
    return load_config(None, [*TINY, *extra])


def test_killed_at_random_moments_and_resumed(tmp_path):
    """Fourteen times SIGKILL: nothing finished is computed again, and every file is that of an undisturbed run."""
    script = Path(killing.__file__)
    done = subprocess.run(
        [sys.executable, script, tmp_path / "d", tmp_path / "log", "14"], timeout=PATIENCE, check=False
    )
    assert done.returncode == 0
    attempts = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert [attempt["killed"] for attempt in attempts] == [True] * 14 + [False]
    assert len({len(attempt["before"]) for attempt in attempts}) > 4, "the kills must hit different stages"
    whole = generate(load_config(None, killing.SETTINGS), tmp_path / "whole")
    assert files(tmp_path / "d") == files(whole)
    dataset = Dataset(whole)
    for attempt in attempts:
        blocks = [int(Path(name).stem) for name in attempt["before"]]
        finished = {repr(np.exp(dataset.Z(k)).sum()) for b in blocks for k in dataset.header.members(b)}
        assert not finished & set(attempt["computed"])


FULL_DISK = """
set -e
mount -t tmpfs -o size={small} tmpfs {disk}
trap 'umount {disk}' EXIT
python3 -m nnlod_fenics generate -o {disk}/d {settings} 2>{out}/message && exit 3
cat {out}/message
python3 -m nnlod_fenics dataset info {disk}/d
mount -o remount,size=50M {disk}
python3 -m nnlod_fenics generate -o {disk}/d {settings} --resume
cp -r {disk}/d {out}/d
"""


def _unshare() -> list[str] | None:
    """How a mount of one's own can be had here."""
    if shutil.which("unshare") is None:
        return None
    mount = ["bash", "-c", "mount -t tmpfs tmpfs /mnt && umount /mnt"]
    for options in (["--mount"], ["--mount", "--propagation", "unchanged"], ["--user", "--map-root-user", "--mount"]):
        if subprocess.run(["unshare", *options, *mount], capture_output=True, check=False).returncode == 0:
            return ["unshare", *options]
    return None


def test_full_disk(tmp_path):
    """A disk that is really full: told in a sentence, what is finished stays readable, resumed after making room."""
    command = _unshare()
    if command is None:
        pytest.skip("no file system can be mounted here")
    (tmp_path / "disk").mkdir()
    settings = " ".join(f"-s {item}" for item in killing.SETTINGS)
    script = FULL_DISK.format(disk=tmp_path / "disk", out=tmp_path, settings=settings, small="600k")
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        [*command, "bash", "-c", script], capture_output=True, text=True, env=environment, timeout=PATIENCE, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    message = (tmp_path / "message").read_text().strip()
    assert "could not be written (No space left on device)" in message and "\n" not in message
    assert " of 100 finished" in done.stdout and "0 of 100 finished" not in done.stdout.split()
    assert files(tmp_path / "d") == files(generate(load_config(None, killing.SETTINGS), tmp_path / "whole"))


def test_full_disk_leaves_no_half_block(tmp_path, monkeypatch):
    original, calls = os.fsync, []

    def full(handle):
        calls.append(handle)
        if len(calls) == 4:  # the index, two blocks, and now
            raise OSError(errno.ENOSPC, "No space left on device")
        original(handle)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match=r"could not be written \(No space left on device\).*kept and readable"):
        generate(config(), tmp_path / "d")
    monkeypatch.undo()
    assert sorted(path.name for path in (tmp_path / "d").rglob("*.h5")) == ["000000.h5", "000001.h5", INDEX]
    partial = Dataset(tmp_path / "d", partial=True)
    assert partial.finished == list(range(6)) and np.isfinite(partial.S(5)).all()
    with pytest.raises(InputError, match="realization 6 is missing"):
        partial.Z(7)
    with h5py.File(tmp_path / "d" / INDEX) as file:  # what plain h5py sees of it
        assert file["done"][...].tolist() == [1] * 6 + [0] * 6 and np.isnan(file["Z"][6]).all()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_signals_drop_the_block_and_say_resumable(tmp_path, number):
    command = [sys.executable, "-m", "nnlod_fenics", "generate", "-o", str(tmp_path / "d")]
    command += [item for setting in [*TINY, "dataset.realizations=20000"] for item in ("-s", setting)]
    job = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    wait_for(lambda: list(tmp_path.glob("d/blocks/0*.h5")), job)
    job.send_signal(number)
    _, message = job.communicate(timeout=PATIENCE)
    assert job.returncode == EXIT_RESUMABLE
    assert "run again with --resume" in message and "Traceback" not in message
    assert {path.suffix for path in (tmp_path / "d").rglob("*") if path.is_file()} == {".h5"}
    assert not list((tmp_path / "d").rglob(".*"))


def test_a_signal_during_a_computation_drops_the_block(tmp_path, monkeypatch):
    original, calls = generation.matrices_with_loads, []

    def interrupted(*args, **kwargs):
        calls.append(args)
        if len(calls) == 5:  # the second realization of the second block
            os.kill(os.getpid(), signal.SIGTERM)
        return original(*args, **kwargs)

    monkeypatch.setattr(generation, "matrices_with_loads", interrupted)
    handler = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Interrupted):
        generate(config(), tmp_path / "d")
    assert signal.getsignal(signal.SIGTERM) is handler
    assert Dataset(tmp_path / "d", partial=True).finished == [0, 1, 2]
    monkeypatch.undo()
    assert files(generate(config(), tmp_path / "d", resume=True)) == files(generate(config(), tmp_path / "whole"))


def test_errors_of_a_computation_are_raised(tmp_path, monkeypatch):
    monkeypatch.setattr(generation, "matrices_with_loads", lambda *args, **kwargs: np.full((16, 16, 4), np.nan))
    with pytest.raises(NumericalError, match="local matrices of realization 0"):
        generate(config(), tmp_path / "d")


def test_errors_name_realization_and_seed(tmp_path, monkeypatch):
    """Computations see one realization at a time, which they call 0; users know the number in the dataset."""
    original, calls = generation.matrices_with_loads, []

    def failing(*args, **kwargs):
        calls.append(args)
        if len(calls) == 6:
            raise NumericalError("the factorisation for the patch of element 3 at (3, 0) of realization 0 failed.")
        return original(*args, **kwargs)

    monkeypatch.setattr(generation, "matrices_with_loads", failing)
    with pytest.raises(NumericalError, match=r"^realization 5 \(seed 3\): the factorisation .* at \(3, 0\) failed\.$"):
        generate(config("dataset.seed=3"), tmp_path / "d")


def test_two_jobs_on_one_output(tmp_path):
    entered, leave = threading.Event(), threading.Event()
    original = generation.matrices_with_loads

    def waiting(*args, **kwargs):
        entered.set()
        leave.wait(PATIENCE)
        return original(*args, **kwargs)

    generation.matrices_with_loads = waiting
    try:
        first = threading.Thread(target=generate, args=(config(), tmp_path / "d"))
        first.start()
        assert entered.wait(PATIENCE)
        for options in ({"resume": True}, {"overwrite": True}):
            with pytest.raises(InputError, match="is in use by another job"):
                generate(config(), tmp_path / "d", **options)
    finally:
        leave.set()
        first.join()
        generation.matrices_with_loads = original
    assert len(Dataset(tmp_path / "d")) == 12
    assert not (tmp_path / "d" / ".lock").exists()


def test_a_damaged_block_is_computed_again(tmp_path, capsys):
    whole = files(generate(config(), tmp_path / "d"))
    victim = tmp_path / "d" / "blocks" / "000002.h5"
    victim.write_bytes(victim.read_bytes()[:5000])
    with pytest.raises(InputError, match=r"000002\.h5 is truncated; run generate again with --resume"):
        Dataset(tmp_path / "d")
    generate(config(), tmp_path / "d", resume=True)
    assert "000002.h5 is damaged" in capsys.readouterr().err
    assert files(tmp_path / "d") == whole


def test_finished_blocks_without_an_index_are_kept_unless_told_otherwise(tmp_path):
    """Deleted by hand, or by a job that was killed while it replaced them: hours of work, or leftovers."""
    generate(config("dataset.seed=5"), tmp_path / "d")
    (tmp_path / "d" / INDEX).unlink()
    (tmp_path / "d" / "blocks" / ".000007-abc.h5").write_text("half")
    before = files(tmp_path / "d")
    for options in ({}, {"resume": True}):
        with pytest.raises(InputError, match=r"holds finished parts of a dataset .* no dataset\.h5.*--overwrite"):
            generate(config(), tmp_path / "d", **options)
    assert files(tmp_path / "d") == before
    found = files(generate(config(), tmp_path / "d", overwrite=True))
    assert found == files(generate(config(), tmp_path / "whole"))


def test_a_dataset_of_the_former_version_is_read_and_resumed(tmp_path):
    """Its index and its blocks bear no identity; finished blocks are kept."""
    whole = files(generate(config(), tmp_path / "whole"))
    folder = generate(config(), tmp_path / "d")
    for path in folder.rglob("*.h5"):
        with h5py.File(path, "r+") as file:
            del file.attrs["identity"]
    Dataset(folder)
    (folder / "blocks" / "000001.h5").unlink()
    before = files(folder)
    after = files(generate(config(), folder, resume=True))
    assert {name: after[name] for name in before} == before
    assert after["blocks/000001.h5"] == whole["blocks/000001.h5"]
    np.testing.assert_array_equal(Dataset(folder).fields(range(12)), Dataset(tmp_path / "whole").fields(range(12)))


def test_nothing_is_left_where_nothing_could_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.tex").write_text("")
    for output, message in (
        (tmp_path / "file", "is not a folder"),
        (tmp_path / "file" / "d", "cannot be written"),
        (other, "other files"),
    ):
        for options in ({}, {"resume": True}, {"overwrite": True}):
            with pytest.raises(InputError, match=message):
                generate(config(), output, **options)
    assert {path.name for path in tmp_path.rglob("*")} == {"file", "other", "thesis.tex"}
