"""Finds out whether two connections lead to the same broker or cluster.

What brokers tell of themselves does not say it: unless somebody has set a name, each node of a
cluster tells its own, and two machines called ``raspberrypi`` both tell ``rabbit@raspberrypi``.
Addresses say even less. So each connection has a *marker*: an exclusive queue with a random name,
to which it listens. A random token is published on one connection for the marker of the other. If
it arrives there, both lead to the same virtual host of the same broker or cluster. If it is
returned, they do not. A host that only pretends cannot know the token.

This causes no error at the brokers, as asking for a queue that is not there would. A marker is
deleted with its connection. All of this is for the reactor's thread.
"""

from __future__ import annotations

import enum
import secrets
import time
from collections.abc import Callable
from typing import Any

import pika.channel

from .declaration import refusing
from .link import Link
from .owed import Owed

EXCHANGE = "miros.markers"
"""A durable direct exchange. Its name begins like all others, for the sake of permissions."""

_RANDOM_BYTES = 16
"""Nobody guesses a number of 128 bits."""

_MOST_TOKENS = 100
"""The most tokens that wait in the queue of a marker; beyond it, the oldest go."""

_SETTLED_S = 0.05
"""For so long, other nodes of a cluster may not know a new marker: RabbitMQ tells the one that made
it before all of them have noted it. On a local network they have within a few milliseconds."""


class Verdict(enum.Enum):
    """Whether two connections lead to the same broker or cluster."""

    SAME = enum.auto()
    OTHER = enum.auto()
    UNKNOWN = enum.auto()
    """The broker does not let us find out."""


class Marker:
    """The marker of a link's present connection; it is made when it is first needed.

    Args:
        link: a link that is connected.
    """

    def __init__(self, link: Link) -> None:
        self.name: str = "miros." + secrets.token_urlsafe(_RANDOM_BYTES)
        self._link = link
        self._connection = link.connection_name
        self._channel: pika.channel.Channel | None = None
        self._owed = Owed()
        self._is_ready = False
        self._ready_s = 0.0
        self._is_broken = False
        self._waiting: list[Callable[[bool], object]] = []
        # What to call when a token arrives here, and when one that was sent from here is returned.
        self._expected: dict[bytes, Callable[[], object]] = {}
        self._sent: dict[bytes, Callable[[], object]] = {}

    @property
    def is_valid(self) -> bool:
        """Whether the connection is still the same, and the marker may be used."""
        is_same = bool(self._connection) and self._connection == self._link.connection_name
        return is_same and not self._is_broken

    @property
    def has_answered(self) -> bool:
        """Whether the broker has made the marker, or refused to."""
        return self._is_ready or self._is_broken

    def prepare(self, done: Callable[[bool], object]) -> None:
        """Make the marker.

        Args:
            done: called with whether it is there. Not called if the connection is lost before.
        """
        if self._is_ready or self._is_broken:
            done(self._is_ready)
            return
        self._waiting.append(done)
        if len(self._waiting) == 1:
            self._link.call_soon(self._open)

    def _open(self) -> None:
        if not self.is_valid or not self._link.open_another_channel(self._on_open):
            self._break()

    def _on_open(self, channel: pika.channel.Channel) -> None:
        self._channel = channel
        channel.add_on_close_callback(lambda *_: self._break())
        channel.add_on_cancel_callback(lambda _: self._break())  # somebody has deleted the queue
        channel.add_on_return_callback(self._on_return)
        if self._link.endpoint.url in refusing:
            channel.exchange_declare(EXCHANGE, passive=True)
        else:
            channel.exchange_declare(EXCHANGE, exchange_type="direct", durable=True)
        arguments = {"x-max-length": _MOST_TOKENS}
        channel.queue_declare(self.name, exclusive=True, arguments=arguments)
        channel.queue_bind(self.name, EXCHANGE, self.name)
        tag = channel.basic_consume(
            self.name, self._on_token, auto_ack=True, exclusive=True, callback=self._on_ready
        )
        conduct = self._link.conduct
        assert conduct is not None
        conduct.expect_deliveries(channel.channel_number, tag, _RANDOM_BYTES)
        conduct.expect_confirms(channel.channel_number, self._owed)

    def _on_ready(self, _: object) -> None:
        self._is_ready = True
        self._ready_s = time.monotonic()
        self._answer()

    def _break(self) -> None:
        self._is_broken = True
        self._is_ready = False
        self._answer()

    def _answer(self) -> None:
        waiting, self._waiting = self._waiting, []
        for done in waiting:
            done(self._is_ready)

    def _on_token(self, _channel: object, _method: object, _properties: object, body: Any) -> None:
        arrived = self._expected.pop(body, None)
        if arrived is not None:
            arrived()

    def _on_return(self, _channel: object, _method: object, _properties: object, body: Any) -> None:
        returned = self._sent.pop(body, None)
        if returned is not None:
            returned()

    def expect(self, token: bytes, arrived: Callable[[], object]) -> None:
        """Call something when a token arrives here."""
        self._expected[token] = arrived

    def expect_no_more(self, token: bytes) -> None:
        """Forget a token."""
        self._expected.pop(token, None)

    def rest_s(self) -> float:
        """How long it may still take until every node of a cluster knows the marker; 0 if not."""
        return max(0.0, self._ready_s + _SETTLED_S - time.monotonic())

    def send_to(self, other: Marker, done: Callable[[Verdict], object]) -> None:
        """Publish a token for another marker; both have to be ready.

        Args:
            other: that of another connection.
            done: called with what has become of the token. Not called if nothing has.
        """
        token = secrets.token_bytes(_RANDOM_BYTES)
        is_early = other.rest_s() > 0.0

        def returned() -> None:
            other.expect_no_more(token)
            if is_early:
                self._link.call_later(other.rest_s(), lambda: self.send_to(other, done))
                return
            done(Verdict.OTHER if other.is_valid else Verdict.UNKNOWN)

        def arrived() -> None:
            self._sent.pop(token, None)
            done(Verdict.SAME)

        def publish() -> None:
            channel = self._channel
            if self.is_valid and channel is not None and channel.is_open:
                self._sent[token] = returned
                other.expect(token, arrived)
                self._owed.note_published(_RANDOM_BYTES)
                channel.basic_publish(EXCHANGE, other.name, token, mandatory=True)

        self._link.call_soon(publish)


def compare(one: Marker, other: Marker, done: Callable[[Verdict], object]) -> None:
    """Find out whether two connections lead to the same broker or cluster.

    Args:
        one: the marker of a connection.
        other: that of another.
        done: called once; not at all while a broker does not answer.
    """

    answers: list[bool] = []

    def prepared(is_ready: bool) -> None:
        answers.append(is_ready)
        if answers == [True, True]:
            one.send_to(other, done)
        elif len(answers) == 2:
            done(Verdict.UNKNOWN)

    # Both at once: a thin or long way takes its time.
    one.prepare(prepared)
    other.prepare(prepared)
