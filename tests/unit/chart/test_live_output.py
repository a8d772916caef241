"""What a callback for live lines raises is judged, and ends no thread of miros."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

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


def test_the_thread_is_that_of_miros() -> None:
    writer = Writer()
    output = LiveOutput(writer, lambda _: None)
    assert not output.is_alive()
    output.start()
    assert output.is_alive()
    output.stop()
    assert writer.did == ["start", "stop"]
