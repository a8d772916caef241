"""Imports between the subpackages only point down, and only one subpackage knows pika.

The order is that of ``docs/architecture.rst``. The syntax trees are walked, so that an import
inside of a function, or for type checkers alone, counts like any other.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import miros_rabbitmq

PACKAGE = Path(miros_rabbitmq.__file__).parent

ROOF = {"", "network", "testing"}
"""Modules of the root that are made for users; all others there are the foundation."""

MAY_IMPORT = {
    "wire": set(),
    "delivery": set(),
    "discovery": set(),
    "broker": set(),
    "amqp": {"wire", "delivery"},
    "nets": {"amqp", "wire", "delivery", "discovery"},
    "chart": {"nets", "amqp", "wire", "delivery", "discovery"},
    "roof": {"chart", "nets", "amqp", "wire", "delivery", "discovery", "broker"},
    "root": set(),
}
"""What each subpackage may import besides itself and the modules of the root."""

MAY_IMPORT_PIKA = {"amqp", "discovery.handshake"}


def modules() -> Iterator[tuple[str, ast.Module]]:
    """Every module by its dotted name within the package, and its syntax tree."""
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        name = ".".join(part for part in parts if part != "__init__")
        yield name, ast.parse(path.read_text(encoding="utf-8"))


def imported(name: str, is_package: bool, tree: ast.Module) -> Iterator[str]:
    """What a module imports: dotted names; of this package, a dot and the rest."""
    home = name.split(".") if name else []
    if not is_package:
        home = home[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield own_or_foreign(alias.name)
        elif isinstance(node, ast.ImportFrom) and node.level:
            base = home[: len(home) - (node.level - 1)]
            for alias in node.names:
                target = [*base, *(node.module or "").split(".")] if node.module else base
                # ``from . import x`` names a module, ``from .x import y`` something in it.
                yield "." + ".".join(target if node.module else [*target, alias.name])
        elif isinstance(node, ast.ImportFrom):
            yield own_or_foreign(node.module or "")


def own_or_foreign(name: str) -> str:
    top, _, rest = name.partition(".")
    return f".{rest}" if top == PACKAGE.name else name


def floor_of(name: str) -> str:
    top = name.partition(".")[0]
    if (PACKAGE / top).is_dir() and top:
        return top
    return "roof" if name in ROOF else "root"


ALL = [
    (name, sorted(set(imported(name, (PACKAGE / name.replace(".", "/")).is_dir(), tree))))
    for name, tree in modules()
]


@pytest.mark.parametrize(("name", "imports"), ALL, ids=[name or "__init__" for name, _ in ALL])
def test_imports_point_down(name: str, imports: list[str]) -> None:
    floor = floor_of(name)
    allowed = MAY_IMPORT[floor] | {floor, "root"}
    upwards = [
        each for each in imports if each.startswith(".") and floor_of(each[1:]) not in allowed
    ]
    assert not upwards, f"{name or '__init__'} ({floor}) may import {sorted(allowed)} only"


@pytest.mark.parametrize(("name", "imports"), ALL, ids=[name or "__init__" for name, _ in ALL])
def test_pika_is_known_to_amqp_and_the_handshake_only(name: str, imports: list[str]) -> None:
    uses_pika = any(each.split(".")[0] == "pika" for each in imports)
    assert not uses_pika or name in MAY_IMPORT_PIKA or floor_of(name) in MAY_IMPORT_PIKA


def test_no_imports_form_a_circle() -> None:
    graph = {name: {each[1:] for each in imports if each.startswith(".")} for name, imports in ALL}
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, "a circle: " + " -> ".join([*path[path.index(name) :], name])
        if name in done:
            return
        for each in graph.get(name, ()):
            # A subpackage's __init__ is prose only, so that importing it imports nothing else.
            if each in graph and each != name:
                visit(each, (*path, name))
        done.add(name)

    for name in graph:
        visit(name, ())


def test_every_subpackage_says_what_it_is_for() -> None:
    for name, tree in modules():
        if (PACKAGE / name).is_dir() and name:
            text = ast.get_docstring(tree) or ""
            assert len(text) > 200, f"{name}/__init__.py says what {name} is for, in a paragraph"
            assert len(tree.body) == 1, (
                f"{name}/__init__.py is prose: names are imported from modules"
            )
