"""The intake of a publisher: whatever is put in is seen by a look, whenever that comes."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from miros_rabbitmq import intake as intake_module
from miros_rabbitmq import sender as sender_module
from miros_rabbitmq.delivery import Outbox
from miros_rabbitmq.intake import SMALL_TOKEN, Intake
from miros_rabbitmq.life import SessionState
from miros_rabbitmq.limits import Limits
from miros_rabbitmq.publisher import SimplePikaTopicPublisher

SMALL = b"x" * SMALL_TOKEN


def test_a_new_intake_takes_nothing() -> None:
    intake = Intake()
    assert not intake.is_open
    assert not intake.put(b"token")
    assert not intake


def test_an_open_intake_takes_small_tokens_while_it_has_places() -> None:
    intake = Intake()
    intake.open(2)
    assert not intake.put(SMALL + b"x")
    assert intake.put(SMALL)
    assert intake.put(b"second")
    assert intake.is_open
    assert not intake.put(b"third")
    assert intake.empty() == [SMALL, b"second"]
    assert not intake.is_open
    assert not intake.put(b"fourth")


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
    assert intake.empty() == [b"token"]


# What the outbox says there is room for.


@given(
    max_events=st.integers(1, 40),
    max_bytes=st.integers(1, 20_000),
    sizes=st.lists(st.integers(0, 2_000), max_size=20),
    under_way=st.integers(0, 3),
    resend=st.booleans(),
    last=st.integers(0, 5_000),
)
def test_small_tokens_that_have_room_push_nothing_out_nor_does_one_more(
    max_events: int, max_bytes: int, sizes: list[int], under_way: int, resend: bool, last: int
) -> None:
    outbox = Outbox(
        max_events=max_events,
        max_bytes=max_bytes,
        window=10,
        batch_events=5,
        batch_bytes=1_000,
        resend=resend,
    )
    for size in sizes:
        outbox.post(b"x" * size)
    for _ in range(under_way):
        outbox.take()
    room = outbox.room
    if room >= 0:
        outbox.post_all([SMALL] * room)
        assert not outbox.is_full
        assert outbox.post(b"x" * last) == 0


@given(
    batch_events=st.integers(1, 40),
    batch_bytes=st.integers(1, 20_000),
    sizes=st.lists(st.integers(0, 2_000), max_size=20),
)
def test_small_tokens_with_room_in_a_message_do_not_fill_it(
    batch_events: int, batch_bytes: int, sizes: list[int]
) -> None:
    outbox = Outbox(
        max_events=100,
        max_bytes=100_000,
        window=10,
        batch_events=batch_events,
        batch_bytes=batch_bytes,
    )
    for size in sizes:
        outbox.post(b"x" * size)
    room = outbox.room_in_message
    if room >= 0:
        outbox.post_all([SMALL] * room)
        assert not outbox.fills_message


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
        """Have a beat pending, or the window full, after a message of many."""
        while not self._intake.is_open:
            for _ in range(20):
                self.enqueue(b"x")
            self._send(everything=True)

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
    return publisher


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("beats", [0, 1, 2])
@pytest.mark.parametrize("look", LOOKS)
def test_no_post_is_left_behind_at_whichever_of_its_lines_a_look_comes(
    options: dict[str, Any], beats: int, look: Callable[[Ready], None]
) -> None:
    """With the third beat that finds nothing, a publisher beats no longer."""
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
        return not self.is_open and self.publisher._look()


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("beats", [0, 1, 2])
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
    publisher._take_in()
    waiting = list(publisher._outbox._waiting)
    assert waiting.count(b"token") + publisher.sent.count(b"token") == 1


def test_posts_pass_without_a_look_while_a_beat_is_to_come() -> None:
    publisher = Ready()
    publisher.be_busy()
    assert not publisher.enqueue(b"small")
    assert len(publisher._intake) == 1
    assert not publisher.enqueue(SMALL + b"large")
    assert not publisher._intake
    assert publisher.stats().waiting == 2
    publisher.be_looked_at()
    assert publisher.sent[-2:] == [b"small", SMALL + b"large"]


def test_the_post_that_fills_a_message_has_it_sent() -> None:
    publisher = Ready(limits=Limits(batch_events=100))
    publisher.be_busy()
    posted = [publisher.enqueue(b"x") for _ in range(100)]
    assert posted == [False] * 99 + [True]


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
