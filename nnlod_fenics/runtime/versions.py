"""Versions of this package and of those that determine its numbers."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from nnlod_fenics.about import __version__

__all__ = ["software_versions"]

_NAMES = ("fenics-dolfinx", "petsc4py", "numpy", "scipy", "torch", "gstools", "h5py")


def software_versions() -> dict[str, str]:
    """Versions by name; packages that are not installed are left out."""
    found = {"nnlod-fenics": __version__}
    for name in _NAMES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
