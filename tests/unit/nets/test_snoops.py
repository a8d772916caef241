"""What a snoop shows of the lines of others."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

from miros_rabbitmq import MirosNets
from miros_rabbitmq.nets.failing import Failures
from miros_rabbitmq.nets.lines import PLAIN
from miros_rabbitmq.nets.snoops import Snoops
from miros_rabbitmq.nets.teller import Teller
from miros_rabbitmq.nets.terminal import SnoopTerminal
from miros_rabbitmq.nets.topic import Reactors
from miros_rabbitmq.wire.envelope import SNOOP_SPY, Envelope

KEY = base64.urlsafe_b64encode(bytes(range(32)))


class Shown(SnoopTerminal):
    """Keeps what it should write."""

    def __init__(self) -> None:
        super().__init__("shown")
        self.lines: list[str] = []

    def write(self, line: Callable[[Any], str], *, colour: bool = True) -> None:
        self.lines.append(line(PLAIN))


class Listener:
    name = "listener"

    def post_fifo(self, event: Any) -> None:
        raise AssertionError


def test_a_line_of_others_that_is_very_long_is_cut() -> None:
    """Thousands of lines may wait for a terminal that nobody reads."""
    settings = MirosNets(Listener(), "user", "password", KEY, addresses=["127.0.0.2"]).settings
    shown = Shown()
    failures = Failures("listener", "stop", shown.lines.append, lambda: None)
    snoops = Snoops(
        settings, "listener", Reactors.of("listener"), shown, Teller("listener"), failures
    )
    for text in ("short", "x" * 100_000):
        snoops.spy.sink.put(Envelope(SNOOP_SPY, "snoop.spy", "b", bytes(16), 1, 0, text), None)
    short, long = shown.lines
    assert "short" in short
    assert len(long) < 5_000
    assert "95,904 characters more" in long
