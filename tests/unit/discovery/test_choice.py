"""Which interface leads to the LAN: many machines, each a table of what is known of it."""

from __future__ import annotations

from ipaddress import IPv4Network

import pytest

from miros_rabbitmq.discovery.choice import choose_interface
from miros_rabbitmq.discovery.devices import Device, LinkState, Route
from miros_rabbitmq.discovery.interfaces import (
    NOWHERE,
    Interface,
    Interfaces,
    LinkKind,
    interface_of,
)
from miros_rabbitmq.exceptions import SettingsError

WORKS, NO_LINK, DOWN = LinkState.WORKS, LinkState.NO_LINK, LinkState.DOWN
TUN, PPP = 65534, 512


def at(name: str, address: str, prefix: int = 24, peer: str | None = None) -> Interface:
    netmask = str(IPv4Network((0, prefix)).netmask)
    interface = interface_of(name, address, netmask, peer)
    assert interface is not None
    return interface


def default(device: str, metric: int = 0) -> Route:
    return Route(device, IPv4Network("0.0.0.0/0"), by_gateway=True, metric=metric)


def to(network: str, device: str) -> Route:
    return Route(device, IPv4Network(network), by_gateway=True)


LO = at("lo", "127.0.0.1", 8, "127.0.0.1")
ETH = at("eth0", "192.168.1.70")
WLAN = at("wlan0", "10.0.7.3", 22)
DOCKER = at("docker0", "172.17.0.1", 16)
COMPOSE = at("br-0123456789ab", "172.18.0.1", 16)
BR = at("br0", "192.168.5.1")
TUNNEL = at("tun0", "10.8.0.6", 32, "10.8.0.5")
WG = at("wg0", "10.9.0.2")
BOXED = at("eth0", "172.17.0.2", 16)
PUBLIC = at("eth0", "203.0.113.9")
MODEM = at("wwan0", "100.90.1.2", 30)
HALVES = (to("0.0.0.0/1", "tun0"), to("128.0.0.0/1", "tun0"))

wired, radio = Device("eth0", WORKS, 1), Device("wlan0", WORKS, 1, "wlan")
unplugged = Device("eth0", NO_LINK, 1)
switched_off = Device("eth0", DOWN, 1)
docker = Device("docker0", NO_LINK, 1, "bridge", members=())
busy_docker = Device("docker0", WORKS, 1, "bridge", members=("veth12ab", "veth34cd"))
tunnel = Device("tun0", WORKS, TUN, is_tun=True)
wireguard = Device("wg0", WORKS, TUN, "wireguard")


@pytest.mark.parametrize(
    ("interfaces", "routes", "devices", "chosen"),
    [
        # Linux, with the default route of one of them
        ((LO, ETH, WLAN), [default("wlan0")], [wired, radio], WLAN),
        ((LO, WLAN, ETH), [default("wlan0", 600), default("eth0", 100)], [wired, radio], ETH),
        # two robots on a switch: no default route at all
        ((LO, DOCKER, ETH), [], [docker, wired], ETH),
        ((LO, DOCKER, ETH), [], [busy_docker, wired], ETH),
        ((LO, DOCKER, COMPOSE, ETH), [], [busy_docker, wired], ETH),
        ((LO, DOCKER, ETH), [], [busy_docker, unplugged], ETH),
        # the default route leads through containers, or a VPN
        ((LO, DOCKER, ETH), [default("docker0")], [busy_docker, wired], ETH),
        ((LO, TUNNEL, ETH), [*HALVES, default("eth0")], [tunnel, wired], ETH),
        ((LO, TUNNEL, ETH), HALVES, [tunnel, wired], ETH),
        ((LO, TUNNEL, ETH), [default("tun0")], [tunnel, wired], ETH),
        ((LO, WG, ETH), [default("wg0")], [wireguard, wired], ETH),
        ((LO, MODEM, ETH), [default("wwan0")], [Device("wwan0", WORKS, 519, "wwan"), wired], ETH),
        # link state
        ((LO, ETH, WLAN), [], [unplugged, radio], WLAN),
        ((LO, ETH, WLAN), [default("eth0")], [unplugged, radio], WLAN),
        ((LO, ETH, WLAN), [default("eth0")], [switched_off, radio], WLAN),
        ((LO, ETH), [], [unplugged], ETH),
        # bridges are told by what they connect
        ((LO, BR, DOCKER), [], [docker, Device("br0", WORKS, 1, "bridge", members=("eth0",))], BR),
        ((LO, BR, ETH), [], [Device("br0", WORKS, 1, "bridge", members=("vnet0",)), wired], ETH),
        ((LO, DOCKER), [], [Device("docker0", WORKS, 1, "bridge", members=("eth1",))], DOCKER),
        # what leads to hosts besides this machine
        ((LO, DOCKER, TUNNEL), [], [busy_docker, tunnel], TUNNEL),
        ((LO, DOCKER), [], [docker], DOCKER),
        # a container, whose only device is one end of a veth pair
        ((LO, BOXED), [default("eth0")], [wired], BOXED),
        # routes and addresses, where nothing else decides
        ((LO, ETH, WLAN), [to("10.0.0.0/8", "wlan0")], [wired, radio], WLAN),
        ((LO, PUBLIC, WLAN), [], [wired, radio], WLAN),
        ((LO, PUBLIC, WLAN), [default("eth0")], [wired, radio], PUBLIC),
        ((LO, at("eth0", "169.254.8.1", 16), WLAN), [default("eth0", 1000)], [], WLAN),
        ((LO, at("eth0", "203.0.113.9", 32), ETH), [default("eth0")], [wired], ETH),
        ((LO, ETH, WLAN), [], [wired, radio], ETH),
        # where nothing is known but names, as netifaces tells them on other systems: macOS, ...
        ((at("lo0", "127.0.0.1", 8), at("utun3", "10.8.0.2", 32), at("en0", "192.168.1.7")),
         [default("utun3")], [], at("en0", "192.168.1.7")),
        ((at("bridge100", "192.168.64.1"), at("en0", "192.168.1.7")), [], [],
         at("en0", "192.168.1.7")),
        # ... Windows, FreeBSD, and Linux without /sys
        ((at("{2B-11}", "192.168.56.1"), at("{7C-02}", "192.168.1.7")), [default("{7C-02}")], [],
         at("{7C-02}", "192.168.1.7")),
        ((at("vboxnet0", "192.168.56.1"), at("em0", "192.168.1.7")), [], [],
         at("em0", "192.168.1.7")),
        ((LO, DOCKER, at("virbr0", "192.168.122.1"), ETH), [], [], ETH),
    ],
)  # fmt: skip
def test_the_likeliest_lan_is_chosen(
    interfaces: tuple[Interface, ...],
    routes: list[Route],
    devices: list[Device],
    chosen: Interface,
) -> None:
    found = choose_interface(Interfaces(interfaces, tuple(routes), tuple(devices)))
    assert found.interface == chosen


# ---- what is said of it


@pytest.mark.parametrize(
    ("interfaces", "routes", "devices"),
    [
        ((LO, ETH), [], [wired]),
        ((LO, DOCKER, ETH), [], [docker, wired]),
        ((LO, TUNNEL, ETH), [*HALVES, default("eth0")], [tunnel, wired]),
        ((LO, ETH, WLAN), [default("eth0")], [wired, Device("wlan0", NO_LINK)]),
        ((LO, ETH, at("wlan0", "192.168.1.71")), [], [wired, radio]),  # of the same network
        ((LO,), [], []),
    ],
)
def test_nothing_is_said_where_only_one_leads_to_a_lan(
    interfaces: tuple[Interface, ...], routes: list[Route], devices: list[Device]
) -> None:
    choice = choose_interface(Interfaces(interfaces, tuple(routes), tuple(devices)))
    assert (choice.remark, choice.is_guess) == ("", False)


def test_a_guess_names_what_was_taken_what_else_there_was_and_how_to_choose() -> None:
    choice = choose_interface(Interfaces((LO, ETH, WLAN, DOCKER), (), (wired, radio, docker)))
    assert choice.is_guess
    assert choice.remark == (
        "the LAN is taken to be that of eth0 (192.168.1.70): none has a default route, so that "
        "this is a guess. There is also wlan0 (10.0.7.3), docker0 (172.17.0.1) which has no link "
        "and leads to containers or virtual machines of this machine; to choose, name an "
        'interface, such as interface="eth0", or this node\'s own broker with rabbit_host='
    )


def test_two_default_routes_are_a_guess_and_one_is_a_remark() -> None:
    both = (default("eth0", 100), default("wlan0", 600))
    choice = choose_interface(Interfaces((LO, ETH, WLAN), both, (wired, radio)))
    assert choice.is_guess
    assert "several have a default route" in choice.remark
    choice = choose_interface(Interfaces((LO, ETH, WLAN), both[:1], (wired, radio)))
    assert not choice.is_guess
    assert "it alone has a default route" in choice.remark
    assert "wlan0 (10.0.7.3)" in choice.remark


@pytest.mark.parametrize(
    ("interface", "device", "why"),
    [
        (ETH, unplugged, "it has no link at present"),
        (DOCKER, docker, "it seems to lead to containers or virtual machines of this machine"),
        (TUNNEL, tunnel, "it seems to lead to a tunnel or a modem"),
    ],
)
def test_a_machine_without_any_lan_says_what_is_taken_instead(
    interface: Interface, device: Device, why: str
) -> None:
    choice = choose_interface(Interfaces((LO, interface), (), (device,)))
    assert (choice.interface, choice.is_guess) == (interface, True)
    assert why in choice.remark
    assert "interface=" in choice.remark


# ---- what the user names


def test_a_named_interface_comes_before_everything() -> None:
    choice = choose_interface(Interfaces((LO, ETH, DOCKER), (default("eth0"),)), "docker0")
    assert (choice.interface, choice.remark) == (DOCKER, "")


def test_an_interface_that_has_the_brokers_address_comes_before_the_default_route() -> None:
    interfaces = Interfaces((LO, ETH, WLAN), (default("eth0"),))
    assert choose_interface(interfaces, address="10.0.7.3") == (WLAN, "", False)


def test_a_broker_on_a_loopback_address_does_not_make_the_loopback_the_working_interface() -> None:
    interfaces = Interfaces((LO, ETH), (default("eth0"),))
    assert choose_interface(interfaces, address="127.0.0.1").interface == ETH


def test_an_unknown_interface_is_an_error_that_names_those_there_are() -> None:
    with pytest.raises(SettingsError, match=r"'eth7'; interface= .*: eth0, lo, usb0"):
        choose_interface(Interfaces((LO, ETH), (), (Device("usb0"),)), "eth7")


@pytest.mark.parametrize(
    ("interfaces", "device", "why"),
    [
        ((LO, ETH), switched_off, "is down"),
        ((LO,), wired, "has no IPv4 address"),
        ((LO, at("eth0:1", "192.168.1.7")), switched_off, "is down"),
    ],
)
def test_a_named_interface_that_cannot_be_used_yet_is_waited_for(
    interfaces: tuple[Interface, ...], device: Device, why: str
) -> None:
    choice = choose_interface(Interfaces(interfaces, (), (device,)), "eth0")
    assert choice.interface == LO
    assert choice.is_guess
    assert f"eth0, which interface= names, {why}: waiting" in choice.remark


# ---- alone


def test_a_machine_with_nothing_but_a_loopback_is_alone_on_it() -> None:
    chosen = choose_interface(Interfaces((LO,))).interface
    assert (chosen.address, chosen.kind) == ("127.0.0.1", LinkKind.LOOPBACK)


def test_a_machine_whose_interface_is_down_is_alone() -> None:
    assert choose_interface(Interfaces((LO, ETH), (), (switched_off,))).interface == LO


def test_a_machine_without_any_address_counts_as_one_with_a_loopback() -> None:
    assert choose_interface(Interfaces(())).interface is NOWHERE
    assert NOWHERE.kind is LinkKind.LOOPBACK
