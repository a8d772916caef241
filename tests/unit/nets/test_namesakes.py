"""Another chart of the same name: said once, and never of an earlier run of the same chart."""

from __future__ import annotations

import pytest

from miros_rabbitmq.nets.namesakes import Namesakes
from miros_rabbitmq.problems import DeliveryProblem, ProblemKind


def test_what_was_sent_before_the_start_is_no_namesake(caplog: pytest.LogCaptureFixture) -> None:
    told: list[DeliveryProblem] = []
    namesakes = Namesakes("fan", told.append, lambda: 1000.0)
    namesakes.begin()
    for sent_ms in (0, 999_000, 1_000_000):
        assert not namesakes.hear(sent_ms)
    assert not told
    assert namesakes.hear(1_000_001)
    assert not namesakes.hear(2_000_000)
    assert [(one.kind, one.subject) for one in told] == [(ProblemKind.SAME_NAME, "fan")]
    assert "give each chart a name of its own" in caplog.text


def test_two_charts_of_one_process_have_one_line_and_a_report_each(
    caplog: pytest.LogCaptureFixture,
) -> None:
    told: list[DeliveryProblem] = []
    twins = [Namesakes("twin of test_namesakes", told.append, lambda: 1.0) for _ in range(2)]
    for twin in twins:
        twin.hear(2_000)
    assert len(told) == 2
    assert len(caplog.records) == 1
