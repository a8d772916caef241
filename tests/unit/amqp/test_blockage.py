"""A broker that lets nobody publish: it is said when it begins and ends, and not all the time."""

from __future__ import annotations

import pytest

from miros_rabbitmq.amqp.blockage import Blockage


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_beginning_and_end_are_said(caplog: pytest.LogCaptureFixture) -> None:
    blockage = Blockage(Clock())
    blockage.begin("low on disk", "fan")
    assert blockage.reason == "low on disk"
    blockage.end("fan")
    assert blockage.reason is None
    assert [one.partition(": ")[2] for one in caplog.messages] == [
        "the broker lets nobody publish: low on disk",
        "the broker lets us publish again",
    ]


def test_a_broker_that_says_so_all_the_time_gets_two_lines_a_minute_after_a_few(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = Clock()
    blockage = Blockage(clock)
    for _ in range(100):
        blockage.begin("x", "fan")
        assert blockage.reason == "x"
        blockage.end("fan")
        clock.now_s += 1.5
    assert len(caplog.messages) == 2 * (5 + 2)


def test_a_new_connection_is_not_blocked_and_that_is_not_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    blockage = Blockage(Clock())
    blockage.begin("", "fan")
    assert blockage.reason == ""
    blockage.forget()
    assert blockage.reason is None
    assert len(caplog.messages) == 1
