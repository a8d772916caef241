"""Networked charts on real brokers: what they transmit arrives, all of it, in order, once."""

from __future__ import annotations

import collections
import datetime
import decimal
import fractions
import threading
import uuid
from functools import partial
from typing import Any

import pytest
from cryptography.fernet import Fernet
from miros import ActiveObject, Event, Factory, return_status, signals, spy_on, stripped

from miros_rabbitmq import (
    LocalBroker,
    MirosApiException,
    NetworkedActiveObject,
    NetworkedFactory,
    NetworkStopped,
    PayloadRefused,
    RejectReason,
)
from miros_rabbitmq.logs import write_all

from ..helpers import scaled, wait_until
from .charts import arguments_for, listening, make_active_object, make_factory, running, traced

KEY = Fernet.generate_key()


def test_events_go_both_ways_between_both_kinds_of_chart_on_two_brokers(
    broker_a: LocalBroker, broker_b: LocalBroker
) -> None:
    flat, heard_by_flat = make_active_object("flat", **arguments_for(broker_a, broker_b, key=KEY))
    factory, heard_by_factory = make_factory(
        "factory", ["PING"], **arguments_for(broker_b, broker_a, key=KEY)
    )
    with running(flat, factory, peers=1):
        flat.transmit(Event(signal="PING", payload={"n": 1}))
        heard_by_factory.wait_for(1)
        factory.transmit(Event(signal="PONG", payload=(1, "two")))
        heard_by_flat.wait_for(1)
    assert heard_by_factory.heard == [("PING", {"n": 1})]
    assert heard_by_flat.heard == [("PONG", (1, "two"))]


def heard_itself(chart: NetworkedActiveObject) -> bool:
    return chart.nets.stats().mesh.own == 1


def test_a_chart_does_not_hear_itself_but_others_on_its_broker_do(broker_a: LocalBroker) -> None:
    charts = [make_active_object(f"c{n}", **arguments_for(broker_a, key=KEY)) for n in range(3)]
    with running(*(chart for chart, _ in charts)):
        for n, (chart, _) in enumerate(charts):
            chart.transmit(Event(signal="FROM", payload=n))
        for _, record in charts:
            record.wait_for(2)
        for chart, _ in charts:
            wait_until(partial(heard_itself, chart))
    for n, (_, record) in enumerate(charts):
        assert sorted(record.payloads("FROM")) == [m for m in range(3) if m != n]


def test_charts_at_one_broker_know_of_each_other_and_a_lone_one_sends_without_haste(
    broker_a: LocalBroker,
) -> None:
    """Routing keys do not matter: events that only one of them hears are sent in haste, too."""

    def is_patient(chart: NetworkedActiveObject) -> bool:
        return chart.nets.node.mesh.senders[broker_a.address].patient

    first, heard = make_active_object(
        "first", **arguments_for(broker_a, key=KEY), tx_routing_key="of.first"
    )
    second, _ = make_active_object(
        "second", **arguments_for(broker_a, key=KEY), tx_routing_key="of.second"
    )
    stranger, _ = make_active_object(
        "stranger", **arguments_for(broker_a, key=Fernet.generate_key())
    )
    with running(first, stranger):
        first.transmit(Event(signal="TO_NOBODY"))
        assert first.nets.flush(scaled(25))
        wait_until(lambda: is_patient(first) and is_patient(stranger))
        with running(second):
            wait_until(lambda: not is_patient(first) and not is_patient(second))
        assert is_patient(stranger), "a chart with another key is not a neighbour"
        assert not first.nets.stats().mesh.rejected
    assert not heard.heard


def test_two_charts_of_one_name_in_one_process_hear_each_other(broker_a: LocalBroker) -> None:
    one, heard_by_one = make_active_object("twin", **arguments_for(broker_a, key=KEY))
    two, heard_by_two = make_active_object("twin", **arguments_for(broker_a, key=KEY))
    with running(one, two):
        one.transmit(Event(signal="FROM_ONE"))
        two.transmit(Event(signal="FROM_TWO"))
        heard_by_one.wait_for(1)
        heard_by_two.wait_for(1)
    assert heard_by_one.heard == [("FROM_TWO", None)]
    assert heard_by_two.heard == [("FROM_ONE", None)]


PAYLOADS = [
    None,
    True,
    0,
    -(2**200),
    1.5,
    float("inf"),
    "text with ünïcode 🤖",
    b"\x00bytes\n",
    bytearray(b"array"),
    (1, (2, (3,))),
    [1, [2.0, None]],
    {1: "one", "two": 2, (3, 4): {5}},
    {1, 2, 3},
    frozenset({"a"}),
    1 + 2j,
    range(1, 10, 3),
    collections.deque([1, 2], maxlen=5),
    collections.OrderedDict([("b", 1), ("a", 2)]),
    collections.Counter("abca"),
    datetime.datetime(2026, 11, 22, 8, 2, 36, 593144, tzinfo=datetime.timezone.utc),
    datetime.date(2026, 11, 22),
    datetime.time(8, 2, 36),
    datetime.timedelta(seconds=1.5),
    decimal.Decimal("1.10"),
    fractions.Fraction(1, 3),
    uuid.UUID(int=7),
]


def types_of(value: Any) -> Any:
    """The type of a value and of everything in it."""
    if isinstance(value, dict):
        return type(value), [(types_of(k), types_of(v)) for k, v in value.items()]
    if isinstance(value, (list, tuple, collections.deque)):
        return type(value), [types_of(item) for item in value]
    return type(value)


def test_payloads_come_back_equal_and_of_the_same_type(
    broker_a: LocalBroker, broker_b: LocalBroker
) -> None:
    sender, _ = make_active_object("sender", **arguments_for(broker_a, broker_b, key=KEY))
    receiver, record = make_active_object("receiver", **arguments_for(broker_b, broker_a, key=KEY))
    with running(sender, receiver, peers=1):
        for payload in PAYLOADS:
            sender.transmit(Event(signal="PAYLOAD", payload=payload))
        record.wait_for(len(PAYLOADS))
    received = record.payloads("PAYLOAD")
    assert received == PAYLOADS
    assert list(map(types_of, received)) == list(map(types_of, PAYLOADS))


def test_a_wide_pattern_hears_every_routing_key_that_it_matches(broker_a: LocalBroker) -> None:
    heya, _ = make_active_object(
        "heya", tx_routing_key="heya.man", **arguments_for(broker_a, key=KEY)
    )
    other, _ = make_active_object(
        "other",
        tx_routing_key="other",
        rx_routing_key="none",
        **arguments_for(broker_a, key=KEY),
    )
    listener, record = make_active_object(
        "listener", rx_routing_key="#.man", **arguments_for(broker_a, key=KEY)
    )
    with running(heya, other, listener):
        other.transmit(Event(signal="UNHEARD"))
        assert other.nets.flush(scaled(25))
        heya.transmit(Event(signal="HEARD"))
        record.wait_for(1)
        assert other.nets.stats().mesh.unrouted == 1
    assert record.heard == [("HEARD", None)]


def test_different_keys_do_not_understand_each_other(
    broker_a: LocalBroker, caplog: pytest.LogCaptureFixture
) -> None:
    one, heard_by_one = make_active_object("one", **arguments_for(broker_a, key=KEY))
    stranger, heard_by_stranger = make_active_object(
        "stranger", **arguments_for(broker_a, key=Fernet.generate_key())
    )
    with running(one, stranger):
        for _ in range(3):
            stranger.transmit(Event(signal="LET_ME_IN"))
            assert stranger.nets.flush(scaled(25))  # so that each is a message of its own
        reasons = wait_until(lambda: one.nets.stats().mesh.rejected)
        wait_until(lambda: one.nets.stats().mesh.rejected[RejectReason.NOT_AUTHENTIC] == 3)
        assert set(reasons) == {RejectReason.NOT_AUTHENTIC}
    assert not heard_by_one.heard
    assert not heard_by_stranger.heard
    assert write_all(scaled(25))
    warnings = [text for text in caplog.messages if "not authenticated by a key of ours" in text]
    # Two notices of the stranger's may come besides: its start, and what its last number was.
    assert 2 <= len(warnings) <= 4, "one in a while, not one for each message; the rest at the end"
    assert "more like it since" in warnings[-1]


def test_a_bad_event_raises_in_transmit_and_the_next_one_passes(broker_a: LocalBroker) -> None:
    sender, _ = make_active_object("sender", **arguments_for(broker_a, key=KEY))
    receiver, record = make_active_object("receiver", **arguments_for(broker_a, key=KEY))
    with pytest.raises(NetworkStopped, match="start it first"):
        sender.transmit(Event(signal="EARLY"))
    with running(sender, receiver):
        for payload, text in [
            (threading.Lock(), "may not contain a lock"),
            (lambda: None, "may not contain a function"),
            (b"x" * 2_000_000, "more than the 1,048,576 of Limits.event_bytes"),
        ]:
            with pytest.raises(PayloadRefused, match=text):
                sender.transmit(Event(signal="BAD", payload=payload))
        with pytest.raises(PayloadRefused, match="inner signal"):
            sender.transmit(Event(signal=signals.STOP_ACTIVE_OBJECT_SIGNAL))
        with pytest.raises(MirosApiException, match="not a str"):
            sender.transmit("GOOD")
        sender.transmit(Event(signal="GOOD"))
        record.wait_for(1)
        assert receiver.nets.stats().mesh.gaps == 0, "a refused event uses no sequence number"
    assert record.heard == [("GOOD", None)]
    with pytest.raises(NetworkStopped):
        sender.transmit(Event(signal="LATE"))


def test_a_chart_can_be_stopped_and_started_again(broker_a: LocalBroker) -> None:
    again, heard_by_again = make_active_object("again", **arguments_for(broker_a, key=KEY))
    other, heard_by_other = make_active_object("other", **arguments_for(broker_a, key=KEY))
    with running(other):
        for n in range(2):
            with running(again):
                again.transmit(Event(signal="N", payload=n))
                heard_by_other.wait_for(n + 1)
                other.transmit(Event(signal="M", payload=n))
                heard_by_again.wait_for(n + 1)
    assert heard_by_other.payloads("N") == [0, 1]
    assert heard_by_again.payloads("M") == [0, 1]


def test_a_chart_stops_from_its_own_thread_and_twice(broker_a: LocalBroker) -> None:
    chart, _ = make_active_object("suicidal", **arguments_for(broker_a, key=KEY))
    stopped = threading.Event()

    @spy_on
    def living(chart: Any, e: Event) -> Any:
        if e.signal == signals.DIE:
            chart.stop()
            stopped.set()
            return return_status.HANDLED
        return listening(chart, e)

    with running(chart, state=living):
        chart.post_fifo(Event(signal=signals.DIE))
        assert stopped.wait(scaled(25))


# miros's own features: the same chart with and without a network.


@spy_on
def outer(chart: Any, e: Event) -> Any:
    if e.signal == signals.INIT_SIGNAL:
        return chart.trans(waiting)
    if e.signal == signals.RESET:
        chart.scribble("resetting")
        return chart.trans(outer)
    if e.signal_name == chart.news:
        chart.count += 1
        return return_status.HANDLED
    chart.temp.fun = chart.top
    return return_status.SUPER


@spy_on
def waiting(chart: Any, e: Event) -> Any:
    if e.signal == signals.TICK:
        chart.ticks += 1
        if chart.ticks == 3:
            return chart.trans(working)
        return return_status.HANDLED
    if e.signal == signals.LATER:
        chart.defer(e)
        # Not at the entry: ticks that come before the chart's thread runs behave differently.
        chart.post_fifo(Event(signal=signals.TICK), times=3, period=0.02, deferred=True)
        return return_status.HANDLED
    chart.temp.fun = outer
    return return_status.SUPER


@spy_on
def working(chart: Any, e: Event) -> Any:
    if e.signal == signals.ENTRY_SIGNAL:
        chart.subscribe(Event(signal=chart.news))
        chart.recall()
        return return_status.HANDLED
    if e.signal == signals.LATER:
        chart.publish(Event(signal=chart.news))
        chart.post_lifo(Event(signal=signals.HURRY))
        return return_status.HANDLED
    if e.signal == signals.HURRY:
        chart.cancel_events(Event(signal=signals.TICK))
        return chart.trans(resting)
    chart.temp.fun = outer
    return return_status.SUPER


@spy_on
def resting(chart: Any, e: Event) -> Any:
    chart.temp.fun = outer
    return return_status.SUPER


def is_done_with(chart: Any, word: str) -> bool:
    """The spy has a word, and all of the run to completion that it belongs to."""
    spy = chart.spy()
    return word in spy and spy[-1].startswith("<- Queued")


def play(chart: Any, news: str) -> tuple[list[str], list[str]]:
    """Use every feature of miros once, and return the trace and the sorted spy.

    What the spy says of the queue, and of posts by other threads, depends on the time.

    ``news`` is a signal of this chart alone: a running miros chart cannot subscribe to one that
    another chart of its process has subscribed to.
    """
    chart.ticks = chart.count = 0
    chart.news = news
    chart.start_at(outer)
    try:
        chart.post_fifo(Event(signal=signals.LATER))
        wait_until(lambda: "HURRY" in traced(chart) and is_done_with(chart, f"{news}:outer:HOOK"))
        assert chart.count == 1
        chart.post_fifo(Event(signal=signals.RESET))
        wait_until(lambda: is_done_with(chart, "resetting"))
        chart.cancel_events(Event(signal=signals.TICK))
        with stripped(chart.trace()) as trace:
            lines = list(trace)
        spy = sorted(
            line.replace(news, "NEWS")
            for line in chart.spy()
            if not line.startswith(("<- Queued", "POST_FIFO"))
        )
        chart.clear_trace()
        chart.clear_spy()
        assert chart.trace() == "\n"
        assert chart.spy() == []
        return lines, spy
    finally:
        chart.stop()


def test_the_same_chart_does_the_same_with_and_without_a_network(
    broker_a: LocalBroker, capsys: pytest.CaptureFixture[str]
) -> None:
    local = ActiveObject("chart")
    networked = NetworkedActiveObject("chart", **arguments_for(broker_a, key=KEY))
    for chart in (local, networked):
        chart.live_trace = chart.live_spy = True
    (local_trace, local_spy), (trace, spy) = play(local, "NEWS_1"), play(networked, "NEWS_2")
    assert trace == local_trace
    assert len(trace) >= 4
    assert spy == local_spy
    live = capsys.readouterr().out
    assert live.count("start_at() top->waiting") == 2, "live trace prints for both"
    assert live.count("START") == 2, "live spy prints for both"
    assert "[+t]" not in live


def make_factory_chart(chart: Any) -> Any:
    def go(chart: Any, _e: Event) -> Any:
        return chart.trans(second)

    def back(chart: Any, _e: Event) -> Any:
        return chart.trans(first)

    first = chart.create(state="first").catch(signal=signals.GO, handler=go).to_method()
    second = chart.create(state="second").catch(signal=signals.BACK, handler=back).to_method()
    chart.nest(first, parent=None).nest(second, parent=first)
    return first


def has_moved(chart: Any, times: int) -> bool:
    return len(traced(chart)) == 1 + times  # the first is the start


def test_the_same_factory_does_the_same_with_and_without_a_network(broker_a: LocalBroker) -> None:
    traces = []
    for chart in (Factory("chart"), NetworkedFactory("chart", **arguments_for(broker_a, key=KEY))):
        first = make_factory_chart(chart)
        chart.start_at(first)
        for signal in (signals.GO, signals.BACK, signals.GO):
            chart.post_fifo(Event(signal=signal))
        wait_until(partial(has_moved, chart, 3))
        with stripped(chart.trace()) as trace:
            traces.append(list(trace))
        assert chart.to_code(first)
        chart.stop()
    assert traces[0] == traces[1]


@spy_on
def subscribed(chart: Any, e: Event) -> Any:
    if e.signal == signals.ENTRY_SIGNAL:
        chart.subscribe(Event(signal=signals.NEWS_3))
        return return_status.HANDLED
    if e.signal == signals.GO:
        return chart.trans(subscribed)
    chart.temp.fun = chart.top
    return return_status.SUPER


def test_a_chart_that_subscribes_at_its_start_and_goes_on_has_a_trace(
    broker_a: LocalBroker,
) -> None:
    chart = NetworkedActiveObject("chart", **arguments_for(broker_a, key=KEY))
    with running(chart, state=subscribed):
        wait_until(lambda: any(each.datetime is None for each in tuple(chart.full.trace)))
        for count in range(1, 400):
            chart.post_fifo(Event(signal=signals.GO))
            trace = str(chart.trace())
            assert trace.startswith("\n[")
            assert trace.count("GO()") <= count
        wait_until(lambda: str(chart.trace()).count("subscribed->subscribed") == 399)
