"""Starts and stops of networks and snoops, and the end of a program, leave nothing behind."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet
from miros import Event, signals

from miros_rabbitmq import (
    Limits,
    LocalBroker,
    NetworkedActiveObject,
    NetworkStopped,
    SessionState,
)

from ..examples.terminal import on_terminal
from ..helpers import scaled, wait_until
from .charts import arguments_for, make_active_object, running

KEY = Fernet.generate_key()
ROOT = Path(__file__).parents[2]


def test_networks_started_and_stopped_from_several_threads_leave_nothing(
    broker_a: LocalBroker,
) -> None:
    chart, _ = make_active_object("restless", **arguments_for(broker_a, key=KEY))
    deadline_s = time.monotonic() + 2.0

    def meddle(seed: int) -> None:
        chance = random.Random(seed)
        while time.monotonic() < deadline_s:
            # Another thread may stop what this one starts.
            with contextlib.suppress(NetworkStopped):
                chance.choice([chart.nets.start, chart.nets.stop])()

    threads = [threading.Thread(target=meddle, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    chart.nets.stop()
    # The leak check counts what is left of it.


def test_a_second_stop_waits_for_the_first(broker_a: LocalBroker) -> None:
    chart, _ = make_active_object("twice", **arguments_for(broker_a, key=KEY))
    with running(chart):
        first = threading.Thread(target=chart.nets.stop)
        first.start()
        chart.nets.stop()
        assert chart.nets.stats().mesh.consumer is SessionState.STOPPED
        first.join()


def test_a_snoop_that_goes_off_and_on_is_heard_each_time(broker_a: LocalBroker) -> None:
    heard: list[str] = []
    watcher, _ = make_active_object(
        "watcher",
        **arguments_for(broker_a, key=KEY, on_spy_rx=lambda _sender, line: heard.append(line)),
    )
    sender, _ = make_active_object("sender", **arguments_for(broker_a, key=KEY))
    watcher.enable_snoop_spy()
    with running(watcher, sender):
        for count in (10, 5, 15):
            heard.clear()
            sender.enable_snoop_spy()
            wait_until(lambda: _spy_is_ready(sender))
            for number in range(count):
                sender.snoop_scribble(str(number))
            wait_for_lines(heard, count)
            sender.disable_snoop_spy()
        assert watcher.nets.stats().snoop_spy.duplicates == 0


def _spy_is_ready(chart: NetworkedActiveObject) -> bool:
    brokers = chart.nets.stats().snoop_spy.brokers.values()
    return bool(brokers) and all(one.state is SessionState.READY for one in brokers)


def wait_for_lines(heard: list[str], count: int) -> None:
    wait_until(lambda: len(heard) == count, message=lambda: f"{count}, not {heard}")


def test_disabling_a_snoop_waits_for_no_broker(broker_factory: Any) -> None:
    broker = broker_factory("127.0.0.6")
    limits = Limits(stop_timeout_s=60)
    chart, _ = make_active_object("calm", **arguments_for(broker, key=KEY, limits=limits))
    chart.enable_snoop_trace()
    with running(chart):
        broker.pause()
        try:
            began_s = time.monotonic()
            chart.disable_snoop_trace()
            chart.enable_snoop_spy()
            assert time.monotonic() - began_s < scaled(20)
        finally:
            broker.resume()


PROGRAMS = {
    "a scribble is the last thing": (
        """
        chart.snoop_scribble("last words")
        """,
        "# last words",
    ),
    "a chart that was forgotten in full swing": (
        """
        @spy_on
        def busy(chart, e):
            if e.signal == signals.AGAIN:
                chart.transmit(Event(signal=signals.NEWS))
                chart.post_fifo(Event(signal=signals.AGAIN))
                return return_status.HANDLED
            chart.temp.fun = chart.top
            return return_status.SUPER

        chart.start_at(busy)
        chart.post_fifo(Event(signal=signals.AGAIN))
        while chart.nets.stats().mesh.transmitted < 100:
            time.sleep(0.001)
        print("forgotten")
        """,
        "forgotten",
    ),
    "a forked child that scribbles": (
        """
        chart.snoop_scribble("parent")
        sys.stdout.flush()
        child = os.fork()
        if child == 0:
            chart.snoop_scribble("child")
            sys.exit()
        os.waitpid(child, 0)
        """,
        "# child",
    ),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_that_ends_without_stop_ends_cleanly(name: str, broker_a: LocalBroker) -> None:
    program, expected = PROGRAMS[name]
    arguments = arguments_for(broker_a, key=KEY)
    source = textwrap.dedent(
        f"""
            import os, sys, time
            from miros import Event, return_status, signals, spy_on
            from miros_rabbitmq import NetworkedActiveObject
            chart = NetworkedActiveObject("ending", **{arguments!r})
            """
    ) + textwrap.dedent(program)
    ended = subprocess.run(
        [sys.executable, "-c", source],
        capture_output=True,
        text=True,
        timeout=scaled(30),
        cwd=ROOT,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert "Traceback" not in ended.stderr
    assert expected in ended.stdout


def test_nodes_that_end_with_the_program_share_one_time_for_callbacks_that_do_not_return(
    broker_a: LocalBroker,
) -> None:
    may_return = threading.Event()
    entered = threading.Semaphore(0)

    def wait(_event: Event) -> None:
        entered.release()
        may_return.wait(scaled(60))

    limits = Limits(stop_timeout_s=1.5)
    arguments = arguments_for(broker_a, key=KEY, limits=limits, on_mesh_rx=wait)
    nodes = [NetworkedActiveObject(f"node {number}", **arguments).nets for number in range(5)]
    for nets in nodes:
        nets.start()
    try:
        for nets in nodes[:2]:
            nets.transmit(Event(signal=signals.NEWS))
        for _ in nodes:
            assert entered.acquire(timeout=scaled(25))
        began_s = time.monotonic()
        for nets in nodes:
            nets.node.ask_to_end()
        for nets in nodes:
            nets.node.end(began_s)
        took_s = time.monotonic() - began_s
    finally:
        may_return.set()
    assert took_s < scaled(6), "each would wait for itself, 7.5 s in all"
    assert not any(nets.is_running for nets in nodes)


IN_A_TERMINAL = """
import time
from miros import Event, return_status, signals, spy_on
from miros_rabbitmq import Limits, NetworkedActiveObject

@spy_on
def state(chart, e):
    if e.signal == signals.HANG:
        print("hangs", flush=True)
        time.sleep(600)
        return return_status.HANDLED
    chart.temp.fun = chart.top
    return return_status.SUPER

limits = Limits(stop_timeout_s=60, absent_after_s=60)
chart = NetworkedActiveObject("ending", limits=limits, **{arguments!r})
print("starts", flush=True)
chart.start_at(state)
input()
chart.transmit(Event(signal=signals.NEWS))
chart.post_fifo(Event(signal=signals.HANG))
time.sleep(600)
"""


def test_a_second_ctrl_c_ends_a_program_that_waits_for_its_broker_at_once(
    broker_factory: Any,
) -> None:
    broker = broker_factory("127.0.0.6")
    source = IN_A_TERMINAL.replace("{arguments!r}", repr(arguments_for(broker, key=KEY)))
    with on_terminal([sys.executable, "-c", source], os.environ, ROOT) as program:
        program.read_until("starts")
        wait_until(lambda: len(broker.ctl("list_queues").splitlines()) == 1)
        broker.pause()
        try:
            program.press(b"\n")
            program.read_until("hangs")
            program.press(b"\x03")
            program.read_until("KeyboardInterrupt")
            # From here on, Python ends the program, which would wait for confirms for a minute.
            with pytest.raises(subprocess.TimeoutExpired):
                program.process.wait(scaled(2))
            program.press(b"\x03")
            program.read_until(None)
            assert program.process.wait(scaled(25)) == -signal.SIGINT
        finally:
            broker.resume()
    said = program.output.partition("KeyboardInterrupt")[2]
    assert "Traceback" not in said
    assert "Exception ignored" not in said
    assert "ending: 1 event was not confirmed by 127.0.0.6:" in said


@pytest.mark.parametrize("moment", range(4))
def test_ctrl_c_while_a_chart_starts_ends_the_program_with_its_traceback_alone(
    moment: int, broker_a: LocalBroker
) -> None:
    """At the own broker that is there, and at one that does not answer."""
    arguments = arguments_for(broker_a, key=KEY)
    if moment % 2:
        arguments.update(rabbit_host="127.0.0.9", rabbit_port=1)
    source = IN_A_TERMINAL.replace("{arguments!r}", repr(arguments))
    with on_terminal([sys.executable, "-c", source], os.environ, ROOT) as program:
        program.read_until("starts")
        time.sleep(random.Random(moment).uniform(0, 0.1))
        program.press(b"\x03")
        program.read_until(None)
        assert program.process.wait(scaled(25)) == -signal.SIGINT
    assert program.output.count("Traceback (most recent call last)") == 1, program.output
    assert program.output.rstrip().endswith("KeyboardInterrupt")
