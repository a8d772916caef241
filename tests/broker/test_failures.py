"""What the user's code raises ends a chart visibly, or is forgiven: no chart lives on deaf.

Whatever raises, in whichever kind of chart: the chart stops, others see it go, and a main program
that waits for it ends with a status other than 0.
"""

from __future__ import annotations

import base64
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from miros import Event, return_status, signals, spy_on

from miros_rabbitmq import (
    AccessRefused,
    BackPressure,
    Failure,
    Limits,
    LocalBroker,
    MirosApiException,
    MirosNets,
    NetworkedActiveObject,
    NetworkStopped,
    PayloadRefused,
)
from miros_rabbitmq.logs import write_all

from ..helpers import scaled, wait_until
from .charts import arguments_for, make_active_object, make_factory, running

KEY = base64.urlsafe_b64encode(b"f" * 32)

signals.append("GO")
signals.append("INNER")


@pytest.fixture(autouse=True)
def no_thread_raises(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """One entry in the log is enough: Python reports nothing besides."""
    raised: list[Any] = []
    hook, threading.excepthook = threading.excepthook, raised.append
    yield
    threading.excepthook = hook
    assert raised == []


class Case:
    """Code of the user, called in one of many places."""

    def __init__(self, code: Callable[[Any], object]) -> None:
        self.code = code
        self.entered = self.inner_entered = 0
        self.seen: list[Any] = []


@spy_on
def outer(chart: Any, e: Event) -> Any:
    """The initial state; GO runs the code, and INNER leads into a state within."""
    case: Case = chart.case
    if e.signal == signals.ENTRY_SIGNAL:
        case.entered += 1
        return return_status.HANDLED
    if e.signal == signals.GO:
        case.code(chart)
        return return_status.HANDLED
    if e.signal == signals.INNER:
        return chart.trans(inner)
    if e.signal_name == "NUMBER":
        case.seen.append((e.payload, chart.state.fun.__name__))
        return return_status.HANDLED
    chart.temp.fun = chart.top
    return return_status.SUPER


@spy_on
def inner(chart: Any, e: Event) -> Any:
    """Its entry runs the code, too."""
    if e.signal == signals.ENTRY_SIGNAL:
        chart.case.inner_entered += 1
        chart.case.code(chart)
        return return_status.HANDLED
    chart.temp.fun = outer
    return return_status.SUPER


def refuse(_: Any) -> None:
    raise ValueError("it cannot do that")


def leave(_: Any) -> None:
    sys.exit(7)


def transmit_a_lock(chart: Any) -> None:
    chart.transmit(Event(signal="LOCK", payload=threading.Lock()))


def transmit_too_much(chart: Any) -> None:
    while True:
        chart.transmit(Event(signal="MUCH", payload=b"x" * 1_000))


def run_out_of_memory(_: Any) -> None:
    raise MemoryError


RAISING = [
    (refuse, ValueError),
    (leave, SystemExit),
    (transmit_a_lock, PayloadRefused),
    (transmit_too_much, BackPressure),
    (run_out_of_memory, MemoryError),
]


def make(
    broker: LocalBroker, code: Callable[[Any], object], **extras: Any
) -> NetworkedActiveObject:
    chart = NetworkedActiveObject("robot", **arguments_for(broker, key=KEY, **extras))
    chart.case = Case(code)
    return chart


def entries(caplog: pytest.LogCaptureFixture, text: str = "has raised") -> list[logging.LogRecord]:
    assert write_all(scaled(25))
    return [one for one in caplog.records if text in one.getMessage()]


def assert_it_is_over(chart: Any) -> None:
    assert not chart.nets.is_running
    # Who waited for the end is woken by the thread whose last act that is.
    wait_until(lambda: chart.thread is None or not chart.thread.is_alive())
    wait_until(lambda: not threads_of(chart), message=lambda: f"the end of {threads_of(chart)}")


def threads_of(chart: Any) -> list[str]:
    return [one.name for one in threading.enumerate() if one.name.endswith(f" of {chart.name}")]


@pytest.mark.parametrize(("code", "error"), RAISING)
@pytest.mark.parametrize("signal_name", ["GO", "INNER"])
def test_a_handler_that_raises_ends_its_chart_visibly(
    broker_a: LocalBroker,
    caplog: pytest.LogCaptureFixture,
    code: Callable[[Any], object],
    error: type[BaseException],
    signal_name: str,
) -> None:
    lines: list[tuple[str, str]] = []
    observer, _ = make_active_object(
        "observer", **arguments_for(broker_a, key=KEY, on_trace_rx=lambda *line: lines.append(line))
    )
    observer.enable_snoop_trace()
    chart = make(broker_a, code, transmit_timeout=0.0, limits=Limits(backlog_events=512))
    chart.enable_snoop_trace()
    with running(observer):
        chart.start_at(outer)
        queue = chart.nets.stats().mesh.queue
        chart.post_fifo(Event(signal=signal_name))
        with pytest.raises(error) as caught:
            chart.wait(scaled(25))
        assert chart.failure is caught.value
        assert_it_is_over(chart)
        assert queue not in broker_a.ctl("list_queues", "name").split(), "others see it go"
        (entry,) = entries(caplog)
        assert f"robot: the handler of {signal_name} in the state outer has raised" in (
            entry.getMessage()
        )
        assert bool(entry.exc_info) == (error is not SystemExit)
        remark = f"robot] # the handler of {signal_name} in the state outer has raised"
        wait_until(lambda: [name for name, line in lines if remark in line] == ["robot"])


def test_a_failure_is_raised_anew_each_time_and_forgotten_at_the_next_start(
    broker_a: LocalBroker,
) -> None:
    chart = make(broker_a, refuse)
    with pytest.raises(MirosApiException, match="was not started"):
        chart.wait()
    chart.start_at(outer)
    assert chart.failure is None
    assert not chart.wait(0.01)
    chart.post_fifo(Event(signal=signals.GO))
    depths = []
    for _ in range(3):
        with pytest.raises(ValueError, match="it cannot do that") as caught:
            chart.wait(scaled(25))
        depths.append(len(caught.traceback))
    assert len(set(depths)) == 1, "the traceback does not grow"
    with pytest.raises(NetworkStopped, match="was stopped, as the program raised ValueError"):
        chart.transmit(Event(signal="NUMBER"))
    with chart:
        chart.start_at(outer)
        assert chart.failure is None
        assert not chart.wait(0.01)
    assert chart.wait(0)


@pytest.mark.parametrize("of", ["on_mesh_rx", "on_trace_rx", "on_spy_rx", "on_peers_changed"])
@pytest.mark.parametrize("on_error", ["stop", "continue"])
def test_a_callback_that_raises_ends_the_chart_or_is_called_again(
    broker_a: LocalBroker,
    broker_b: LocalBroker,
    caplog: pytest.LogCaptureFixture,
    of: str,
    on_error: str,
) -> None:
    calls = []

    def callback(*arguments: Any) -> None:
        calls.append(arguments)
        refuse(arguments)

    sender, _ = make_active_object("sender", **arguments_for(broker_a, key=KEY))
    extras: dict[str, Any] = {of: callback, "on_error": on_error}
    chart = NetworkedActiveObject("robot", **arguments_for(broker_a, broker_b, key=KEY, **extras))
    chart.case = Case(refuse)
    for one in (sender, chart):
        one.enable_snoop_trace()
        one.enable_snoop_spy()
    with running(sender), chart:
        try:
            chart.start_at(outer)
        except NetworkStopped:
            assert (of, on_error) == ("on_peers_changed", "stop"), "it is called during the start"

        def has_called() -> bool:
            sender.transmit(Event(signal="NUMBER"))
            sender.snoop_scribble("a line")
            time.sleep(0.01)
            return len(calls) >= (1 if on_error == "stop" or of == "on_peers_changed" else 2)

        wait_until(has_called)
        if on_error == "stop":
            with pytest.raises(ValueError, match="it cannot do that"):
                chart.wait(scaled(25))
            assert_it_is_over(chart)
        else:
            assert chart.nets.is_running
            assert chart.failure is None
    first = entries(caplog)[0]
    then = "it stops" if on_error == "stop" else "it goes on with the next event"
    said = f"robot: {of} has raised ValueError: it cannot do that at {__file__}:"
    assert first.getMessage().startswith(said)
    assert first.getMessage().endswith(f" in refuse: {then}")
    assert first.exc_info


def test_networks_without_a_chart_stop_when_a_callback_raises(broker_a: LocalBroker) -> None:
    class Owner:
        name = "owner"

        def post_fifo(self, event: Event) -> None:
            refuse(event)

    sender, _ = make_active_object("sender", **arguments_for(broker_a, key=KEY))
    nets = MirosNets(Owner(), **arguments_for(broker_a, key=KEY))
    nets.start()
    with running(sender):
        sender.transmit(Event(signal="NUMBER"))
        wait_until(lambda: not nets.is_running)
    assert isinstance(nets.failure, ValueError)
    nets.stop()


@pytest.mark.parametrize("signal_name", ["GO", "INNER"])
def test_a_chart_goes_on_in_the_state_in_which_it_was(
    broker_a: LocalBroker, caplog: pytest.LogCaptureFixture, signal_name: str
) -> None:
    sender, _ = make_active_object("sender", **arguments_for(broker_a, key=KEY))
    with running(sender), make(broker_a, refuse, on_error="continue") as chart:
        chart.start_at(outer)
        for number in range(50):
            sender.transmit(Event(signal="NUMBER", payload=number))
            chart.post_fifo(Event(signal=signal_name))
        wait_until(lambda: len(chart.case.seen) == 50)
        assert chart.case.seen == [(number, "outer") for number in range(50)]
        assert chart.failure is None
        assert chart.case.entered == 1
    assert len(entries(caplog)) == 1, "the same error is logged once a minute"


def test_a_chart_starts_again_from_its_initial_state_and_loses_no_event(
    broker_a: LocalBroker,
) -> None:
    def refuse_once(chart: Any) -> None:
        if chart.case.entered + chart.case.inner_entered < 3:
            refuse(chart)

    sender, _ = make_active_object("sender", **arguments_for(broker_a, key=KEY))
    chart = make(broker_a, refuse_once, on_error="restart")
    with running(sender), chart:
        chart.start_at(outer)
        chart.post_fifo(Event(signal="TICK"), times=0, period=0.01)
        queue = chart.nets.stats().mesh.queue
        for number in range(100):
            if number in (20, 50):
                chart.post_fifo(Event(signal=signals.INNER))
            sender.transmit(Event(signal="NUMBER", payload=number))
        wait_until(lambda: len(chart.case.seen) == 100)
        assert [number for number, _ in chart.case.seen] == list(range(100))
        assert chart.case.seen[-1][1] == "inner"
        assert chart.case.entered == 2
        assert chart.nets.stats().mesh.queue == queue, "its networks stay"
        assert len(chart.posted_events_queue) == 0, "its timers do not: it makes them anew"


def test_a_chart_that_cannot_start_again_may_be_stopped(broker_a: LocalBroker) -> None:
    @spy_on
    def broken(chart: Any, e: Event) -> Any:
        if e.signal == signals.ENTRY_SIGNAL and chart.case.entered:
            chart.case.entered += 1
            refuse(chart)
        if e.signal == signals.GO:
            chart.case.entered += 1
            refuse(chart)
        chart.temp.fun = chart.top
        return return_status.SUPER

    chart = make(broker_a, refuse, on_error="restart")
    chart.start_at(broken)
    chart.post_fifo(Event(signal=signals.GO))
    wait_until(lambda: chart.case.entered >= 4)
    chart.stop()
    assert chart.wait(0)
    assert chart.failure is None


def test_a_function_decides_in_the_thread_of_the_chart(broker_a: LocalBroker) -> None:
    asked: list[tuple[Failure, threading.Thread]] = []

    def on_error(failure: Failure) -> str | None:
        asked.append((failure, threading.current_thread()))
        return "continue" if len(asked) < 3 else None

    chart = make(broker_a, leave, on_error=on_error)
    chart.start_at(outer)
    thread = chart.thread
    for _ in range(5):
        chart.post_fifo(Event(signal=signals.GO))
    with pytest.raises(SystemExit) as caught:
        chart.wait(scaled(25))
    assert caught.value.code == 7
    assert len(asked) == 3
    assert {where for _, where in asked} == {thread}
    failure = asked[0][0]
    assert failure[2:] == ("handler", "GO", "outer")
    assert failure.chart == "robot"


def test_a_factory_fails_like_an_active_object(broker_a: LocalBroker) -> None:
    chart, record = make_factory("robot", ["GO"], **arguments_for(broker_a, key=KEY))
    record.heard = None  # type: ignore[assignment]  # so that its handler raises
    chart.start_at(chart.first_state)
    chart.post_fifo(Event(signal=signals.GO))
    with pytest.raises(AttributeError):
        chart.wait(scaled(25))
    assert_it_is_over(chart)


def test_a_handler_may_stop_its_own_chart_and_that_is_no_failure(
    broker_a: LocalBroker, caplog: pytest.LogCaptureFixture
) -> None:
    chart = make(broker_a, lambda chart: chart.stop())
    chart.start_at(outer)
    chart.post_fifo(Event(signal=signals.GO))
    assert chart.wait(scaled(25))
    assert chart.failure is None
    chart.thread.join(scaled(20))
    assert_it_is_over(chart)
    assert entries(caplog) == []


def test_a_chart_that_miros_ends_closes_its_networks(
    broker_a: LocalBroker, caplog: pytest.LogCaptureFixture
) -> None:
    chart = make(broker_a, refuse)
    chart.start_at(outer)
    chart.queue.append(Event(signal=signals.STOP_ACTIVE_OBJECT_SIGNAL))
    assert chart.wait(scaled(25))
    assert_it_is_over(chart)
    assert len(entries(caplog, "was ended by miros itself")) == 1


def test_a_stop_of_a_subclass_that_raises_leaves_nothing(
    broker_a: LocalBroker, caplog: pytest.LogCaptureFixture
) -> None:
    class Rude(NetworkedActiveObject):
        def stop(self) -> None:
            raise OSError

    chart = Rude("robot", **arguments_for(broker_a, key=KEY))
    chart.case = Case(refuse)
    chart.start_at(outer)
    chart.post_fifo(Event(signal=signals.GO))
    with pytest.raises(ValueError, match="it cannot do that"):
        chart.wait(scaled(25))
    assert_it_is_over(chart)
    assert len(entries(caplog, "its stop has raised")) == 1

    sender, _ = make_active_object("sender", **arguments_for(broker_a, key=KEY))
    chart = Rude("robot", **arguments_for(broker_a, key=KEY, on_mesh_rx=refuse))
    chart.case = Case(refuse)
    chart.start_at(outer)
    with running(sender):
        sender.transmit(Event(signal="NUMBER"))
        with pytest.raises(ValueError, match="it cannot do that"):
            chart.wait(scaled(25))
    assert_it_is_over(chart)


def test_an_exit_in_the_middle_of_a_stop_is_no_error(
    broker_a: LocalBroker, caplog: pytest.LogCaptureFixture
) -> None:
    """As when SIGTERM comes once more while a start that has failed is being undone."""

    class Leaving(NetworkedActiveObject):
        def stop(self) -> None:
            sys.exit(7)

    arguments = {**arguments_for(broker_a, key=KEY), "rabbit_password": "wrong"}
    chart = Leaving("robot", **arguments)
    chart.case = Case(refuse)
    with pytest.raises(AccessRefused):
        chart.start_at(outer)
    assert_it_is_over(chart)
    assert not [one for one in caplog.records if one.levelno >= logging.ERROR]


class Picky(NetworkedActiveObject):
    """Refuses what a timer posts."""

    def post_fifo(self, e: Event, *arguments: Any, **keywords: Any) -> Any:
        if not (arguments or keywords):
            refuse(e)
        return super().post_fifo(e, *arguments, **keywords)


def test_a_post_of_a_timer_that_raises_ends_the_chart(
    broker_a: LocalBroker, caplog: pytest.LogCaptureFixture
) -> None:
    chart = Picky("robot", **arguments_for(broker_a, key=KEY))
    chart.case = Case(refuse)
    chart.start_at(outer)
    chart.post_fifo(Event(signal="TICK"), times=0, period=0.01)
    with pytest.raises(ValueError, match="it cannot do that"):
        chart.wait(scaled(25))
    assert_it_is_over(chart)
    assert entries(caplog)[0].getMessage().startswith("robot: post_fifo has raised ValueError")


@pytest.mark.parametrize("on_error", ["stop", "continue"])
def test_a_callback_for_live_lines_that_raises_ends_its_chart_and_no_other(
    broker_a: LocalBroker, caplog: pytest.LogCaptureFixture, on_error: str
) -> None:
    lines: list[str] = []
    other, _ = make_active_object("other", **arguments_for(broker_a, key=KEY))
    other.live_spy = True
    other.register_live_spy_callback(lines.append)
    chart = make(broker_a, refuse, on_error=on_error)
    chart.live_trace = True
    chart.register_live_trace_callback(refuse)
    with running(other), chart:
        chart.start_at(outer)
        if on_error == "stop":
            with pytest.raises(ValueError, match="it cannot do that"):
                chart.wait(scaled(25))
            assert_it_is_over(chart)
        else:
            wait_until(lambda: entries(caplog))
            assert chart.nets.is_running
        lines.clear()
        other.post_fifo(Event(signal="NUMBER"))
        wait_until(lambda: any("NUMBER" in line for line in lines))
    assert entries(caplog)[0].getMessage().startswith("robot: live output has raised ValueError")


def test_a_handler_and_a_callback_that_raise_at_once_do_not_wait_for_each_other(
    broker_a: LocalBroker,
) -> None:
    def refuse_later(chart: Any) -> None:
        wait_until(lambda: chart.failure is not None)
        refuse(chart)

    def on_mesh_rx(event: Event) -> None:
        chart.post_fifo(Event(signal=signals.GO))
        wait_until(lambda: not chart.queue)
        refuse(event)

    sender, _ = make_active_object("sender", **arguments_for(broker_a, key=KEY))
    limits = Limits(stop_timeout_s=scaled(30))
    chart = make(broker_a, refuse_later, on_mesh_rx=on_mesh_rx, limits=limits)
    with running(sender):
        chart.start_at(outer)
        sender.transmit(Event(signal="NUMBER"))
        with pytest.raises(ValueError, match="it cannot do that"):
            chart.wait(scaled(25))
    assert_it_is_over(chart)


def test_two_charts_whose_callbacks_raise_do_not_answer_each_other_for_ever(
    broker_a: LocalBroker,
) -> None:
    calls = []

    def on_trace_rx(name: str, line: str) -> None:
        calls.append(line)
        refuse(line)

    extras: dict[str, Any] = {"on_trace_rx": on_trace_rx, "on_error": "continue"}
    one, other = (make(broker_a, refuse, **extras) for _ in range(2))
    for each in (one, other):
        each.enable_snoop_trace()
    with one, other:
        for each in (one, other):
            each.start_at(outer)
        one.post_fifo(Event(signal=signals.INNER))
        wait_until(lambda: calls)
        time.sleep(1.5)
        assert len(calls) < 20


def test_a_chart_that_on_error_itself_stops_has_failed(broker_a: LocalBroker) -> None:
    def on_error(_: Failure) -> None:
        chart.stop()
        time.sleep(0.2)  # while somebody who waits for the end may go on

    sender, _ = make_active_object("sender", **arguments_for(broker_a, key=KEY))
    chart = make(broker_a, refuse, on_error=on_error, on_mesh_rx=refuse)
    with running(sender):
        chart.start_at(outer)
        sender.transmit(Event(signal="NUMBER"))
        with pytest.raises(ValueError, match="it cannot do that"):
            chart.wait(scaled(25))
        wait_until(lambda: chart.failure is not None)
    assert_it_is_over(chart)


def test_a_subclass_may_use_the_names_for_itself(broker_a: LocalBroker) -> None:
    class Own(NetworkedActiveObject):
        wait = 3  # type: ignore[assignment]

    chart: Any = Own("robot", **arguments_for(broker_a, key=KEY))
    chart.failure = "no way"
    chart.case = Case(refuse)
    with chart:
        chart.start_at(outer)
        chart.post_fifo(Event(signal=signals.GO))
        wait_until(lambda: not chart.thread.is_alive())
    assert (chart.wait, chart.failure) == (3, "no way")
    assert_it_is_over(chart)


PROGRAM = """
import sys, threading
from miros import Event, return_status, signals, spy_on
from miros_rabbitmq import NetworkedActiveObject

HOW = sys.argv[4]

@spy_on
def waiting(chart, e):
    if e.signal_name == "GO":
        if HOW == "raise":
            raise ValueError("it cannot do that")
        if HOW == "exit":
            sys.exit(7)
        chart.stop()
        return return_status.HANDLED
    chart.temp.fun = chart.top
    return return_status.SUPER

chart = NetworkedActiveObject(
    "robot", sys.argv[2], sys.argv[3], b"A" * 43 + b"=",
    rabbit_host=sys.argv[1], rabbit_port=int(sys.argv[5]), addresses=[],
)
chart.start_at(waiting)
if HOW == "signal":
    import signal
    signal.signal(signal.SIGTERM, lambda *_: chart.stop())
print("started", flush=True)
if HOW != "signal":
    threading.Timer(0.1, lambda: chart.post_fifo(Event(signal="GO"))).start()
chart.wait()
print("over", flush=True)
"""


@pytest.mark.parametrize(
    ("how", "status", "said"),
    [
        ("raise", 1, "ValueError: it cannot do that"),
        ("exit", 7, ""),
        ("stop", 0, ""),
        ("signal", 0, ""),
    ],
)
def test_a_program_that_waits_ends_with_a_status_that_a_service_manager_knows(
    broker_a: LocalBroker, tmp_path: Path, how: str, status: int, said: str
) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM, encoding="utf-8")
    process = subprocess.Popen(
        [
            *(sys.executable, str(program), broker_a.host),
            *(broker_a.user, broker_a.password, how, str(broker_a.port)),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        if how == "signal":
            process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=scaled(25))
    finally:
        process.kill()
    assert process.returncode == status, err
    assert ("over" in out) == (status == 0)
    assert said in err
    # Once in the log, and once by the main program that it ends.
    assert err.count("Traceback") == (2 if how == "raise" else 0), err
