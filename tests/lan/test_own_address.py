"""The own broker follows this machine's address, and is one broker under all addresses."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet

from ..helpers import scaled
from .netns import Lan, Namespace, lan_of
from .node import Node

KEY = Fernet.generate_key().decode()

BROKER = """
from miros_rabbitmq.broker.local_broker import LocalBroker
import sys
with LocalBroker("{host}", {port}, user="peter", password="rabbit", config={config}):
    print("ready", flush=True)
    sys.stdin.read()
"""

ANY = "0.0.0.0"  # noqa: S104  # of a network namespace of this test

PREFIX = 24

LIMITS = {"stop_timeout_s": 1.0}

LET_GO_S = 12.0
"""A broker lets go of a connection that carries nothing within three heartbeats of 4 s."""

NOTICED_S = 8.0
"""Two looks at the addresses, a round of the search, and the end of the former connection."""


class Street:
    """Two machines with a broker each, which listens at every address that its machine gets."""

    def __init__(self, lan: Lan) -> None:
        self.lan = lan
        self.here, self.there = lan.host(10), lan.host(20)
        self._brokers: list[Any] = []
        for machine in (self.here, self.there):
            self.add_broker(machine, ANY)

    def add_broker(self, machine: Namespace, host: str, port: int = 5672) -> Any:
        broker = machine.start(BROKER.format(host=host, port=port, config={}))
        assert broker.stdout is not None
        assert broker.stdout.readline() == "ready\n", broker.communicate()
        self._brokers.append(broker)
        return broker

    def at(self, number: int) -> str:
        """A broker, as charts write it."""
        return f"{self.lan.address(number)}:5672"

    def add(self, machine: Namespace, number: int, interface: str = "eth0") -> None:
        machine.ip("address", "add", f"{self.lan.address(number)}/{PREFIX}", "dev", interface)

    def delete(self, machine: Namespace, number: int, interface: str = "eth0") -> None:
        machine.ip("address", "delete", f"{self.lan.address(number)}/{PREFIX}", "dev", interface)

    def end(self, *brokers: Any) -> None:
        for broker in brokers:
            self._brokers.remove(broker)
            broker.stdin.close()  # which ends it
        for broker in brokers:
            broker.wait(scaled(25))
            broker.stdout.close()
            broker.stderr.close()

    def close(self) -> None:
        self.end(*self._brokers)


@pytest.fixture(scope="module")
def made_street(rabbitmq_installed: None) -> Iterator[Street]:
    with lan_of("192.168.40.0/24") as lan:
        street = Street(lan)
        yield street
        street.close()


@pytest.fixture
def street(made_street: Street) -> Street:
    """The street; each machine has one address, and an interface that is up."""
    for machine, number in ((made_street.here, 10), (made_street.there, 20)):
        machine.ip("address", "flush", "dev", "eth0")
        machine.ip("link", "set", "eth0", "up")
        made_street.add(machine, number)
    return made_street


StartNode = Callable[..., Node]


@pytest.fixture
def start_node(tmp_path: Path) -> Iterator[StartNode]:
    """Start charts, each in a folder of its own name; all are stopped after the test."""
    with contextlib.ExitStack() as stack:

        def start(machine: Namespace, name: str, **arguments: Any) -> Node:
            folder = tmp_path / name
            folder.mkdir(exist_ok=True)
            arguments = {"limits": LIMITS, "rescan_interval": 60.0, **arguments}
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


def test_an_address_that_changes_takes_the_own_broker_along(
    street: Street, start_node: StartNode
) -> None:
    there = start_node(street.there, "there", addresses=[])
    there.started()
    here = start_node(street.here, "here", addresses=[street.lan.address(20)])
    beside = start_node(street.here, "beside", addresses=[], accept_unknown_peers=False)
    for node in (here, beside):
        node.started()
    there.wait_for_peers(street.at(10))
    here.do("transmit", "BEFORE", 3)
    for node in (there, beside):
        assert node.do("wait_for_heard", "BEFORE", 3) == [0, 1, 2]
    queue = here.do("own")["queue"]

    here.do("begin_to_talk", "MEANWHILE")
    there.do("begin_to_talk", "TO IT")
    street.delete(street.here, 10)
    street.add(street.here, 11)
    # Others are told soon: nobody waits until connections from the former address time out.
    there.do("wait_for_source", street.at(11), "HEARD")
    for node in (here, beside):
        assert node.do("wait_for_own", street.at(11)) < scaled(NOTICED_S + LET_GO_S)
    # The same broker: what waited there in between has not been lost, nor come twice.
    own = here.do("own")
    assert own["queue"] == queue
    assert own["publishers"] == [street.at(11), street.at(20)]
    assert [*here.peers()] == [street.at(11), street.at(20)]
    there.wait_for_peers(street.at(11), timeout=scaled(25))
    count = here.do("be_quiet")
    for node in (there, beside):
        assert node.do("wait_for_heard", "MEANWHILE", count) == list(range(count))
    (line,) = here.do("log", "the address of this machine is now")
    assert f"{street.lan.address(11)} (eth0), and was {street.lan.address(10)}" in line
    assert here.do("log", "gave up the broker") == []
    # What the other machine has sent to the former address follows.
    count = there.do("be_quiet")
    for node in (here, beside):
        assert node.do("wait_for_heard", "TO IT", count) == list(range(count))
    assert [*there.peers()] == [street.at(20), street.at(11)]
    assert there.do("flush")

    there.do("transmit", "AFTER", 3)
    for node in (here, beside):
        assert node.do("wait_for_heard", "AFTER", 3) == [0, 1, 2]
    lost = {"gaps": 0, "rejected": 0, "forgotten": 0}
    for node in (here, beside):
        stats = node.do("stats")
        assert {name: stats[name] for name in lost} == lost


def test_a_machine_without_a_network_at_the_start_gets_one_later(
    street: Street, start_node: StartNode
) -> None:
    street.here.ip("address", "flush", "dev", "eth0")
    there = start_node(street.there, "there", addresses=[])
    here = start_node(street.here, "here", rescan_interval=600.0)
    beside = start_node(street.here, "beside", rescan_interval=600.0)
    for node in (there, here, beside):
        node.started()
    assert here.do("own")["url"] == "127.0.0.1:5672"
    here.do("transmit", "ALONE", 3)
    assert beside.do("wait_for_heard", "ALONE", 3) == [0, 1, 2]

    street.add(street.here, 10)
    assert here.do("wait_for_own", street.at(10)) < scaled(NOTICED_S)
    beside.do("wait_for_own", street.at(10))
    here.wait_for_peers(street.at(20))
    there.wait_for_peers(street.at(10))
    here.do("transmit", "TOGETHER", 3)
    there.do("transmit", "WELCOME", 3)
    for node in (there, beside):
        assert node.do("wait_for_heard", "TOGETHER", 3) == [0, 1, 2]
    assert here.do("wait_for_heard", "WELCOME", 3) == [0, 1, 2]
    assert here.do("spares") == {}


def test_an_interface_that_goes_down_and_up_again_is_followed(
    street: Street, start_node: StartNode
) -> None:
    here = start_node(street.here, "here", addresses=[])
    beside = start_node(street.here, "beside", addresses=[])
    for node in (here, beside):
        node.started()
    queue = here.do("own")["queue"]
    street.here.ip("link", "set", "eth0", "down")
    # Charts of one machine go on without a network.
    for node in (here, beside):
        node.do("wait_for_own", "127.0.0.1:5672")
    here.do("transmit", "ALONE", 3)
    assert beside.do("wait_for_heard", "ALONE", 3) == [0, 1, 2]
    street.here.ip("link", "set", "eth0", "up")
    for node in (here, beside):
        node.do("wait_for_own", street.at(10))
    here.do("transmit", "AGAIN", 3)
    assert beside.do("wait_for_heard", "AGAIN", 3) == [0, 1, 2]
    assert here.do("own")["queue"] == queue


def test_a_cable_that_is_out_for_a_while_changes_nothing_where_there_is_no_other_network(
    street: Street, start_node: StartNode
) -> None:
    here = start_node(street.here, "here", addresses=[])
    here.started()
    street.lan.pull_out(street.here, "eth0")
    try:
        here.do("sleep", 6)
        assert here.do("own")["url"] == street.at(10)
        assert here.do("log", "the address of this machine") == []
    finally:
        street.lan.put_back(street.here, "eth0")


def test_the_interface_of_the_lan_becomes_another_one(
    street: Street, start_node: StartNode
) -> None:
    with lan_of("10.40.0.0/24") as radio:
        radio.plug_in(street.here, "wlan0", 10)
        try:
            radio.plug_in(street.there, "wlan0", 20)
            there = start_node(street.there, "there", interface="wlan0", addresses=[])
            there.started()
            here = start_node(street.here, "here", addresses=[radio.address(20)])
            beside = start_node(street.here, "beside", addresses=[])
            for node in (here, beside):
                node.started()
            assert here.do("own")["url"] == street.at(10)
            queue = here.do("own")["queue"]
            street.lan.pull_out(street.here, "eth0")
            try:
                for node in (here, beside):
                    node.do("wait_for_own", f"{radio.address(10)}:5672")
                # That is announced, though no connection was lost.
                there.do("wait_for_source", f"{radio.address(10)}:5672", "HEARD")
                here.do("transmit", "BY_RADIO", 3)
                for node in (there, beside):
                    assert node.do("wait_for_heard", "BY_RADIO", 3) == [0, 1, 2]
                assert here.do("own")["queue"] == queue
            finally:
                street.lan.put_back(street.here, "eth0")
            for node in (here, beside):
                node.do("wait_for_own", street.at(10))
        finally:
            for machine in (street.here, street.there):
                machine.ip("link", "delete", "wlan0")


# ---- one broker under several addresses


def test_a_second_address_of_this_machine_is_the_own_broker_and_each_event_goes_once(
    street: Street, start_node: StartNode
) -> None:
    """Named by the user, and announced by a chart that has chosen the other address."""
    street.add(street.here, 12)
    here = start_node(street.here, "here", rabbit_host=street.lan.address(10), addresses=[])
    here.started()
    beside = start_node(
        street.here,
        "beside",
        rabbit_host=street.lan.address(12),
        addresses=[street.lan.address(10)],
    )
    beside.started()
    here.do("wait_for_spares", {street.at(12): street.at(10)})
    beside.do("wait_for_spares", {street.at(10): street.at(12)})
    here.do("transmit", "ONCE", 100)
    assert beside.do("wait_for_heard", "ONCE", 100) == list(range(100))
    assert here.do("flush")
    assert beside.do("stats")["duplicates"] == 0
    assert here.do("sent") == {street.at(10): 100, street.at(12): 0}


def test_a_second_broker_on_this_machine_is_a_member_of_its_own(
    street: Street, start_node: StartNode, request: pytest.FixtureRequest
) -> None:
    street.add(street.here, 12)
    broker = street.add_broker(street.here, street.lan.address(12), 5673)
    request.addfinalizer(lambda: street.end(broker))
    second = f"{street.lan.address(12)}:5673"
    here = start_node(street.here, "here", addresses=[second, street.lan.address(12)])
    beside = start_node(
        street.here, "beside", rabbit_host=street.lan.address(12), rabbit_port=5673, addresses=[]
    )
    for node in (here, beside):
        node.started()
    here.do("wait_for_spares", {street.at(12): street.at(10)})
    here.do("transmit", "TO_BOTH", 10)
    assert beside.do("wait_for_heard", "TO_BOTH", 10) == list(range(10))
    assert here.do("flush")
    assert here.do("sent") == {street.at(10): 10, street.at(12): 0, second: 10}


def test_a_broker_whose_two_addresses_a_sweep_finds_gets_each_event_once(
    street: Street, start_node: StartNode
) -> None:
    street.lan.plug_in(street.there, "wlan0", 21)
    try:
        there = start_node(street.there, "there", interface="eth0")
        here = start_node(street.here, "here")
        for node in (there, here):
            node.started()
        here.wait_for_peers(street.at(20), street.at(21))
        (spare,) = here.do("wait_for_one_spare")
        used = ({street.at(20), street.at(21)} - {spare}).pop()
        here.do("transmit", "ONCE", 100)
        assert there.do("wait_for_heard", "ONCE", 100) == list(range(100))
        assert here.do("flush")
        assert here.do("sent") == {street.at(10): 100, used: 100, spare: 0}
        assert there.do("stats")["duplicates"] == 0
        # The machine that has both does not take the other for a stranger.
        assert [*there.peers()] == [street.at(20), street.at(10)]
    finally:
        street.there.ip("link", "delete", "wlan0")


def test_an_address_that_is_named_as_a_peer_and_becomes_the_own_one_is_one_broker(
    street: Street, start_node: StartNode
) -> None:
    """As where all machines have the same list of all addresses."""
    all_ = [street.lan.address(number) for number in (10, 11, 20)]
    there = start_node(street.there, "there", addresses=all_)
    there.started()
    here = start_node(street.here, "here", addresses=all_)
    beside = start_node(street.here, "beside", addresses=all_)
    for node in (here, beside):
        node.started()
    here.do("transmit", "BEFORE", 5)
    assert there.do("wait_for_heard", "BEFORE", 5) == list(range(5))
    street.delete(street.here, 10)
    street.add(street.here, 11)
    for node in (here, beside):
        node.do("wait_for_own", street.at(11))
    here.do("transmit", "AFTER", 5)
    there.do("transmit", "TO_ALL", 5)
    for node in (there, beside):
        assert node.do("wait_for_heard", "AFTER", 5) == list(range(5))
    for node in (here, beside):
        assert node.do("wait_for_heard", "TO_ALL", 5) == list(range(5))
        # The events from before waited for the named address, too: they may come again, to be
        # discarded, if it was connected before it was known to be the own one.
        assert node.do("stats")["gaps"] == 0
    assert beside.do("wait_for_heard", "BEFORE", 5) == list(range(5))
