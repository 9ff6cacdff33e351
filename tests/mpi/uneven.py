"""Script for mpirun: the ``nnlod`` command where ranks differ.

``uneven.py SECONDS OPTIONS ARGUMENT ...``: the first rank is so late; the others have further options.
"""

from __future__ import annotations

import sys
import time

from nnlod_fenics.cli import main
from nnlod_fenics.runtime.launcher import is_first_rank

if __name__ == "__main__":
    _, seconds, options, *arguments = sys.argv
    if is_first_rank():
        time.sleep(float(seconds))
    else:
        arguments += options.split()
    sys.argv = ["nnlod", *arguments]
    main()
