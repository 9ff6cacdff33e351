"""The ``nnlod`` command, many times: each run is a process of its own, forked from one that has paid the imports.

As a script it is that process: it reads one request a line, and answers with one line.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

from waiting import PATIENCE


class Made:
    """Settings of what the tests of the command line share: a small grid, a small network, few data."""

    GRID: ClassVar = ["-s", "grid.coarse=4", "-s", "grid.fine=16", "-s", "grid.coefficient=8", "-s", "grid.ell=1"]
    NETWORK: ClassVar = ["-s", "network.options={channels=4, means=4}"]
    QUICK: ClassVar = [*GRID, *NETWORK, "-s", "dataset.realizations=10", "-s", "training.epochs=2"]


class Commands:
    """Runs ``nnlod`` with given arguments; call it, and close it in the end."""

    def __init__(self) -> None:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self._server = subprocess.Popen([sys.executable, __file__], text=True, **pipes)  # type: ignore[call-overload]

    def __call__(
        self, *arguments: str | Path, cwd: Path | None = None, largest_file: int | None = None, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a command.

        Args:
            arguments: What follows ``nnlod``.
            cwd: Folder to run it in.
            largest_file: Bytes at which files cannot grow, as if the disk were full.
            environment: Variables of the environment that differ.
        """
        request = {"arguments": list(map(str, arguments)), "cwd": str(cwd or Path.cwd()), "limit": largest_file}
        print(json.dumps(request | {"environment": environment}), file=self._server.stdin, flush=True)
        answer = json.loads(self._server.stdout.readline())
        return subprocess.CompletedProcess(request["arguments"], *answer)

    def close(self) -> None:
        """End the process."""
        self._server.stdin.close()
        self._server.wait(PATIENCE)


def _serve() -> None:
    import matplotlib.pyplot  # noqa: F401
    import rich.console  # noqa: F401

    import nnlod_fenics.montecarlo
    import nnlod_fenics.training
    import nnlod_fenics.workflows  # noqa: F401

    assert "mpi4py.MPI" not in sys.modules, "MPI cannot be started before a fork"
    for line in sys.stdin:
        print(json.dumps(_run(json.loads(line))), flush=True)


def _run(request: dict[str, Any]) -> tuple[int, str, str]:
    """Return code, stdout and stderr of a command."""
    pipes = [os.pipe() for _ in range(2)]  # no files: what limits files must not keep a command from speaking
    child = os.fork()
    if child == 0:
        _become(request, *(end for _, end in pipes))
    for _, end in pipes:
        os.close(end)
    with ThreadPoolExecutor() as pool:
        texts = list(pool.map(lambda pipe: open(pipe[0], "rb").read().decode(errors="replace"), pipes))
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status), *texts


def _become(request: dict[str, Any], out: int, err: int) -> None:
    """Be the command, in a forked process."""
    for given, number in ((os.open(os.devnull, os.O_RDONLY), 0), (out, 1), (err, 2)):
        os.dup2(given, number)
    sys.stdout, sys.stderr = (open(number, "w", buffering=1, encoding="utf-8", closefd=False) for number in (1, 2))
    signal.alarm(int(PATIENCE))
    os.chdir(request["cwd"])
    os.environ.update(request["environment"])
    if request["limit"] is not None:  # Python ignores SIGXFSZ: writing fails with an OSError
        with suppress(ImportError):
            import nnlod_fenics.compat  # noqa: F401 - MPI's own files are not what is limited
        resource.setrlimit(resource.RLIMIT_FSIZE, (request["limit"],) * 2)
    sys.argv = ["nnlod", *request["arguments"]]
    from nnlod_fenics.cli import main

    code: Any = 1
    try:
        main()
    except SystemExit as end:
        code = end.code
    except BaseException:
        sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code or 0)


if __name__ == "__main__":
    _serve()
