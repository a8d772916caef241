"""One of a node's three topic networks: its codec, its publishers and its consumer."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ..amqp.consumer import PikaTopicConsumer
from ..amqp.link_state import SessionState
from ..amqp.outages import Reporting
from ..amqp.publisher import SimplePikaTopicPublisher
from ..amqp.topology import Queue
from ..exceptions import BackPressure, NetworkStopped
from ..urls import Address, AmqpUrl
from ..wire.announcement import LISTENER_KEY
from ..wire.codec import Codec
from ..wire.envelope import TOKEN_SEPARATOR, Envelope, Identity
from .notices import Notices
from .settings import Settings
from .stats import DropReason, NetworkStats

_LOSSES = Reporting(first_failure=logging.INFO)
"""The mesh: what never was connected is reported by who looks for brokers, and by who starts."""

_IN_PASSING = Reporting(first_failure=logging.INFO, loss=logging.INFO)
"""Further connections to a broker that another reports on."""


@dataclass(frozen=True)
class TopicSpec:
    """What distinguishes one of the three networks.

    Args:
        name: the exchange; also the network's name within each envelope.
        tx_key: the routing key of what is published.
        rx_key: the pattern of what is consumed.
        keys: the Fernet keys.
        queue: what is consumed from.
        lossy: its traffic may be lost, but never waits.
        check_body: tells whether the body of an envelope belongs on this network.
        check_notice: the same for the body of a notice; without it, the network has none.
    """

    name: str
    tx_key: str
    rx_key: str
    keys: tuple[bytes, ...] = field(repr=False)
    queue: Queue
    lossy: bool
    check_body: Callable[[Any], bool]
    check_notice: Callable[[Any], bool] | None = None


class TopicNetwork:
    """One topic network of one node, from its start to its stop.

    Every method may be called from any thread.

    Args:
        spec: which of the networks.
        settings: the node's.
        identity: the node's.
        on_envelope: called in the consumer's thread with each new envelope of another node.
        admit: called before it, and raises `MessageRejected` for what is not to be taken.
        room: how many envelopes ``on_envelope`` can take now; default any number.
        on_change: called when a connection changes its state; from any of their threads.
        notice: the body of the notice that is sent to the brokers of others, at each connection
            and now and then; called in the publishers' threads, `None` for nothing.
        on_notice: called in the consumer's thread with each notice of another node, but for those
            of neighbours (see `notices`), which are taken here.
    """

    def __init__(
        self,
        spec: TopicSpec,
        settings: Settings,
        identity: Identity,
        *,
        on_envelope: Callable[[Envelope], object],
        admit: Callable[[Envelope], object] | None = None,
        room: Callable[[], int] | None = None,
        on_change: Callable[[], None] | None = None,
        notice: Callable[[], Any] | None = None,
        on_notice: Callable[[Envelope], object] | None = None,
    ) -> None:
        self.spec = spec
        self.codec = Codec(
            spec.name,
            spec.keys,
            serializer=settings.serializer,
            deserializer=settings.deserializer,
            allowed_classes=settings.allowed_classes,
            max_bytes=settings.limits.event_bytes,
            max_age_s=settings.max_age_s,
            check_body=spec.check_body,
            check_notice=spec.check_notice,
        )
        self._settings = settings
        self._identity = identity
        self._on_envelope = on_envelope
        self._admit = admit
        self._room = room
        self._on_change = on_change
        self._notices: Notices | None = None
        if spec.check_notice is not None:
            self._notices = Notices(
                self.codec,
                identity,
                settings.limits.announce_s,
                own_publisher=self._own_publisher,
                is_hearing=self._is_hearing,
                body=notice,
                on_notice=on_notice,
            )
        # Held from numbering an envelope until every publisher has it, so that all of them send
        # in the same order; and while the set of publishers changes.
        self._order = threading.Lock()
        # Replaced as a whole when it changes, so that reading it needs no lock.
        self._publishers: dict[Address, SimplePikaTopicPublisher] = {}
        # The counters of publishers that are gone.
        self._former: Counter[str] = Counter()
        self._former_drops: Counter[DropReason] = Counter()
        self._transmitted = 0
        self._is_ending = False
        self.consumer: PikaTopicConsumer | None = None

    @property
    def publishers(self) -> dict[Address, SimplePikaTopicPublisher]:
        """The publisher to each broker; a copy."""
        return dict(self._publishers)

    def start_consumer(self, url: AmqpUrl) -> PikaTopicConsumer:
        """Begin to consume at the node's own broker."""
        spec, notices = self.spec, self._notices
        self.consumer = PikaTopicConsumer(
            url,
            spec.name,
            spec.rx_key,
            codec=self.codec,
            on_message=self._on_envelope,
            admit=self._admit,
            own_epoch=self._identity.epoch,
            on_notice=notices.take if notices is not None else None,
            further_keys=(LISTENER_KEY,) if notices is not None else (),
            room=self._room,
            queue=spec.queue,
            skip_sender_id=self._identity.sender_id,
            limits=self._settings.limits,
            tls=self._settings.tls,
            role=f"{spec.name} consumer of {self._identity.name}",
            on_change=self._on_consumer_change,
            reporting=_IN_PASSING if spec.lossy else _LOSSES,
        )
        self.consumer.start_thread()
        return self.consumer

    def add_broker(self, url: AmqpUrl) -> None:
        """Begin to publish to a broker; does nothing where there is a publisher already."""
        with self._order:
            if url.address in self._publishers:
                return
            is_own, notices = self._is_own(url.address), self._notices
            notice = None
            if notices is not None:
                notice = notices.for_neighbours if is_own else notices.for_others
            publisher = SimplePikaTopicPublisher(
                url,
                self.spec.name,
                self.spec.tx_key,
                separator=TOKEN_SEPARATOR,
                durable=self._settings.durable,
                lossy=self.spec.lossy,
                # The own broker's is patient while nobody else listens there.
                patient=self.spec.lossy or (is_own and notices is not None),
                sender_id=self._identity.sender_id,
                notice=notice,
                notice_key=LISTENER_KEY if is_own else None,
                limits=self._settings.limits,
                tls=self._settings.tls,
                role=f"{self.spec.name} publisher of {self._identity.name}",
                on_change=self._on_change,
                reporting=_IN_PASSING if self.spec.lossy or is_own else _LOSSES,
            )
            publisher.start_thread()
            # The newest first, and so the own broker last: its threads wake in this order, and
            # what goes farthest should go first.
            self._publishers = {url.address: publisher, **self._publishers}

    def remove_broker(self, address: Address) -> int:
        """Publish to a broker no longer; returns when its publisher has ended, within seconds.

        Returns:
            how many events were given up with it.
        """
        with self._order:
            publisher = self._publishers.get(address)
            if publisher is None:
                return 0
            self._publishers = {
                at: other for at, other in self._publishers.items() if at != address
            }
        publisher.stop_thread()
        self._attend_all()
        last = publisher.stats()
        left = last.waiting + last.unconfirmed
        with self._order:
            self._former.update(
                sent=last.sent,
                confirmed=last.confirmed,
                unrouted=last.unrouted,
            )
            self._former_drops.update(last.drops)
            self._former_drops[DropReason.FORGOTTEN] += left
        return left

    def _is_own(self, address: Address) -> bool:
        return self.consumer is not None and self.consumer.address == address

    def _on_consumer_change(self) -> None:
        if self._notices is not None:
            self._notices.tell_when_hearing()
        if self._on_change is not None:
            self._on_change()

    def _is_hearing(self) -> bool:
        return self.consumer is not None and self.consumer.is_connected

    def _own_publisher(self) -> SimplePikaTopicPublisher | None:
        return self._publishers.get(self.consumer.address) if self.consumer is not None else None

    def transmit(self, body: Any, timeout: float) -> None:
        """Encode a body once and hand it to every publisher.

        Args:
            body: what the network's envelopes carry.
            timeout: seconds to wait for connected brokers whose backlog is full.

        Raises:
            PayloadRefused: it cannot be serialized, or is too large.
            BackPressure: a broker's backlog had no room in time; nothing was sent to any.
            NetworkStopped: the network takes nothing more.
        """
        identity = self._identity
        deadline_s = time.monotonic() + timeout
        while True:
            with self._order:
                if self._is_ending:
                    raise NetworkStopped(f"{identity.name} was stopped")
                publishers = self._publishers.values()
                if all(publisher.has_room for publisher in publishers):
                    number = self._transmitted + 1
                    token = self.codec.encode(identity.name, identity.epoch, number, body)
                    self._transmitted = number
                    to_attend = [one for one in publishers if one.enqueue(token)]
                    break
            # Waits without the lock, so that nobody else has to; and looks again with it.
            self._wait_for_room(deadline_s, timeout)
        _attend(to_attend)

    def _attend_all(self) -> None:
        """See that nothing is left behind by a publisher that had to wake others, and ended."""
        for publisher in self._publishers.values():
            publisher.wake()

    def _wait_for_room(self, deadline_s: float, timeout: float) -> None:
        for publisher in self._publishers.values():
            if not publisher.wait_for_room(deadline_s):
                raise BackPressure(
                    f"the broker at {publisher.address} has had a full backlog for {timeout} s: "
                    "transmit less, or raise transmit_timeout or Limits.backlog_events"
                )

    def change_keys(self, keys: tuple[bytes, ...]) -> None:
        """Encrypt and decrypt with other keys, from the next envelope on."""
        self.codec.change_keys(keys)

    def flush(self, timeout: float | None = None, *, if_absent: bool = True) -> bool:
        """Wait until every broker that was ever reached has confirmed everything.

        Args:
            timeout: seconds to wait; default ``transmit_timeout``.
            if_absent: wait also for brokers that are absent, see
                `SimplePikaTopicPublisher.is_absent`.

        Returns:
            whether all have.
        """
        timeout_s = self._settings.transmit_timeout if timeout is None else timeout
        deadline_s = time.monotonic() + timeout_s
        flushed = [
            publisher.flush(max(0.0, deadline_s - time.monotonic()), if_absent=if_absent)
            for publisher in self.publishers.values()
        ]
        return all(flushed)

    def take_nothing_more(self) -> None:
        """Refuse what is transmitted from now on, so that a flush reaches all that was accepted."""
        with self._order:
            self._is_ending = True

    def stop_consumer(self) -> None:
        """Take nothing more from the own broker; `stop` waits for the consumer's end."""
        if self.consumer is not None:
            self.consumer.stop()

    def stop(self, timeout: float | None = None) -> None:
        """Stop every connection, all at the same time, and wait for their ends.

        Args:
            timeout: seconds after which connections are cut; default ``limits.stop_timeout_s``.
        """
        sessions = [
            *self.publishers.values(),
            *([self.consumer] if self.consumer else []),
        ]
        for session in sessions:
            session.stop(timeout)
        for session in sessions:
            session.stop_thread()

    def stats(self) -> NetworkStats:
        """The counters of this network."""
        brokers = {str(at): publisher.stats() for at, publisher in self.publishers.items()}
        former = self._former
        consumer = self.consumer.stats() if self.consumer is not None else None
        return NetworkStats(
            enabled=True,
            transmitted=self._transmitted,
            sent=former["sent"] + sum(one.sent for one in brokers.values()),
            confirmed=former["confirmed"] + sum(one.confirmed for one in brokers.values()),
            unrouted=former["unrouted"] + sum(one.unrouted for one in brokers.values()),
            received=consumer.received if consumer else 0,
            own=consumer.own if consumer else 0,
            duplicates=consumer.duplicates if consumer else 0,
            gaps=consumer.gaps if consumer else 0,
            dropped={
                reason: self._former_drops[reason]
                + sum(one.drops.get(reason, 0) for one in brokers.values())
                for reason in DropReason
            },
            rejected=dict(consumer.rejected) if consumer else {},
            brokers=brokers,
            consumer=consumer.state if consumer else SessionState.NEW,
            consumer_fault=str((self.consumer and self.consumer.fault) or ""),
        )


def _attend(publishers: list[SimplePikaTopicPublisher]) -> None:
    """Have publishers send: the first from this thread, the others from theirs.

    The first is the farthest. The time this thread spends hardly grows with their number.
    """
    if publishers:
        publishers[0].attend()
    if len(publishers) > 1:
        publishers[1].wake(publishers[2:])
