"""The program of "docs/reflection.rst" prints what the page says, and its pieces of code run."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import miros
import pytest
from cryptography.fernet import Fernet

from miros_rabbitmq import LocalBroker, NetworkedActiveObject

from ..helpers import complaints, scaled, wait_until
from .documents import ROOT, blocks_of, other_blocks_of, programs_of

PAGE = "docs/reflection.rst"
TIME = re.compile(r"\[[-0-9]{10} [0-9:.]{15}\]")

pytestmark = pytest.mark.usefixtures("rabbitmq_installed")


@miros.spy_on
def listening(chart: Any, e: miros.Event) -> Any:
    chart.temp.fun = chart.top
    return miros.return_status.SUPER


def shown(command: str) -> str:
    (printed,) = [
        rest
        for first, _, rest in (block.partition("\n") for block in other_blocks_of(PAGE, "console"))
        if first == f"$ {command}"
    ]
    return printed


def test_the_watched_lamp_prints_what_the_page_says(tmp_path: Path) -> None:
    (block,) = programs_of(PAGE).values()
    (tmp_path / block.program).write_text(block.code, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, block.program],
        env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)},
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=scaled(60),
        check=False,
    )
    assert (done.returncode, complaints(done.stderr)) == (0, "")
    assert TIME.sub("", done.stdout).split() == TIME.sub("", shown("python watched.py")).split()


@pytest.fixture
def chart(broker_a: LocalBroker) -> Iterator[NetworkedActiveObject]:
    chart = NetworkedActiveObject(
        "lamp",
        broker_a.user,
        broker_a.password,
        Fernet.generate_key(),
        rx_routing_key="lamps.of.this.page",
        rabbit_host=broker_a.host,
        rabbit_port=broker_a.port,
        addresses=[],
    )
    level = logging.getLogger("miros_rabbitmq").level
    with chart:
        chart.start_at(listening)
        yield chart
    logging.getLogger("miros_rabbitmq").setLevel(level)


def test_the_pieces_of_code_run_and_name_the_queue_and_the_connections(
    chart: NetworkedActiveObject, broker_a: LocalBroker, capsys: pytest.CaptureFixture[str]
) -> None:
    for block in blocks_of(PAGE):
        if not block.program:
            exec(block.code, {"chart": chart})  # noqa: S102  # our own text
    printed = capsys.readouterr().out
    assert "0 transmitted, 0 received, 0 never came" in printed
    assert f"{broker_a.address} ready keeps up 0 waiting" in printed
    queue, connection = re.findall(r"^lamp listens at (\S+) by (\S+)$", printed, re.MULTILINE)[0]
    bindings = broker_a.ctl("list_bindings", "source_name", "destination_name", "routing_key")
    assert f"miros.mesh\t{queue}\tlamps.of.this.page" in bindings
    assert f"miros.mesh\t{queue}\tmiros.listener" in bindings
    published = re.findall(r"^publishes to \S+ by (miros-\w+)$", printed, re.MULTILINE)
    known = broker_a.ctl("list_connections", "client_properties")
    for name in (connection, *published):
        assert name in known


def test_the_commands_of_the_page_show_such_names(
    chart: NetworkedActiveObject, broker_a: LocalBroker
) -> None:
    chart.enable_snoop_trace()
    wait_until(lambda: chart.nets.stats().snoop_trace.queue)
    for block in other_blocks_of(PAGE, "console"):
        command, _, printed = block.partition("\n")
        if "rabbitmqctl list" not in command:
            continue
        listed = broker_a.ctl(*command.split("rabbitmqctl ")[1].split()).splitlines()
        shapes = {shape(line) for line in listed}
        for line in printed.splitlines():
            assert line == "..." or shape(line) in shapes, (command, line)


def shape(line: str) -> str:
    """A line without what is random, or of the user's."""
    line = re.sub(r"(miros\.|amq\.gen-)[\w-]{22}", r"\1", line)
    line = re.sub(r"^\w+(?=\t\d+\.\d+\.\d+\.\d+\t)", "user", line)
    return re.sub(r"\t(?:from|to|lamps)\.\S+$", "\tkey", line)
