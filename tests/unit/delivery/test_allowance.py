"""What may be under way, on links of many kinds in virtual time."""

from __future__ import annotations

import heapq

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from miros_rabbitmq.delivery.allowance import LEAST_BYTES, START_BYTES, Allowance
from miros_rabbitmq.delivery.outbox import Outbox

from .records import record

WINDOW, BATCH_BYTES = 32, 128_000
MOST = WINDOW * BATCH_BYTES

FRAMES = 100
"""What AMQP and TCP add to a message."""


class Path:
    """A link to a broker and the broker itself: a rate, a delay, and times when nothing moves."""

    def __init__(
        self, rate: float, delay_s: float = 0.001, stalls: dict[float, float] | None = None
    ) -> None:
        self.rate = rate
        self.delay_s = delay_s
        self.stalls = stalls or {}
        self._free_s = 0.0

    def confirmed_s(self, now_s: float, size: int) -> float:
        """When a message that is sent now is confirmed."""
        begin_s = max(now_s, self._free_s)
        self._free_s = begin_s + (size + FRAMES) / self.rate
        for stall_s, length_s in self.stalls.items():
            if begin_s < stall_s + length_s and self._free_s > stall_s:
                self._free_s = max(self._free_s, stall_s + length_s)
        return self._free_s + self.delay_s


class Run:
    """An outbox that always has something to send, over a path, in virtual time."""

    def __init__(self, path: Path, *, event_bytes: int = 200, allowance: bool = True) -> None:
        self.path = path
        self.now_s = 1_000.0
        self.began_s = self.now_s
        self.event_bytes = event_bytes
        self.allowance = Allowance(MOST, lambda: self.now_s)
        self.outbox = Outbox(
            max_events=10**9,
            max_bytes=10**12,
            window=WINDOW,
            batch_events=512,
            batch_bytes=BATCH_BYTES,
            allowance=self.allowance if allowance else None,
        )
        self.under_way = 0
        self.sizes: dict[int, int] = {}
        self.confirms: list[tuple[float, int]] = []
        self.confirmed: list[tuple[float, int]] = []
        self.most_under_way: list[tuple[float, int]] = []

    def send(self) -> None:
        outbox = self.outbox
        while outbox.has_window:
            while not outbox.fills_message:
                outbox.post(record(bytes(self.event_bytes)))
            batch = outbox.take()
            if batch is None:
                assert outbox.unconfirmed, "otherwise nobody would look again"
                break
            size = len(batch.body)
            self.sizes[batch.tag] = size
            self.under_way += size
            at_s = self.path.confirmed_s(self.now_s, size)
            heapq.heappush(self.confirms, (at_s, batch.tag))
            self.most_under_way.append((self.now_s - self.began_s, self.under_way))

    def until(self, end_s: float) -> None:
        """Go on until some seconds after the beginning."""
        self.send()
        while self.confirms and self.confirms[0][0] <= self.began_s + end_s:
            self.now_s, tag = heapq.heappop(self.confirms)
            self.outbox.confirm(tag)
            size = self.sizes.pop(tag)
            self.under_way -= size
            self.confirmed.append((self.now_s - self.began_s, size))
            self.send()
        self.now_s = self.began_s + end_s

    def rate_between(self, begin_s: float, end_s: float) -> float:
        return sum(size for at_s, size in self.confirmed if begin_s <= at_s < end_s) / (
            end_s - begin_s
        )

    def peak_between(self, begin_s: float, end_s: float) -> int:
        return max(size for at_s, size in self.most_under_way if begin_s <= at_s < end_s)


@pytest.mark.parametrize("rate", [1_000, 2_000, 4_000, 32_000, 250_000])
@pytest.mark.parametrize("delay_s", [0.001, 0.05, 0.3])
def test_a_thin_link_has_a_second_or_two_under_way_and_is_used_well(
    rate: int, delay_s: float
) -> None:
    run = Run(Path(rate, delay_s))
    run.until(200.0)
    first_s = 2.5 * START_BYTES / rate + 3
    assert run.peak_between(0, first_s) <= max(START_BYTES, 4.5 * rate)
    for_s = run.peak_between(first_s, 200) / rate
    alone_s = max(1.0, (LEAST_BYTES + FRAMES) / rate)
    assert for_s <= max(1.1 + alone_s, 2 * alone_s) + delay_s
    assert run.rate_between(10, 200) > 0.85 * rate, "the frames take up to a tenth"


@pytest.mark.parametrize("rate", [2_000, 32_000])
def test_a_large_event_goes_alone_over_a_thin_link_and_costs_only_its_own_time(rate: int) -> None:
    run = Run(Path(rate))
    run.until(20.0)
    run.event_bytes = 50_000
    run.until(60.0)
    run.event_bytes = 200
    run.until(200.0)
    assert run.peak_between(0, 200) <= 50_000 + max(START_BYTES, 3 * rate)
    assert run.peak_between(150, 200) <= 3 * max(rate, LEAST_BYTES)
    assert run.rate_between(150, 200) > 0.85 * rate


@pytest.mark.parametrize("delay_s", [0.001, 0.01, 0.1, 0.3])
def test_a_fast_link_soon_carries_as_much_as_without_a_limit(delay_s: float) -> None:
    limited, free = (
        Run(Path(10_000_000, delay_s), event_bytes=2_000, allowance=allowance)
        for allowance in (True, False)
    )
    for run in (limited, free):
        run.until(20.0)
    grown_s = 7 * delay_s + 0.2
    assert limited.rate_between(grown_s, 20) > 0.97 * free.rate_between(grown_s, 20)
    total = sum(size for _, size in free.confirmed) - sum(size for _, size in limited.confirmed)
    assert total / free.rate_between(5, 20) < 6 * delay_s + 0.1, "what the growth costs, in seconds"


@pytest.mark.parametrize("latency_s", [1.2, 3.0])
def test_a_broker_that_takes_long_for_each_message_is_no_thin_link(latency_s: float) -> None:
    """A slow disk, or a satellite: the less is under way, the slower it becomes."""
    run = Run(Path(10_000_000, latency_s), event_bytes=2_000)
    run.until(200.0)
    assert run.allowance.bytes == MOST
    assert run.rate_between(150, 200) > 0.7 * MOST / (latency_s + 0.4)


def test_after_a_stall_of_eight_seconds_it_goes_on_at_once() -> None:
    run = Run(Path(10_000_000, 0.002, stalls={1_005.0: 8.0}), event_bytes=2_000)
    run.until(20.0)
    assert run.rate_between(13.3, 20.0) > 9_000_000
    assert run.peak_between(0, 20) <= MOST


def test_a_link_whose_delay_jumps_is_learned_anew() -> None:
    run = Run(Path(10_000_000, 0.01), event_bytes=2_000)
    run.until(5.0)
    run.path.delay_s = 2.0
    run.until(120.0)
    assert run.rate_between(100.0, 120.0) > 0.5 * MOST / 2.4


def test_a_link_that_becomes_thin_while_it_is_little_used_gets_little() -> None:
    """However much it carried long before."""
    run = Run(Path(10_000_000))
    run.until(3.0)
    assert run.allowance.bytes > 1_000_000
    while run.confirms:
        run.now_s, tag = heapq.heappop(run.confirms)
        run.outbox.confirm(tag)
        run.under_way -= run.sizes.pop(tag)
    run.now_s += 30.0
    run.path.rate = 2_000
    run.most_under_way.clear()
    run.until(120.0)
    assert max(size for _, size in run.most_under_way) <= START_BYTES


def test_while_the_timed_message_is_overdue_nothing_more_goes() -> None:
    run = Run(Path(10_000_000))
    run.until(1.0)
    box = run.outbox
    while box.depth:
        box.confirm(10**6, multiple=True)
        box.take()
    box.confirm(10**6, multiple=True)
    now_s = run.now_s
    box.post(record(b"x" * (run.allowance.bytes // 2)))
    assert box.take() is not None
    for delay_s, goes in ((0.5, True), (0.99, True), (2.1, False), (60.0, False)):
        run.now_s = now_s + delay_s
        box.post(record(b"more"))
        assert (box.take() is not None) == goes
    assert not box.has_window
    assert box.unconfirmed > 0
    box.confirm(10**6, multiple=True)
    assert box.has_window
    assert box.take() is not None


def test_a_new_connection_begins_with_little() -> None:
    run = Run(Path(10_000_000))
    run.until(1.0)
    assert run.allowance.bytes > START_BYTES
    run.outbox.connection_lost()
    assert run.allowance.bytes == START_BYTES
    batch = run.outbox.take()
    assert batch is not None
    assert len(batch.body) <= START_BYTES / 2


def test_a_new_connection_knows_nothing_of_the_delay_of_the_one_before() -> None:
    now_s = 0.0
    allowance = Allowance(MOST, lambda: now_s)
    for took_s in (0.001, 5.0):
        allowance.begin_anew()
        allowance.note_sent(1, 1_000)
        now_s += took_s
        allowance.note_confirmed(1)
        allowance.note_sent(2, 2_000)
        now_s += took_s
        allowance.note_confirmed(2)
        assert allowance.bytes >= 4_000


def test_a_link_that_becomes_thin_in_full_use_soon_has_a_second_or_two_under_way() -> None:
    run = Run(Path(1_000_000))
    run.until(3.0)
    run.path.rate = 32_000
    run.until(63.0)
    assert run.peak_between(43, 63) < 2.2 * 32_000
    assert run.rate_between(43, 63) > 0.9 * 32_000


def test_what_little_use_leaves_of_an_allowance_is_little() -> None:
    """Though there is always something under way."""
    run = Run(Path(10_000_000))
    run.until(2.0)
    box = run.outbox
    while box.depth:
        box.confirm(10**6, multiple=True)
        box.take()
    box.confirm(10**6, multiple=True)
    before = run.allowance.bytes
    last = 0
    for _ in range(100):
        run.now_s += 0.1
        box.post(record(b"x" * 200))
        batch = box.take()
        assert batch is not None
        box.confirm(last)
        last = batch.tag
    assert run.allowance.bytes <= before / 100


def test_what_is_not_used_is_halved_every_second() -> None:
    run = Run(Path(10_000_000))
    run.until(2.0)
    run.outbox.confirm(10**6, multiple=True)
    before = run.allowance.bytes
    run.now_s += 3.01
    run.allowance.note_rest()
    run.allowance.note_rest()
    assert before / 16 <= run.allowance.bytes <= before / 8
    run.now_s += 3_600.0
    run.allowance.note_rest()
    assert run.allowance.bytes == START_BYTES


def test_rest_gives_a_thin_link_no_more_than_it_was_known_to_carry() -> None:
    run = Run(Path(2_000))
    run.until(60.0)
    run.outbox.confirm(10**6, multiple=True)
    before = run.allowance.bytes
    assert before < START_BYTES / 2
    run.now_s += 3_600.0
    run.allowance.note_rest()
    assert run.allowance.bytes == before


def test_a_few_small_events_say_nothing_of_what_a_link_can_carry() -> None:
    """A token bucket lets the first kilobytes through at once."""
    run = Run(Path(10_000_000))
    box = run.outbox
    for tag in range(1, 200):
        box.post(record(b"x" * 200))
        assert box.take() is not None
        run.now_s += 0.001
        box.confirm(tag)
    assert run.allowance.bytes == START_BYTES


@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(["post", "take", "confirm", "all", "lost"]),
            st.integers(0, 40_000),
            st.floats(0, 5),
        ),
        max_size=60,
    ),
    most=st.integers(1, 300_000),
    batch_bytes=st.integers(1, 130_000),
)
@example([("post", 16_898, 0.0), ("take", 0, 0.0), ("confirm", 0, 2.0625)], 1, 1)
def test_whatever_happens_a_closed_window_means_that_a_confirm_is_to_come(
    steps: list[tuple[str, int, float]], most: int, batch_bytes: int
) -> None:
    now_s = [0.0]
    allowance = Allowance(most, lambda: now_s[0])
    box = Outbox(
        max_events=1_000,
        max_bytes=10**9,
        window=4,
        batch_events=10,
        batch_bytes=batch_bytes,
        allowance=allowance,
    )
    tags: list[int] = []
    sizes: dict[int, int] = {}
    for act, number, step_s in steps:
        now_s[0] += step_s
        if act == "post":
            box.post(record(b"x" * number))
        elif act == "confirm" and tags:
            box.confirm(tags.pop(number % len(tags)))
        elif act == "all":
            box.confirm(max(tags, default=0), multiple=True)
            tags.clear()
        elif act == "lost":
            box.connection_lost()
            tags.clear()
        elif act == "take":
            before = sum(sizes[tag] for tag in tags)
            batch = box.take()
            if batch is not None:
                tags.append(batch.tag)
                sizes[batch.tag] = sum(len(one.data) for one in batch.records)
                most_bytes = max(allowance.bytes, START_BYTES)
                assert len(batch.records) == 1 or before + sizes[batch.tag] <= most_bytes
        assert box.has_window or tags
        assert box.unconfirmed == 0 or tags
        assert 0 < allowance.bytes <= max(most, START_BYTES)
    while not box.is_empty:
        box.confirm(10**9, multiple=True)
        box.take()
