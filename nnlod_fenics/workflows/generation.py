"""Generation of data as a user would run it: the ``nnlod generate`` command under mpirun on all cores."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from nnlod_fenics.errors import InputError

__all__ = ["launch_generation"]

_PR_SET_PDEATHSIG = 1


def launch_generation(config_file: Path, folder: Path, ranks: int) -> None:
    """Run ``nnlod generate --resume``, under mpirun if there are several ranks and it is installed.

    Args:
        config_file: The settings.
        folder: Folder of the dataset.
        ranks: MPI ranks.

    Raises:
        InputError: If the command fails.
    """
    launcher = ["mpirun", "-n", str(ranks), "--bind-to", "none"] if ranks > 1 and shutil.which("mpirun") else []
    command = [*launcher, sys.executable, "-m", "nnlod_fenics", "generate", str(config_file), "-o", str(folder)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    job = subprocess.Popen(
        [*command, "--resume"], env=environment, stdin=subprocess.DEVNULL, preexec_fn=_end_with_parent
    )
    try:
        code = job.wait()
    except BaseException:  # Ctrl-C reaches mpirun too, other exceptions do not
        job.terminate()
        job.wait()
        raise
    if code:
        raise InputError(
            f"generating the data in {str(folder)!r} failed with exit code {code}; see the messages above."
        )


def _end_with_parent() -> None:
    """Let the new process get SIGTERM when this one ends, however it ends: an orphan would hold the folder's lock."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
