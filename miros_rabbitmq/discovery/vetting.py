"""Vetting: which of the addresses that other nodes announce are connected to.

Whoever holds the key of the mesh can announce any host and port, and every node that hears it
connects there and, if a RabbitMQ answers, logs in with its password. So that a stolen key opens
neither the nodes' own machines nor the world, an announced address is admitted only if

- it is an IP address. A name would lead to wherever its owner likes, at each look-up anew. With TLS
  that verifies the names of hosts, a name is admitted, too: there, a certificate proves the host.
  What it resolves to is judged like an announced address, whenever it is asked;
- it is private (RFC 1918, RFC 6598, RFC 4193), or in a network of this machine, and no broadcast
  address there. A loopback or a link-local address is admitted only if the own broker has one, too;
- its port is one that this node knows of a broker that it was told of. On a loopback, any is if the
  node was told of brokers on loopbacks alone, as in tests.

What the user names, in arguments or in the hosts file, is the user's own word, and not judged here.
"""

from __future__ import annotations

import logging
import operator
import ssl
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from ..host_names import ip_of, is_loopback
from ..logs import RelayedLogger
from ..urls import Address, parse_address
from .choice import PRIVATE_IPV4
from .search import Search

logger: RelayedLogger = RelayedLogger(__name__)

Network = IPv4Network | IPv6Network

PRIVATE: tuple[Network, ...] = (*PRIVATE_IPV4, IPv6Network("fc00::/7"))
"""Addresses that nobody has on the Internet: of LANs, also behind a router, and of VPNs."""

_SHORTEST_PREFIX = 8
"""A network that is larger, such as 0.0.0.0/0 of a tunnel, says nothing of who is near."""

_SUBNET_BITS = 64
"""The bits that tell the hosts of an IPv6 subnet apart (RFC 4291, 2.5.4)."""

REFUSED = "a node announces its broker as %s, which is not used"
"""How a warning says that an announced address is refused; the address is to be filled in."""

_MOST_SAID = 16
"""The most refused addresses of which a warning tells: others can announce ever new ones."""


@dataclass(frozen=True)
class Surroundings:
    """Where a node is, for judging what others announce.

    Attributes:
        own: its own broker.
        ports: the ports of brokers that it was told of, and of its own.
        networks: the IPv4 networks of this machine's interfaces.
        proves_names: whether it uses TLS that verifies the names of hosts.
        is_one_machine: whether it was told of brokers on loopbacks alone.
    """

    own: Address
    ports: frozenset[int]
    networks: tuple[IPv4Network, ...] = ()
    proves_names: bool = False
    is_one_machine: bool = False


def why_refused(address: Address, here: Surroundings) -> str:
    """Say why an announced address is not connected to; empty if it may be. Pure.

    The text is put after a colon.
    """
    ip = ip_of(address.host)
    is_here = is_loopback(address.host)
    if is_here and not is_loopback(here.own.host):
        return "it leads to no other machine"
    if address.port not in here.ports and not (is_here and here.is_one_machine):
        return f"no broker is known to be at port {address.port}"
    if is_here:
        return ""
    if ip is None:
        return "" if here.proves_names else "a name may lead anywhere"
    return "" if _is_near(ip, here) else "it is in no private network, and in none of this machine"


def _is_near(ip: IPv4Address | IPv6Address, here: Surroundings) -> bool:
    own = ip_of(here.own.host)
    if ip.is_link_local:  # such as 169.254.169.254, at which clouds give credentials away
        return ip.version == 4 and own is not None and own.version == 4 and own.is_link_local
    for network in here.networks:
        ends = (network.network_address, network.broadcast_address)
        if network.prefixlen < network.max_prefixlen - 1 and ip in ends:
            return False
    if ip.version == 6 and own is not None and own.version == 6 and ip.is_global:
        return int(ip) >> _SUBNET_BITS == int(own) >> _SUBNET_BITS
    known = (one for one in here.networks if one.prefixlen >= _SHORTEST_PREFIX)
    return any(ip in one for one in (*PRIVATE, *known))


def proves_names(tls: ssl.SSLContext | None) -> bool:
    """Whether a context verifies that a host has a certificate for the name it is called by."""
    return tls is not None and tls.check_hostname and tls.verify_mode is ssl.CERT_REQUIRED


class Vetting:
    """Judges announced addresses for one node, and says of each but once that it is refused.

    `admits` is for one thread at a time; the others may be used from any.

    Args:
        name: the node's, for the log.
        search: what the node knows and is told.
    """

    def __init__(self, name: str, search: Search) -> None:
        self._name = name
        self._port = search.port
        self._is_searching = search.addresses is None
        self._named = frozenset(parse_address(one, search.port) for one in search.addresses or ())
        self.takes_names: bool = proves_names(search.tls)
        """Whether announced names are admitted."""
        self._networks: tuple[IPv4Network, ...] | None = None
        self._said: set[Address] = set()
        # The last surroundings, with what they were made of: many addresses are judged in them.
        # Replaced as a whole.
        self._last: tuple[tuple[object, ...], Surroundings] | None = None

    def note_networks(self, networks: tuple[IPv4Network, ...]) -> None:
        """Note which networks this machine is in now. Before the first time, they are unknown."""
        self._networks = networks

    def allows(self, address: Address, own: Address, in_file: tuple[Address, ...] = ()) -> bool:
        """Tell whether an announced address may be connected to; says nothing.

        Args:
            address: the announced one.
            own: the node's own broker.
            in_file: the brokers that the hosts file names.
        """
        return not why_refused(address, self._surroundings(own, in_file))

    def admits(self, address: Address, own: Address, in_file: tuple[Address, ...] = ()) -> bool:
        """Tell the same of an address that has just been announced, and say why if it may not.

        What the user names may be anywhere.
        """
        if address in self._named or address in in_file:
            return True
        why = why_refused(address, self._surroundings(own, in_file))
        if not why:
            return True
        if self._networks is None:
            return False  # it is announced again, and judged when they are known
        is_news = address not in self._said and len(self._said) < _MOST_SAID
        if is_news:
            self._said.add(address)
        logger.log(
            logging.WARNING if is_news else logging.DEBUG,
            "%s: %s: %s; if it is right, name it with addresses= or in the hosts file",
            self._name,
            REFUSED % str(address),
            why,
        )
        return False

    def _surroundings(self, own: Address, in_file: tuple[Address, ...]) -> Surroundings:
        made_of = own, in_file, self._networks
        last = self._last
        if last is not None and all(map(operator.is_, made_of, last[0])):
            return last[1]
        told = own, *self._named, *in_file
        here = Surroundings(
            own,
            frozenset({self._port, *(one.port for one in told)}),
            self._networks or (),
            proves_names=self.takes_names,
            is_one_machine=not self._is_searching and all(is_loopback(one.host) for one in told),
        )
        self._last = made_of, here
        return here
