"""Which subpackages of the package import which, read from its syntax trees."""

from __future__ import annotations

import ast
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "miros_rabbitmq"

_ROOF = {"__init__", "network", "testing"}


def imports_between() -> dict[str, set[str]]:
    """What each subpackage imports of the others; ``roof`` and ``root`` are modules beside them."""
    edges: dict[str, set[str]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        floor = floor_of(path.relative_to(PACKAGE).with_suffix("").parts)
        found = edges.setdefault(floor, set())
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.level:
                home = path.relative_to(PACKAGE).parts[: -node.level]
                parts = (*home, *(node.module.split(".") if node.module else ()))
                for name in [node.module] if node.module else [one.name for one in node.names]:
                    target = parts if node.module else (*parts, str(name))
                    found.add(floor_of(target))
        found.discard(floor)
    return edges


def floor_of(parts: tuple[str, ...]) -> str:
    """Where a module belongs, by the parts of its path."""
    if parts and (PACKAGE / parts[0]).is_dir():
        return parts[0]
    return "roof" if not parts or parts[0] in _ROOF else "root"


def direct(edges: dict[str, set[str]]) -> dict[str, set[str]]:
    """Only what no other import leads to as well."""
    reach = {floor: _reached(floor, edges) for floor in edges}
    return {
        floor: {one for one in targets if not any(one in reach[other] for other in targets - {one})}
        for floor, targets in edges.items()
    }


def _reached(floor: str, edges: dict[str, set[str]]) -> set[str]:
    found: set[str] = set()
    waiting = [floor]
    while waiting:
        new = edges.get(waiting.pop(), set()) - found
        found |= new
        waiting += new
    return found
