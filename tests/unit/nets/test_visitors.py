"""Signals that only came from the network: usable like others, and forgotten with their events."""

from __future__ import annotations

import gc
import random
import subprocess
import sys
import threading
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from miros import ActiveObject, Event, return_status, signals, spy_on

from miros_rabbitmq import MirosNets
from miros_rabbitmq.nets import registry
from miros_rabbitmq.nets.chart_side import ChartSide
from miros_rabbitmq.nets.large_event import LargeEvent
from miros_rabbitmq.nets.registry import event_of, visitors
from miros_rabbitmq.nets.visitors import Visitors
from miros_rabbitmq.wire.envelope import MESH, Envelope

from ...helpers import scaled

KEY = b"A" * 43 + b"="


@pytest.fixture(autouse=True, scope="module")
def _installed() -> None:
    registry.install()


def new_name() -> str:
    return f"VISITOR_{random.getrandbits(80):x}"


def assert_is_all_right() -> None:
    """No two names have one number, and each has that by which it is found."""
    numbers = list(signals.values())
    assert len(set(numbers)) == len(numbers)
    for name, number in list(signals.items()):
        assert Event(signal=number).signal_name == name
        assert getattr(signals, name) == number


# As an object.


def test_a_name_has_the_same_number_whenever_it_comes_and_no_other_name_has_it() -> None:
    few = Visitors(recent=2)
    numbers = {name: few.visit(name).number for name in map(str, range(10_000))}
    gc.collect()
    assert len(few) <= 3
    assert len(set(numbers.values())) == 10_000
    assert all(few.visit(name).number == number for name, number in numbers.items())
    assert all(2**62 <= number < 2**63 for number in numbers.values())
    assert Visitors().visit("0").number != numbers["0"], "nobody can know it"


def test_a_visitor_is_found_by_name_and_number_as_long_as_somebody_has_it() -> None:
    few = Visitors(recent=1)
    visitor = few.visit("one")
    for number in range(100):
        few.visit(str(number))
    assert few.visit("one") is visitor
    assert few.named("one") is visitor
    assert few.numbered(visitor.number) is visitor
    number = visitor.number
    del visitor
    few.visit("another")
    gc.collect()
    assert few.named("one") is None
    assert few.numbered(number) is None
    stranges: list[object] = [None, 1.5, [], "one", 1]
    for strange in stranges:
        assert few.numbered(strange) is None
        assert few.named(strange) is None


# In miros's registry.


def test_the_event_of_a_visitor_is_like_any_other_and_adds_nothing_to_the_registry() -> None:
    before = list(signals)
    name = new_name()
    event = event_of(name, [1, 2])
    assert isinstance(event, Event)
    assert (event.signal_name, event.payload, type(event.signal)) == (name, [1, 2], int)
    assert str(event) == f"{name}::<[1, 2]>"
    assert repr(event) == f"{name}:{event.signal}::<[1, 2]>"
    assert event.has_payload()
    assert event_of(name, None).signal == event.signal
    assert signals.name_for_signal(event.signal) == name
    assert not signals.is_inner_signal(name)
    assert not signals.is_inner_signal(event.signal)
    again = Event(signal=event.signal, payload=3)
    assert (again.signal, again.signal_name, again.payload) == (event.signal, name, 3)
    large = LargeEvent(event, 5_000)
    assert (large.signal, large.signal_name, large.payload) == (event.signal, name, [1, 2])
    assert list(signals) == before


DECLARE = {
    "attribute": lambda name: getattr(signals, name),
    "item": lambda name: signals[name],
    "append": lambda name: signals.append(name),
    "event": lambda name: Event(signal=name),
    "hasattr": lambda name: hasattr(signals, name),
}


@pytest.mark.parametrize("declare", DECLARE.values(), ids=DECLARE)
def test_what_the_own_code_names_gets_the_number_that_events_have_already(declare: Any) -> None:
    name = new_name()
    waiting = [event_of(name, 1), LargeEvent(event_of(name, 2), 3)]
    declare(name)
    assert name in signals
    waiting.append(event_of(name, 4))
    for event in waiting:
        assert event.signal == signals[name] == getattr(signals, name)
        assert Event(signal=event.signal).signal_name == name
    assert_is_all_right()


def test_so_it_does_if_many_others_have_come_since_and_if_no_event_is_left() -> None:
    name = new_name()
    number = event_of(name, None).signal
    for _ in range(2_000):
        event_of(new_name(), None)
    gc.collect()
    assert getattr(signals, name) == number
    with pytest.raises(KeyError):
        signals[new_name()]


def test_a_name_that_the_own_code_had_before_keeps_its_number() -> None:
    program = """
from miros import Event, signals
from miros_rabbitmq.nets.registry import event_of, install
signals.append("BEFORE_IT")
install()
signals.append("BEFORE_ANY")
assert [signals.BEFORE_IT, signals.BEFORE_ANY] == [11, 12]
assert event_of("BEFORE_ANY", None).signal == 12
assert signals.STILL_SMALL == 13
event_of("A_VISITOR", None)
assert signals.LARGE > 2**62
assert [signals.BEFORE_IT, signals.BEFORE_ANY, signals.STILL_SMALL] == [11, 12, 13]
assert len({*signals.values()}) == len(signals)
"""
    command = [sys.executable, "-W", "ignore", "-c", program]
    subprocess.run(command, check=True, timeout=scaled(60), cwd=Path(__file__).parents[3])


def test_names_added_by_many_threads_have_one_number_each() -> None:
    """Some come from the network while others are named by the own code."""
    began = threading.Barrier(5)
    names = [new_name() for _ in range(300)]
    errors: list[BaseException] = []
    events: list[Event] = []

    def work(thread: int) -> None:
        began.wait()
        try:
            for name in names:
                if thread % 2:
                    events.append(event_of(name, None))
                else:
                    assert getattr(signals, name) == signals[name]
                assert Event(signal=signals.ENTRY_SIGNAL).signal_name == "ENTRY_SIGNAL"
        except BaseException as error:  # noqa: BLE001 - any that a thread may raise
            errors.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(5)]
    interval_s = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval_s)
    assert errors == []
    assert [event for event in events if event.signal != signals[event.signal_name]] == []
    assert_is_all_right()


# The attack: a holder of the key sends any number of names.


class Chart:
    """Takes what comes from the network, as a chart's FIFO does."""

    name = "chart"

    def __init__(self) -> None:
        self.heard: list[Event] = []

    def post_fifo(self, event: Event) -> None:
        self.heard.append(event)


def test_any_number_of_made_up_names_shuts_out_no_honest_one_and_fills_nothing() -> None:
    chart = Chart()
    side = ChartSide(is_direct=True)
    nets = MirosNets(chart, "user", "password", KEY, addresses=["127.0.0.2"], chart_side=side)
    events = nets.node.events

    def receive(name: str, payload: Any = None) -> None:
        envelope = Envelope(MESH, "a.key", "another", bytes(16), 1, 0, (name, payload))
        assert events.admit is not None
        events.admit(envelope)
        events.sink.put(envelope, None)

    count = len(signals)
    for number in range(2_000):
        receive(f"JUNK_{number}")
    chart.heard.clear()
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    honest = [new_name() for _ in range(100)]
    for number in range(100_000):
        receive(f"JUNK_{number}_" + "x" * 200)
        if number % 1_000 == 0:
            chart.heard.clear()
            name = honest[number // 1_000]
            receive(name, number)
            (event,) = chart.heard
            assert (event.signal_name, event.payload) == (name, number)
            assert event.signal == getattr(signals, name), "the own code takes it up"
    chart.heard.clear()
    gc.collect()
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert grown < 3_000_000, "the names alone would be over 20 MB"
    assert len(visitors) < 1_000
    assert len(signals) == count + 100
    assert_is_all_right()


@spy_on
def listening(chart: Any, e: Event) -> Any:
    """Names its signal when the first event of it is handled, as users write it."""
    if e.signal == signals.ENTRY_SIGNAL:
        return return_status.HANDLED
    if e.signal == getattr(signals, chart.expected):
        chart.got.append(e.payload)
        return return_status.HANDLED
    chart.temp.fun = chart.top
    return return_status.SUPER


def test_a_handler_that_names_its_signal_while_events_of_it_wait_gets_all_of_them() -> None:
    chart = ActiveObject("of miros")
    chart.expected, chart.got = new_name(), []
    chart.start_at(listening)
    try:
        for number in range(50):
            chart.post_fifo(event_of(chart.expected, number))
            chart.post_fifo(event_of(new_name(), number))
        done = threading.Event()
        chart.post_fifo(Event(signal=chart.expected, payload=50))
        for _ in range(int(scaled(1_000))):
            if len(chart.got) == 51:
                break
            done.wait(0.01)
        assert chart.got == [*range(51)]
        assert any(chart.expected in line for line in chart.spy())
    finally:
        chart.stop()
