"""What a callback for live lines raises is judged, and ends no thread of miros."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import pytest

from miros_rabbitmq.chart.live_output import LiveOutput


class Writer:
    """miros's, without a thread."""

    def __init__(self) -> None:
        self.did: list[str] = []

    def start(self) -> None:
        self.did.append("start")

    def is_alive(self) -> bool:
        return bool(self.did)

    def stop(self) -> None:
        self.did.append("stop")

    def _print(self, fn: Callable[[Any], object], content: Any) -> None:
        fn(content)


def test_lines_are_called_back_and_errors_are_handed_over() -> None:
    lines: list[str] = []
    raised: list[BaseException] = []
    output = LiveOutput(Writer(), raised.append)

    def refuse(line: str) -> None:
        lines.append(line)
        raise SystemExit(line)

    output._print(lines.append, "one")
    output._print(refuse, "two")
    output._print(fn=lines.append, content="three")
    assert lines == ["one", "two", "three"]
    assert [str(error) for error in raised] == ["two"]


def test_what_waits_for_a_terminal_that_nobody_reads_is_bounded(
    caplog: pytest.LogCaptureFixture,
) -> None:
    waiting: deque[tuple[Callable[[Any], object], Any]] = deque()

    class Stalled(Writer):
        def _print(self, fn: Callable[[Any], object], content: Any) -> None:
            waiting.append((fn, content))

    written: list[int] = []
    output = LiveOutput(Stalled(), lambda _: None)
    for number in range(100_000):
        output._print(written.append, number)
    assert len(waiting) == 5_000
    assert output.dropped == 95_000
    assert caplog.text.count("live lines are dropped") == 1
    while waiting:
        fn, content = waiting.popleft()
        fn(content)
    output._print(written.append, -1)
    fn, content = waiting.popleft()
    fn(content)
    assert written == [*range(5_000), -1]


def test_the_thread_is_that_of_miros() -> None:
    writer = Writer()
    output = LiveOutput(writer, lambda _: None)
    assert not output.is_alive()
    output.start()
    assert output.is_alive()
    output.stop()
    assert writer.did == ["start", "stop"]
