"""An extension of griffe: makes links of names such as ``:func:`name` `` in docstrings, and code of an ``Example:``."""

from __future__ import annotations

import re
from typing import Any

import griffe

_ROLE = re.compile(r":(?:func|class|meth|mod|data|attr|exc):`([^`]+)`")


class Roles(griffe.Extension):
    """Rewrites the roles in all docstrings of a package once it is loaded."""

    def on_package(self, *, pkg: griffe.Module, **kwargs: Any) -> None:
        """Called by griffe."""
        _rewrite(pkg)


def _rewrite(item: Any) -> None:
    if item.docstring is not None:
        text = re.sub("^Example:$", "Examples:", item.docstring.value, flags=re.MULTILINE)
        item.docstring.value = _ROLE.sub(lambda match: _link(item, match[1]), text)
    for name, member in list(item.members.items()):
        if not member.is_alias:
            _rewrite(member)
        elif member.target_path == item.package.path:  # `import package.module` in the package: griffe finds no end
            del item.members[name]


def _link(item: Any, name: str) -> str:
    shown = name.rpartition(".")[2] if name.startswith("~") else name
    return f"[`{shown.removeprefix('~')}`][{_path(item, name.removeprefix('~'))}]"


def _path(item: Any, name: str) -> str:
    """Where a name is documented: a member of the class that the docstring is in, or a name of its module.

    An attribute without a docstring of its own is described by that of its class.
    """
    scope = item
    while not scope.is_module and name not in scope.members:
        scope = scope.parent
    if not scope.is_module:
        found = scope.members[name]
    else:
        first, *rest = name.split(".")
        try:
            found = item.modules_collection[first if first == item.package.name else item.resolve(first)]
        except griffe.NameResolutionError:
            return name
        for part in rest:
            if part not in found.all_members:
                return name
            found = found.all_members[part]
    if found.is_attribute and not found.has_docstring:
        found = found.parent
    return str(found.canonical_path)
