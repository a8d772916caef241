"""Charts on machines of a local network find each other, and notice who comes and goes."""

from __future__ import annotations

import contextlib
import json
import select
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet

from miros_rabbitmq.discovery.hosts_file import HOSTS_FILE_NAME
from miros_rabbitmq.discovery.lan_cache import CACHE_FILE_NAME

from ..helpers import scaled, wait_until
from .netns import Lan, Namespace, lan_of
from .node import Node

KEY = Fernet.generate_key().decode()

RESCAN_S = 2.0

SWEEP_S = 2.0
"""What a sweep of a /24 takes at most."""

BROKER = """
from miros_rabbitmq.broker.local_broker import LocalBroker
import sys
with LocalBroker("{host}", 5672, user="peter", password="{password}", config={config}):
    print("ready", flush=True)
    sys.stdin.read()
"""


class Town:
    """A network with a broker on each of three machines, and a fourth machine without one."""

    def __init__(self, lan: Lan) -> None:
        self.lan = lan
        self.here, self.there, self.stranger, self.bare = (lan.host(n) for n in (1, 2, 3, 4))
        # A second address for the broker there, which the machine does not have yet.
        later = f"{lan.address(77)}/{lan.network.prefixlen}"
        self.there.ip("address", "add", later, "dev", "eth0")
        other = {"listeners.tcp.later": f"{lan.address(77)}:5672"}
        self._brokers = [
            self._broker(self.here, 1, "rabbit"),
            self._broker(self.there, 2, "rabbit", other),
            self._broker(self.stranger, 3, "carrot"),
        ]
        for broker in self._brokers:
            assert broker.stdout is not None
            assert broker.stdout.readline() == "ready\n", broker.communicate()
        self.there.ip("address", "delete", later, "dev", "eth0")

    def at(self, number: int) -> str:
        """A broker, as charts write it."""
        return f"{self.lan.address(number)}:5672"

    def move(self, machine: Namespace, before: int, after: int) -> None:
        """Give a machine another address."""
        prefix = self.lan.network.prefixlen
        machine.ip("address", "delete", f"{self.lan.address(before)}/{prefix}", "dev", "eth0")
        machine.ip("address", "add", f"{self.lan.address(after)}/{prefix}", "dev", "eth0")

    def _broker(
        self, machine: Namespace, number: int, password: str, config: dict[str, str] | None = None
    ) -> subprocess.Popen[str]:
        host = self.lan.address(number)
        return machine.start(BROKER.format(host=host, password=password, config=config or {}))

    def close(self) -> None:
        for broker in self._brokers:
            assert broker.stdin is not None
            broker.stdin.close()  # which ends it
        for broker in self._brokers:
            broker.wait(scaled(25))


@pytest.fixture(scope="module")
def town(rabbitmq_installed: None) -> Iterator[Town]:
    with lan_of("172.16.40.0/24") as lan:
        made = Town(lan)
        yield made
        made.close()


StartNode = Callable[..., Node]


@pytest.fixture
def start_node(tmp_path: Path) -> Iterator[StartNode]:
    """Start charts, each in a folder of its own name; all are stopped after the test."""
    with contextlib.ExitStack() as stack:

        def start(machine: Namespace, name: str, **arguments: Any) -> Node:
            folder = tmp_path / name
            folder.mkdir(exist_ok=True)
            node = Node(
                machine,
                name,
                folder,
                rabbit_user="peter",
                rabbit_password="rabbit",
                mesh_encryption_key=KEY,
                **arguments,
            )
            stack.callback(node.stop)
            return node

        yield start


def test_two_charts_that_are_told_no_addresses_find_each_other_and_exchange_events(
    town: Town, start_node: StartNode, tmp_path: Path
) -> None:
    here, there = start_node(town.here, "here"), start_node(town.there, "there")
    for node in (here, there):
        node.started()
    here.wait_for_peers(town.at(2))
    there.wait_for_peers(town.at(1))

    here.do("transmit", "PING", 100)
    assert there.do("wait_for_heard", "PING", 100) == list(range(100))
    there.do("transmit", "PONG", 100)
    assert here.do("wait_for_heard", "PONG", 100) == list(range(100))

    assert here.peers() == {
        town.at(1): ["OWN", "PRESENT", "CONNECTED"],
        town.at(2): ["LAN", "PRESENT", "CONNECTED"],
        town.at(3): ["LAN", "UNUSABLE", "ACCESS_REFUSED"],
    }
    here.do("wait_for_changes", [town.at(2)], [])
    stats = {"gaps": 0, "duplicates": 0, "received": 100, "rejected": 0, "forgotten": 0}
    assert here.do("stats") == there.do("stats") == stats
    cached = json.loads((tmp_path / "here" / CACHE_FILE_NAME).read_text())
    assert cached["addresses"] == [town.at(2)]
    assert set(cached) == {"addresses", "time"}


def test_with_a_fresh_cache_a_chart_connects_at_once_and_verifies_it_in_the_background(
    town: Town, start_node: StartNode, tmp_path: Path
) -> None:
    first = start_node(town.here, "here")
    with_sweep_s = first.started()["took"]
    assert with_sweep_s > 1.2
    first.wait_for_peers(town.at(2))
    first.stop()
    cache = tmp_path / "here" / CACHE_FILE_NAME
    content = json.loads(cache.read_text())
    content["addresses"].append("10.99.99.99:5672")  # of the network this machine was on before
    cache.write_text(json.dumps(content))

    again = start_node(town.here, "here")
    assert again.started()["took"] < max(scaled(1.0), with_sweep_s - 0.3)
    assert town.at(2) in again.peers()
    again.wait_for_peers(town.at(2))
    again.do("wait_for_source", town.at(2), "LAN")
    again.do("wait_for_changes", [town.at(2)], [])


def test_a_host_that_appears_after_the_start_is_found_within_one_rescan_interval(
    town: Town, start_node: StartNode
) -> None:
    town.there.ip("link", "set", "eth0", "down")
    here = start_node(town.here, "here", rescan_interval=RESCAN_S)
    here.started()
    assert town.at(2) not in here.peers()
    town.there.ip("link", "set", "eth0", "up")
    took = here.wait_for_peers(town.at(2))
    assert took < scaled(RESCAN_S + SWEEP_S + 6), "and not after the 60 s of the default"


def test_a_host_that_goes_and_returns_under_another_address_is_followed(
    town: Town, start_node: StartNode
) -> None:
    # The loss of a host is noticed soon, and the stop does not wait for it.
    limits = {"heartbeat_s": 2, "stop_timeout_s": 0.5}
    here = start_node(town.here, "here", rescan_interval=RESCAN_S, forget_after=4, limits=limits)
    here.started()
    here.wait_for_peers(town.at(2))
    town.move(town.there, 2, 77)
    try:
        here.wait_for_peers(town.at(77), timeout=30)
        assert here.do("transmit", "LOST_AND_FOUND", 5) == 5
        here.do("wait_for_removed", town.at(2))
        assert town.at(2) not in here.peers()
        assert here.do("stats")["forgotten"] == 5
    finally:
        town.move(town.there, 77, 2)


def test_a_node_is_found_only_because_it_announced_itself(
    town: Town, start_node: StartNode
) -> None:
    # It listens, and knows no other broker.
    here = start_node(town.here, "here", addresses=[])
    here.started()
    there = start_node(town.there, "there", addresses=[town.at(1)])
    there.started()
    here.wait_for_peers(town.at(2), timeout=20)
    assert here.peers()[town.at(2)] == ["HEARD", "PRESENT", "CONNECTED"]
    here.do("transmit", "THANKS", 3)
    assert there.do("wait_for_heard", "THANKS", 3) == [0, 1, 2]
    assert here.do("stats")["received"] == 0, "the announcement is not an event"


SERVICE = """
import socket, sys, threading
server = socket.create_server(("{host}", 6379))
def accept():
    while True:
        server.accept()
        print("connected", flush=True)
threading.Thread(target=accept, daemon=True).start()
print("ready", flush=True)
sys.stdin.read()
"""


def test_a_stolen_key_sends_nobody_to_other_services_or_elsewhere(
    town: Town, start_node: StartNode, tmp_path: Path
) -> None:
    here = start_node(town.here, "here", addresses=[])
    here.started()  # it listens before the other announces its broker for the first time
    stolen = start_node(town.there, "stolen", addresses=[town.at(1)])
    stolen.started()
    here.wait_for_peers(town.at(2), timeout=20)
    service = town.there.start(SERVICE.format(host=town.lan.address(2)))
    assert service.stdout is not None
    assert service.stdout.readline() == "ready\n"

    def is_said(text: str) -> bool:
        stolen.do("transmit", "HELLO", 1)  # with its events, a node announces its broker
        return bool(here.do("log", text))

    other = f"{town.lan.address(2)}:6379"
    for place in (
        other,
        "169.254.169.254:5672",
        "203.0.113.7:5672",
        "kitchen.example:5672",
        f"{town.lan.network.broadcast_address}:5672",
    ):
        stolen.do("pose", place)
        said = f"a node announces its broker as {place}, which is not used"
        wait_until(partial(is_said, said), 20, said)
    stolen.do("pose", "127.0.0.1:5672")
    wait_until(partial(is_said, "as 127.0.0.1:5672, which leads to no other machine"), 20)
    assert set(here.peers()) == {town.at(1), town.at(2)}

    asked_before = select.select([service.stdout], [], [], 0)[0]
    assert not asked_before, "nobody has connected to it"
    # It is asked if the user names it.
    (tmp_path / "here" / HOSTS_FILE_NAME).write_text(json.dumps({"hosts": [other]}))
    assert service.stdout.readline() == "connected\n"
    with service:  # which ends it
        pass


def test_a_host_written_into_the_hosts_file_is_used_at_once(
    town: Town, start_node: StartNode, tmp_path: Path
) -> None:
    here = start_node(town.here, "here", addresses=[])
    here.started()
    hosts = tmp_path / "here" / HOSTS_FILE_NAME
    hosts.write_text(json.dumps({"hosts": [town.lan.address(2)]}))
    here.wait_for_peers(town.at(2), timeout=20)
    hosts.write_text('{"hosts": []}')
    here.wait_for_peers(timeout=20)
    here.do("wait_for_changes", [town.at(2)], [town.at(2)])
