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

import re
from collections.abc import Callable
from typing import Any

import pika.channel
import pika.exceptions

from .. import faults
from ..closings import closed_by_broker
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


refusing: Refusing = Refusing()
"""Those of this process. That is only where to begin: a link that is told that there is no exchange
tries to declare it all the same."""


class Declaration:
    """The declaration of one exchange, for the user of one link. In the reactor's thread.

    Args:
        link: the link.
        exchange: the name of a durable topic exchange.
        known: the brokers of which it is known that they refuse; by default, to this process.
    """

    def __init__(self, link: Link, exchange: str, known: Refusing | None = None) -> None:
        self._link = link
        self._exchange = exchange
        self._known = refusing if known is None else known
        self._asked: Callable[..., None] | None = None
        self._is_missing = False
        self._is_passive = False

    def declare(self, channel: pika.channel.Channel, done: Callable[[], object]) -> None:
        """Declare the exchange, or see that it is there, and then call ``done``."""

        def declared() -> None:
            self._note_answer()
            done()

        self._ask(channel, self._link.guarded(channel, declared))

    def declare_unanswered(
        self, channel: pika.channel.Channel, done: Callable[[], object]
    ) -> Callable[[], object]:
        """Declare the exchange as `declare` does, but have the broker send no answer.

        A refusal closes the channel all the same.

        Returns:
            what to call when the broker has answered whatever is sent next; it calls ``done``.
        """
        self._ask(channel, None)

        def next_is_answered() -> None:
            self._note_answer()
            done()

        return next_is_answered

    def _ask(self, channel: pika.channel.Channel, done: Callable[[], object] | None) -> None:
        is_refused = self._link.endpoint.url in self._known and not self._is_missing
        self._is_passive = is_refused
        self._asked = look_for_exchange if is_refused else declare_exchange
        self._asked(channel, self._exchange, done)

    def _note_answer(self) -> None:
        self._asked = None
        self._is_missing = False

    def check_writing(self, channel: pika.channel.Channel, done: Callable[[], object]) -> None:
        """After a passive declaration: give the link up if the user may not publish either.

        Otherwise the link would seem ready until its first message. RabbitMQ looks for the right
        when a message is published, and publishes one of a transaction when that is committed. So a
        transaction that is rolled back shows the right, and does nothing else.

        Args:
            channel: the user's of the link; another one is used.
            done: called if the user may publish, or if that cannot be found out.
        """
        proceed = self._link.guarded(channel, done)
        if not self._is_passive or not self._link.open_another_channel(
            lambda other: _WriteCheck(other, self._exchange, proceed, self._refuse).begin()
        ):
            proceed()

    def _refuse(self, error: pika.exceptions.ChannelClosedByBroker) -> None:
        link, parts = self._link, self._link.endpoint.url.parts
        code, text = error.reply_code, error.reply_text
        link.reopen(closed_by_broker(link.address, code, text, parts.user, parts.vhost))

    def explain(self, error: pika.exceptions.ChannelClosedByBroker) -> BrokerError | None:
        """Say why the broker has closed the channel, if that was because of the declaration.

        If it can be declared in the other way, the link comes back at once, and does so.
        """
        asked, self._asked = self._asked, None
        text = error.reply_text
        if asked is None or f"exchange '{self._exchange}'" not in text or _OTHER_RIGHT.search(text):
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


_OTHER_RIGHT = re.compile(r"\b(?:read|write) access to exchange '")
"""Refuses what was sent after a declaration without an answer, such as a binding."""

_EXCHANGE_REFUSED = re.compile(r"ACCESS_REFUSED - (?:\w+ )?access to exchange '")
"""Not for a right to a routing key, which somebody may lack who may publish by others."""


class _WriteCheck:
    """Finds out on a channel of its own whether the user may publish to an exchange.

    Args:
        channel: the channel, which is closed in the end.
        exchange: the exchange.
        done: called if the user may, or if that cannot be found out.
        refuse: called with the broker's words if not.
    """

    def __init__(
        self,
        channel: pika.channel.Channel,
        exchange: str,
        done: Callable[[], object],
        refuse: Callable[[pika.exceptions.ChannelClosedByBroker], object],
    ) -> None:
        self._channel = channel
        self._exchange = exchange
        self._done = done
        self._refuse = refuse
        self._is_over = False

    def begin(self) -> None:
        self._channel.add_on_close_callback(self._on_closed)
        self._channel.tx_select(callback=lambda _: self._publish())

    def _publish(self) -> None:
        self._channel.basic_publish(self._exchange, "", b"")
        self._channel.tx_rollback(callback=lambda _: self._on_rolled_back())

    def _on_rolled_back(self) -> None:
        self._is_over = True
        self._channel.close()
        self._done()

    def _on_closed(self, _channel: object, error: Any) -> None:
        if self._is_over:
            return
        self._is_over = True
        by_broker = isinstance(error, pika.exceptions.ChannelClosedByBroker)
        if by_broker and _EXCHANGE_REFUSED.match(error.reply_text):
            self._refuse(error)
        else:
            self._done()
