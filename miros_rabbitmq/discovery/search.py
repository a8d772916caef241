"""What a search for brokers needs to know: login, hosts or network, and how often to look.

Values only. `nets` makes a `Search` of a node's settings.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field

from ..urls import Address, AmqpUrl, amqp_url
from .roster import RosterLimits


@dataclass(frozen=True)
class Login:
    """What a broker is asked to accept. Its ``repr`` has no password.

    Attributes:
        user: the user name.
        password: the user's password.
        vhost: the virtual host.
    """

    user: str
    password: str = field(repr=False)
    vhost: str = "/"

    def url(self, address: Address, *, tls: bool) -> AmqpUrl:
        """The URL of the broker at an address, with this login."""
        return amqp_url(self.user, self.password, address, self.vhost, tls=tls)


@dataclass(frozen=True, kw_only=True)
class Search:
    """Everything that `membership.Membership` has to know about a node.

    Attributes:
        login: user, password and virtual host, the same at every broker.
        port: the TCP port of every broker whose address names none.
        tls: the context for TLS to every broker; `None` for plain TCP.
        rabbit_host: the host of the node's own broker; `None` for this machine's address on its
            LAN.
        addresses: the brokers' hosts, each ``host`` or ``host:port``. `None` searches the LAN.
        interface: the name of the network interface whose LAN is searched; `None` for the one that
            `choice` finds.
        rescan_interval_s: seconds from one search to the next; 0 searches once.
        cache_valid_s: seconds for which the hosts that an earlier search has found are trusted; 0
            trusts none.
        stop_timeout_s: seconds for which `Membership.stop` waits for its thread.
        limits: what is remembered of the brokers, and for how long.
        trust: stands for whose announcements count, if any; it gives no key away. Nodes for which
            it differs never search together, though all else be equal.
    """

    login: Login
    port: int
    tls: ssl.SSLContext | None = None
    rabbit_host: str | None = None
    addresses: tuple[str, ...] | None = None
    interface: str | None = None
    rescan_interval_s: float
    cache_valid_s: float
    stop_timeout_s: float
    limits: RosterLimits
    trust: bytes = field(default=b"", repr=False)

    def url(self, address: Address) -> AmqpUrl:
        """The URL of the broker at an address."""
        return self.login.url(address, tls=self.tls is not None)
