"""Charts for the tests: a recorder of each kind, and the arguments that put it on a broker."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from miros import Event, return_status, signals, spy_on

from miros_rabbitmq import LocalBroker, NetworkedActiveObject, NetworkedFactory

from ..helpers import scaled, wait_until

Chart = NetworkedActiveObject | NetworkedFactory


class Record:
    """What a chart heard: (signal name, payload), in order."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, Any]] = []
        self.changed = threading.Event()

    def note(self, event: Event) -> None:
        self.heard.append((event.signal_name, event.payload))

    def payloads(self, signal: str) -> list[Any]:
        return [payload for name, payload in self.heard if name == signal]

    def wait_for(self, count: int, timeout: float = 10.0) -> None:
        wait_until(
            lambda: len(self.heard) >= count,
            timeout,
            lambda: f"{count} events; heard {len(self.heard)}",
        )


@spy_on
def listening(chart: Any, e: Event) -> Any:
    """The one state of a recording active object: notes every event that is not miros's own."""
    if e.signal in (signals.ENTRY_SIGNAL, signals.INIT_SIGNAL, signals.EXIT_SIGNAL):
        return return_status.HANDLED
    if signals.is_inner_signal(e.signal_name):
        chart.temp.fun = chart.top
        return return_status.SUPER
    chart.record.note(e)
    return return_status.HANDLED


def traced(chart: Any) -> list[str]:
    """The signals of a chart's transitions. Works from any thread, and for plain miros, too."""
    return [transition.signal for transition in tuple(chart.full.trace)]


def make_active_object(name: str, **arguments: Any) -> tuple[NetworkedActiveObject, Record]:
    chart = NetworkedActiveObject(name, **arguments)
    chart.record = Record()
    return chart, chart.record


def make_factory(
    name: str, heard: Sequence[str], **arguments: Any
) -> tuple[NetworkedFactory, Record]:
    """A factory hears only the signals it has a callback for."""
    chart = NetworkedFactory(name, **arguments)
    record = Record()

    def note(_chart: Any, e: Event) -> Any:
        record.note(e)
        return return_status.HANDLED

    state = chart.create(state="listening")
    for signal in heard:
        state = state.catch(
            signal=signals[signal] if signal in signals else _new(signal), handler=note
        )
    chart.nest(state.to_method(), parent=None)
    chart.first_state = state.to_method()
    return chart, record


def _new(signal: str) -> int:
    signals.append(signal)
    number: int = signals[signal]
    return number


def arguments_for(
    own: LocalBroker, *others: LocalBroker, key: bytes, **extras: Any
) -> dict[str, Any]:
    """Keyword arguments that put a chart on one broker, and let it know the others."""
    return {
        "rabbit_user": own.user,
        "rabbit_password": own.password,
        "mesh_encryption_key": key,
        "rabbit_host": own.host,
        "rabbit_port": own.port,
        "addresses": [str(broker.address) for broker in (own, *others)],
        "start_timeout": scaled(15),
        **extras,
    }


@contextmanager
def running(*charts: Chart, state: Any = listening, peers: int = 0) -> Iterator[None]:
    """Start charts, let them meet, and stop them."""
    with ExitStack() as stack:
        for chart in charts:
            stack.callback(chart.stop)
            chart.start_at(getattr(chart, "first_state", state))
        for chart in charts:
            assert chart.nets.wait_for_peers(peers, scaled(25))
        yield
