"""Which announced addresses a node connects to, and what it says of the others."""

from __future__ import annotations

import logging
import ssl
from dataclasses import replace
from ipaddress import IPv4Network, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from miros_rabbitmq.discovery.roster import RosterLimits
from miros_rabbitmq.discovery.search import Login, Search
from miros_rabbitmq.discovery.vetting import (
    PRIVATE,
    Surroundings,
    Vetting,
    proves_names,
    why_refused,
)
from miros_rabbitmq.exceptions import SettingsError
from miros_rabbitmq.urls import Address, parse_address

LAN = IPv4Network("192.168.1.0/24")
CAMPUS = IPv4Network("198.51.100.0/24")
HERE = Surroundings(Address("192.168.1.70"), frozenset({5672, 5673}), (LAN, CAMPUS))
ALONE = Surroundings(Address("127.0.0.2"), frozenset({5672}), is_one_machine=True)
AT_LOOPBACK = Surroundings(Address("127.0.0.2"), frozenset({5672}))


@pytest.mark.parametrize(
    "host",
    [
        "192.168.1.71",  # the LAN
        "192.168.2.71",  # a private network behind a router
        "10.9.8.7",
        "172.16.0.1",
        "172.31.255.254",
        "100.64.0.9",
        "198.51.100.7",  # a public network that this machine is in
        "fd00::7",
    ],
)
def test_a_private_address_and_a_neighbour_are_admitted(host: str) -> None:
    assert why_refused(Address(host), HERE) == ""
    assert why_refused(Address(host, 5673), HERE) == ""
    at = Address(host, 5674)
    assert why_refused(at, HERE) == "no broker is known to be at port 5674"


@pytest.mark.parametrize(
    "host",
    [
        "8.8.8.8",
        "203.0.113.7",
        "172.15.255.255",
        "172.32.0.1",
        "100.63.255.255",
        "198.51.101.7",
        "0.0.0.0",  # noqa: S104 - nothing is bound
        "0.1.2.3",
        "224.0.0.251",
        "255.255.255.255",
        "240.0.0.1",
        "169.254.169.254",
        "192.168.1.0",
        "192.168.1.255",
        "198.51.100.255",
        "::",
        "2001:db8::7",
        "fe80::7",
        "ff02::1",
        "::127.0.0.1",
        "64:ff9b::7f00:1",  # NAT64 of 127.0.0.1
        "2002:7f00:1::",  # 6to4 of 127.0.0.1
    ],
)
def test_what_is_elsewhere_or_no_host_is_refused(host: str) -> None:
    assert "in no private network" in why_refused(Address(host), HERE)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost", "a.localhost"])
def test_a_loopback_is_admitted_only_between_programs_of_one_machine(host: str) -> None:
    for port in (5672, 6379):
        assert "leads to no other machine" in why_refused(Address(host, port), HERE)
        assert why_refused(Address(host, port), ALONE) == ""
    assert why_refused(Address(host), AT_LOOPBACK) == ""
    assert "at port 6379" in why_refused(Address(host, 6379), AT_LOOPBACK)


@pytest.mark.parametrize(
    ("addresses", "in_file", "is_admitted"),
    [
        ((), (), True),
        (("127.0.0.3", "localhost:5674"), (), True),
        ((), (Address("127.0.0.4"),), True),
        (None, (), False),  # it searches the LAN
        (("127.0.0.3", "192.168.1.71"), (), False),
        ((), (Address("192.168.1.71"),), False),
    ],
)
def test_among_loopbacks_any_port_is_admitted_only_where_no_other_machine_is_named(
    addresses: tuple[str, ...] | None, in_file: tuple[Address, ...], is_admitted: bool
) -> None:
    vetting = Vetting("chart", replace(SEARCH, addresses=addresses))
    redis = Address("127.0.0.1", 6379)
    assert vetting.allows(redis, Address("127.0.0.2"), in_file) is is_admitted
    assert not vetting.allows(redis, Address("192.168.1.70"), in_file)


@pytest.mark.parametrize("port", [1, 22, 80, 6379, 5671, 65535])
def test_a_port_at_which_no_broker_is_known_is_refused(port: int) -> None:
    for here in (HERE, ALONE):
        assert f"at port {port}" in why_refused(Address("192.168.1.71", port), here)


def test_a_name_is_admitted_only_where_a_certificate_proves_it() -> None:
    proving = Surroundings(HERE.own, HERE.ports, HERE.networks, proves_names=True)
    assert "may lead anywhere" in why_refused(Address("robot.example"), HERE)
    assert why_refused(Address("robot.example"), proving) == ""
    assert "at port 22" in why_refused(Address("robot.example", 22), proving)
    assert why_refused(Address("203.0.113.7"), proving), "a certificate is of another place"


def test_a_context_proves_names_only_if_it_verifies_them() -> None:
    context = ssl.create_default_context()
    assert proves_names(context)
    context.check_hostname = False
    assert not proves_names(context)
    context.verify_mode = ssl.CERT_NONE
    assert not proves_names(context)
    assert not proves_names(None)


def test_machines_that_gave_themselves_addresses_reach_each_other() -> None:
    here = Surroundings(Address("169.254.7.1"), frozenset({5672}), (IPv4Network("169.254.0.0/16"),))
    assert why_refused(Address("169.254.9.9"), here) == ""
    # A second interface without a DHCP server does not open the addresses of a cloud.
    also = Surroundings(HERE.own, HERE.ports, (LAN, IPv4Network("169.254.0.0/16")))
    assert why_refused(Address("169.254.169.254"), also)


def test_an_ipv6_subnet_is_that_of_the_own_broker() -> None:
    here = Surroundings(Address("2001:4860:1:2::7"), frozenset({5672}))
    assert why_refused(Address("2001:4860:1:2::8"), here) == ""
    assert why_refused(Address("2001:4860:1:3::8"), here)
    assert why_refused(Address("fe80::8"), here)
    on_link = Surroundings(Address("fe80::7%eth0"), frozenset({5672}))
    assert why_refused(Address("2001:4860:1:2::8"), on_link)
    assert why_refused(Address("fd00::8"), on_link) == ""


@pytest.mark.parametrize("network", ["0.0.0.0/0", "0.0.0.0/1", "128.0.0.0/1"])
def test_the_network_of_a_tunnel_that_is_half_the_world_says_nothing(network: str) -> None:
    here = Surroundings(HERE.own, HERE.ports, (IPv4Network(network),))
    assert why_refused(Address("203.0.113.7"), here)
    assert why_refused(Address("8.8.8.8"), here)


@given(st.ip_addresses(), st.integers(1, 65535))
def test_what_is_admitted_is_private_or_in_a_network_of_this_machine(ip: object, port: int) -> None:
    try:
        address = parse_address(f"[{ip}]:{port}" if ":" in str(ip) else f"{ip}:{port}")
    except SettingsError:
        return
    if why_refused(address, HERE) == "":
        assert port in HERE.ports
        assert any(ip_address(address.host) in one for one in (*PRIVATE, LAN, CAMPUS))


SEARCH = Search(
    login=Login("user", "password"),
    port=5672,
    addresses=("203.0.113.9", "kitchen.example:5674"),
    rescan_interval_s=60.0,
    cache_valid_s=0.0,
    stop_timeout_s=1.0,
    limits=RosterLimits(
        forget_after_s=1.0, most_found=1, most_announced=1, ask_again_s=1.0, announce_s=1.0
    ),
)


@pytest.fixture
def vetting() -> Vetting:
    vetting = Vetting("chart", SEARCH)
    vetting.note_networks((LAN,))
    return vetting


def test_each_refused_address_is_said_once_and_only_so_many(
    vetting: Vetting, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(3):
        for number in range(100, 200):
            assert not vetting.admits(Address(f"203.0.113.{number}"), HERE.own)
    assert vetting.admits(Address("192.168.1.71"), HERE.own)
    assert not vetting.allows(Address("203.0.114.1"), HERE.own)
    said = [one.getMessage() for one in caplog.records if one.levelno == logging.WARNING]
    assert len(said) == len(set(said)) == 16
    assert said[0] == (
        "chart: a node announces its broker as 203.0.113.100:5672, which is not used: it is in no "
        "private network, and in none of this machine; if it is right, name it with addresses= or "
        "in the hosts file"
    )


def test_what_the_user_names_is_admitted_and_its_ports_are_known(vetting: Vetting) -> None:
    in_file = (Address("8.8.8.8", 5675),)
    assert vetting.admits(Address("203.0.113.9"), HERE.own, in_file)
    assert vetting.admits(Address("kitchen.example", 5674), HERE.own, in_file)
    assert vetting.admits(in_file[0], HERE.own, in_file)
    assert not vetting.admits(in_file[0], HERE.own)
    for port in (5674, 5675):
        assert vetting.admits(Address("10.0.0.9", port), HERE.own, in_file)
    assert not vetting.admits(Address("10.0.0.9", 5675), HERE.own), "it has left the file"
    assert not vetting.admits(Address("10.0.0.9", 5676), HERE.own)
    assert vetting.admits(Address("10.0.0.9", 5676), Address("10.0.0.1", 5676))
    # What the user has named is nobody else's word for it.
    assert not vetting.allows(Address("203.0.113.9"), HERE.own)


def test_a_neighbour_is_admitted_while_this_machine_is_in_its_network(
    vetting: Vetting, caplog: pytest.LogCaptureFixture
) -> None:
    neighbour = Address("198.51.100.7")
    vetting.note_networks((LAN, CAMPUS))
    assert vetting.admits(neighbour, HERE.own)
    vetting.note_networks((LAN,))
    assert not vetting.admits(neighbour, HERE.own)
    assert "198.51.100.7" in caplog.text


def test_before_the_networks_are_known_nothing_is_said_of_who_may_be_a_neighbour(
    caplog: pytest.LogCaptureFixture,
) -> None:
    vetting = Vetting("chart", SEARCH)
    assert not vetting.admits(Address("198.51.100.7"), HERE.own)
    assert vetting.admits(Address("192.168.1.71"), HERE.own)
    assert not caplog.records
