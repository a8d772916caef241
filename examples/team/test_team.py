"""The team at a real RabbitMQ: a private one, which these tests share."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from typing import Any

import base
import pytest
import robot
from cryptography.fernet import Fernet
from miros import Event

from miros_rabbitmq import LocalBroker, NetworkedActiveObject

TIMEOUT_S = 20  # for a busy machine; nobody waits for it while all is well


@pytest.fixture(scope="module")
def network() -> Iterator[dict[str, Any]]:
    with LocalBroker("127.0.0.2") as broker:
        yield {
            "rabbit_user": broker.user,
            "rabbit_password": broker.password,
            "mesh_encryption_key": Fernet.generate_key(),
            "rabbit_host": broker.host,
            "rabbit_port": broker.port,
            "addresses": [],
        }


def test_a_robot_hears_what_is_for_it_and_for_all_and_nothing_else(network: dict[str, Any]) -> None:
    heard: queue.Queue[str] = queue.Queue()
    with (
        NetworkedActiveObject("all", tx_routing_key="to.wren.finch", **network) as to_all,
        NetworkedActiveObject("line", tx_routing_key="to.finch", **network) as to_finch,
        robot.Robot("wren", **network, on_mesh_rx=lambda e: heard.put(e.signal_name)) as wren,
        robot.Robot("finch", **network) as finch,
    ):
        for chart in (to_all, to_finch):
            chart.start_at(base.speaking)
        for chart in (wren, finch):
            chart.start_at(robot.free)
        to_finch.transmit(Event(signal="ORDER", payload=7))
        to_finch.nets.flush(TIMEOUT_S)
        to_all.transmit(Event(signal="HALT"))
        assert heard.get(timeout=TIMEOUT_S) == "HALT"


def test_every_order_is_done_once(network: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name, value in (
        (base, "BETWEEN_CUSTOMERS_S", 0.02),
        (base, "CALM_S", 0.2),
        (base, "CAT_S", 0.1),
        (robot, "S_PER_METRE", 0.005),
        (robot, "LOADING_S", 0.01),
    ):
        monkeypatch.setattr(module, name, value)
    team = ["wren", "finch"]
    with (
        base.Base(team, 20, **network) as the_base,
        the_base.lines[0],
        the_base.lines[1],
        robot.Robot("wren", **network) as wren,
        robot.Robot("finch", **network) as finch,
    ):
        for line in the_base.lines:
            line.start_at(base.speaking)
        the_base.start_at(base.gathering)  # it may be first: it calls the roll until all are there
        wren.start_at(robot.free)
        finch.start_at(robot.free)
        assert the_base.has_finished.wait(TIMEOUT_S), the_base.trace()
        mesh = the_base.nets.stats().mesh
    assert the_base.done.total() == 20
    assert mesh.gaps == 0
    assert "e->CAT() calm->alarm" in str(the_base.trace())
