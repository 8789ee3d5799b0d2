"""All references in docstrings resolve: functions, classes, methods, data and modules."""

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import omidbfs

PACKAGE = Path(omidbfs.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
REFERENCE = re.compile(r":(?:attr|class|data|exc|func|meth|mod|obj):`~?([^`]*)`")


def references(node: ast.AST, outer: str = "") -> Iterator[tuple[str, str, int]]:
    """Yield name, class around it, and line of all references in the texts of a module that stand alone."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant):
            for name in REFERENCE.findall(str(child.value.value)):
                yield name, outer, child.lineno
        yield from references(child, child.name if isinstance(child, ast.ClassDef) else outer)


def bound(tree: ast.Module) -> set[str]:
    """Return the names that a module imports or assigns anywhere, also for its annotations alone."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            names |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
    return names


def exists(module: str, name: str, outer: str, names: set[str]) -> bool:
    if name.startswith("omidbfs."):
        return has(*name.split("."))
    path = name.split(".")
    return name in names or any(has(*module.split("."), *inside, *path) for inside in ([outer], []))


def has(*path: str) -> bool:
    """Return whether a path of packages, modules and attributes exists."""
    for end in range(len(path), 0, -1):
        try:
            found: object = importlib.import_module(".".join(path[:end]))
        except ModuleNotFoundError:
            continue
        for attribute in path[end:]:
            if not hasattr(found, attribute):
                return False
            found = getattr(found, attribute)
        return True
    return False


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_every_reference_of_a_docstring_exists(path: Path) -> None:
    module = ".".join(("omidbfs", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")
    tree = ast.parse(path.read_text())
    names = bound(tree)
    dangling = [
        f"{path.name}:{line}: {name}"
        for name, outer, line in references(tree)
        if not exists(module, name, outer, names)
    ]
    assert dangling == []
