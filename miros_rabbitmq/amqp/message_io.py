"""How messages are written to a connection and read from it: the interface of `native` and `plain`.

Native I/O itself writes and reads the frames that carry events, without pika. This makes an event a
third cheaper, and lets the thread that transmits do the writing; but it relies on private parts of
pika. Plain I/O uses only pika's public interface. `io_choice` decides which of the two is used.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import pika
import pika.channel

from .services import Tap


class Delivery(NamedTuple):
    """A message as the broker delivered it."""

    body: bytes
    """What was published."""
    routing_key: str
    """The routing key that it was published with."""
    exchange: str
    """The exchange that it was published to."""
    redelivered: bool
    """Whether the broker has delivered it before, to this consumer or to another one."""
    tag: int
    """The broker's number for it on this channel."""


@dataclass(frozen=True)
class Outbound:
    """What all messages of a publisher have in common.

    Args:
        exchange: the exchange to publish to.
        properties: the AMQP properties.
    """

    exchange: str
    properties: pika.BasicProperties


class Publishing(Protocol):
    """Publishes messages of one kind on one channel, each to be returned if no queue takes it."""

    def publish(self, routing_key: str, body: bytes) -> bool:
        """Write one message.

        Args:
            routing_key: its routing key.
            body: what it contains.

        Returns:
            whether the connection is ready for more; otherwise the rest is written when the socket
            takes it.
        """

    def note_another(self, size: int) -> None:
        """Note a message of a size that was published on the channel without this."""


class Acknowledging(Protocol):
    """Acknowledges the deliveries of one consumer."""

    def acknowledge(self, tag: int) -> None:
        """Acknowledge every delivery up to a tag."""


class Wire(Protocol):
    """The messages of one connection. Used in the reactor's thread."""

    name: str
    """``native`` or ``plain``."""
    writes_from_any_thread: bool
    """A thread inside `Link.run_here` may publish; otherwise only the reactor's thread may."""

    def open(self, connection: pika.SelectConnection, tap: Tap) -> Callable[[], bool] | None:
        """Note that the connection is open.

        Args:
            connection: pika's.
            tap: what stands between its socket and pika.

        Returns:
            what reads from the socket when it is readable, and tells whether it has; otherwise,
            and without it, pika reads.
        """

    def take_heartbeats(
        self, connection: pika.SelectConnection, interval_s: float
    ) -> Callable[[], object] | None:
        """Have pika send no heartbeats any more, if the caller sends something often enough.

        Args:
            connection: pika's, which is open.
            interval_s: the most seconds from one time that the caller sends something to the next.

        Returns:
            what sends a heartbeat, for when the caller has nothing else to send; `None` if pika
            goes on to send them.
        """

    def publishing(
        self,
        channel: pika.channel.Channel,
        outbound: Outbound,
        on_ack: Callable[[int, bool], object],
    ) -> Publishing:
        """Begin to publish.

        Args:
            channel: an open channel in confirm mode.
            outbound: what is published.
            on_ack: may be called with (delivery tag, multiple) of confirms that pika is then not
                told of.
        """

    def consuming(
        self,
        channel: pika.channel.Channel,
        consumer_tag: str,
        on_delivery: Callable[[Delivery], object],
        most_body: int | None = None,
    ) -> Acknowledging:
        """Begin to consume.

        Args:
            channel: an open channel.
            consumer_tag: the consumer's.
            on_delivery: may be called with deliveries that pika is then not told of.
            most_body: the consumer refuses larger bodies, so they come cut to a byte more.
        """
