"""``python -m nnlod_fenics``: the ``nnlod`` command."""

from nnlod_fenics.cli import main

main()
