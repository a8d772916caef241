"""The book-keeping of delivery: by itself, and against a model of a broker that fails."""

from __future__ import annotations

import contextlib
from collections import deque

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from miros_rabbitmq.delivery.intake import SMALL_RECORD
from miros_rabbitmq.delivery.outbox import Outbox
from miros_rabbitmq.wire.sealer import Heading
from tests.interrupting import Interruption

from .records import HEADING, SMALL, batch, record


def outbox(
    *,
    max_events: int = 100,
    max_bytes: int = 10_000,
    window: int = 10,
    batch_events: int = 1,
    batch_bytes: int = 1_000,
    resend: bool = True,
) -> Outbox:
    return Outbox(
        max_events=max_events,
        max_bytes=max_bytes,
        window=window,
        batch_events=batch_events,
        batch_bytes=batch_bytes,
        resend=resend,
    )


def contents_left(box: Outbox) -> list[bytes]:
    """Send and confirm everything that waits."""
    left: list[bytes] = []
    while message := box.take():
        left += (one.data for one in message.records)
        box.confirm(message.tag)
    return left


def send(box: Outbox, *sizes: int) -> None:
    """For each of these numbers, post so many records, take them as a message, and confirm it."""
    for size in sizes:
        for _ in range(size):
            box.post(record(b"x"))
        message = box.take()
        assert message is not None
        assert len(message.records) == size
        box.confirm(message.tag)


def test_it_is_calm_while_messages_hold_few_records_and_again_after_two_such_messages() -> None:
    box = outbox(batch_events=100)
    assert box.is_calm
    send(box, 1, 8, 3)
    assert box.is_calm
    send(box, 9)
    assert not box.is_calm
    send(box, 1)
    assert not box.is_calm
    send(box, 8)
    assert box.is_calm


def test_beats_that_find_nothing_make_it_calm_too() -> None:
    box = outbox(batch_events=100)
    send(box, 50)
    box.note_silence()
    assert not box.is_calm
    box.note_silence()
    assert box.is_calm


def test_a_message_is_filled_by_the_number_of_records_or_by_their_bytes() -> None:
    box = outbox(batch_events=3, batch_bytes=20)
    box.post(record(b"x"))
    box.post(record(b"y"))
    assert not box.fills_message
    box.post(record(b"z"))
    assert box.fills_message
    box.take()
    box.post(record(b"x" * 20))
    assert box.fills_message


def test_the_window_is_full_until_something_is_confirmed() -> None:
    box = outbox(window=2)
    for _ in range(3):
        box.post(record(b"x"))
    assert box.has_window
    box.take()
    box.take()
    assert not box.has_window
    box.confirm(1)
    assert box.has_window


def test_records_leave_in_the_order_they_came() -> None:
    box = outbox()
    for data in (b"a", b"b", b"c"):
        assert box.post(record(data)) == 0
    assert [box.take(), box.take(), box.take(), box.take()] == [
        batch(1, b"a"),
        batch(2, b"b"),
        batch(3, b"c"),
        None,
    ]


def test_records_that_wait_together_go_together_up_to_the_size_of_a_message() -> None:
    box = outbox(batch_events=3)
    for data in (b"a", b"b", b"c", b"d"):
        box.post(record(data))
    assert box.take() == batch(1, b"a", b"b", b"c")
    assert box.take() == batch(2, b"d")


def test_the_bytes_of_a_message_are_counted() -> None:
    box = outbox(batch_events=10, batch_bytes=4)
    for data in (b"aa", b"bb", b"cc", b"d"):
        box.post(record(data))
    assert box.take() == batch(1, b"aa", b"bb")
    assert box.take() == batch(2, b"cc", b"d")


def test_a_record_larger_than_a_message_goes_alone() -> None:
    box = outbox(batch_events=10, batch_bytes=5)
    for data in (b"x" * 50, b"a", b"b"):
        box.post(record(data))
    assert box.take() == batch(1, b"x" * 50)
    assert box.take() == batch(2, b"a", b"b")


def test_a_full_window_holds_back_until_something_is_confirmed() -> None:
    box = outbox(window=2)
    for data in (b"a", b"b", b"c"):
        box.post(record(data))
    assert box.take() is not None
    assert box.take() is not None
    assert box.take() is None
    assert box.confirm(2) == 1
    assert box.take() == batch(3, b"c")


def test_one_confirm_may_stand_for_all_messages_before_it() -> None:
    box = outbox(batch_events=2)
    for number in range(6):
        box.post(record(b"%d" % number))
    while box.take():
        pass
    assert box.confirm(2, multiple=True) == 4
    assert box.unconfirmed == 2
    assert not box.is_empty
    assert box.confirm(3, multiple=True) == 2
    assert box.is_empty


@pytest.mark.parametrize("multiple", [False, True])
def test_a_confirm_for_a_message_that_is_not_under_way_counts_nothing(multiple: bool) -> None:
    box = outbox()
    box.post(record(b"a"))
    assert box.confirm(0, multiple=multiple) == 0
    assert box.confirm(1, multiple=multiple) == 0
    box.take()
    assert box.confirm(1, multiple=multiple) == 1
    assert box.confirm(1, multiple=multiple) == 0
    assert box.unconfirmed == 0


def test_after_a_lost_connection_the_unconfirmed_go_first_and_in_order() -> None:
    box = outbox(batch_events=2)
    for number in range(6):
        box.post(record(b"%d" % number))
    assert box.take() == batch(1, b"0", b"1")
    assert box.take() == batch(2, b"2", b"3")
    assert box.connection_lost() == 0
    assert box.unconfirmed == 0
    assert box.depth == 6
    # The tags of the new channel start anew.
    assert box.take() == batch(1, b"0", b"1")
    assert contents_left(box) == [b"2", b"3", b"4", b"5"]


def test_confirmed_messages_are_not_sent_again() -> None:
    box = outbox()
    for data in (b"a", b"b", b"c"):
        box.post(record(data))
        box.take()
    box.confirm(2)
    box.connection_lost()
    assert contents_left(box) == [b"a", b"c"]


def test_over_the_limit_of_events_the_oldest_go() -> None:
    box = outbox(max_events=3)
    assert [box.post(record(b"%d" % number)) for number in range(5)] == [0, 0, 0, 1, 1]
    assert contents_left(box) == [b"2", b"3", b"4"]


def test_over_the_limit_of_bytes_as_many_of_the_oldest_go_as_it_takes() -> None:
    box = outbox(max_bytes=10)
    for data in (b"aaa", b"bbb", b"ccc", b"dddddd"):
        assert box.post(record(data)) == 0
    assert box.is_full
    assert box.post(record(b"e")) == 2
    assert contents_left(box) == [b"ccc", b"dddddd", b"e"]


def test_a_record_above_the_limit_of_bytes_is_kept_and_goes_before_the_next() -> None:
    box = outbox(max_bytes=10)
    box.post(record(b"a"))
    assert box.post(record(b"x" * 20)) == 0
    assert box.post(record(b"b")) == 2
    assert contents_left(box) == [b"b"]


@settings(deadline=None, max_examples=200)
@given(st.lists(st.integers(1, 40), max_size=30), st.integers(1, 10), st.integers(1, 100))
def test_a_post_to_an_outbox_with_room_drops_nothing(
    sizes: list[int], max_events: int, max_bytes: int
) -> None:
    """Otherwise, a sender that waits for room would lose events that it was told are accepted."""
    box = outbox(max_events=max_events, max_bytes=max_bytes)
    for size in sizes:
        had_room = not box.is_full
        dropped = box.post(record(b"x" * size))
        assert not (had_room and dropped)
        assert box.is_full or had_room or dropped


def test_confirmed_records_make_room() -> None:
    box = outbox(max_events=1, max_bytes=10)
    box.post(record(b"a" * 10))
    assert box.is_full
    box.take()
    assert box.is_full, "it would wait again if the connection were lost"
    box.confirm(1)
    assert not box.is_full
    assert box.post(record(b"b" * 10)) == 0


def test_in_a_lossy_outbox_sent_records_make_room() -> None:
    box = outbox(resend=False, max_events=1)
    box.post(record(b"a"))
    assert box.is_full
    box.take()
    assert not box.is_full
    assert box.post(record(b"b")) == 0


def test_a_lossy_outbox_drops_what_was_under_way() -> None:
    box = outbox(resend=False, batch_events=2)
    for number in range(5):
        box.post(record(b"%d" % number))
    box.take()
    box.take()
    assert box.connection_lost() == 4
    assert box.unconfirmed == 0
    assert contents_left(box) == [b"4"]
    assert box.connection_lost() == 0


def test_a_lossy_outbox_keeps_what_waits_within_its_limit() -> None:
    box = outbox(resend=False, max_events=2)
    assert sum(box.post(record(b"%d" % number)) for number in range(10)) == 8
    assert box.connection_lost() == 0
    assert contents_left(box) == [b"8", b"9"]


def test_what_was_posted_while_there_was_room_survives_a_lost_connection() -> None:
    box = outbox(max_events=4, window=2)
    posted = 0
    while not box.is_full:
        box.post(record(b"x"))
        posted += 1
        if box.depth == 2:
            box.take()
    assert box.connection_lost() == 0
    assert len(contents_left(box)) == posted


# What the outbox says there is room for.


@given(
    max_events=st.integers(1, 40),
    max_bytes=st.integers(1, 20_000),
    sizes=st.lists(st.integers(0, 2_000), max_size=20),
    under_way=st.integers(0, 3),
    resend=st.booleans(),
    last=st.integers(0, 5_000),
)
def test_small_records_that_have_room_and_one_more_push_nothing_out(
    max_events: int, max_bytes: int, sizes: list[int], under_way: int, resend: bool, last: int
) -> None:
    box = outbox(max_events=max_events, max_bytes=max_bytes, batch_events=5, resend=resend)
    for size in sizes:
        box.post(record(b"x" * size))
    for _ in range(under_way):
        box.take()
    room = box.room
    if room >= 0:
        box.post_all([SMALL] * room)
        assert not box.is_full
        assert box.post(record(b"x" * last)) == 0


@given(
    batch_events=st.integers(1, 40),
    batch_bytes=st.integers(1, 20_000),
    sizes=st.lists(st.integers(0, 2_000), max_size=20),
)
def test_small_records_with_room_in_a_message_do_not_fill_it(
    batch_events: int, batch_bytes: int, sizes: list[int]
) -> None:
    box = outbox(max_bytes=100_000, batch_events=batch_events, batch_bytes=batch_bytes)
    for size in sizes:
        box.post(record(b"x" * size))
    room = box.room_in_message
    if room >= 0:
        box.post_all([SMALL] * room)
        assert not box.fills_message


@given(
    before=st.lists(st.integers(0, 600), max_size=10),
    sizes=st.lists(st.integers(0, SMALL_RECORD), max_size=10),
    resend=st.booleans(),
)
def test_records_that_are_posted_together_count_as_one_by_one(
    before: list[int], sizes: list[int], resend: bool
) -> None:
    together, alone = (
        outbox(max_events=15, max_bytes=5_000, batch_events=5, resend=resend) for _ in range(2)
    )
    for box in (together, alone):
        for size in before:
            box.post(record(b"x" * size))
        box.take()
    records = [record(b"y" * size) for size in sizes[: max(0, alone.room)]]
    together.post_all(records)
    assert [alone.post(one) for one in records] == [0] * len(records)
    for ask in ("depth", "is_full", "fills_message", "room", "room_in_message"):
        assert getattr(together, ask) == getattr(alone, ask)
    assert together.take() == alone.take()


# What shares a message.

MESH = Heading("mesh.key", b"as long a prefix")
LOG = Heading("log.key", b"as long a prefix")
MESH_AFTER_A_CHANGE_OF_KEYS = Heading(MESH.routing_key, b"another's prefix")
HEADINGS = [HEADING, MESH, LOG, MESH_AFTER_A_CHANGE_OF_KEYS]


def test_records_of_different_routing_keys_never_share_a_message_and_keep_their_order() -> None:
    box = outbox(batch_events=10)
    for heading, data in ((MESH, b"a"), (LOG, b"b"), (MESH, b"c"), (MESH, b"d"), (LOG, b"e")):
        box.post(record(data, heading))
    messages = [box.take() for _ in range(5)]
    assert messages == [
        batch(1, b"a", heading=MESH),
        batch(2, b"b", heading=LOG),
        batch(3, b"c", b"d", heading=MESH),
        batch(4, b"e", heading=LOG),
        None,
    ]


def test_records_before_and_after_a_change_of_keys_never_share_a_message() -> None:
    box = outbox(batch_events=10)
    after = MESH_AFTER_A_CHANGE_OF_KEYS
    for heading, data in ((MESH, b"a"), (MESH, b"b"), (after, b"c"), (after, b"d")):
        box.post(record(data, heading))
    assert box.take() == batch(1, b"a", b"b", heading=MESH)
    assert box.take() == batch(2, b"c", b"d", heading=after)


def test_headings_are_compared_by_identity() -> None:
    """Each change of keys makes new ones, and to compare bytes for each record takes time."""
    box = outbox(batch_events=10)
    for heading in (MESH, Heading(*MESH)):
        box.post(record(b"x", heading))
    assert box.take() == batch(1, b"x", heading=MESH)


def test_a_message_is_its_prefix_and_its_records() -> None:
    assert batch(1, b"one", b"two", heading=LOG).body == b"as long a prefixonetwo"


def test_the_bytes_of_a_message_count_its_prefix() -> None:
    size = len(MESH.prefix) + 4
    for batch_bytes, together in ((size, 2), (size - 1, 1)):
        box = outbox(batch_events=10, batch_bytes=batch_bytes)
        for data in (b"aa", b"bb"):
            box.post(record(data, MESH))
        message = box.take()
        assert message is not None
        assert len(message.records) == together
        assert len(message.body) <= batch_bytes


def test_after_a_lost_connection_the_order_is_kept_across_headings() -> None:
    box = outbox(batch_events=2)
    posted = [record(b"%d" % number, HEADINGS[number // 3 % 2]) for number in range(10)]
    for one in posted:
        box.post(one)
    for _ in range(3):
        box.take()
    box.confirm(2)  # which stands for one record, number 2
    assert box.connection_lost() == 0
    resent: list[bytes] = []
    while message := box.take():
        assert {one.heading for one in message.records} == {message.heading}
        resent += (one.data for one in message.records)
    assert resent == [one.data for one in posted if one is not posted[2]]


# Both halves, with a broker between them that fails in every way a broker can.


class FailingBroker(RuleBasedStateMachine):
    """A sender, a broker and a receiver. The broker keeps every message that it has confirmed."""

    def __init__(self) -> None:
        super().__init__()
        self.posted = 0
        self.posted_while_connected = 0
        self.dropped: set[int] = set()
        self.connected = True
        # What the outbox should hold: the model.
        self.waiting: list[int] = []
        self.under_way: dict[int, tuple[int, ...]] = {}
        self.sizes: dict[int, int] = {}
        self.headings: dict[int, Heading] = {}
        # Between the outbox and the receiver.
        self.on_the_wire: deque[tuple[int, tuple[int, ...]]] = deque()
        self.to_confirm: list[int] = []
        self.queue: deque[tuple[int, ...]] = deque()
        self.unacknowledged: deque[tuple[int, ...]] = deque()
        self.came: set[int] = set()
        self.received: list[int] = []

    @initialize(
        max_events=st.integers(1, 12),
        max_bytes=st.integers(20, 200),
        window=st.integers(1, 4),
        batch_events=st.integers(1, 4),
        batch_bytes=st.integers(10, 100),
    )
    def open(
        self, max_events: int, max_bytes: int, window: int, batch_events: int, batch_bytes: int
    ) -> None:
        self.max_events, self.max_bytes = max_events, max_bytes
        self.window, self.batch_events, self.batch_bytes = window, batch_events, batch_bytes
        self.outbox = outbox(
            max_events=max_events,
            max_bytes=max_bytes,
            window=window,
            batch_events=batch_events,
            batch_bytes=batch_bytes,
        )

    # The sender.

    @rule(
        paddings=st.lists(st.integers(0, 40), min_size=1, max_size=4),
        heading=st.sampled_from(HEADINGS),
    )
    def transmit(self, paddings: list[int], heading: Heading) -> None:
        for padding in paddings:
            self.post(padding, heading)

    def post(self, padding: int, heading: Heading) -> None:
        self.posted += 1
        self.posted_while_connected += self.connected
        data = b"%d:" % self.posted + b"x" * padding
        self.sizes[self.posted] = len(data)
        self.headings[self.posted] = heading
        expected = self.make_room()
        self.waiting.append(self.posted)
        assert self.outbox.post(record(data, heading)) == expected

    @precondition(lambda self: self.connected)
    @rule()
    def publisher_sends(self) -> None:
        self.send()

    def send(self) -> bool:
        """Returns whether there was anything that might be sent."""
        message = self.outbox.take()
        if not self.waiting or len(self.under_way) >= self.window:
            assert message is None
            return False
        assert message is not None
        numbers = tuple(int(one.data.partition(b":")[0]) for one in message.records)
        assert {id(self.headings[number]) for number in numbers} == {id(message.heading)}
        size = len(message.body)
        assert 1 <= len(numbers) <= self.batch_events
        assert size <= self.batch_bytes or len(numbers) == 1
        assert list(numbers) == self.waiting[: len(numbers)]
        del self.waiting[: len(numbers)]
        if self.waiting and len(numbers) < self.batch_events:
            following = self.waiting[0]
            is_full = size + self.sizes[following] > self.batch_bytes
            assert is_full or self.headings[following] is not message.heading
        assert message.tag not in self.under_way
        self.under_way[message.tag] = numbers
        self.on_the_wire.append((message.tag, numbers))
        return True

    @precondition(lambda self: self.connected)
    @rule(arriving=st.integers(0, 4))
    def lose_the_publishers_connection(self, arriving: int) -> None:
        """Some messages on the wire still arrive; none of them is confirmed any more."""
        for _ in range(min(arriving, len(self.on_the_wire))):
            self.broker_takes()
        self.on_the_wire.clear()
        self.to_confirm.clear()
        self.connected = False
        resent = [number for numbers in self.under_way.values() for number in numbers]
        self.under_way.clear()
        self.waiting = resent + self.waiting
        assert self.outbox.connection_lost() == 0

    @precondition(lambda self: not self.connected)
    @rule()
    def connect(self) -> None:
        self.connected = True

    def make_room(self) -> int:
        dropped = 0
        while self.waiting and self.is_full():
            self.dropped.add(self.waiting.pop(0))
            dropped += 1
        return dropped

    def is_full(self) -> bool:
        return self.events_held() >= self.max_events or self.bytes_held() >= self.max_bytes

    def events_held(self) -> int:
        return len(self.waiting) + sum(map(len, self.under_way.values()))

    def bytes_held(self) -> int:
        under_way = (number for numbers in self.under_way.values() for number in numbers)
        return sum(self.sizes[number] for number in (*self.waiting, *under_way))

    # The broker.

    @precondition(lambda self: self.on_the_wire)
    @rule()
    def broker_takes(self) -> None:
        tag, numbers = self.on_the_wire.popleft()
        self.queue.append(numbers)
        self.to_confirm.append(tag)

    @precondition(lambda self: self.to_confirm)
    @rule(which=st.integers(0, 100), multiple=st.booleans())
    def broker_confirms(self, which: int, multiple: bool) -> None:
        tag = self.to_confirm[which % len(self.to_confirm)]
        tags = [one for one in self.under_way if one <= tag] if multiple else [tag]
        self.to_confirm = [one for one in self.to_confirm if one not in tags]
        expected = sum(len(self.under_way.pop(one)) for one in tags)
        assert self.outbox.confirm(tag, multiple=multiple) == expected

    @precondition(lambda self: self.to_confirm)
    @rule()
    def a_confirm_is_lost(self) -> None:
        """It is never sent again: only the end of the connection tells."""
        self.to_confirm.pop()

    @rule(beyond=st.integers(1, 5))
    def broker_confirms_what_was_not_sent(self, beyond: int) -> None:
        assert self.outbox.confirm(max(self.under_way, default=0) + beyond) == 0

    @precondition(lambda self: self.queue)
    @rule()
    def broker_duplicates(self) -> None:
        self.queue.appendleft(self.queue[0])

    @rule()
    def broker_restarts(self) -> None:
        self.lose_the_consumers_connection()
        if self.connected:
            self.lose_the_publishers_connection(0)

    # The receiver.

    @precondition(lambda self: self.queue)
    @rule()
    def broker_delivers(self) -> None:
        numbers = self.queue.popleft()
        self.unacknowledged.append(numbers)
        for number in numbers:
            if number not in self.came:
                self.came.add(number)
                self.received.append(number)

    @precondition(lambda self: self.unacknowledged)
    @rule()
    def consumer_acknowledges(self) -> None:
        self.unacknowledged.popleft()

    @rule()
    def lose_the_consumers_connection(self) -> None:
        """What was not acknowledged takes its old place in the queue."""
        self.queue.extendleft(reversed(self.unacknowledged))
        self.unacknowledged.clear()

    # What always holds.

    @invariant()
    def the_outbox_holds_what_the_model_holds(self) -> None:
        if self.posted:
            assert self.outbox.depth == len(self.waiting)
            assert self.outbox.unconfirmed == sum(map(len, self.under_way.values()))
            assert self.outbox.is_empty == (not self.waiting and not self.under_way)
            assert self.outbox.is_full == self.is_full()

    @invariant()
    def the_bounds_hold(self) -> None:
        if self.posted:
            assert len(self.under_way) <= self.window
            # This sender does not wait for room, so each post exceeds the limit by at most itself.
            if self.posted_while_connected == 0:
                assert self.outbox.depth <= self.max_events
                assert self.bytes_held() < self.max_bytes + max(self.sizes.values())

    @invariant()
    def all_is_received_once_and_in_order(self) -> None:
        assert self.received == sorted(set(self.received))

    def teardown(self) -> None:
        """Nothing fails from here on: every record that was not dropped must arrive."""
        if not self.posted:
            return
        if self.connected:
            self.lose_the_publishers_connection(0)
        self.connect()
        while not self.outbox.is_empty:
            while self.send():
                pass
            while self.on_the_wire:
                self.broker_takes()
            self.broker_confirms(len(self.to_confirm) - 1, multiple=True)
        while self.queue:
            self.broker_delivers()
        self.all_is_received_once_and_in_order()
        missing = set(range(1, self.posted + 1)) - set(self.received)
        assert missing <= self.dropped


def test_whatever_fails_every_record_that_was_not_dropped_arrives_once_and_in_order() -> None:
    run_state_machine_as_test(
        FailingBroker,
        settings=settings(
            deadline=None,
            max_examples=100,
            stateful_step_count=40,
            # To shrink a failure takes minutes, which the timeout of a test does not give it.
            phases=[Phase.explicit, Phase.reuse, Phase.generate],
        ),
    )


# Another outbox takes over.


def test_what_is_handed_over_is_in_order_and_a_late_confirm_changes_nothing() -> None:
    box = outbox(max_events=4, batch_events=2, window=1)
    for data in (b"1", b"2", b"3", b"4"):
        box.post(record(data))
    assert box.take() == batch(1, b"1", b"2")
    assert box.is_full
    assert not box.has_window
    held = box.held
    assert [one.data for one in box.hand_over()] == [b"1", b"2", b"3", b"4"]
    assert held == [record(data) for data in (b"1", b"2", b"3", b"4")]
    assert box.is_empty
    assert not box.is_full
    assert (box.depth, box.unconfirmed) == (0, 0)
    assert box.has_window
    # The channel goes on counting.
    box.post(record(b"5"))
    assert box.take() == batch(2, b"5")
    assert box.confirm(1) == 0
    assert box.unconfirmed == 1
    assert box.confirm(2, multiple=True) == 1
    assert box.is_empty


def test_what_is_put_first_goes_out_first_even_if_there_is_no_room() -> None:
    box = outbox(max_events=2, max_bytes=10)
    box.post(record(b"33"))
    box.put_first([record(b"11"), record(b"22")])
    assert box.is_full
    assert box.held == [record(b"11"), record(b"22"), record(b"33")]
    assert contents_left(box) == [b"11", b"22", b"33"]
    assert not box.is_full
    box.put_first([record(b"x" * 10)])
    assert box.is_full


def test_traffic_that_is_not_sent_again_is_not_handed_over_when_it_is_under_way() -> None:
    box = outbox(resend=False)
    box.post(record(b"1"))
    box.post(record(b"2"))
    box.take()
    assert [one.data for one in box.hand_over()] == [b"2"]
    assert box.unconfirmed == 1
    assert box.confirm(1) == 1


def test_an_exception_while_a_message_is_taken_loses_and_reorders_nothing() -> None:
    """Such as KeyboardInterrupt, at any step. What is sent twice, the receivers notice."""

    def interrupt() -> None:
        raise KeyboardInterrupt

    step = 0
    while True:
        box = outbox(batch_events=3)
        for content in (b"0", b"1", b"2", b"3", b"4"):
            box.post(record(content))
        one = Interruption(step, interrupt)
        with contextlib.suppress(KeyboardInterrupt):
            one.during(box.take)
        box.connection_lost()
        left = contents_left(box)
        assert list(dict.fromkeys(left)) == [b"0", b"1", b"2", b"3", b"4"], one.place
        assert box.fill == 0
        if not one.has_come:
            break
        step += 1
    assert step > 50
