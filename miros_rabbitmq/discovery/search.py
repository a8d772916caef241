"""What a search for brokers is told. Values only."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..urls import Address, AmqpUrl, amqp_url


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
