"""What a publisher sends on its channel, and what becomes of it: confirms, refusals, returns.

The channel is set up for publisher confirms (https://www.rabbitmq.com/docs/confirms). What was not
confirmed when a connection is lost is sent again on the next, first and in order (see `delivery`).
When something goes out is told in `sender`.
"""

from __future__ import annotations

import logging
import math
import ssl
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pika
import pika.channel
import pika.spec

from ..delivery.intake import Intake
from ..delivery.outbox import DropReason, Outbox
from ..exceptions import SettingsError
from ..limits import Limits
from ..urls import check_short_text
from .framing import Confirms, Publishing
from .link_state import SessionState
from .outages import WARNINGS, Reporting
from .session import Session
from .topology import declare_exchange

logger = logging.getLogger(__name__)

PERSISTENT, TRANSIENT = 2, 1
"""Delivery modes of AMQP."""


class Outgoing(Session):
    """Publishes what is in its outbox; `SimplePikaTopicPublisher` has the arguments."""

    def __init__(
        self,
        amqp_url: str,
        exchange_name: str,
        routing_key: str,
        *,
        separator: bytes | None,
        durable: bool,
        lossy: bool,
        sender_id: str | None,
        limits: Limits | None,
        tls: ssl.SSLContext | None,
        role: str,
        on_change: Callable[[], None] | None,
        reporting: Reporting = WARNINGS,
    ) -> None:
        # What pika cannot write, it would refuse in the publisher's thread, again and again.
        check_short_text("exchange_name", exchange_name)
        check_short_text("routing_key", routing_key)
        if sender_id is not None:
            check_short_text("sender_id", sender_id)
        if separator is not None and not isinstance(separator, bytes):
            raise SettingsError(f"separator is bytes or None, not a {type(separator).__name__}")
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
        self._separator = separator
        self._lossy = lossy
        self._properties = pika.BasicProperties(
            app_id=sender_id,
            delivery_mode=PERSISTENT if durable and not lossy else TRANSIENT,
        )
        # Of the channel in use; with the lock of the loop.
        self._publishing: Publishing | None = None
        self._was_ready = False
        # When a broker that does not come back counts as absent, by the monotonic clock.
        self._absent_at_s = 0.0
        # What waits and what is under way, and the counters; with `_lock`.
        self._outbox = self._new_outbox()
        # It is opened behind something that waits in the outbox, and emptied before that is taken:
        # so where nothing waits in the outbox, nothing waits in the intake.
        self._intake = Intake()
        self._posted = 0
        self._sent = self._messages = self._confirmed = self._unrouted = 0
        self._drops: Counter[DropReason] = Counter()
        self._dropped_in_burst = 0
        self._nacks = 0

    # The session's thread, and whoever has the lock of its loop.

    def _set_up(self, channel: pika.channel.Channel) -> None:
        channel.add_on_return_callback(self._on_return)
        declare_exchange(
            channel,
            self.exchange_name,
            self._guarded(
                channel,
                lambda: channel.confirm_delivery(self._on_confirm, lambda _: self._set_up_done()),
            ),
        )

    def _probe(self, channel: pika.channel.Channel) -> None:
        declare_exchange(channel, self.exchange_name, self._answered)

    def _on_ready(self) -> None:
        channel = self._channel
        assert channel is not None
        assert self._connection is not None
        self._connection.shortcut = Confirms(channel, self._on_ack).take
        self._publishing = Publishing(
            channel, self.exchange_name, self.routing_key, self._properties, mandatory=True
        )
        with self._changed:
            self._was_ready = True
            self._absent_at_s = math.inf
            dropped, self._dropped_in_burst = self._dropped_in_burst, 0
        if dropped and not self._lossy:
            logger.warning("%s: %d events were dropped meanwhile", self._name, dropped)

    def _on_lost(self) -> None:
        self._publishing = None
        with self._changed:
            self._drops[DropReason.CONNECTION] += self._outbox.connection_lost()
            if self._state is SessionState.REFUSED:
                self._absent_at_s = 0.0
            elif self._absent_at_s == math.inf:
                self._absent_at_s = time.monotonic() + self.limits.absent_after_s
            self._changed.notify_all()

    def _send_next(self) -> bool:
        """Send one message, with the lock of the loop; whether it went as far as the socket."""
        publishing = self._publishing
        if publishing is None or self._open_channel is None:
            return False
        with self._lock:
            self._take_in()
            batch = self._outbox.take()
            if batch is None:
                return False
            self._sent += len(batch.tokens)
            self._messages += 1
        return publishing.publish((self._separator or b"").join(batch.tokens))

    def _give_up_channel(self) -> None:
        """Send nothing more by it: a message is noted of which nothing, or a part, was written."""
        self._publishing = None
        self._call_soon(self._abandon_connection)

    def _on_confirm(self, frame: Any) -> None:
        method = frame.method
        if isinstance(method, pika.spec.Basic.Nack):
            self._on_nack(method.delivery_tag, method.multiple)
        else:
            self._on_ack(method.delivery_tag, method.multiple)

    def _on_ack(self, tag: int, multiple: bool) -> None:
        self._nacks = 0
        self._settle(tag, multiple, refused=False)

    def _on_nack(self, tag: int, multiple: bool) -> None:
        if self._nacks < self.limits.nack_attempts:
            # The broker could not take it over. Sending it alone again would put it behind others.
            if self._open_channel is not None:
                self._nacks += 1
                self._reopen("the broker refused a message; sending again")
            return
        self._settle(tag, multiple, refused=True)

    def _settle(self, tag: int, multiple: bool, *, refused: bool) -> None:
        self._watchdog.note_progress(time.monotonic())
        with self._changed:
            settled = self._outbox.confirm(tag, multiple=multiple)
            if refused:
                self._note_drop(DropReason.REFUSED, settled)
            else:
                self._confirmed += settled
            self._changed.notify_all()

    def _on_return(
        self, _channel: object, _method: object, _properties: object, body: bytes
    ) -> None:
        events = 1 if self._separator is None else body.count(self._separator) + 1
        with self._changed:
            self._unrouted += events

    # Any thread, with the lock.

    def _take_in(self) -> None:
        """Look what was put into the intake, and have the outbox hold it."""
        tokens = self._intake.look()
        if tokens:
            self._outbox.post_all(tokens)
            self._posted += len(tokens)
            self._intake.forget(tokens)

    def _note_drop(self, reason: DropReason, events: int) -> None:
        """Count, and say the first of a burst aloud."""
        self._drops[reason] += events
        if not self._dropped_in_burst and not self._lossy:
            logger.warning("%s: from now on events are dropped: %s", self._name, reason.value)
        self._dropped_in_burst += events

    def _new_outbox(self) -> Outbox:
        limits, joined = self.limits, self._separator is not None
        return Outbox(
            max_events=limits.snoop_backlog_events if self._lossy else limits.backlog_events,
            max_bytes=limits.backlog_bytes,
            window=limits.window_messages * (1 if joined else limits.batch_events),
            batch_events=limits.batch_events if joined else 1,
            batch_bytes=limits.batch_bytes,
            resend=not self._lossy,
        )

    def _disown(self) -> None:
        super()._disown()
        # What the parent has not sent, it will send.
        self._outbox = self._new_outbox()
        self._intake = Intake()
        self._posted = 0
        self._publishing = None
        self._absent_at_s = 0.0
