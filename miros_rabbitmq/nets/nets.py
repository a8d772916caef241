"""MirosNets: the three topic networks of one statechart, and what a chart does with them.

The mesh carries events and is always on. The two snoops carry instrumentation lines and are
enabled one by one, at any time. What a chart transmits goes to every broker; what it hears comes
from its own. How networks are opened, joined to brokers and ended is described in `node`.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NoReturn

from miros import Event, signals

from ..amqp.sinks import DirectSink, Sink, WorkerSink
from ..discovery.lan import LocalAreaNetwork
from ..exceptions import MessageRejected, MirosApiException, PayloadRefused
from ..failures import STOP, ErrorCallback
from ..interruption import do_in_turn, has_interrupted
from ..limits import Limits
from ..older import NETS, say_what_is_gone
from ..resources import shortage
from ..urls import AmqpUrl, check_utf8
from ..wire.codec import Deserializer, Serializer
from ..wire.envelope import Envelope
from ..wire.keys import Keys
from ..wording import a_value_of
from . import registry
from .chart_side import ANY_OBJECT, ChartSide
from .chart_watch import Busy
from .failing import Failures
from .large_event import LargeEvent
from .node import Events, Node
from .settings import (
    DEFAULT_LIMITS,
    PORT_OF_SCHEME,
    MeshCallback,
    OlderSpellings,
    PeersCallback,
    ProblemCallback,
    Settings,
    SnoopCallback,
    documented,
    settings_from,
    taken,
    without_older_spellings,
)
from .signal_names import check_name
from .snoops import Snoop, Snoops
from .stats import DropReason, NetsStats

if TYPE_CHECKING:
    from typing_extensions import Unpack


@documented
class MirosNets:
    """The networks of one statechart, or of any object with a name and a FIFO.

    Nothing touches the network before `start`. Every method may be called from any thread.

    Args:
        miros_object: has a text ``name`` and a method ``post_fifo(event)``, which is called with
            each event from the network unless ``on_mesh_rx`` is given.
        ...: see `Settings`.
        chart_side: for the two chart classes of this package only, which hand in themselves.

    Raises:
        MirosApiException: ``miros_object`` lacks a usable name or ``post_fifo``.
        SettingsError: a value cannot work.
        TypeError: a value was given twice, or a keyword is unknown.
    """

    @without_older_spellings
    def __init__(
        self,
        miros_object: Any,
        rabbit_user: str,
        rabbit_password: str,
        mesh_encryption_key: Keys | None = None,
        tx_routing_key: str | None = None,
        rx_routing_key: str | None = None,
        snoop_spy_encryption_key: Keys | None = None,
        snoop_trace_encryption_key: Keys | None = None,
        *,
        chart_side: ChartSide = ANY_OBJECT,
        rabbit_host: str | None = None,
        rabbit_port: int = PORT_OF_SCHEME,
        rabbit_vhost: str = "/",
        addresses: Sequence[str] | None = None,
        interface: str | None = None,
        serializer: Serializer | None = None,
        deserializer: Deserializer | None = None,
        allowed_classes: Sequence[type] = (),
        on_mesh_rx: MeshCallback | None = None,
        on_trace_rx: SnoopCallback | None = None,
        on_spy_rx: SnoopCallback | None = None,
        on_peers_changed: PeersCallback | None = None,
        on_delivery_problem: ProblemCallback | None = None,
        on_error: str | ErrorCallback = STOP,
        tls: ssl.SSLContext | None = None,
        durable: bool = True,
        start_timeout: float = 5.0,
        transmit_timeout: float = 10.0,
        on_full: str = "drop",
        rescan_interval: float = 60.0,
        forget_after: float = 600.0,
        time_out_in_minutes: float = 30.0,
        accept_unknown_peers: bool = True,
        max_age_s: float | None = None,
        limits: Limits = DEFAULT_LIMITS,
        **older: Unpack[OlderSpellings],
    ) -> None:
        registry.install()
        _check_miros_object(miros_object)
        settings = settings_from(taken(locals()), older)
        name = miros_object.name
        sink: Sink
        self._admitted: set[str] = set()
        self._deliver = settings.on_mesh_rx or miros_object.post_fifo
        most_bytes = limits.fifo_remote_bytes
        self.failures: Failures = Failures(
            name,
            settings.on_error,
            lambda text: self.snoops.remark(text),
            chart_side.stop or self.stop,
        )
        """Judges what the user's code raises. For this package only."""
        if settings.on_mesh_rx is not None:
            on_raise = self.failures.of_callback("on_mesh_rx")
            sink = WorkerSink(
                f"on_mesh_rx of {name}", self._receive, most_bytes=most_bytes, on_raise=on_raise
            )
        elif chart_side.is_direct:
            sink = DirectSink(f"events for {name}", self._receive, chart_side.room)
        else:
            on_raise = self.failures.of_callback("post_fifo")
            room = chart_side.room
            sink = WorkerSink(f"post_fifo of {name}", self._receive, room, most_bytes, on_raise)
        all_busy: list[Busy] = [] if chart_side.busy is None else [chart_side.busy]
        if isinstance(sink, WorkerSink):
            all_busy.append(sink)
        events = Events(sink, self._admit, lambda: _dropped(miros_object), all_busy)
        self.node: Node = Node(name, settings, events, self.failures)
        """The networks and their life. For this package only."""

    def __repr__(self) -> str:
        return f"<MirosNets of {self.node.name} {self.node.phase.value}>"

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> NoReturn:
            say_what_is_gone("MirosNets", name, NETS)

    @property
    def settings(self) -> Settings:
        """The arguments of the constructor, with the keys now in force."""
        return self.node.settings

    @property
    def snoops(self) -> Snoops:
        """The two snoops."""
        return self.node.snoops

    # Life.

    @property
    def is_running(self) -> bool:
        """Whether it was started and not asked to stop since."""
        return self.node.is_running

    @property
    def failure(self) -> BaseException | None:
        """What has ended the networks since the last start: a callback, or a handler, raised it."""
        return self.failures.fatal

    def start(self) -> None:
        """Open the mesh, and the snoops that are enabled.

        Returns when the own broker delivers and all other candidates have been asked once, or after
        ``start_timeout``. If the own broker does not answer, this logs a warning, and goes on
        trying in the background.

        Raises:
            AccessRefused: the own broker refuses the user, the password or a permission.
            VhostNotFound: the own broker has no such virtual host.
            SettingsError: there is no network interface of the given name.
            NetworkStopped: another thread has called `stop` meanwhile.
            OutOfResources: there are no file descriptors for the connection to the own broker, no
                thread can be started, or no memory is left. Nothing runs then.
        """
        if not self.node.is_running:
            self.failures.begin()
        self.node.start()

    def look_soon(self) -> None:
        """Look soon whether ``miros_object`` takes its events; for this package only."""
        self.node.look_soon()

    def stop_receiving(self) -> None:
        """Take no more events from the network; `stop` does this too."""
        self.node.stop_receiving()

    def stop(self) -> None:
        """Send what waits, for at most ``limits.stop_timeout_s``, and end every thread.

        A broker that was lost only just now gets this time to come back; one that is long gone does
        not. Events that remain are logged with their number, and counted in `stats` as
        `DropReason.STOPPED`. Does nothing in a forked child: what was started before the fork
        belongs to the parent.
        """
        self.node.stop()

    # Events.

    def transmit(self, event: Event) -> None:
        """Send an event to every chart whose pattern matches this node's ``tx_routing_key``.

        Returns when the event is serialized, encrypted and in the backlog of every broker's
        publisher. If the backlog for a broker is full, this waits, for at most
        ``transmit_timeout``. It does not wait for a broker that is absent, confirms nothing or is
        slower than the others: its oldest events are dropped and counted.

        Args:
            event: its signal's name and its payload are sent.

        Raises:
            MirosApiException: ``event`` is not a miros ``Event``.
            PayloadRefused: it cannot be serialized, or its receivers would refuse it.
            BackPressure: for ``transmit_timeout``, the backlog for healthy brokers, or for all of
                them, was full: transmit less.
            NetworkStopped: the networks do not run, or belong to the parent process.
            OutOfResources: no memory is left.
        """
        if not isinstance(event, Event):
            raise MirosApiException(f"transmit takes a miros Event, not {a_value_of(event)}")
        self.node.check_running()
        name = event.signal_name
        try:
            check_name(name)
            self.node.mesh.transmit((name, event.payload), self.settings.transmit_timeout)
        except MemoryError as error:
            raise shortage(error) or error from error
        except MessageRejected as error:
            raise PayloadRefused(f"its receivers would reject the event: {error}") from error
        except PayloadRefused as error:
            raise PayloadRefused(f"the event {name} {error}") from error.__cause__

    def _receive(self, envelope: Envelope) -> None:
        """Hand an event from the network to the chart, in the thread of the sink."""
        name, payload = envelope.body
        event = registry.event_of(name, payload)
        if envelope.memory:
            event = LargeEvent(event, envelope.memory)
        self._deliver(event)

    def _admit(self, envelope: Envelope) -> None:
        """Reject an event whose signal may not come from the network."""
        name = envelope.body[0]
        if name not in self._admitted:
            check_name(name)
            if name in signals:  # which keeps it anyway, until the process ends
                self._admitted.add(name)

    # Keys.

    def change_mesh_encryption_key(self, keys: Keys) -> None:
        """Use another key, or a list of keys, from the next event on; no event is lost.

        To rotate keys: add the new key behind the old one on every node, then put it first on every
        node, then remove the old one from every node. Snoops without keys of their own use the keys
        of the mesh.

        Args:
            keys: a Fernet key, or a list of them: the first encrypts, all decrypt.

        Raises:
            MalformedKey: a key is not a Fernet key; nothing was changed.
        """
        self._change_keys(mesh_encryption_key=keys)

    def change_snoop_trace_encryption_key(self, keys: Keys) -> None:
        """Do the same for the trace network, which has keys of its own from then on.

        Args:
            keys: a Fernet key, or a list of them.

        Raises:
            MalformedKey: a key is not a Fernet key; nothing was changed.
        """
        self._change_keys(snoop_trace_encryption_key=keys)

    def change_snoop_spy_encryption_key(self, keys: Keys) -> None:
        """Do the same for the spy network.

        Args:
            keys: a Fernet key, or a list of them.

        Raises:
            MalformedKey: a key is not a Fernet key; nothing was changed.
        """
        self._change_keys(snoop_spy_encryption_key=keys)

    def _change_keys(self, **keys: Keys) -> None:
        replace(self.node.settings, **keys)  # type: ignore[arg-type]  # raises if one is malformed

        def change() -> None:
            node = self.node
            with node.lifecycle.lock:
                node.change_keys(replace(node.settings, **keys))  # type: ignore[arg-type]

        if has_interrupted():
            do_in_turn(change, f"the change of a key of {self.node.name}")
        else:
            change()

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until the brokers have confirmed every event that was transmitted so far.

        Brokers that were never reached do not count.

        Args:
            timeout: how many seconds to wait. Default: ``transmit_timeout``.

        Returns:
            whether they have, in time.
        """
        return self.node.mesh.flush(timeout)

    def wait_for_peers(self, n: int, timeout: float) -> bool:
        """Wait until ``n`` brokers besides the own one are connected. Spare addresses count, too.

        Args:
            n: how many brokers.
            timeout: how many seconds to wait.

        Returns:
            whether they are, in time.
        """
        return self.node.wait_for_peers(n, timeout)

    def stats(self) -> NetsStats:
        """The counters of the three networks, since `start`."""
        return self.node.stats()

    # Places.

    @property
    def lan(self) -> LocalAreaNetwork:
        """The local network. The first use searches it, unless ``addresses`` were given."""
        return self.node.membership.lan

    @property
    def this_url(self) -> AmqpUrl:
        """The URL of the own broker."""
        return self.node.membership.own_url

    @property
    def other_urls(self) -> list[AmqpUrl]:
        """The URLs of the other usable brokers. The first use looks for them."""
        return self.node.membership.scout.other.urls

    # Snoops.

    def enable_snoop_trace(self, *, colour: bool = True) -> None:
        """Show and send state transitions, and show those of others; now, or from `start` on.

        Args:
            colour: whether lines have colours on a terminal that has them.

        Raises:
            OutOfResources: no thread or memory is left; the snoop is as it was before.
        """
        self._enable(lambda: self.snoops.trace, colour)

    def enable_snoop_spy(self, *, colour: bool = True) -> None:
        """Do the same for spy lines.

        Args:
            colour: whether lines have colours on a terminal that has them.

        Raises:
            OutOfResources: no thread or memory is left; the snoop is as it was before.
        """
        self._enable(lambda: self.snoops.spy, colour)

    def disable_snoop_trace(self) -> None:
        """Stop showing and sending state transitions; returns at once."""
        self._disable(lambda: self.snoops.trace)

    def disable_snoop_spy(self) -> None:
        """Stop showing and sending spy lines; returns at once."""
        self._disable(lambda: self.snoops.spy)

    def _enable(self, snoop: Callable[[], Snoop], colour: bool) -> None:
        def enable() -> None:
            with self.node.lifecycle.lock:
                one = snoop()
                was_enabled = one.enabled
                one.enable(colour=colour)
                if self.node.is_running:
                    try:
                        self.node.open_snoops()
                    except BaseException:
                        one.enabled = was_enabled
                        raise

        if has_interrupted():
            do_in_turn(enable, f"enable_snoop of {self.node.name}")
        else:
            enable()

    def _disable(self, snoop: Callable[[], Snoop]) -> None:
        def disable() -> None:
            with self.node.lifecycle.lock:
                snoop().disable()

        if has_interrupted():
            do_in_turn(disable, f"disable_snoop of {self.node.name}")
        else:
            disable()


def _check_miros_object(miros_object: Any) -> None:
    name = getattr(miros_object, "name", None)
    if not isinstance(name, str) or not 0 < len(name) <= 255:
        raise MirosApiException(
            f"a networked object has a name of 1 to 255 characters; this one's is {name!r}"
        )
    check_utf8("the name of a networked object", name)
    if not callable(getattr(miros_object, "post_fifo", None)):
        raise MirosApiException(
            f"{name} has no method post_fifo, which takes events from the network"
        )


def _dropped(miros_object: Any) -> dict[DropReason, int]:
    """How many events a chart has dropped; 0 for an object that does not count them."""
    queues = {DropReason.FIFO: "queue", DropReason.DEFERRED: "defer_queue"}
    return {
        reason: getattr(getattr(miros_object, name, None), "dropped", 0)
        for reason, name in queues.items()
    }
