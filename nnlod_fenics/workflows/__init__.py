"""Whole jobs, from arguments to files: what the subcommands of ``nnlod`` call.

``solve`` (one problem), ``evaluate`` (a model), ``demo`` (everything in small), ``reproduce`` (the paper's
experiments), ``sample`` (random coefficients), ``generation`` (datasets under mpirun, as a user would run it).
"""
