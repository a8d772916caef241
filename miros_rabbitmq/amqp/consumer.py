"""The public consumers, which work without a chart: they hand what they receive to a callback.

A `Receiver` receives the messages in the thread of its reactor. The callback is called in a thread
of its own.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable

from ..limits import Limits
from ..wire.codec import Codec
from ..wire.envelope import Envelope
from .envelopes import Admission, EnvelopeTaker
from .link import Role
from .message_io import Delivery
from .receiver import ConsumerStats, Outcome, Receiver, Source, Ticket
from .sinks import WorkerSink
from .standalone import OwnThread, Standalone, check_codec, endpoint_of
from .topology import Queue


class SimplePikaTopicConsumer(Standalone):
    """Consumes messages of a topic exchange of one broker.

    A message is acknowledged after the callback has returned. Messages that were not acknowledged
    when a connection is lost come again, marked as redelivered. While a slow callback is behind,
    the broker keeps what exceeds ``limits.prefetch_messages``.

    Use::

        consumer = SimplePikaTopicConsumer(url, "my.exchange", "my.#", on_message=print)
        consumer.start_thread()
        ...
        consumer.stop_thread()

    Every method may be called from any thread.

    Args:
        amqp_url: the broker, as in ``amqp://user:password@host:5672/%2F``.
        exchange_name: a durable topic exchange; declared if it does not exist.
        routing_key: the pattern to bind: ``*`` stands for a word, ``#`` for any number of words.
        on_message: called with each `Delivery`, one after the other, in a thread for callbacks.
            Exceptions that it raises are logged, and the message counts as handled.
        queue: the queue to declare and consume from. Default: an exclusive one.
        limits: times and sizes.
        tls: the context of an ``amqps`` URL. Default: what the environment describes (see
            `tls_from_environment`), or else the authorities of this machine.
        role: what the connection is for; a part of the thread's name and of log lines.
        on_change: called after the state has changed, in a thread for callbacks; it may take its
            time. Exceptions that it raises are logged.

    Raises:
        SettingsError: the URL is not an AMQP URL, or AMQP does not allow the exchange's name or the
            pattern.
    """

    def __init__(
        self,
        amqp_url: str,
        exchange_name: str,
        routing_key: str,
        *,
        on_message: Callable[[Delivery], object],
        queue: Queue | None = None,
        limits: Limits | None = None,
        tls: ssl.SSLContext | None = None,
        role: str = "miros consumer",
        on_change: Callable[[], object] | None = None,
    ) -> None:
        endpoint = endpoint_of(amqp_url, limits, tls)
        name = f"{role} at {endpoint.url.address}"
        most_bytes = endpoint.limits.fifo_remote_bytes
        sink = WorkerSink(f"messages of {name}", on_message, most_bytes=most_bytes)
        life = OwnThread(name, on_change)
        source = Source(exchange_name, routing_key, queue or Queue())
        self._taker = _MessageTaker(sink)
        self._receiver = Receiver(
            endpoint, Role(role), source, self._taker, life.reactor, life.note_change
        )
        life.own(self._receiver.link, sink.stop)
        super().__init__(life)
        self.exchange_name = exchange_name
        self.routing_key = routing_key

    def stats(self) -> ConsumerStats:
        """The counters of this consumer."""
        receiver = self._receiver
        received = self._taker.received
        return ConsumerStats(
            self.state,
            receiver.messages,
            received,
            0,
            0,
            0,
            {},
            receiver.link.connection_name,
            receiver.queue_name,
        )


class PikaTopicConsumer(Standalone):
    """Consumes what a `PikaTopicPublisher` with the same exchange and key publishes.

    Each envelope reaches the callback once and in its sender's order. Every method may be called
    from any thread.

    Args:
        amqp_url: the broker.
        exchange_name: a durable topic exchange.
        routing_key: the pattern to bind.
        codec: has the keys, and deserializes.
        on_message: called with each `Envelope`, one after the other, in a thread for callbacks.
            Exceptions that it raises are logged, and the envelope counts as handled.
        queue: the queue to declare and consume from. Default: an exclusive one.
        limits: times and sizes.
        tls: the context of an ``amqps`` URL. Default: what the environment describes (see
            `tls_from_environment`), or else the authorities of this machine.
        role: what the connection is for; a part of the thread's name and of log lines.
        on_change: called after the state has changed, in a thread for callbacks; it may take its
            time. Exceptions that it raises are logged.

    Raises:
        SettingsError: the URL is not an AMQP URL, or AMQP does not allow the exchange's name or the
            pattern.
    """

    def __init__(
        self,
        amqp_url: str,
        exchange_name: str,
        routing_key: str,
        *,
        codec: Codec,
        on_message: Callable[[Envelope], object],
        queue: Queue | None = None,
        limits: Limits | None = None,
        tls: ssl.SSLContext | None = None,
        role: str = "miros consumer",
        on_change: Callable[[], object] | None = None,
    ) -> None:
        check_codec(codec)
        endpoint = endpoint_of(amqp_url, limits, tls)
        name = f"{role} at {endpoint.url.address}"
        most_bytes = endpoint.limits.fifo_remote_bytes
        sink = WorkerSink(f"messages of {name}", on_message, most_bytes=most_bytes)
        life = OwnThread(name, on_change)
        source = Source(exchange_name, routing_key, queue or Queue())
        admission = Admission(bindings=(routing_key,))
        self._taker = EnvelopeTaker(name, exchange_name, codec, sink, endpoint.limits, admission)
        self._receiver = Receiver(
            endpoint, Role(role), source, self._taker, life.reactor, life.note_change
        )
        self._taker.use_timer(self._receiver.link.call_later)

        def stop_callbacks(timeout: float) -> None:
            self._taker.end()
            sink.stop(timeout)

        life.own(self._receiver.link, stop_callbacks)
        super().__init__(life)
        self.exchange_name = exchange_name
        self.routing_key = routing_key

    def stats(self) -> ConsumerStats:
        """The counters of this consumer."""
        return envelope_stats(self._receiver, self._taker)


def envelope_stats(receiver: Receiver, taker: EnvelopeTaker) -> ConsumerStats:
    """The counters of a receiver of envelopes."""
    return ConsumerStats(
        receiver.link.state,
        receiver.messages,
        taker.received,
        taker.own,
        taker.duplicates,
        taker.gaps,
        taker.rejected,
        receiver.link.connection_name,
        receiver.queue_name,
        taker.unread,
        receiver.queue_messages,
    )


class _MessageTaker:
    """Hands whole messages to a callback."""

    most_bytes = None

    def __init__(self, sink: WorkerSink) -> None:
        self.received = 0
        self._sink = sink

    def begin(self) -> None:
        """Do nothing: messages may have any age."""

    def refuse_oversize(self, delivery: Delivery) -> bool:
        """Refuse nothing: messages may have any size."""
        return False

    def take(self, delivery: Delivery) -> Outcome | Ticket:
        """Hand a message to the sink, if it has room."""
        if self._sink.room() <= 0:
            return Outcome.NO_ROOM
        ticket = self._sink.begin()
        self.received += 1
        self._sink.put(delivery, ticket, len(delivery.body))
        ticket.give_back()
        return ticket

    def forget(self) -> None:
        """Do nothing: no message is kept here."""
