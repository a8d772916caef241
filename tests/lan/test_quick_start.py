"""The quick start on two machines: its two programs, changed as the page says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from ..examples.documents import blocks_of, programs_of
from ..helpers import scaled
from .netns import Lan, Namespace, lan_of

PAGE = "docs/quick_start.rst"

BROKER = """
import sys
from miros_rabbitmq import LocalBroker
with LocalBroker("{host}", 5672, user="robot", password="rabbit"):
    print("ready", flush=True)
    sys.stdin.read()
"""


def changed(name: str) -> str:
    """A program for two machines: with the constructor that the page has for them."""
    chart = name.removesuffix(".py")
    constructor = next(
        block.code
        for block in blocks_of(PAGE)
        if not block.program and block.code.lstrip().startswith(f"{chart} = ")
    )
    code, count = re.subn(
        rf"^{chart} = \w+\(\n(?: .*\n)+\)\n",
        lambda _: constructor.lstrip(),
        programs_of(PAGE)[name].code,
        flags=re.MULTILINE,
    )
    assert count == 1
    assert "127.0.0.2" not in code
    return code


def start_broker(machine: Namespace, host: str) -> None:
    broker = machine.start(BROKER.format(host=host))
    assert broker.stdout is not None
    assert broker.stdout.readline() == "ready\n", broker.communicate()


@pytest.mark.usefixtures("rabbitmq_installed")
def test_the_switch_of_one_machine_toggles_the_lamp_of_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONUNBUFFERED", "1")
    with lan_of("192.168.1.0/24") as lan:
        lines = lines_of_lamp(lan, tmp_path)
    assert any("[switch] e->start_at() top->waiting" in line for line in lines)
    assert "[lamp] e->TOGGLE() dark->bright" in lines[-1]


def lines_of_lamp(lan: Lan, folder: Path) -> list[str]:
    """What the lamp prints until it is toggled; both machines share the folder with the key."""
    (folder / "mesh.key").write_bytes(Fernet.generate_key())
    machines = lan.host(71), lan.host(72)
    for number, machine in zip((71, 72), machines, strict=True):
        start_broker(machine, lan.address(number))
    lamp = machines[0].start(changed("lamp.py"), folder=folder)
    assert lamp.stdout is not None
    lines = [lamp.stdout.readline()]
    assert "[lamp] e->start_at() top->dark" in lines[0], lamp.communicate(timeout=scaled(25))
    machines[1].start(changed("switch.py"), folder=folder)
    while "e->TOGGLE()" not in lines[-1]:
        lines.append(lamp.stdout.readline())
        assert lines[-1], lamp.communicate(timeout=scaled(25))
    return lines
