"""The watch over the brokers of a network, with senders that show what a test says."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from miros_rabbitmq.amqp.reactor import Lane, Reactor
from miros_rabbitmq.delivery.slowness import Condition, Drain, Look
from miros_rabbitmq.limits import Limits
from miros_rabbitmq.logs import write_all
from miros_rabbitmq.nets import broker_watch as module
from miros_rabbitmq.nets.broker_watch import BrokerWatch
from miros_rabbitmq.problems import DeliveryProblem, ProblemKind
from miros_rabbitmq.urls import Address

from ...helpers import scaled, wait_until

LIMITS = Limits(absent_after_s=0.2, slow_after_s=0.2, behind_after_s=0.2)
GOOD, SICK = Address("good", 1), Address("sick", 2)
IDLE = Look("connection", True, 0, 0, 0, 0, 0, 0.0)


class FakeLink(NamedTuple):
    name: str
    blocked_reason: str = ""
    is_connected: bool = True
    bytes_unsent: int = 0


class Numbers(NamedTuple):
    waiting: int = 7
    unconfirmed: int = 3
    fault: str = "nothing listens there"


class FakeTraffic(NamedTuple):
    exchange: str = "miros.mesh"


class FakeSender:
    """Shows what it is told to show, and keeps what it is told."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self.link = FakeLink(f"sender to {address}")
        self.traffic = FakeTraffic()
        self.shows = IDLE
        self.looks = 0
        self.dropped = 0
        self.drain = Drain(5.0, 500.0)
        self.judged: list[tuple[Condition, bool]] = []
        self.fails = False
        self.is_connected = True
        self.is_absent = self.is_doubtful = False

    @property
    def is_empty(self) -> bool:
        return not self.shows.is_outstanding

    def look(self) -> Look:
        self.looks += 1
        if self.fails:
            raise ZeroDivisionError("of a test")
        return self.shows

    def judge(self, condition: Condition, _oldest_s: float, *, yields: bool) -> None:
        if not self.judged or self.judged[-1] != (condition, yields):
            self.judged.append((condition, yields))

    def drain_since(self, _base: object, _now_s: float) -> Drain:
        return self.drain

    def stats(self) -> Numbers:
        return Numbers()


class Watched:
    """A watch over two brokers, one of which is not the own one."""

    def __init__(self, *, waits: bool = False) -> None:
        self.good, self.sick = FakeSender(GOOD), FakeSender(SICK)
        self.senders: dict[Address, Any] = {GOOD: self.good, SICK: self.sick}
        self.problems: list[DeliveryProblem] = []
        self.looked_at: list[Any] = []
        self.lags: list[tuple[Address, bool]] = []
        self.changes: list[Condition] = []
        self.reactor = Reactor("reactor of a test")
        self.watch = BrokerWatch(
            "miros.mesh of a test",
            LIMITS,
            self.reactor,
            lambda: self.senders,
            lambda: (),
            waits=waits,
            report=self.problems.append,
            on_look=self.looked_at.append,
            on_lag=lambda address, lags: self.lags.append((address, lags)),
            on_change=lambda: self.changes.append(self.sick.judged[-1][0]),
        )
        self.watch.start()

    def close(self) -> None:
        self.watch.stop()
        assert self.reactor.wait_for_end(scaled(20))

    @property
    def told(self) -> list[tuple[ProblemKind, str, bool]]:
        return [(each.kind, each.subject, each.is_over) for each in self.problems]


@pytest.fixture
def watched() -> Iterator[Watched]:
    made = Watched()
    yield made
    made.close()


@pytest.fixture
def rests_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_RESTS_AFTER_S", 0.1)


def test_nobody_is_looked_at_before_something_was_sent(watched: Watched) -> None:
    done = threading.Event()
    lane = watched.reactor.attach("another", lambda _: None, lambda _: None)
    lane.call_soon(done.set)
    lane.call_soon(lane.close)
    assert done.wait(scaled(20))
    assert watched.good.looks == 0
    assert not watched.watch.is_on


@pytest.mark.usefixtures("rests_soon")
def test_looks_end_when_everything_is_confirmed_and_begin_again(watched: Watched) -> None:
    watched.watch.wake()
    wait_until(lambda: not watched.watch.is_on)
    looks = watched.good.looks
    assert looks > 1
    assert watched.looked_at.count(watched.good) == looks
    watched.good.shows = IDLE._replace(posted=1)
    watched.watch.wake()
    wait_until(lambda: watched.good.looks > looks + 10)
    assert watched.watch.is_on


def test_a_broker_that_confirms_nothing_is_said_once_and_its_end_too(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    sick = watched.sick
    sick.link = FakeLink("sender to sick", "low on memory")
    sick.shows = IDLE._replace(posted=5)
    watched.watch.wake()
    wait_until(lambda: (Condition.STALLED, True) in sick.judged)
    sick.dropped = 1_234
    sick.shows = IDLE._replace(posted=5, settled=5, confirmed=5)
    wait_until(lambda: sick.judged[-1] == (Condition.KEEPING_UP, False))
    assert watched.told[-2:] == [
        (ProblemKind.STALLED, "sick:2", False),
        (ProblemKind.STALLED, "sick:2", True),
    ]
    assert watched.problems[-1].events == 1_234
    assert watched.good.judged == [(Condition.KEEPING_UP, False)]
    assert write_all(scaled(20))
    said = [text for text in caplog.messages if "confirmed nothing" in text]
    assert len(said) == 1
    assert "sender to sick" in said[0]
    assert "10 events wait" in said[0]
    assert "low on memory" in said[0]
    assert "1,234 events were dropped for it" in caplog.messages[-1]
    assert len(caplog.messages) == 2


def test_each_problem_that_has_begun_ends_also_if_another_follows_it(watched: Watched) -> None:
    watched.sick.shows = IDLE._replace(posted=5, fill=0.5)
    watched.watch.wake()
    wait_until(lambda: (Condition.STALLED, True) in watched.sick.judged)
    watched.sick.shows = IDLE._replace(posted=5, settled=5, confirmed=5)
    wait_until(lambda: watched.sick.judged[-1] == (Condition.KEEPING_UP, False))
    assert [(kind, is_over) for kind, _, is_over in watched.told] == [
        (ProblemKind.BEHIND, False),
        (ProblemKind.STALLED, False),
        (ProblemKind.BEHIND, True),
        (ProblemKind.STALLED, True),
    ]


@pytest.mark.parametrize(
    ("unsent", "reason"), [(0, "It is frozen, or its disk is"), (9_000, "9,000 bytes have not")]
)
def test_a_broker_that_nothing_reaches_is_told_from_one_that_confirms_nothing(
    watched: Watched, unsent: int, reason: str
) -> None:
    watched.sick.link = FakeLink("sender to sick", bytes_unsent=unsent)
    watched.sick.shows = IDLE._replace(posted=5)
    watched.watch.wake()
    wait_until(lambda: watched.told[-1:] == [(ProblemKind.STALLED, "sick:2", False)])
    assert reason in watched.problems[-1].text


def test_whoever_waits_for_a_broker_is_told_after_its_sender_was(watched: Watched) -> None:
    watched.sick.shows = IDLE._replace(posted=5)
    watched.watch.wake()
    wait_until(lambda: Condition.STALLED in watched.changes)
    watched.sick.shows = IDLE._replace(posted=5, settled=5, confirmed=5)
    wait_until(lambda: watched.changes[-1] is Condition.KEEPING_UP)


def test_what_was_dropped_before_a_broker_was_found_behind_is_told_at_the_end(
    watched: Watched,
) -> None:
    watched.sick.dropped = 100
    watched.watch.wake()
    wait_until(lambda: watched.sick.looks > 1)
    # A burst that is over before the next look.
    watched.sick.dropped = 150
    watched.sick.shows = IDLE._replace(posted=50, settled=40, confirmed=0, fill=1.0)
    wait_until(lambda: len(watched.problems) > 0)
    watched.sick.shows = IDLE._replace(posted=50, settled=50, confirmed=10)
    wait_until(lambda: watched.problems[-1].is_over)
    assert watched.problems[-1].events == 50


def test_a_broker_whose_backlog_was_taken_over_is_not_said_to_keep_up(watched: Watched) -> None:
    watched.sick.shows = IDLE._replace(posted=5)
    watched.watch.wake()
    wait_until(lambda: (Condition.STALLED, True) in watched.sick.judged)
    watched.sick.shows = IDLE._replace(posted=5, settled=5)
    wait_until(lambda: watched.problems[-1].is_over)
    assert "has nothing waiting for it any more" in watched.problems[-1].text


def test_a_backlog_for_a_broker_that_is_not_connected_makes_nobody_wait_and_is_said_so(
    watched: Watched,
) -> None:
    watched.sick.link = FakeLink("sender to sick", is_connected=False)
    watched.sick.shows = IDLE._replace(connection="", is_ready=False, posted=5, fill=0.5)
    watched.watch.wake()
    wait_until(lambda: len(watched.problems) > 0)
    text = watched.problems[0].text
    assert "is not connected (nothing listens there): 10 events wait" in text
    assert text.endswith("its oldest events are dropped")
    # A spare has taken over, after the last confirms have come.
    watched.sick.shows = IDLE._replace(
        connection="", is_ready=False, posted=5, settled=5, confirmed=2
    )
    wait_until(lambda: watched.problems[-1].is_over)
    assert "has nothing waiting for it any more" in watched.problems[-1].text


@pytest.mark.parametrize("waits", [False, True])
def test_a_slow_broker_yields_unless_the_user_would_rather_wait(
    *, waits: bool, caplog: pytest.LogCaptureFixture
) -> None:
    watched = Watched(waits=waits)
    sick, number = watched.sick, 0
    try:
        watched.watch.wake()

        def is_slow() -> bool:
            nonlocal number
            number += 1
            # It confirms some now and then, and far fewer than are posted.
            sick.shows = IDLE._replace(
                posted=100 * number, settled=number // 10, confirmed=number // 10
            )
            return sick.judged[-1:] == [(Condition.SLOW, not waits)]

        wait_until(is_slow)
    finally:
        watched.close()
    assert write_all(scaled(20))
    (said,) = [text for text in caplog.messages if "slower than the others" in text]
    assert ("on_full" in said) is waits
    assert ("nobody waits" in said) is not waits


def test_others_leave_the_way_alone_while_events_wait(watched: Watched) -> None:
    watched.good.shows = watched.sick.shows = IDLE._replace(posted=1)
    watched.watch.wake()
    wait_until(lambda: (SICK, True) in watched.lags)
    watched.sick.shows = IDLE._replace(posted=1, settled=1, confirmed=1)
    wait_until(lambda: (SICK, False) in watched.lags)
    lags = len(watched.lags)
    wait_until(lambda: len(watched.lags) > lags)  # at each look, for networks opened meanwhile
    assert watched.lags[-1] == (GOOD, True)


@pytest.mark.usefixtures("rests_soon")
def test_a_sick_broker_that_is_removed_is_forgotten(watched: Watched) -> None:
    watched.sick.shows = IDLE._replace(posted=5)
    watched.watch.wake()
    wait_until(lambda: (Condition.STALLED, True) in watched.sick.judged)
    watched.senders = {GOOD: watched.good}
    wait_until(lambda: not watched.watch.is_on)


def test_an_error_ends_the_looks_and_the_next_event_begins_them_anew(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    watched.good.fails = True
    watched.watch.wake()
    wait_until(lambda: not watched.watch.is_on)
    assert write_all(scaled(20))
    assert "the watch over the brokers failed" in caplog.text
    watched.good.fails = False
    watched.watch.wake()
    looks = watched.good.looks
    wait_until(lambda: watched.good.looks > looks + 2)


def test_a_broker_takes_events_while_it_is_connected_and_not_silent(watched: Watched) -> None:
    sick = watched.sick
    assert watched.watch.takes_events(watched.senders[SICK]), "nothing says that it does not"
    # Nobody else is there, so it is not stalled.
    watched.senders = {SICK: sick}
    sick.shows = IDLE._replace(posted=5)
    watched.watch.wake()
    wait_until(lambda: not watched.watch.takes_events(watched.senders[SICK]))
    assert not any(condition.is_sick for condition, _ in sick.judged)
    sick.shows = IDLE._replace(posted=5, settled=5, confirmed=5)
    wait_until(lambda: watched.watch.takes_events(watched.senders[SICK]))
    sick.is_connected = False
    assert not watched.watch.takes_events(watched.senders[SICK])


def test_an_interrupt_while_looks_begin_leaves_it_to_the_next_event(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Lane, "call_soon", interrupted)
        with pytest.raises(KeyboardInterrupt):
            watched.watch.wake()
    assert not watched.watch.is_on
    watched.watch.wake()
    wait_until(lambda: watched.good.looks > 1)


def test_a_broker_is_sluggish_by_what_it_takes(watched: Watched) -> None:
    assert watched.watch.is_sluggish(watched.senders[SICK])
    watched.watch.wake()
    wait_until(lambda: watched.sick.looks > 0)
    assert watched.watch.is_sluggish(watched.senders[SICK])
    for drain in (Drain(LIMITS.slow_events, 0.0), Drain(0.0, LIMITS.slow_bytes)):
        watched.sick.drain = drain
        assert not watched.watch.is_sluggish(watched.senders[SICK])
