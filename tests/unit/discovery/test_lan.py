"""Which interface is the working one, what would be swept, and what named addresses mean."""

from __future__ import annotations

import errno
import logging
import socket
import threading
from ipaddress import IPv4Network
from typing import ClassVar

import pytest

from miros_rabbitmq.discovery import lan as lan_module
from miros_rabbitmq.discovery import sweep as sweep_module
from miros_rabbitmq.discovery.arp import ArpEntry
from miros_rabbitmq.discovery.devices import Device, Route
from miros_rabbitmq.discovery.interfaces import Interface, Interfaces, LinkKind, interface_of
from miros_rabbitmq.discovery.lan import LocalAreaNetwork
from miros_rabbitmq.discovery.sweep import SweepResult, hosts_in, targets_of
from miros_rabbitmq.exceptions import SettingsError


def made(
    name: str, address: str, netmask: str = "255.255.255.0", peer: str | None = None
) -> Interface:
    interface = interface_of(name, address, netmask, peer)
    assert interface is not None
    return interface


LO = made("lo", "127.0.0.1", "255.0.0.0", "127.0.0.1")
ETH = made("eth0", "192.168.1.70")
WLAN = made("wlan0", "10.0.7.3", "255.255.252.0")
BY_ETH = (Route("eth0", IPv4Network("0.0.0.0/0"), by_gateway=True),)
TUN = made("tun0", "10.8.0.6", "255.255.255.255", "10.8.0.5")


@pytest.fixture
def no_traffic(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any attempt to sweep fails the test; the machine has the interfaces named above."""

    def refuse(*_: object, **__: object) -> SweepResult:
        raise AssertionError("it swept")

    monkeypatch.setattr(lan_module, "sweep", refuse)
    monkeypatch.setattr(lan_module, "read_interfaces", lambda: Interfaces((LO, ETH, WLAN), BY_ETH))


class Sweeps:
    """Stands in for the sweep: counts, and finds what it is told to."""

    def __init__(self, found: list[str]) -> None:
        self.found = found
        self.interfaces: list[Interface] = []

    def __call__(
        self, interface: Interface, *, stop: threading.Event | None = None, warn: object = None
    ) -> SweepResult:
        self.interfaces.append(interface)
        return SweepResult(list(self.found), 1.3)


@pytest.fixture
def sweeps(monkeypatch: pytest.MonkeyPatch) -> Sweeps:
    counting = Sweeps(["192.168.1.71", "192.168.1.254"])
    monkeypatch.setattr(lan_module, "sweep", counting)
    monkeypatch.setattr(lan_module, "read_interfaces", lambda: Interfaces((LO, ETH, WLAN), BY_ETH))
    return counting


# ---- the interface


@pytest.mark.parametrize(
    ("netmask", "peer", "kind", "other_end"),
    [
        ("255.255.255.0", None, LinkKind.BROADCAST, None),
        ("255.255.255.255", "10.8.0.5", LinkKind.POINT_TO_POINT, "10.8.0.5"),
        ("255.255.255.0", "10.8.0.6", LinkKind.POINT_TO_POINT, None),
        ("255.255.255.254", None, LinkKind.POINT_TO_POINT, "10.8.0.7"),
        ("255.255.255.255", None, LinkKind.POINT_TO_POINT, None),
    ],
)
def test_a_link_to_one_other_host_is_told_from_a_network(
    netmask: str, peer: str | None, kind: LinkKind, other_end: str | None
) -> None:
    interface = made("any0", "10.8.0.6", netmask, peer)
    assert (interface.kind, interface.peer) == (kind, other_end)


@pytest.mark.parametrize("address", [None, "", "fe80::1", "300.1.1.1"])
def test_an_address_that_is_not_ipv4_makes_no_interface(address: str | None) -> None:
    assert interface_of("eth0", address, "255.255.255.0") is None


# ---- what is swept


@pytest.mark.parametrize(
    ("address", "netmask", "count"),
    [
        ("192.168.1.70", "255.255.255.0", 253),
        ("10.0.7.3", "255.255.252.0", 1021),
        ("172.16.5.5", "255.255.255.252", 1),
        ("198.51.100.9", "255.255.255.128", 125),
    ],
)
def test_every_other_address_of_a_network_up_to_a_22_gets_a_datagram(
    address: str, netmask: str, count: int
) -> None:
    interface = made("eth0", address, netmask)
    targets = targets_of(interface)
    assert len(targets) == len(set(targets)) == count
    assert address not in targets
    assert str(interface.network.network_address) not in targets
    assert str(interface.network.broadcast_address) not in targets


@pytest.mark.parametrize("interface", [made("eth0", "10.0.0.1", "255.255.248.0"), LO, TUN])
def test_a_larger_network_a_loopback_and_a_point_to_point_link_get_no_datagram(
    interface: Interface,
) -> None:
    assert targets_of(interface) == []


def test_only_hosts_of_the_swept_network_and_interface_are_taken_from_the_arp_table() -> None:
    table = [
        ArpEntry("192.168.1.71", "eth0", True),
        ArpEntry("192.168.1.72", "wlan0", True),
        ArpEntry("192.168.2.1", "eth0", True),
        ArpEntry("192.168.1.255", "eth0", True),
        ArpEntry("192.168.1.0", "eth0", True),
        ArpEntry("192.168.1.70", "eth0", True),
        ArpEntry("192.168.1.74", "192.168.1.70", True),  # Windows names the interface like this
    ]
    assert [entry.address for entry in hosts_in(table, ETH)] == ["192.168.1.71", "192.168.1.74"]


def test_a_labelled_address_finds_the_lines_of_its_interface() -> None:
    labelled = made("eth0:1", "192.168.1.70")
    assert hosts_in([ArpEntry("192.168.1.71", "eth0", True)], labelled)


class RefusingSocket:
    """A socket whose machine lets nothing through to the upper half of the network."""

    sent: ClassVar[list[str]] = []

    def __init__(self, *_: object) -> None: ...

    def __enter__(self) -> RefusingSocket:
        return self

    def __exit__(self, *_: object) -> None: ...

    def setblocking(self, _: bool) -> None: ...

    def bind(self, _: tuple[str, int]) -> None: ...

    def setsockopt(self, *_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    def sendto(self, data: bytes, to: tuple[str, int]) -> int:
        if int(to[0].rpartition(".")[2]) == 7:
            raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
        if int(to[0].rpartition(".")[2]) >= 128:
            raise PermissionError(errno.EPERM, "Operation not permitted")
        self.sent.append(to[0])
        return len(data)


class RefusingSocketModule:
    """The module socket, with such sockets."""

    socket = RefusingSocket

    def __getattr__(self, name: str) -> object:
        return getattr(socket, name)


def test_hosts_that_may_not_be_asked_cost_one_warning_and_the_others_are_asked(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(RefusingSocket, "sent", [])
    # Only those of the sweep, because other threads of the tests also make sockets and log.
    monkeypatch.setattr(sweep_module, "socket", RefusingSocketModule())
    sweep_module.send_datagrams(ETH, targets_of(ETH))
    assert len(RefusingSocket.sent) == 127 - 2  # without this machine and the one that was busy
    (record,) = (one for one in caplog.records if one.name == sweep_module.__name__)
    assert "could not be asked (Operation not permitted)" in record.getMessage()


# ---- named addresses


@pytest.mark.usefixtures("no_traffic")
def test_named_addresses_are_returned_as_given_and_nothing_is_swept() -> None:
    lan = LocalAreaNetwork(["192.168.1.71", "robot.example:5673", "192.168.1.71"])
    assert lan.addresses == ["192.168.1.71", "robot.example:5673"]
    assert lan.sweep() == lan.addresses
    assert lan.this.address == "192.168.1.70"
    assert lan.other.addresses == lan.addresses


@pytest.mark.usefixtures("no_traffic")
def test_no_addresses_at_all_may_be_named() -> None:
    lan = LocalAreaNetwork([])
    assert (lan.addresses, lan.other.addresses) == ([], [])


@pytest.mark.usefixtures("no_traffic")
def test_the_own_host_is_not_among_the_others() -> None:
    lan = LocalAreaNetwork(["127.0.0.2:5001", "127.0.0.3:5002"], rabbit_host="127.0.0.2")
    assert lan.this.address == "127.0.0.2"
    assert lan.other.addresses == ["127.0.0.3:5002"]


@pytest.mark.parametrize("wrong", [["10.0.0.1:http"], [""], ["amqp://u:secret@h"], "10.0.0.1"])
def test_a_malformed_address_is_refused_at_once(wrong: list[str]) -> None:
    with pytest.raises(SettingsError) as caught:
        LocalAreaNetwork(wrong)
    assert "secret" not in str(caught.value)


# ---- the sweep is lazy, and done once


def test_the_first_use_sweeps_the_working_network_and_later_uses_do_not(sweeps: Sweeps) -> None:
    lan = LocalAreaNetwork()
    assert lan.this.address == "192.168.1.70"
    assert not sweeps.interfaces
    assert lan.addresses == ["192.168.1.70", "192.168.1.71", "192.168.1.254"]
    assert lan.other.addresses == ["192.168.1.71", "192.168.1.254"]
    assert sweeps.interfaces == [ETH]


def test_sweeping_again_replaces_what_was_known(sweeps: Sweeps) -> None:
    lan = LocalAreaNetwork(interface="wlan0")
    sweeps.found = []
    assert lan.addresses == ["10.0.7.3"]
    sweeps.found = ["10.0.7.9"]
    assert lan.sweep() == lan.addresses == ["10.0.7.3", "10.0.7.9"]
    assert sweeps.interfaces == [WLAN, WLAN]


def test_threads_that_ask_at_the_same_time_wait_for_one_sweep(
    sweeps: Sweeps, monkeypatch: pytest.MonkeyPatch
) -> None:
    asking = threading.Barrier(8)
    lan = LocalAreaNetwork()
    answers: list[list[str]] = []

    def ask() -> None:
        asking.wait(20)
        answers.append(lan.addresses)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(answers) == 8
    assert all(answer == lan.addresses for answer in answers)
    assert len(sweeps.interfaces) == 1


def test_a_broker_on_a_loopback_address_stands_for_this_machine(sweeps: Sweeps) -> None:
    lan = LocalAreaNetwork(rabbit_host="127.0.0.1")
    assert lan.addresses == ["127.0.0.1", "192.168.1.71", "192.168.1.254"]


def test_with_its_broker_on_another_machine_this_machine_is_still_a_candidate(
    sweeps: Sweeps,
) -> None:
    lan = LocalAreaNetwork(rabbit_host="192.168.1.254")
    assert lan.this.address == "192.168.1.254"
    assert lan.addresses == ["192.168.1.254", "192.168.1.70", "192.168.1.71"]


def test_a_machine_that_is_alone_says_so(
    sweeps: Sweeps, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    sweeps.found = []
    monkeypatch.setattr(lan_module, "read_interfaces", lambda: Interfaces((LO,)))
    with caplog.at_level(logging.WARNING):
        assert LocalAreaNetwork().addresses == ["127.0.0.1"]
    assert "interface lo leads to this machine alone" in caplog.text


def test_a_machine_that_waits_for_a_named_interface_is_told_of_that_alone(
    sweeps: Sweeps, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    sweeps.found = []
    interfaces = Interfaces((LO,), devices=(Device("wlan9"),))
    monkeypatch.setattr(lan_module, "read_interfaces", lambda: interfaces)
    assert LocalAreaNetwork(interface="wlan9").addresses == ["127.0.0.1"]
    (line,) = [one.getMessage() for one in caplog.records if one.levelno == logging.WARNING]
    assert "the interface wlan9, which interface= names, has no IPv4 address" in line


def test_an_address_that_changes_after_the_sweep_is_told_at_once(
    sweeps: Sweeps, monkeypatch: pytest.MonkeyPatch
) -> None:
    lan = LocalAreaNetwork()
    assert lan.addresses == ["192.168.1.70", "192.168.1.71", "192.168.1.254"]
    renewed = made("eth0", "192.168.1.71")
    monkeypatch.setattr(lan_module, "read_interfaces", lambda: Interfaces((LO, renewed)))
    assert lan.this.address == "192.168.1.71"
    assert lan.addresses == ["192.168.1.71", "192.168.1.254"]
    assert lan.other.addresses == ["192.168.1.254"]
    assert len(sweeps.interfaces) == 1


def test_the_network_of_an_interface_follows_from_its_mask() -> None:
    assert WLAN.network == IPv4Network("10.0.4.0/22")
