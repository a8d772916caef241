"""When a change of this machine's address is followed at once, and when two looks have to agree."""

from __future__ import annotations

import pytest

from miros_rabbitmq.discovery.interfaces import NOWHERE, Interface, interface_of
from miros_rabbitmq.discovery.own_address import Here, OwnAddress


def at(name: str, address: str) -> Interface:
    interface = interface_of(name, address, "255.255.255.0")
    assert interface is not None
    return interface


ETH, RENEWED = at("eth0", "192.168.1.10"), at("eth0", "192.168.1.11")
WLAN = at("wlan0", "10.0.0.3")


def here(*interfaces: Interface) -> Here:
    """The machine has these, the first of which leads to the LAN."""
    return Here(interfaces[0], frozenset(one.address for one in (*interfaces, NOWHERE)))


@pytest.mark.parametrize(
    ("before", "now", "looks"),
    [
        (here(ETH), here(RENEWED), 1),  # DHCP
        (here(NOWHERE), here(ETH), 1),  # the network comes up
        (here(ETH), here(RENEWED, ETH), 2),  # a second address is preferred
        (here(ETH), here(NOWHERE), 2),  # between two leases
        (here(ETH), here(WLAN), 2),
        (here(ETH, WLAN), here(WLAN, ETH), 2),  # its cable was pulled out
    ],
)
def test_a_change_is_followed_after_as_many_looks(before: Here, now: Here, looks: int) -> None:
    own = OwnAddress(before)
    assert not own.look(before)
    answers = [own.look(now) for _ in range(3)]
    new = now.interface
    assert answers == ([new] * 3 if looks == 1 else [None, new, new])
    assert own.address == before.interface.address
    own.use(now)
    assert own.look(now) is None
    assert own.address == new.address


def test_an_interface_that_is_back_at_the_next_look_changes_nothing() -> None:
    own = OwnAddress(here(ETH, WLAN))
    for now in (here(WLAN, ETH), here(ETH, WLAN)) * 3:
        assert not own.look(now)
    assert own.address == ETH.address


def test_looks_that_do_not_agree_do_not_count() -> None:
    own = OwnAddress(here(ETH))
    for now in (here(NOWHERE), here(WLAN)) * 3:
        assert not own.look(now)


def test_it_tells_whether_the_address_is_gone() -> None:
    own = OwnAddress(here(ETH))
    assert not own.is_gone(here(WLAN, ETH))
    assert own.is_gone(here(WLAN))


def test_the_addresses_that_the_machine_has_lost_are_remembered_the_latest_first() -> None:
    own = OwnAddress(here(ETH))
    own.use(here(WLAN, ETH))
    assert not own.left, "it is there still"
    own.use(here(ETH, WLAN))
    own.use(here(RENEWED))
    assert [*own.left] == [ETH.address]
    own.use(here(NOWHERE))
    own.use(here(WLAN))
    assert [*own.left] == [RENEWED.address, ETH.address], "a loopback is never lost"
    own.use(here(WLAN, ETH))
    assert [*own.left] == [RENEWED.address], "the other is back"
    for number in range(20):
        own.use(here(at("eth0", f"10.1.1.{number}")))
    assert own.left == tuple(f"10.1.1.{number}" for number in (18, 17, 16, 15))
