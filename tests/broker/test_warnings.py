"""Mistakes that make a system silent are said: once each, and never without cause."""

from __future__ import annotations

import logging
import math
import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet
from miros import Event, return_status, spy_on

from miros_rabbitmq import Limits, LocalBroker, NetworkedActiveObject
from miros_rabbitmq.nets.audience import UNHEARD_S
from miros_rabbitmq.problems import DeliveryProblem, ProblemKind

from ..helpers import scaled, wait_until
from .charts import arguments_for, make_active_object, make_factory, running
from .victim import victim

KEY = Fernet.generate_key()


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [one.getMessage() for one in caplog.records if one.levelno >= logging.WARNING]


def about(caplog: pytest.LogCaptureFixture, words: str) -> list[str]:
    return [text for text in warnings_of(caplog) if words in text]


@spy_on
def decorated(chart: Any, e: Event) -> Any:
    chart.temp.fun = chart.top
    return return_status.SUPER


def bare(chart: Any, e: Event) -> Any:
    chart.temp.fun = chart.top
    return return_status.SUPER


def test_two_charts_of_one_name_are_said_once(
    broker_a: LocalBroker, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[DeliveryProblem] = []
    arguments = arguments_for(broker_a, key=KEY, on_delivery_problem=told.append)
    charts = [make_active_object("a twin", **arguments)[0] for _ in range(2)]
    with running(*charts):
        wait_until(lambda: len(told) == 2, 20)
        for chart in charts:
            chart.transmit(Event(signal="X"))
            assert chart.nets.flush(scaled(25))
    assert [(one.kind, one.subject) for one in told] == [(ProblemKind.SAME_NAME, "a twin")] * 2
    assert len(about(caplog, "another chart of this name")) == 1


def test_a_chart_that_is_started_again_has_no_namesake(
    broker_a: LocalBroker, caplog: pytest.LogCaptureFixture
) -> None:
    other, _ = make_active_object("other", **arguments_for(broker_a, key=KEY))
    with running(other):
        for _ in range(2):
            again, _ = make_active_object("again", **arguments_for(broker_a, key=KEY))
            for _ in range(2):
                with running(again):
                    again.transmit(Event(signal="X"))
                    assert again.nets.flush(scaled(25))
    assert not warnings_of(caplog)


@pytest.mark.parametrize("kind", ["trace", "spy"])
def test_a_state_without_spy_on_is_said_once_while_a_snoop_is_on(
    broker_a: LocalBroker, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    with NetworkedActiveObject("bare", **arguments_for(broker_a, key=KEY)) as chart:
        chart.start_at(bare)
        chart.post_fifo(Event(signal="X"))
        wait_until(lambda: not len(chart.queue))
        assert not warnings_of(caplog)
        getattr(chart, f"enable_snoop_{kind}")()
        for _ in range(3):
            chart.post_fifo(Event(signal="X"))
        wait_until(lambda: len(about(caplog, "the state function bare is not decorated")) == 1)
    assert len(warnings_of(caplog)) == 1


def test_charts_in_order_say_nothing_while_snoops_are_on(
    broker_a: LocalBroker, caplog: pytest.LogCaptureFixture
) -> None:
    flat, heard = make_active_object("flat", **arguments_for(broker_a, key=KEY))
    factory, heard_too = make_factory("factory", ["PING"], **arguments_for(broker_a, key=KEY))
    for chart in (flat, factory):
        chart.enable_snoop_trace()
        chart.enable_snoop_spy()
    with running(flat, factory):
        flat.transmit(Event(signal="PING"))
        factory.transmit(Event(signal="PONG"))
        heard.wait_for(1)
        heard_too.wait_for(1)
    assert not warnings_of(caplog)


@pytest.mark.parametrize("hears_itself", [True, False])
def test_a_routing_key_that_nobody_listens_to_is_said_until_somebody_does(
    broker_a: LocalBroker,
    broker_b: LocalBroker,
    caplog: pytest.LogCaptureFixture,
    *,
    hears_itself: bool,
) -> None:
    """Also if the chart's own queue gets the events, which then are never returned."""
    told: list[DeliveryProblem] = []
    chart, _ = make_active_object(
        "wrong",
        **arguments_for(broker_a, broker_b, key=KEY),
        tx_routing_key="kichen.fan",
        rx_routing_key="kichen.#" if hears_itself else "kitchen.#",
        on_delivery_problem=told.append,
    )
    other, _ = make_active_object(
        "other", **arguments_for(broker_b, broker_a, key=KEY), tx_routing_key="kitchen.lamp"
    )
    neighbour, _ = make_active_object("n", **arguments_for(broker_a, broker_b, key=KEY))

    def said(*, is_over: bool) -> bool:
        chart.transmit(Event(signal="X"))
        return any(one.kind is ProblemKind.UNHEARD and one.is_over is is_over for one in told)

    with running(chart, other, neighbour, peers=1):
        wait_until(lambda: said(is_over=False), 20)
        listener, heard = make_active_object(
            "listener", **arguments_for(broker_b, broker_a, key=KEY), rx_routing_key="kichen.*"
        )
        with running(listener, peers=1):
            wait_until(lambda: said(is_over=True), 20)
            heard.wait_for(1)
    lines = about(caplog, "'kichen.fan'")
    assert ["nobody listens" in line for line in lines] == [True, False]
    assert "Compare its tx_routing_key with the rx_routing_key" in lines[0]


@pytest.mark.parametrize("is_listener_first", [True, False])
def test_a_listener_in_another_process_at_the_own_broker_is_known(
    broker_a: LocalBroker, *, is_listener_first: bool
) -> None:
    """The chart's own queue gets its events, too, so that the broker says nothing."""
    told: list[DeliveryProblem] = []
    limits = Limits(announce_s=60.0)  # nobody announces itself for its own sake
    chart, _ = make_active_object(
        "asks",
        **arguments_for(broker_a, key=KEY, limits=limits),
        tx_routing_key="kitchen.fan",
        on_delivery_problem=told.append,
    )
    deaf = arguments_for(broker_a, key=KEY, limits=limits, rx_routing_key="bath.*")
    hearing = arguments_for(broker_a, key=KEY, limits=limits, rx_routing_key="kitchen.*")

    def said() -> list[bool]:
        chart.transmit(Event(signal="X"))
        return [one.is_over for one in told if one.kind is ProblemKind.UNHEARD]

    with victim("deaf", deaf):
        if is_listener_first:
            with victim("listener", hearing), running(chart):
                # Forget what it was told at the start: it has to ask.
                notices = chart.nets.node.mesh._notices
                assert notices is not None
                notices._neighbours._listener_heard_s = -math.inf
                until_s = time.monotonic() + UNHEARD_S + 1.0
                while time.monotonic() < until_s:
                    assert not said()
                    time.sleep(0.1)
                assert notices.neighbours_listen()
        else:
            with running(chart):
                wait_until(lambda: said() == [False], 20)
                with victim("listener", hearing):
                    wait_until(lambda: said() == [False, True], 20)


def test_the_first_chart_of_a_system_is_not_told_that_nobody_listens(
    broker_a: LocalBroker, caplog: pytest.LogCaptureFixture
) -> None:
    """With the default key; the others come later."""
    chart, _ = make_active_object("first", **arguments_for(broker_a, key=KEY))

    def has_rested() -> bool:
        watch = chart.nets.node.mesh._broker_watch
        return watch is not None and not watch.is_on

    with running(chart):
        chart.transmit(Event(signal="X"))
        wait_until(has_rested, 20)
    assert not warnings_of(caplog)


PROGRAM = """
    import logging, sys
    from cryptography.fernet import Fernet
    from miros import ActiveObject, return_status, spy_on
    from miros_rabbitmq import BrokerError, NetworkedActiveObject

    @spy_on
    def only(chart, e):
        chart.temp.fun = chart.top
        return return_status.SUPER

    chart = NetworkedActiveObject(
        "idle", "robot", "rabbit", Fernet.generate_key(),
        rabbit_host="127.0.0.99", addresses=[], start_timeout=0.1,
    )
"""


@pytest.mark.parametrize(
    ("rest", "is_said"),
    [
        ("", True),
        ("sys.exit(0)", True),
        ("chart.start_at(only); logging.disable()", False),
        ("chart.start_at(only); logging.disable(); chart.stop()", False),
        ("del chart; import gc; gc.collect()", False),
        ("raise ValueError('said already')", False),
    ],
)
def test_a_program_that_ends_before_it_started_its_chart_says_so(
    rest: str, *, is_said: bool
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(PROGRAM) + rest],
        capture_output=True,
        text=True,
        timeout=scaled(60),
        check=False,
    )
    assert done.stderr.count("the chart idle was made and never started") == is_said, done.stderr


def test_a_program_that_ends_while_its_chart_starts_says_so() -> None:
    rest = """
entered = threading.Event()
def slow(chart, e):
    entered.set()
    time.sleep(100)
threading.Thread(target=chart.start_at, args=(slow,), daemon=True).start()
entered.wait()
"""
    done = subprocess.run(
        [sys.executable, "-c", "import threading, time\n" + textwrap.dedent(PROGRAM) + rest],
        capture_output=True,
        text=True,
        timeout=scaled(60),
        check=False,
    )
    assert done.stderr.count("the chart idle is still starting") == 1, done.stderr


def test_a_child_that_imports_the_main_program_again_says_nothing(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    rest = """
    if __name__ == "__main__":
        child = multiprocessing.get_context("spawn").Process(target=print, args=("in the child",))
        child.start()
        child.join()
    """
    program.write_text("import multiprocessing\n" + textwrap.dedent(PROGRAM + rest))
    done = subprocess.run(
        [sys.executable, str(program)],
        capture_output=True,
        text=True,
        timeout=scaled(60),
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert "in the child" in done.stdout
    assert done.stderr.count("the chart idle was made and never started") == 1, done.stderr
