"""Admission: which of the addresses that other nodes announce are connected to.

Whoever holds the key of the mesh can announce any host and port, and every node that hears it
connects there and, if a RabbitMQ answers, logs in with its password. So that a stolen key opens
neither the nodes' own machines nor the world, an announced address is admitted only if

- it is an IP address. A name would lead to wherever its owner likes, at each look-up anew. With TLS
  that verifies the names of hosts, a name is admitted, too: there, a certificate proves the host.
  What it resolves to is judged like an announced address, whenever it is asked;
- it is private (RFC 1918, RFC 6598, RFC 4193), or in a network of this machine, and no broadcast
  address there. A loopback or a link-local address is admitted only if the own broker has one, too;
- its port is one that this node knows of a broker that it was told of. Between loopbacks, any is.

What the user names, in arguments or in the hosts file, is the user's own word, and not judged here.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network

from ..host_names import ip_of, is_loopback
from ..urls import Address

logger = logging.getLogger(__name__)

Network = IPv4Network | IPv6Network

PRIVATE: tuple[Network, ...] = tuple(
    map(ip_network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7"))
)
"""Addresses that nobody has on the Internet: of LANs, also behind a router, and of VPNs."""

_SHORTEST_PREFIX = 8
"""A network that is larger, such as 0.0.0.0/0 of a tunnel, says nothing of who is near."""

_SUBNET_BITS = 64
"""The prefix of an IPv6 subnet (RFC 4291, 2.5.4)."""

_MOST_SAID = 16
"""The most refused addresses of which a warning tells: others can announce ever new ones."""


@dataclass(frozen=True)
class Place:
    """Where a node is, for judging what others announce.

    Attributes:
        own: its own broker.
        ports: the ports of brokers that it was told of, and of its own.
        networks: the IPv4 networks of this machine's interfaces.
        proves_names: whether it uses TLS that verifies the names of hosts.
    """

    own: Address
    ports: frozenset[int]
    networks: tuple[IPv4Network, ...] = ()
    proves_names: bool = False


def why_refused(address: Address, place: Place) -> str:
    """Say why an announced address is not connected to; empty if it may be. Pure.

    The text is put after a colon.
    """
    ip = ip_of(address.host)
    if is_loopback(address.host):
        return "" if is_loopback(place.own.host) else "it leads to no other machine"
    if address.port not in place.ports:
        return f"no broker is known to be at port {address.port}"
    if ip is None:
        return "" if place.proves_names else "a name may lead anywhere"
    return "" if _is_near(ip, place) else "it is in no private network, and in none of this machine"


def _is_near(ip: IPv4Address | IPv6Address, place: Place) -> bool:
    own = ip_of(place.own.host)
    if ip.is_link_local:  # such as 169.254.169.254, at which clouds give credentials away
        return ip.version == 4 and own is not None and own.version == 4 and own.is_link_local
    for network in place.networks:
        ends = (network.network_address, network.broadcast_address)
        if network.prefixlen < network.max_prefixlen - 1 and ip in ends:
            return False
    if ip.version == 6 and own is not None and own.version == 6:
        near: Iterable[Network] = [ip_network(f"{own}/{_SUBNET_BITS}", strict=False)]
        if ip.is_global and any(ip in one for one in near):
            return True
    known = (one for one in place.networks if one.prefixlen >= _SHORTEST_PREFIX)
    return any(ip in one for one in (*PRIVATE, *known))


def proves_names(tls: ssl.SSLContext | None) -> bool:
    """Whether a context verifies that a host has a certificate for the name it is called by."""
    return tls is not None and tls.check_hostname and tls.verify_mode is ssl.CERT_REQUIRED


class Admission:
    """Judges announced addresses for one node, and says of each but once that it is refused.

    Not thread-safe: its owner locks, or calls `allows` alone.

    Args:
        name: the node's, for the log.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._said: set[Address] = set()

    def allows(self, address: Address, place: Place) -> bool:
        """Tell whether an announced address may be connected to; says nothing."""
        return not why_refused(address, place)

    def admits(self, address: Address, place: Place) -> bool:
        """Tell the same of an address that has just been announced, and say why if it may not."""
        why = why_refused(address, place)
        if not why:
            return True
        is_news = address not in self._said and len(self._said) < _MOST_SAID
        if is_news:
            self._said.add(address)
        logger.log(
            logging.WARNING if is_news else logging.DEBUG,
            "%s: a node announces its broker as %s, which is not used: %s; if it is right, name it "
            "with addresses= or in the hosts file",
            self._name,
            address,
            why,
        )
        return False
