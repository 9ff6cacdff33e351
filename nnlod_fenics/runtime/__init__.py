"""What every run needs and no mathematics: files, locks, output folders, launchers, jobs, progress, random streams.

Modules: ``files`` (whole or not at all; JSON, HDF5), ``folder`` (may I write here, and the lock), ``launcher`` (ranks
and cores, from the launcher), ``devices`` (PyTorch's devices and threads), ``schedule`` and ``job`` (blocks of
work under MPI), ``progress``, ``streams`` (the list of random streams), ``memory``, ``versions``, ``optional`` (parts
of the software stack that may be missing).
"""
