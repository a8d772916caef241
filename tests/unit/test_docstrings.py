"""The docstrings of the public names say what the API reference needs, and it has each name once.

Each argument has a line in ``Args:``, each field of a record an own docstring or a line in
``Attributes:``, and the pages in docs/api name what `miros_rabbitmq` gives to its users.
"""

from __future__ import annotations

import ast
import dataclasses
import enum
import inspect
import itertools
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import miros_rabbitmq

API = Path(__file__).parents[2] / "docs" / "api"

FOR_THIS_PACKAGE = {
    "LocalAreaNetwork": {"here", "networks", "interface"},
    "LocalBroker": {"ask_to_end", "end", "disown"},
    "MirosNets": {"look_soon", "stop_receiving", "snoops", "node", "failures"},
    "NetworkStats": {"closed"},
    "PikaTopicPublisher": {"disown"},
    "RabbitScout": {"ask", "has_broker", "empty_places"},
    "AmqpUrl": {"parts"},
    "Codec": {"keyring"},
    "NetworkedActiveObject": {"run_event"},
    "NetworkedFactory": {"run_event"},
    "Settings": {"url"},
}
"""Public by their names, but not for users: the reference leaves them out."""


def public() -> Iterator[tuple[str, Any]]:
    for name in miros_rabbitmq.__all__:
        yield name, getattr(miros_rabbitmq, name)


def is_record(found: Any) -> bool:
    return dataclasses.is_dataclass(found) or hasattr(found, "_fields")


def own_methods(name: str, found: Any) -> Iterator[tuple[str, Any]]:
    """The methods that this package adds to a class."""
    for each in vars_of(found):
        member = inspect.getattr_static(found, each)
        member = getattr(member, "__func__", member)
        if inspect.isfunction(member) and each not in FOR_THIS_PACKAGE.get(name, ()):
            yield f"{name}.{each}", member


def vars_of(found: Any) -> list[str]:
    ours = [base for base in found.__mro__ if base.__module__.startswith("miros_rabbitmq")]
    return sorted({each for base in ours for each in vars(base) if not each.startswith("_")})


def callables() -> Iterator[tuple[str, Any, str]]:
    """Whatever is called by users: its name, itself, and its docstring."""
    for name, found in public():
        if inspect.isfunction(found):
            yield name, found, inspect.getdoc(found) or ""
        if inspect.isclass(found):
            is_error = issubclass(found, Exception)  # most have the arguments of their base
            is_plain = not is_record(found) and not issubclass(found, enum.Enum)
            if is_plain and ("__init__" in vars(found) or not is_error):
                yield name, found, inspect.getdoc(found) or ""
            for full, method in own_methods(name, found):
                yield full, method, inspect.getdoc(method) or ""


def section(docstring: str, title: str) -> str:
    found = re.search(rf"^{title}:\n((?:    .*\n|\n)+)", docstring + "\n", re.MULTILINE)
    return found[1] if found else ""


@pytest.mark.parametrize(
    ("name", "found", "text"), [pytest.param(*each, id=each[0]) for each in callables()]
)
def test_every_argument_has_a_line(name: str, found: Any, text: str) -> None:
    arguments = [each for each in inspect.signature(found).parameters if each != "self"]
    told = re.findall(r"^    \**(\w+): \S", section(text, "Args"), re.MULTILINE)
    assert sorted(told) == sorted(arguments), name


def records() -> Iterator[tuple[str, Any]]:
    return (
        (name, found) for name, found in public() if inspect.isclass(found) and is_record(found)
    )


@pytest.mark.parametrize(("name", "found"), [pytest.param(*each, id=each[0]) for each in records()])
def test_every_field_of_a_record_is_described(name: str, found: Any) -> None:
    if dataclasses.is_dataclass(found):
        names = [item.name for item in dataclasses.fields(found) if item.init]
    else:
        names = list(found._fields)
    text = inspect.getdoc(found) or ""
    told = set(
        re.findall(
            r"^    (\w+): \S", section(text, "Args") + section(text, "Attributes"), re.MULTILINE
        )
    )
    told |= described_in_the_source(found)
    assert not set(names) - told, name


def described_in_the_source(found: Any) -> set[str]:
    """The fields behind which a docstring stands."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(found)))
    body = next(node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)).body
    return {
        item.target.id
        for item, after in itertools.pairwise(body)
        if isinstance(item, ast.AnnAssign)
        and isinstance(item.target, ast.Name)
        and isinstance(after, ast.Expr)
        and isinstance(after.value, ast.Constant)
        and isinstance(after.value.value, str)
    }


def test_every_public_name_has_a_docstring() -> None:
    for name, found in public():
        if inspect.isclass(found):
            assert "__doc__" in vars(found), name
            assert (found.__doc__ or "").strip(), name
    for name, _, text in callables():
        assert text, name


def test_the_reference_has_every_public_name_once_and_no_other() -> None:
    pages = "".join(page.read_text(encoding="utf-8") for page in sorted(API.glob("*.rst")))
    told = re.findall(r"^\.\. auto(?:class|exception|function|data):: (\S+)$", pages, re.MULTILINE)
    assert sorted(told) == sorted(f"miros_rabbitmq.{name}" for name in miros_rabbitmq.__all__)


def test_the_reference_leaves_out_only_what_is_not_for_users() -> None:
    pages = "".join(page.read_text(encoding="utf-8") for page in API.glob("*.rst"))
    for name, left_out in FOR_THIS_PACKAGE.items():
        block = pages.partition(f":: miros_rabbitmq.{name}\n")[2].partition("\n\n")[0]
        line = re.search(r":exclude-members: (.+)", block)
        assert not line or set(line[1].split(", ")) <= left_out, name
