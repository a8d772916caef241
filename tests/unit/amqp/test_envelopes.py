"""What becomes of a message of envelopes and of each event in it, and when it is handled."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from cryptography.fernet import Fernet

from miros_rabbitmq import Limits
from miros_rabbitmq.amqp.envelopes import Admission, EnvelopeTaker
from miros_rabbitmq.amqp.message_io import Delivery
from miros_rabbitmq.amqp.receiver import Outcome, Ticket
from miros_rabbitmq.amqp.sinks import DirectSink, WorkerSink
from miros_rabbitmq.exceptions import MessageRejected, PayloadRefused, RejectReason
from miros_rabbitmq.problems import DeliveryProblem, ProblemKind
from miros_rabbitmq.wire.codec import Codec
from miros_rabbitmq.wire.envelope import MESH, Envelope, Kind, Purpose
from miros_rabbitmq.wire.message import FORMAT, HEADER_BYTES, MARK
from miros_rabbitmq.wire.notice import (
    LISTENER_KEY,
    Notice,
    WrongClock,
    tell_clock,
    tell_numbers,
)
from tests.helpers import scaled, wait_until
from tests.wire import Forger, Peer

NET = "net"
KEY = Fernet.generate_key()
CODEC = Codec(KEY)
FORGER = Forger(KEY, NET)
NOW_S = 1_800_000_000.0


def message(*numbers: int) -> Delivery:
    """A message of envelopes with these numbers."""
    return FORGER.events(CODEC, *((number, number) for number in numbers))


class Callback:
    """Notes what it is called with, and returns when it may."""

    def __init__(self) -> None:
        self.heard: list[int] = []
        self.may_return = threading.Semaphore(0)

    def __call__(self, envelope: Envelope) -> None:
        self.heard.append(envelope.body)
        assert self.may_return.acquire(timeout=scaled(10))


@pytest.fixture
def callback() -> Callback:
    return Callback()


@pytest.fixture
def taker(callback: Callback) -> Iterator[EnvelopeTaker]:
    sink = WorkerSink("tested", callback)
    yield EnvelopeTaker("tested", NET, CODEC, sink, Limits(), Admission(bindings=["#"]))
    callback.may_return.release(100)
    sink.stop(scaled(10))


def take(taker: EnvelopeTaker, delivery: Delivery) -> Ticket:
    taken = taker.take(delivery)
    assert isinstance(taken, Ticket)
    return taken


def test_a_message_is_handled_when_the_callback_has_returned_for_the_last_event_in_it(
    taker: EnvelopeTaker, callback: Callback
) -> None:
    ticket = take(taker, message(1, 2))
    wait_until(lambda: callback.heard == [1])
    callback.may_return.release()
    wait_until(lambda: callback.heard == [1, 2])
    assert not ticket.is_finished
    callback.may_return.release()
    wait_until(lambda: ticket.is_finished)


def test_a_message_that_comes_again_is_handled_with_those_events_that_came_before(
    taker: EnvelopeTaker, callback: Callback
) -> None:
    """Otherwise it would be acknowledged while the callback is called for it."""
    take(taker, message(1, 2))
    taker.forget()  # the connection is lost
    wait_until(lambda: callback.heard == [1])
    again, next_one = take(taker, message(1, 2)), take(taker, message(3))
    callback.may_return.release()
    wait_until(lambda: callback.heard == [1, 2])
    assert not again.is_finished
    callback.may_return.release()
    wait_until(lambda: again.is_finished)
    wait_until(lambda: callback.heard == [1, 2, 3])
    assert not next_one.is_finished
    assert taker.duplicates == 2


class Receiving:
    """A taker whose events are handled at once."""

    def __init__(
        self,
        codec: Codec = CODEC,
        *,
        network: str = NET,
        bindings: tuple[str, ...] = ("#",),
        limits: Limits | None = None,
        room: Callable[[], int] | None = None,
        envelopes: list[Envelope] | None = None,
        **admission: Any,
    ) -> None:
        self.envelopes = [] if envelopes is None else envelopes
        sink = DirectSink("at once", self.envelopes.append, room)
        self.taker = EnvelopeTaker(
            "tested",
            network,
            codec,
            sink,
            limits or Limits(),
            Admission(bindings=bindings, **admission),
        )

    @property
    def bodies(self) -> list[Any]:
        return [envelope.body for envelope in self.envelopes]

    @property
    def rejected(self) -> dict[RejectReason, int]:
        return dict(self.taker.rejected)

    def take(self, delivery: Delivery) -> Outcome:
        outcome = self.taker.take(delivery)
        assert isinstance(outcome, Outcome)
        return outcome


def test_where_events_are_handled_at_once_so_is_a_message_that_comes_again() -> None:
    receiving = Receiving()
    assert receiving.take(message(1)) is Outcome.HANDLED
    assert receiving.take(message(1)) is Outcome.HANDLED
    assert receiving.bodies == [1]


def test_an_envelope_has_everything_that_its_receiver_may_know() -> None:
    receiving = Receiving()
    forger = FORGER._replace(sender="me", routing_key="to.you", sent_ms=1_234)
    receiving.take(forger.events(CODEC, (7, "the body")))
    expected = Envelope(NET, "to.you", "me", forger.epoch, 7, 1_234, "the body")
    assert receiving.envelopes == [expected]


def test_after_a_large_event_it_asks_again_for_room() -> None:
    held = 0

    def room() -> int:
        return 100 if held < 10_000 else 0

    bodies = ["small", "a" * 6_000, "b" * 6_000, "c" * 6_000, "small"]
    several = FORGER.events(CODEC, *enumerate(bodies, start=1))

    class Holding(list[Envelope]):
        def append(self, envelope: Envelope) -> None:
            nonlocal held
            held += envelope.memory
            super().append(envelope)

    receiving = Receiving(room=room, envelopes=Holding())
    assert receiving.take(several) is Outcome.NO_ROOM
    assert [len(body) for body in receiving.bodies] == [5, 6_000, 6_000]
    held = 0
    assert receiving.take(several) is Outcome.HANDLED
    assert receiving.bodies == bodies
    assert [envelope.memory > 6_000 for envelope in receiving.envelopes] == [
        False,
        True,
        True,
        True,
        False,
    ]


# A whole message.


def test_a_message_by_another_exchange_is_rejected() -> None:
    receiving = Receiving()
    assert receiving.take(message(1)._replace(exchange="another")) is Outcome.REJECTED
    assert receiving.rejected == {RejectReason.WRONG_NETWORK: 1}
    assert receiving.bodies == []


def test_a_message_that_our_bindings_do_not_bring_is_rejected_though_it_is_authentic() -> None:
    """By a header CC or BCC, or somebody else's binding, the original routing key comes with it."""
    receiving = Receiving(bindings=("robots.*", LISTENER_KEY))
    for key in ("lamps.one", "robots", "robots.one.arm", ""):
        other = FORGER._replace(routing_key=key)
        assert receiving.take(other.events(CODEC, (1, "not for us"))) is Outcome.REJECTED
    assert receiving.rejected == {RejectReason.MISROUTED: 4}
    for number, key in enumerate(("robots.one", "robots.two", LISTENER_KEY)):
        ours = FORGER._replace(routing_key=key)
        assert receiving.take(ours.events(CODEC, (1, number))) is Outcome.HANDLED
    assert receiving.bodies == [0, 1, 2]


def test_so_it_is_however_many_routing_keys_there_are() -> None:
    receiving = Receiving(bindings=("ours.*",))
    for number in [*range(2_000), *range(10)]:
        for key in (f"ours.{number}", f"others.{number}"):
            receiving.take(FORGER._replace(routing_key=key).delivery(b""))
    assert receiving.rejected == {RejectReason.MALFORMED: 2_010, RejectReason.MISROUTED: 2_010}


def test_a_captured_message_is_rejected_by_another_routing_key_that_is_ours() -> None:
    receiving = Receiving()
    captured = message(1)
    assert receiving.take(captured._replace(routing_key="another.key")) is Outcome.REJECTED
    assert receiving.rejected == {RejectReason.NOT_AUTHENTIC: 1}
    assert receiving.take(captured) is Outcome.HANDLED


def test_one_bad_record_makes_the_message_rejected_before_anything_is_handed_over() -> None:
    receiving = Receiving()
    good = message(1, 2, 3)
    bad = good._replace(body=good.body[:-1] + bytes([good.body[-1] ^ 1]))
    assert receiving.take(bad) is Outcome.REJECTED
    assert receiving.bodies == []
    assert receiving.take(good) is Outcome.HANDLED
    assert receiving.bodies == [1, 2, 3]


def test_bytes_that_are_not_authentic_reach_no_deserializer() -> None:
    calls: list[bytes] = []
    codec = Codec(KEY, serializer=lambda _: b"plain", deserializer=calls.append)
    receiving = Receiving(codec)
    good = FORGER.events(codec, (1, None))
    for at in range(len(good.body)):
        flipped = good.body[:at] + bytes([good.body[at] ^ 1]) + good.body[at + 1 :]
        for bad in (flipped, good.body[:at]):
            assert receiving.take(good._replace(body=bad)) is Outcome.REJECTED
    assert calls == []
    receiving.take(good)
    assert calls == [b"plain"]


def test_own_messages_are_skipped_without_a_look_and_counted_by_their_records() -> None:
    own = Forger(KEY, NET, epoch=b"o" * 16)
    receiving = Receiving(own_epochs=frozenset({own.epoch}))
    whole = own.events(CODEC, (1, "one"), (2, "two"), (3, "three"))
    spoilt = whole._replace(body=whole.body[:-1] + b"!")
    for delivery in (whole, spoilt, whole):
        assert receiving.take(delivery) is Outcome.HANDLED
    assert (receiving.taker.own, receiving.bodies, receiving.rejected) == (9, [], {})
    notice = own._replace(purpose=Purpose.NOTICES)
    assert receiving.take(notice.events(CODEC, (1, "notice"))) is Outcome.HANDLED
    assert receiving.taker.own == 9, "notices are no events"


def test_a_message_too_large_for_any_honest_sender_is_refused() -> None:
    receiving = Receiving(Codec(KEY, max_bytes=1_000), limits=Limits(batch_bytes=2_000))
    assert not receiving.taker.refuse_oversize(FORGER.delivery(b"x" * 2_000))
    assert receiving.taker.refuse_oversize(FORGER.delivery(b"x" * 2_001))
    assert receiving.rejected == {RejectReason.OVERSIZE: 1}


OLDEST = Fernet(Fernet.generate_key()).encrypt(b"of the version before")
OLDER, NEWER = (bytes((MARK, FORMAT + step)) + bytes(100) for step in (-1, 1))


@pytest.mark.parametrize(
    ("body", "advice"),
    [
        (OLDEST, "upgrade the node that sends it"),
        (OLDER, "upgrade the node that sends it"),
        (NEWER, "upgrade this node"),
    ],
)
def test_another_format_is_counted_each_time_and_said_once_with_the_side_to_upgrade(
    body: bytes, advice: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = [1_000.0]
    monkeypatch.setattr("time.monotonic", lambda: now_s[0])
    receiving = Receiving()
    for _ in range(5):
        assert receiving.take(FORGER.delivery(body)) is Outcome.REJECTED
        now_s[0] += 10_000
    assert receiving.rejected == {RejectReason.OTHER_FORMAT: 5}
    assert len(caplog.records) == 1
    assert advice in caplog.text


def test_other_formats_are_each_said_once(caplog: pytest.LogCaptureFixture) -> None:
    receiving = Receiving()
    for body in 3 * (OLDEST, OLDER, NEWER):
        receiving.take(FORGER.delivery(body))
    assert len(caplog.records) == 3


def test_each_reason_is_said_once_a_minute(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = [1_000.0]
    monkeypatch.setattr("time.monotonic", lambda: now_s[0])
    receiving = Receiving()
    for expected in (2, 2, 4):
        for _ in range(10):
            receiving.take(FORGER.delivery(b"garbage"))
            receiving.take(message(1)._replace(exchange="another"))
        assert len(caplog.records) == expected
        now_s[0] += 59.0 if now_s[0] < 1_059 else 1.0


def test_what_another_system_says_to_its_neighbours_is_rejected_and_not_counted() -> None:
    stranger = Forger(Fernet.generate_key(), NET, LISTENER_KEY, purpose=Purpose.NOTICES)
    receiving = Receiving(bindings=("robots.*",), notice_bindings=(LISTENER_KEY,))
    assert receiving.take(stranger.events(CODEC, (1, None))) is Outcome.REJECTED
    assert receiving.rejected == {}
    assert receiving.take(stranger.delivery(b"garbage")) is Outcome.REJECTED
    assert receiving.rejected == {RejectReason.MALFORMED: 1}
    ours = Forger(KEY, NET, LISTENER_KEY, purpose=Purpose.NOTICES)
    spoilt = ours.events(CODEC, (1, None))
    spoilt = spoilt._replace(body=spoilt.body[:-1] + bytes((spoilt.body[-1] ^ 1,)))
    assert receiving.take(spoilt) is Outcome.REJECTED
    assert receiving.rejected[RejectReason.NOT_AUTHENTIC] == 1, "somebody changed one of ours"


def test_events_do_not_come_by_the_way_of_notices() -> None:
    receiving = Receiving(bindings=("robots.*",), notice_bindings=(LISTENER_KEY,))
    event = Forger(KEY, NET, LISTENER_KEY)
    assert receiving.take(event.events(CODEC, (1, "for all"))) is Outcome.REJECTED
    assert (receiving.bodies, receiving.rejected) == ([], {RejectReason.MISROUTED: 1})


def test_a_routing_key_that_is_not_text_is_not_taken_for_another() -> None:
    """Bytes that are no UTF-8 would all become the same character."""
    receiving = Receiving()
    unreadable = Forger(KEY, NET, "alpha.\ufffd")
    assert receiving.take(unreadable.events(CODEC, (1, None))) is Outcome.REJECTED
    assert receiving.rejected == {RejectReason.MISROUTED: 1}


def test_a_receiver_skips_what_earlier_starts_of_its_own_node_have_sent() -> None:
    former = Forger(KEY, NET, epoch=b"f" * 16)
    receiving = Receiving(own_epochs=frozenset({b"o" * 16, former.epoch}))
    assert receiving.take(former.events(CODEC, (1, "an old order"))) is Outcome.HANDLED
    assert (receiving.taker.own, receiving.bodies) == (1, [])


def test_what_falls_into_a_gap_that_was_closed_is_told_apart_from_repetitions(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Somebody with the key fills what is remembered of another chart with jumps."""
    receiving = Receiving()
    receiving.take(FORGER.events(CODEC, *((number, "honest") for number in range(1, 11))))
    jumps = range(75, 75 + 65 * 5_000, 65)
    for first in range(0, len(jumps), 500):
        receiving.take(FORGER.events(CODEC, *((n, None) for n in jumps[first : first + 500])))
    receiving.take(FORGER.events(CODEC, *((number, "honest") for number in range(11, 75))))
    honest = receiving.bodies.count("honest")
    assert receiving.rejected == {RejectReason.GIVEN_UP: 74 - honest}
    assert 10 <= honest < 74
    assert receiving.taker.duplicates == 0
    assert "somebody makes up numbers in its name" in caplog.text


# The records in a message, one by one.


def mixed(*plains: bytes) -> Delivery:
    return FORGER.delivery(FORGER.message(*plains))


def plain(number: int, body: Any, *, kind: int | None = None, sent_s: float = NOW_S) -> bytes:
    """What the record of an event encrypts."""
    forger = FORGER._replace(sent_ms=int(sent_s * 1000))
    return forger.plain(number, CODEC.serialize(body), kind)


def test_each_record_is_judged_on_its_own() -> None:
    receiving = Receiving(Codec(KEY, max_age_s=300, now=lambda: NOW_S))
    delivery = mixed(
        plain(1, "first"),
        b"no content at all, but encrypted",
        plain(2, "too old", sent_s=NOW_S - 301),
        plain(1, "again"),
        plain(3, "from the future", sent_s=NOW_S + 61),
        FORGER._replace(sent_ms=int(NOW_S * 1000)).plain(4, b"no pickle"),
        plain(5, "of another kind", kind=Kind.LINE),
        plain(6, "last"),
    )
    assert receiving.take(delivery) is Outcome.HANDLED
    assert receiving.bodies == ["first", "last"]
    assert receiving.taker.duplicates == 1
    assert receiving.rejected == {
        RejectReason.MALFORMED: 2,
        RejectReason.TOO_OLD: 1,
        RejectReason.CLOCK_SKEW: 1,
        RejectReason.NOT_DESERIALIZABLE: 1,
    }
    assert receiving.taker.gaps == 0, "what was rejected is not missing, too"


def test_a_message_whose_records_are_all_rejected_is_rejected(
    caplog: pytest.LogCaptureFixture,
) -> None:
    receiving = Receiving()
    assert receiving.take(mixed(plain(1, 1, kind=77), plain(2, 2, kind=0))) is Outcome.REJECTED
    assert receiving.take(mixed(plain(1, 1), plain(2, 2))) is Outcome.HANDLED, "seen before"
    assert receiving.taker.duplicates == 2
    assert "not laid out like one of ours: its kind is 77" in caplog.text


def test_a_deserializer_that_calls_sys_exit_ends_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    codec = Codec(KEY, serializer=lambda _: b"plain", deserializer=lambda _: sys.exit())
    receiving = Receiving(codec)
    assert receiving.take(FORGER.events(codec, (1, None))) is Outcome.REJECTED
    assert receiving.rejected == {RejectReason.NOT_DESERIALIZABLE: 1}
    assert "refused by the deserializer: it has called sys.exit" in caplog.text


def test_what_the_owner_does_not_admit_is_rejected_alone_and_is_not_missing() -> None:
    def admit(envelope: Envelope) -> None:
        if envelope.body == "bad":
            raise MessageRejected(RejectReason.INNER_SIGNAL)

    receiving = Receiving(admit=admit)
    receiving.take(mixed(plain(1, "good"), plain(2, "bad"), plain(3, "good")))
    assert receiving.bodies == ["good", "good"]
    assert receiving.rejected == {RejectReason.INNER_SIGNAL: 1}
    assert receiving.taker.gaps == 0


@pytest.mark.parametrize("body", [None, "line", ("ONE",), (7, None), {"S": 1, "T": 2}], ids=repr)
def test_a_body_that_its_network_does_not_carry_is_rejected(
    body: Any, caplog: pytest.LogCaptureFixture
) -> None:
    receiving = Receiving(network=MESH)
    mesh = Forger(KEY, MESH)
    assert receiving.take(mesh.events(CODEC, (1, body))) is Outcome.REJECTED
    assert receiving.rejected == {RejectReason.MALFORMED: 1}
    assert "the body does not belong on this network" in caplog.text
    assert receiving.take(mesh.events(CODEC, (2, ("SIGNAL", None)))) is Outcome.HANDLED


def test_an_event_too_large_for_this_node_is_rejected_alone() -> None:
    """Its sender has a greater limit, and messages of many events may be larger than one event."""
    small = Codec(KEY, max_bytes=500)
    sizes = range(300, 500)
    sender = Peer(small, NET)
    largest = max(size for size in sizes if _is_sent(sender, b"x" * size))
    receiving = Receiving(small)
    body = b"x" * largest
    for number, data in enumerate((body, body + b"x" * 16, b"small"), 1):
        receiving.take(mixed(plain(2 * number, data), plain(2 * number + 1, "another")))
    assert receiving.bodies == [body, "another", "another", b"small", "another"]
    assert receiving.rejected == {RejectReason.OVERSIZE: 1}


def _is_sent(peer: Peer, body: bytes) -> bool:
    try:
        peer.record(body)
    except PayloadRefused:
        return False
    return True


def test_skipped_numbers_are_counted_and_said_with_the_senders_name(
    caplog: pytest.LogCaptureFixture,
) -> None:
    receiving = Receiving()
    receiving.take(message(1, 2, 6))
    assert receiving.taker.gaps == 3
    assert "3 events of 'another' are missing" in caplog.text


def test_an_event_behind_others_that_were_handed_over_is_late_and_stays_lost(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """As from another node of a cluster, by a way on which nothing was lost."""
    problems: list[DeliveryProblem] = []
    receiving = Receiving(report=problems.append)
    receiving.take(message(1, 2, 6))
    assert receiving.take(message(3, 4)) is Outcome.HANDLED
    assert receiving.take(message(3, 4, 5, 6, 7)) is Outcome.HANDLED
    assert receiving.bodies == [1, 2, 6, 7]
    assert receiving.taker.gaps == 3
    assert receiving.rejected == {RejectReason.LATE: 3}
    assert receiving.taker.duplicates == 3
    assert "behind events of its sender that were handed over before" in caplog.text
    kinds = [(one.kind, one.subject, one.network, one.events) for one in problems]
    assert kinds == [
        (ProblemKind.GAP, "another", NET, 3),
        (ProblemKind.REJECTED, "another", NET, 1),
    ]
    receiving.taker.end()
    assert problems[-1].events == 2


def test_an_event_below_a_jump_that_is_made_up_is_taken_and_that_is_said_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    receiving = Receiving()
    receiving.take(message(1, 1_000))
    caplog.clear()
    for number in range(2, 50):
        receiving.take(message(number))
    assert receiving.bodies == [1, 1_000, *range(2, 50)]
    assert receiving.rejected == {}
    (line,) = caplog.messages
    assert "from below a jump of its numbers" in line


def test_each_sender_that_misses_events_is_named_and_the_tail_of_a_burst_is_said_later(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = [1_000.0]
    monkeypatch.setattr("time.monotonic", lambda: now_s[0])
    later: list[tuple[float, Callable[[], object]]] = []
    problems: list[DeliveryProblem] = []
    receiving = Receiving(report=problems.append)
    receiving.taker.use_timer(lambda delay_s, callback: later.append((delay_s, callback)))
    one, other = FORGER._replace(sender="one"), FORGER._replace(sender="other", epoch=b"o" * 16)
    for forger in (one, other):
        receiving.take(forger.events(CODEC, (1, None), (3, None)))
        now_s[0] += 10
        receiving.take(forger.events(CODEC, (4_803, None)))
    assert [line.split(": ")[1] for line in caplog.messages] == [
        "1 event of 'one' is missing",
        "1 event of 'other' is missing",
    ]
    caplog.clear()
    assert [delay_s for delay_s, _ in later] == [50.0], "one timer for all"
    now_s[0] += 40
    later.pop()[1]()
    now_s[0] += later[-1][0]
    later.pop()[1]()
    assert later == []
    assert [line.split(": ")[1] for line in caplog.messages] == [
        "4799 more events of 'one' are missing",
        "4799 more events of 'other' are missing",
    ]
    assert sum(problem.events for problem in problems) == receiving.taker.gaps == 9_600


# What is rejected is not missing.


@pytest.mark.parametrize("sent_s", [NOW_S - 400, NOW_S + 400])
def test_what_is_rejected_for_its_time_is_not_missing_whether_its_sender_was_known_or_not(
    sent_s: float,
) -> None:
    for known in (True, False):
        receiving = Receiving(Codec(KEY, max_age_s=300, now=lambda: NOW_S))
        if known:
            receiving.take(mixed(plain(1, "before")))
        for number in range(2, 302):
            receiving.take(mixed(plain(number, "wrong", sent_s=sent_s)))
        receiving.take(mixed(plain(302, "after")))
        assert sum(receiving.rejected.values()) == 300
        assert (receiving.taker.gaps, receiving.taker.unread) == (0, 0)
        # Nor if what was rejected comes before what is taken, in two ways.
    receiving = Receiving(Codec(KEY, max_age_s=300, now=lambda: NOW_S))
    receiving.take(mixed(plain(5, "wrong", sent_s=sent_s)))
    for number in (3, 4, 6):
        receiving.take(mixed(plain(number, "good")))
    assert (receiving.taker.gaps, receiving.taker.unread) == (0, 1)


def test_what_an_event_that_is_rejected_for_its_time_has_skipped_is_missing_and_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    receiving = Receiving(Codec(KEY, max_age_s=300, now=lambda: NOW_S))
    receiving.take(mixed(plain(1, "good")))
    receiving.take(mixed(plain(5, "wrong", sent_s=NOW_S - 400)))
    receiving.take(mixed(plain(6, "wrong", sent_s=NOW_S - 400)))
    assert receiving.taker.gaps == 3
    assert caplog.text.count("3 events of 'another' are missing") == 1


def test_what_no_key_has_opened_is_told_apart_from_what_was_lost(
    caplog: pytest.LogCaptureFixture,
) -> None:
    codec = Codec(KEY)
    problems: list[DeliveryProblem] = []
    receiving = Receiving(codec, report=problems.append)
    receiving.take(message(1))
    codec.change_keys([Fernet.generate_key()])
    receiving.take(message(*range(2, 202)))
    receiving.take(message(*range(202, 302)))
    assert receiving.rejected == {RejectReason.NOT_AUTHENTIC: 2}
    codec.change_keys([KEY])
    receiving.take(message(305))  # and three more were lost
    assert (receiving.taker.gaps, receiving.taker.unread) == (3, 300)
    assert "3 events of 'another' are missing: the queue here was gone or full" in caplog.text
    assert "300 events of 'another' are missing, and as many of the same start" in caplog.text
    assert [(one.kind, one.events) for one in problems][-2:] == [
        (ProblemKind.GAP, 3),
        (ProblemKind.REJECTED, 300),
    ]
    receiving.take(message(307))
    assert (receiving.taker.gaps, receiving.taker.unread) == (4, 300)


def test_so_are_messages_that_are_too_large_and_records_that_cannot_be_read() -> None:
    receiving = Receiving(Codec(KEY, max_bytes=1_000), limits=Limits(batch_bytes=2_000))
    receiving.take(message(1))
    assert receiving.taker.refuse_oversize(message(*range(2, 52)))
    receiving.take(mixed(b"no content at all, but encrypted"))
    receiving.take(message(53))
    assert (receiving.taker.gaps, receiving.taker.unread) == (0, 51)


def test_somebody_without_a_key_hides_no_loss_by_messages_before_an_event_that_comes() -> None:
    receiving = Receiving()
    receiving.take(message(1))
    whole = message(*range(100))
    receiving.take(whole._replace(body=whole.body[:-1] + b"!"))
    receiving.take(message(2))
    receiving.take(message(10))
    assert (receiving.taker.gaps, receiving.taker.unread) == (7, 0)


# What senders tell of their numbers.


def numbers(number: int, *told: tuple[str, int], sent_s: float = 0.0) -> Delivery:
    notifier = FORGER._replace(
        purpose=Purpose.NOTICES, routing_key=LISTENER_KEY, sent_ms=int(sent_s * 1000)
    )
    kind, body = tell_numbers(told)
    return notifier.delivery(notifier.message(notifier.plain(number, body, kind)))


def test_a_tail_that_was_lost_is_missing_when_its_sender_tells_its_last_number(
    caplog: pytest.LogCaptureFixture,
) -> None:
    heard: list[Notice] = []
    receiving = Receiving(
        bindings=("a.*",),
        notice_bindings=(LISTENER_KEY,),
        on_notice=lambda notice, _: heard.append(notice),
    )
    receiving.take(message(1, 2))
    told = numbers(1, ("a.key", 52), ("others.key", 99), ("a.new", 7))
    assert receiving.take(told) is Outcome.HANDLED
    assert receiving.taker.gaps == 50
    assert "50 events of 'another' are missing" in caplog.text
    assert len(heard) == 1, "it is handed on like any other"
    receiving.take(told)
    receiving.take(numbers(2, ("a.key", 52), ("others.key", 199), ("a.new", 7)))
    receiving.take(message(53))
    receiving.take(FORGER._replace(routing_key="a.new").events(CODEC, (8, None)))
    assert receiving.taker.gaps == 50
    assert receiving.taker.received == 4


def test_made_up_last_numbers_cost_no_event() -> None:
    receiving = Receiving(notice_bindings=(LISTENER_KEY,))
    receiving.take(message(1))
    for number, last in enumerate((2**63 - 1, 2**31, 100), 1):
        receiving.take(numbers(number, ("a.key", last), ("never.heard", last)))
    receiving.take(message(*range(2, 200)))
    receiving.take(FORGER._replace(routing_key="never.heard").events(CODEC, (1, 1), (2, 2)))
    assert receiving.bodies == [*range(1, 200), 1, 2]


# A wrong clock.


def test_whose_clock_is_wrong_is_told_with_its_epoch_and_by_how_much() -> None:
    told: list[tuple[bytes, int]] = []
    receiving = Receiving(
        Codec(KEY, max_age_s=300, now=lambda: NOW_S),
        on_wrong_clock=lambda epoch, ahead_ms: told.append((epoch, ahead_ms)),
    )
    receiving.taker.begin()
    receiving.take(mixed(plain(1, "ahead", sent_s=NOW_S + 312)))
    receiving.take(mixed(plain(2, "behind", sent_s=NOW_S - 301.5)))
    receiving.take(mixed(plain(3, "before the start", sent_s=NOW_S - 200)))
    notifier = NOTIFIER._replace(sent_ms=int(NOW_S * 1000) + 70_000)
    receiving.take(notices(notifier.plain(1, b"", 1)))
    assert told == [
        (FORGER.epoch, 312_000),
        (FORGER.epoch, -301_500),
        (FORGER.epoch, 70_000),
    ]


def test_a_notice_of_a_wrong_clock_is_heard_whatever_the_clocks_say() -> None:
    heard: list[Notice] = []
    codec = Codec(KEY, max_age_s=300, now=lambda: NOW_S)
    receiving = Receiving(codec, on_notice=lambda notice, _: heard.append(notice))
    receiving.taker.begin()
    notice = tell_clock(WrongClock(b"e" * 16, 400_000))
    old = NOTIFIER._replace(sent_ms=int((NOW_S - 400) * 1000)).plain(1, notice.body, notice.kind)
    assert receiving.take(notices(old)) is Outcome.HANDLED
    assert receiving.take(notices(old)) is Outcome.HANDLED
    assert heard == [notice], "once"


def test_a_name_cannot_forge_a_line_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    receiving = Receiving()
    forger = FORGER._replace(sender="me\nCRITICAL the house is on fire \ud800")
    receiving.take(forger.events(CODEC, (1, 1), (5, 5)))
    (line,) = caplog.messages
    assert line.isprintable()


def test_routing_keys_and_epochs_are_numbered_apart() -> None:
    receiving = Receiving()
    for forger in (
        FORGER,
        FORGER._replace(routing_key="another.key"),
        FORGER._replace(epoch=b"another epoch..."),
    ):
        assert receiving.take(forger.events(CODEC, (5, "new"))) is Outcome.HANDLED
    assert receiving.bodies == ["new"] * 3
    assert receiving.taker.gaps == 0


def test_the_highest_number_made_up_in_a_senders_name_makes_it_no_less_heard() -> None:
    peer = Peer(CODEC, NET, "honest")
    forger = FORGER._replace(epoch=peer.sealer.epoch, sender="honest")
    receiving = Receiving()
    receiving.take(peer.delivery(0))
    for number in (2**63 - 1, 2**62, 2**63 - 2):
        receiving.take(forger.events(CODEC, (number, "forged")))
    for number in range(1, 1_000):
        assert receiving.take(peer.delivery(number)) is Outcome.HANDLED
    assert [body for body in receiving.bodies if body != "forged"] == list(range(1_000))
    assert receiving.taker.duplicates == 0


def test_the_same_made_up_before_a_senders_first_event_makes_it_no_less_heard() -> None:
    peer = Peer(CODEC, NET, "honest")
    forger = FORGER._replace(epoch=peer.sealer.epoch, sender="honest")
    receiving = Receiving()
    receiving.take(forger.events(CODEC, (2**63 - 1, "forged")))
    for number in range(10):
        receiving.take(peer.delivery(number))
    assert receiving.bodies == ["forged", *range(10)]


# Time, for clocks that agree.


def test_what_was_sent_before_this_node_listened_is_rejected_with_an_age_limit_only() -> None:
    for max_age_s, expected in ((300.0, ["after"]), (None, ["before", "after"])):
        receiving = Receiving(Codec(KEY, max_age_s=max_age_s, now=lambda: NOW_S))
        receiving.taker.begin()
        receiving.take(mixed(plain(1, "before", sent_s=NOW_S - 200)))
        receiving.take(mixed(plain(2, "after")))
        assert receiving.bodies == expected


@pytest.mark.parametrize("sent_s", [0, 253_402_300_799])
def test_without_an_age_limit_nothing_is_rejected_for_its_time(sent_s: int) -> None:
    receiving = Receiving()
    receiving.taker.begin()
    receiving.take(mixed(plain(1, "any time", sent_s=sent_s)))
    assert receiving.bodies == ["any time"]


def test_what_is_too_old_of_an_unknown_sender_leaves_nothing_behind() -> None:
    """Otherwise whoever repeats old messages would push out what is remembered of the living."""
    receiving = Receiving(Codec(KEY, max_age_s=300, now=lambda: NOW_S))
    old = plain(5, "old", sent_s=NOW_S - 301)
    for _ in range(2):
        assert receiving.take(mixed(old)) is Outcome.REJECTED
    receiving.take(mixed(plain(5, "new")))
    assert receiving.bodies == ["new"]


def test_of_a_sender_that_was_forgotten_nothing_is_taken_again_where_clocks_agree() -> None:
    for max_age_s, expected in ((300.0, 1), (None, 2)):
        codec = Codec(KEY, max_age_s=max_age_s, now=lambda: NOW_S)
        receiving = Receiving(codec, limits=Limits(duplicate_senders=4))
        now_ms = int(NOW_S * 1000)
        recorded = FORGER._replace(sent_ms=now_ms - 50_000).events(CODEC, (1, "recorded"))
        receiving.take(recorded)
        for number in range(20):  # so many starts make it forgotten
            other = FORGER._replace(epoch=bytes(15) + bytes((number,)), sent_ms=now_ms - 40_000)
            receiving.take(other.events(CODEC, (1, "other")))
        receiving.take(recorded)
        assert receiving.bodies.count("recorded") == expected
        young = FORGER._replace(epoch=b"of a new start..", sent_ms=now_ms - 1)
        assert receiving.take(young.events(CODEC, (1, "new"))) is Outcome.HANDLED


# Room.


def test_a_message_taken_in_part_when_the_connection_is_lost_comes_again_exactly_once() -> None:
    rooms = [2, 0]
    receiving = Receiving(room=lambda: rooms.pop(0) if rooms else 100)
    assert receiving.take(message(1, 2, 3, 4)) is Outcome.NO_ROOM
    assert receiving.bodies == [1, 2]
    receiving.taker.forget()
    assert receiving.take(message(1, 2, 3, 4)) is Outcome.HANDLED
    assert receiving.bodies == [1, 2, 3, 4]
    assert (receiving.taker.received, receiving.taker.duplicates) == (4, 2)
    assert receiving.taker.gaps == 0


def test_the_rest_of_a_message_is_taken_when_there_is_room_and_then_the_next() -> None:
    rooms = [0, 1, 0, 0, 1, 0]
    receiving = Receiving(room=lambda: rooms.pop(0) if rooms else 100)
    first = message(1, 2, 3)
    outcomes = [receiving.take(first) for _ in range(5)]
    assert outcomes == [Outcome.NO_ROOM] * 4 + [Outcome.HANDLED]
    assert receiving.bodies == [1, 2, 3]
    assert receiving.take(message(4)) is Outcome.HANDLED
    assert receiving.bodies == [1, 2, 3, 4]


def test_a_message_taken_in_part_is_not_mistaken_for_another_after_a_lost_connection() -> None:
    """The broker may deliver another message first."""
    rooms = [1, 0]
    receiving = Receiving(room=lambda: rooms.pop(0) if rooms else 100)
    assert receiving.take(message(1, 2)) is Outcome.NO_ROOM
    receiving.taker.forget()
    other = FORGER._replace(epoch=b"another epoch...")
    receiving.take(other.events(CODEC, (1, "another")))
    receiving.take(message(1, 2))
    assert receiving.bodies == [1, "another", 2]


# Notices.

NOTIFIER = FORGER._replace(purpose=Purpose.NOTICES)


def notice(number: int, kind: int, body: bytes = b"") -> bytes:
    return NOTIFIER.plain(number, body, kind)


def notices(*plains: bytes) -> Delivery:
    return NOTIFIER.delivery(NOTIFIER.message(*plains))


def refuse_to_deserialize(_: bytes) -> Any:
    raise AssertionError("a notice reached a deserializer")


def test_each_notice_is_handed_on_once_and_reaches_no_deserializer() -> None:
    heard: list[Notice] = []
    codec = Codec(KEY, serializer=bytes, deserializer=refuse_to_deserialize)
    receiving = Receiving(codec, on_notice=lambda notice, _: heard.append(notice))
    first, second = notices(notice(1, 1, b"one")), notices(notice(2, 99, b"\x80\x03N."))
    for delivery in (first, second, first, second):
        assert receiving.take(delivery) is Outcome.HANDLED
    assert heard == [Notice(1, b"one"), Notice(99, b"\x80\x03N.")]
    assert receiving.taker.received == receiving.taker.duplicates == receiving.taker.gaps == 0
    assert (receiving.bodies, receiving.rejected) == ([], {})


def test_notices_and_events_are_numbered_apart() -> None:
    heard: list[Notice] = []
    receiving = Receiving(on_notice=lambda notice, _: heard.append(notice))
    receiving.take(notices(notice(1, 1)))
    receiving.take(message(1))
    receiving.take(notices(notice(9, 1)))
    assert (len(heard), receiving.bodies, receiving.taker.gaps) == (2, [1], 0)


def test_a_network_without_notices_ignores_them() -> None:
    receiving = Receiving()
    assert receiving.take(notices(notice(1, 1))) is Outcome.HANDLED
    assert (receiving.bodies, receiving.rejected) == ([], {})


def test_a_notice_for_which_the_owner_raises_ends_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    receiving = Receiving(on_notice=lambda *_: 1 / 0)
    assert receiving.take(notices(notice(1, 1, b"good"))) is Outcome.HANDLED
    assert "a notice could not be taken" in caplog.text


def test_a_malformed_notice_is_rejected_alone() -> None:
    heard: list[Notice] = []
    receiving = Receiving(on_notice=lambda notice, _: heard.append(notice))
    assert receiving.take(notices(b"\xff" * 32, notice(1, 1, b"good"))) is Outcome.HANDLED
    assert heard == [Notice(1, b"good")]
    assert receiving.rejected == {RejectReason.MALFORMED: 1}
    assert receiving.take(notices(b"\xff" * 32)) is Outcome.REJECTED


def test_a_notice_that_is_too_old_is_rejected() -> None:
    heard: list[Notice] = []
    codec = Codec(KEY, max_age_s=300, now=lambda: NOW_S)
    receiving = Receiving(codec, on_notice=lambda notice, _: heard.append(notice))
    old, young = (NOTIFIER._replace(sent_ms=int((NOW_S - age) * 1000)) for age in (301, 1))
    assert receiving.take(notices(old.plain(1, b"old", 1))) is Outcome.REJECTED
    assert receiving.take(notices(young.plain(2, b"young", 1))) is Outcome.HANDLED
    assert heard == [Notice(1, b"young")]


def test_a_notice_that_cannot_be_taken_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    heard: list[Notice] = []

    def take(one: Notice, _: bytes) -> None:
        heard.append(one)
        raise RuntimeError("no")

    receiving = Receiving(on_notice=take)
    receiving.take(notices(notice(1, 1), notice(2, 2)))
    assert len(heard) == 2
    assert [record.levelno for record in caplog.records] == [logging.ERROR] * 2


def test_a_notice_is_no_event_and_an_event_no_notice() -> None:
    heard: list[Notice] = []
    receiving = Receiving(on_notice=lambda notice, _: heard.append(notice))
    events, notes = message(1), notices(notice(1, 1))
    for one, other in ((events, notes), (notes, events)):
        swapped = one.body[:HEADER_BYTES] + other.body[HEADER_BYTES:]
        assert receiving.take(one._replace(body=swapped)) is Outcome.REJECTED
    assert (heard, receiving.bodies) == ([], [])
    assert receiving.rejected == {RejectReason.NOT_AUTHENTIC: 2}
