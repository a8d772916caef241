"""NetworkedActiveObject and NetworkedFactory: miros's two classes of charts, on the network.

Both inherit their methods from `NetworkedChart`. `SnoopedHsm` stands *below* miros's `ActiveObject`
in the order of method resolution: it wraps the event processor itself, so that the snoops hear what
a chart does before it has a thread.

A chart's own parts are in one attribute, ``_miros_rabbitmq``, so that a subclass may use every
other name that is not public, and a public one that nothing here depends on. `overrides` checks the
rest.
"""

from __future__ import annotations

import functools
import logging
import ssl
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn

from miros import ActiveObject, Event, Factory, HsmWithQueues, signals

from ..discovery.lan import LocalAreaNetwork
from ..exceptions import MirosApiException, NetworkStopped
from ..failures import STOP, ErrorCallback, Failure
from ..interruption import calls_out, do_apart, has_interrupted, refuse
from ..limits import Limits
from ..logs import must_not_wait
from ..nets.chart_side import ChartSide
from ..nets.nets import MirosNets
from ..nets.settings import (
    DEFAULT_LIMITS,
    PORT_OF_SCHEME,
    MeshCallback,
    OlderSpellings,
    PeersCallback,
    ProblemCallback,
    SnoopCallback,
    documented,
    taken,
    without_older_spellings,
)
from ..resources import naming_shortage
from ..urls import AmqpUrl
from ..wire.codec import Deserializer, Serializer
from ..wire.keys import Keys
from ..wording import a_value_of
from . import overrides
from .decoration import Decoration
from .deferred import DeferredEvents
from .fifo import ChartFifo
from .handling import Handling
from .life import ChartLife
from .live_output import LiveOutput
from .supervisor import Supervisor
from .threads import start_threads
from .timers import TimedPosts, Timers
from .unstarted import Unstarted

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack


logger: logging.Logger = logging.getLogger(__name__)


class RtcTeller:
    """Tells the snoops of one chart what it did in each run to completion."""

    def __init__(self, nets: MirosNets) -> None:
        self._nets = nets
        self._last_transition: Any = None
        self._decoration = Decoration()

    def tell(self, hsm: SnoopedHsm) -> None:
        """Tell the snoops of the latest run. Called in the thread that ran it."""
        snoops = self._nets.snoops
        transition = hsm.full.trace[-1] if hsm.full.trace else None
        is_new = transition is not self._last_transition
        self._last_transition = transition
        if snoops.trace.enabled or snoops.spy.enabled:
            self._decoration.look(hsm)
        if not hsm.instrumented:
            return
        if snoops.trace.enabled and is_new and _has_date(transition):
            snoops.tell_trace(transition)
        if snoops.spy.enabled:
            snoops.tell_spy(hsm.rtc.spy)


def _has_date(transition: Any) -> bool:
    """Whether miros can word a transition: it sets no date between states without ``spy_on``."""
    return transition is not None and transition.datetime is not None


@dataclass(frozen=True)
class ChartParts:
    """The parts that a networked chart has in addition to those of a chart of miros."""

    nets: MirosNets
    limits: Limits
    fifo: ChartFifo
    life: ChartLife
    teller: RtcTeller
    timers: Timers
    handling: Handling
    unstarted: Unstarted
    kept: Mapping[str, object]
    """The attributes of the chart that must stay what they are, by name."""

    @calls_out
    def stop(self) -> None:
        """Stop the chart, and then its networks."""
        with self.life.ending():
            self.nets.stop_receiving()
            self.life.end_thread()
            self.timers.cancel()
            self.nets.stop()

    def room_for_remote_events(self) -> int:
        """How many remote events fit into the FIFO now. Called in the consumers' thread."""
        if not self.life.handles_events:
            return 0  # before the first state is entered, and after the end
        limits = self.limits
        if self.fifo.large_bytes() >= limits.fifo_remote_bytes:
            return 0
        return limits.fifo_remote_events - len(self.fifo.deque)


class SnoopedHsm(HsmWithQueues):  # type: ignore[misc]  # miros has no type hints
    """An event processor that tells the snoops what it did after each run to completion."""

    _miros_rabbitmq: ChartParts

    @calls_out
    def start_at(self, initial_state: Any) -> None:
        """Enter the initial state; in the caller's thread, before the chart has one."""
        self._miros_rabbitmq.life.initial_state = initial_state
        super().start_at(initial_state)
        self._miros_rabbitmq.teller.tell(self)

    def next_rtc(self) -> bool:
        """Handle the next event; in the chart's thread."""
        try:
            action_taken: bool = super().next_rtc()
        finally:
            # Also what it did before a handler raised.
            self._miros_rabbitmq.teller.tell(self)
        return action_taken


class _Readable:
    """A property that a subclass may hide, in a class or in an object, as it may any attribute."""

    def __init__(self, get: Callable[[Any], Any]) -> None:
        self.__doc__ = get.__doc__
        self._get = get

    def __get__(self, chart: Any, owner: type) -> Any:
        return self if chart is None else self._get(chart)


class _Supervised:
    """What the supervisor does with a chart, in the chart's thread."""

    def __init__(self, chart: NetworkedChart, handle_events: Callable[[], object]) -> None:
        self._chart: Any = chart
        self._parts = chart._miros_rabbitmq
        self._handle_events = handle_events

    def run(self) -> None:
        self._handle_events()

    def settle(self) -> None:
        # miros sets the state when a transition is complete, and looks for it from this one.
        self._chart.temp.fun = self._chart.state.fun

    def start_again(self) -> None:
        self._parts.timers.cancel()
        SnoopedHsm.start_at(self._chart, self._parts.life.initial_state)

    def describe(self, error: BaseException) -> Failure:
        return self._parts.handling.failed(error)


class NetworkedChart:
    """What both networked classes have in common; not used on its own."""

    if TYPE_CHECKING:
        activeobject_task_event: threading.Event
        thread: Any
        name: str
        queue: Any
        defer_queue: Any
        full: Any
        fabric: Any
        instrumented: bool
        spied_on: bool
        trace_tuple_to_formatted_string: Callable[[Any], str]
        posted_events_queue: Any
        writer: Any
        post_fifo: Callable[..., Any]

    _miros_rabbitmq: ChartParts

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        overrides.check_class(cls)

    @without_older_spellings
    def __init__(
        self,
        name: str,
        rabbit_user: str,
        rabbit_password: str,
        mesh_encryption_key: Keys | None = None,
        tx_routing_key: str | None = None,
        rx_routing_key: str | None = None,
        snoop_spy_encryption_key: Keys | None = None,
        snoop_trace_encryption_key: Keys | None = None,
        *,
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
        given = taken(locals())
        overrides.check_new(self)
        overrides.warn_of_uncalled_methods(type(self), given)
        parent_init: Callable[..., None] = super().__init__
        parent_init(name=name)
        handling = Handling(self, lambda: self._miros_rabbitmq)
        side = ChartSide(
            room=lambda: self._miros_rabbitmq.room_for_remote_events(),
            busy=handling,
            stop=lambda: _end(self),
            # miros's own returns at once; a subclass's may do anything.
            is_direct=type(self).post_fifo is ActiveObject.post_fifo,
        )
        nets = MirosNets(self, chart_side=side, **given, **older)
        fifo = ChartFifo(
            limits.fifo_events,
            name,
            timeout_s=limits.fifo_timeout_s,
            must_not_wait=must_not_wait,
            report=nets.node.problems.report,
            on_wait=nets.look_soon,
        )
        self.queue = fifo
        self.locking_deque: ChartFifo = fifo
        self.defer_queue = DeferredEvents(
            limits.deferred_events,
            limits.deferred_bytes,
            name,
            nets.node.problems.report,
        )
        self.posted_events_queue = Timers(HsmWithQueues.QUEUE_SIZE, name)
        self.writer = LiveOutput(self.writer, nets.failures.of_callback("live output"))
        may_run = self.activeobject_task_event
        stop = Event(signal=signals.STOP_ACTIVE_OBJECT_SIGNAL)
        self._miros_rabbitmq = ChartParts(
            nets,
            limits,
            fifo,
            ChartLife(name, may_run, lambda: fifo.append(stop), 2 * limits.stop_timeout_s),
            RtcTeller(nets),
            self.posted_events_queue,
            handling,
            Unstarted(name),
            overrides.kept_by(self),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        _stop(self)

    @property
    def nets(self) -> MirosNets:
        """The networks of this chart."""
        return self._miros_rabbitmq.nets

    @nets.setter
    def nets(self, value: MirosNets) -> NoReturn:
        overrides.refuse(self, "nets")

    @property
    def lan(self) -> LocalAreaNetwork:
        """The local network; the first use searches it, unless ``addresses`` were given."""
        return self.nets.lan

    @lan.setter
    def lan(self, value: LocalAreaNetwork) -> NoReturn:
        overrides.refuse(self, "lan")

    def start_at(self, initial_state: Any) -> None:
        """Start the networks, then the chart.

        Returns when this node's own broker delivers and the first search for others is done, or
        after ``start_timeout``: a chart runs without its network, too. A chart that was stopped is
        started again as soon as its former thread has ended.

        If a stop comes after the networks are up, the chart handles nothing and this method
        returns.

        Args:
            initial_state: a state function, or what ``to_method`` has made of a state.

        Raises:
            AccessRefused: the own broker refuses the user, the password or a permission.
            VhostNotFound: the own broker has no such virtual host.
            NetworkStopped: the chart was stopped before its networks were up.
            MirosApiException: the argument is no state; a start or stop by another thread has not
                ended within twice ``limits.stop_timeout_s``; the chart's own thread, which is
                ending, has called this; a name that the chart needs was set to something else; or
                the handler of a signal has called this in the middle of other work of this package.
            OutOfResources: no file descriptor, thread or memory is left; see `MirosNets.start`.
        """
        if has_interrupted():
            refuse("start_at")
        if not callable(initial_state):
            raise MirosApiException(
                "start_at takes a state, which is a state function or what to_method has returned, "
                f"not {a_value_of(initial_state)}"
            )
        parts = self._miros_rabbitmq
        with parts.unstarted.starting(), parts.life.starting() as is_new:
            overrides.check_start(self, {**parts.kept, "thread": parts.life.thread})
            if is_new:
                parts.fifo.forget_stops()
                parts.nets.failures.begin()
            try:
                parts.nets.start()
                if parts.life.must_end:
                    raise NetworkStopped(f"{self.name} was stopped while it started")
                super().start_at(initial_state)  # type: ignore[misc]  # of miros's class
                parts.life.thread = self.thread
            except BaseException:
                _end(self)
                raise
            if parts.life.must_end:
                _end(self)  # ends what was made in between, such as timers

    def _ActiveObject__start(self) -> None:  # noqa: N802 - so Python calls miros's ``__start``
        start_threads(self.fabric, super()._ActiveObject__start)  # type: ignore[misc]  # of miros's

    def _ActiveObject__post_event(self, *arguments: Any, **keywords: Any) -> Any:  # noqa: N802
        # For a post with a period, miros starts a thread.
        posts = TimedPosts(self, self.nets.failures.of_callback)
        with naming_shortage():
            return ActiveObject._ActiveObject__post_event(posts, *arguments, **keywords)

    def run_event(self, task_event: Any, fabric_task_event: Any, queue: Any) -> None:
        """Run the chart, as miros does; its thread calls this and nothing else."""
        life = self._miros_rabbitmq.life
        # miros sets it only after it has started the thread.
        self.thread = life.thread = threading.current_thread()
        if life.must_end:
            task_event.clear()
        handle_events = functools.partial(super().run_event, task_event, fabric_task_event, queue)  # type: ignore[misc]  # of miros's
        supervisor = Supervisor(_Supervised(self, handle_events), life, self.nets.failures.judge)
        has_failed = True  # also if the supervisor itself does
        try:
            has_failed = supervisor.run()
        finally:
            if not (has_failed or life.must_end):
                logger.warning("%s was ended by miros itself: its networks close", self.name)
            # Another thread that stops the chart already, such as that of a callback that has
            # raised before, waits for this one.
            is_stopped = life.is_stopping or self.nets.failures.is_of_callback
            if (has_failed or not life.must_end) and not is_stopped:
                _end(self)
            life.note_end_of_thread()

    @_Readable
    def failure(self) -> BaseException | None:
        """What has ended the chart: raised by a handler or a callback, and not forgiven.

        `None` while the chart runs, and after a stop that was asked for. See ``on_error`` in
        `Settings`.
        """
        return self.nets.failures.fatal

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the chart has stopped: at the end of a main program.

        Args:
            timeout: how many seconds to wait. Default: for ever.

        Returns:
            whether it has stopped.

        Raises:
            BaseException: `failure`, if that is what has ended the chart. A main program that does
                not catch it ends with a status other than 0, and may be started again; after
                ``sys.exit(n)`` in a handler, with the status n.
            MirosApiException: the chart was not started, or this is its own thread.
        """
        has_stopped = self._miros_rabbitmq.life.wait_for_end(timeout)
        if has_stopped:
            self.nets.failures.raise_fatal()
        return has_stopped

    def stop(self) -> None:
        """Stop the chart, send what it has transmitted, and end every thread.

        May be called more than once, and from the chart's own thread, which ends when its handler
        has returned. A handler that does not return within twice ``limits.stop_timeout_s`` is left
        behind, with a warning.

        In the handler of a signal that has come in the middle of other work of this package,
        another thread does all this, and the method returns at once. If the program ends then, its
        end waits for that thread.
        """
        if has_interrupted():
            do_apart(self._miros_rabbitmq.stop, f"the stop of {self.name}")
        else:
            self._miros_rabbitmq.stop()

    def transmit(self, event: Event) -> None:
        """Send an event to the other charts; see `MirosNets.transmit`. From any thread.

        Args:
            event: a `miros.Event`. Its signal's name and its payload are sent.

        Raises:
            MirosApiException: the argument is not an event.
            PayloadRefused: the event cannot be serialized, or its receivers would refuse it.
            BackPressure: for ``transmit_timeout``, the backlog for healthy brokers, or for all of
                them, was full: transmit less.
            NetworkStopped: the chart was not started, or was stopped.
        """
        self._miros_rabbitmq.nets.transmit(event)

    def cancel_event(self, uuid: Any = None) -> None:
        """Cancel the timer that a post with a period has made, as miros does.

        Args:
            uuid: what ``post_fifo`` or ``post_lifo`` has returned.
        """
        self._miros_rabbitmq.timers.cancel(lambda timer: timer.uuid == uuid)

    def cancel_events(self, e: Event) -> None:
        """Cancel all timers that post events of this one's signal, as miros does.

        Args:
            e: an event of this signal.
        """
        self._miros_rabbitmq.timers.cancel(lambda timer: timer.signal_name == e.signal_name)

    def trace(self) -> str | None:
        """The transitions so far, worded as miros does; from any thread, while the chart runs.

        A chart that subscribes before its thread runs leaves a transition without a date. miros's
        own trace raises an error there; this one skips that transition.

        Returns:
            the text; `None` if the chart is not instrumented.
        """
        if not (self.instrumented and self.spied_on):
            return None
        transitions = filter(_has_date, tuple(self.full.trace))
        return "\n" + "".join(map(self.trace_tuple_to_formatted_string, transitions))

    def this_url(self) -> AmqpUrl:
        """The URL of this node's own broker."""
        return self.nets.this_url

    def other_urls(self) -> list[AmqpUrl]:
        """The URLs of the other usable brokers; the first use looks for them."""
        return self.nets.other_urls

    def enable_snoop_trace(self) -> None:
        """Show the state transitions of all charts that have this enabled, and share this one's.

        May be called at any time, from any thread. In colour if the terminal has any.

        Raises:
            OutOfResources: no thread or memory is left; the snoop is as it was before.
        """
        self.nets.enable_snoop_trace()

    def enable_snoop_trace_no_color(self) -> None:
        """The same as `enable_snoop_trace`, without colour."""
        self.nets.enable_snoop_trace(colour=False)

    def disable_snoop_trace(self) -> None:
        """Stop sending and showing state transitions."""
        self.nets.disable_snoop_trace()

    def enable_snoop_spy(self) -> None:
        """Show the spy lines of all charts that have this enabled, and share this one's."""
        self.nets.enable_snoop_spy()

    def enable_snoop_spy_no_color(self) -> None:
        """The same as `enable_snoop_spy`, without colour."""
        self.nets.enable_snoop_spy(colour=False)

    def disable_snoop_spy(self) -> None:
        """Stop sending and showing spy lines."""
        self.nets.disable_snoop_spy()

    def snoop_scribble(self, message: str, enable_color: bool = True) -> None:
        """Write a remark to every snoop that is enabled; if none is, to this terminal only.

        Args:
            message: the remark, one line.
            enable_color: whether it has colours on a terminal that has them.
        """
        self.nets.snoops.scribble(message, colour=enable_color)


@calls_out
def _stop(chart: NetworkedChart) -> None:
    """Stop a chart by its own method, unless a handler has put something else in its place."""
    if callable(chart.stop):
        chart.stop()
    else:
        NetworkedChart.stop(chart)


def _end(chart: NetworkedChart) -> None:
    """Stop a chart, whatever its own method raises: what has failed does not live on."""
    try:
        _stop(chart)
    except BaseException as error:
        # The handler of a signal that comes meanwhile may end the program: that is no error.
        is_exit = isinstance(error, (SystemExit, KeyboardInterrupt))
        level = logging.INFO if is_exit else logging.ERROR
        logger.log(level, "%s: its stop has raised", chart.name, exc_info=not is_exit)
        NetworkedChart.stop(chart)


@documented
class NetworkedActiveObject(NetworkedChart, ActiveObject, SnoopedHsm):  # type: ignore[misc]
    """A `miros.ActiveObject` whose events travel to the charts of other processes and machines.

    ::

        chart = NetworkedActiveObject("fan", "robot", "rabbit", MESH_KEY)
        chart.start_at(first_state)
        chart.transmit(Event(signal=signals.HELLO, payload="fan"))
        chart.stop()

    State functions are those of miros. An event that another chart transmits is posted into this
    chart's FIFO, as ``post_fifo`` does it. Nothing touches the network before `start_at`.

    Args:
        name: the chart's name, in its instrumentation and inside its messages.
        ...: see `Settings`.

    Older spellings are taken as well: ``mesh_encyption_key``, ``trace_snoop_encryption_key`` and
    ``spy_snoop_encryption_key``.

    Raises:
        MirosApiException: the name is not a text of 1 to 255 characters, or a subclass has taken an
            attribute that the chart needs.
        SettingsError: a value cannot work; the message says what would.
        MalformedKey: an encryption key is not a Fernet key.
        TypeError: a value was given twice, an argument is missing, or a keyword is unknown.
    """


@documented
class NetworkedFactory(NetworkedChart, Factory, SnoopedHsm):  # type: ignore[misc]
    """A `miros.Factory` whose events travel to the charts of other processes and machines.

    ::

        chart = NetworkedFactory("fan", "robot", "rabbit", MESH_KEY)
        state = chart.create(state="listening").catch(signal=signals.HELLO, handler=on_hello)
        chart.nest(state.to_method(), parent=None)
        chart.start_at(state.to_method())
        chart.transmit(Event(signal=signals.HELLO, payload="fan"))
        chart.stop()

    States and callbacks are made as in miros. An event that another chart transmits is posted into
    this chart's FIFO, as ``post_fifo`` does it. Nothing touches the network before ``start_at``.

    Args:
        name: the chart's name, in its instrumentation and inside its messages.
        ...: see `Settings`.

    Older spellings are taken as well: ``mesh_encyption_key``, ``trace_snoop_encryption_key`` and
    ``spy_snoop_encryption_key``.

    Raises:
        MirosApiException: the name is not a text of 1 to 255 characters, or a subclass has taken an
            attribute that the chart needs.
        SettingsError: a value cannot work; the message says what would.
        MalformedKey: an encryption key is not a Fernet key.
        TypeError: a value was given twice, an argument is missing, or a keyword is unknown.
    """
