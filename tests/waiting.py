"""How long a test waits for a process before it says that it hangs: the same everywhere, and far longer than needed."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from typing import Any

PATIENCE = 1200.0  # seconds; the slowest process of the tests takes half a minute on a quiet machine


def wait_for(condition: Callable[[], Any], process: subprocess.Popen[Any]) -> None:
    """Wait until something holds that a process is to bring about."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert process.poll() is None, f"the process ended before, with code {process.returncode}"
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.002)
