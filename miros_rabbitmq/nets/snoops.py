"""The snoops of a node: each shows the lines of every chart that has it enabled, and sends its own.

A chart's own lines go straight to the terminal, and through the network to the others; the lines of
others come from the network. `lines` lays them out. Wording, encrypting and sending is done in the
thread of the `teller`.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from sys import getsizeof
from typing import Any, Protocol

from ..amqp.link import Link
from ..amqp.sinks import DirectSink, Sink, WorkerSink
from ..amqp.topology import snoop_queue
from ..answers import Answers
from ..exceptions import NetworkStopped, OutOfResources, TransmitError
from ..foreign import on_one_line
from ..problems import Report, report_to_nobody
from ..resources import naming_shortage, news, start_thread
from ..urls import Address, AmqpUrl
from ..wire.envelope import SNOOP_SPY, SNOOP_TRACE, Envelope
from .chart_watch import ChartWatch
from .failing import Failures
from .lines import (
    Palette,
    scribble_line,
    scribble_text,
    scribbled_trace_text,
    shorten,
    spy_line,
    trace_line,
    trace_text,
)
from .masking import Mask
from .settings import Settings, SnoopCallback
from .stats import DropReason, NetworkStats
from .teller import Teller, Telling
from .terminal import SnoopTerminal
from .topic import Hooks, Reactors, TopicNetwork, TopicSpec

logger: logging.Logger = logging.getLogger(__name__)

_FLUSH_S = 1.0
"""How long a snoop that is disabled waits for its last lines to go out. They may be lost, but a
short wait saves nearly all of them."""


class Layout(Protocol):
    """Lays a line out for a terminal."""

    def __call__(self, text: str, name: str, *, own: bool, palette: Palette) -> str: ...


@dataclass(frozen=True)
class SnoopKind:
    """What distinguishes one of the two snoops.

    Args:
        spec: the topic network under it.
        layout: lays out its lines.
        callback: takes the lines of others in place of the terminal, in a thread of its own.
        mask: replaces secrets in the own lines.
    """

    spec: TopicSpec
    layout: Layout
    callback: SnoopCallback | None
    mask: Mask


class Snoop:
    """One snoop of one node, enabled or not.

    `tell` and `enabled` may be used from any thread; its owner serializes the rest.

    Args:
        kind: which of the snoops.
        settings: the settings of the node.
        name: the name of the chart.
        reactors: the I/O threads of the node.
        terminal: shows the lines.
        teller: words, shows and sends the own lines.
        failures: judges what the callback raises.
        report: takes the problems that the networks notice.
        answers: knows what brokers have answered to any link of the node.
    """

    def __init__(
        self,
        kind: SnoopKind,
        settings: Settings,
        name: str,
        reactors: Reactors,
        terminal: SnoopTerminal,
        teller: Teller,
        failures: Failures,
        report: Report = report_to_nobody,
        answers: Answers | None = None,
    ) -> None:
        self.enabled: bool = False
        self.colour: bool = True
        """Whether its lines may be coloured on this node's terminal."""
        self._spec = kind.spec
        self._layout = kind.layout
        self._settings = settings
        self._name = name
        self._reactors = reactors
        self._terminal = terminal
        self._teller = teller
        self._report = report
        self._answers = answers
        self._mask = kind.mask
        self.sink: Sink
        """Takes the lines of others."""
        self.watch: ChartWatch | None = None
        """Watches whether the callback takes them."""
        callback = kind.callback
        if callback is None:
            self.sink = DirectSink(f"{self._spec.name} lines of {name}", self._show_other)
        else:
            where = f"on_{kind.spec.name.removeprefix('miros.snoop.')}_rx"
            sink = WorkerSink(
                f"{where} of {name}",
                lambda envelope: callback(envelope.sender, on_one_line(envelope.body)),
                most_bytes=settings.limits.fifo_remote_bytes,
                on_raise=failures.of_callback(where),
            )
            self.sink = sink
            self.watch = ChartWatch(name, kind.spec.name, [sink], settings.limits, report=report)
        self._untold = 0
        self._network: TopicNetwork | None = None
        self._spare_of: Mapping[Address, Address] = {}
        self._last = NetworkStats.closed()
        self._closing: list[threading.Thread] = []
        # Those for whose end no thread could be started.
        self._threadless: list[TopicNetwork] = []

    def enable(self, *, colour: bool) -> None:
        """Show and send lines, from now on if the network is open, otherwise from `open` on."""
        self.colour = colour
        self.enabled = True

    def continue_as(self, former: Snoop) -> None:
        """Be enabled or disabled as another snoop was, when a node starts again."""
        self.enabled, self.colour = former.enabled, former.colour

    def disable(self) -> None:
        """Stop showing and sending lines, and close the network; returns at once."""
        self.enabled = False
        self.close()

    def open(self, own_url: AmqpUrl, urls: Iterable[AmqpUrl]) -> None:
        """Open the network if the snoop is enabled and the network is not open.

        Raises:
            OutOfResources: no thread can be started, or no memory is left. Nothing is open then.
        """
        if not self.enabled or self._network is not None:
            return
        # A new sender each time: its lines are numbered from 1 again.
        network = TopicNetwork(
            self._spec,
            self._settings,
            self._name,
            self._reactors,
            Hooks(self.sink, watch=self.watch, report=self._report, answers=self._answers),
        )
        try:
            with naming_shortage():
                network.start_receiver(own_url)
                for url in urls:
                    network.add_broker(url)
        except BaseException:
            network.begin_stop(0.0)
            raise
        self._network = network
        network.share(self._spare_of)
        self._untold = 0

    def share(self, spare_of: Mapping[Address, Address]) -> bool:
        """Send nothing to spare brokers; see `TopicNetwork.share`."""
        self._spare_of = spare_of
        network = self._network
        return network is None or network.share(spare_of)

    def change_keys(self, keys: tuple[bytes, ...]) -> None:
        """Encrypt and decrypt with other keys, from now on."""
        self._spec = replace(self._spec, keys=keys)
        network = self._network
        if network is not None:
            network.codec.change_keys(keys)

    def wait_until_ready(self, timeout: float) -> None:
        """Wait until the lines of others arrive, for at most ``timeout`` seconds."""
        if self._network is not None and self._network.receiver is not None:
            self._network.receiver.link.wait_until_ready(timeout)

    @property
    def own_links(self) -> list[Link]:
        """The links to the own broker; none while the network is closed."""
        network = self._network
        return [] if network is None else network.own_links

    def close(self) -> None:
        """Close the network; a thread of its own sends the last lines first.

        So a chart that disables a snoop does not wait for a broker; see `wait_until_closed`. If no
        thread can be started, its last lines may be lost.
        """
        network = self._network
        if network is None:
            return
        self._last = replace(self._stats_of(network), enabled=False)
        thread = threading.Thread(
            target=self._finish,
            args=(network,),
            name=f"miros end of {self._spec.name} of {self._name}",
            daemon=True,
        )
        # In this order: if an exception interrupts it, such as KeyboardInterrupt, the next call
        # closes the network.
        try:
            start_thread(thread)
        except OutOfResources as short:
            text = "%s of %s: its last lines may be lost: %s"
            logger.log(news.level(short), text, self._spec.name, self._name, short)
            network.send_everything()
            network.begin_stop(_FLUSH_S)
            self._threadless.append(network)
        else:
            self._closing = [*(one for one in self._closing if one.is_alive()), thread]
        self._network = None

    def wait_until_closed(self) -> None:
        """Wait until every closed network has sent its last lines and ended, within seconds."""
        for thread in self._closing:
            if thread is not threading.current_thread():
                thread.join(2 * _FLUSH_S + self._settings.limits.stop_timeout_s)
        while self._threadless:
            self._threadless.pop().stop(_FLUSH_S)

    def add_broker(self, url: AmqpUrl) -> None:
        """Begin to send to a broker."""
        if self._network is not None:
            self._network.add_broker(url)

    def move(self, before: Address, url: AmqpUrl) -> Callable[[], object]:
        """Send to a broker at another address; see `TopicNetwork.move`."""
        network = self._network
        return (lambda: None) if network is None else network.move(before, url)

    def move_own(self, url: AmqpUrl, *, is_gone: bool) -> Callable[[], object]:
        """Reach the own broker at another address; see `TopicNetwork.move_own`."""
        network = self._network
        return (lambda: None) if network is None else network.move_own(url, is_gone=is_gone)

    def remove_broker(self, address: Address) -> Callable[[], int]:
        """Stop sending to a broker; see `TopicNetwork.remove_broker`."""
        network = self._network
        return (lambda: 0) if network is None else network.remove_broker(address)

    def hold(self, address: Address, *, held: bool) -> None:
        """Send a broker nothing while events wait for it. In the senders' thread."""
        network = self._network
        if network is not None:
            network.hold(address, held=held)

    def tell(
        self, texts: Callable[[], Iterable[str]], *, size: int = 0, colour: bool = True
    ) -> None:
        """Have lines of the chart itself shown and sent soon, by the teller's thread.

        Args:
            texts: words the lines; called in the teller's thread.
            size: about how many characters they have, if that may be many.
            colour: whether they may be coloured on this node's terminal.
        """
        for untold in self._teller.put(Telling(self, self._network, texts, colour), size):
            untold.snoop.note_untold()

    def note_untold(self) -> None:
        """Count lines that were dropped to make room for others. Called in the chart's thread."""
        self._untold += 1

    def tell_now(self, telling: Telling) -> None:
        """Show lines and send them. Called in the teller's thread."""
        for whole in telling.texts():
            text = shorten(self._mask(whole))
            self._show(text, self._name, own=True, colour=telling.colour)
            if telling.network is not None:
                self._send(text, telling.network)

    def _send(self, text: str, network: TopicNetwork) -> None:
        try:
            network.transmit(text, timeout=0.0)
        except NetworkStopped:
            pass  # the snoop is being closed: its last lines may be lost
        except TransmitError as error:
            logger.warning("a line of %s was not sent: %s", self._spec.name, error)

    def _finish(self, network: TopicNetwork) -> None:
        self._teller.drain(_FLUSH_S)
        network.flush(_FLUSH_S)
        network.stop(_FLUSH_S)

    def _stats_of(self, network: TopicNetwork) -> NetworkStats:
        stats = network.stats()
        lost = stats.dropped[DropReason.CONNECTION] + self._untold
        return replace(stats, dropped={**stats.dropped, DropReason.CONNECTION: lost})

    def stats(self) -> NetworkStats:
        """The counters since it was last enabled."""
        network = self._network
        return self._last if network is None else self._stats_of(network)

    def _show_other(self, envelope: Envelope) -> None:
        self._show(envelope.body, envelope.sender, own=False, colour=True)

    def _show(self, text: str, name: str, *, own: bool, colour: bool) -> None:
        layout = self._layout
        self._terminal.write(
            lambda palette: layout(text, name, own=own, palette=palette),
            colour=colour and self.colour,
            size=getsizeof(text) + getsizeof(name),
        )


class Snoops:
    """The two snoops of one node, and the terminal they share.

    Args:
        settings: the settings of the node.
        name: the name of the chart.
        reactors: the I/O threads of the node.
        terminal: shows the lines.
        teller: words, shows and sends the own lines.
        failures: judges what the callback raises.
        report: takes the problems that the networks notice.
        answers: knows what brokers have answered to any link of the node.
    """

    def __init__(
        self,
        settings: Settings,
        name: str,
        reactors: Reactors,
        terminal: SnoopTerminal,
        teller: Teller,
        failures: Failures,
        report: Report = report_to_nobody,
        answers: Answers | None = None,
    ) -> None:
        self._name = name
        self._terminal = terminal
        self._mask = mask = Mask(
            [
                settings.rabbit_password,
                *(
                    key.decode("ascii", "replace")
                    for keys in (settings.mesh_keys, settings.trace_keys, settings.spy_keys)
                    for key in keys
                ),
            ]
        )
        self.trace: Snoop = Snoop(
            SnoopKind(
                _spec(SNOOP_TRACE, "snoop.trace", settings.trace_keys, settings),
                trace_line,
                settings.on_trace_rx,
                mask,
            ),
            settings,
            name,
            reactors,
            terminal,
            teller,
            failures,
            report,
            answers,
        )
        self.spy: Snoop = Snoop(
            SnoopKind(
                _spec(SNOOP_SPY, "snoop.spy", settings.spy_keys, settings),
                spy_line,
                settings.on_spy_rx,
                mask,
            ),
            settings,
            name,
            reactors,
            terminal,
            teller,
            failures,
            report,
            answers,
        )

    def __iter__(self) -> Iterator[Snoop]:
        return iter((self.trace, self.spy))

    @property
    def sinks(self) -> tuple[Sink, ...]:
        """Take the lines of others."""
        return (self.trace.sink, self.spy.sink)

    def tell_trace(self, trace: Any) -> None:
        """Show and send a state transition that miros has recorded."""
        name = self._name
        self.trace.tell(lambda: (trace_text(trace, name),))

    def tell_spy(self, lines: Iterable[str]) -> None:
        """Show and send the spy lines of one event."""
        told = tuple(lines)  # now, because the chart goes on and changes them
        self.spy.tell(lambda: told, size=sum(map(len, told)))

    def scribble(self, message: object, *, colour: bool) -> None:
        """Write a remark into every enabled snoop; if none is enabled, to the terminal only."""
        text = str(message)
        self.remark(text, colour=colour)
        if not (self.trace.enabled or self.spy.enabled):
            shown = self._mask(text)
            self._terminal.write(
                lambda palette: scribble_line(shown, palette=palette),
                colour=colour,
                size=getsizeof(shown),
            )

    def remark(self, text: str, *, colour: bool = True) -> None:
        """Write a remark into every enabled snoop."""
        if self.trace.enabled:
            now = datetime.now()  # noqa: DTZ005  # local time, as miros writes into its traces
            line = scribbled_trace_text(text, self._name, now)
            self.trace.tell(lambda: (line,), size=len(line), colour=colour)
        if self.spy.enabled:
            self.spy.tell(lambda: (scribble_text(text),), size=len(text), colour=colour)


def _spec(network: str, routing_key: str, keys: tuple[bytes, ...], settings: Settings) -> TopicSpec:
    return TopicSpec(
        name=network,
        tx_key=routing_key,
        rx_key=routing_key,
        keys=keys,
        queue=snoop_queue(settings.limits),
        lossy=True,
    )
