"""Messages written and read by pika's public interface alone; see `message_io`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pika
import pika.channel

from .message_io import Delivery, Outbound
from .services import Tap

_ENOUGH_BYTES = 256 * 1024
"""If more bytes than this wait in pika's buffer, the socket is slower than we are."""


class PlainWire:
    """Messages by pika's own methods."""

    name = "plain"
    writes_from_any_thread = False

    def __init__(self) -> None:
        self._tap: Tap | None = None

    def make_tap(self, protocol: Any) -> Tap:
        """A tap that passes everything on."""
        return Tap(protocol)

    def open(self, connection: pika.SelectConnection, tap: Tap | None) -> None:
        """Remember the tap, which knows how many bytes wait."""
        self._tap = tap

    def publishing(
        self,
        channel: pika.channel.Channel,
        outbound: Outbound,
        on_ack: Callable[[int, bool], object],
    ) -> PlainPublishing:
        """Begin to publish; pika delivers the confirms."""
        return PlainPublishing(channel, outbound, self._tap)

    def consuming(
        self,
        channel: pika.channel.Channel,
        consumer_tag: str,
        on_delivery: Callable[[Delivery], object],
        most_body: int | None = None,
    ) -> PlainAcknowledging:
        """Begin to consume; pika delivers the messages."""
        return PlainAcknowledging(channel)


class PlainPublishing:
    """``basic.publish`` by pika.

    Args:
        channel: an open channel.
        outbound: what all messages have in common.
        tap: knows the transport.
    """

    def __init__(self, channel: pika.channel.Channel, outbound: Outbound, tap: Tap | None) -> None:
        self._channel = channel
        self._outbound = outbound
        self._tap = tap

    def publish(self, routing_key: str, body: bytes) -> bool:
        """Have pika write one message."""
        outbound = self._outbound
        self._channel.basic_publish(
            outbound.exchange,
            routing_key,
            body,
            outbound.properties,
            mandatory=True,
        )
        transport = self._tap.transport if self._tap is not None else None
        return transport is not None and transport.get_write_buffer_size() < _ENOUGH_BYTES


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
