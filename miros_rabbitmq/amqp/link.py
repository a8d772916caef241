"""One connection to one broker, kept up: connected, watched, lost, and connected again.

A link has no thread: it runs in a `Reactor`, which it may share with any number of others. Its
`ChannelUser`, a publisher or a consumer, decides what the channel is used for. Its life is the
table of `link_state`; `health` says when it is tried again, and whether it is still alive.

pika is called by the reactor's thread, or by a thread inside `Link.run_here`. Exceptions of pika
end here.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import pika
import pika.channel
import pika.exceptions
import pika.spec

from .. import faults
from ..closings import closed_by_broker
from ..condition import Condition
from ..delivery.refusal import Refusal
from ..exceptions import (
    AccessRefused,
    BrokerError,
    MirosApiException,
    OutOfResources,
    QueueTaken,
    VhostNotFound,
)
from ..foreign import hidden, in_words
from ..logs import RelayedLogger
from ..resources import shortage
from ..urls import Address, AmqpUrl
from .attempts import Attempts
from .blockage import Blockage
from .conduct import Conduct
from .health import WARNINGS, Health, Reporting, look_interval_s, timer_slack_s
from .io_choice import choose_wire
from .link_state import SessionState, Step, after
from .message_io import Wire
from .parameters import (
    Endpoint,
    connection_parameters,
    draw_connection_name,
    quieten_pika,
    translate,
)
from .reactor import IoThread, Lane, Timer
from .services import Services, Tap

logger: RelayedLogger = RelayedLogger(__name__)

_ATTEMPT_TIMEOUTS = 5
"""An attempt takes at most this many times ``connect_timeout_s``: one for the name, and two for
each of at most two addresses. After that, the heartbeat watches it."""

_END_GRACE_S = 1.0
"""How much longer than ``stop_timeout_s`` to wait for an end: the time of a cut, and more."""

_attempts = Attempts()


class ChannelUser(Protocol):
    """The user of a link's channel. Each method is called in the reactor's thread.

    `on_state` may also be called in the thread that starts the link.
    """

    def set_up(self, channel: pika.channel.Channel) -> None:
        """Set up a new channel, and call `Link.set_up_done` when it is usable."""

    def on_ready(self, channel: pika.channel.Channel, wire: Wire) -> None:
        """Note that the channel may be used, for the first time or again."""

    def on_lost(self) -> None:
        """Note that the channel is gone."""

    def explain(self, error: pika.exceptions.ChannelClosedByBroker) -> BrokerError | None:
        """Say why the broker has closed the channel, if this user knows better than the link."""

    def probe(self, channel: pika.channel.Channel) -> None:
        """Send the broker a request, and call `Link.answered` when the answer comes.

        Called now and then. The request declares again what was declared, in case it was deleted.
        """

    def tear_down(self, channel: pika.channel.Channel, done: Callable[[], None]) -> None:
        """Say good-bye on the channel, then call ``done``."""

    def on_state(self) -> None:
        """Note that the state has changed."""


_ENDS = (SessionState.REFUSED, SessionState.CLOSING, SessionState.STOPPED)


@dataclass(frozen=True)
class Role:
    """What a link is for.

    Args:
        name: a part of the link's name, in the log and for threads. No broker sees it.
        reporting: at which levels outages are logged.
    """

    name: str
    reporting: Reporting = WARNINGS


class Link:
    """Keeps a connection and its channel; owned by its user.

    `start`, `stop`, `move`, `leave_host`, `wait_for_end`, `wait_until_ready`, `call_soon`,
    `run_here` and the attributes may be used from any thread; everything else is for the reactor's
    thread. Nothing starts in the constructor.

    Args:
        endpoint: the broker, with times, sizes and TLS.
        role: what the link is for.
        user: what uses the channel.
        reactor: whose thread the link runs in.

    Raises:
        SettingsError: the URL is not one.
    """

    def __init__(
        self, endpoint: Endpoint, role: Role, user: ChannelUser, reactor: IoThread
    ) -> None:
        self.endpoint: Endpoint = endpoint
        self.address: Address = endpoint.url.address
        """Where it connects to; `move` changes it, and the name."""
        self.name: str = f"{role.name} at {self.address}"
        self.state: SessionState = SessionState.NEW
        """Where the link stands. Read it, but do not change it."""
        self.fault: BrokerError | None = None
        """Why it is not connected; `None` while it is, or before the first attempt has ended."""
        self.last_fault: BrokerError | None = None
        """Why the last attempt has failed, even while the next is under way; `None` when it is
        connected."""
        self.shortage: OutOfResources | None = None
        """What this process lacked in the last attempt, if that was why it failed."""
        self.is_stopping: bool = False
        """Whether it was asked to stop and not started again."""
        self.is_forked: bool = False
        """Whether it was started by the parent process."""
        self.connection_name: str = ""
        """The name of its connection at the broker, while there is one or an attempt at one."""
        self._parameters = connection_parameters(endpoint, "")
        self._role = role
        self._user = user
        self._reactor = reactor
        # Guards the state and the lane; notified at each change.
        self._make_lock()
        self._lane: Lane | None = None
        # From here on: the reactor's thread only.
        self._health = Health.of(self.name, endpoint.limits, role.reporting)
        self._connection: pika.SelectConnection | None = None
        self._services: Services | None = None
        self._wire: Wire | None = None
        # Sends a heartbeat; `None` if pika does that.
        self._send_heartbeat: Callable[[], object] | None = None
        self._channel: pika.channel.Channel | None = None
        self._retry_timer: Timer | None = None
        self._look_timer: Timer | None = None
        self._cut_timer: Timer | None = None
        self._blockage = Blockage(time.monotonic)
        self._refusal: Refusal | None = None
        self._comes_back_soon = False

    def _make_lock(self) -> None:
        self._changed = Condition()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name} {self.state.value}>"

    @property
    def is_connected(self) -> bool:
        """Whether it has a channel that is set up."""
        return self.state in (SessionState.READY, SessionState.BLOCKED)

    # Any thread.

    def start(self) -> None:
        """Begin to connect; does nothing if it was started already.

        After a `stop`, this waits for the end, a little longer than ``limits.stop_timeout_s``.

        Raises:
            MirosApiException: the link has not ended in this time, or it is the reactor's own
                thread that calls.
            OutOfResources: no thread can be started.
        """
        with self._changed.lock:
            if self._is_ending:
                self._wait_for_end()
            if self._lane is not None:
                if self.state is SessionState.CONNECTING:
                    # An exception, such as KeyboardInterrupt, may have ended that start too early.
                    self.call_soon(self._try_now)
                return
            quieten_pika()
            former = self.state
            try:
                # First: whoever finds a lane may stop it.
                self._enter(Step.START)
                lane = self._reactor.attach(self.name, self._on_error, self._keep)
            except BaseException:
                self.state = former
                raise
            self.is_stopping = self.is_forked = False
            lane.call_soon(self._connect)
        self._user.on_state()

    def _keep(self, lane: Lane | None) -> None:
        self._lane = lane

    @property
    def _is_ending(self) -> bool:
        """Whether it was asked to stop and has not ended yet."""
        return self.is_stopping and self._lane is not None

    def _wait_for_end(self) -> None:
        if self._reactor.is_current_thread:
            raise MirosApiException(
                f"{self.name} is stopping, and its own thread cannot start it again: start it from "
                "another thread"
            )
        timeout_s = self.endpoint.limits.stop_timeout_s + _END_GRACE_S
        if not self._changed.wait_for(lambda: not self._is_ending, timeout_s):
            raise MirosApiException(
                f"{self.name} was stopped and has not ended within {timeout_s:g} s, as its thread "
                f"is {self._reactor.busy() or 'waiting for the broker'}: wait for stop_thread to "
                "return True before you start it again"
            )

    def stop(self, timeout: float | None = None) -> None:
        """Ask the link to close its connection and end; returns at once.

        Args:
            timeout: seconds after which the connection is cut; default ``limits.stop_timeout_s``.
        """
        cut_after_s = self.endpoint.limits.stop_timeout_s if timeout is None else timeout
        with self._changed.lock:
            lane = self._lane
            if lane is None:
                return
            was_stopping, self.is_stopping = self.is_stopping, True
            self._changed.notify_all()
        try:
            if not was_stopping:
                self._user.on_state()
        finally:
            # Also if it was asked before: an exception such as KeyboardInterrupt may have come
            # here, and this timeout may be shorter.
            lane.call_soon(lambda: self._close(cut_after_s))

    def move(self, url: AmqpUrl, *, is_gone: bool) -> None:
        """Connect to another address from now on; returns at once.

        The present connection is closed first, so that the broker, if it is the same, knows that
        its consumer is gone.

        Args:
            url: the broker's.
            is_gone: nothing can be sent from or to the former address any more: the connection is
                dropped without a word.
        """
        self.call_soon(lambda: self._move(url, is_gone=is_gone))

    def leave_host(self, host: str) -> None:
        """Connect anew if the present connection begins at an address this machine has lost.

        Such a connection carries nothing any more, and no error tells so. Returns at once.

        Args:
            host: that IP address.
        """
        self.call_soon(lambda: self._leave_host(host))

    def wait_for_end(self, timeout: float | None = None) -> bool:
        """Wait until a link that was asked to stop has ended.

        Args:
            timeout: the longest wait, in seconds. Default: a little more than
                ``limits.stop_timeout_s``, after which the connection is cut.

        Returns:
            whether it has ended; `False` too when the reactor's own thread calls this.
        """
        if timeout is None:
            timeout = self.endpoint.limits.stop_timeout_s + _END_GRACE_S
        with self._changed.lock:
            if self._lane is None:
                return True
            if self._reactor.is_current_thread:
                return False
            return self._changed.wait_for(lambda: self._lane is None, timeout)

    def wait_until_ready(self, timeout: float) -> bool:
        """Wait until the link is connected, or is refused, or stops.

        Returns:
            whether it is connected.
        """
        with self._changed.lock:
            self._changed.wait_for(lambda: self.is_settled, timeout)
            return self.is_connected

    @property
    def is_settled(self) -> bool:
        """Whether it is connected, or is refused, or stops."""
        return self.is_connected or self.state in _ENDS

    def call_soon(self, callback: Callable[[], object]) -> None:
        """Have the reactor's thread call something, unless the link has ended."""
        lane = self._lane
        if lane is not None:
            lane.call_soon(callback)

    def run_here(self, job: Callable[[], bool]) -> bool:
        """Do something with the channel from the calling thread; see `Lane.run_here`."""
        lane = self._lane
        return lane is not None and lane.run_here(job)

    @property
    def is_worked_on_here(self) -> bool:
        """Whether the calling thread is at work on the connection, and now in a signal handler."""
        lane = self._lane
        return lane is not None and lane.is_mine()

    def give_up_connection(self) -> None:
        """Give up this connection, because a message may be partly written; connect anew."""
        self.call_soon(lambda: self._abandon(self._unexpected))

    # The reactor's thread, or a thread inside `run_here`.

    def call_later(self, delay_s: float, callback: Callable[[], object]) -> Timer | None:
        """Call something after some seconds, unless the link has ended."""
        lane = self._lane
        return lane.call_later(delay_s, callback) if lane is not None else None

    def _look_later(self) -> None:
        lane, interval_s = self._lane, look_interval_s(self.endpoint.limits)
        if lane is not None:
            slack_s = timer_slack_s(interval_s)
            self._look_timer = lane.call_later(interval_s, self._look, slack_s)

    def cancel(self, timer: Timer | None) -> None:
        """Cancel a timer of `call_later`; does nothing for `None`."""
        if timer is not None:
            timer.lane.cancel(timer)

    @property
    def wire(self) -> Wire | None:
        """The I/O of the present connection."""
        return self._wire

    @property
    def blocked_reason(self) -> str:
        """Why the broker lets nobody publish, in its words; empty while it does."""
        return self._blockage.reason or ""

    @property
    def bytes_unsent(self) -> int:
        """Bytes to send that have not reached the other host; see `Services.bytes_unsent`."""
        return self._services.bytes_unsent if self._services is not None else 0

    @property
    def open_channel(self) -> pika.channel.Channel | None:
        """The channel, while it is open."""
        channel = self._channel
        return channel if channel is not None and channel.is_open else None

    def guarded(
        self, channel: pika.channel.Channel, proceed: Callable[[], object]
    ) -> Callable[[], None]:
        """Wrap a callback, so that it proceeds only while the channel may still be used."""

        def call() -> None:
            if channel.is_open and channel is self._channel and not self.is_stopping:
                proceed()

        return call

    def set_up_done(self, details: str = "") -> None:
        """Note that the user has set up the channel.

        Args:
            details: what else the log should say of it.
        """
        if self.state is not SessionState.OPENING:
            return
        self._step(Step.SET_UP)
        self.fault = self.last_fault = self.shortage = None
        self._health.backoff.succeed(time.monotonic())
        self._health.outages.succeed(self.connection_name + details)
        self.answered()
        if self._blockage.reason is None:
            self._tell_ready()
        else:
            self._step(Step.BLOCK)

    def answered(self) -> None:
        """Note that the broker has answered: the connection works in both directions."""
        self._health.watchdog.answer(self._reactor.clock())

    def note_progress(self) -> None:
        """Note that something else shows that the broker hears us."""
        self._health.watchdog.note_progress(self._reactor.clock())

    def take_refusal(self) -> Refusal | None:
        """Return why the broker has closed the connection or its channel, if a message may be why.

        For `ChannelUser.on_lost`. It is returned once.
        """
        refusal, self._refusal = self._refusal, None
        return refusal

    def explain_closing(self, code: int, text: str) -> str:
        """Say in our words why the broker has closed the connection or its channel."""
        login, vhost = self._parameters.credentials, self._parameters.virtual_host
        return str(
            closed_by_broker(self.address, code, text, login.username, vhost, login.password)
        )

    @property
    def _secret(self) -> str:
        login = self._parameters.credentials
        return hidden(login.password, login.username)

    def in_words(self, text: object) -> str:
        """What the broker, or whatever answers in its place, has said, fit to be shown."""
        return in_words(text, secret=self._secret)

    def come_back_soon(self) -> None:
        """Note that this connection ends for a reason that the user knows and has logged.

        The next attempt then comes at once, and the loss is not logged as an outage. To be called
        before the end, or in `ChannelUser.on_lost`.
        """
        self._comes_back_soon = True

    @property
    def comes_back_soon(self) -> bool:
        """Whether this loss is one that `come_back_soon` has announced; for `on_state`."""
        return self._comes_back_soon

    def reopen(self, why: str | BrokerError) -> None:
        """Give up a channel that cannot be used any more; everything begins anew."""
        if self.is_connected or self.state is SessionState.OPENING:
            self.fault = faults.gave_up(self.address, why) if isinstance(why, str) else why
            self._close_connection()

    @property
    def cluster_name(self) -> str:
        """What the broker calls itself or its cluster; empty if it tells nothing sensible."""
        connection = self._connection
        told = None if connection is None else connection.server_properties
        name = told.get("cluster_name") if isinstance(told, dict) else None
        return self.in_words(name) if isinstance(name, str) else ""

    def open_another_channel(self, on_open: Callable[[pika.channel.Channel], object]) -> bool:
        """Open a channel beside that of the user, on the present connection.

        Args:
            on_open: called with the channel when it is open.

        Returns:
            whether that was asked for; False if there is no connection, or no channel left.
        """
        connection = self._connection
        if connection is None or not connection.is_open:
            return False
        try:
            channel = connection.channel(on_open_callback=on_open)
        except pika.exceptions.NoFreeChannels:
            return False
        if self.conduct is not None:
            self.conduct.open_channel(channel.channel_number)
        return True

    @property
    def conduct(self) -> Conduct | None:
        """What the broker may send on the present connection; `None` if there is none."""
        tap = self._tap
        return tap.conduct if tap is not None else None

    # Inside.

    @property
    def _tap(self) -> Tap | None:
        return self._services.tap if self._services is not None else None

    def _tell_ready(self) -> None:
        assert self._wire is not None
        if self._channel is not None:
            self._user.on_ready(self._channel, self._wire)

    def _connect(self) -> None:
        """Connect, or wait for another link that is trying the same broker."""
        self.cancel(self._retry_timer)
        self._retry_timer = None
        if self.is_stopping:
            return
        limits = self.endpoint.limits
        patience_s = _ATTEMPT_TIMEOUTS * limits.connect_timeout_s + limits.heartbeat_s
        if not _attempts.begin(self.endpoint.url, self, patience_s):
            self._retry_timer = self.call_later(patience_s, self._connect)
            return
        assert self._lane is not None
        self._refusal = None
        self._comes_back_soon = False
        wire = choose_wire()
        self._wire = wire
        self.connection_name = draw_connection_name()
        self._parameters = connection_parameters(self.endpoint, self.connection_name)
        frame_max, secret = self._parameters.frame_max, self._secret
        self._services = Services(
            self._lane,
            lambda protocol: Tap(protocol, Conduct(frame_max, self._reactor.clock, secret)),
            limits.connect_timeout_s,
        )
        self._connection = pika.SelectConnection(
            self._parameters,
            on_open_callback=self._on_connection_open,
            on_open_error_callback=self._on_connection_failed,
            on_close_callback=self._on_connection_closed,
            custom_ioloop=self._services,
        )

    def _move(self, url: AmqpUrl, *, is_gone: bool) -> None:
        if self.is_stopping:
            return
        _attempts.withdraw(self.endpoint.url, self)
        self.endpoint = replace(self.endpoint, url=url)
        self.address = url.address
        self.name = f"{self._role.name} at {self.address}"
        self._health.outages.end()
        self._health = Health.of(self.name, self.endpoint.limits, self._role.reporting)
        if self.is_connected and not is_gone:
            self.come_back_soon()
            self._close_connection()
        else:
            self._connect_anew()

    def _leave_host(self, host: str) -> None:
        services = self._services
        if services is not None and services.local_host == host and not self.is_stopping:
            logger.debug("%s: its connection began at %s, which is gone", self.name, host)
            self._connect_anew()

    def _connect_anew(self) -> None:
        """Drop the connection, which is no outage, and connect at once."""
        self._drop_connection()
        for timer in (self._look_timer, self._cut_timer):
            self.cancel(timer)
        self._look_timer = self._cut_timer = None
        try:
            if self.state not in (SessionState.WAITING, SessionState.REFUSED):
                self._step(Step.LOSE)
                self._user.on_lost()
        finally:
            self._retry()

    def on_broker_back(self) -> None:
        """Connect now, because the broker may answer again. Any thread may call this."""
        self.call_soon(self._try_now)

    def on_others_failure(self, fault: BrokerError) -> None:
        """Wait with the others, because the broker does not answer. Any thread may call this."""
        self.call_soon(lambda: self._follow(fault))

    def _try_now(self) -> None:
        if self._connection is not None or self.is_stopping:
            return
        if self.state is SessionState.CONNECTING:
            self._connect()
        elif not self._health.backoff.is_short_lived:
            # A link whose connections are lost at once waits for another reason.
            self._retry()

    def _follow(self, fault: BrokerError) -> None:
        if self.state is SessionState.CONNECTING and self._connection is None:
            self._lose(fault, is_shared=False)

    def _on_connection_open(self, connection: pika.SelectConnection) -> None:
        if connection is not self._connection or self.is_stopping:
            return
        assert connection is not None
        tap, services = self._tap, self._services
        assert tap is not None
        assert services is not None
        assert self._wire is not None
        tap.count_for(connection)
        self._step(Step.CONNECTED)
        # The broker is there for the others, whatever it says of what this link is for.
        self.fault = None
        _attempts.succeed(self.endpoint.url, self)
        services.read_by(self._wire.open(connection, tap))
        self._send_heartbeat = self._wire.take_heartbeats(
            connection, look_interval_s(self.endpoint.limits)
        )
        self._blockage.forget()
        self._health.watchdog.ask(self._reactor.clock())
        self._look_later()
        services.align_timers()
        connection.add_on_connection_blocked_callback(self._on_blocked)
        connection.add_on_connection_unblocked_callback(self._on_unblocked)
        channel = connection.channel(on_open_callback=self._on_channel_open)
        tap.conduct.open_channel(channel.channel_number)

    def _on_channel_open(self, channel: pika.channel.Channel) -> None:
        if channel.connection is not self._connection:
            return
        self._channel = channel
        channel.add_on_close_callback(self._on_channel_closed)
        # After pika's own callback for this frame, whose error does not say which method it was.
        connection = channel.connection
        channel.add_callback(
            lambda frame: self._on_channel_close(connection, frame.method),
            [pika.spec.Channel.Close],
        )
        self.guarded(channel, lambda: self._user.set_up(channel))()

    def _on_blocked(self, _connection: object, frame: Any) -> None:
        self._blockage.begin(self.in_words(frame.method.reason), self.name)
        if self.state is SessionState.READY:
            self._step(Step.BLOCK)

    def _on_unblocked(self, _connection: object, _frame: object) -> None:
        self._blockage.end(self.name)
        self.note_progress()
        if self.state is SessionState.BLOCKED:
            self._step(Step.UNBLOCK)
            self._tell_ready()

    def _look(self) -> None:
        """Check whether the connection still carries anything, and ask the broker again."""
        self._look_timer = None
        connection, services = self._connection, self._services
        if connection is None or services is None or self.is_stopping:
            return
        self._look_later()
        now_s = self._reactor.clock()
        watchdog = self._health.watchdog
        # A broker that lets nobody publish does not read either: its heartbeats have to be enough.
        if watchdog.is_dead(
            now_s,
            services.bytes_received,
            services.bytes_unsent,
            heartbeats_do=self.state is SessionState.BLOCKED,
        ):
            silence = f"nothing has come for {watchdog.silence_s(now_s):.0f} s"
            self._abandon(faults.went_silent(self.address, silence))
            return
        channel = self.open_channel
        if self.state is SessionState.READY and not watchdog.is_waiting and channel is not None:
            watchdog.ask(now_s)
            self._user.probe(channel)
        elif self._send_heartbeat is not None and connection.is_open:
            self._send_heartbeat()  # the broker is to hear something all the same

    def _on_channel_closed(self, channel: pika.channel.Channel, error: Exception) -> None:
        if channel is not self._channel:
            return
        self._channel = None
        if isinstance(error, pika.exceptions.ChannelClosedByBroker):
            self.fault = self._user.explain(error) or self._translate(error)
            self._close_connection()

    def _on_channel_close(self, connection: object, close: Any) -> None:
        """Note which method the broker has closed the channel for."""
        if connection is self._connection:
            self._refusal = Refusal.of_channel(
                close.reply_code, self.in_words(close.reply_text), close.class_id, close.method_id
            )
            if self._refusal is not None:
                words = self.explain_closing(close.reply_code, close.reply_text)
                self.fault = faults.message_refused(self.address, words)

    def _on_connection_failed(self, connection: object, error: BaseException) -> None:
        if connection is self._connection:
            self._lose(self._translate(error))

    def _on_connection_closed(self, connection: object, error: BaseException) -> None:
        if connection is self._connection:
            if isinstance(error, pika.exceptions.ConnectionClosedByBroker) and self.is_connected:
                self._refusal = Refusal.of_connection(
                    error.reply_code, self.in_words(error.reply_text)
                )
            # A fault of this link's own channel, or none: then the broker is away for all.
            fault = self.fault
            self._lose(fault or self._translate(error), is_shared=fault is None)

    def _on_error(self, error: BaseException) -> None:
        """Give up this connection after an exception in a callback, a timer or a handler."""
        short = shortage(error)
        if short is not None:
            # No descriptor, no memory or no thread: treat it like any other failed attempt.
            self._abandon(faults.starved(self.address, short))
            return
        if isinstance(error, OSError) and self.state is SessionState.CONNECTING:
            self._abandon(self._translate(error))
            return
        logger.error("%s: unexpected error; connecting again", self.name, exc_info=error)
        self._abandon(self._unexpected)

    @property
    def _unexpected(self) -> BrokerError:
        return faults.gave_up(self.address, "of an unexpected error, which the log shows")

    def _abandon(self, fault: BrokerError) -> None:
        """Give up the connection, in whatever state pika is."""
        self._drop_connection()
        if self.is_stopping:
            if self.state is not SessionState.STOPPED:
                self._finish()
        elif self.state not in (SessionState.WAITING, SessionState.REFUSED):
            self._lose(fault)
        elif self._retry_timer is None:
            self._retry_later(self.endpoint.limits.reconnect_max_s)

    def _drop_connection(self) -> None:
        """Forget the connection, and close its socket."""
        services, self._services = self._services, None
        self._connection = self._channel = self._wire = self._send_heartbeat = None
        self.connection_name = ""
        if services is not None:
            services.abort()

    def _lose(self, fault: BrokerError, *, is_shared: bool = True) -> None:
        """Note that the connection is lost, or could not be made; wait before the next attempt.

        Args:
            fault: why.
            is_shared: it concerns every link to this broker, and the others do not know it yet.
        """
        self._drop_connection()
        self.cancel(self._look_timer)
        self._look_timer = None
        if self.is_stopping:
            self._finish()
            return
        self.cancel(self._cut_timer)
        self._cut_timer = None
        refused = isinstance(fault, (AccessRefused, VhostNotFound))
        taken = isinstance(fault, QueueTaken)
        self.fault = self.last_fault = fault
        self.shortage = fault.__cause__ if isinstance(fault.__cause__, OutOfResources) else None
        try:
            self._step(Step.REFUSE if refused else Step.LOSE)
            self._user.on_lost()
        finally:
            # Try again, whatever the user's callbacks do.
            backoff = self._health.backoff
            comes_back_soon, self._comes_back_soon = self._comes_back_soon, False
            if comes_back_soon and not refused:
                self._retry_later(backoff.come_back(time.monotonic()))
                is_shared = False
            else:
                self._retry_later(backoff.fail(time.monotonic(), refused=refused, taken=taken))
                self._health.outages.fail(fault)
            if is_shared:
                _attempts.fail(self.endpoint.url, self, fault)

    def _retry_later(self, delay_s: float) -> None:
        self.cancel(self._retry_timer)
        self._retry_timer = self.call_later(delay_s, self._retry)

    def _retry(self) -> None:
        self.cancel(self._retry_timer)
        self._retry_timer = None
        if self.is_stopping:
            return
        if self.state is not SessionState.CONNECTING:
            self._step(Step.START)
        self.fault = None
        self._connect()

    def _close(self, cut_after_s: float) -> None:
        """Begin to end: politely if there is a channel, otherwise at once."""
        if self.state is SessionState.STOPPED:
            return
        self.cancel(self._cut_timer)
        self._cut_timer = self.call_later(cut_after_s, self._finish)
        if self.state is SessionState.CLOSING:
            return
        channel = self.open_channel if self.is_connected else None
        self._step(Step.CLOSE)
        self.cancel(self._retry_timer)
        self._retry_timer = None
        if self._connection is None or not self._connection.is_open:
            self._finish()  # before the handshake is over, there is nothing to close politely
        elif channel is not None:
            self._user.tear_down(channel, self._close_connection)
        else:
            self._close_connection()

    def _close_connection(self) -> None:
        connection = self._connection
        if connection is None or connection.is_closing or connection.is_closed:
            return
        if not connection.is_open:
            self._abandon(faults.gave_up(self.address, "it was closed during the handshake"))
            return
        connection.close()
        if not self.is_stopping:
            # Do not wait for a broker that does not answer this either.
            self.cancel(self._cut_timer)
            self._cut_timer = self.call_later(
                self.endpoint.limits.connect_timeout_s, lambda: self._cut_if_same(connection)
            )

    def _cut_if_same(self, connection: pika.SelectConnection) -> None:
        if connection is self._connection:
            fault = faults.went_silent(self.address, "it has not answered a close")
            self._lose(self.fault or fault)

    def _finish(self) -> None:
        """End, with or without the broker's consent."""
        lane = self._lane
        if lane is None or self.state is SessionState.STOPPED:
            return
        self._drop_connection()
        for timer in (self._look_timer, self._retry_timer, self._cut_timer):
            self.cancel(timer)
        self._look_timer = self._retry_timer = self._cut_timer = None
        # Here, not when it was asked to stop: it may have begun an attempt in between.
        _attempts.withdraw(self.endpoint.url, self)
        self._health.outages.end()
        try:
            if self.state is not SessionState.CLOSING:
                self._step(Step.CLOSE)
            self._user.on_lost()
        finally:
            try:
                self._step(Step.END)
            finally:
                # Last, after pika's remaining callbacks: a thread that waits for the end also waits
                # for the user's callbacks.
                lane.call_soon(lambda: self._leave(lane))

    def _leave(self, lane: Lane) -> None:
        lane.close()
        with self._changed.lock:
            if self._lane is lane:
                self._lane = None
            self._changed.notify_all()

    def _step(self, step: Step) -> None:
        """Enter the next state, and tell the user of it without the lock."""
        self._enter(step)
        self._user.on_state()

    def _enter(self, step: Step) -> None:
        with self._changed.lock:
            self.state = after(self.state, step, self.name)
            self._changed.notify_all()

    def _translate(self, error: BaseException) -> BrokerError:
        tap = self._tap
        if tap is not None and tap.misconduct is not None:
            return tap.misconduct.fault(self.address)
        if tap is not None and tap.lost_by is not None:
            short = shortage(tap.lost_by)
            if short is not None:
                return faults.starved(self.address, short)
            if isinstance(tap.lost_by, pika.exceptions.AMQPError):
                # Such as of what pika does not find among the broker's capabilities.
                return translate(tap.lost_by, self.endpoint.url, self._parameters)
            if not isinstance(tap.lost_by, OSError):
                logger.error("%s: unexpected error", self.name, exc_info=tap.lost_by)
                return self._unexpected
        greeting = tap.greeting if tap is not None else b""
        return translate(error, self.endpoint.url, self._parameters, greeting)

    def disown(self) -> None:
        """Forget the connection, in a forked child: it belongs to the parent. Its user calls this.

        No AMQP is sent: the child only closes its copies of the sockets.
        """
        self._make_lock()  # a thread that held the old lock does not exist here
        self._lane = self._connection = self._channel = self._services = self._wire = None
        self._send_heartbeat = None
        self.connection_name = ""
        self._retry_timer = self._look_timer = self._cut_timer = None
        if self.state is not SessionState.NEW:
            self.state = SessionState.STOPPED
            self.is_stopping = self.is_forked = True
