"""One of a node's three topic networks: its codec, its senders and its receiver."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from operator import attrgetter
from typing import Any, NamedTuple

from ..amqp.consumer import envelope_stats
from ..amqp.envelopes import Admission, EnvelopeTaker
from ..amqp.health import Reporting
from ..amqp.link import Link, Role
from ..amqp.link_state import SessionState
from ..amqp.parameters import Endpoint
from ..amqp.reactor import IoThread, Reactor
from ..amqp.receiver import Receiver, Source, Watch
from ..amqp.sender import Sender, Traffic, Vet
from ..amqp.shared_reactor import Share, SharedReactor
from ..amqp.sinks import Sink
from ..amqp.topic_pattern import TopicPattern
from ..amqp.topology import Queue
from ..answers import Answers
from ..exceptions import BackPressure, NetworkStopped, PayloadRefused
from ..foreign import on_one_line
from ..interruption import has_interrupted
from ..logs import RelayedLogger
from ..problems import DeliveryProblem, ProblemKind, Report, report_to_nobody
from ..turns import MOST_LEFT, Turns
from ..urls import Address, AmqpUrl
from ..wire.codec import Codec
from ..wire.envelope import Envelope, Kind, Purpose, shape
from ..wire.message import join
from ..wire.notice import LISTENER_KEY, Notice
from ..wire.opener import start_words
from ..wire.sealer import Left, Sealer
from .audience import Audience, Taken
from .broker_watch import BrokerWatch
from .echo import Echo
from .namesakes import Namesakes
from .notices import Notices
from .redirection import Redirection
from .settings import DEFAULT_ROUTING_KEY, Settings
from .stats import DropReason, NetworkStats

logger: RelayedLogger = RelayedLogger(__name__)

_LOSSES = Reporting(first_failure=logging.INFO)
"""For the mesh. Discovery and `start` report brokers that do not answer at first."""

_IN_PASSING = Reporting(first_failure=logging.INFO, loss=logging.INFO)
"""For further connections to a broker, whose losses another connection reports."""


_LOCAL_HEARTBEAT_S = 4
"""The longest heartbeat of a consumer at this machine's own broker. When the machine's address
changes, nobody tells the broker that the former connection is gone: it lets no other consume from
the queue until two to three heartbeats have passed. Here a heartbeat costs the network nothing."""

_NO_ROOM_IN_HANDLER = (
    "there is no room for the event, and the handler of a signal cannot wait for room in the "
    "middle of other work of miros_rabbitmq in its thread"
)


_publishers = SharedReactor("miros publishers")
_consumers = SharedReactor("miros consumers")


class Reactors(NamedTuple):
    """The two I/O threads for all connections of a node.

    Publishers and consumers have a thread each, so that a chart which is slow to take events does
    not delay the events that it sends. All charts of a process share the two: an event that goes to
    many of them then wakes one thread, not one for each. A chart that takes no events holds up no
    other: a message without room is offered again later. But code of the user that deserializes
    may take its time, so a chart that has some gets a thread of its own for its consumers.
    """

    tx: IoThread
    """Drives everything that publishes."""
    rx: IoThread
    """Drives everything that consumes."""

    @classmethod
    def of(cls, name: str, *, runs_users_code: bool = False) -> Reactors:
        """Make the reactors of a node; their threads start with its first connections.

        Args:
            name: the node's.
            runs_users_code: whether code of the user deserializes what is received.
        """
        if runs_users_code:
            return cls(Share(_publishers), Reactor(f"miros consumers of {name}"))
        return cls(Share(_publishers), Share(_consumers))


@dataclass(frozen=True)
class TopicSpec:
    """What distinguishes one of the three networks.

    Args:
        name: the exchange.
        tx_key: the routing key to publish with.
        rx_key: the pattern of the routing keys to consume.
        keys: the Fernet keys; the first encrypts, all decrypt.
        queue: the queue to consume from.
        lossy: whether its traffic may be lost, but must never wait.
        has_notices: whether nodes tell each other something on it, too.
    """

    name: str
    tx_key: str
    rx_key: str
    keys: tuple[bytes, ...] = field(repr=False)
    queue: Queue
    lossy: bool
    has_notices: bool = False


@dataclass(frozen=True)
class Hooks:
    """What a network calls back. All are called in the reactors' threads, so each returns at once.

    Args:
        sink: takes each new envelope of another node.
        admit: called before that; raises `MessageRejected` to reject the envelope.
        on_change: called when a connection has changed its state, or a broker is found to keep up
            or not to.
        notice: returns the notice that goes to the brokers of others after each
            connect, and now and then; `None` to send none.
        on_notice: called with each notice of another node and the epoch of that node, except for
            those that the network itself takes.
        on_lag: called with a broker and whether events have waited for it for more than a second:
            about twice a second while they have, and once when they have no longer.
        report: takes problems of delivery.
        watch: watches whether the sink takes the envelopes.
        vet: looks at each new connection of a sender before anything is sent on it.
        answers: knows what brokers have answered to any link of the node.
    """

    sink: Sink
    admit: Callable[[Envelope], object] | None = None
    on_change: Callable[[], object] | None = None
    notice: Callable[[], Notice | None] | None = None
    on_notice: Callable[[Notice, bytes], object] | None = None
    on_lag: Callable[[Address, bool], object] | None = None
    report: Report = report_to_nobody
    watch: Watch | None = None
    vet: Vet | None = None
    answers: Answers | None = None


class TopicNetwork:
    """One topic network of one node, from its start to its stop.

    Every method may be called from any thread.

    Args:
        spec: which of the networks.
        settings: the settings of the node.
        name: the name of the chart.
        reactors: the I/O threads of the node.
        hooks: what to call back.
        former_epochs: those of earlier starts of this node in this process.
    """

    def __init__(
        self,
        spec: TopicSpec,
        settings: Settings,
        name: str,
        reactors: Reactors,
        hooks: Hooks,
        former_epochs: frozenset[bytes] = frozenset(),
    ) -> None:
        self.spec = spec
        self.codec: Codec = Codec(
            spec.keys,
            serializer=settings.serializer,
            deserializer=settings.deserializer,
            allowed_classes=settings.allowed_classes,
            max_bytes=settings.limits.event_bytes,
            max_age_s=settings.max_age_s,
        )
        self.receiver: Receiver | None = None
        """Consumes from the own broker; `None` before `start_receiver`."""
        self._settings = settings
        self._name = name
        self._kind = Kind.on(spec.name)
        self._fits = self._kind.fits
        # Numbers and encrypts what this start of the chart sends, and nothing else.
        self._sealer = Sealer(self.codec, spec.name, name)
        self._own_epochs = former_epochs | {self._sealer.epoch}
        self._reactors = reactors
        self._hooks = hooks
        self._taker: EnvelopeTaker | None = None
        # The own broker, once there is a receiver.
        self._own: Address | None = None
        self._notices: Notices | None = None
        if spec.has_notices:
            self._notices = Notices(
                name,
                self._seal_notice,
                spec.tx_key,
                spec.rx_key,
                lambda: (settings.rabbit_vhost, self.codec.keyring.ids),
                settings.limits.announce_s,
                self,
                hooks.notice or _nothing,
                hooks.on_notice,
                hooks.report,
            )
        # Held from numbering an envelope until every sender has it, so that all of them send in
        # the same order: the later number must not go first. Also held while the set of senders
        # changes. What the handler of a signal transmits meanwhile is left to the holder.
        self._order: Turns[Left] = Turns(self._post_left)
        # Replaced as a whole when it changes, so that reading it needs no lock.
        self._senders: dict[Address, Sender] = {}
        # Those of the senders that get what is posted, all but spares. Replaced as a whole.
        self._posted_to: tuple[Sender, ...] = ()
        self._redirection = Redirection()
        # The counters of senders that are gone.
        self._former: Counter[str] = Counter()
        self._former_drops: Counter[DropReason] = Counter()
        self._transmitted = 0
        # The brokers that were reported as away; in the senders' thread.
        self._away: set[Address] = set()
        self._is_ending = False
        self._namesakes = Namesakes(name, hooks.report)
        self._audience = Audience(name, spec.tx_key, hooks.report)
        # The own queue gets the own events, so the own broker returns none of them.
        self._hears_itself = TopicPattern(spec.rx_key).matches(spec.tx_key)
        self._echo = Echo(
            name,
            spec.name,
            settings.rabbit_vhost,
            2 * settings.limits.heartbeat_s,
            hooks.report,
        )
        # Whoever may be lossy never waits, and needs no watch.
        self._broker_watch: BrokerWatch | None = None
        if not spec.lossy:
            self._broker_watch = BrokerWatch(
                f"{spec.name} of {name}",
                settings.limits,
                reactors.tx,
                lambda: self._senders,
                self._no_measure,
                waits=settings.on_full == "wait",
                report=hooks.report,
                on_look=self._notices.look if self._notices is not None else _ignore,
                on_lag=hooks.on_lag or _ignore,
                on_change=hooks.on_change,
                on_round=self._look_for_audience,
            )

    @property
    def epochs(self) -> frozenset[bytes]:
        """The epochs of this node on this network in this process, to hand to the next start."""
        return self._own_epochs

    @property
    def epoch(self) -> bytes:
        """The epoch of the present start."""
        return self._sealer.epoch

    @property
    def transmitted(self) -> int:
        """How many events `transmit` has accepted."""
        return self._transmitted

    @property
    def senders(self) -> dict[Address, Sender]:
        """The sender to each broker; a copy."""
        return dict(self._senders)

    @property
    def own_links(self) -> list[Link]:
        """The links to the own broker: the receiver's, and that of the sender."""
        own = None if self._own is None else self._senders.get(self._own)
        users = [one for one in (self.receiver, own) if one is not None]
        return [one.link for one in users]

    def is_posted_to(self, sender: Sender) -> bool:
        """Whether a sender gets the events, and is no spare."""
        return sender in self._posted_to

    def settled_numbers(self, sender: Sender) -> dict[str, int] | None:
        """The last number by each routing key; `None` unless a broker has settled all of them.

        Settled is what it has confirmed, and what was given up for it. Returns at once: `None`,
        too, while an event is being posted, and for a spare, to whose broker another one posts.
        """
        # A reactor never waits for a lock that a chart may hold in a handler of a signal.
        with self._order.turn(0.0) as is_held:
            if not is_held or sender not in self._posted_to:
                return None
            stats = sender.stats()
            if stats.waiting or stats.unconfirmed:
                return None
            return self._sealer.last_numbers()

    def _look_for_audience(self, now_s: float) -> None:
        """See whether anybody listens to the events. In the senders' reactor."""
        notices = self._notices
        if notices is None:
            return
        taken = {}
        for sender in self._posted_to:
            stats = sender.stats()
            hears_itself = self._hears_itself and notices.is_own(sender)
            if hears_itself:
                queue = self._bound_queue
                self._echo.look(now_s, sender.address, queue, stats.confirmed, stats.unrouted)
            unrouted = stats.confirmed if hears_itself else stats.unrouted
            is_known = sender.is_connected and not sender.is_stalled
            taken[sender.address] = Taken(is_known, stats.confirmed, unrouted)
        is_expected = self.spec.tx_key != DEFAULT_ROUTING_KEY or notices.knows_others
        has_listener = notices.neighbours_listen()
        self._audience.look(now_s, taken, is_expected=is_expected, has_listener=has_listener)
        if self._audience.is_in_doubt and self._hears_itself:
            notices.ask_for_listener()

    def _hear_namesake(self, sent_ms: int) -> None:
        """Have it said that another chart has this name, at both. In the receiver's reactor."""
        if self._namesakes.hear(sent_ms) and self._notices is not None:
            self._notices.announce_to_neighbours()

    @property
    def _bound_queue(self) -> str:
        """The name of the own queue while it is consumed from; empty while it is not."""
        receiver = self.receiver
        is_ready = receiver is not None and receiver.link.state is SessionState.READY
        return receiver.queue_name if receiver is not None and is_ready else ""

    def tell_all(self, notice: Notice) -> None:
        """Send a notice to all brokers that are connected now; does nothing without notices."""
        if self._notices is not None:
            self._notices.tell_all(notice)

    def start_receiver(self, url: AmqpUrl) -> Receiver:
        """Begin to consume at the node's own broker."""
        self._own = url.address
        spec, notices, hooks = self.spec, self._notices, self._hooks
        further_keys = (LISTENER_KEY,) if notices is not None else ()
        admission = Admission(
            bindings=(spec.rx_key,),
            notice_bindings=further_keys,
            own_epochs=self._own_epochs,
            admit=hooks.admit,
            on_notice=notices.take if notices is not None else None,
            on_wrong_clock=notices.on_wrong_clock if notices is not None else None,
            report=hooks.report,
            own_name=on_one_line(self._name),
            on_namesake=self._hear_namesake,
        )
        self._namesakes.begin()
        self._tell_keys()
        role = f"{spec.name} consumer of {self._name}"
        self._taker = EnvelopeTaker(
            self._name_of_taker(url),
            spec.name,
            self.codec,
            hooks.sink,
            self._settings.limits,
            admission,
        )
        source = Source(spec.name, spec.rx_key, spec.queue, further_keys)
        endpoint = self._endpoint(url)
        if self._settings.rabbit_host is None:
            endpoint = replace(endpoint, longest_heartbeat_s=_LOCAL_HEARTBEAT_S)
        self.receiver = Receiver(
            endpoint,
            self._role(role, in_passing=spec.lossy),
            source,
            self._taker,
            self._reactors.rx,
            self._on_receiver_state,
            hooks.watch,
        )
        self._taker.use_timer(self.receiver.link.call_later)
        if notices is not None:
            notices.use_timer(self.receiver.link.call_later)
        self.receiver.link.start()
        return self.receiver

    def _name_of_taker(self, url: AmqpUrl) -> str:
        return f"{self.spec.name} consumer of {self._name} at {url.address}"

    def _role(self, name: str, *, in_passing: bool, origin: str = "") -> Role:
        reporting = _IN_PASSING if in_passing else _LOSSES
        return Role(name, reporting._replace(answers=self._hooks.answers, origin=origin))

    def _endpoint(self, url: AmqpUrl) -> Endpoint:
        return Endpoint(url, self._settings.limits, self._settings.tls)

    def add_broker(self, url: AmqpUrl, *, is_stranger: bool = False, origin: str = "") -> None:
        """Begin to publish to a broker; does nothing if there is a sender to it already.

        Args:
            url: the broker's.
            is_stranger: nobody has named it, so nobody waits for it before it has confirmed
                something and `vouch` was called.
            origin: how its address became known, for the log.
        """
        with self._order.turn():
            if url.address in self._senders:
                return
            spec = self.spec
            is_own = self._own == url.address
            traffic = Traffic(
                spec.name,
                joined=True,
                durable=self._settings.durable,
                lossy=spec.lossy,
                # `notices` makes that to the own broker patient while nobody else listens there.
                patient=spec.lossy,
            )
            sender = Sender(
                self._endpoint(url),
                self._role(
                    f"{spec.name} publisher of {self._name}",
                    in_passing=spec.lossy or is_own,
                    origin=origin,
                ),
                traffic,
                self._reactors.tx,
                lambda: self._on_sender_state(sender),
                self._hooks.report,
                self._hooks.vet,
            )
            sender.is_stranger = is_stranger
            if is_own and self._notices is not None:
                self._notices.own_sender(sender)
            if self._broker_watch is not None:
                self._broker_watch.start()
            try:
                sender.start()
                # The newest first, and so the own broker last: senders are woken in this order, and
                # copies with the longest way should leave first.
                self._senders = {url.address: sender, **self._senders}
            except BaseException:
                # Also in between, from the handler of a signal: nobody would stop it.
                if self._senders.get(url.address) is not sender:
                    sender.stop(0.0)
                raise
            self._redirection.add(url.address, self._transmitted)
            self._posted_to = self._redirection.posted_to(self._senders)

    def vouch(self, address: Address) -> None:
        """Note that a holder of the key has announced a broker; does nothing if there is none."""
        sender = self._senders.get(address)
        if sender is not None:
            sender.is_vouched = True

    def remove_broker(self, address: Address) -> Callable[[], int]:
        """Stop publishing to a broker. Does not wait.

        Returns:
            what to call afterwards: it waits for the end of the sender, for seconds at most, and
            returns how many events were given up with it.
        """
        with self._order.turn():
            sender = self._senders.get(address)
            if sender is None:
                return _none_given_up
            self._senders = {at: one for at, one in self._senders.items() if at != address}
            self._redirection.remove(address)
            self._posted_to = self._redirection.posted_to(self._senders)
        sender.stop()
        return partial(self._retire, sender, "given up")

    def _retire(self, sender: Sender, why: str) -> int:
        """Wait for the end of a sender that was asked to stop, and keep its counters."""
        address = sender.address
        sender.link.wait_for_end()
        if address in self._away:
            self._away.discard(address)
            self._report_away(sender, why, is_over=True)
        self._wake_all()
        last = sender.stats()
        left = last.waiting + last.unconfirmed
        with self._order.turn():
            self._former.update(
                sent=last.sent,
                confirmed=last.confirmed,
                unrouted=last.unrouted,
            )
            self._former_drops.update(last.drops)
            self._former_drops[DropReason.FORGOTTEN] += left
        if left and not self.spec.lossy:
            self._hooks.report(
                DeliveryProblem(
                    ProblemKind.DROPPED,
                    str(address),
                    f"{sender.link.name}: events were dropped: {DropReason.FORGOTTEN.value}",
                    network=self.spec.name,
                    events=left,
                )
            )
        return left

    def move(self, before: Address, url: AmqpUrl) -> Callable[[], object]:
        """Publish to a broker at another address, to which what waits for it moves, in order.

        Does not wait.

        Args:
            before: the former address, at which nobody answers any more.
            url: the broker's.

        Returns:
            what waits, within seconds, until the sender to the former address has ended; to be
            called without a lock.
        """
        self.add_broker(url)
        former = self._replace(before, url.address)
        if former is None:
            return _nothing
        former.stop(0.0)
        return lambda: self._retire(former, f"it is at {url.address} now")

    def _replace(self, before: Address, now: Address) -> Sender | None:
        """Have one sender take the place of another; returns the former one, which is to stop."""
        with self._order.turn():
            former = self._senders.get(before)
            if former is not None:
                self._redirection.replace(
                    before,
                    now,
                    self._senders,
                    self._transmitted,
                    is_reached=self._senders[now].is_connected,
                )
                self._senders = {at: one for at, one in self._senders.items() if at != before}
                self._redirection.remove(before)
                self._posted_to = self._redirection.posted_to(self._senders)
        return former

    def move_own(self, url: AmqpUrl, *, is_gone: bool) -> Callable[[], object]:
        """Reach the own broker at another address from now on.

        The receiver keeps its queue, and what waits for the broker moves, in order. Does not wait.

        Args:
            url: the broker's.
            is_gone: this machine has lost the former address, so that connections which begin or
                end there carry nothing any more.

        Returns:
            what waits, within seconds, until the sender to the former address has ended; to be
            called without a lock.
        """
        before, receiver = self._own, self.receiver
        if before is None or receiver is None or before == url.address:
            return _nothing
        self._own = url.address
        receiver.move(url, is_gone=is_gone)
        if self._taker is not None:
            self._taker.rename(self._name_of_taker(url))
        self.add_broker(url)
        former = self._replace(before, url.address)
        if self._notices is not None and url.address in self._senders:
            self._notices.own_sender(self._senders[url.address])
        if is_gone:
            for sender in self._senders.values():
                sender.link.leave_host(before.host)
        if self._notices is not None:
            self._notices.announce_again()
        if former is None:
            return _nothing
        former.stop(0.0 if is_gone else None)
        return lambda: self._retire(former, f"it is at {url.address} now")

    def share(self, spare_of: Mapping[Address, Address]) -> bool:
        """Post to some brokers only, and move what waits for the others.

        Args:
            spare_of: the brokers to post nothing to, and the one that is used in place of each.

        Returns:
            whether that is done; False if other threads post meanwhile: to be called again soon.
        """
        # The thread of the senders calls this. It must not wait for a thread that may be inside the
        # handler of a signal.
        with self._order.turn(_SHARE_PATIENCE_S) as is_held:
            if is_held:
                self._redirection.share(spare_of, self._senders, self._transmitted)
                self._posted_to = self._redirection.posted_to(self._senders)
            return is_held

    def _on_sender_state(self, sender: Sender) -> None:
        self._report_outage(sender)
        if self._notices is not None and sender.link.state is SessionState.READY:
            self._notices.on_connected(sender)
        self._tell_change()

    def _report_outage(self, sender: Sender) -> None:
        """Report that a broker cannot be reached, and that it can again."""
        link, address = sender.link, sender.address
        is_away = link.state in (SessionState.WAITING, SessionState.REFUSED)
        if link.comes_back_soon and link.state is SessionState.WAITING:
            return
        if is_away and address not in self._away and not self.spec.lossy:
            self._away.add(address)
            self._report_away(sender, str(link.fault or "not connected"))
        elif link.state is SessionState.READY and address in self._away:
            self._away.discard(address)
            self._report_away(sender, "connected again", is_over=True)

    def _report_away(self, sender: Sender, text: str, *, is_over: bool = False) -> None:
        address, network = str(sender.address), self.spec.name
        text = f"{sender.link.name}: {text}"
        self._hooks.report(
            DeliveryProblem(ProblemKind.AWAY, address, text, network, is_over=is_over)
        )

    def _on_receiver_state(self) -> None:
        receiver = self.receiver
        if self._notices is not None and receiver is not None:
            self._notices.on_hearing(is_hearing=receiver.link.is_connected)
        self._tell_change()

    def _tell_change(self) -> None:
        if self._hooks.on_change is not None:
            self._hooks.on_change()

    def _seal_notice(self, notice: Notice, routing_key: str) -> bytes | None:
        """The message with a notice; `None` in a child that was forked meanwhile."""
        draft = self._sealer.seal(notice.kind, notice.body, routing_key, Purpose.NOTICES)
        record = self._sealer.commit(draft)
        return None if record is None else join(record.heading.prefix, [record.data])

    def transmit(self, body: Any, timeout: float, routing_key: str | None = None) -> None:
        """Encrypt a body once and hand it to every sender.

        Args:
            body: what the network carries.
            timeout: seconds to wait for connected brokers whose backlog is full.
            routing_key: where it goes; default is the network's own routing key.

        Raises:
            PayloadRefused: it cannot be serialized, or is too large.
            BackPressure: the backlogs of healthy brokers, or of all, had no room in time; nothing
                was sent to any broker.
            NetworkStopped: the network takes nothing more.
        """
        key = self.spec.tx_key if routing_key is None else routing_key
        if not self._fits(body):
            raise PayloadRefused(
                f"is {shape(body)}, and {self.spec.name} carries {self._kind.wanted}"
            )
        plain = self.codec.serialize(body)
        deadline_s = time.monotonic() + timeout
        order = self._order
        if order.is_interrupted():
            # This is the handler of a signal, and what it has interrupted goes on after it.
            if not self._leave(plain, key):
                raise BackPressure(_NO_ROOM_IN_HANDLER)
            return
        has_waited_enough = False
        while True:
            try:
                if not order.begin():
                    if self._leave(plain, key):
                        return
                else:
                    if order.left:
                        order.catch_up()
                    if self._is_ending:
                        raise NetworkStopped(f"{self._name} was stopped")
                    senders = self._posted_to
                    if has_waited_enough or all(map(_has_room, senders)):
                        record = self._sealer.commit(self._sealer.seal(self._kind, plain, key))
                        if record is None:
                            continue
                        self._transmitted += 1
                        to_attend = [one for one in senders if one.enqueue(record)]
                        break
            finally:
                try:
                    if order.left:
                        order.catch_up()
                finally:
                    try:  # noqa: SIM105 - this is passed for each event
                        order.lock.release()
                    except RuntimeError:
                        pass  # it could not be had
            # Wait without the lock, so that nobody waits for the lock; then look again with it.
            has_waited_enough = not self._wait_for_room(deadline_s, timeout)
        if order.left:
            order.catch_up_if_free()
        watch = self._broker_watch
        if watch is not None and not watch.is_on:
            watch.wake()
        # This thread sends to the first, which is the farthest, and the reactor to the others. So
        # the time that this thread spends hardly grows with the number of brokers.
        if to_attend:
            to_attend[0].attend(to_attend[1:])

    def _leave(self, plain: bytes, key: str) -> bool:
        """Have a body sent by whoever has the lock; tells whether there is room for it."""
        if self._is_ending:
            raise NetworkStopped(f"{self._name} was stopped")
        has_room = all(map(_has_room, self._posted_to))
        if not has_room or len(self._order.left) >= MOST_LEFT:
            return False
        self._order.leave(Left(self._sealer.seal(self._kind, plain, key)))
        watch = self._broker_watch
        if watch is not None and not watch.is_on:
            watch.wake()
        return True

    def _post_left(self, left: Left) -> None:
        """Post what was left. Called with the lock."""
        if left.record is None:
            left.record = self._sealer.commit(left.draft)
            self._transmitted += 1
        if left.record is not None:  # not in a forked child
            for sender in self._posted_to:
                sender.enqueue_over(left.record)

    def _wake_all(self) -> None:
        """Have all senders look at what waits, in case a sender ended that was to wake others."""
        for sender in self._senders.values():
            sender.wake()

    def _wait_for_room(self, deadline_s: float, timeout: float) -> bool:
        """Wait until every broker that is waited for has room.

        Returns:
            whether they have; False if time is up and the oldest events of a sick one may go.

        Raises:
            BackPressure: time is up, and the sender is too fast.
        """
        if has_interrupted():
            raise BackPressure(_NO_ROOM_IN_HANDLER)
        senders = self._posted_to
        if all(sender.wait_for_room(deadline_s) for sender in senders):
            return True
        full = [sender for sender in senders if not sender.has_room]
        if not full or self._may_push_out(full, senders):
            return False
        where = ", ".join(map(_described, full))
        raise BackPressure(
            f"the backlog for {where} has been full for {timeout} s: transmit less, or raise "
            "transmit_timeout or Limits.backlog_events"
        )

    def _may_push_out(self, full: Sequence[Sender], senders: Sequence[Sender]) -> bool:
        """Tell whether full backlogs are those of sick brokers, while others take events.

        One sick broker must not make ``transmit`` raise.
        """
        watch = self._broker_watch
        if watch is None or self._settings.on_full == "wait":
            return False
        others = [sender for sender in senders if sender not in full]
        return any(map(watch.takes_events, others)) and all(map(watch.is_sluggish, full))

    def _no_measure(self) -> set[Address]:
        """The brokers that say nothing of how fast others could be: the own one, and spares."""
        own = set() if self._own is None else {self._own}
        return own | set(self._redirection.spare_of)

    def hold(self, address: Address, *, held: bool) -> None:
        """Send a broker nothing until further notice, or again. In the senders' thread."""
        sender = self._senders.get(address)
        if sender is not None:
            sender.hold(held=held)

    def change_keys(self, keys: tuple[bytes, ...]) -> None:
        """Encrypt and decrypt with other keys, from the next envelope on."""
        self.codec.change_keys(keys)
        self._tell_keys()

    def _tell_keys(self) -> None:
        first, *others = self.codec.keyring.ids
        also = f", and understands also {', '.join(others)}" if others else ""
        words = start_words(self.epoch, first)
        logger.info("%s of %s: %s%s", self.spec.name, self._name, words, also)

    def flush(self, timeout: float | None = None, *, if_absent: bool = True) -> bool:
        """Wait until every broker that was ever reached has confirmed everything.

        Args:
            timeout: seconds to wait; default ``transmit_timeout``.
            if_absent: whether to wait also for absent brokers, see `Sender.is_absent`.

        Returns:
            whether all have, in time.
        """
        timeout_s = self._settings.transmit_timeout if timeout is None else timeout
        deadline_s = time.monotonic() + timeout_s
        while True:
            posted_to = self._posted_to
            flushed = [
                sender.flush(max(0.0, deadline_s - time.monotonic()), if_absent=if_absent)
                for sender in self.senders.values()
            ]
            # If a spare has taken over meanwhile, it is the one to wait for.
            if posted_to is self._posted_to or time.monotonic() >= deadline_s:
                return all(flushed)

    def send_everything(self) -> None:
        """Have all senders send what waits, without a wait for the next beat; returns at once."""
        for sender in self._senders.values():
            sender.send_everything()

    def take_nothing_more(self) -> None:
        """Refuse further events, so that a flush reaches everything that was accepted before."""
        with self._order.turn():
            self._is_ending = True

    def stop_receiver(self) -> None:
        """Take nothing more from the own broker; `stop` waits until the receiver has ended."""
        if self.receiver is not None:
            self.receiver.link.stop()

    def begin_stop(self, timeout: float | None = None) -> list[Link]:
        """Stop every connection, all at the same time; returns at once. `stop` does this too.

        Args:
            timeout: seconds after which connections are cut; default ``limits.stop_timeout_s``.

        Returns:
            the links, which then end.
        """
        if self._broker_watch is not None:
            self._broker_watch.stop()
        links = [sender.link for sender in self.senders.values()]
        if self.receiver is not None:
            links.append(self.receiver.link)
        for link in links:
            link.stop(timeout)
        return links

    def stop(self, timeout: float | None = None) -> None:
        """Stop every connection, and wait until all have ended.

        Args:
            timeout: seconds after which connections are cut; default ``limits.stop_timeout_s``.
        """
        links = self.begin_stop(timeout)
        # A connection that is cut ends a moment later, unless its reactor is stuck.
        limit_s = self._settings.limits.stop_timeout_s if timeout is None else timeout
        deadline_s = time.monotonic() + limit_s + _CUT_S
        for link in links:
            if not link.wait_for_end(max(0.0, deadline_s - time.monotonic())):
                logger.warning("%s has not ended in time and is left behind", link.name)
        if self._taker and self.receiver and self.receiver.link.wait_for_end(0.0):
            self._taker.end()

    def stats(self) -> NetworkStats:
        """The counters of this network."""
        spare_of = self._redirection.spare_of
        brokers = {
            str(at): sender.stats()._replace(spare_of=str(spare_of.get(at, "")))
            for at, sender in self.senders.items()
        }
        former = self._former
        receiver = self.receiver
        consumer = None
        if receiver is not None and self._taker is not None:
            consumer = envelope_stats(receiver, self._taker)
        return NetworkStats(
            enabled=True,
            transmitted=self._transmitted,
            sent=former["sent"] + sum(one.sent for one in brokers.values()),
            confirmed=former["confirmed"] + sum(one.confirmed for one in brokers.values()),
            unrouted=former["unrouted"] + sum(one.unrouted for one in brokers.values()),
            received=consumer.received if consumer else 0,
            own=consumer.own if consumer else 0,
            duplicates=consumer.duplicates if consumer else 0,
            gaps=consumer.gaps if consumer else 0,
            dropped={
                reason: self._former_drops[reason]
                + sum(one.drops.get(reason, 0) for one in brokers.values())
                for reason in DropReason
            },
            rejected=dict(consumer.rejected) if consumer else {},
            brokers=brokers,
            consumer=consumer.state if consumer else SessionState.NEW,
            keys=self.codec.keyring.ids,
            consumer_fault=str((receiver and receiver.link.fault) or ""),
            consumer_connection=consumer.connection if consumer else "",
            queue=consumer.queue if consumer else "",
            queue_messages=consumer.queue_messages if consumer else 0,
            unread=consumer.unread if consumer else 0,
        )


_SHARE_PATIENCE_S = 0.01
"""How long to wait for threads that post. Each needs a fraction of a millisecond."""

_CUT_S = 1.0
"""How long a connection may take to end after it is cut: the reactor has others to serve, too."""


_has_room = attrgetter("has_room")
"""Of a sender; asked for each event, so without a function of ours."""


def _described(sender: Sender) -> str:
    """Name a broker, and why it takes nothing, if that is known."""
    reason = sender.link.blocked_reason
    more = f" (which lets nobody publish: {reason})" if reason else ""
    return f"{sender.address}{more}"


def _ignore(*_: object) -> None:
    """Do nothing with a lag that nobody wants to hear of."""


def _none_given_up() -> int:
    """The end of a sender that there was not."""
    return 0


def _nothing() -> None:
    """The body of no notice, for a node that has nothing to tell."""
