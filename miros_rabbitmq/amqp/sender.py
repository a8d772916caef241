"""The sending half of a publisher: how posts reach its thread, and when they go out.

A post to an idle publisher is sent at once, by the thread that posts: a thread that has to be woken
first would take several times as long. So is each further one, until the window of unconfirmed
messages is full. Then posts come faster than a broker takes single messages, and what has come
together goes out together: when it fills a message, or at the next beat of a tempo that a PID sets
(see `pacing`). When a beat finds but a few, single posts go at once again. For traffic that nobody
waits for, the beats begin with the first post. What is posted while somebody is about to look at
all that was posted, passes without a lock (see `intake`).
"""

from __future__ import annotations

import logging
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import pika
import pika.exceptions

from ..delivery.outbox import DropReason
from ..delivery.pacing import Tempo
from ..exceptions import NetworkStopped
from ..limits import Limits
from .link_state import SessionState
from .outages import WARNINGS, Reporting
from .outgoing import TRANSIENT, Outgoing

logger = logging.getLogger(__name__)

_READY = SessionState.READY  # the member of an enumeration is found more slowly
_LONGEST_EXPIRATION_MS = 24 * 60 * 60 * 1000


class Sender(Outgoing):
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
        super().__init__(
            amqp_url,
            exchange_name,
            routing_key,
            separator=separator,
            durable=durable,
            lossy=lossy,
            sender_id=sender_id,
            limits=limits,
            tls=tls,
            role=role,
            on_change=on_change,
            reporting=reporting,
        )
        limits = self.limits
        self._patient = patient
        # The publisher's thread was woken and has not looked yet; a beat will make it look.
        self._wake_pending = self._beat_pending = False
        self._hurried, self._unhurried = (
            Tempo(limits.tempo_fast_s, slow_s, limits.batch_events)
            for slow_s in (limits.tempo_slow_s, limits.tempo_patient_s)
        )
        self._beat_timer: Any = None
        self._notice = notice
        self._notice_properties = pika.BasicProperties(
            app_id=sender_id,
            delivery_mode=TRANSIENT,
            # The next one says it anew: of a receiver that takes nothing, one waits at most.
            expiration=str(min(int(limits.announce_s * 1000), _LONGEST_EXPIRATION_MS)),
        )
        self._notice_key = routing_key if notice_key is None else notice_key
        self._notice_timer: Any = None

    def enqueue(self, token: bytes) -> bool:
        """`post_token`, in two steps: the second is `attend`.

        Returns:
            whether that has to be called; otherwise the publisher's thread looks by itself.
        """
        intake = self._intake
        is_in = not self._stop_asked and intake.put(token)
        if is_in and intake.is_open:
            return False
        with self._lock:
            self._take_in()
            if not is_in:
                self._post(token)
            return self._is_mine_to_send()

    def _post(self, token: bytes) -> None:
        """Put a token into the outbox; with the lock."""
        if self._stop_asked:
            why = "belongs to the parent process" if self._is_forked else "was stopped"
            raise NetworkStopped(f"the publisher to {self.address} {why}")
        self._posted += 1
        dropped = self._outbox.post(token)
        if dropped:
            reason = DropReason.CONNECTION if self._lossy else DropReason.BACKLOG
            self._note_drop(reason, dropped)

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

    @property
    def patient(self) -> bool:
        """What is posted goes once in the time of a beat, as nobody waits for it."""
        return self._patient

    @patient.setter
    def patient(self, patient: bool) -> None:
        self._patient = patient
        self._intake.close()  # the next post looks whether it may wait

    # Any thread.

    def _send_from_here(self) -> bool:
        """Send what is due, unless the publisher's thread is at it; whether nothing is left."""
        loop = self._ioloop
        # Whose first post begins the beats needs the publisher's thread.
        if self._patient or loop is None or self._thread is threading.current_thread():
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

    # The session's thread.

    def _on_ready(self) -> None:
        with self._lock:
            self._wake_pending = False
        super()._on_ready()
        self._send(everything=True)
        self._renew_notice()

    def _on_lost(self) -> None:
        self._stop_beating()
        self._stop_noticing()
        with self._lock:
            self._wake_pending = self._beat_pending = False
        super()._on_lost()

    def _settle(self, tag: int, multiple: bool, *, refused: bool) -> None:
        super()._settle(tag, multiple, refused=refused)
        if self._outbox.depth:
            self._send()

    @property
    def _is_due(self) -> bool:
        """Something is posted, and waits for no beat, and for no confirm that opens the window."""
        outbox = self._outbox
        if not outbox.depth or not outbox.has_window:
            return False
        waits = self._beat_pending and not outbox.fills_message
        return not waits or (outbox.is_calm and not self._patient)

    def _is_mine_to_send(self) -> bool:
        """Whether there is something to do now that nobody is about to do; with the lock.

        While somebody is about to look, further posts pass without this question.
        """
        if self._state is not _READY:
            return False
        outbox = self._outbox
        if self._wake_pending or not outbox.has_window:  # a confirm opens it, and makes us look
            self._intake.open(outbox.room)
            return False
        if self._beat_pending and (self._patient or not outbox.is_calm):
            self._intake.open(min(outbox.room, outbox.room_in_message))
        return self._is_due

    @property
    def _tempo(self) -> Tempo:
        return self._unhurried if self._patient else self._hurried

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
        with self._lock:
            self._take_in()
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
            goes_on = outbox.depth > 0 or (depth > 0 if self._patient else not outbox.is_calm)
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

    def _disown(self) -> None:
        super()._disown()
        self._beat_timer = self._notice_timer = None
        self._wake_pending = self._beat_pending = False
