"""The receiving half of a consumer: its queue, what it holds, and what it acknowledges.

A message is acknowledged when the callback has had it, together with others that it has had about
then. Where the callback's side has no room, the message is held, unacknowledged, and tried again
shortly: the prefetch limit then holds the broker back, and the thread never blocks.
"""

from __future__ import annotations

import logging
import math
import ssl
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from pika.channel import Channel

from ..limits import Limits
from ..urls import check_short_text
from .framing import Deliveries, Delivery
from .outages import WARNINGS, Reporting
from .session import Session
from .topology import Queue, declare_exchange

logger = logging.getLogger(__name__)

_LOOK_AGAIN_S = 0.002
"""Wait before a callback without room is tried again: a chart handles some dozen events in it."""

_LOOK_AGAIN_MAX_S = 0.032
"""The wait doubles up to this while there is no room at all: a chart that handles nothing just now
shall not cost a processor either."""

_ACKNOWLEDGE_AFTER_S = 0.001
"""How long an acknowledgement may wait for others to go with: until the chart has had the event, as
it would hold up that one's answer, and not until the broker writes it to disk for want of it.
Until then the message may come again where the connection is lost."""

_ACKNOWLEDGE_SHARE = 4
"""It goes at once when it stands for one in so many of the messages that the prefetch limit allows:
so the broker always has leave to send more."""


class Receiver(Session):
    """Takes messages from one queue of one broker; `SimplePikaTopicConsumer` has the arguments."""

    def __init__(
        self,
        amqp_url: str,
        exchange_name: str,
        routing_key: str,
        *,
        on_message: Callable[[Any], object],
        room: Callable[[], int] | None = None,
        further_keys: Sequence[str] = (),
        queue: Queue | None = None,
        skip_sender_id: str | None = None,
        limits: Limits | None = None,
        tls: ssl.SSLContext | None = None,
        role: str = "miros consumer",
        on_change: Callable[[], None] | None = None,
        reporting: Reporting = WARNINGS,
    ) -> None:
        check_short_text("exchange_name", exchange_name)
        check_short_text("routing_key", routing_key)
        super().__init__(
            amqp_url,
            role=role,
            limits=limits,
            tls=tls,
            on_change=on_change,
            reporting=reporting,
        )
        self.exchange_name = exchange_name
        self.routing_key = routing_key
        self._on_message = on_message
        self._room = room
        self._further_keys = further_keys
        self._queue = queue or Queue()
        self._skip_sender_id = skip_sender_id
        self._max_bytes = math.inf
        self._held: deque[Delivery] = deque()
        self._look_again: Any = None
        self._look_again_s = _LOOK_AGAIN_S
        # The last message that was handled, and how many up to it are not acknowledged.
        self._handled_tag = self._handled = 0
        self._handled_at_once = max(1, self.limits.prefetch_messages // _ACKNOWLEDGE_SHARE)
        self._acknowledge_timer: Any = None
        # Of the channel in use.
        self._deliveries: Deliveries | None = None
        self._queue_name = ""
        self._messages = self._received = self._own = 0

    # The session's thread.

    def _set_up(self, channel: Channel) -> None:
        channel.add_on_cancel_callback(lambda _: self._reopen("the queue was deleted"))
        declare_exchange(
            channel,
            self.exchange_name,
            self._guarded(channel, lambda: self._declare_queue(channel)),
        )

    def _declare_queue(self, channel: Channel) -> None:
        queue = self._queue

        def on_declared(frame: Any) -> None:
            self._queue_name = frame.method.queue
            channel.basic_qos(prefetch_count=self.limits.prefetch_messages)
            self._bind_queue(channel, lambda: self._consume(channel))

        channel.queue_declare(
            queue.name,
            durable=queue.durable,
            exclusive=queue.exclusive,
            arguments=dict(queue.arguments),
            callback=lambda frame: self._guarded(channel, lambda: on_declared(frame))(),
        )

    def _bind_queue(self, channel: Channel, done: Callable[[], None]) -> None:
        """Bind the queue with every pattern, then proceed."""
        proceed = self._guarded(channel, done)
        for key in self._further_keys:
            channel.queue_bind(self._queue_name, self.exchange_name, key)
        # The broker answers in order.
        channel.queue_bind(
            self._queue_name, self.exchange_name, self.routing_key, callback=lambda _: proceed()
        )

    def _consume(self, channel: Channel) -> None:
        tag = channel.basic_consume(
            self._queue_name, self._on_pika_delivery, callback=lambda _: self._set_up_done()
        )
        assert self._connection is not None
        self._deliveries = Deliveries(channel, tag, self._on_delivery)
        self._connection.shortcut = self._deliveries.take

    def _probe(self, channel: Channel) -> None:
        # The broker tells of a deleted queue, but not of a deleted exchange or binding.
        declare_exchange(
            channel,
            self.exchange_name,
            self._guarded(channel, lambda: self._bind_queue(channel, self._answered)),
        )

    def _tear_down(self, channel: Channel, done: Callable[[], None]) -> None:
        if self._queue.exclusive:
            done()
        else:
            # A consumer that ends on purpose comes back under another name: nobody needs the queue.
            channel.queue_delete(self._queue.name, callback=lambda _: done())

    def _on_lost(self) -> None:
        # The broker delivers what was held, as it was not acknowledged, again.
        self._held.clear()
        self._handled = 0
        self._deliveries = None
        self._cancel_call(self._look_again)
        self._cancel_call(self._acknowledge_timer)
        self._look_again = self._acknowledge_timer = None

    def _on_pika_delivery(
        self, _channel: Channel, method: Any, properties: Any, body: bytes
    ) -> None:
        """Take one that the shortcut left to pika, as the parts of its frames came one by one."""
        key = method.routing_key  # bytes, where it is no text
        self._on_delivery(
            Delivery(
                body,
                key if isinstance(key, str) else key.decode(errors="replace"),
                properties.app_id,
                method.redelivered,
                method.delivery_tag,
            )
        )

    def _on_delivery(self, delivery: Delivery) -> None:
        self._messages += 1
        if len(delivery.body) > self._max_bytes:
            # At once: what waits for room is kept in memory.
            self._reject_oversize(delivery)
            return
        self._held.append(delivery)
        if self._look_again is None:
            self._hand_over()

    def _hand_over(self) -> None:
        """Hand held messages over, in order, as far as there is room for them."""
        self._look_again = None
        received = self._received
        while self._held and not self._stop_asked:
            delivery = self._held[0]
            if self._is_own(delivery):
                self._acknowledge(delivery)
            elif not self._deliver(delivery):
                if self._received != received:
                    self._look_again_s = _LOOK_AGAIN_S
                self._look_again = self._call_later(self._look_again_s, self._hand_over)
                self._look_again_s = min(2 * self._look_again_s, _LOOK_AGAIN_MAX_S)
                return
            self._held.popleft()
        self._look_again_s = _LOOK_AGAIN_S
        if self._received - received > 1:
            # Whoever was woken by the callback waits for the interpreter until this thread waits:
            # after one event soon, after many only when it has had the next message, too.
            time.sleep(0)

    def _deliver(self, delivery: Delivery) -> bool:
        """Hand over one message and acknowledge it, or tell that there is no room for it yet."""
        if self._room is not None and self._room() <= 0:
            return False
        self._call_back(delivery)
        self._acknowledge(delivery)
        return True

    def _is_own(self, delivery: Delivery) -> bool:
        """Count a message of one's own, which is skipped."""
        is_own = self._skip_sender_id is not None and delivery.sender_id == self._skip_sender_id
        self._own += is_own and not self._is_in_passing(delivery)
        return is_own

    def _is_in_passing(self, delivery: Delivery) -> bool:
        return delivery.routing_key in self._further_keys

    def _call_back(self, item: object) -> None:
        self._received += 1
        try:
            self._on_message(item)
        except BaseException:  # this thread is not theirs to end, as by sys.exit
            logger.exception("%s: the callback for received messages raised", self._name)

    def _acknowledge(self, delivery: Delivery) -> None:
        """Acknowledge a message soon; they are handled in the order of their tags."""
        self._handled_tag = delivery.tag
        self._handled += 1
        if self._handled >= self._handled_at_once:
            self._acknowledge_handled()
        elif self._acknowledge_timer is None:
            self._acknowledge_timer = self._call_later(
                _ACKNOWLEDGE_AFTER_S, self._on_acknowledge_timer
            )

    def _on_acknowledge_timer(self) -> None:
        self._acknowledge_timer = None
        self._acknowledge_handled()

    def _acknowledge_handled(self) -> None:
        deliveries = self._deliveries
        if self._handled and deliveries is not None and self._open_channel is not None:
            self._handled = 0
            deliveries.acknowledge(self._handled_tag)

    def _reject_oversize(self, delivery: Delivery) -> None:
        """Reject a message that is larger than any of a publisher of ours."""
        self._reject(delivery)

    def _reject(self, delivery: Delivery) -> None:
        channel = self._open_channel
        if channel is not None:
            channel.basic_reject(delivery.tag, requeue=False)

    def _disown(self) -> None:
        super()._disown()
        self._held.clear()
        self._handled = 0
        self._look_again = self._acknowledge_timer = self._deliveries = None
