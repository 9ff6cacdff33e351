"""Rooms are entered from above only: no import goes upward, and no two modules import each other.

Run as a script, it prints the graph: ``python tests/test_layout.py``.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "nnlod_fenics"

# From the ground up: a room may use those below it, and others on its floor only where the floor is one room.
FLOORS = (
    ("about", "compat", "errors"),
    ("runtime",),
    ("arrays", "scaling"),
    ("domain",),
    ("grid",),
    ("coefficient", "coefficient_files", "problem", "statistics", "window"),
    ("loads", "norms"),
    ("functionals",),
    ("fields", "output"),
    ("config",),
    ("fem", "lod"),
    ("network", "upscaled"),
    ("averaged",),
    ("solvers",),
    ("dataset",),
    ("training", "montecarlo"),
    ("workflows",),
    ("cli",),
    ("__main__", "__init__"),
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}


def name_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def imports(path: Path) -> set[str]:
    """Modules of the package that a module imports anywhere, also inside functions."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("nnlod_fenics"):
            names = [node.module] + [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names if alias.name.startswith("nnlod_fenics")]
        for name in names:
            module = name.removeprefix("nnlod_fenics").removeprefix(".")
            if module and module in MODULES:
                found.add(module)
    return found


MODULES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}
GRAPH = {name: imports(path) - {name} for name, path in MODULES.items()}


def room(module: str) -> str:
    return module.partition(".")[0]


@pytest.mark.parametrize("module", sorted(MODULES))
def test_no_import_goes_upward(module):
    assert room(module) in FLOOR, f"{module} stands on no floor; give it one in FLOORS"
    for other in GRAPH[module]:
        same = room(other) == room(module)
        assert same or FLOOR[room(other)] < FLOOR[room(module)], f"{module} imports {other}, which is not below it"


def test_no_modules_import_each_other():
    inner = {name: {o for o in others if not MODULES[o].name == "__init__.py"} for name, others in GRAPH.items()}
    try:
        list(TopologicalSorter(inner).static_order())
    except CycleError as error:
        pytest.fail(f"cycle of imports: {' -> '.join(error.args[1])}")


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("nnlod_fenics", "torch vtkmodules dolfinx mpi4py petsc4py gstools h5py scipy matplotlib"),
        ("nnlod_fenics.cli", "torch vtkmodules dolfinx mpi4py petsc4py gstools h5py scipy matplotlib"),
        ("nnlod_fenics.config", "torch vtkmodules dolfinx mpi4py petsc4py gstools"),
        ("nnlod_fenics.lod.coarse", "torch vtkmodules dolfinx mpi4py petsc4py gstools"),
        (
            "nnlod_fenics.network",
            "vtkmodules dolfinx mpi4py petsc4py gstools nnlod_fenics.dataset nnlod_fenics.training",
        ),
        (
            "nnlod_fenics.solvers",
            "vtkmodules dolfinx mpi4py petsc4py gstools nnlod_fenics.dataset nnlod_fenics.training",
        ),
    ],
)
def test_imports_load_no_more_than_they_need(module, heavy):
    code = f"import sys, {module}; print(*sorted(set({heavy.split()!r}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


if __name__ == "__main__":
    for rooms in FLOORS:
        for own in rooms:
            used = {room(o) for m, others in GRAPH.items() if room(m) == own for o in others} - {own}
            print(f"{own:20s} {' '.join(sorted(used, key=FLOOR.__getitem__))}")
