"""The public names: all are there, and few are imported before somebody asks for them."""

from __future__ import annotations

import ast
import inspect
import json
import os
import pickle
import pydoc
import subprocess
import sys
from pathlib import Path

import pytest

import miros_rabbitmq

ROOT = Path(miros_rabbitmq.__file__).parent.parent

KEY = "u3Uc-qAi9iiCv3fkBfRUAKrM1gH8w51-nVU8M8A73Jg="

MAKE = f"""
from miros_rabbitmq import NetworkedActiveObject
chart = NetworkedActiveObject(
    "rests", "robot", "rabbit", {KEY!r}, addresses=["127.0.0.1"], rabbit_host="127.0.0.1"
)
"""


def loaded_after(program: str) -> set[str]:
    """The modules that a new process has after a program."""
    tail = "\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    return set(json.loads(printed_by(program + tail).splitlines()[-1]))


def printed_by(program: str) -> str:
    ended = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def imported_by_root() -> dict[str, str]:
    """The module of each public name, as the imports that type checkers see have it."""
    tree = ast.parse(Path(miros_rabbitmq.__file__).read_text(encoding="utf-8"))
    return {
        alias.name: f"miros_rabbitmq.{node.module}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.level
        for alias in node.names
    }


@pytest.mark.parametrize("name", sorted(set(miros_rabbitmq.__all__) - {"__version__"}))
def test_a_public_name_is_what_type_checkers_take_it_for(name: str) -> None:
    module = imported_by_root()[name]
    assert getattr(miros_rabbitmq, name) is getattr(sys.modules[module], name)


def test_type_checkers_see_no_name_that_is_not_public() -> None:
    assert set(imported_by_root()) == set(miros_rabbitmq.__all__) - {"__version__"}


def test_all_names_are_found_by_a_star_a_listing_and_the_help() -> None:
    printed = printed_by(
        "import miros_rabbitmq\nassert set(miros_rabbitmq.__all__) <= set(dir(miros_rabbitmq))\n"
        "from miros_rabbitmq import *\nfor name in miros_rabbitmq.__all__: eval(name)\n"
        "print(LocalBroker.__name__)"
    )
    assert printed == "LocalBroker\n"
    members = {name for name, _ in inspect.getmembers(miros_rabbitmq)}
    assert set(miros_rabbitmq.__all__) <= members
    assert "class RabbitScout" in pydoc.plain(pydoc.render_doc(miros_rabbitmq))


def test_a_record_that_was_pickled_is_read_by_a_process_that_has_not_asked_for_its_class() -> None:
    peer = pickle.dumps(miros_rabbitmq.Queue("robots"))
    program = f"import miros_rabbitmq, pickle\nprint(pickle.loads({peer!r}).name)"
    assert printed_by(program) == "robots\n"


def test_a_misspelt_name_is_refused_as_of_any_module() -> None:
    with pytest.raises(AttributeError, match="'miros_rabbitmq' has no attribute 'RabbitScoot'"):
        _ = miros_rabbitmq.RabbitScoot  # type: ignore[attr-defined]
    with pytest.raises(ImportError, match="cannot import name 'RabbitScoot'"):
        from miros_rabbitmq import RabbitScoot  # type: ignore[attr-defined]  # noqa: F401


def test_the_package_alone_imports_no_chart_and_no_network() -> None:
    loaded = loaded_after("import miros_rabbitmq\nfrom miros_rabbitmq import Limits, BrokerError")
    heavy = ("amqp", "broker", "chart", "delivery", "discovery", "nets", "wire")
    names = tuple(f"miros_rabbitmq.{name}" for name in heavy)
    assert not [name for name in loaded if name.startswith(names)]


def test_whoever_has_the_class_has_all_that_a_chart_needs() -> None:
    """It may have given up its rights, or its root folder, before it makes a chart."""
    before = loaded_after("from miros_rabbitmq import NetworkedActiveObject")
    assert not {name for name in loaded_after(MAKE) - before if name.startswith("miros_rabbitmq")}


def test_a_chart_does_without_what_only_other_programs_use() -> None:
    loaded = loaded_after(MAKE) - loaded_after("import miros, pika, cryptography.fernet, pathlib")
    assert "miros_rabbitmq.nets.nets" in loaded
    ours = {f"miros_rabbitmq.{name}" for name in ("amqp.publisher", "broker", "wire.json_codec")}
    assert not loaded & ours
