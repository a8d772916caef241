"""What was rejected unread, and which gaps that explains."""

from __future__ import annotations

import pytest

from miros_rabbitmq.amqp.paced_log import PacedLog
from miros_rabbitmq.amqp.rejections import Rejections, Unread
from miros_rabbitmq.exceptions import MessageRejected, RejectReason
from miros_rabbitmq.problems import DeliveryProblem
from miros_rabbitmq.wire.envelope import MESH
from miros_rabbitmq.wire.opener import UnknownKey

KEY = (b"epoch", "a.key")
OTHER = (b"epoch", "another.key")


def test_a_gap_is_explained_by_as_many_events_as_were_rejected_of_the_same_epoch_and_key() -> None:
    unread = Unread()
    unread.note(KEY, 200)
    unread.note(KEY, 100)
    unread.note(OTHER, 7)
    assert unread.explain(KEY, 50) == 50
    assert unread.explain(KEY, 300) == 250
    assert unread.explain(KEY, 10) == 0
    assert unread.explained == 300


def test_an_event_that_comes_without_a_gap_ends_it() -> None:
    unread = Unread()
    unread.note(KEY, 5)
    unread.forget(OTHER, 1)
    assert unread
    unread.forget(KEY, 1)
    assert not unread
    unread.forget(KEY, 1)
    assert unread.explain(KEY, 5) == 0


def test_where_its_number_is_known_only_one_above_it_does() -> None:
    unread = Unread()
    unread.note(KEY, 1, 5)
    unread.forget(KEY, 4)
    assert unread.explain(KEY, 1) == 1
    unread.note(KEY, 1, 5)
    unread.forget(KEY, 6)
    assert not unread


def test_what_is_remembered_is_bounded_and_the_oldest_goes() -> None:
    unread = Unread()
    unread.note(KEY, 9)
    for number in range(1_000):
        unread.note((b"%d" % number, "a.key"), 1)
    assert len(unread) == 256
    assert unread.explain(KEY, 9) == 0


def test_nothing_is_no_rejection() -> None:
    unread = Unread()
    unread.note(KEY, 0)
    assert not unread


def test_rejections_are_summed_up_by_reason_and_sender(
    caplog: pytest.LogCaptureFixture,
) -> None:
    log = PacedLog("tested")
    rejections = Rejections(log)
    for sender in ("a", "b"):
        for _ in range(300):
            error = MessageRejected(RejectReason.TOO_OLD, "9 s old")
            rejections.count(error, f"an event of {sender!r}", sender)
    log.say_rest()
    assert rejections.counts == {RejectReason.TOO_OLD: 600}
    first = "tested: rejected an event of {!r}: too old for max_age_s: 9 s old"
    more = first + " (and 298 more like it since the last such warning)"
    assert caplog.messages == [
        *(first.format(sender) for sender in "ab"),
        *(more.format(sender) for sender in "ab"),
    ]


def test_what_to_do_about_another_key_is_logged_once_and_in_every_problem(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Who shows problems to a user may show no log, and each chart has its own."""
    error = UnknownKey(b"1234", ["abcd"], MESH, b"epoch")
    told: list[DeliveryProblem] = []
    for name in ("one", "other"):
        rejections = Rejections(PacedLog(name, MESH, told.append))
        rejections.count(error, "a message")
    assert "the same mesh_encryption_key" in caplog.messages[0]
    brief = "other: rejected a message: not authenticated by a key of ours: its sender, as "
    assert caplog.messages[1].startswith(brief)
    assert caplog.messages[1].endswith(", as said before")
    assert [problem.text for problem in told] == [
        f"{name}: rejected a message: {error}" for name in ("one", "other")
    ]
