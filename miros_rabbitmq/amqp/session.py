"""One connection to one broker, and the thread that keeps it.

A session connects, opens a channel, and when either is lost waits and connects again, until it
is stopped. What the channel is used for is its subclasses' business: they publish or consume.

How the thread starts and stops is told in `session_thread`, and its life is the table of `life`.

pika is called by the session's own thread, with the lock of its loop; another thread that has this
lock may write (see `loop`). Otherwise other threads reach it through `_call_soon`, or through state
that `_changed` guards. Exceptions of pika end here.
"""

from __future__ import annotations

import contextlib
import logging
import ssl
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

import pika
import pika.channel
import pika.exceptions

from .. import faults
from ..exceptions import AccessRefused, BrokerError, VhostNotFound
from ..limits import Limits
from ..process import in_forked_child
from ..urls import AmqpUrl
from .backoff import Backoff
from .connection import Connection, tune_reading
from .link_state import SessionState, Step
from .outages import WARNINGS, Outages, Reporting
from .parameters import connection_parameters, translate, unsent_bytes
from .session_thread import SessionThread
from .watchdog import Watchdog

logger = logging.getLogger(__name__)

_WATCHES_A_HEARTBEAT = 2
_PATIENCE_IN_HEARTBEATS = 0.95
"""A question every 5 s and nearly 10 s for its answer, so that the second look after it decides:
silence is noticed in 15 s, by the heartbeat of 10 s. pika's own check of heartbeats may take 30 s,
and RabbitMQ's of ours as long. With twice as many questions an idle node took 0.3 % of a core."""


class Session(SessionThread):
    """Keeps a connection in a thread of its own; the base of the publishers and consumers.

    `start_thread`, `stop`, `stop_thread`, `wait_until_ready`, `state` and `fault` may be used from
    any thread. Nothing starts in the constructor.

    Args:
        amqp_url: the broker; user, password and vhost are a part of it.
        role: what the connection is for; a part of the thread's and the connection's name.
        limits: times and sizes.
        tls: the context of an ``amqps`` URL.
        on_change: called when the state has changed, in the thread that changed it, which holds no
            lock then that others wait for. What it raises is logged.
        reporting: at which levels an outage is logged.

    Raises:
        SettingsError: the URL is not one.
    """

    def __init__(
        self,
        amqp_url: str,
        *,
        role: str,
        limits: Limits | None = None,
        tls: ssl.SSLContext | None = None,
        on_change: Callable[[], None] | None = None,
        reporting: Reporting = WARNINGS,
    ) -> None:
        self.url = AmqpUrl(amqp_url)
        limits = limits or Limits()
        self._parameters = connection_parameters(self.url, role, limits, tls)
        self.address = self.url.address
        super().__init__(f"{role} at {self.address}", limits, on_change)
        self._fault: BrokerError | None = None
        # From here on: the session's own thread only.
        self._connection: Connection | None = None
        self._channel: pika.channel.Channel | None = None
        self._retry_timer: Any = None
        self._watch_timer: Any = None
        self._watchdog = Watchdog(_PATIENCE_IN_HEARTBEATS * self.limits.heartbeat_s)
        self._blocked_reason: str | None = None
        self._backoff = Backoff(self.limits)
        self._outages = Outages(self._name, reporting)
        with _sessions_lock:
            _sessions.add(self)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.address} {self._state.value}>"

    @property
    def fault(self) -> BrokerError | None:
        """Why it is not connected; `None` while it is, or before the first attempt has ended."""
        return self._fault

    # What subclasses do with the channel; all in the session's thread.

    def _set_up(self, channel: pika.channel.Channel) -> None:
        """Use the new channel; calls `_set_up_done` when it is usable."""
        raise NotImplementedError

    def _probe(self, channel: pika.channel.Channel) -> None:
        """Ask the broker something that it answers, then call `_answered`.

        Called every now and then: what was declared is declared again, in case it was deleted.
        """
        raise NotImplementedError

    def _answered(self) -> None:
        """The broker has answered: the connection works in both directions."""
        self._watchdog.answer(time.monotonic())

    def _is_usable(self, channel: pika.channel.Channel) -> bool:
        """Whether a callback of this channel may still use it."""
        return bool(channel.is_open) and channel is self._channel and not self._stop_asked

    @property
    def _open_channel(self) -> pika.channel.Channel | None:
        """The channel, while it is open."""
        channel = self._channel
        return channel if channel is not None and channel.is_open else None

    def _on_ready(self) -> None:
        """The channel may be used, for the first time or again."""

    def _on_lost(self) -> None:
        """The channel is gone."""

    def _tear_down(self, channel: pika.channel.Channel, done: Callable[[], None]) -> None:
        """Say good-bye on the channel, then call ``done``."""
        done()

    def _guarded(
        self, channel: pika.channel.Channel, proceed: Callable[[], object]
    ) -> Callable[[], None]:
        """A callback that proceeds only while the channel may still be used."""

        def call() -> None:
            if self._is_usable(channel):
                proceed()

        return call

    def _set_up_done(self) -> None:
        if self._state is not SessionState.OPENING:
            return
        self._step(Step.SET_UP)
        self._fault = None
        self._backoff.succeed(time.monotonic())
        self._outages.succeed()
        self._answered()
        self._tell_others()
        if self._blocked_reason is None:
            self._on_ready()
        else:
            self._step(Step.BLOCK)

    def _connect(self) -> None:
        self._retry_timer = None
        self._connection = Connection(
            self._parameters,
            on_open_callback=self._on_connection_open,
            on_open_error_callback=self._on_connection_failed,
            on_close_callback=self._on_connection_closed,
            custom_ioloop=self._ioloop,
        )

    def _on_connection_open(self, connection: pika.SelectConnection) -> None:
        if self._stop_asked:
            return
        self._step(Step.CONNECTED)
        tune_reading(connection)
        self._blocked_reason = None
        self._watchdog.ask(time.monotonic())
        self._watch_timer = self._call_later(self._watch_interval_s, self._watch)
        connection.add_on_connection_blocked_callback(self._on_blocked)
        connection.add_on_connection_unblocked_callback(self._on_unblocked)
        connection.channel(on_open_callback=self._on_channel_open)

    def _on_channel_open(self, channel: pika.channel.Channel) -> None:
        self._channel = channel
        channel.add_on_close_callback(self._on_channel_closed)
        if self._is_usable(channel):
            self._set_up(channel)

    def _on_blocked(self, _connection: object, frame: Any) -> None:
        self._blocked_reason = str(frame.method.reason)
        logger.warning("%s: the broker lets nobody publish: %s", self._name, self._blocked_reason)
        if self._state is SessionState.READY:
            self._step(Step.BLOCK)

    def _on_unblocked(self, _connection: object, _frame: object) -> None:
        logger.warning("%s: the broker lets us publish again", self._name)
        self._blocked_reason = None
        self._watchdog.note_progress(time.monotonic())
        if self._state is SessionState.BLOCKED:
            self._step(Step.UNBLOCK)
            self._on_ready()

    @property
    def _watch_interval_s(self) -> float:
        return self.limits.heartbeat_s / _WATCHES_A_HEARTBEAT

    def _watch(self) -> None:
        """Look whether the connection still carries anything, and ask the broker again."""
        self._watch_timer = None
        connection, channel = self._connection, self._channel
        if connection is None or connection.is_closed or self._stop_asked:
            return
        self._watch_timer = self._call_later(self._watch_interval_s, self._watch)
        now_s = time.monotonic()
        # A broker that lets nobody publish does not read either: its heartbeats have to do.
        heartbeats_do = self._state is SessionState.BLOCKED
        if self._watchdog.is_dead(
            now_s, connection.bytes_received, unsent_bytes(connection), heartbeats_do=heartbeats_do
        ):
            self._fault = faults.no_answer(
                self.address, f"it went silent {self._watchdog.silence_s(now_s):.0f} s ago"
            )
            self._abort_transport()
        elif (
            self._state is SessionState.READY
            and not self._watchdog.is_waiting
            and channel is not None
            and self._is_usable(channel)
        ):
            self._watchdog.ask(now_s)
            self._probe(channel)

    def _reopen(self, why: str) -> None:
        """Give up a channel that is of no use any more; everything begins anew."""
        if self.is_connected or self._state is SessionState.OPENING:
            self._fault = faults.no_answer(self.address, why)
            self._close_connection()

    def _on_channel_closed(self, _channel: object, error: Exception) -> None:
        self._channel = None
        if isinstance(error, pika.exceptions.ChannelClosedByBroker):
            self._fault = self._translate(error)
            self._close_connection()

    def _on_connection_failed(self, connection: object, error: BaseException) -> None:
        if connection is self._connection:
            self._lose(self._translate(error))

    def _on_connection_closed(self, connection: object, error: BaseException) -> None:
        if connection is self._connection:
            self._lose(self._fault or self._translate(error))

    def _lose(self, fault: BrokerError) -> None:
        self._connection = None
        self._channel = None
        self._cancel_call(self._watch_timer)
        self._watch_timer = None
        if self._stop_asked:
            self._on_lost()
            self._ioloop.stop()
            return
        refused = isinstance(fault, (AccessRefused, VhostNotFound))
        self._fault = fault
        self._step(Step.REFUSE if refused else Step.LOSE)
        self._on_lost()
        delay_s = self._backoff.fail(time.monotonic(), refused=refused)
        self._outages.fail(fault)
        self._retry_timer = self._call_later(delay_s, self._retry)

    def _tell_others(self) -> None:
        """Let those that wait for the same broker try again: it is back."""
        with _sessions_lock:
            others = [other for other in _sessions if other.url == self.url]
        for other in others:
            if other._state in (SessionState.WAITING, SessionState.REFUSED):
                other._call_soon(other._retry_now)

    def _retry_now(self) -> None:
        # One whose connections are lost at once waits for another reason than the broker's absence.
        if self._retry_timer is not None and not self._backoff.is_short_lived:
            self._cancel_call(self._retry_timer)
            self._retry()

    def _retry(self) -> None:
        self._retry_timer = None
        if self._stop_asked:
            return
        self._step(Step.START)
        self._fault = None
        self._connect()

    def _close(self, cut_after_s: float) -> None:
        """Begin to end: politely where there is a channel, at once where there is none."""
        channel = self._open_channel if self.is_connected else None
        self._step(Step.CLOSE)
        self._call_later(cut_after_s, self._cut)
        self._cancel_call(self._retry_timer)
        self._retry_timer = None
        if self._connection is None:
            self._ioloop.stop()
        elif channel is not None:
            self._tear_down(channel, self._close_connection)
        else:
            self._close_connection()

    def _close_connection(self) -> None:
        connection = self._connection
        if connection is None or connection.is_closing or connection.is_closed:
            return
        if not connection.is_open:
            self._abort_transport()  # amid the handshake there is nobody to take leave of
            return
        connection.close()
        if not self._stop_asked:
            # A broker that does not answer this either is not waited for.
            self._call_later(self.limits.connect_timeout_s, lambda: self._abort_if_same(connection))

    def _abort_if_same(self, connection: pika.SelectConnection) -> None:
        if connection is self._connection:
            self._abort_transport()

    def _cut(self) -> None:
        """End without the broker's answer: it did not come in time."""
        self._abort_transport()
        # Where even that calls nothing back, the loop ends all the same.
        self._call_later(0.2, self._ioloop.stop)

    def _abandon_connection(self) -> None:
        # Whatever state pika was left in: this connection is not used again.
        with contextlib.suppress(Exception):
            self._abort_transport()
        if self._stop_asked:
            self._ioloop.stop()
        elif self._state not in (SessionState.WAITING, SessionState.REFUSED):
            self._lose(faults.no_answer(self.address, "an unexpected error, see the log"))

    def _abort_transport(self) -> None:
        connection = self._connection
        if connection is not None and not connection.is_closed:
            # pika has no public way to drop a connection without the broker's consent; and its
            # own error for that, ConnectionOpenAborted, fails an assertion of its own.
            connection._terminate_stream(pika.exceptions.AMQPConnectionError("cut"))

    def _translate(self, error: BaseException) -> BrokerError:
        return translate(error, self.url, self._parameters)

    def _disown(self) -> None:
        """Forget the thread and its connection, in a forked child: they are the parent's.

        Nothing is closed by the rules of AMQP: the child only lets go of its copies of the sockets.
        """
        super()._disown()
        self._connection = self._channel = None
        self._retry_timer = self._watch_timer = None


_sessions: weakref.WeakSet[Session] = weakref.WeakSet()
_sessions_lock = threading.Lock()


@in_forked_child
def _disown_all() -> None:
    global _sessions_lock
    _sessions_lock = threading.Lock()
    for session in list(_sessions):
        session._disown()
