"""What a snoop shows and sends of the lines of its chart and of others, and how much may wait."""

from __future__ import annotations

import base64
import io
import logging
import sys
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from miros_rabbitmq import Limits, MirosNets
from miros_rabbitmq.amqp.envelopes import Admission, EnvelopeTaker
from miros_rabbitmq.amqp.receiver import Outcome
from miros_rabbitmq.amqp.sinks import DirectSink, WorkerSink
from miros_rabbitmq.exceptions import RejectReason
from miros_rabbitmq.logs import MustNotWait, RelayedLogger, write_all
from miros_rabbitmq.nets.failing import Failures
from miros_rabbitmq.nets.lines import PLAIN
from miros_rabbitmq.nets.snoops import Snoops
from miros_rabbitmq.nets.teller import Teller, Telling
from miros_rabbitmq.nets.terminal import SnoopTerminal
from miros_rabbitmq.nets.topic import Reactors
from miros_rabbitmq.wire.codec import Codec
from miros_rabbitmq.wire.envelope import MOST_LINE, SNOOP_SPY, Envelope
from miros_rabbitmq.wire.json_codec import json_deserializer, json_serializer

from ...helpers import scaled, wait_until
from ...wire import Peer

KEY = base64.urlsafe_b64encode(bytes(range(32)))
SPY_KEY = "snoop.spy"
MIB = 1024 * 1024


class Shown(SnoopTerminal):
    """Keeps what it should write."""

    def __init__(self) -> None:
        super().__init__("shown")
        self.lines: list[str] = []

    def write(self, line: Callable[[Any], str], *, colour: bool = True, size: int = 0) -> None:
        self.lines.append(line(PLAIN))


class Listener:
    name = "listener"

    def post_fifo(self, event: Any) -> None:
        raise AssertionError


def snoops_on(terminal: SnoopTerminal, teller: Teller | None = None) -> Snoops:
    settings = MirosNets(Listener(), "user", "password", KEY, addresses=["127.0.0.2"]).settings
    failures = Failures("listener", "stop", lambda _: None, lambda: None)
    reactors = Reactors.of("listener")
    return Snoops(settings, "listener", reactors, terminal, teller or Teller("listener"), failures)


def envelope(text: str, number: int = 1) -> Envelope:
    return Envelope(SNOOP_SPY, SPY_KEY, "b", bytes(16), number, 0, text)


# How long a line may be.


def told(text: str) -> str:
    """A line of a chart as it is shown there, and sent."""
    shown = Shown()
    spy = snoops_on(shown).spy
    spy.tell_now(Telling(spy, None, lambda: (text,), colour=False))
    return shown.lines[0].removeprefix(" [+s] listener ")


def test_a_line_that_is_very_long_is_cut_with_a_mark_where_it_comes_from() -> None:
    assert told("short") == "short"
    assert told("x" * MOST_LINE) == "x" * MOST_LINE
    for size in (MOST_LINE + 1, 100_000, 2_000_000):
        line = told("x" * size)
        assert len(line) == MOST_LINE
        assert line.endswith(f" ... ({size - MOST_LINE:,} characters more)")


def test_a_secret_in_a_line_is_masked_before_the_line_is_cut() -> None:
    line = told("x" * (MOST_LINE - 40) + " password " + "y" * 500)
    assert "passw" not in line


def test_half_of_a_surrogate_pair_is_replaced_in_a_line_where_it_comes_from() -> None:
    assert told("a file called \udcff") == "a file called ?"


@pytest.mark.parametrize(
    "codec",
    [Codec(KEY), Codec(KEY, serializer=json_serializer, deserializer=json_deserializer)],
    ids=["pickle", "JSON"],
)
def test_a_longer_line_of_others_is_refused_and_counted(codec: Codec) -> None:
    lines: list[str] = []
    sink = DirectSink("lines", lambda one: lines.append(one.body))
    admission = Admission(bindings=[SPY_KEY])
    taker = EnvelopeTaker("tested", SNOOP_SPY, codec, sink, Limits(), admission)
    peer = Peer(codec, SNOOP_SPY)
    longest = ["x" * MOST_LINE, "🤖" * MOST_LINE, "\x01\n" * (MOST_LINE // 2)]
    for text in longest:
        assert taker.take(peer.delivery(text, routing_key=SPY_KEY)) is Outcome.HANDLED
    assert lines == longest
    for size in (MOST_LINE + 1, 20_000, 100_000, 900_000):
        message = peer.delivery("before", "x" * size, "behind", routing_key=SPY_KEY)
        assert taker.take(message) is Outcome.HANDLED
    assert lines[3:] == ["before", "behind"] * 4
    assert taker.rejected == {RejectReason.MALFORMED: 2, RejectReason.OVERSIZE: 2}
    assert taker.gaps == 0


# How much of them may wait.


class Stalled(io.StringIO):
    """A terminal that nobody reads, until it is released."""

    def __init__(self) -> None:
        super().__init__()
        self.began = threading.Event()
        self.released = threading.Event()

    def write(self, text: str) -> int:
        self.began.set()
        assert self.released.wait(scaled(60))
        return len(text)


@contextmanager
def growing_at_most(mib: float) -> Iterator[None]:
    """See how much memory is held in the end that was not before."""
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        yield
        grown = (tracemalloc.get_traced_memory()[0] - before) / MIB
    finally:
        tracemalloc.stop()
    assert grown < mib


SIZES = [0, 100, MOST_LINE, 700_000]
MOST_MIB = 30


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("letter", ["x", "🤖"])
def test_lines_that_wait_for_a_terminal_are_bounded_in_bytes(
    size: int, letter: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stalled = Stalled()
    monkeypatch.setattr(sys, "stdout", stalled)
    terminal = SnoopTerminal("tested")
    snoops = snoops_on(terminal)
    count = 12_000 if size < MOST_LINE else 2 * 10**8 // (size * len(letter.encode()))
    with growing_at_most(MOST_MIB):
        for number in range(count):
            if size <= MOST_LINE:  # longer ones never come from others
                snoops.spy.sink.put(envelope(letter * size, number), None)
            text = letter * size
            snoops.spy.tell_now(Telling(snoops.spy, None, text.splitlines, colour=False))
        snoops.scribble(letter * size, colour=False)
    stalled.released.set()
    terminal.stop(scaled(60))


@pytest.mark.parametrize("size", SIZES)
def test_lines_that_wait_for_the_teller_are_bounded_in_bytes_and_counted(size: int) -> None:
    may_go_on = threading.Event()
    shown = Shown()
    teller = Teller("tested")
    snoops = snoops_on(shown, teller)
    snoops.spy.enable(colour=False)

    is_telling = threading.Event()

    def wait() -> list[str]:
        is_telling.set()
        assert may_go_on.wait(scaled(60))
        return []

    snoops.spy.tell(wait)
    assert is_telling.wait(scaled(20))
    count = 6_000 if size < MOST_LINE else 10**8 // size
    with growing_at_most(MOST_MIB):
        for _ in range(count):
            snoops.tell_spy(["x" * size])
            snoops.scribble("y" * size, colour=False)
    dropped = 2 * count + 1 - teller.unhandled
    may_go_on.set()
    assert teller.drain(scaled(60))
    teller.stop(scaled(10))
    assert dropped > 0
    assert len(shown.lines) == 2 * count - dropped


@pytest.mark.parametrize("size", SIZES)
def test_lines_of_the_log_that_wait_for_a_handler_are_bounded_in_bytes(size: int) -> None:
    may_go_on = threading.Event()
    written: list[int] = []

    class Slow(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            assert may_go_on.wait(scaled(60))
            written.append(len(record.getMessage()))

    name = "miros_rabbitmq.tests.bounds"
    plain = logging.getLogger(name)
    plain.addHandler(handler := Slow())
    plain.propagate = False
    logger = RelayedLogger(name)

    def log() -> None:
        for number in range(3_000 if size < MOST_LINE else 10**8 // size):
            try:
                raise ValueError("x" * size)
            except ValueError as error:
                if number % 2:
                    logger.warning("%s", error)
                else:
                    logger.exception("%s", "y" * size)

    try:
        with growing_at_most(MOST_MIB):
            thread = MustNotWait(target=log)
            thread.start()
            thread.join(scaled(60))
        may_go_on.set()
        assert write_all(scaled(60))
        assert written
    finally:
        may_go_on.set()
        plain.removeHandler(handler)
        plain.propagate = True


EMPTY_DEQUES = b"\x80\x03](ccollections\ndeque\nq\x00)R" + b"h\x00)R" * 230 + b"e."
EMPTY_MAPPINGS = b"\x80\x03](" + b"}" * 980 + b"e."


@pytest.mark.parametrize(
    "body",
    [EMPTY_DEQUES, EMPTY_MAPPINGS, None, b""],
    ids=["empty deques", "empty mappings", "large", "small"],
)
def test_what_waits_for_a_callback_is_bounded_in_bytes(body: bytes | None) -> None:
    """Whether it comes in many small events or in few large ones."""
    may_go_on = threading.Event()
    sink = WorkerSink("tested", lambda _: may_go_on.wait(scaled(60)))
    codec = Codec(KEY, serializer=lambda value: value, deserializer=Codec(KEY).deserialize)
    taker = EnvelopeTaker("tested", "net", codec, sink, Limits(), Admission(bindings=["#"]))
    if body is None:
        body = Codec(KEY).serialize([b"x" * 700_000])
    peer = Peer(codec, "net")
    body = body or Codec(KEY).serialize({"a": [1.5, "text"]})
    per_message = 500 if len(body) < 2_000 else 1
    with growing_at_most(60):
        for _ in range(40):
            delivery = peer.delivery(*[body] * per_message)
            if taker.take(delivery) is Outcome.NO_ROOM:
                break
        else:
            raise AssertionError("there is always room")
        del delivery
    may_go_on.set()
    wait_until(lambda: sink.waiting() == 0, 60)
    sink.stop(scaled(10))


def test_made_up_names_of_senders_count_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name has up to 1 KB, and a key holder can make up another one for each line."""
    stalled = Stalled()
    monkeypatch.setattr(sys, "stdout", stalled)
    terminal = SnoopTerminal("tested")
    snoops = snoops_on(terminal)
    snoops.spy.sink.put(envelope("it waits for the terminal with this one"), None)
    assert stalled.began.wait(scaled(60))
    with growing_at_most(5):
        for number in range(5_000):
            name = f"{number:06d}" + "🤖" * 249
            snoops.spy.sink.put(envelope("")._replace(sender=name), None)
    stalled.released.set()
    terminal.stop(scaled(60))


def test_a_callback_gets_no_line_that_does_more_than_be_read() -> None:
    """It may print it, or log it."""
    taken: list[tuple[str, str]] = []
    settings = MirosNets(
        Listener(),
        "user",
        "password",
        KEY,
        addresses=["127.0.0.2"],
        on_spy_rx=lambda name, line: taken.append((name, line)),
    ).settings
    failures = Failures("listener", "stop", lambda _: None, lambda: None)
    reactors = Reactors.of("listener")
    shown = Shown()
    snoops = Snoops(settings, "listener", reactors, shown, Teller("listener"), failures)
    sink = snoops.spy.sink
    assert isinstance(sink, WorkerSink)
    sink.put(envelope("\x1b[2Jforged\nWARNING: \u202egone"), None)
    sink.stop(scaled(60))
    assert taken == [("b", " [2Jforged WARNING:  gone")]
