"""Sends what is posted to one exchange of one broker: the part of a publisher that does the work.

The broker confirms each message (https://www.rabbitmq.com/docs/confirms). Events that were not
confirmed when a connection is lost are sent again on the next one, first and in order (see
`outbox`). The `schedule` decides when events are sent, and by which thread.
"""

from __future__ import annotations

import contextlib
import logging
import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import pika
import pika.channel
import pika.exceptions
import pika.spec

from ..delivery import intake
from ..delivery.allowance import Allowance
from ..delivery.bursts import Bursts
from ..delivery.nacks import CALM_S, Nacks
from ..delivery.outbox import DropReason, Outbox
from ..delivery.refusal import Refusal
from ..delivery.schedule import Schedule
from ..delivery.slowness import Base, Condition, Drain, Look, drain_between
from ..exceptions import BrokerError
from ..interruption import has_interrupted, is_mine
from ..limits import Limits
from ..logs import RelayedLogger, must_not_wait
from ..problems import Report, report_to_nobody
from ..process import Stage, disown_in_child
from ..urls import Address, check_short_text
from ..wire.message import count_records
from ..wire.sealer import Record
from .declaration import Declaration
from .drops import Drops
from .link import Link, Role
from .link_state import SessionState
from .message_io import Outbound, Publishing, Wire
from .parameters import Endpoint
from .reactor import IoThread, Timer

logger: RelayedLogger = RelayedLogger(__name__)

_PERSISTENT, _TRANSIENT = 2, 1
"""Delivery modes of AMQP."""

_LONGEST_EXPIRATION_MS = 24 * 60 * 60 * 1000

_RELEARN_S = 60.0
"""For so long, what a broker does not take is given up at once. Then the next message of that kind
is sent again, which costs a connection: a limit may have been raised, or a right given."""

_PATIENCE_S = 0.1
"""How long a look at the counters waits for the lock, which is held for microseconds."""

_LOOK_AGAIN_S = 0.005
"""How often a handler of a signal that waits for confirms looks for them."""

_CAUGHT_UP = 0.25
"""An outbox that is filled less has room again for a while."""


class PublisherStats(NamedTuple):
    """The counters of one publisher; all but ``messages`` count events."""

    state: SessionState
    """The state of the connection."""
    waiting: int
    """In the FIFO, not sent yet."""
    unconfirmed: int
    """Sent, and not confirmed by the broker yet."""
    sent: int
    """Handed to the connection, each resend counted again."""
    messages: int
    """AMQP messages that held them."""
    confirmed: int
    """Taken over by the broker."""
    unrouted: int
    """Confirmed, but no queue was bound for them."""
    dropped: int
    """Given up because a limit was reached, for any of the reasons."""
    tempo_s: float
    """The present time between two beats, in seconds."""
    drops: Mapping[DropReason, int]
    """The same, by reason."""
    fault: str
    """Why it is not connected, or lets nobody publish; empty while it takes messages."""
    connection: str = ""
    """The name of the connection at the broker; empty while there is none."""
    condition: Condition = Condition.KEEPING_UP
    """How the broker keeps up with what a chart sends."""
    oldest_s: float = 0.0
    """For how long the oldest event has waited to be confirmed, in seconds, at the last look: about
    twice a second while a chart sends."""
    spare_of: str = ""
    """The address to which events go instead, as it leads to the same broker or cluster; empty if
    they go to this one."""


@dataclass(frozen=True)
class Traffic:
    """What a sender sends, and how.

    Args:
        exchange: a durable topic exchange; declared if it does not exist.
        joined: whether records that wait together, with the same heading, go as one AMQP message;
            otherwise each goes alone.
        durable: whether messages survive a restart of the broker.
        lossy: whether the traffic may be lost but must never wait: messages under way when a
            connection is lost are not sent again, and a full outbox drops its oldest.
        patient: whether nobody waits for this traffic, so that it goes out at most once a beat.

    Raises:
        SettingsError: AMQP does not allow a name.
    """

    exchange: str
    joined: bool = False
    durable: bool = True
    lossy: bool = False
    patient: bool = False

    def __post_init__(self) -> None:
        # Otherwise pika would refuse it in the reactor's thread, again and again.
        check_short_text("exchange_name", self.exchange)

    @property
    def properties(self) -> pika.BasicProperties:
        """The AMQP properties of each message."""
        is_kept = self.durable and not self.lossy
        return pika.BasicProperties(delivery_mode=_PERSISTENT if is_kept else _TRANSIENT)

    def new_outbox(self, limits: Limits) -> Outbox:
        """Make an outbox for this traffic."""
        return Outbox(
            max_events=limits.snoop_backlog_events if self.lossy else limits.backlog_events,
            max_bytes=limits.backlog_bytes,
            window=limits.window_messages * (1 if self.joined else limits.batch_events),
            batch_events=limits.batch_events if self.joined else 1,
            batch_bytes=limits.batch_bytes,
            allowance=Allowance(
                max(limits.window_messages, 2) * limits.batch_bytes, time.monotonic
            ),
            resend=not self.lossy,
        )


@dataclass
class _Tally:
    """What has become of the records of one sender."""

    sent: int = 0
    messages: int = 0
    confirmed: int = 0
    unrouted: int = 0


Vet = Callable[["Sender", Callable[[], object]], object]
"""Looks at a new connection of a sender, and then calls a function."""


class Sender:
    """Sends records to one exchange of one broker.

    Every method without an underscore may be called from any thread, except for those of
    `ChannelUser`, which its link calls.

    Args:
        endpoint: the broker.
        role: what the sender is for.
        traffic: what it sends.
        reactor: drives its connection.
        on_state: called when the state has changed, in the thread that changed it. It must return
            at once and must not raise.
        report: takes the problems that the sender notices.
        vet: called with the sender and a function when a connection is there, in the reactor's
            thread. Nothing is sent on this connection before the function was called.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        role: Role,
        traffic: Traffic,
        reactor: IoThread,
        on_state: Callable[[], object] | None = None,
        report: Report = report_to_nobody,
        vet: Vet | None = None,
    ) -> None:
        self.traffic = traffic
        self._report = report
        self.link: Link = Link(endpoint, role, self, reactor)
        self._declaration = Declaration(self.link, traffic.exchange)
        self._limits = endpoint.limits
        self._tell_state = on_state
        self._vet = vet
        self.is_stranger = False
        """Nobody has named the broker. So nobody waits for room in its backlog before it has
        confirmed something, and somebody has vouched for it: anybody can confirm, at any pace."""
        self.is_vouched = False
        """A holder of the key has announced it."""
        self._beat_timer: Timer | None = None
        # Belongs to the channel in use; only for the thread that is in the link's lane.
        self._channel: pika.channel.Channel | None = None
        self._publishing: Publishing | None = None
        self._writes_here = False
        self._begin_anew()
        disown_in_child(self, Stage.CONNECTIONS)

    def _begin_anew(self) -> None:
        # Guards all that follows; notified at each change. The lock itself is kept too, because a
        # condition's methods are written in Python and take time.
        self._lock = threading.RLock()
        self._is_locked_here = is_mine(self._lock)
        self._changed = threading.Condition(self._lock)
        # How many threads wait for a change.
        self._waiters = 0
        self._outbox = self.traffic.new_outbox(self._limits)
        self._schedule = Schedule(
            self._outbox,
            self._lock,
            self._is_locked_here,
            self._limits,
            patient=self.traffic.patient,
        )
        self._tally = _Tally()
        self.confirms: int = 0
        """How many confirms have come, of whatever."""
        # A message that went out aside has no confirm yet.
        self._is_aside_open = False
        self._drops = Drops(
            self.link.name,
            str(self.address),
            self.traffic.exchange,
            self._report,
            is_expected=self.traffic.lossy,
        )
        self._nacks = Nacks(self._limits.nack_attempts)
        self._searches, self._limits_said = Bursts(), Bursts()
        # What the broker said when it told how much it takes, and when that was.
        self._limit_words = ""
        self._learned_s = math.inf
        self._was_ready = False
        self._condition, self._oldest_s = Condition.KEEPING_UP, 0.0
        # Nobody waits for room.
        self._yields = False
        # What is posted stays here for now.
        self._is_held = False
        # The broker was not reached yet, but the first attempt has not ended either.
        self._is_first_attempt = False
        # When a broker that does not come back counts as absent, by the monotonic clock.
        self._absent_at_s = 0.0

    @property
    def address(self) -> Address:
        """The broker's."""
        return self.link.address

    @property
    def is_connected(self) -> bool:
        """Whether the broker is connected."""
        return self.link.is_connected

    # Life.

    def start(self) -> None:
        """Begin to connect, and take posts again; see `Link.start`."""
        with self._lock:
            self._is_first_attempt = not self._was_ready
        self.link.start()

    def stop(self, timeout: float | None = None) -> None:
        """Take nothing more and close the connection; returns at once. See `Link.stop`."""
        self.link.stop(timeout)

    # Posting.

    def enqueue(self, record: Record) -> bool:
        """Put bytes into the FIFO without waiting for room; if it is full, the oldest are dropped.

        Returns:
            whether the caller has to call `attend`; otherwise the record is sent without it.

        Raises:
            NetworkStopped: the sender was stopped, or belongs to the parent process.
        """
        has_turn = self._schedule.post(record)
        if self._schedule.pushed_out:
            self._note_pushed_out()
        return has_turn

    def check_open(self) -> None:
        """Check that posts are taken.

        Raises:
            NetworkStopped: the sender was stopped, or belongs to the parent process.
        """
        self._schedule.check_open()

    def enqueue_over(self, record: Record) -> None:
        """Put bytes into the FIFO even if it is full or closed, and without its lock.

        They are sent by the reactor's thread.
        """
        self._schedule.intake.put_over(record)
        self.wake()

    def attend(self, others: Sequence[Sender] = ()) -> None:
        """Send what is due: in the calling thread if it can, otherwise in the reactor's.

        Args:
            others: further senders of the same reactor, which does it for them.
        """
        if not self._send_from_here():
            self.wake(others)
        elif others:
            others[0].wake(others[1:])

    def wake(self, others: Sequence[Sender] = ()) -> None:
        """Make the reactor's thread look for something to send.

        Args:
            others: further senders, which that thread wakes: this takes a moment for each, which
                the caller is spared.
        """
        lock = self._lock
        is_ours = self._is_locked_here()
        try:
            if is_ours or not lock.acquire(blocking=False):
                # Whoever has it may wait for this thread, see `schedule`. To wake once more does
                # no harm.
                self.link.call_soon(lambda: self._on_wake(others))
            elif others or not self._schedule.wake_pending:
                # First: an exception between the two, such as KeyboardInterrupt, would leave it
                # pending.
                self.link.call_soon(lambda: self._on_wake(others))
                self._schedule.wake_pending = True
        finally:
            if not is_ours:
                try:  # noqa: SIM105 - without a call that could be interrupted
                    lock.release()
                except RuntimeError:
                    pass  # it could not be had

    @contextlib.contextmanager
    def _tried_lock(self, patience_s: float) -> Iterator[bool]:
        """Hold the lock if it can be had in time, and not if the caller has interrupted its holder.

        Yields:
            whether it is held.
        """
        if self._is_locked_here():
            yield False
            return
        try:
            yield self._lock.acquire(timeout=patience_s)
        finally:
            try:  # noqa: SIM105 - without a call that could be interrupted
                self._lock.release()
            except RuntimeError:
                pass  # it could not be had

    def backlog(self) -> list[intake.Record]:
        """What waits and what is not confirmed, in order."""
        with self._lock:
            self._schedule.take_in()
            return self._outbox.held

    def hand_over(self) -> list[intake.Record]:
        """Give away what waits and what is not confirmed, in order: another sender has to send it.

        Here it counts as settled, so that nobody waits for it. The caller sees to it that nothing
        is posted meanwhile.
        """
        with self._lock:
            self._schedule.take_in()
            records = self._outbox.hand_over()
            self._changed.notify_all()
        return records

    def take_over(self, records: Sequence[intake.Record]) -> None:
        """Send records of another sender, before all that wait here; they may exceed the limits."""
        with self._lock:
            self._schedule.put_first(records)
        self.wake()

    def publish_aside(self, body: bytes, routing_key: str, expires_s: float) -> None:
        """Publish a message without the FIFO and with another key, if the broker takes it now.

        The message never waits, is not counted and may be lost, and no queue needs to be bound for
        it.

        Args:
            body: the message.
            routing_key: its routing key.
            expires_s: seconds after which the broker may drop it.
        """
        properties = pika.BasicProperties(
            delivery_mode=_TRANSIENT,
            expiration=str(min(int(expires_s * 1000), _LONGEST_EXPIRATION_MS)),
        )
        self.link.call_soon(lambda: self._publish_aside(body, routing_key, properties))

    @property
    def patient(self) -> bool:
        """Posts go out at most once a beat, because nobody waits for them."""
        return self._schedule.patient

    @patient.setter
    def patient(self, patient: bool) -> None:
        with self._lock:
            self._schedule.patient = patient

    # Room and back-pressure.

    @property
    def is_absent(self) -> bool:
        """Whether the broker was never reached, is lost for ``absent_after_s``, or refuses us.

        A broker that was lost only just now is expected back, and treated like a connected one. One
        that is connected and confirms nothing is treated like an absent one.
        """
        return self.is_absent_within(0.0)

    def is_absent_within(self, seconds: float) -> bool:
        """Whether the broker `is_absent`, or will be after some seconds if it stays away."""
        return self.is_stalled or time.monotonic() + seconds >= self._absent_at_s

    @property
    def is_stalled(self) -> bool:
        """Whether the broker confirms nothing, as its owner has found (see `judge`)."""
        return self._condition is Condition.STALLED

    @property
    def owes(self) -> bool:
        """Whether something for the broker is not confirmed."""
        return self._is_aside_open or not self.is_empty

    @property
    def has_room(self) -> bool:
        """Whether a post would not have to wait."""
        # The intake need not be counted: it leaves room for at least one more record.
        if self.traffic.lossy or not self._outbox.is_full or self._yields or self.is_absent:
            return True
        return self.is_doubtful

    @property
    def is_doubtful(self) -> bool:
        """Nobody has to wait for the broker, as it may be anybody's."""
        return self.is_stranger and not (self.is_vouched and self.confirms)

    @property
    def _has_proven_nothing(self) -> bool:
        return self.is_stranger and not self.confirms

    def wait_for_room(self, deadline_s: float) -> bool:
        """Wait until a post would neither have to wait nor push out another message.

        Does not wait if the broker is absent, or for lossy traffic.

        Args:
            deadline_s: a time of `time.monotonic`.

        Returns:
            whether there is room, or none is needed.
        """
        if self.has_room:
            return True
        with self._lock:
            while not (self.has_room or self.link.is_stopping):
                if not self._wait(deadline_s):
                    return False
            return True

    def _wait(self, deadline_s: float) -> bool:
        """Wait for a change, or for the broker to count as absent; False when time is up."""
        now_s = time.monotonic()
        if now_s >= deadline_s:
            return False
        self._wait_for_change(max(0.0, min(deadline_s, self._absent_at_s) - now_s))
        return True

    def _wait_for_change(self, timeout_s: float) -> None:
        self._waiters += 1
        try:
            self._changed.wait(timeout_s)
        finally:
            self._waiters -= 1

    def post_in_order(self, record: Record, deadline_s: float) -> bool:
        """Wait for room and post, with no post of another thread in between.

        Args:
            record: what to send.
            deadline_s: a time of `time.monotonic`.

        Returns:
            whether it was posted; False if there was no room in time.

        Raises:
            NetworkStopped: the sender was stopped, or belongs to the parent process.
        """
        with self._tried_lock(_PATIENCE_S) as is_held:
            # Without the lock, this may be the handler of a signal, which cannot wait.
            if not (self.wait_for_room(deadline_s) if is_held else self.has_room):
                return False
            if is_held:
                has_turn = self._schedule.post_with_lock(record)
                if self._schedule.pushed_out:
                    self._note_pushed_out()
            else:
                has_turn = self.enqueue(record)
        if has_turn:
            self.attend()
        return True

    @property
    def is_flushed(self) -> bool:
        """Whether the broker has confirmed everything that was posted, or cannot be reached."""
        with self._tried_lock(_PATIENCE_S) as is_held:
            if is_held:
                self._schedule.take_in()
            is_empty = self._outbox.is_empty and not len(self._schedule.intake)
            return is_empty or not self._is_expected

    @property
    def _is_expected(self) -> bool:
        """The broker was reached, or the first attempt may still reach it."""
        return self._was_ready or self._is_first_attempt

    @property
    def _may_confirm(self) -> bool:
        """It is worth waiting for: expected, and nothing that only pretends to be a broker."""
        return self._is_expected and not (self.is_doubtful and self.is_stalled)

    def flush(self, timeout: float, *, if_absent: bool = True) -> bool:
        """Wait until the broker has confirmed everything that was posted so far.

        Events that were dropped meanwhile count as confirmed; `stats` has their number.

        Args:
            timeout: the longest wait in seconds.
            if_absent: whether to wait even while the broker `is_absent`.

        Returns:
            whether the broker has confirmed everything in time, or cannot be reached: the first
            attempt has failed, and none has succeeded since. In the handler of a signal: False at
            once if the broker cannot confirm before the handler returns.
        """
        deadline_s = time.monotonic() + timeout
        self.send_everything()
        if has_interrupted():
            return self._look_until_flushed(deadline_s)
        with self._lock:
            self._schedule.take_in()
            posted = self._schedule.posted
            while self._settled < posted and self._may_confirm and not self.link.is_stopping:
                if self.is_absent:
                    is_awaited = if_absent or self._is_first_attempt
                    if not is_awaited or deadline_s <= time.monotonic():
                        break
                    self._wait_for_change(deadline_s - time.monotonic())
                elif not self._wait(deadline_s):
                    break
            return self._settled >= posted or not self._may_confirm

    def _look_until_flushed(self, deadline_s: float) -> bool:
        """Do the same in the handler of a signal, which may have interrupted anything.

        So it does not wait on the condition: that would let go of the lock for what it interrupted.
        """
        posted: int | None = None
        while not (self._is_locked_here() or self.link.is_worked_on_here):
            with self._tried_lock(_PATIENCE_S) as is_held:
                if is_held:
                    self._schedule.take_in()
                    posted = self._schedule.posted if posted is None else posted
                    if self._settled >= posted or not self._may_confirm:
                        return True
            if time.monotonic() >= deadline_s or self.link.is_stopping or must_not_wait():
                return False
            time.sleep(_LOOK_AGAIN_S)
        return False

    def send_everything(self) -> None:
        """Send what waits, without waiting for a beat; returns at once."""
        self.link.call_soon(lambda: self._send(everything=True))

    @property
    def _settled(self) -> int:
        """How many of the posted records are confirmed or given up."""
        return self._schedule.posted - self._outbox.depth - self._outbox.unconfirmed

    # How the broker keeps up, which its owner judges beside others.

    def look(self) -> Look:
        """Show what is needed to judge how the broker keeps up. In the reactor's thread."""
        link = self.link
        with self._lock:
            self._schedule.take_in()
            posted, settled = self._schedule.posted, self._settled
            outbox = self._outbox
            unsent = link.bytes_unsent if posted > settled else 0
            return Look(
                connection=link.connection_name if link.is_connected else "",
                is_ready=link.state is SessionState.READY,
                posted=posted,
                settled=settled,
                confirmed=self._tally.confirmed + self._drops.refused,
                taken_bytes=outbox.confirmed_bytes + max(0, outbox.unconfirmed_bytes - unsent),
                unsent_bytes=unsent,
                fill=outbox.fill,
            )

    def drain_since(self, base: Base, now_s: float) -> Drain:
        """What the broker has settled a second since a look."""
        with self._lock:
            confirmed = self._tally.confirmed + self._drops.refused
            return drain_between(base, now_s, confirmed, self._outbox.confirmed_bytes)

    def judge(self, condition: Condition, oldest_s: float, *, yields: bool) -> None:
        """Note how the broker keeps up.

        Args:
            condition: its condition.
            oldest_s: for how long the oldest event has waited.
            yields: whether nobody waits for room: a full outbox drops its oldest.
        """
        self._oldest_s = oldest_s
        is_same = condition is self._condition and yields == self._yields
        if is_same and not self._drops.in_burst:
            return
        with self._lock:
            self._condition, self._yields = condition, yields
            self._changed.notify_all()
            keeps_up = condition is Condition.KEEPING_UP
            if yields or (keeps_up and not is_same):
                self._drops.end_burst(is_said=True)  # whoever judges says what that has cost
            elif keeps_up and self._has_caught_up:
                self._drops.end_burst()

    @property
    def _has_caught_up(self) -> bool:
        return self.link.state is SessionState.READY and self._outbox.fill < _CAUGHT_UP

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits and everything sent is confirmed."""
        return self._outbox.is_empty

    @property
    def dropped(self) -> int:
        """Events that were given up, for any reason."""
        with self._lock:
            return self._drops.total

    def hold(self, *, held: bool) -> None:
        """Keep what is posted until further notice, or no longer. In the reactor's thread."""
        if held is self._is_held:
            return
        self._is_held = held
        if held:
            with self._lock:
                self._schedule.on_lost()
            self._stop_beating()
        elif self._publishing is not None and self.link.state is SessionState.READY:
            with self._lock:
                self._schedule.on_ready()
            self._send(everything=True)

    def stats(self) -> PublisherStats:
        """The counters, all of the same moment.

        Only if the lock cannot be had, as in the handler of a signal that has interrupted its
        holder, some may be a moment older than others.
        """
        with self._tried_lock(_PATIENCE_S) as is_held:
            if is_held:
                self._schedule.take_in()
            tally = self._tally
            return PublisherStats(
                self.link.state,
                self._outbox.depth + len(self._schedule.intake),
                self._outbox.unconfirmed,
                tally.sent,
                tally.messages,
                tally.confirmed,
                tally.unrouted,
                self._drops.total,
                self._schedule.tempo_s,
                dict(self._drops.counts),
                str(self.link.fault or self.link.blocked_reason),
                self.link.connection_name,
                self._condition,
                self._oldest_s,
            )

    # The link's lane: the reactor's thread, or one that is inside `Link.run_here`.

    def _send_from_here(self) -> bool:
        """Send what is due, unless the reactor's thread does; returns whether nothing is left."""
        # The first post of patient traffic begins the beats, which needs the reactor's thread.
        if not self._writes_here or self._schedule.patient:
            return False
        try:
            return self.link.run_here(self._send_one_that_is_due)
        except (pika.exceptions.AMQPError, AttributeError, AssertionError, ConnectionError):
            logger.exception("%s: unexpected error; connecting again", self.link.name)
            self._give_up_connection()
            return True
        except BaseException:
            # From a signal handler, such as KeyboardInterrupt: the outbox may have a message that
            # was not written, or only in part.
            self._give_up_connection()
            raise

    def _give_up_connection(self) -> None:
        self._publishing = None
        self.link.give_up_connection()

    def _send_one_that_is_due(self) -> bool:
        schedule = self._schedule
        if not schedule.is_ready or not schedule.is_due:
            return False
        try:
            return self._send_next() and not self._outbox.waiting
        except BaseException:
            # Still in the lane: the reactor must not send anything behind half a message.
            self._publishing = None
            raise

    def _send_next(self) -> bool:
        """Send one message; returns whether there was one and the connection is ready for more."""
        publishing, channel = self._publishing, self._channel
        if publishing is None or channel is None or not channel.is_open:
            return False
        with self._lock:
            self._schedule.take_in()
            if self._learned_s != math.inf:
                self._unlearn_if_old()
            batch = self._outbox.take()
            if self._outbox.given_up:
                self._note_given_up(self._limit_words)
                self._changed.notify_all()
            if batch is None:
                return False
            self._tally.sent += len(batch.records)
            self._tally.messages += 1
        return publishing.publish(batch.heading.routing_key, batch.body)

    # The reactor's thread.

    def _on_wake(self, others: Sequence[Sender]) -> None:
        for other in others:
            other.wake()
        with self._lock:
            self._schedule.wake_pending = False
        self._send()

    def _on_beat(self) -> None:
        self._beat_timer = None
        self._send(everything=True)

    def _send(self, *, everything: bool = False) -> None:
        """Send what is due, or everything at a beat, and set the time of the next beat."""
        if not self._schedule.is_ready:
            return
        outbox = self._outbox
        with self._lock:
            self._schedule.take_in()
            if self._schedule.is_at_rest:
                return
        depth = outbox.depth
        everything = everything or self._beat_timer is None
        has_sent = False
        # Bounded if each event is a message of its own, because this thread has other work, too.
        for _ in range(self._limits.batch_events):
            if not (everything or outbox.fills_message) or not self._send_next():
                break
            has_sent = True
            if not outbox.waiting:
                break
        if has_sent or self._beat_timer is None:
            self._stop_beating()
            with self._lock:
                delay_s = self._schedule.plan(depth, time.monotonic())
                if delay_s is not None:
                    self._beat_timer = self.link.call_later(delay_s, self._on_beat)

    def _stop_beating(self) -> None:
        self.link.cancel(self._beat_timer)
        self._beat_timer = None

    def _publish_aside(
        self, body: bytes, routing_key: str, properties: pika.BasicProperties
    ) -> None:
        publishing, channel = self._publishing, self._channel
        if publishing is None or channel is None or not channel.is_open:
            return
        if not self._schedule.is_ready:
            return
        with self._lock:
            self._unlearn_if_old()
            if self._outbox.is_refused(routing_key, len(body)):
                return
            self._outbox.skip_tag()
        self._is_aside_open = True
        publishing.note_another(len(body))
        channel.basic_publish(self.traffic.exchange, routing_key, body, properties)

    # As the user of a channel.

    def set_up(self, channel: pika.channel.Channel) -> None:
        """Declare the exchange, and have the broker confirm."""
        channel.add_on_return_callback(self._on_return)

        def confirm() -> None:
            channel.confirm_delivery(self._on_confirm, lambda _: self._have_vetted(channel))

        self._declaration.declare(
            channel, lambda: self._declaration.check_writing(channel, confirm)
        )

    def _have_vetted(self, channel: pika.channel.Channel) -> None:
        if self._vet is None:
            self.link.set_up_done()
        else:
            self._vet(self, self.link.guarded(channel, self.link.set_up_done))

    def explain(self, error: pika.exceptions.ChannelClosedByBroker) -> BrokerError | None:
        """Tell whether the exchange can be declared in another way."""
        return None if self.link.is_stopping else self._declaration.explain(error)

    def probe(self, channel: pika.channel.Channel) -> None:
        """Declare the exchange again."""
        self._declaration.declare(channel, self.link.answered)

    def tear_down(self, channel: pika.channel.Channel, done: Callable[[], None]) -> None:
        """Say good-bye at once: nothing has to be removed at the broker."""
        done()

    def on_ready(self, channel: pika.channel.Channel, wire: Wire) -> None:
        """Send what waits."""
        traffic = self.traffic
        self._channel = channel
        outbound = Outbound(traffic.exchange, traffic.properties)
        self._publishing = wire.publishing(channel, outbound, self._on_ack)
        self._writes_here = wire.writes_from_any_thread
        with self._lock:
            if not self._is_held:
                self._schedule.on_ready()
            self._was_ready = True
            self._is_first_attempt = False
            self._absent_at_s = math.inf
            # Otherwise whoever judges says so.
            self._drops.end_burst(is_said=self._condition is not Condition.KEEPING_UP)
        self._send(everything=True)

    def on_lost(self) -> None:
        """Keep the unconfirmed records for the next connection."""
        self._publishing = self._channel = None
        self._stop_beating()
        refusal = self.link.take_refusal()
        with self._lock:
            self._is_first_attempt = False
            self._schedule.on_lost()
            if refusal is None:
                self._unlearn()
                dropped = self._outbox.connection_lost()
            else:
                dropped = self._on_refused(refusal)
            self._drops.note(DropReason.CONNECTION, dropped)
            if self.link.state is SessionState.REFUSED:
                self._absent_at_s = 0.0
            elif self._absent_at_s == math.inf:
                self._absent_at_s = time.monotonic() + self._limits.absent_after_s
            self._changed.notify_all()

    def _on_refused(self, refusal: Refusal) -> int:
        """Find out which message the broker refuses. Called with the lock.

        Returns:
            how many records were dropped because the connection is lost.
        """
        outbox, now_s = self._outbox, time.monotonic()
        if outbox.learn(refusal):
            self._learned_s, self._limit_words = now_s, f"as it said before: {refusal}"
            words = self.link.explain_closing(refusal.code, refusal.text)
            self.link.come_back_soon()
            if self._limits_said.note(1, now_s) is not None:
                self._warn(f"{words}. Meanwhile it gets what it takes")
            return outbox.connection_lost()
        if not outbox.unconfirmed:
            return outbox.connection_lost()  # what it refuses is never sent again
        was_searching = outbox.is_searching
        dropped = outbox.message_refused(refusal)
        self.link.come_back_soon()
        if not was_searching and outbox.is_searching and self._searches.note(1, now_s) is not None:
            self._warn(
                f"the broker refused a message ({refusal}) and does not say which; sending again "
                "bit by bit to find it"
            )
        self._note_given_up(str(refusal))
        return dropped

    def _unlearn_if_old(self) -> None:
        """Forget what the broker does not take, if that may have changed. Called with the lock."""
        if self._learned_s != math.inf and time.monotonic() - self._learned_s >= _RELEARN_S:
            self._unlearn()

    def _unlearn(self) -> None:
        """Forget it: the broker may be another, or its limits and our rights may be."""
        if self._learned_s != math.inf:
            self._learned_s = math.inf
            self._outbox.unlearn()

    def _note_given_up(self, words: str) -> None:
        """Count the records that the outbox has given up, and say so. Called with the lock."""
        self._drops.note_given_up(self._outbox.given_up, words)
        self._outbox.given_up.clear()

    def _warn(self, text: str) -> None:
        level = logging.INFO if self.traffic.lossy else logging.WARNING
        logger.log(level, "%s: %s", self.link.name, text)

    def on_state(self) -> None:
        """Note what the link's state means for posts, and report the change."""
        link = self.link
        with self._lock:
            self._schedule.close(self._why_closed())
            if link.state is not SessionState.READY:
                self._schedule.is_ready = False
            if link.is_stopping:
                self._drops.report_rest()
            self._changed.notify_all()
        if self._tell_state is not None:
            self._tell_state()

    def _why_closed(self) -> str:
        """Why posts are refused; empty if they are accepted."""
        link = self.link
        if not link.is_stopping:
            return ""
        why = "belongs to the parent process" if link.is_forked else "was stopped"
        return f"the publisher to {link.address} {why}"

    def _on_confirm(self, frame: Any) -> None:
        method = frame.method
        if isinstance(method, pika.spec.Basic.Nack):
            self._on_nack(method.delivery_tag, method.multiple)
        else:
            self._on_ack(method.delivery_tag, method.multiple)

    def _on_ack(self, tag: int, multiple: bool) -> None:
        if self._nacks.is_refusing and self._nacks.ends(time.monotonic()):
            self._say_that_nacks_are_over()
        self._settle(tag, multiple, refused=False)

    def _on_nack(self, tag: int, multiple: bool) -> None:
        channel, nacks = self._channel, self._nacks
        if channel is None or not channel.is_open:
            return  # what is under way is sent again anyway
        if not self.traffic.lossy:
            was_refusing = nacks.is_refusing
            resends = nacks.resends(time.monotonic())
            if was_refusing and not nacks.is_refusing:
                self._say_that_nacks_are_over()
            if resends:
                # To send only that one again would change the order.
                why = "the broker could not take a message (basic.nack)"
                logger.info("%s: %s; sending again", self.link.name, why)
                self.link.come_back_soon()
                self.link.reopen(why)
                return
            if not was_refusing:
                self._warn(
                    f"the broker has refused messages (basic.nack) {self._limits.nack_attempts} "
                    "times: some queue there takes no more, such as one with x-overflow "
                    "reject-publish, or its node of the cluster is down; while that lasts, what "
                    "it refuses is counted and not sent again, and other queues have it"
                )
        self._settle(tag, multiple, refused=True)

    def _say_that_nacks_are_over(self) -> None:
        self._warn(f"the broker has refused nothing (basic.nack) for {CALM_S:.0f} s")

    def _settle(self, tag: int, multiple: bool, *, refused: bool) -> None:
        if self._publishing is None:
            return  # from a connection that was given up: its messages are sent again
        self.link.note_progress()
        self.confirms += 1
        self._is_aside_open = False
        with self._lock:
            settled = self._outbox.confirm(tag, multiple=multiple)
            if refused:
                text = "some queue takes no more (basic.nack)"
                self._drops.note_refused(settled, f"{self.link.name}: {text}")
            else:
                self._tally.confirmed += settled
            if self._waiters:  # there are none for most confirms, and to notify takes a while
                self._changed.notify_all()
        if self._outbox.waiting:
            self._send()

    def _on_return(
        self, _channel: object, _method: object, _properties: object, body: bytes
    ) -> None:
        events = count_records(body) if self.traffic.joined else 1
        with self._lock:
            self._tally.unrouted += events

    def _note_pushed_out(self) -> None:
        with self._lock:
            dropped, self._schedule.pushed_out = self._schedule.pushed_out, 0
            if dropped:
                lossy = self.traffic.lossy
                reason = DropReason.CONNECTION if lossy else DropReason.BACKLOG
                is_said = self._yields or self._has_proven_nothing
                self._drops.note(reason, dropped, is_said=is_said)

    def disown(self) -> None:
        """Forget what the parent has not sent, in a forked child: the parent will send it."""
        self.link.disown()
        self._publishing = self._channel = self._beat_timer = None
        self._begin_anew()
        self._schedule.close(self._why_closed())
