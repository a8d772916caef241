"""Notices: what nodes tell each other on a network, unseen by their charts.

Notices are numbered on their own, and never reach a chart. A node tells

- the brokers of others what its owner wants to tell (which broker is its own), also along with
  events (see `companion`);
- its own broker that this chart listens there (see `neighbours`); what it hears from neighbours
  decides whether the sender to the own broker makes haste. Charts of one process know of each other
  without that (see `residents`), and one announcement speaks for all of them that listen to the
  same;
- each broker the last numbers of its events (see `tails`);
- all brokers whose clock differs, so that its events are rejected here: only the epoch of that
  sender is known, and it hears notices at its own broker, whichever that is;
- all brokers that its chart is stuck, or its queue nearly full, and when neither is so any more.
"""

from __future__ import annotations

import random
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Mapping
from functools import partial
from typing import Protocol
from weakref import WeakKeyDictionary

from ..amqp.sender import Sender
from ..amqp.topic_pattern import TopicPattern
from ..logs import RelayedLogger
from ..problems import DeliveryProblem, ProblemKind, Report, report_to_nobody
from ..urls import Address
from ..wire.envelope import MESH
from ..wire.notice import (
    LISTENER_KEY,
    Notice,
    NoticeKind,
    WrongClock,
    is_listener,
    tell_clock,
    tell_numbers,
    told_clock,
    told_trouble,
)
from .companion import Companion
from .lately import Lately
from .neighbours import ANSWERED_S, Neighbours
from .residents import residents
from .tails import RecentKeys, Tail

logger: RelayedLogger = RelayedLogger(__name__)

_TAILS_AN_ANNOUNCEMENT = 6
"""A node that falls silent again and again tells its last numbers at most so often between two
announcements."""

_UNHURRIED_S = (0.5, 2.0)
"""When a chart announces itself that others of its process know already: not while it starts, and
not all that start together at the same moment."""

_UNHURRIED_A_SECOND = 10
"""Of many charts of a process that start together, only about so many announce themselves in a
second: each announcement goes to all charts at the broker."""

_TURN = 0.2
"""A chart looks earlier by up to this share of the time, at random, whether to announce itself
again, unless it is the one that has spoken last: so charts, of which one speaks for all, take
turns."""

_MINUTE_S = 60.0

_MOST_CLOCKS = 16
"""The most senders that are told between two announcements that their clock differs."""

_TROUBLE_S = 50.0
"""A stuck chart of another node is said once in this time, and so is its full queue. Its node tells
it again after a minute."""

_MOST_TROUBLES = 64
"""The most stuck charts that are said in this time."""


class Posts(Protocol):
    """What notices have to know of the events that their node sends on the network."""

    @property
    def epoch(self) -> bytes:
        """The present start of the node on the network."""

    @property
    def transmitted(self) -> int:
        """How many events were sent in it."""

    @property
    def senders(self) -> Mapping[Address, Sender]:
        """The sender to each broker."""

    def is_posted_to(self, sender: Sender) -> bool:
        """Whether a sender gets the events, and is no spare."""

    def settled_numbers(self, sender: Sender) -> Mapping[str, int] | None:
        """The last number by each routing key; `None` unless this broker has settled all of them.

        Returns at once: `None`, too, while events are being posted.
        """


class TimerSetter(Protocol):
    """Calls something after some seconds, in the receiver's thread."""

    def __call__(self, delay_s: float, callback: Callable[[], object], /) -> object:
        """Set the timer."""


class _Path:
    """What is known of the way to one broker, in the senders' reactor."""

    def __init__(self, announce_s: float) -> None:
        self.tail = Tail(announce_s / _TAILS_AN_ANNOUNCEMENT)
        self.companion = Companion()
        # Whether a timer is set.
        self.will_announce = False


class Notices:
    """The notices of one node on one network. Used in the threads of the reactors.

    Args:
        name: the node's, for the log.
        seal: turns a notice for a routing key into a message; `None` if it may not be sent.
        tx_key: the routing key of the owner's events, and of its notice for others.
        rx_key: the pattern that the owner listens to.
        place: returns what charts have in common that understand each other at the same broker.
        announce_s: seconds after which a notice is sent again.
        posts: the events that the node sends.
        notice: returns the notice for the brokers of others; `None` to send none.
        on_notice: called with each notice of another node that is not for this object, and with
            the epoch of that node.
        report: is told that others reject this node's events for its clock, and of charts of
            others that are stuck.
    """

    def __init__(
        self,
        name: str,
        seal: Callable[[Notice, str], bytes | None],
        tx_key: str,
        rx_key: str,
        place: Callable[[], Hashable],
        announce_s: float,
        posts: Posts,
        notice: Callable[[], Notice | None],
        on_notice: Callable[[Notice, bytes], object] | None,
        report: Report = report_to_nobody,
    ) -> None:
        self.name: str = name
        """The node's."""
        self._seal = seal
        self._tx_key = tx_key
        self._announce_s = announce_s
        self._posts = posts
        self._notice = notice
        self._on_notice = on_notice
        self._report = report
        self.rx_key: str = rx_key
        """The pattern that the owner listens to; empty to leave that open."""
        self.announced_at: Hashable = None
        """The place where it was announced since it listens; `None` if it was at none."""
        self._place = place
        self._neighbours = Neighbours(announce_s, tx_key, rx_key, random.random)
        self._has_heard_others = False
        self._paths: WeakKeyDictionary[Sender, _Path] = WeakKeyDictionary()
        self._keys = RecentKeys()
        # In the receiver's reactor.
        self._clocks_told = Lately(announce_s, _MOST_CLOCKS)
        # The latest of these, for brokers that are connected later; read by the other reactor.
        self._clocks: deque[tuple[float, Notice]] = deque(maxlen=_MOST_CLOCKS)
        self._clock_said = Lately(_MINUTE_S, 1)
        self._trouble_said = Lately(_TROUBLE_S, _MOST_TROUBLES)
        # The charts of which was said what they have, until it is over.
        self._troubled: OrderedDict[tuple[ProblemKind, str], None] = OrderedDict()
        # The sender to the own broker, once there is one, and whether this node can hear answers.
        self._own: Sender | None = None
        self._is_hearing = False
        # Whether it has begun to announce itself to its neighbours since it can.
        self._has_begun = False
        self._set_timer: TimerSetter | None = None
        self._will_answer = False

    def own_sender(self, sender: Sender) -> None:
        """Note which sender publishes to the own broker."""
        self._own = sender

    def use_timer(self, set_timer: TimerSetter) -> None:
        """Set timers of the receiver's thread by this, from now on."""
        self._set_timer = set_timer

    def is_own(self, sender: Sender) -> bool:
        """Tell whether a sender publishes to the own broker."""
        return sender is self._own

    def tell_all(self, notice: Notice) -> None:
        """Send a notice to all brokers that are connected. May be called from any thread."""
        for sender in self._posts.senders.values():
            sender.link.call_soon(partial(self._send, sender, notice, LISTENER_KEY))

    def announce_again(self) -> None:
        """Tell all brokers that are connected what the owner has to tell. From any thread."""
        for sender in self._posts.senders.values():
            sender.link.call_soon(partial(self._tell, sender))

    # In the senders' reactor.

    def on_connected(self, sender: Sender) -> None:
        """Send notices to a broker that has just been connected, and again from time to time."""
        sender.link.call_soon(lambda: self._begin(sender))

    def _begin(self, sender: Sender) -> None:
        path = self._paths.get(sender)
        if path is None:
            path = self._paths[sender] = _Path(self._announce_s)
        path.tail.ask()
        self._announce(sender, path)
        now_s = time.monotonic()
        for told_s, notice in list(self._clocks):
            if now_s - told_s < self._announce_s:
                self._send(sender, notice, LISTENER_KEY)

    def _announce(self, sender: Sender, path: _Path) -> None:
        if not sender.is_connected:
            return  # `on_connected` follows when it is connected again
        if not path.will_announce:
            path.will_announce = True
            delay_s = self._announce_s
            if sender is self._own and self._neighbours.are_told_lately(time.monotonic()):
                delay_s *= random.uniform(1.0 - _TURN, 1.0)
            sender.link.call_later(delay_s, lambda: self._announce_again(sender, path))
        path.companion.note_told(self._posts.transmitted, time.monotonic())
        self._tell(sender)
        self.look(sender)

    def _announce_again(self, sender: Sender, path: _Path) -> None:
        path.will_announce = False
        path.tail.ask_again(self._posts.transmitted)
        self._announce(sender, path)

    def _tell(self, sender: Sender) -> None:
        """Tell the own broker that this chart listens, and others what the owner has to tell."""
        if sender is self._own:
            self._tell_neighbours()
            return
        notice = self._notice()
        if notice is not None:
            self._send(sender, notice, self._tx_key)

    def _send(self, sender: Sender, notice: Notice, key: str) -> None:
        if not sender.is_connected:
            return
        message = self._seal(notice, key)
        if message is not None:
            # It expires when the next one comes, so that few wait for a receiver that takes
            # nothing.
            sender.publish_aside(message, key, self._announce_s)

    def _tell_neighbours(self) -> None:
        """Announce this node to its neighbours, unless they hear of one another anyway."""
        own = self._own
        if own is None or not own.is_connected or not self._is_hearing:
            return
        if not self._has_begun:
            self._has_begun = True
            residing = len(residents.beside(self))
            if not residing:
                self._announce_to(own, asks=True)
            elif not residents.speak_for(self):
                least_s, most_s = _UNHURRIED_S
                delay_s = random.uniform(least_s, max(most_s, residing / _UNHURRIED_A_SECOND))
                own.link.call_later(delay_s, self._announce_news)
        elif not self._neighbours.are_told_lately(time.monotonic()):
            self._announce_to(own, asks=self._has_to_ask)

    def _announce_news(self) -> None:
        """Announce this node, unless another of its process has meanwhile spoken for it."""
        own = self._own
        if own is not None and self._is_hearing and not residents.speak_for(self):
            self._announce_to(own, asks=False)

    @property
    def _has_to_ask(self) -> bool:
        return not self._has_residents and self._neighbours.has_to_ask(time.monotonic())

    def _announce_to(self, own: Sender, *, asks: bool) -> None:
        if own.is_connected:
            self.announced_at = self.place
        self._send(own, self._neighbours.announcement(asks=asks), LISTENER_KEY)
        for other in residents.beside(self):
            other.note_told()  # now: it may be about to do the same
        if asks:
            own.link.call_later(ANSWERED_S, lambda: self._settle(own))

    def _settle(self, own: Sender) -> None:
        """Make no more haste if nobody has answered."""
        own.patient = not self._has_neighbours

    def _hurry(self, own: Sender) -> None:
        if own.patient:
            own.patient = False
            own.wake()

    @property
    def _has_neighbours(self) -> bool:
        return self._has_residents or self._neighbours.are_there(time.monotonic())

    def ask_for_listener(self) -> None:
        """Ask the neighbours who listens to the events, unless that was asked just now."""
        own = self._own
        if own is None or not own.is_connected or not self._is_hearing:
            return
        if self._neighbours.may_ask_for_listener(time.monotonic()):
            self._announce_to(own, asks=True)

    def look(self, sender: Sender) -> None:
        """Announce this node along with its events, and tell the last numbers when it is time to.

        A broker is told the numbers when it has settled all of them. To be called when the node
        begins to send, about twice a second while it does, and for some seconds after that.
        """
        path = self._paths.get(sender)
        if path is None or not sender.is_connected:
            return
        sent, now_s = self._posts.transmitted, time.monotonic()
        if path.companion.is_due(sent, now_s) and sender is not self._own:
            path.companion.note_told(sent, now_s)
            if self._posts.is_posted_to(sender):
                self._tell(sender)
        if not path.tail.is_due(sent, now_s):
            return
        if sender is self._own and not self._has_neighbours:
            path.tail.note_told(sent, now_s)
            return
        numbers = self._posts.settled_numbers(sender)
        if numbers is not None:
            path.tail.note_told(sent, now_s)
            self._send(sender, tell_numbers(self._keys.choose(numbers)), LISTENER_KEY)

    def neighbours_listen(self) -> bool:
        """Tell whether another chart at the own broker listens to this node's events."""
        return self._neighbours.listen(time.monotonic()) or any(
            not other.rx_key or TopicPattern(other.rx_key).matches(self._tx_key)
            for other in residents.beside(self)
        )

    @property
    def knows_others(self) -> bool:
        """Whether another node is known."""
        return self._has_heard_others or self._has_residents

    # In the receiver's reactor.

    def on_hearing(self, *, is_hearing: bool) -> None:
        """Note whether this node can hear answers; if so, announce it to its neighbours."""
        if is_hearing == self._is_hearing:
            return
        self._is_hearing = is_hearing
        self.announced_at = None
        if not is_hearing:
            residents.leave(self)
            return
        residents.enter(self)
        own = self._own
        if own is not None:
            own.link.call_soon(self._announce_anew)

    def _announce_anew(self) -> None:
        self._has_begun = False
        self._tell_neighbours()

    def announce_to_neighbours(self) -> None:
        """Have all neighbours hear of this node now."""
        own = self._own
        if own is not None and self._is_hearing:
            own.link.call_soon(lambda: self._announce_to(own, asks=False))

    @property
    def place(self) -> Hashable:
        """What charts of this process have in common that understand each other at one broker."""
        own = self._own
        return None if own is None else (own.address, self._place())

    def note_neighbour(self) -> None:
        """Make haste, as another chart of this process listens, too. From any thread."""
        own = self._own
        if own is not None and own.patient:
            own.link.call_soon(lambda: self._hurry(own))

    def note_told(self) -> None:
        """Note that another chart of this process has announced itself. From any thread."""
        self._neighbours.note_told(time.monotonic())

    @property
    def _has_residents(self) -> bool:
        return bool(residents.beside(self))

    def take(self, notice: Notice, epoch: bytes = b"") -> None:
        """Take the notice of another node, whose epoch is given."""
        self._has_heard_others = True
        if is_listener(notice):
            self._hear_neighbour(notice)
        elif notice.kind == NoticeKind.NUMBERS:
            pass  # whoever counts the events has taken it already
        elif notice.kind == NoticeKind.CLOCK:
            self._hear_clock(notice)
        else:
            self._hear_trouble(notice)
            if self._on_notice is not None:
                self._on_notice(notice, epoch)

    def _hear_neighbour(self, announcement: Notice) -> None:
        delay_s = self._neighbours.hear(announcement, time.monotonic())
        own = self._own
        if own is None:
            return
        if own.patient:
            own.link.call_soon(lambda: self._hurry(own))
        if delay_s is not None and not self._will_answer and self._set_timer is not None:
            self._will_answer = True
            self._set_timer(delay_s, self._answer)

    def _answer(self) -> None:
        self._will_answer = False
        if self._neighbours.take_questions():
            self.announce_to_neighbours()

    def on_wrong_clock(self, epoch: bytes, ahead_ms: int) -> None:
        """Tell a sender that its events are rejected here for their time, now and then.

        It may not hear it at once: a node that starts may send before it listens.
        """
        now_s = time.monotonic()
        if self._clocks_told.may(epoch, now_s):
            notice = tell_clock(WrongClock(epoch, ahead_ms))
            self._clocks.append((now_s, notice))
            self.tell_all(notice)

    def _hear_clock(self, notice: Notice) -> None:
        wrong = told_clock(notice)
        if wrong is None or wrong.epoch != self._posts.epoch:
            return
        if not self._clock_said.may(None, time.monotonic()):
            return
        by = f"{abs(wrong.ahead_ms) / 1000:,.0f} s"
        how = (
            f"its clock is {by} ahead of theirs"
            if wrong.ahead_ms > 0
            else f"its clock is {by} behind theirs, or its events were under way for so long"
        )
        text = (
            f"{self.name}: others reject this node's events: {how}: set the clocks, or raise "
            "max_age_s"
        )
        logger.warning("%s", text)
        self._report(DeliveryProblem(ProblemKind.CLOCK, self.name, text, MESH))

    def _hear_trouble(self, notice: Notice) -> None:
        trouble = told_trouble(notice)
        if trouble is None:
            return
        chart = f"another node says of {trouble.chart!r}:"
        if not trouble.seconds and not trouble.depth:
            self._hear_end_of_trouble(trouble.chart, f"{chart} it takes events again")
            return
        kind = ProblemKind.STUCK_CHART if trouble.seconds else ProblemKind.QUEUE
        about = kind, trouble.chart
        if not self._trouble_said.may(about, time.monotonic()):
            return
        self._troubled[about] = None
        if len(self._troubled) > _MOST_TROUBLES:
            self._troubled.popitem(last=False)
        if not trouble.seconds:
            what = f"its queue is nearly full; {trouble.depth:,} messages"
        elif trouble.state:
            state = f"a handler of the state {trouble.state!r}"
            what = f"it has been in {state} for {trouble.seconds:,} s; {trouble.depth:,} events"
        else:
            what = f"it has taken no events for {trouble.seconds:,} s; {trouble.depth:,}"
        text = f"{chart} {what} wait for it"
        logger.warning("%s: %s", self.name, text)
        self._report(DeliveryProblem(kind, trouble.chart, text, MESH))

    def _hear_end_of_trouble(self, chart: str, text: str) -> None:
        kinds = [kind for kind, name in self._troubled if name == chart]
        if kinds:
            logger.warning("%s: %s", self.name, text)
        for kind in kinds:
            del self._troubled[kind, chart]
            self._report(DeliveryProblem(kind, chart, text, MESH, is_over=True))
