"""NetworkedActiveObject and NetworkedFactory: miros's classes, on the network.

Both get the same from `NetworkedChart`, and the instrumentation for the snoops from
`SnoopedHsm`, which stands *below* miros's `ActiveObject` in the order of method resolution: what it
wraps is the event processor itself, so that a chart's first lines are told before its thread runs.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import threading
import weakref
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any

from miros import ActiveObject, Event, Factory, HsmWithQueues, signals

from ..discovery.lan import LocalAreaNetwork
from ..exceptions import NetworkStopped
from ..nets import registry
from ..nets.nets import MirosNets
from ..nets.settings import Extras
from ..process import in_forked_child
from ..urls import AmqpUrl
from ..wire.keys import Keys
from .fifo import ChartFifo
from .life import ChartLife

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack


logger = logging.getLogger(__name__)

_LAST_HANDLER_S = 1.0
"""How long a program that ends waits for a chart that is in the middle of an event."""


class SnoopedHsm(HsmWithQueues):  # type: ignore[misc]  # miros has no type hints
    """An event processor that tells the snoops what it did after each run to completion."""

    nets: MirosNets
    _told: Any = None  # the last transition that was looked at

    def start_at(self, initial_state: Any) -> None:
        """Enter the initial state; in the caller's thread, before the chart has one."""
        super().start_at(initial_state)
        self._tell_snoops()

    def next_rtc(self) -> bool:
        """Handle the next event; in the chart's thread."""
        action_taken: bool = super().next_rtc()
        self._tell_snoops()
        return action_taken

    def _tell_snoops(self) -> None:
        snoops = self.nets.snoops
        trace = self.full.trace[-1] if self.full.trace else None
        is_new = trace is not self._told
        self._told = trace
        if not self.instrumented:
            return
        # A transition that miros could not date (its states are not spied on) has no line.
        if snoops.trace.enabled and is_new and trace is not None and trace.datetime is not None:
            snoops.tell_trace(trace)
        if snoops.spy.enabled:
            snoops.tell_spy(self.rtc.spy)


class NetworkedChart:
    """What both networked classes have; not used on its own.

    Args:
        name: the chart's name, in its instrumentation and inside its messages.
        rabbit_user: the user name that every broker of the system takes.
        rabbit_password: its password.
        mesh_encryption_key: a key of ``Fernet.generate_key()``, the same on every node; or a list.
        tx_routing_key: the routing key of what this chart transmits.
        rx_routing_key: the pattern of what it hears; default ``tx_routing_key``.
        snoop_spy_encryption_key: the key of the spy network; default the mesh key.
        snoop_trace_encryption_key: the key of the trace network; default the mesh key.
        extras: the keyword-only arguments, which `Settings` documents.

    Raises:
        MirosApiException: the name is not a text.
        SettingsError: a value that cannot work; says what would.
        TypeError: a value was given twice, or a keyword is unknown.
    """

    if TYPE_CHECKING:
        activeobject_task_event: threading.Event
        thread: Any
        name: str
        queue: Any
        full: Any
        instrumented: bool
        spied_on: bool
        trace_tuple_to_formatted_string: Callable[[Any], str]
        posted_events_queue: Any

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
        **extras: Unpack[Extras],
    ) -> None:
        registry.install()
        parent_init: Callable[..., None] = super().__init__
        parent_init(name=name)
        self.nets = MirosNets(
            self,
            rabbit_user,
            rabbit_password,
            mesh_encryption_key,
            tx_routing_key,
            rx_routing_key,
            snoop_spy_encryption_key,
            snoop_trace_encryption_key,
            room=self._room_for_remote_events,
            **extras,
        )
        limits = self.nets.settings.limits
        self._life = ChartLife(name, lambda: self.thread, 2 * limits.stop_timeout_s)
        self.queue = self.locking_deque = ChartFifo(
            limits.fifo_events, name, timeout_s=limits.fifo_timeout_s
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def lan(self) -> LocalAreaNetwork:
        """The local network; searched on first use, unless ``addresses`` were given."""
        return self.nets.lan

    def start_at(self, initial_state: Any) -> None:
        """Start the networks, then the chart.

        Returns when this node's own broker delivers and the first search for others is done, or
        after ``start_timeout``: a chart runs without its network, too. A chart that was stopped is
        started anew when it has ended.

        A stop that comes when the networks are up ends the chart before it handles anything, and
        this returns.

        Raises:
            AccessRefused: the own broker refuses user, password or permissions.
            VhostNotFound: it has no such virtual host.
            NetworkStopped: it was stopped before its networks were up.
            MirosApiException: a start or stop of another thread has not ended within twice
                ``limits.stop_timeout_s``, or it is the chart's own thread, which ends, that calls.
        """
        with self._life.starting() as is_new:
            if is_new:
                self.queue.forget_stops()
            _started.add(self)
            try:
                self.nets.start()
                if self._life.must_end:
                    raise NetworkStopped(f"{self.name} was stopped while it started")
                super().start_at(initial_state)  # type: ignore[misc]  # of miros's class
            except BaseException:
                self.stop()
                raise
            if self._life.must_end:
                self.stop()  # what was made meanwhile, such as timers

    def run_event(self, task_event: Any, fabric_task_event: Any, queue: Any) -> None:
        """Run the chart, as miros does; in the chart's thread, which does nothing else."""
        self.thread = threading.current_thread()  # which miros notes a little later
        if self._life.must_end:
            task_event.clear()
        try:
            super().run_event(task_event, fabric_task_event, queue)  # type: ignore[misc]  # of miros's
        except BaseException:
            # As of sys.exit, of which Python itself says nothing.
            logger.exception("%s has ended in a handler, and handles nothing more", self.name)
            raise

    def stop(self) -> None:
        """Stop the chart, send what it has transmitted, and end every thread.

        May be called more than once, and from the chart's own thread, which ends when its handler
        has returned.
        """
        with self._life.ending():
            self.nets.stop_receiving()
            self._end_thread()
            self._cancel_timers()
            self.nets.stop()
        _started.discard(self)

    def transmit(self, event: Event) -> None:
        """Send an event to the other charts; see `MirosNets.transmit`. From any thread.

        Raises:
            MirosApiException: this is not an event.
            PayloadRefused: it cannot be serialized, or its receivers would refuse it.
            BackPressure: a connected broker took nothing for ``transmit_timeout``.
            NetworkStopped: the chart was not started, or was stopped.
        """
        self.nets.transmit(event)

    def trace(self) -> str | None:
        """The transitions so far, worded as miros does; from any thread, while the chart goes on.

        What miros could not date is left out, as its own trace raises at that: a subscription made
        before the chart's thread runs, as in the entry of its first state.

        Returns:
            the text; `None` where the chart is not instrumented.
        """
        if not (self.instrumented and self.spied_on):
            return None
        transitions = [each for each in tuple(self.full.trace) if each.datetime is not None]
        return "\n" + "".join(map(self.trace_tuple_to_formatted_string, transitions))

    def this_url(self) -> AmqpUrl:
        """The URL of this node's own broker."""
        return self.nets.this_url

    def other_urls(self) -> list[AmqpUrl]:
        """The URLs of the other brokers that can be used; looked for on first use."""
        return self.nets.other_urls

    def enable_snoop_trace(self) -> None:
        """Show the state transitions of every chart that has this enabled, here and there.

        At any time, from any thread. In colour, where the terminal has any.
        """
        self.nets.enable_snoop_trace()

    def enable_snoop_trace_no_color(self) -> None:
        """`enable_snoop_trace`, plain."""
        self.nets.enable_snoop_trace(colour=False)

    def disable_snoop_trace(self) -> None:
        """Neither show nor send state transitions any more."""
        self.nets.disable_snoop_trace()

    def enable_snoop_spy(self) -> None:
        """Show the spy lines of every chart that has this enabled, here and there."""
        self.nets.enable_snoop_spy()

    def enable_snoop_spy_no_color(self) -> None:
        """`enable_snoop_spy`, plain."""
        self.nets.enable_snoop_spy(colour=False)

    def disable_snoop_spy(self) -> None:
        """Neither show nor send spy lines any more."""
        self.nets.disable_snoop_spy()

    def snoop_scribble(self, message: str, enable_color: bool = True) -> None:
        """Write a remark into every snoop that is enabled; with none, on this terminal alone."""
        self.nets.snoops.scribble(message, colour=enable_color)

    def _end_thread(self, timeout: float | None = None) -> None:
        """Have the chart handle no further event, and wait for the end of its thread."""
        self.activeobject_task_event.clear()
        if not self._life.has_thread:
            return
        self.queue.append(Event(signal=signals.STOP_ACTIVE_OBJECT_SIGNAL))  # wakes it up
        if self.thread is not threading.current_thread():
            self.thread.join(timeout)

    def _cancel_timers(self) -> None:
        # One by one: another thread that stops this chart may do the same.
        with contextlib.suppress(IndexError):
            while True:
                self.posted_events_queue.pop().task_run_event.clear()

    def _room_for_remote_events(self) -> int:
        """How many events from the network the FIFO takes now; in the consumer's thread."""
        if not self._life.has_thread:
            return 0  # before the first state is entered, and after the end
        return self.nets.settings.limits.fifo_remote_events - len(self.queue)


class NetworkedActiveObject(NetworkedChart, ActiveObject, SnoopedHsm):  # type: ignore[misc]
    """A `miros.ActiveObject` whose events travel: state functions, and `transmit`."""


class NetworkedFactory(NetworkedChart, Factory, SnoopedHsm):  # type: ignore[misc]
    """A `miros.Factory` whose events travel: callbacks, and `transmit`."""


_started: weakref.WeakSet[NetworkedChart] = weakref.WeakSet()


@atexit.register
def _end_charts() -> None:
    """Stop the charts that a program forgot; runs before their networks are stopped likewise."""
    for chart in list(_started):
        with chart._life.ending():
            chart._end_thread(_LAST_HANDLER_S)


# The threads of the parent's charts do not exist in the child.
in_forked_child(_started.clear)
