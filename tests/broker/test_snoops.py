"""The snoops: live lines of every chart that has them enabled, and of no other."""

from __future__ import annotations

import io
import itertools
import re
import threading
from collections.abc import Iterator
from contextlib import redirect_stdout
from typing import Any

import pytest
from cryptography.fernet import Fernet
from miros import Event, return_status, signals, spy_on

from miros_rabbitmq import LocalBroker, NetworkedActiveObject
from miros_rabbitmq.nets.stats import DropReason

from ..helpers import wait_until
from .charts import arguments_for, running, traced

KEY = Fernet.generate_key()

BLUE, PURPLE, GREY, RESET = "\x1b[34m", "\x1b[35m", "\x1b[90m", "\x1b[0m"


class Terminal(io.StringIO):
    """A standard output that claims to be a terminal, or not to be one."""

    def __init__(self, is_terminal: bool) -> None:
        super().__init__()
        self._is_terminal = is_terminal

    def isatty(self) -> bool:
        return self._is_terminal

    @property
    def lines(self) -> list[str]:
        return self.getvalue().splitlines()


@pytest.fixture
def no_wishes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.delenv("FORCE_COLOR", raising=False)


@pytest.fixture
def colour_terminal(no_wishes: None) -> Terminal:
    return Terminal(is_terminal=True)


@pytest.fixture
def plain_output(no_wishes: None) -> Terminal:
    return Terminal(is_terminal=False)


@spy_on
def left(chart: Any, e: Event) -> Any:
    if e.signal == signals.SWITCH:
        return chart.trans(right)
    chart.temp.fun = chart.top
    return return_status.SUPER


@spy_on
def right(chart: Any, e: Event) -> Any:
    if e.signal == signals.SWITCH:
        return chart.trans(left)
    chart.temp.fun = chart.top
    return return_status.SUPER


def make(name: str, own: LocalBroker, *others: LocalBroker, **extras: Any) -> NetworkedActiveObject:
    return NetworkedActiveObject(name, **arguments_for(own, *others, key=KEY, **extras))


def test_lines_have_exactly_these_forms_in_colour(
    broker_a: LocalBroker, broker_b: LocalBroker, colour_terminal: Terminal
) -> None:
    watcher, other = make("watcher", broker_a, broker_b), make("other", broker_b, broker_a)
    # The other chart shows nothing: its output would mix with that of the watcher.
    other.nets.node.terminal.write = lambda *_, **__: None  # type: ignore[method-assign]
    for chart in (watcher, other):
        chart.enable_snoop_trace()
        chart.enable_snoop_spy()
    with redirect_stdout(colour_terminal), running(watcher, other, state=left, peers=1):
        wait_for_snoops(watcher, other)
        watcher.post_fifo(Event(signal=signals.SWITCH))
        other.post_fifo(Event(signal=signals.SWITCH))
        other.snoop_scribble("how about that")
        watcher.snoop_scribble("plainly", enable_color=False)
        stamp = r"\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6}\]"
        own, others = re.escape(f"{BLUE}watcher{RESET}"), re.escape(f"{PURPLE}other{RESET}")
        grey = re.escape(f"# {GREY}how about that{RESET}")
        for pattern in (
            rf" \[\+t\] {stamp} \[{own}\] e->start_at\(\) top->left",
            rf" \[\+t\] {stamp} \[{own}\] e->SWITCH\(\) left->right",
            rf" \[\+t\] {stamp} \[{others}\] e->SWITCH\(\) left->right",
            rf" \[\+s\] {own} ENTRY_SIGNAL:right",
            rf" \[\+s\] {others} ENTRY_SIGNAL:right",
            rf" \[\+t\] {stamp} \[{others}\] {grey}",
            rf" \[\+s\] {others} {grey}",
            rf" \[\+t\] {stamp} \[watcher\] # plainly",
            r" \[\+s\] watcher # plainly",
        ):
            wait_for_line(pattern, colour_terminal)


def wait_for_line(pattern: str, terminal: Terminal) -> None:
    wait_until(
        lambda: any(re.fullmatch(pattern, line) for line in terminal.lines),
        message=lambda: f"{pattern}\n{terminal.getvalue()}",
    )


def wait_for_snoops(*charts: NetworkedActiveObject) -> None:
    """Wait until every chart's enabled snoops are connected to every broker."""
    for chart in charts:
        stats = chart.nets.stats()
        for pick in [s for s in ("snoop_trace", "snoop_spy") if getattr(stats, s).enabled]:

            def connected(chart: NetworkedActiveObject = chart, pick: str = pick) -> bool:
                network = getattr(chart.nets.stats(), pick)
                states = [network.consumer, *(one.state for one in network.brokers.values())]
                return all(state.value == "ready" for state in states)

            wait_until(connected)


@pytest.mark.parametrize("how", ["no terminal", "NO_COLOR", "no_color methods"])
def test_lines_are_plain(
    how: str,
    broker_a: LocalBroker,
    monkeypatch: pytest.MonkeyPatch,
    no_wishes: None,
) -> None:
    output = Terminal(is_terminal=how != "no terminal")
    if how == "NO_COLOR":
        monkeypatch.setenv("NO_COLOR", "1")
    chart = make("plain", broker_a)
    if how == "no_color methods":
        chart.enable_snoop_trace_no_color()
        chart.enable_snoop_spy_no_color()
    else:
        chart.enable_snoop_trace()
        chart.enable_snoop_spy()
    with redirect_stdout(output), running(chart, state=left):
        chart.snoop_scribble("a remark")
        wait_until(lambda: " [+s] plain # a remark" in output.lines)
    assert "\x1b" not in output.getvalue()
    assert any(line.endswith("[plain] e->start_at() top->left") for line in output.lines)
    assert " [+s] plain ENTRY_SIGNAL:left" in output.lines


def test_a_scribble_goes_only_to_the_terminal_when_no_snoop_is_enabled(
    broker_a: LocalBroker, colour_terminal: Terminal
) -> None:
    chart = make("lonely", broker_a)
    with redirect_stdout(colour_terminal), running(chart, state=left):
        chart.snoop_scribble("nobody hears")
        wait_until(lambda: colour_terminal.lines == [f"# {GREY}nobody hears{RESET}"])


def test_own_lines_are_written_without_a_broker(plain_output: Terminal) -> None:
    chart = NetworkedActiveObject(
        "alone",
        "nobody",
        "nothing",
        KEY,
        rabbit_host="127.0.0.77",
        rabbit_port=1,
        addresses=["127.0.0.77"],
        start_timeout=0.1,
    )
    chart.enable_snoop_trace()
    with redirect_stdout(plain_output), running(chart, state=left):
        chart.post_fifo(Event(signal=signals.SWITCH))
        wait_until(lambda: any("SWITCH" in line for line in plain_output.lines))


COMBINATIONS = list(itertools.product([False, True], repeat=2))


@pytest.fixture
def pair(
    broker_a: LocalBroker, plain_output: Terminal
) -> Iterator[tuple[NetworkedActiveObject, NetworkedActiveObject, list[tuple[str, str, str]]]]:
    """A sender and a watcher, and what the watcher heard: (network, sender, line)."""
    heard: list[tuple[str, str, str]] = []
    watcher = make(
        "watcher",
        broker_a,
        on_trace_rx=lambda sender, line: heard.append(("trace", sender, line)),
        on_spy_rx=lambda sender, line: heard.append(("spy", sender, line)),
    )
    sender = make("sender", broker_a)
    with redirect_stdout(plain_output), running(watcher, sender, state=left):
        yield sender, watcher, heard


def set_snoops(chart: NetworkedActiveObject, trace: bool, spy: bool) -> None:
    (chart.enable_snoop_trace if trace else chart.disable_snoop_trace)()
    (chart.enable_snoop_spy if spy else chart.disable_snoop_spy)()


def switch_and_wait(chart: NetworkedActiveObject) -> None:
    before = traced(chart).count("SWITCH")
    chart.post_fifo(Event(signal=signals.SWITCH))
    wait_until(lambda: traced(chart).count("SWITCH") == before + 1)


def wait_for_word(word: str, heard: list[tuple[str, str, str]]) -> None:
    wait_until(
        lambda: any(word in line for _, _, line in heard), message=lambda: f"{word} in {heard}"
    )


def test_each_snoop_goes_on_and_off_in_every_combination(
    pair: tuple[NetworkedActiveObject, NetworkedActiveObject, list[tuple[str, str, str]]],
) -> None:
    sender, watcher, heard = pair
    for sending, watching in itertools.product(COMBINATIONS, COMBINATIONS):
        set_snoops(watcher, *watching)
        set_snoops(sender, *sending)
        wait_for_snoops(sender, watcher)
        heard.clear()
        switch_and_wait(sender)
        expected = {
            network
            for network, sends, watches in zip(("trace", "spy"), sending, watching, strict=True)
            if sends and watches
        }
        # The last line of each network: a line that should not come would be here before it.
        if "trace" in expected:
            wait_for_word("->SWITCH()", heard)
        if "spy" in expected:
            wait_for_word("Queued", heard)
        assert {network for network, _, _ in heard} == expected, (sending, watching)
        assert {name for _, name, _ in heard} <= {"sender"}


def test_a_snoop_with_another_key_is_not_understood(
    broker_a: LocalBroker, plain_output: Terminal
) -> None:
    spies_key = Fernet.generate_key()
    one = make("one", broker_a, snoop_spy_encryption_key=spies_key)
    two = make("two", broker_a)
    for chart in (one, two):
        chart.enable_snoop_trace()
        chart.enable_snoop_spy()
    with redirect_stdout(plain_output), running(one, two, state=left):
        wait_for_snoops(one, two)
        one.post_fifo(Event(signal=signals.SWITCH))
        wait_until(lambda: two.nets.stats().snoop_trace.received > 0)
        wait_until(lambda: sum(two.nets.stats().snoop_spy.rejected.values()) > 0)
        assert two.nets.stats().snoop_spy.received == 0


def test_lines_of_others_cannot_move_the_cursor_or_start_a_line(
    broker_a: LocalBroker, plain_output: Terminal
) -> None:
    one, two = make("one", broker_a), make("two", broker_a)
    for chart in (one, two):
        chart.enable_snoop_spy()
    with redirect_stdout(plain_output), running(one, two, state=left):
        wait_for_snoops(one, two)
        one.nets.snoops.tell_spy(["bad\x1b[2J\nforged line"])
        wait_until(lambda: plain_output.lines.count(" [+s] one bad [2J forged line") == 2)


def test_a_snoop_that_is_enabled_before_start_at_shows_the_first_line(
    broker_a: LocalBroker, plain_output: Terminal
) -> None:
    watcher, early = make("watcher", broker_a), make("early", broker_a)
    watcher.enable_snoop_trace()
    early.enable_snoop_trace()
    with redirect_stdout(plain_output), running(watcher, early, state=left):
        wait_until(
            lambda: (
                sum(line.endswith("[early] e->start_at() top->left") for line in plain_output.lines)
                == 2
            )
        )


def test_dropped_lines_are_counted_until_the_snoop_is_enabled_again(
    broker_a: LocalBroker, plain_output: Terminal
) -> None:
    chart = make("busy", broker_a)
    chart.enable_snoop_trace()
    held, go_on = threading.Event(), threading.Event()
    with redirect_stdout(plain_output), running(chart, state=left):
        trace = chart.nets.snoops.trace

        def hold() -> list[str]:
            held.set()
            go_on.wait(60)
            return []

        trace.tell(hold)
        assert held.wait(30)
        for _ in range(6_000):
            trace.tell(hold)
        lost = trace.stats().dropped[DropReason.CONNECTION]
        go_on.set()
        assert lost >= 1_000
        chart.disable_snoop_trace()
        assert trace.stats().dropped[DropReason.CONNECTION] == lost
        chart.enable_snoop_trace()
        assert trace.stats().dropped[DropReason.CONNECTION] == 0


def test_a_scribble_shows_no_password_to_anybody(
    broker_a: LocalBroker, plain_output: Terminal
) -> None:
    lines: list[str] = []
    watcher = make("watcher", broker_a, on_trace_rx=lambda _, line: lines.append(line))
    teller = make("teller", broker_a)
    watcher.enable_snoop_trace()
    with redirect_stdout(plain_output):
        teller.snoop_scribble(f"before any snoop {teller.this_url()}")
        teller.enable_snoop_trace()
        teller.enable_snoop_spy()
        with running(watcher, teller, state=left):
            teller.snoop_scribble(teller.this_url())
            teller.snoop_scribble(f"{[str(teller.this_url())]} with {broker_a.password}")
            wait_until(lambda: any("with ***" in line for line in lines))
    shown = plain_output.getvalue()
    assert shown.count(f"{broker_a.user}:***@{broker_a.host}") >= 3
    assert "before any snoop" in shown
    assert broker_a.password not in shown + "".join(lines)
