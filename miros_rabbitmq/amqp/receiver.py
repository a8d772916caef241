"""Receives from one queue of one broker: the part of a consumer that does the work.

A `Taker` takes the messages. A message is acknowledged after it was handled, together with others
that were handled at about the same time. If the taker has no room, the message is held,
unacknowledged, and offered again shortly: the prefetch limit then holds back the broker, and the
thread never blocks.
"""

from __future__ import annotations

import enum
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import pika.channel
import pika.exceptions

from ..exceptions import BrokerError, RejectReason
from ..foreign import text_of
from ..process import Stage, disown_in_child
from ..urls import Address, AmqpUrl, check_short_text
from .conduct import Misconduct
from .declaration import Declaration
from .link import Link, Role
from .link_state import SessionState
from .message_io import Acknowledging, Delivery, Wire
from .parameters import Endpoint
from .queue_claim import QueueClaim
from .reactor import IoThread, Timer
from .topology import Queue

_LOOK_AGAIN_S = 0.002
"""The wait before a taker without room is tried again: a chart handles some dozen events in it."""

_LOOK_AGAIN_MAX_S = 0.032
"""The wait doubles up to this while there is no room at all, so that waiting for a busy chart costs
no processor time."""

_WATCH_S = 1.0
"""How often it is looked whether events are taken, while some wait."""

_SIZES_KEPT = 4
"""The mean size of what waits in the queue is that of the last messages: four times as many as the
prefetch limit allows, as messages of one event and of hundreds may follow each other."""

_ACKNOWLEDGE_AFTER_S = 0.001
"""How long an acknowledgement may wait to go together with others: long enough for the chart to
handle the event first, so that it does not hold up the chart's answer; short enough that the broker
need not write the event to disk. Until it goes, the message may come again if the connection is
lost."""

_ACKNOWLEDGE_SHARE = 4
"""An acknowledgement goes at once when it stands for a quarter of the messages that the prefetch
limit allows, so that the broker may always send more."""


class ConsumerStats(NamedTuple):
    """The counters of one consumer; all but ``messages`` count events."""

    state: SessionState
    """The state of the connection."""
    messages: int
    """AMQP messages that were delivered."""
    received: int
    """Handed to the callback."""
    own: int
    """Were sent by oneself, and skipped."""
    duplicates: int
    """Came again and were skipped."""
    gaps: int
    """Were sent by somebody and never came, or came too late to be in order."""
    rejected: Mapping[RejectReason, int]
    """Received and rejected, by reason."""
    connection: str = ""
    """The name of the connection at the broker; empty while there is none."""
    queue: str = ""
    """The name of the queue at the broker; empty before it is known."""
    unread: int = 0
    """Missing, and not among the ``gaps``: as many of the same start were rejected unread."""
    queue_messages: int = 0
    """How many messages waited there when the broker was last asked, which is while some wait here
    for room or for a callback."""


class Outcome(enum.Enum):
    """What a taker says about a message."""

    HANDLED = enum.auto()
    """It may be acknowledged."""
    REJECTED = enum.auto()
    """It is of no use here, and is rejected without requeue."""
    NO_ROOM = enum.auto()
    """There is no room: offer the message, or the rest of it, again."""


class Ticket:
    """A message that others are still handling; it is acknowledged when they have finished."""

    def __init__(self) -> None:
        self.is_finished: bool = False
        self.on_finished: Callable[[], object] | None = None

    def finish(self) -> None:
        """Note that everything of the message was handled. Any thread may call this."""
        self.is_finished = True
        if self.on_finished is not None:
            self.on_finished()


class Taker(Protocol):
    """Takes the messages of a receiver, in the reactor's thread. Its methods must not raise."""

    @property
    def most_bytes(self) -> int | None:
        """It refuses larger messages as oversize; `None` if it refuses none."""

    def begin(self) -> None:
        """Note that the queue exists, at the first time and after each loss of the connection."""

    def take(self, delivery: Delivery) -> Outcome | Ticket:
        """Take one message, or what was left of it."""

    def refuse_oversize(self, delivery: Delivery) -> bool:
        """Tell whether a message is too large to be kept until there is room."""

    def forget(self) -> None:
        """Note that the connection was lost: a message taken in part comes again, whole."""


class Watch(Protocol):
    """Watches whether events are taken, in the reactor's thread. Its methods must not raise."""

    def look(self, held: int) -> bool:
        """Look, given the number of messages that are held; tells whether to look again soon."""

    def note_queue(self, messages: int, mean_bytes: float) -> None:
        """Note how many messages wait in the queue, and the mean size of those that came last."""


@dataclass(frozen=True)
class Source:
    """What a receiver receives.

    Args:
        exchange: a durable topic exchange; declared if it does not exist.
        routing_key: the pattern to bind: ``*`` stands for a word, ``#`` for any number of words.
        queue: the queue to declare and consume from. Default: an exclusive one.
        further_keys: further routing keys to bind, for notices.

    Raises:
        SettingsError: AMQP does not allow the exchange's name or the pattern.
    """

    exchange: str
    routing_key: str
    queue: Queue = field(default_factory=Queue)
    further_keys: Sequence[str] = ()

    def __post_init__(self) -> None:
        check_short_text("exchange_name", self.exchange)
        check_short_text("routing_key", self.routing_key)
        if self.queue.name:
            check_short_text("the name of the queue", self.queue.name)


class Receiver:
    """Receives messages from one queue of one broker.

    Args:
        endpoint: the broker.
        role: what the receiver is for.
        source: what it receives.
        taker: takes the messages.
        reactor: drives its connection.
        on_state: called when the state has changed, in the thread that changed it. It must return
            at once and must not raise.
        watch: is asked to look about once a second, from the arrival of a message on until nothing
            waits.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        role: Role,
        source: Source,
        taker: Taker,
        reactor: IoThread,
        on_state: Callable[[], object] | None = None,
        watch: Watch | None = None,
    ) -> None:
        self.source = source
        self.link: Link = Link(endpoint, role, self, reactor)
        self._declaration = Declaration(self.link, source.exchange)
        self.messages: int = 0
        """AMQP messages that were delivered."""
        self.queue_messages: Any = 0
        """How many messages waited in the queue when the broker was last asked."""
        self._taker = taker
        self._watch = watch
        self._prefetch = endpoint.limits.prefetch_messages
        self._tell_state = on_state
        # The reactor's thread only. The sizes of the messages that came last:
        self._sizes: deque[int] = deque(maxlen=_SIZES_KEPT * self._prefetch)
        # ... messages that wait for room, or for those before them:
        self._held: deque[Delivery] = deque()
        self._look_again: Timer | None = None
        self._look_again_s = _LOOK_AGAIN_S
        # ... messages that others still handle, and messages handled behind them, in order:
        self._unfinished: deque[tuple[int, Ticket | None]] = deque()
        # ... the last message that was handled, and how many up to it are not acknowledged yet.
        self._handled_tag = self._handled = 0
        self._acknowledge_timer: Timer | None = None
        self._acknowledging: Acknowledging | None = None
        self._is_watching = watch is None  # a timer runs, or there is nothing to look at
        self._is_asking = False
        self._claim = self._make_claim()
        self.queue_name: str = self._claim.name
        """The name of the queue at present; empty until the broker has chosen one."""
        disown_in_child(self, Stage.CONNECTIONS)

    def _make_claim(self) -> QueueClaim:
        return QueueClaim(self.source.queue, self.link.address, self.link.endpoint.heartbeat_s)

    @property
    def address(self) -> Address:
        """The broker's."""
        return self.link.address

    def move(self, url: AmqpUrl, *, is_gone: bool) -> None:
        """Consume from the same queue at another address from now on. From any thread.

        Args:
            url: the broker's.
            is_gone: as for `Link.move`.
        """
        self.link.call_soon(lambda: self._claim.move(url.address))
        self.link.move(url, is_gone=is_gone)

    # As the user of a channel.

    def set_up(self, channel: pika.channel.Channel) -> None:
        """Declare exchange and queue, bind, and consume."""
        channel.add_on_cancel_callback(lambda _: self._on_queue_deleted())
        self._declaration.declare(channel, lambda: self._declare_queue(channel))

    def _declare_queue(self, channel: pika.channel.Channel) -> None:
        """Declare the queue and bind it, then consume."""
        queue = self.source.queue
        self.queue_name = self._claim.name

        def declare(callback: Callable[[Any], None] | None) -> None:
            channel.queue_declare(
                self.queue_name,
                durable=queue.durable,
                exclusive=queue.exclusive,
                arguments=dict(queue.arguments),
                callback=callback,
            )

        def on_declared(frame: Any) -> None:
            self.queue_name = frame.method.queue
            self._bind_and_consume(channel)

        if self.queue_name:
            # Wait for no answer: it says nothing new, and a refusal closes the channel in any case.
            declare(None)
            self._bind_and_consume(channel)
        else:
            declare(lambda frame: self.link.guarded(channel, lambda: on_declared(frame))())

    def _bind_and_consume(self, channel: pika.channel.Channel) -> None:
        self._bind_queue(channel)
        proceed = self.link.guarded(channel, lambda: self._consume(channel))
        channel.basic_qos(prefetch_count=self._prefetch, callback=lambda _: proceed())

    def _bind_queue(
        self, channel: pika.channel.Channel, done: Callable[[], object] | None = None
    ) -> None:
        """Bind the queue with every pattern; then proceed, if something is to follow."""
        source = self.source
        for key in source.further_keys:
            channel.queue_bind(self.queue_name, source.exchange, key)
        on_bound: Callable[[Any], None] | None = None
        if done is not None:
            proceed = self.link.guarded(channel, done)
            # The broker answers in order.
            on_bound = lambda _: proceed()  # noqa: E731
        channel.queue_bind(self.queue_name, source.exchange, source.routing_key, callback=on_bound)

    def _consume(self, channel: pika.channel.Channel) -> None:
        self._claim.ask()
        tag = channel.basic_consume(
            self.queue_name,
            self._on_pika_delivery,
            exclusive=self._claim.drawn,
            callback=lambda _: self._on_consuming(),
        )
        wire = self.link.wire
        assert wire is not None
        self._acknowledging = wire.consuming(
            channel, tag, self._on_delivery, self._taker.most_bytes
        )

    def _on_consuming(self) -> None:
        self._claim.succeed()
        self.link.set_up_done(f", queue {self.queue_name}")

    def _on_queue_deleted(self) -> None:
        why = "the queue was deleted"
        # Whoever deleted it knows its name.
        self.link.reopen(self._claim.replace("it was deleted") if self._claim.drawn else why)

    def explain(self, error: pika.exceptions.ChannelClosedByBroker) -> BrokerError | None:
        """Tell whether somebody has the queue; then the next channel may use another."""
        if self.link.is_stopping:
            return None
        fault = self._declaration.explain(error)
        if fault is not None:
            return fault
        return self._claim.explain(error.reply_code, error.reply_text, time.monotonic())

    def on_ready(self, channel: pika.channel.Channel, wire: Wire) -> None:
        """Deliveries come by themselves."""
        self._taker.begin()

    def probe(self, channel: pika.channel.Channel) -> None:
        """Declare and bind again: the broker reports no deleted exchange or binding."""
        # With one answer to both, as the thread of an idle chart wakes for each.
        bound = self._declaration.declare_unanswered(channel, self.link.answered)
        self._bind_queue(channel, bound)

    def tear_down(self, channel: pika.channel.Channel, done: Callable[[], None]) -> None:
        """Delete a queue that would outlive its consumer.

        A consumer that was stopped returns under another name, so nobody needs the queue.
        """
        queue = self.source.queue
        if queue.exclusive:
            done()
        else:
            channel.queue_delete(self.queue_name, callback=lambda _: done())

    def on_lost(self) -> None:
        """Forget what was not acknowledged: the broker delivers it again."""
        self._acknowledging = None
        self._held.clear()
        self._unfinished.clear()
        self._handled = 0
        for timer in (self._look_again, self._acknowledge_timer):
            self.link.cancel(timer)
        self._look_again = self._acknowledge_timer = None
        self._is_asking = False
        self._taker.forget()

    def on_state(self) -> None:
        """Report a new state."""
        if self._tell_state is not None:
            self._tell_state()

    # Messages.

    def _on_pika_delivery(
        self, _channel: object, method: Any, _properties: object, body: bytes
    ) -> None:
        """Take a message that pika delivers."""
        self._on_delivery(
            Delivery(
                body,
                text_of(method.routing_key),
                text_of(method.exchange),
                method.redelivered,
                method.delivery_tag,
            )
        )

    def _on_delivery(self, delivery: Delivery) -> None:
        if self._acknowledging is None:
            return  # from a connection that was given up: it comes again
        if len(self._held) + len(self._unfinished) >= self._prefetch:
            raise Misconduct(f"more than {self._prefetch} messages that are not acknowledged yet")
        self.messages += 1
        self._sizes.append(len(delivery.body))
        if not self._is_watching:
            self._watch_soon()
        if self._taker.refuse_oversize(delivery):
            # Check at once, because messages that wait for room are kept in memory.
            self._reject(delivery)
            return
        self._held.append(delivery)
        if self._look_again is None:
            self._offer()

    def _offer(self) -> None:
        """Offer the held messages, in order, as far as there is room."""
        self._look_again = None
        while self._held and not self.link.is_stopping:
            delivery = self._held[0]
            outcome = self._taker.take(delivery)
            if outcome is Outcome.NO_ROOM:
                self._look_again = self.link.call_later(self._look_again_s, self._offer)
                self._look_again_s = min(2 * self._look_again_s, _LOOK_AGAIN_MAX_S)
                return
            if not self._held:
                return  # the connection was given up meanwhile
            self._held.popleft()
            self._look_again_s = _LOOK_AGAIN_S
            if outcome is Outcome.HANDLED:
                self._note_handled(delivery.tag)
            elif outcome is Outcome.REJECTED:
                self._reject(delivery)
            else:
                self._await(delivery.tag, outcome)

    # Whether events are taken.

    def look_soon(self) -> None:
        """Have the watch look, because something waits that has not come by this receiver.

        Any thread may call this, with any lock.
        """
        if not self._is_watching:
            self.link.call_soon(self._watch_soon)

    def _watch_soon(self) -> None:
        if not self._is_watching and not self.link.is_stopping:
            # The timer goes on while the connection is lost, and ends with the link.
            self._is_watching = self.link.call_later(_WATCH_S, self._on_watch) is not None

    def _on_watch(self) -> None:
        self._is_watching = False
        assert self._watch is not None
        held = len(self._held)
        # Where a callback has taken half of what the broker sends ahead, more may wait there.
        if held or self.queue_messages or 2 * len(self._unfinished) >= self._prefetch:
            self._ask_depth()
        if self._watch.look(held) or self.queue_messages:
            self._watch_soon()

    def _ask_depth(self) -> None:
        """Ask how many messages wait in the queue, if it is bounded in bytes."""
        channel = self.link.open_channel if self.link.is_connected else None
        arguments = self.source.queue.arguments
        # A queue that is bounded in number, too, may drop what is late: nobody has to know.
        is_bounded = "x-max-length-bytes" in arguments and "x-max-length" not in arguments
        if channel is None or self._is_asking or not is_bounded:
            return
        self._is_asking = True
        channel.queue_declare(
            self.queue_name,
            passive=True,
            callback=lambda frame: self.link.guarded(channel, lambda: self._on_depth(frame))(),
        )

    def _on_depth(self, frame: Any) -> None:
        self._is_asking = False
        self.queue_messages = frame.method.message_count
        sizes = self._sizes
        assert self._watch is not None
        self._watch.note_queue(self.queue_messages, sum(sizes) / len(sizes) if sizes else 0.0)

    # Acknowledgements.

    def _await(self, tag: int, ticket: Ticket) -> None:
        """Acknowledge a message, and all behind it, when others have handled it."""
        self._unfinished.append((tag, ticket))
        ticket.on_finished = lambda: self.link.call_soon(self._acknowledge_finished)
        if ticket.is_finished:  # it was finished before `on_finished` was set
            self._acknowledge_finished()

    def _acknowledge_finished(self) -> None:
        unfinished = self._unfinished
        while unfinished and (unfinished[0][1] is None or unfinished[0][1].is_finished):
            self._acknowledge(unfinished.popleft()[0])

    def _note_handled(self, tag: int) -> None:
        if self._unfinished:
            self._unfinished.append((tag, None))
        else:
            self._acknowledge(tag)

    def _acknowledge(self, tag: int) -> None:
        """Acknowledge a message soon. Messages are handled in the order of their tags."""
        self._handled_tag = tag
        self._handled += 1
        if self._handled * _ACKNOWLEDGE_SHARE >= self._prefetch:
            self._acknowledge_handled()
        elif self._acknowledge_timer is None:
            self._acknowledge_timer = self.link.call_later(
                _ACKNOWLEDGE_AFTER_S, self._on_acknowledge_timer
            )

    def _on_acknowledge_timer(self) -> None:
        self._acknowledge_timer = None
        self._acknowledge_handled()

    def _acknowledge_handled(self) -> None:
        acknowledging = self._acknowledging
        if self._handled and acknowledging is not None and self.link.open_channel is not None:
            self._handled = 0
            acknowledging.acknowledge(self._handled_tag)

    def _reject(self, delivery: Delivery) -> None:
        channel = self.link.open_channel
        if channel is not None:
            channel.basic_reject(delivery.tag, requeue=False)

    def disown(self) -> None:
        """Forget what the parent has received, in a forked child."""
        self.link.disown()
        self._claim = self._make_claim()  # a drawn queue is the parent's
        self.queue_name = self._claim.name
        self._acknowledging = None
        self._held.clear()
        self._unfinished.clear()
        self._handled = 0
        self._look_again = self._acknowledge_timer = None
        self._is_watching = self._watch is None
        self._is_asking = False
