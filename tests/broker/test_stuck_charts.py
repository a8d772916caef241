"""A chart that does not return from a handler: its own process says so, and why events wait."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from cryptography.fernet import Fernet
from miros import Event, return_status, signals, spy_on

from miros_rabbitmq import Limits, LocalBroker, NetworkedActiveObject
from miros_rabbitmq.logs import write_all

from ..helpers import scaled, wait_until
from .charts import arguments_for, make_active_object, make_factory, running

KEY = Fernet.generate_key()
STUCK_S = 2.0
LIMITS = Limits(stuck_after_s=STUCK_S)

signals.append("HANG")


class Hanging:
    """A handler that returns when it may."""

    def __init__(self) -> None:
        self.may_return = threading.Event()
        self.entered = threading.Event()

    def hang(self) -> None:
        self.entered.set()
        assert self.may_return.wait(scaled(60))


@pytest.fixture
def hanging() -> Iterator[Hanging]:
    hanging = Hanging()
    yield hanging
    hanging.may_return.set()


@spy_on
def waiting_for_it(chart: Any, e: Event) -> Any:
    """The one state of a chart that hangs."""
    if e.signal == signals.HANG:
        chart.hanging.hang()
        return return_status.HANDLED
    chart.temp.fun = chart.top
    return return_status.SUPER


def lines(caplog: pytest.LogCaptureFixture, *words: str) -> list[str]:
    write_all(scaled(25))
    texts = [record.getMessage() for record in caplog.records]
    return [text for text in texts if all(word in text for word in words)]


def wait_for_line(caplog: pytest.LogCaptureFixture, *words: str, timeout: float = 20.0) -> str:
    def line() -> str:
        return next(iter(lines(caplog, *words)), "")

    return wait_until(line, timeout, lambda: f"no line with {words}: {caplog.text}")


def transmit_numbers(sender: NetworkedActiveObject, count: int) -> None:
    for number in range(count):
        sender.transmit(Event(signal="NUMBER", payload=number))


def flooded(
    chart: Any, sender: NetworkedActiveObject, hanging: Hanging, caplog: pytest.LogCaptureFixture
) -> str:
    """Make a chart hang, send it more than its FIFO takes, and return what is said of it."""
    sender.transmit(Event(signal="HANG"))
    assert hanging.entered.wait(scaled(25))
    transmit_numbers(sender, 400)
    assert sender.nets.flush(scaled(25))
    line = wait_for_line(caplog, "has been in its handler")
    (stuck,) = chart.nets.stats().stuck
    assert (stuck.name, stuck.signal, stuck.state) == (chart.name, "HANG", chart.state_name)
    assert stuck.seconds >= STUCK_S
    hanging.may_return.set()
    wait_for_line(caplog, f"{chart.name} gets on again, after")
    assert chart.nets.stats().stuck == ()
    assert len(lines(caplog, "has been in its handler")) == 1
    return line


def test_an_active_object_that_hangs_says_in_which_handler_for_which_signal(
    broker_a: LocalBroker, hanging: Hanging, caplog: pytest.LogCaptureFixture
) -> None:
    network = arguments_for(broker_a, key=KEY, limits=LIMITS)
    chart = NetworkedActiveObject("hanger", **network)
    chart.hanging = hanging
    sender, _ = make_active_object("sender", **network)
    with running(chart, state=waiting_for_it), running(sender):
        line = flooded(chart, sender, hanging, caplog)
        # The other node says it, too.
        heard = wait_for_line(caplog, "another node says of 'hanger': it has been in a handler")
        wait_for_line(caplog, "sender: another node says of 'hanger': it takes events again")
    assert "of the state 'waiting_for_it'" in heard
    assert "hanger has been in its handler for" in line
    assert "the signal HANG in the state waiting_for_it" in line
    assert f"{__file__}:{Hanging.hang.__code__.co_firstlineno + 2} in hang, which waits in" in line
    assert "250 events wait for it" in line


def test_so_does_a_factory(
    broker_a: LocalBroker, hanging: Hanging, caplog: pytest.LogCaptureFixture
) -> None:
    network = arguments_for(broker_a, key=KEY, limits=LIMITS)
    chart, record = make_factory("hanger", ["HANG", "NUMBER"], **network)
    note = record.note

    def hang(event: Event) -> None:
        if event.signal == signals.HANG:
            hanging.hang()
        note(event)

    record.note = hang  # type: ignore[method-assign]
    sender, _ = make_active_object("sender", **network)
    with running(chart, sender):
        line = flooded(chart, sender, hanging, caplog)
        record.wait_for(401)
    assert "the signal HANG in the state listening" in line
    assert " in hang, which waits in" in line


@pytest.mark.parametrize("callback", ["on_mesh_rx", "on_trace_rx"])
def test_a_callback_that_hangs_is_told_from_its_chart(
    broker_a: LocalBroker, hanging: Hanging, caplog: pytest.LogCaptureFixture, callback: str
) -> None:
    network = arguments_for(broker_a, key=KEY, limits=LIMITS)
    chart, _ = make_active_object("hanger", **network, **{callback: lambda *_: hanging.hang()})
    sender, _ = make_active_object("sender", **network)
    for one in (chart, sender):
        one.enable_snoop_trace()
    with running(chart, sender):
        for _ in range(3):
            sender.transmit(Event(signal="HANG"))
            sender.snoop_scribble("a line for others")
        line = wait_for_line(caplog, f"{callback} of hanger has not returned for")
        (stuck,) = chart.nets.stats().stuck
        assert stuck.name == f"{callback} of hanger"
        hanging.may_return.set()
        wait_for_line(caplog, f"{callback} of hanger gets on again")
    assert ("the signal HANG" in line) == (callback == "on_mesh_rx")
    assert " in hang, which waits in" in line


def test_a_callback_that_hangs_while_each_message_has_one_event_lets_the_queue_be_watched(
    broker_a: LocalBroker, hanging: Hanging, caplog: pytest.LogCaptureFixture
) -> None:
    """Then there is room for what the broker sends ahead, and no message is held."""
    limits = Limits(queue_bytes=1_000_000, stuck_after_s=STUCK_S)
    network = arguments_for(broker_a, key=KEY)
    chart, _ = make_active_object(
        "hanger", **{**network, "limits": limits}, on_mesh_rx=lambda _: hanging.hang()
    )
    sender, _ = make_active_object("sender", **network)
    with running(chart, sender):
        for _ in range(32 + 80):
            sender.transmit(Event(signal="LARGE", payload=bytes(10_000)))
            assert sender.nets.flush(scaled(25))
        wait_for_line(caplog, "of at most 977 KiB", "wait in the queue of hanger")
        wait_for_line(caplog, "sender: another node says of 'hanger': its queue is nearly full")
        hanging.may_return.set()
        wait_for_line(caplog, "only about", "in the queue of hanger")
        wait_for_line(caplog, "sender: another node says of 'hanger': it takes events again")
        assert len(lines(caplog, "wait in the queue of hanger")) == 2


def test_a_chart_with_a_post_fifo_of_its_own_that_hangs_is_named_once(
    broker_a: LocalBroker, hanging: Hanging, caplog: pytest.LogCaptureFixture
) -> None:
    network = arguments_for(broker_a, key=KEY, limits=LIMITS)
    chart = OwnPost("hanger", **network)
    chart.hanging = hanging
    sender, _ = make_active_object("sender", **network)
    with running(chart, state=waiting_for_it), running(sender):
        flooded(chart, sender, hanging, caplog)
    assert not lines(caplog, "post_fifo of hanger has not returned")


class OwnPost(NetworkedActiveObject):
    """Its post_fifo is called in a thread of its own, as it may take its time."""

    def post_fifo(self, *arguments: Any, **keywords: Any) -> Any:
        return super().post_fifo(*arguments, **keywords)


def test_a_chart_without_a_broker_that_hangs_while_its_own_process_posts_says_so_too(
    hanging: Hanging, caplog: pytest.LogCaptureFixture
) -> None:
    limits = Limits(stuck_after_s=STUCK_S, fifo_events=20, fifo_remote_events=10, fifo_timeout_s=60)
    nobody: Any = {"rabbit_host": "127.0.0.62", "addresses": ["127.0.0.62"], "start_timeout": 0.1}
    chart = NetworkedActiveObject("hanger", "user", "password", KEY, limits=limits, **nobody)
    chart.hanging = hanging
    with running(chart, state=waiting_for_it):
        chart.post_fifo(Event(signal="HANG"))
        posts = threading.Thread(
            target=lambda: [chart.post_fifo(Event(signal="LOCAL")) for _ in range(30)]
        )
        posts.start()
        wait_for_line(caplog, "hanger has been in its handler", "20 events wait for it")
        hanging.may_return.set()
        posts.join(scaled(25))
        wait_for_line(caplog, "hanger gets on again")


@spy_on
def slow_to_enter(chart: Any, e: Event) -> Any:
    """A state whose entry takes long."""
    if e.signal == signals.ENTRY_SIGNAL:
        chart.hanging.hang()
        return return_status.HANDLED
    chart.temp.fun = chart.top
    return return_status.SUPER


def test_a_chart_that_does_not_enter_its_first_state_says_so(
    broker_a: LocalBroker, hanging: Hanging, caplog: pytest.LogCaptureFixture
) -> None:
    network = arguments_for(broker_a, key=KEY, limits=LIMITS)
    chart = NetworkedActiveObject("hanger", **network)
    chart.hanging = hanging
    sender, _ = make_active_object("sender", **network)
    with running(sender), chart:
        start = threading.Thread(target=lambda: chart.start_at(slow_to_enter))
        start.start()
        assert hanging.entered.wait(scaled(25))
        transmit_numbers(sender, 3)
        line = wait_for_line(caplog, "hanger has been in its handler")
        assert "at its start: it has not entered its first state yet" in line
        hanging.may_return.set()
        start.join(scaled(25))
        wait_for_line(caplog, "hanger gets on again")


def test_a_chart_that_starts_again_and_again_is_in_a_pause_and_not_in_a_handler(
    broker_a: LocalBroker, caplog: pytest.LogCaptureFixture
) -> None:
    @spy_on
    def broken(chart: Any, e: Event) -> Any:
        if e.signal == signals.HANG or (e.signal == signals.ENTRY_SIGNAL and chart.has_hung):
            chart.has_hung = True
            raise ValueError
        chart.temp.fun = chart.top
        return return_status.SUPER

    sender, _ = make_active_object("sender", **arguments_for(broker_a, key=KEY))
    chart = NetworkedActiveObject(
        "broken", **arguments_for(broker_a, key=KEY, limits=LIMITS, on_error="restart")
    )
    chart.has_hung = False
    with running(sender), chart:
        chart.start_at(broken)
        sender.transmit(Event(signal="HANG"))
        transmit_numbers(sender, 10)
        wait_for_line(
            caplog, "broken has handled nothing for", "a pause: it starts again", timeout=60
        )
        (stuck,) = chart.nets.stats().stuck
        assert not stuck.state


def test_a_chart_that_is_slow_but_gets_on_is_not_called_stuck(
    broker_a: LocalBroker, caplog: pytest.LogCaptureFixture
) -> None:
    network = arguments_for(broker_a, key=KEY, limits=Limits(stuck_after_s=1.0))
    chart, record = make_active_object("slow", **network)
    sender, _ = make_active_object("sender", **network)
    note: Callable[[Event], None] = record.note
    pause = threading.Event()

    def slowly(event: Event) -> None:
        pause.wait(0.01)
        note(event)

    record.note = slowly  # type: ignore[method-assign]
    with running(chart, sender):
        transmit_numbers(sender, 600)
        record.wait_for(600, 60)
    assert not lines(caplog, "in its handler")


def test_a_queue_that_fills_up_is_said_before_the_broker_drops_anything(
    broker_a: LocalBroker, hanging: Hanging, caplog: pytest.LogCaptureFixture
) -> None:
    limits = Limits(queue_bytes=2_000_000, stuck_after_s=STUCK_S)
    network = arguments_for(broker_a, key=KEY)
    chart, record = make_active_object("hanger", **{**network, "limits": limits})
    note: Callable[[Event], None] = record.note

    def hang(event: Event) -> None:
        if event.signal_name == "HANG":
            hanging.hang()
        note(event)

    record.note = hang  # type: ignore[method-assign]
    sender, _ = make_active_object("sender", **network)
    size = 40_000
    with running(chart, sender):
        sender.transmit(Event(signal="HANG"))
        assert hanging.entered.wait(scaled(25))
        sent = 1
        # What the FIFO takes (8 MiB), what is held, and then what makes the queue nearly full.
        for _ in range(8 * 1024 * 1024 // size + 32 + 42):
            sender.transmit(Event(signal="LARGE", payload=bytes(size)))
            assert sender.nets.flush(scaled(25))  # so that each is a message of its own
            sent += 1
        line = wait_for_line(caplog, "of at most 1,953 KiB", "wait in the queue of hanger")
        assert "then the broker drops the oldest" in line
        assert chart.nets.stats().mesh.queue_messages > 30
        hanging.may_return.set()
        record.wait_for(sent, 30)
        wait_for_line(caplog, "only about", "in the queue of hanger")
        wait_until(lambda: chart.nets.stats().mesh.queue_messages == 0)
        assert chart.nets.stats().mesh.gaps == 0


def test_a_delivery_that_took_too_long_for_rabbitmq_is_worded_as_that_and_nothing_is_lost(
    hanging: Hanging, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with LocalBroker("127.0.0.61", config={"consumer_timeout": "4000"}) as broker:
        # A channel looks once a minute; rabbitmq.conf has no name for that.
        broker.ctl("eval", "application:set_env(rabbit, channel_tick_interval, 1000).")
        network = arguments_for(broker, key=KEY, limits=LIMITS)
        heard: list[Any] = []

        def on_mesh_rx(event: Event) -> None:
            if not heard:
                hanging.hang()
            heard.append(event.payload)

        chart, _ = make_active_object("hanger", **network, on_mesh_rx=on_mesh_rx)
        sender, _ = make_active_object("sender", **network)
        with running(chart, sender):
            transmit_numbers(sender, 50)
            line = wait_for_line(caplog, "consumer_timeout", timeout=60.0)
            assert "firewall" not in line
            hanging.may_return.set()
            wait_until(lambda: len(heard) >= 50, 30, lambda: str(heard))
            assert heard == list(range(50))
            wait_until(lambda: chart.nets.stats().mesh.consumer.value == "ready", 30)
