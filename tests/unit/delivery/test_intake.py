"""The intake of a publisher: whatever is put in is seen by a look, whenever that comes."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest

from miros_rabbitmq.amqp import sender as sender_module
from miros_rabbitmq.amqp.link_state import SessionState
from miros_rabbitmq.amqp.publisher import SimplePikaTopicPublisher
from miros_rabbitmq.delivery import intake as intake_module
from miros_rabbitmq.delivery.intake import SMALL_TOKEN, Intake
from miros_rabbitmq.exceptions import NetworkStopped
from miros_rabbitmq.limits import Limits

SMALL = b"x" * SMALL_TOKEN


def test_a_new_intake_takes_nothing() -> None:
    intake = Intake()
    assert not intake.is_open
    assert not intake.put(b"token")
    assert intake.look() == []


def test_an_open_intake_takes_small_tokens_while_it_has_places() -> None:
    intake = Intake()
    intake.open(2)
    assert not intake.put(SMALL + b"x")
    assert intake.put(SMALL)
    assert intake.put(b"second")
    assert intake.is_open
    assert not intake.put(b"third")
    assert intake.look() == [SMALL, b"second"]
    assert not intake.is_open
    assert not intake.put(b"fourth")
    intake.open(3)
    assert intake.put(b"fifth")
    intake.forget([SMALL, b"second"])
    assert intake.look() == [b"fifth"]


@pytest.mark.parametrize("places", [0, -1, -100])
def test_no_places_are_none(places: int) -> None:
    intake = Intake()
    intake.open(places)
    assert not intake.is_open
    assert not intake.put(b"token")


def test_what_was_put_in_stays_when_it_is_closed() -> None:
    intake = Intake()
    intake.open(1)
    intake.put(b"token")
    intake.close()
    assert not intake.is_open
    assert intake.look() == [b"token"]


# A post and a look, of two threads that take turns at any line.


@contextmanager
def called_at_lines(acts: list[tuple[int, Callable[[], object]]]) -> Iterator[list[int]]:
    """Act before some lines of the intake or the sender; tells how many lines there were."""
    files = {intake_module.__file__, sender_module.__file__}
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


class Ready(SimplePikaTopicPublisher):
    """A publisher that believes to be connected, and whose loop calls nothing back."""

    def __init__(self, **options: Any) -> None:
        url = "amqp://user:password@127.0.0.2:5672/%2F"
        super().__init__(url, "exchange", "key", separator=b"\n", **options)
        self._state = SessionState.READY
        self._absent_at_s = math.inf
        self.sent: list[bytes] = []

    def _call_soon(self, callback: Callable[[], None]) -> None:
        pass

    def _call_later(self, delay_s: float, callback: Callable[[], None]) -> Any:
        return callback

    def _cancel_call(self, timer: Any) -> None:
        pass

    def _send_next(self) -> bool:
        self._take_in()
        batch = self._outbox.take()
        self.sent += batch.tokens if batch else ()
        return batch is not None

    def be_busy(self) -> None:
        """Have a beat pending, or the window full, after a message of many; one post waits."""
        while not self._intake.is_open:
            for _ in range(20):
                self.enqueue(b"x")
            self._send(everything=True)
            self.enqueue(b"x")

    def be_looked_at(self) -> None:
        """As by the publisher's thread, which cannot while another has the lock."""
        if not self._lock._is_owned():  # type: ignore[attr-defined]
            self._on_beat()

    def be_confirmed(self) -> None:
        """As by the broker, the oldest message; in the publisher's thread."""
        if not self._lock._is_owned():  # type: ignore[attr-defined]
            self._settle(min(self._outbox._unconfirmed), False, refused=False)

    @property
    def will_be_looked_at(self) -> bool:
        """By a beat, by a thread that was woken, or when a confirm opens the window."""
        return self._beat_pending or self._wake_pending or not self._outbox.has_window


OPTIONS: dict[str, dict[str, Any]] = {
    "hurried": {},
    "patient": {"patient": True},
    "full window": {"limits": Limits(window_messages=1)},
    "small messages": {"limits": Limits(batch_events=10)},
}


LOOKS = [Ready.be_looked_at, Ready.be_confirmed]


def busy(options: dict[str, Any], beats: int) -> Ready:
    publisher = Ready(**options)
    publisher.be_busy()
    for _ in range(beats):
        publisher.be_looked_at()
        publisher.enqueue(b"x")  # opens the intake again, while there is a beat to come
    return publisher


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("beats", range(3))
@pytest.mark.parametrize("look", LOOKS)
def test_no_post_is_left_behind_at_whichever_of_its_lines_a_look_comes(
    options: dict[str, Any], beats: int, look: Callable[[Ready], None]
) -> None:
    """After the second beat that finds but a few, a publisher beats no longer."""
    number = looks = 0
    while True:
        number += 1
        publisher = busy(options, beats)
        with called_at_lines([(number, partial(look, publisher))]) as lines:
            is_mine = publisher.enqueue(b"token")
        check_that_it_is_not_left_behind(publisher, is_mine=is_mine)
        if lines[0] < number:
            break
        looks += 1
    assert looks > 5


class Post:
    """A post whose parts come at different times; before it, where that can be, a large one."""

    def __init__(self, publisher: Ready) -> None:
        self.publisher = publisher
        self.is_in: bool | None = None
        self.is_open: bool | None = None

    def put(self) -> None:
        if not self.publisher._lock._is_owned():  # type: ignore[attr-defined]
            self.publisher.post_token(SMALL + b"large")
        self.is_in = self.publisher._intake.put(b"token")

    def ask(self) -> None:
        self.is_open = self.publisher._intake.is_open

    def end(self) -> bool:
        """What is left to do of it, and whether its thread has to send."""
        if not self.is_in:
            return self.publisher.enqueue(b"token")
        if self.is_open is None:
            self.ask()
        if self.is_open:
            return False
        self.publisher._take_in()
        return self.publisher._is_mine_to_send()


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("beats", range(3))
@pytest.mark.parametrize("look", LOOKS)
def test_no_post_is_left_behind_at_whichever_lines_of_a_look_it_comes(
    options: dict[str, Any], beats: int, look: Callable[[Ready], None]
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
    assert number > 5


def check_that_it_is_not_left_behind(publisher: Ready, *, is_mine: bool) -> None:
    """The token was sent, or somebody is going to send it; and it is there once."""
    assert b"token" in publisher.sent or is_mine or publisher.will_be_looked_at
    assert publisher._outbox.depth or not publisher._intake._tokens
    publisher._take_in()
    waiting = list(publisher._outbox._waiting)
    assert waiting.count(b"token") + publisher.sent.count(b"token") == 1


def test_posts_pass_without_a_look_while_a_beat_is_to_come() -> None:
    publisher = Ready()
    publisher.be_busy()
    assert not publisher.enqueue(b"small")
    assert len(publisher._intake._tokens) == 1
    assert not publisher.enqueue(SMALL + b"large")
    assert not publisher._intake._tokens
    assert publisher.stats().waiting == 3
    publisher.be_looked_at()
    assert publisher.sent[-2:] == [b"small", SMALL + b"large"]


def test_the_post_that_fills_a_message_has_it_sent() -> None:
    publisher = Ready(limits=Limits(batch_events=100))
    publisher.be_busy()
    posted = [publisher.enqueue(b"x") for _ in range(99)]
    assert posted == [False] * 98 + [True]


def test_a_full_backlog_is_noticed_before_anything_is_pushed_out() -> None:
    publisher = Ready(limits=Limits(backlog_events=50, window_messages=1, batch_events=20))
    posted = 0
    while publisher.has_room:
        publisher.enqueue(b"%d" % posted)
        posted += 1
        if publisher._outbox.has_window:
            publisher._send(everything=True)
    assert posted == 50
    assert publisher.stats().dropped == 0
    assert publisher.stats().waiting + publisher.stats().unconfirmed == 50


def test_a_backlog_that_a_message_would_not_fill_is_full_all_the_same() -> None:
    publisher = Ready(limits=Limits(backlog_events=30, batch_events=100))
    publisher.be_busy()
    posted = publisher.stats().unconfirmed + publisher.stats().waiting
    while publisher.has_room:
        publisher.enqueue(b"x")
        posted += 1
    assert posted == 30
    assert publisher.stats().dropped == 0


def test_what_passed_without_a_look_is_neither_flushed_nor_settled() -> None:
    publisher = Ready(limits=Limits(window_messages=1))
    publisher._was_ready = True
    publisher.be_busy()
    for _ in range(3):
        assert not publisher.enqueue(b"token")
    assert publisher._settled == 0
    assert not publisher.is_flushed
    assert not publisher.flush(0.0)
    assert publisher._settled == 0
    while publisher.stats().unconfirmed:
        publisher.be_confirmed()
    assert publisher.stats().waiting == 0
    assert publisher.is_flushed
    assert publisher.flush(0.0)


def test_a_beat_counts_what_passed_without_a_look() -> None:
    publisher = Ready()
    publisher.be_busy()
    depths: list[int] = []
    publisher._hurried.beat = lambda depth, _now_s: depths.append(depth) or 1.0  # type: ignore
    for _ in range(10):
        publisher.enqueue(b"x")
    publisher.be_looked_at()
    assert depths == [11]


def test_a_stopped_publisher_lets_nothing_pass() -> None:
    publisher = Ready()
    publisher.be_busy()
    publisher._stop_asked = True
    with pytest.raises(NetworkStopped, match="was stopped"):
        publisher.enqueue(b"token")
    assert publisher.stats().waiting == 1


def test_a_woken_thread_looks_at_what_is_posted_until_it_runs() -> None:
    publisher = Ready()
    publisher.wake()
    for _ in range(5):
        assert not publisher.enqueue(b"token")
    assert len(publisher._intake._tokens) == 4
    publisher._on_wake(())
    assert publisher.sent == [b"token"] * 5


def test_who_is_patient_no_longer_sends_the_next_post_at_once() -> None:
    publisher = Ready(patient=True)
    for _ in range(3):
        publisher.enqueue(b"x")
        publisher.be_looked_at()
    assert not publisher.enqueue(b"waits")
    publisher.patient = False
    assert publisher.enqueue(b"token")


def test_after_messages_of_few_a_post_is_sent_at_once_though_a_beat_is_to_come() -> None:
    publisher = Ready()
    publisher.be_busy()
    for _ in range(2):  # as by the thread that posts
        publisher.enqueue(b"x")
        publisher._send_next()
    assert publisher._beat_pending
    assert publisher.enqueue(b"first")
    assert publisher.enqueue(b"token")


def test_a_forked_child_has_nothing_of_its_parents_intake() -> None:
    publisher = Ready()
    publisher.be_busy()
    publisher.enqueue(b"token")
    publisher._disown()
    assert publisher.stats().waiting == 0
    assert not publisher._intake.is_open
    assert publisher._settled == 0
