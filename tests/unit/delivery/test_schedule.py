"""The schedule of a publisher: a look sees every post, whenever the look comes."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest

from miros_rabbitmq.delivery import intake as intake_module
from miros_rabbitmq.delivery import schedule as schedule_module
from miros_rabbitmq.delivery.outbox import Batch, Outbox
from miros_rabbitmq.delivery.schedule import Schedule
from miros_rabbitmq.exceptions import NetworkStopped
from miros_rabbitmq.limits import Limits

from .records import SMALL, record

LARGE = record(SMALL.data + b"large")


class NotedLock:
    """A lock that knows whether it is held; a look by another thread has to wait for it."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self.depth = 0

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        has_it = self._lock.acquire(blocking, timeout)
        self.depth += has_it
        return has_it

    def release(self) -> None:
        self._lock.release()
        self.depth -= 1

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()

    @property
    def is_held(self) -> bool:
        return self.depth > 0


class Publisher:
    """A schedule with its outbox, and an owner whose messages go nowhere."""

    def __init__(self, *, patient: bool = False, limits: Limits | None = None) -> None:
        limits = limits or Limits()
        self.limits = limits
        self.outbox = Outbox(
            max_events=limits.backlog_events,
            max_bytes=limits.backlog_bytes,
            window=limits.window_messages,
            batch_events=limits.batch_events,
            batch_bytes=limits.batch_bytes,
        )
        self.lock = NotedLock()
        self.schedule = Schedule(
            self.outbox, self.lock, lambda: self.lock.is_held, limits, patient=patient
        )
        self.schedule.on_ready()
        self.under_way: list[Batch] = []
        self.sent: list[bytes] = []
        self.has_beat = False
        self.now_s = 100.0

    def send_next(self) -> bool:
        with self.lock:
            self.schedule.take_in()
            batch = self.outbox.take()
        if batch is not None:
            self.under_way.append(batch)
            self.sent += (one.data for one in batch.records)
        return batch is not None

    def look(self, *, everything: bool = False) -> None:
        """Look as the owner's thread does when it was woken, or at a beat."""
        with self.lock:
            self.schedule.wake_pending = False
            self.schedule.take_in()
        depth = self.outbox.depth
        everything = everything or not self.has_beat
        has_sent = False
        while (everything or self.outbox.fills_message) and self.send_next():
            has_sent = True
        if has_sent or not self.has_beat:
            with self.lock:
                self.has_beat = self.schedule.plan(depth, self.now_s) is not None

    def be_busy(self) -> None:
        """Have a beat pending, or the window full, after a message of many; one post waits."""
        while True:
            for _ in range(20):
                self.schedule.post(record(b"x"))
            self.look(everything=True)
            self.schedule.post(record(b"x"))
            if not self.schedule.post(record(b"x")):
                break

    def be_looked_at(self) -> None:
        """At a beat; by the owner's thread, which cannot while another has the lock."""
        if not self.lock.is_held:
            self.has_beat = False
            self.look(everything=True)

    def be_confirmed(self) -> None:
        """By the broker, the oldest message; in the owner's thread."""
        if not self.lock.is_held and self.under_way:
            with self.lock:
                self.outbox.confirm(self.under_way.pop(0).tag)
            if self.outbox.depth:
                self.look()

    def waiting(self) -> list[bytes]:
        """What is still to be sent, in order; it is sent."""
        before = len(self.sent)
        while self.outbox.depth:
            while self.under_way:
                self.outbox.confirm(self.under_way.pop(0).tag)
            self.send_next()
        waiting = self.sent[before:]
        del self.sent[before:]
        return waiting


# A post and a look, of two threads that take turns at any line.


@contextmanager
def called_at_lines(acts: list[tuple[int, Callable[[], object]]]) -> Iterator[list[int]]:
    """Act before some lines of the intake or the schedule; tells how many lines there were."""
    files = {intake_module.__file__, schedule_module.__file__}
    lines = [0]

    def trace(frame: Any, event: str, _: Any) -> Any:
        if frame.f_code.co_filename not in files:
            return None
        if event == "line":
            lines[0] += 1
            sys.settrace(None)
            for number, act in acts:
                if number == lines[0]:
                    act()
            sys.settrace(trace)
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield lines
    finally:
        sys.settrace(before)


OPTIONS: dict[str, dict[str, Any]] = {
    "hurried": {},
    "patient": {"patient": True},
    "full window": {"limits": Limits(window_messages=1)},
    "small messages": {"limits": Limits(batch_events=10)},
}

LOOKS = [Publisher.be_looked_at, Publisher.be_confirmed]


def busy(options: dict[str, Any], beats: int) -> Publisher:
    publisher = Publisher(**options)
    publisher.be_busy()
    for _ in range(beats):
        publisher.be_looked_at()
        publisher.schedule.post(
            record(b"x")
        )  # opens the intake again, while there is a beat to come
    return publisher


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("beats", range(3))
@pytest.mark.parametrize("look", LOOKS)
def test_no_post_is_left_behind_wherever_in_it_a_look_comes(
    options: dict[str, Any], beats: int, look: Callable[[Publisher], None]
) -> None:
    """After the second beat that finds only a few records, a publisher stops beating."""
    number = looks = 0
    while True:
        number += 1
        publisher = busy(options, beats)
        with called_at_lines([(number, partial(look, publisher))]) as lines:
            is_mine = publisher.schedule.post(record(b"the one"))
        check_that_it_is_not_left_behind(publisher, is_mine=is_mine)
        if lines[0] < number:
            break
        looks += 1
    assert looks > 3


class Post:
    """A post whose parts come at different times; before it, if possible, a large post."""

    def __init__(self, publisher: Publisher) -> None:
        self.publisher = publisher
        self.is_in: bool | None = None
        self.is_open: bool | None = None

    def put(self) -> None:
        if not self.publisher.lock.is_held:
            self.publisher.schedule.post(LARGE)
        self.is_in = self.publisher.schedule.intake.put(record(b"the one"))

    def ask(self) -> None:
        self.is_open = self.publisher.schedule.intake.is_open

    def end(self) -> bool:
        """What is left to do of it, and whether its thread has to send."""
        if not self.is_in:
            return self.publisher.schedule.post(record(b"the one"))
        if self.is_open is None:
            self.ask()
        if self.is_open:
            return False
        self.publisher.schedule.take_in()
        return self.publisher.schedule.has_turn()


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("beats", range(3))
@pytest.mark.parametrize("look", LOOKS)
def test_no_post_is_left_behind_wherever_in_a_look_it_comes(
    options: dict[str, Any], beats: int, look: Callable[[Publisher], None]
) -> None:
    """It is put in at one, and asks whether the intake is open at the same or another."""
    number, lines = 0, [1]
    while number < lines[0]:
        number += 1
        for later in range(number, lines[0] + 2):
            publisher = busy(options, beats)
            post = Post(publisher)
            with called_at_lines([(number, post.put), (later, post.ask)]) as lines:
                look(publisher)
            check_that_it_is_not_left_behind(publisher, is_mine=post.end())
    assert number > 3


def check_that_it_is_not_left_behind(publisher: Publisher, *, is_mine: bool) -> None:
    """The record was sent or some thread is going to send it, and it is there once."""
    schedule = publisher.schedule
    assert b"the one" in publisher.sent or is_mine or schedule.is_looked_at
    sent = list(publisher.sent)
    # The intake is empty if the outbox is: otherwise no look would find its records.
    if publisher.outbox.depth == 0:
        posted = schedule.posted
        schedule.take_in()
        assert schedule.posted == posted
    schedule.take_in()
    assert (publisher.waiting() + sent).count(b"the one") == 1


# What the schedule says, as a table: a state of the publisher, and whose turn it is.


def idle(publisher: Publisher) -> None:
    """Nothing waits, and nothing is under way."""


def not_ready(publisher: Publisher) -> None:
    publisher.schedule.on_lost()


def woken(publisher: Publisher) -> None:
    publisher.schedule.wake_pending = True


def window_full(publisher: Publisher) -> None:
    while publisher.outbox.has_window:
        publisher.schedule.post(record(b"x"))
        publisher.send_next()


def beating(publisher: Publisher) -> None:
    publisher.be_busy()


def calm_again(publisher: Publisher) -> None:
    """A beat is to come, but the last messages held few: single posts go at once again."""
    publisher.be_busy()
    for _ in range(2):
        publisher.schedule.post(record(b"x"))
        publisher.send_next()


def patient(publisher: Publisher) -> None:
    publisher.schedule.patient = True
    publisher.schedule.post(record(b"x"))
    publisher.look()


def nearly_a_message(publisher: Publisher) -> None:
    publisher.be_busy()
    while publisher.outbox.depth < publisher.limits.batch_events - 1:
        publisher.schedule.post(LARGE)


@pytest.mark.parametrize(
    ("state", "is_mine", "is_looked_at"),
    [
        (idle, True, False),
        (not_ready, False, False),
        (woken, False, True),
        (window_full, False, True),
        (beating, False, True),
        (calm_again, True, True),
        (patient, False, True),
        (nearly_a_message, True, True),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_whose_turn_it_is_after_a_post(
    state: Callable[[Publisher], None], is_mine: bool, is_looked_at: bool
) -> None:
    publisher = Publisher()
    state(publisher)
    assert publisher.schedule.post(record(b"the one")) == is_mine
    assert publisher.schedule.is_looked_at == is_looked_at


@pytest.mark.parametrize(
    ("is_patient", "depth", "left", "calm", "beats"),
    [
        (False, 0, 0, True, False),
        (False, 1, 0, True, False),
        (False, 20, 0, False, True),
        (False, 20, 5, True, True),
        (True, 0, 0, True, False),
        (True, 1, 0, True, True),
        (True, 20, 0, False, True),
    ],
)
def test_whether_another_beat_comes(
    is_patient: bool, depth: int, left: int, calm: bool, beats: bool
) -> None:
    publisher = Publisher(patient=is_patient)
    if not calm:
        for _ in range(20):
            publisher.outbox.post(record(b"x"))
        publisher.outbox.take()
    for _ in range(left):
        publisher.outbox.post(record(b"x"))
    delay_s = publisher.schedule.plan(depth, 1.0)
    assert (delay_s is not None) == beats
    slowest_s = publisher.limits.tempo_patient_s if is_patient else publisher.limits.tempo_slow_s
    assert delay_s is None or publisher.limits.tempo_fast_s <= delay_s <= slowest_s


def test_no_beat_comes_while_the_window_is_full() -> None:
    publisher = Publisher(limits=Limits(window_messages=1))
    for _ in range(20):
        publisher.outbox.post(record(b"x"))
    publisher.send_next()
    publisher.outbox.post(record(b"x"))
    assert publisher.schedule.plan(20, 1.0) is None


def test_posts_pass_without_the_lock_while_a_beat_is_to_come() -> None:
    publisher = Publisher()
    publisher.be_busy()
    with publisher.lock:
        publisher.schedule.take_in()
        publisher.schedule.has_turn()
    depth = publisher.outbox.depth
    assert not publisher.schedule.post(record(b"small"))
    assert publisher.outbox.depth == depth, "it is in the intake"
    assert not publisher.schedule.post(LARGE)
    assert publisher.outbox.depth == depth + 2
    publisher.be_looked_at()
    assert publisher.sent[-2:] == [b"small", LARGE.data]


def test_the_post_that_fills_a_message_has_it_sent() -> None:
    publisher = Publisher(limits=Limits(batch_events=100))
    publisher.be_busy()
    with publisher.lock:
        publisher.schedule.take_in()
    missing = 100 - publisher.outbox.depth
    posted = [publisher.schedule.post(record(b"x")) for _ in range(missing)]
    assert posted == [False] * (missing - 1) + [True]


@pytest.mark.parametrize("options", [{}, {"window_messages": 1, "batch_events": 20}])
def test_a_full_backlog_is_noticed_before_anything_is_pushed_out(options: dict[str, Any]) -> None:
    publisher = Publisher(limits=Limits(backlog_events=50, **options))
    posted = 0
    while not publisher.outbox.is_full:
        publisher.schedule.post(record(b"%d" % posted))
        posted += 1
        if publisher.outbox.has_window and options:
            publisher.look(everything=True)
    assert posted == 50
    assert publisher.schedule.pushed_out == 0
    publisher.schedule.post(record(b"one too many"))
    assert publisher.schedule.pushed_out == 1


def test_records_in_the_intake_are_counted_when_they_are_taken_in() -> None:
    publisher = Publisher(limits=Limits(window_messages=1))
    publisher.be_busy()
    with publisher.lock:
        publisher.schedule.take_in()
    before = publisher.schedule.posted
    publisher.schedule.post(record(b"opens the intake"))
    for _ in range(3):
        assert not publisher.schedule.post(record(b"the one"))
    with publisher.lock:
        publisher.schedule.take_in()
    assert publisher.schedule.posted == before + 4


def test_a_closed_schedule_takes_no_posts() -> None:
    publisher = Publisher()
    publisher.be_busy()
    publisher.schedule.close("the publisher was stopped")
    with publisher.lock:
        publisher.schedule.take_in()
    posted = publisher.schedule.posted
    with pytest.raises(NetworkStopped, match="was stopped"):
        publisher.schedule.post(record(b"the one"))
    assert publisher.schedule.posted == posted
    publisher.schedule.close("")
    publisher.schedule.post(record(b"the one"))
    assert publisher.schedule.posted == posted + 1


def test_a_woken_thread_looks_at_what_is_posted_until_it_runs() -> None:
    publisher = Publisher()
    publisher.schedule.wake_pending = True
    for _ in range(5):
        assert not publisher.schedule.post(record(b"the one"))
    assert publisher.outbox.depth == 1, "the others are in the intake"
    publisher.look()
    assert publisher.sent == [b"the one"] * 5


def test_a_publisher_that_is_no_longer_patient_sends_the_next_post_at_once() -> None:
    publisher = Publisher(patient=True)
    for _ in range(3):
        publisher.schedule.post(record(b"x"))
        publisher.be_looked_at()
    assert not publisher.schedule.post(record(b"waits"))
    publisher.schedule.patient = False
    assert publisher.schedule.post(record(b"the one"))


def test_after_a_lost_connection_posts_wait_for_the_next_one() -> None:
    publisher = Publisher()
    publisher.be_busy()
    publisher.schedule.on_lost()
    publisher.outbox.connection_lost()
    before = publisher.outbox.depth
    for _ in range(3):
        assert not publisher.schedule.post(record(b"the one"))
    assert publisher.outbox.depth >= before + 3
    publisher.schedule.on_ready()
    publisher.has_beat = False
    publisher.under_way.clear()
    publisher.look(everything=True)
    assert publisher.sent[-3:] == [b"the one"] * 3


def test_posts_pass_without_the_lock_while_the_window_is_full() -> None:
    publisher = Publisher(limits=Limits(window_messages=1))
    window_full(publisher)
    publisher.schedule.post(record(b"opens the intake"))
    depth = publisher.outbox.depth
    assert not publisher.schedule.post(record(b"in the intake"))
    assert publisher.outbox.depth == depth


def test_beats_that_find_nothing_end_the_haste() -> None:
    publisher = Publisher()
    publisher.be_busy()
    publisher.be_looked_at()
    assert not publisher.outbox.is_calm, "the last message held many"
    for _ in range(2):
        publisher.be_looked_at()
    assert publisher.outbox.is_calm
    assert publisher.schedule.post(record(b"goes at once"))


def test_what_is_put_first_comes_before_what_is_in_the_intake_and_is_counted() -> None:
    publisher = Publisher()
    schedule = publisher.schedule
    schedule.on_ready()
    schedule.wake_pending = True
    schedule.post(record(b"3"))
    schedule.post(record(b"4"))
    with publisher.lock:
        schedule.put_first([record(b"1"), record(b"2")])
    assert schedule.posted == 4
    assert [one.data for one in publisher.outbox.held] == [b"1", b"2", b"3", b"4"]
    assert schedule.intake.look() == []
