"""One machine that answers for nearly a whole LAN, and says at each address that it is RabbitMQ."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from ..helpers import scaled
from .netns import Lan, Namespace, lan_of
from .test_membership import BROKER, StartNode, start_node

__all__ = ["start_node"]

RANGES = "10.66.7.16/28", "10.66.7.32/27", "10.66.7.64/26", "10.66.7.128/25"
"""From 16 on: 239 addresses besides those of the honest hosts."""

DESCRIPTORS = 1_024

SCRIPT = """
from tests.broker.impostors import main
main({manner!r}, "0.0.0.0")
"""


class Siege(NamedTuple):
    """Two machines with a broker each, and one that answers for all other addresses."""

    lan: Lan
    here: Namespace
    there: Namespace
    attacker: Namespace


@pytest.fixture(scope="module")
def besieged(rabbitmq_installed: None) -> Iterator[Siege]:
    with lan_of("10.66.7.0/24") as lan:
        here, there, attacker = (lan.host(number) for number in (1, 2, 3))
        for one in RANGES:
            attacker.ip("route", "add", "local", one, "dev", "lo")
        brokers = [
            machine.start(BROKER.format(host=lan.address(number), password="rabbit", config={}))
            for number, machine in ((1, here), (2, there))
        ]
        for broker in brokers:
            assert broker.stdout is not None
            assert broker.stdout.readline() == "ready\n", broker.communicate()
        yield Siege(lan, here, there, attacker)
        for broker in brokers:
            assert broker.stdin is not None
            broker.stdin.close()  # which ends it
        for broker in brokers:
            broker.wait(scaled(25))


@pytest.mark.parametrize("manner", ["MUTE", "TAKES"])
def test_two_honest_nodes_find_each_other_beside_one_that_answers_for_all(
    manner: str, besieged: Siege, start_node: StartNode, tmp_path: Path
) -> None:
    lan, here, there, attacker = besieged
    impostors = attacker.start(SCRIPT.format(manner=manner))
    assert impostors.stdout is not None
    assert impostors.stdout.readline() == "ready\n"
    try:
        nodes = [
            start_node(
                machine,
                name,
                descriptors=DESCRIPTORS,
                trial_s=5.0,
                time_out_in_minutes=0,
                rescan_interval=15.0,
            )
            for machine, name in ((here, "here"), (there, "there"))
        ]
        for node in nodes:
            node.started()
        own = [f"{lan.address(number)}:5672" for number in (1, 2)]
        for node, other in zip(nodes, reversed(own), strict=True):
            node.do("wait_for_member", other, 150)
        # They have heard each other's announcements by now, and stay.
        nodes[0].do("sleep", 12)
        for node, other in zip(nodes, reversed(own), strict=True):
            node.do("wait_for_member", other, 5)
        for node in nodes:
            node.do("transmit", "HELLO", 100)
        for node in nodes:
            assert node.do("wait_for_heard", "HELLO", 100) == list(range(100))
        for node in nodes:
            holdings = node.do("holdings")
            assert holdings["known"] > 200, "there are impostors indeed"
            assert holdings["members"] <= 1 + 64
            assert holdings["threads"] <= 16
            assert holdings["descriptors"] <= 64 + 40
            assert node.do("open_files", DESCRIPTORS // 2) == DESCRIPTORS // 2
            (said,) = node.do("log", "Limits.lan_peers")[:1]
            assert "brokers found on the LAN are left out" in said
    finally:
        impostors.terminate()
        impostors.communicate(timeout=scaled(25))
