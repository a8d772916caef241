"""Declares the exchange of a link, whether or not its user may.

A user who may declare an exchange may also delete it, and declare another of the same name that
routes otherwise. So an administrator may have declared the exchanges, and give the user no right to
do so. RabbitMQ looks for that right before it looks whether the exchange is there. So the exchange
is declared actively first, which also shows whether it is of the right type. If that is refused, it
is declared passively, which asks only whether it exists, and needs no right.

Each refusal costs a connection, because a broker closes the channel. So the links of a process
learn from each other.
"""

from __future__ import annotations

from collections.abc import Callable

import pika.channel
import pika.exceptions

from .. import faults
from ..exceptions import BrokerError
from ..urls import AmqpUrl
from .link import Link
from .topology import declare_exchange, look_for_exchange

_ACCESS_REFUSED, _NOT_FOUND = 403, 404

_MOST_REMEMBERED = 1_024
"""The most brokers, with user and virtual host, of which is remembered that they refuse."""


class Refusing:
    """The brokers that let the user of a URL declare no exchange. Any thread may use it."""

    def __init__(self) -> None:
        self._urls: dict[AmqpUrl, None] = {}  # a single method of a dictionary is atomic

    def add(self, url: AmqpUrl) -> None:
        """Note that a broker has refused it."""
        if len(self._urls) >= _MOST_REMEMBERED:
            self._urls.clear()
        self._urls[url] = None

    def __contains__(self, url: AmqpUrl) -> bool:
        return url in self._urls


refusing = Refusing()
"""Those of this process. That is only where to begin: a link that is told that there is no exchange
tries to declare it all the same."""


class Declaration:
    """The declaration of one exchange, for the user of one link. In the reactor's thread.

    Args:
        link: the link.
        exchange: the name of a durable topic exchange.
        known: the brokers of which it is known that they refuse.
    """

    def __init__(self, link: Link, exchange: str, known: Refusing = refusing) -> None:
        self._link = link
        self._exchange = exchange
        self._known = known
        self._asked: Callable[..., None] | None = None
        self._is_missing = False

    def declare(self, channel: pika.channel.Channel, done: Callable[[], object]) -> None:
        """Declare the exchange, or see that it is there, and then call ``done``."""
        is_refused = self._link.endpoint.url in self._known and not self._is_missing
        self._asked = look_for_exchange if is_refused else declare_exchange

        def declared() -> None:
            self._asked = None
            self._is_missing = False
            done()

        self._asked(channel, self._exchange, self._link.guarded(channel, declared))

    def explain(self, error: pika.exceptions.ChannelClosedByBroker) -> BrokerError | None:
        """Say why the broker has closed the channel, if that was because of the declaration.

        If it can be declared in the other way, the link comes back at once, and does so.
        """
        asked, self._asked = self._asked, None
        if asked is None or f"exchange '{self._exchange}'" not in error.reply_text:
            return None
        link, url = self._link, self._link.endpoint.url
        if asked is declare_exchange and error.reply_code == _ACCESS_REFUSED:
            self._known.add(url)
            if self._is_missing:
                self._is_missing = False
                user, vhost = url.parts.user, url.parts.vhost
                return faults.no_exchange(link.address, self._exchange, user, vhost)
            link.come_back_soon()
            return faults.gave_up(link.address, f"{self._exchange} may not be declared there")
        if asked is look_for_exchange and error.reply_code == _NOT_FOUND:
            self._is_missing = True
            link.come_back_soon()
            return faults.gave_up(link.address, f"{self._exchange} is not there")
        return None
