"""Warnings of what comes and goes all the time."""

from __future__ import annotations

from miros_rabbitmq.amqp.line_pace import LinePace


def test_a_few_pass_at_once_and_then_one_a_minute() -> None:
    now_s = 1_000.0
    pace = LinePace(lambda: now_s)
    assert sum(pace.may() for _ in range(100)) == 5
    passed = 0
    for _ in range(600):
        now_s += 1.0
        passed += pace.may()
    assert passed == 10
    now_s += 3_600.0
    assert sum(pace.may() for _ in range(100)) == 5
