"""What a broker refuses is found and given up, and nothing else."""

from __future__ import annotations

from collections import deque

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from miros_rabbitmq.delivery.outbox import Batch, Outbox
from miros_rabbitmq.delivery.refusal import Refusal
from miros_rabbitmq.delivery.suspects import Suspects
from miros_rabbitmq.wire.sealer import Heading

from .records import record

REFUSAL = Refusal(406, "PRECONDITION_FAILED - whatever", is_certain=True)


def too_large(most_bytes: int) -> Refusal:
    text = f"message size 1000 is larger than configured max size {most_bytes}"
    return REFUSAL._replace(text=text)


class Refusing:
    """A broker that closes the channel at some records, and an outbox that sends to it."""

    def __init__(
        self,
        events: int,
        refused: set[int],
        *,
        batch_events: int = 8,
        window: int = 4,
        most_bytes: int = 10**9,
        refusal: Refusal = REFUSAL,
        event_bytes: int = 10,
    ) -> None:
        self.refused = refused
        self.most_bytes = most_bytes
        self.refusal = refusal
        self.box = Outbox(
            max_events=100_000,
            max_bytes=10**9,
            window=window,
            batch_events=batch_events,
            batch_bytes=batch_events * event_bytes,
        )
        for number in range(events):
            self.box.post(record(b"%d:" % number + b"x" * (event_bytes - 8)))
        self.arrived: list[int] = []
        self.confirmed: list[int] = []
        self.given_up: list[int] = []
        self.refusals = 0
        self.sent_alone: dict[int, int] = {}

    def run(self, confirms: deque[int] | None = None, losses: deque[bool] | None = None) -> None:
        """Send everything.

        Args:
            confirms: how many confirms get through before each channel is closed; all at the end.
            losses: whether each connection is lost for another reason after its first message.
        """
        confirms, losses = confirms or deque(), losses or deque()
        for _ in range(100_000):
            if self.box.is_empty:
                return
            lost = losses.popleft() if losses else False
            self.connection(confirms.popleft() if confirms else 10**9, lost=lost)
        raise AssertionError("it does not end")

    def connection(self, confirms: int, *, lost: bool) -> None:
        """Send until a message is refused, or nothing is left."""
        on_the_wire: deque[Batch] = deque()
        while True:
            while (batch := self.box.take()) is not None:
                on_the_wire.append(batch)
            if not on_the_wire:
                if not self.box.is_empty:
                    self.box.connection_lost()  # as the confirms did not get through
                return
            batch = on_the_wire.popleft()
            numbers = numbers_of(batch)
            if self.refused & set(numbers) or len(batch.body) > self.most_bytes:
                self.refusals += 1
                if len(numbers) == 1:
                    self.sent_alone[numbers[0]] = self.sent_alone.get(numbers[0], 0) + 1
                assert self.box.message_refused(self.refusal) == 0
                self.given_up += [number_of(one.data) for one in self.box.given_up]
                self.box.given_up.clear()
                return
            self.arrived += numbers
            if confirms > 0:
                confirms -= 1
                assert self.box.confirm(batch.tag) == len(numbers)
                self.confirmed += numbers
            if lost:
                self.box.connection_lost()
                return


def number_of(data: bytes) -> int:
    return int(data.partition(b":")[0])


def numbers_of(batch: Batch) -> list[int]:
    return [number_of(one.data) for one in batch.records]


def in_order_of_first_arrival(numbers: list[int]) -> list[int]:
    return list(dict.fromkeys(numbers))


@given(
    events=st.integers(0, 80),
    refused=st.sets(st.integers(0, 79), max_size=12),
    batch_events=st.sampled_from([1, 2, 7, 16, 512]),
    window=st.integers(1, 50),
    confirms=st.lists(st.integers(0, 5), max_size=200),
    losses=st.lists(st.booleans(), max_size=30),
    is_certain=st.booleans(),
)
@example(80, {0}, 512, 32, [], [], True)
@example(80, set(range(80)), 512, 32, [], [], True)
def test_exactly_the_refused_are_given_up_and_all_others_arrive_in_order(
    events: int,
    refused: set[int],
    batch_events: int,
    window: int,
    confirms: list[int],
    losses: list[bool],
    is_certain: bool,
) -> None:
    refused = {number for number in refused if number < events}
    refusal = REFUSAL._replace(is_certain=is_certain)
    broker = Refusing(events, refused, batch_events=batch_events, window=window, refusal=refusal)
    broker.run(deque(confirms), deque(losses))
    others = [number for number in range(events) if number not in refused]
    assert in_order_of_first_arrival(broker.arrived) == others
    assert sorted(broker.confirmed) == others, "each is sent exactly until it is confirmed"
    assert broker.given_up == sorted(refused)
    assert all(broker.sent_alone[number] >= refusal.attempts for number in refused)


@pytest.mark.parametrize("at", [0, 1, 255, 511])
def test_one_of_512_joined_events_is_found_with_a_dozen_refusals(at: int) -> None:
    broker = Refusing(512 * 40, {512 * 3 + at}, batch_events=512, window=32)
    broker.run()
    assert broker.given_up == [512 * 3 + at]
    assert broker.refusals <= 12


def test_one_of_thousands_that_each_go_alone_is_found_with_as_few() -> None:
    broker = Refusing(16_384, {9_999}, batch_events=1, window=16_384)
    broker.run(deque([0]))
    assert broker.given_up == [9_999]
    assert broker.refusals <= 14


def test_thousands_that_each_go_alone_are_awaited_in_some_dozens_of_parts() -> None:
    box = Refusing(16_384, set(), batch_events=1, window=16_384).box
    while box.take():
        pass
    box.message_refused(REFUSAL)
    parts = 0
    tag = 0
    while not box.is_empty:
        parts += 1
        while (batch := box.take()) is not None:
            tag = batch.tag
        box.confirm(tag, multiple=True)
    assert 20 <= parts <= 32


def test_a_part_is_sent_only_when_the_one_before_is_confirmed() -> None:
    broker = Refusing(64, {0}, batch_events=8, window=4)
    box = broker.box
    while box.take():
        pass
    box.message_refused(REFUSAL)
    assert box.is_searching
    first = box.take()
    assert first is not None
    assert numbers_of(first) == list(range(8))
    assert not box.has_window
    assert box.take() is None
    box.confirm(1)
    second = box.take()
    assert second is not None
    assert numbers_of(second) == list(range(8, 16))


def test_after_the_search_as_much_is_under_way_as_before() -> None:
    broker = Refusing(64, {3}, batch_events=8, window=4)
    box = broker.box
    while box.take():
        pass
    while box.is_searching or not broker.refusals:
        broker.connection(10**9, lost=False)
    assert broker.given_up == [3]
    assert box.is_empty
    for number in range(64):
        box.post(record(b"%d:" % (10 + number % 10) + b"x" * 7))
    taken = [box.take() for _ in range(5)]
    assert [len(batch.records) if batch else 0 for batch in taken] == [8] * 4 + [0]


def test_a_message_that_is_refused_alone_only_once_is_not_given_up() -> None:
    broker = Refusing(1, {0})
    broker.connection(0, lost=False)
    broker.refused.clear()
    broker.run()
    assert broker.confirmed == [0]
    assert broker.given_up == []


def test_two_messages_that_are_refused_once_each_are_not_given_up() -> None:
    broker = Refusing(2, set(), batch_events=1)
    box = broker.box
    while box.take():
        pass
    box.message_refused(REFUSAL)
    for _ in range(2):
        assert box.take() is not None
        box.message_refused(REFUSAL)
        batch = box.take()
        assert batch is not None
        box.confirm(batch.tag)
    assert box.given_up == []
    assert box.is_empty


def searching(*messages: int) -> Suspects:
    suspects = Suspects()
    suspects.note_refused(messages, 2)
    return suspects


def test_a_part_whose_connection_is_lost_is_tried_again_as_it_was() -> None:
    suspects = searching(3, 5)
    assert suspects.may_take(0) == 3
    suspects.note_taken(3)
    suspects.note_lost(3)
    assert suspects.may_take(0) == 3
    suspects.note_taken(3)
    assert suspects.may_take(1) == 0
    assert suspects.may_take(0) == 5


def test_what_is_dropped_belongs_to_the_first_part_that_waits() -> None:
    suspects = searching(2, 1, 3)
    suspects.note_taken(1)
    for _ in range(3):
        suspects.note_dropped()
    assert suspects.may_take(1) == 0, "of the first part one is under way, and one was dropped"
    assert suspects.may_take(0) == 2
    suspects.note_taken(2)
    suspects.note_dropped()
    assert suspects.may_take(0) == 0
    assert not suspects.is_searching


def test_a_part_of_which_the_rest_was_dropped_is_awaited() -> None:
    """Each event is a message of its own, and forty of them are two for each part."""
    box = Outbox(max_events=40, max_bytes=10**6, window=40, batch_events=1, batch_bytes=100)
    for number in range(40):
        box.post(record(b"%d" % number))
    while box.take():
        pass
    box.message_refused(REFUSAL)
    assert box.take() is not None
    assert box.has_window
    assert box.post(record(b"pushes the second out")) == 1
    assert not box.has_window
    assert box.take() is None
    box.confirm(1)
    assert box.take() is not None


def test_a_connection_that_is_lost_in_between_gives_nothing_up() -> None:
    """However often: a cut says nothing of the message."""
    broker = Refusing(10, {4})
    while not broker.sent_alone:
        broker.connection(10**9, lost=False)
    for _ in range(20):
        broker.box.take()
        broker.box.connection_lost()
    assert broker.box.given_up == []
    assert broker.box.depth == 6
    broker.run()
    assert broker.given_up == [4]


def test_a_refusal_of_nothing_that_is_known_begins_no_search() -> None:
    """A message that is never sent again was refused, such as a notice."""
    broker = Refusing(10, set())
    for _ in range(5):
        assert broker.box.message_refused(REFUSAL) == 0
    assert not broker.box.is_searching
    assert broker.box.depth == 10


def test_what_is_dropped_during_a_search_does_not_confuse_it() -> None:
    """A backlog that is full drops its oldest, which are the suspects."""
    for dropped in range(1, 11):
        for refused in range(12):
            broker = Refusing(12, {refused}, batch_events=2, window=3)
            box = broker.box
            while box.take():
                pass
            box.message_refused(REFUSAL)
            box.take()
            for _ in range(dropped):
                full = box.is_full
                box.is_full = True
                box.post(record(b"%d:" % (100 + dropped)))
                box.is_full = full
            box.connection_lost()
            broker.run()
            survivors = {0, 1} | set(range(2 + dropped, 12))
            expected = survivors - {refused}
            assert expected <= set(broker.confirmed)
            assert set(broker.given_up) == survivors & {refused}


def test_a_lossy_outbox_drops_what_was_under_way() -> None:
    box = Outbox(
        max_events=100, max_bytes=10**6, window=4, batch_events=2, batch_bytes=100, resend=False
    )
    for number in range(10):
        box.post(record(b"%d" % number))
    while box.take():
        pass
    assert box.message_refused(REFUSAL) == 8
    assert not box.is_searching
    assert box.depth == 2


# Limits that the broker says or does not say.


def test_what_a_broker_takes_is_learned_and_kept() -> None:
    broker = Refusing(100, set(), batch_events=50, most_bytes=200)
    box = broker.box
    box.post(record(b"100:" + b"x" * 300))
    box.post(record(b"101:"))
    assert box.learn(too_large(200))
    assert not box.learn(too_large(200)), "that is no news"
    broker.run()
    assert broker.refusals == 0
    assert [number_of(one.data) for one in box.given_up] == [100]
    assert broker.confirmed == [*range(100), 101]
    box.post(record(b"x" * 200))
    box.post(record(b"x" * 201))
    box.connection_lost()
    batch = box.take()
    assert batch is not None
    assert len(batch.body) == 200
    assert box.take() is None
    assert len(box.given_up) == 2
    box.unlearn()
    box.post(record(b"x" * 201))
    assert box.take() is not None


def test_a_routing_key_that_we_may_not_use_is_learned_and_costs_no_event_of_another() -> None:
    box = Outbox(max_events=100, max_bytes=10**6, window=9, batch_events=9, batch_bytes=1_000)
    secret, public = Heading("a.secret", b""), Heading("public", b"")
    for heading in (public, secret, secret, public, secret):
        box.post(record(b"x", heading))
    refusal = REFUSAL._replace(code=403, text="access to topic 'a.secret' in exchange 'x' refused")
    while box.take():
        pass
    assert box.learn(refusal)
    assert not box.learn(refusal)
    assert box.is_refused("a.secret", 1)
    assert not box.is_refused("public", 1)
    box.connection_lost()
    batches = [box.take(), box.take(), box.take()]
    assert [one.heading for one in batches if one] == [public, public]
    assert len(box.given_up) == 3
    box.unlearn()
    box.post(record(b"x", secret))
    assert box.take() is not None


def test_what_is_remembered_of_routing_keys_is_bounded() -> None:
    box = Outbox(max_events=100, max_bytes=10**6, window=9, batch_events=9, batch_bytes=1_000)
    for number in range(10_000):
        box.learn(REFUSAL._replace(text=f"access to topic 'key {number}' in exchange 'x'"))
    known = sum(box.is_refused(f"key {number}", 1) for number in range(10_000))
    assert 0 < known < 1_000


def test_events_that_are_too_large_give_way_even_if_nothing_else_waits() -> None:
    broker = Refusing(0, set())
    box = broker.box
    box.learn(too_large(100))
    box.post(record(b"x" * 101))
    assert box.take() is None
    assert box.is_empty
    assert len(box.given_up) == 1
    assert not box.fills_message


def test_messages_become_smaller_where_a_broker_refuses_large_ones_without_saying_so() -> None:
    broker = Refusing(2_000, set(), batch_events=64, most_bytes=300, window=8)
    broker.run()
    assert broker.given_up == []
    assert broker.confirmed == list(range(2_000))
    assert broker.refusals < 30
    before = broker.refusals
    for number in range(2_000):
        broker.box.post(record(b"%d:xx" % number))
    broker.run()
    assert broker.refusals == before, "it is learned"


def test_a_connection_that_is_closed_with_an_error_does_not_make_messages_smaller() -> None:
    """It may have been the broker's trouble."""
    refusal = Refusal(541, "INTERNAL_ERROR", is_certain=False)
    broker = Refusing(200, set(), batch_events=50, window=2, refusal=refusal)
    for _ in range(6):
        while broker.box.take():
            pass
        broker.box.message_refused(refusal)
        while broker.box.is_searching:
            batch = broker.box.take()
            assert batch is not None
            broker.box.confirm(batch.tag)
        for number in range(100):
            broker.box.post(record(b"%d:x" % number))
    broker.box.connection_lost()
    batch = broker.box.take()
    assert batch is not None
    assert len(batch.records) == 50
