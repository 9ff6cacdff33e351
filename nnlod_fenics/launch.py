"""Generation of data as a user would run it: the ``nnlod generate`` command under mpirun on all cores."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from nnlod_fenics.config import Config
from nnlod_fenics.errors import InputError
from nnlod_fenics.output.files import replacing

__all__ = ["available_cores", "launch_generation", "write_config"]


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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
    done = subprocess.run([*command, "--resume"], env=environment, stdin=subprocess.DEVNULL)
    if done.returncode:
        raise InputError(
            f"generating the data in {str(folder)!r} failed with exit code {done.returncode}; see the messages above."
        )


def write_config(folder: Path, config: Config) -> Path:
    """Write the resolved settings as ``config.toml``.

    Args:
        folder: Where; made if missing.
        config: The settings.

    Returns:
        The file.
    """
    lines = []
    for section, table in config.resolved().items():
        lines.append(f"[{section}]")
        lines += [f"{key} = {_toml(value)}" for key, value in table.items()]
        lines.append("")
    path = folder / "config.toml"
    with replacing(path) as temporary:
        temporary.write_text("\n".join(lines), encoding="utf-8")
    return path


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items()) + "}"
    return repr(value)
