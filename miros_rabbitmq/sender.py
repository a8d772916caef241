"""The sending half of a publisher: its thread, what waits in it, and when that goes out.

A post to an idle publisher is sent at once, by the thread that posts: a thread that has to be woken
first would take several times as long. So is each further one, until the window of unconfirmed
messages is full. Then posts come faster than a broker takes single messages, and what has come
together goes out together: when it fills a message, or at the next beat of a tempo that a PID sets
(see `pacing`). When a beat finds but a few, single posts go at once again. For traffic that nobody
waits for, the beats begin with the first post.
"""

from __future__ import annotations

import logging
import math
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pika
import pika.channel
import pika.exceptions
import pika.spec

from .delivery import DropReason, Outbox
from .exceptions import NetworkStopped, SettingsError
from .framing import Confirms, Publishing
from .life import SessionState
from .limits import Limits
from .outages import WARNINGS, Reporting
from .pacing import Tempo
from .session import Session
from .settings import check_short_text
from .topology import declare_exchange

logger = logging.getLogger(__name__)

_READY = SessionState.READY  # the member of an enumeration is found more slowly
_PERSISTENT, _TRANSIENT = 2, 1
_LONGEST_EXPIRATION_MS = 24 * 60 * 60 * 1000


class Sender(Session):
    """Sends bytes to one exchange of one broker; `SimplePikaTopicPublisher` has the arguments.

    Every method without an underscore may be called from any thread.
    """

    def __init__(
        self,
        amqp_url: str,
        exchange_name: str,
        routing_key: str,
        *,
        separator: bytes | None = None,
        durable: bool = True,
        lossy: bool = False,
        patient: bool = False,
        sender_id: str | None = None,
        notice: Callable[[], bytes | None] | None = None,
        notice_key: str | None = None,
        limits: Limits | None = None,
        tls: ssl.SSLContext | None = None,
        role: str = "miros publisher",
        on_change: Callable[[], None] | None = None,
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
        limits = self.limits
        self._separator = separator
        self._lossy = lossy
        self.patient = patient
        self._outbox = self._new_outbox()
        self._properties = pika.BasicProperties(
            app_id=sender_id,
            delivery_mode=_PERSISTENT if durable and not lossy else _TRANSIENT,
        )
        self._notice = notice
        self._notice_properties = pika.BasicProperties(
            app_id=sender_id,
            delivery_mode=_TRANSIENT,
            # The next one says it anew: of a receiver that takes nothing, one waits at most.
            expiration=str(min(int(limits.announce_s * 1000), _LONGEST_EXPIRATION_MS)),
        )
        self._notice_key = routing_key if notice_key is None else notice_key
        self._notice_timer: Any = None
        # Of the channel in use; with the lock of the loop.
        self._publishing: Publishing | None = None
        # The publisher's thread was woken and has not looked yet; a beat will make it look.
        self._wake_pending = self._beat_pending = False
        self._was_ready = False
        # When a broker that does not come back counts as absent, by the monotonic clock.
        self._absent_at_s = 0.0
        self._posted = 0
        self._sent = self._messages = self._confirmed = self._unrouted = 0
        self._drops: Counter[DropReason] = Counter()
        self._dropped_in_burst = 0
        self._nacks = 0
        self._hurried, self._unhurried = (
            Tempo(limits.tempo_fast_s, slow_s, limits.batch_events)
            for slow_s in (limits.tempo_slow_s, limits.tempo_patient_s)
        )
        self._beat_timer: Any = None

    def enqueue(self, token: bytes) -> bool:
        """`post_token`, in two steps: the second is `attend`.

        Returns:
            whether that has to be called; otherwise the publisher's thread looks by itself.
        """
        with self._lock:
            if self._stop_asked:
                why = "belongs to the parent process" if self._is_forked else "was stopped"
                raise NetworkStopped(f"the publisher to {self.address} {why}")
            self._posted += 1
            outbox = self._outbox
            dropped = outbox.post(token)
            if dropped:
                reason = DropReason.CONNECTION if self._lossy else DropReason.BACKLOG
                self._note_drop(reason, dropped)
            if self._state is not _READY or self._wake_pending:
                return False
            return self._is_due

    def attend(self) -> None:
        """Send what is due from the calling thread; where only the publisher's can, wake that."""
        if not self._send_from_here():
            self.wake()

    def wake(self, others: Sequence[Sender] = ()) -> None:
        """Have the publisher's thread look what there is to send.

        Args:
            others: further publishers to wake, which that thread does: it takes some microseconds
                for each, and the caller may have something to wait for.
        """
        with self._changed:
            if others or not self._wake_pending:
                # First: an exception between the two, as of Ctrl-C, would leave it pending.
                self._call_soon(lambda: self._on_wake(others))
                self._wake_pending = True

    def send_everything(self) -> None:
        """Have the publisher's thread send what waits, without waiting for a beat."""
        self._call_soon(lambda: self._send(everything=True))

    def send_notice(self) -> None:
        """Have the publisher's thread send a notice now."""
        self._call_soon(self._renew_notice)

    # Any thread.

    def _send_from_here(self) -> bool:
        """Send what is due, unless the publisher's thread is at it; whether nothing is left."""
        loop = self._ioloop
        # Whose first post begins the beats needs the publisher's thread.
        if self.patient or loop is None or self._thread is threading.current_thread():
            return False
        try:
            if not loop.lock.acquire(blocking=False):
                return False
            if self._state is not _READY or not self._is_due:
                return False
            return self._send_next() and not self._outbox.depth
        except (pika.exceptions.AMQPError, AttributeError, AssertionError, ConnectionError):
            logger.exception("%s: unexpected error; connecting again", self._name)
            self._give_up_channel()
            return True
        except BaseException:
            # Of a signal's handler, as of Ctrl-C.
            self._give_up_channel()
            raise
        finally:
            # Asked, and not remembered: a handler may run right after the lock was taken.
            if loop.lock._is_owned():
                loop.lock.release()

    def _give_up_channel(self) -> None:
        """Send nothing more by it: a message is noted of which nothing, or a part, was written."""
        self._publishing = None
        self._call_soon(self._abandon_connection)

    # The session's thread.

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
        assert self._channel is not None
        assert self._connection is not None
        self._connection.shortcut = Confirms(self._channel, self._on_ack).take
        self._publishing = Publishing(
            self._channel, self.exchange_name, self.routing_key, self._properties, mandatory=True
        )
        with self._changed:
            self._was_ready = True
            self._wake_pending = False
            self._absent_at_s = math.inf
            dropped, self._dropped_in_burst = self._dropped_in_burst, 0
        if dropped and not self._lossy:
            logger.warning("%s: %d events were dropped meanwhile", self._name, dropped)
        self._send(everything=True)
        self._renew_notice()

    def _on_lost(self) -> None:
        self._stop_beating()
        self._stop_noticing()
        self._publishing = None
        with self._changed:
            self._wake_pending = self._beat_pending = False
            self._drops[DropReason.CONNECTION] += self._outbox.connection_lost()
            if self._state is SessionState.REFUSED:
                self._absent_at_s = 0.0
            elif self._absent_at_s == math.inf:
                self._absent_at_s = time.monotonic() + self.limits.absent_after_s
            self._changed.notify_all()

    @property
    def _is_due(self) -> bool:
        """What is posted waits for no beat, and for no confirm that opens the window."""
        outbox = self._outbox
        if self._beat_pending and not outbox.fills_message:
            return outbox.is_calm and not self.patient and outbox.has_window
        return outbox.has_window

    @property
    def _tempo(self) -> Tempo:
        return self._unhurried if self.patient else self._hurried

    def _on_wake(self, others: Sequence[Sender]) -> None:
        for other in others:
            other.wake()
        with self._changed:
            self._wake_pending = False
        self._send()

    def _on_beat(self) -> None:
        self._beat_timer = None
        self._send(everything=True)

    def _send(self, *, everything: bool = False) -> None:
        """Send what is due, or at a beat everything, and set the time of the next beat."""
        if self._state is not _READY:
            return
        outbox = self._outbox
        depth = outbox.depth
        everything = everything or self._beat_timer is None
        has_sent = False
        # Bounded, where each event is a message of its own: there is more to do in this thread.
        for _ in range(self.limits.batch_events):
            if not (everything or outbox.fills_message) or not self._send_next():
                break
            has_sent = True
        if has_sent or self._beat_timer is None:
            self._plan_beat(depth)

    def _plan_beat(self, depth: int) -> None:
        """Set the time of the next beat, by the depth before this one."""
        self._stop_beating()
        tempo_s = self._tempo.beat(depth, time.monotonic())
        outbox = self._outbox
        with self._changed:
            if not depth:
                outbox.note_silence()
            # After several at once more are expected, so that nobody has to wake this thread; and
            # the patient send once in the time of a beat.
            goes_on = outbox.depth > 0 or (depth > 0 if self.patient else not outbox.is_calm)
            self._beat_pending = goes_on and outbox.has_window
            if self._beat_pending:
                self._beat_timer = self._call_later(tempo_s, self._on_beat)

    def _stop_beating(self) -> None:
        self._cancel_call(self._beat_timer)
        self._beat_timer = None

    def _renew_notice(self) -> None:
        self._stop_noticing()
        channel = self._open_channel
        if self._notice is None or channel is None:
            return
        self._notice_timer = self._call_later(self.limits.announce_s, self._renew_notice)
        notice = self._notice() if self._state is _READY else None
        if notice is None:
            return
        with self._changed:
            self._outbox.skip_tag()
        channel.basic_publish(self.exchange_name, self._notice_key, notice, self._notice_properties)

    def _stop_noticing(self) -> None:
        self._cancel_call(self._notice_timer)
        self._notice_timer = None

    def _send_next(self) -> bool:
        """Send one message, with the lock of the loop; whether it went as far as the socket."""
        publishing = self._publishing
        if publishing is None or self._open_channel is None:
            return False
        with self._lock:
            batch = self._outbox.take()
            if batch is None:
                return False
            self._sent += len(batch.tokens)
            self._messages += 1
        return publishing.publish((self._separator or b"").join(batch.tokens))

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
        if self._outbox.depth:
            self._send()

    def _on_return(
        self, _channel: object, _method: object, _properties: object, body: bytes
    ) -> None:
        events = 1 if self._separator is None else body.count(self._separator) + 1
        with self._changed:
            self._unrouted += events

    # In the thread that drops, with the lock.

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
        self._posted = 0
        self._beat_timer = self._notice_timer = self._publishing = None
        self._wake_pending = self._beat_pending = False
        self._absent_at_s = 0.0
