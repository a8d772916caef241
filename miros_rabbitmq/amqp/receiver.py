"""Receives from one queue of one broker: the part of a consumer that does the work.

What is done with a message is for a `Taker` to say. A message is acknowledged when it was handled,
together with others that were handled about then. Where the taker has no room, the message is held,
unacknowledged, and offered again shortly: the prefetch limit then holds the broker back, and the
thread never blocks.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import pika.channel

from ..exceptions import RejectReason
from ..process import Stage, disown_in_child
from ..urls import Address, check_short_text
from .link import Link, Role
from .link_state import SessionState
from .message_io import Acknowledging, Delivery, Wire
from .parameters import Endpoint
from .reactor import Reactor, Timer
from .topology import Queue, declare_exchange

_LOOK_AGAIN_S = 0.002
"""Wait before a taker without room is tried again: a chart handles some dozen events in it."""

_LOOK_AGAIN_MAX_S = 0.032
"""The wait doubles up to this while there is no room at all, so that waiting for a chart that
handles nothing just now does not cost a processor either."""

_ACKNOWLEDGE_AFTER_S = 0.001
"""How long an acknowledgement may wait for others to go with: until the chart has had the event, as
it would hold up that one's answer, and not until the broker writes it to disk for want of it.
Until then the message may come again if the connection is lost."""

_ACKNOWLEDGE_SHARE = 4
"""It goes at once when it stands for one in so many of the messages that the prefetch limit allows:
so the broker may always send more."""


class ConsumerStats(NamedTuple):
    """The counters of one consumer; all but ``messages`` count events."""

    state: SessionState
    messages: int
    """AMQP messages that were delivered."""
    received: int
    """Handed to the callback."""
    own: int
    """Messages of one's own that were skipped."""
    duplicates: int
    """Came more than once; handed over once."""
    gaps: int
    """Were sent, and never came."""
    rejected: Mapping[RejectReason, int]
    """Not taken, by reason."""


class Outcome(enum.Enum):
    """What a taker says of a message."""

    HANDLED = enum.auto()
    """It may be acknowledged."""
    REJECTED = enum.auto()
    """It is of no use to anybody here."""
    NO_ROOM = enum.auto()
    """It, or what is left of it, is to be offered again."""


class Ticket:
    """A message that others are still handling; it is acknowledged when they have finished."""

    def __init__(self) -> None:
        self.is_finished = False
        self.on_finished: Callable[[], object] | None = None

    def finish(self) -> None:
        """Everything of the message was handled. From any thread."""
        self.is_finished = True
        if self.on_finished is not None:
            self.on_finished()


class Taker(Protocol):
    """Takes the messages of a receiver, in the reactor's thread; it raises nothing."""

    def take(self, delivery: Delivery) -> Outcome | Ticket:
        """Take one message, or what was left of it."""

    def refuse_oversize(self, delivery: Delivery) -> bool:
        """Tell whether a message is too large to be kept until there is room."""

    def forget(self) -> None:
        """The connection was lost: a message that was taken in part comes again, whole."""


@dataclass(frozen=True)
class Source:
    """What a receiver receives.

    Args:
        exchange: a durable topic exchange; declared where it does not exist.
        routing_key: the pattern to bind: ``*`` stands for a word, ``#`` for any number of words.
        queue: the queue to declare and consume from; default an exclusive one.
        further_keys: further keys to bind. What comes by these is said in passing: it is not
            counted where it is one's own.
        skip_sender_id: messages with this ``app_id`` are one's own and skipped.

    Raises:
        SettingsError: AMQP has no such name of an exchange or pattern.
    """

    exchange: str
    routing_key: str
    queue: Queue = field(default_factory=Queue)
    further_keys: Sequence[str] = ()
    skip_sender_id: str | None = None

    def __post_init__(self) -> None:
        check_short_text("exchange_name", self.exchange)
        check_short_text("routing_key", self.routing_key)


class Receiver:
    """Receives messages from one queue of one broker.

    Args:
        endpoint: the broker.
        role: what the receiver is for.
        source: what it receives.
        taker: what takes the messages.
        reactor: whose thread it runs in.
        on_state: called when the state has changed, in the thread that changed it; it returns at
            once and raises nothing.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        role: Role,
        source: Source,
        taker: Taker,
        reactor: Reactor,
        on_state: Callable[[], object] | None = None,
    ) -> None:
        self.source = source
        self.link = Link(endpoint, role, self, reactor)
        self.messages = 0
        """AMQP messages that were delivered."""
        self.own = 0
        """Messages of one's own that were skipped."""
        self._taker = taker
        self._prefetch = endpoint.limits.prefetch_messages
        self._tell_state = on_state
        # The reactor's thread only. Messages that wait for room, or for those before them:
        self._held: deque[Delivery] = deque()
        self._look_again: Timer | None = None
        self._look_again_s = _LOOK_AGAIN_S
        # ... those that others still handle, and what was handled behind them, in order:
        self._unfinished: deque[tuple[int, Ticket | None]] = deque()
        # ... and the last message that was handled, and how many up to it are not acknowledged.
        self._handled_tag = self._handled = 0
        self._acknowledge_timer: Timer | None = None
        self._acknowledging: Acknowledging | None = None
        self._queue_name = ""
        disown_in_child(self, Stage.CONNECTIONS)

    @property
    def address(self) -> Address:
        """The broker's."""
        return self.link.address

    # As the user of a channel.

    def set_up(self, channel: pika.channel.Channel) -> None:
        """Declare exchange and queue, bind, and consume."""
        channel.add_on_cancel_callback(lambda _: self.link.reopen("the queue was deleted"))
        declare_exchange(
            channel,
            self.source.exchange,
            self.link.guarded(channel, lambda: self._declare_queue(channel)),
        )

    def _declare_queue(self, channel: pika.channel.Channel) -> None:
        queue = self.source.queue

        def on_declared(frame: Any) -> None:
            self._queue_name = frame.method.queue
            channel.basic_qos(prefetch_count=self._prefetch)
            self._bind_queue(channel, lambda: self._consume(channel))

        channel.queue_declare(
            queue.name,
            durable=queue.durable,
            exclusive=queue.exclusive,
            arguments=dict(queue.arguments),
            callback=lambda frame: self.link.guarded(channel, lambda: on_declared(frame))(),
        )

    def _bind_queue(self, channel: pika.channel.Channel, done: Callable[[], None]) -> None:
        """Bind the queue with every pattern, then proceed."""
        source = self.source
        proceed = self.link.guarded(channel, done)
        for key in source.further_keys:
            channel.queue_bind(self._queue_name, source.exchange, key)
        # The broker answers in order.
        channel.queue_bind(
            self._queue_name, source.exchange, source.routing_key, callback=lambda _: proceed()
        )

    def _consume(self, channel: pika.channel.Channel) -> None:
        tag = channel.basic_consume(
            self._queue_name,
            self._on_pika_delivery,
            callback=lambda _: self.link.set_up_done(),
        )
        wire = self.link.wire
        assert wire is not None
        self._acknowledging = wire.consuming(channel, tag, self._on_delivery)

    def on_ready(self, channel: pika.channel.Channel, wire: Wire) -> None:
        """Deliveries come by themselves."""

    def probe(self, channel: pika.channel.Channel) -> None:
        """Declare and bind again: of a deleted exchange or binding the broker tells nobody."""
        declare_exchange(
            channel,
            self.source.exchange,
            self.link.guarded(channel, lambda: self._bind_queue(channel, self.link.answered)),
        )

    def tear_down(self, channel: pika.channel.Channel, done: Callable[[], None]) -> None:
        """Delete a queue that would outlive its consumer.

        A consumer that ends on purpose comes back under another name: nobody needs the queue.
        """
        queue = self.source.queue
        if queue.exclusive:
            done()
        else:
            channel.queue_delete(queue.name, callback=lambda _: done())

    def on_lost(self) -> None:
        """Forget what was not acknowledged: the broker delivers it again."""
        self._acknowledging = None
        self._held.clear()
        self._unfinished.clear()
        self._handled = 0
        for timer in (self._look_again, self._acknowledge_timer):
            self.link.cancel(timer)
        self._look_again = self._acknowledge_timer = None
        self._taker.forget()

    def on_state(self) -> None:
        """Tell of a new state."""
        if self._tell_state is not None:
            self._tell_state()

    # Messages.

    def _on_pika_delivery(
        self, _channel: object, method: Any, properties: Any, body: bytes
    ) -> None:
        """Take a message that came by pika."""
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
        if self._acknowledging is None:
            return  # of a connection that was given up: it comes again
        self.messages += 1
        if self._taker.refuse_oversize(delivery):
            # At once: what waits for room is kept in memory.
            self._reject(delivery)
            return
        self._held.append(delivery)
        if self._look_again is None:
            self._offer()

    def _offer(self) -> None:
        """Offer held messages, in order, as far as there is room for them."""
        self._look_again = None
        while self._held and not self.link.is_stopping:
            delivery = self._held[0]
            outcome = Outcome.HANDLED if self._is_own(delivery) else self._taker.take(delivery)
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

    def _is_own(self, delivery: Delivery) -> bool:
        """Count a message of one's own, which is skipped."""
        source = self.source
        is_own = source.skip_sender_id is not None and delivery.sender_id == source.skip_sender_id
        self.own += is_own and delivery.routing_key not in source.further_keys
        return is_own

    # Acknowledgements.

    def _await(self, tag: int, ticket: Ticket) -> None:
        """Acknowledge a message, and all behind it, when others have handled it."""
        self._unfinished.append((tag, ticket))
        ticket.on_finished = lambda: self.link.call_soon(self._acknowledge_finished)
        if ticket.is_finished:  # before it was told whom to tell
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
        """Acknowledge a message soon; they are handled in the order of their tags."""
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
        self._acknowledging = None
        self._held.clear()
        self._unfinished.clear()
        self._handled = 0
        self._look_again = self._acknowledge_timer = None
