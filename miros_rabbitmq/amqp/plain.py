"""Messages written and read by pika's public interface alone; see `message_io`."""

from __future__ import annotations

from collections.abc import Callable

import pika
import pika.channel

from .message_io import Delivery, Outbound
from .owed import Owed
from .services import Tap

_ENOUGH_BYTES = 256 * 1024
"""If more bytes than this wait in pika's buffer, the socket is slower than we are."""


class PlainWire:
    """Messages by pika's own methods."""

    name = "plain"
    writes_from_any_thread = False

    def __init__(self) -> None:
        self._tap: Tap | None = None

    def open(self, connection: pika.SelectConnection, tap: Tap) -> None:
        """Remember the tap, which knows how many bytes wait. pika reads."""
        self._tap = tap

    def take_heartbeats(self, connection: pika.SelectConnection, interval_s: float) -> None:
        """Leave the heartbeats to pika."""

    def publishing(
        self,
        channel: pika.channel.Channel,
        outbound: Outbound,
        on_ack: Callable[[int, bool], object],
    ) -> PlainPublishing:
        """Begin to publish; pika delivers the confirms."""
        assert self._tap is not None
        owed = self._tap.conduct.expect_confirms(channel.channel_number)
        return PlainPublishing(channel, outbound, self._tap, owed)

    def consuming(
        self,
        channel: pika.channel.Channel,
        consumer_tag: str,
        on_delivery: Callable[[Delivery], object],
        most_body: int | None = None,
    ) -> PlainAcknowledging:
        """Begin to consume; pika delivers the messages."""
        assert self._tap is not None
        self._tap.conduct.expect_deliveries(channel.channel_number, consumer_tag, most_body)
        return PlainAcknowledging(channel)


class PlainPublishing:
    """``basic.publish`` by pika.

    Args:
        channel: an open channel.
        outbound: what all messages have in common.
        tap: knows the transport.
        owed: is told of each message.
    """

    def __init__(
        self, channel: pika.channel.Channel, outbound: Outbound, tap: Tap, owed: Owed
    ) -> None:
        self._channel = channel
        self._outbound = outbound
        self._tap = tap
        self._owed = owed

    def publish(self, routing_key: str, body: bytes) -> bool:
        """Have pika write one message."""
        outbound = self._outbound
        self._owed.note_published(len(body))
        self._channel.basic_publish(
            outbound.exchange,
            routing_key,
            body,
            outbound.properties,
            mandatory=True,
        )
        transport = self._tap.transport
        return transport is not None and transport.get_write_buffer_size() < _ENOUGH_BYTES

    def note_another(self, size: int) -> None:
        """Note a message that was published on the channel without this."""
        self._owed.note_published(size)


class PlainAcknowledging:
    """``basic.ack`` by pika.

    Args:
        channel: an open channel.
    """

    def __init__(self, channel: pika.channel.Channel) -> None:
        self._channel = channel

    def acknowledge(self, tag: int) -> None:
        """Acknowledge every delivery up to a tag."""
        self._channel.basic_ack(tag, multiple=True)
