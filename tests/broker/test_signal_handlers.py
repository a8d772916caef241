"""Charts whose methods the handler of a signal calls, in the middle of anything."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet
from miros import Event

from miros_rabbitmq import (
    BackPressure,
    MirosApiException,
    NetworkedActiveObject,
    NetworkStopped,
    PikaTopicConsumer,
    PikaTopicPublisher,
)
from miros_rabbitmq.amqp.sender import Sender
from miros_rabbitmq.broker.local_broker import LocalBroker
from miros_rabbitmq.wire.codec import Codec
from miros_rabbitmq.wire.envelope import Envelope
from tests.helpers import scaled, wait_until
from tests.interrupting import Interruption

from .charts import Record, arguments_for, listening, make_active_object, running

KEY = Fernet.generate_key()


class Sent:
    """Transmits numbers, and knows which of them were sent before which."""

    def __init__(self, send: Callable[[int], object]) -> None:
        self.began: dict[int, int] = {}
        self.ended: dict[int, int] = {}
        self._send = send
        self._time = self._number = 0

    def one(self) -> None:
        self._number += 1
        number = self._number
        self._time += 1
        self.began[number] = self._time
        self._send(number)
        self._time += 1
        self.ended[number] = self._time

    def check(self, heard: list[int]) -> None:
        """Each that was sent is heard, once, and none before one that was sent earlier."""
        assert set(self.ended) <= set(heard)
        assert len(heard) == len(set(heard))
        latest = 0
        for number in heard:
            assert self.ended.get(number, latest) >= latest
            latest = max(latest, self.began[number])


@contextmanager
def two_charts(broker: LocalBroker) -> Iterator[tuple[NetworkedActiveObject, Sent, Record]]:
    """A chart that transmits, what it has sent, and what another has heard of it."""
    listener, record = make_active_object("listener", **arguments_for(broker, key=KEY))
    chart, _ = make_active_object("interrupted", **arguments_for(broker, key=KEY))
    with running(listener, chart):
        yield chart, Sent(lambda n: chart.transmit(Event(signal="N", payload=n))), record


def acts(chart: NetworkedActiveObject, sent: Sent) -> dict[str, Callable[[], object]]:
    """What a program and a handler do."""

    def look() -> None:
        assert chart.nets.stats().mesh.transmitted >= 0

    def toggle() -> None:
        chart.enable_snoop_trace()
        chart.disable_snoop_trace()

    return {
        "transmit": sent.one,
        "post": lambda: chart.post_fifo(Event(signal="POSTED")),
        "stats": look,
        "flush": lambda: chart.nets.flush(scaled(5)),
        "peers": lambda: chart.nets.wait_for_peers(0, scaled(5)),
        "scribble": lambda: chart.snoop_scribble("a remark"),
        "keys": lambda: chart.nets.change_mesh_encryption_key(KEY),
        "snoop": toggle,
    }


@pytest.mark.parametrize("interrupting", ["transmit", "post", "stats", "flush", "keys"])
@pytest.mark.parametrize("interrupted", ["transmit", "post", "stats", "flush"])
def test_a_handler_at_any_step_neither_hangs_nor_loses_nor_reorders(
    broker_a: LocalBroker, interrupted: str, interrupting: str
) -> None:
    stride = 7 if interrupted in ("stats", "flush") else 1  # these have thousands of steps
    with two_charts(broker_a) as (chart, sent, record):
        can = acts(chart, sent)
        step, longest_s = 0, 0.0
        while True:
            sent.one()
            one = Interruption(step, can[interrupting])
            began_s = time.monotonic()
            one.during(can[interrupted])
            longest_s = max(longest_s, time.monotonic() - began_s)
            sent.one()
            if not one.has_come:
                break
            step += stride
        assert step > 50
        assert longest_s < scaled(5)  # nobody has waited for a time limit
        assert chart.nets.flush(scaled(25))
        wait_until(lambda: set(sent.ended) <= set(record.payloads("N")), 10)
        sent.check(record.payloads("N"))


@pytest.mark.parametrize("interrupted", ["transmit", "post", "stats", "flush", "scribble", "snoop"])
def test_a_stop_from_a_handler_at_any_moment_ends_the_chart_and_sends_what_was_transmitted(
    broker_a: LocalBroker, interrupted: str, caplog: pytest.LogCaptureFixture
) -> None:
    listener, record = make_active_object("listener", **arguments_for(broker_a, key=KEY))
    chart, _ = make_active_object("interrupted", **arguments_for(broker_a, key=KEY))
    sent = Sent(lambda n: chart.transmit(Event(signal="N", payload=n)))
    draw = random.Random(interrupted)
    with running(listener):
        for _ in range(8):
            with running(chart):
                can = acts(chart, sent)
                sent.one()
                one = Interruption(draw.randrange(90), chart.stop)
                began_s = time.monotonic()
                try:
                    one.during(can[interrupted])
                except NetworkStopped:
                    assert interrupted == "transmit"
                assert one.has_come
                assert time.monotonic() - began_s < scaled(5), one.place
                wait_until(lambda: not chart.nets.is_running and not chart.thread.is_alive(), 10)
            wait_until(lambda: set(sent.ended) <= set(record.payloads("N")), 10)
    assert not [one for one in caplog.records if "left behind" in one.getMessage()]


def test_what_cannot_be_done_in_the_middle_says_so(broker_a: LocalBroker) -> None:
    chart, _ = make_active_object("interrupted", **arguments_for(broker_a, key=KEY))
    said: list[str] = []

    def handler() -> None:
        with pytest.raises(MirosApiException) as raised:
            chart.start_at(listening)
        said.append(str(raised.value))

    with running(chart):
        Interruption(20, handler).during(chart.nets.stats)
    assert len(said) == 1
    assert "let the handler set a flag" in said[0]


def test_a_handler_does_not_wait_for_room_in_the_middle_of_other_work(
    broker_a: LocalBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = {**arguments_for(broker_a, key=KEY), "transmit_timeout": scaled(10)}
    chart, _ = make_active_object("interrupted", **arguments)
    waited_s: list[float] = []

    def handler() -> None:
        began_s = time.monotonic()
        with monkeypatch.context() as patch:
            patch.setattr(Sender, "has_room", False)
            with pytest.raises(BackPressure):
                chart.transmit(Event(signal="N", payload=1))
        waited_s.append(time.monotonic() - began_s)

    with running(chart):
        Interruption(20, handler).during(chart.nets.stats)
    assert waited_s
    assert max(waited_s) < scaled(5)


# Python swallows an exception that comes in the middle of a callback of its garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_exceptions_out_of_a_handler_leave_nothing_broken(broker_a: LocalBroker) -> None:
    """As Python's own handler of SIGINT raises one. Real signals, at moments of their own."""

    class Interrupt(BaseException):
        pass

    def handler(*_: object) -> None:
        sent.one()
        raise Interrupt

    draw = random.Random(15)
    former = signal.signal(signal.SIGALRM, handler)
    try:
        with two_charts(broker_a) as (chart, sent, record):
            can = acts(chart, sent)
            for _ in range(300):
                try:
                    signal.setitimer(signal.ITIMER_REAL, draw.uniform(0.00001, 0.002))
                    is_due_s = time.monotonic() + 0.01
                    while time.monotonic() < is_due_s:
                        for name in ("transmit", "post", "stats", "transmit"):
                            can[name]()
                except Interrupt:
                    continue
            assert chart.nets.flush(scaled(25))
            sent.one()
            wait_until(lambda: set(sent.ended) <= set(record.payloads("N")), 20)
            sent.check(record.payloads("N"))
            began_s = time.monotonic()
            chart.stop()
            assert time.monotonic() - began_s < scaled(5)
    finally:
        signal.signal(signal.SIGALRM, former)


def test_a_standalone_publisher_takes_a_post_in_the_middle_of_a_post(
    broker_a: LocalBroker,
) -> None:
    heard: list[Envelope] = []
    codec = Codec(KEY)
    keywords: dict[str, Any] = {"codec": codec}
    url = broker_a.url()
    consumer = PikaTopicConsumer(url, "signals.test", "#", on_message=heard.append, **keywords)
    publisher = PikaTopicPublisher(url, "signals.test", "key", name="publisher", **keywords)
    for one in (consumer, publisher):
        one.start_thread()
        assert one.wait_until_ready(scaled(25))
    sent = Sent(publisher.post_fifo)
    try:
        step = 0
        while True:
            one_more = Interruption(step, sent.one)
            one_more.during(sent.one)
            if not one_more.has_come:
                break
            step += 1
        assert step > 50
        assert publisher.flush(scaled(25))
        wait_until(lambda: set(sent.ended) <= {each.body for each in heard}, 10)
        sent.check([each.body for each in heard])
    finally:
        publisher.stop_thread()
        consumer.stop_thread()


PROGRAM = """
import os, signal, sys
from miros import Event, return_status
from miros_rabbitmq import Limits, NetworkedActiveObject

host, port, user, password, key, folder = sys.argv[1:]
chart = NetworkedActiveObject(
    "program", user, password, key, rabbit_host=host, rabbit_port=int(port), addresses=[],
    limits=Limits(stop_timeout_s=20),  # for all that was transmitted, on a busy machine
)
signal.signal(signal.SIGTERM, lambda *_: (chart.stop(), sys.exit(0)))

def state(chart, e):
    chart.temp.fun = chart.top
    return return_status.SUPER

print("ready", flush=True)
chart.start_at(state)
number = 0
with open(folder, "wb", buffering=0) as ledger:
    while True:
        number += 1
        chart.post_fifo(Event(signal="POSTED"))
        chart.transmit(Event(signal="N", payload=number))
        ledger.write(b"%d\\n" % number)
"""


@pytest.mark.parametrize("shots", [1, 2])
def test_sigterm_at_any_moment_ends_a_program_with_all_that_it_has_transmitted(
    broker_a: LocalBroker, tmp_path: Path, shots: int
) -> None:
    """With two shots, the second comes while the program ends, and changes nothing."""
    draw = random.Random(shots)
    listener, record = make_active_object("listener", **arguments_for(broker_a, key=KEY))
    arguments = [broker_a.host, str(broker_a.port), broker_a.user, broker_a.password, KEY.decode()]
    with running(listener):
        for number in range(6):
            record.heard.clear()
            ledger = tmp_path / str(number)
            program = subprocess.Popen(
                [sys.executable, "-c", PROGRAM, *arguments, str(ledger)],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            assert program.stdout is not None
            assert program.stdout.readline() == "ready\n"
            if number % 3:  # otherwise in the middle of the start
                wait_until(lambda path=ledger: path.exists() and path.stat().st_size, 20)  # type: ignore[misc]
            time.sleep(draw.uniform(0, 0.1))
            program.terminate()
            if shots > 1:
                time.sleep(draw.uniform(0, 0.03))
                program.terminate()
            _, errors = program.communicate(timeout=scaled(30))
            if "Exception ignored in" in errors:
                continue  # the exit was swallowed: Python was calling some object's __del__
            # Python itself takes its handler away at the very end.
            assert program.returncode in ((0,) if shots == 1 else (0, -signal.SIGTERM)), errors
            # Where pika alone is asked for, each process says so.
            assert not [line for line in errors.splitlines() if "by pika alone" not in line]
            sent = [int(line) for line in ledger.read_text().split()] if ledger.exists() else []
            wait_until(lambda sent=sent: set(sent) <= set(record.payloads("N")), 10)  # type: ignore[misc]
            heard = record.payloads("N")
            assert heard == sorted(set(heard))
