"""The windows: rule by rule, against a plain set, and under every attack that they are made for."""

from __future__ import annotations

import gc
import random
import tracemalloc
from collections.abc import Iterable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from miros_rabbitmq.delivery.window import HIGHEST, Arrival, Bounds, Window, Windows

SEEN = (Arrival.DUPLICATE, Arrival.GIVEN_UP)
TAKEN = (Arrival.NEW, Arrival.BELOW)

SMALL = Bounds(most_ranges=4, closed_per_number=3, most_jump=50)


def receive(window: Window, numbers: Iterable[int]) -> list[int]:
    """Take what may be handed over, as a receiver does, and return it."""
    taken = []
    for number in numbers:
        arrival = window.judge(number)
        if arrival in TAKEN:
            window.mark(number)
            taken.append(number)
        elif arrival is Arrival.LATE:
            window.refuse(number)
    return taken


def window_of(*numbers: int, bounds: Bounds = SMALL) -> Window:
    window = Window(bounds)
    for number in numbers:
        window.mark(number)
    return window


def unseen(window: Window, numbers: Iterable[int]) -> list[int]:
    return [number for number in numbers if window.judge(number) not in SEEN]


# What a number is.


def test_the_first_number_is_new_whatever_it_is() -> None:
    for number in (1, 1_000, HIGHEST):
        assert Window().judge(number) is Arrival.NEW


def test_a_number_above_all_is_new_one_in_a_hole_late_and_one_that_was_seen_a_duplicate() -> None:
    window = window_of(5, 6, 10)
    assert {number: window.judge(number) for number in range(4, 12)} == {
        4: Arrival.LATE,
        5: Arrival.DUPLICATE,
        6: Arrival.DUPLICATE,
        7: Arrival.LATE,
        8: Arrival.LATE,
        9: Arrival.LATE,
        10: Arrival.DUPLICATE,
        11: Arrival.NEW,
    }


def test_to_judge_changes_nothing() -> None:
    window = window_of(5)
    window.judge(7)
    assert window.judge(6) is Arrival.NEW
    assert (window.changes, window.gaps) == (1, 0)


def test_to_mark_a_number_again_changes_nothing() -> None:
    window = window_of(5, 6, 10)
    before = (window.changes, window.gaps, window.size_bytes)
    assert [window.mark(number) for number in (5, 6, 10)] == [0, 0, 0]
    assert (window.changes, window.gaps, window.size_bytes) == before


def test_numbers_next_to_a_range_extend_it_and_two_ranges_that_meet_become_one() -> None:
    one_range = window_of(1).size_bytes
    assert window_of(5, 6, 4, 3, 7).size_bytes == one_range
    window = window_of(1, 5)
    assert window.size_bytes > one_range
    for number in (2, 4, 3):
        window.mark(number)
    assert window.size_bytes == one_range
    assert unseen(window, range(1, 7)) == [6]


def test_the_highest_number_can_be_marked_and_judged() -> None:
    window = window_of(HIGHEST - 1, HIGHEST)
    assert window.judge(HIGHEST) is Arrival.DUPLICATE
    assert window.judge(HIGHEST - 2) is Arrival.LATE


def test_a_window_needs_two_ranges() -> None:
    with pytest.raises(ValueError, match="2 ranges"):
        Window(Bounds(most_ranges=1))


# What is missing.


def test_a_jump_adds_what_it_skips_and_a_late_number_takes_one_away() -> None:
    window = window_of(3)
    assert window.mark(8) == 4
    assert window.gaps == 4
    assert [window.mark(number) for number in (5, 4, 7)] == [0, 0, 0]
    assert window.gaps == 1
    window.mark(6)
    assert window.gaps == 0


def test_what_is_below_the_first_number_is_no_gap() -> None:
    window = window_of(20)
    assert [window.mark(number) for number in (10, 9)] == [0, 0]
    assert window.gaps == 0


def test_a_loss_below_the_first_number_is_a_gap_all_the_same() -> None:
    window = window_of(40)
    assert [window.mark(number) for number in (1, 2, 6)] == [0, 0, 3]
    assert window.gaps == 3
    window.mark(4)
    assert window.gaps == 2


def test_a_jump_too_wide_is_no_gap_but_a_loss_below_it_is() -> None:
    window = window_of(1)
    assert window.mark(1_000) == 0
    assert [window.mark(number) for number in (2, 3, 10, 11)] == [0, 0, 6, 0]
    assert window.gaps == 6
    window.mark(5)
    assert window.gaps == 5


def test_a_jump_of_just_the_width_counts() -> None:
    assert window_of(1).mark(52) == 50
    assert window_of(1).mark(53) == 0


def test_what_is_closed_or_below_a_forgotten_range_stays_counted() -> None:
    window = window_of(1, 4, 7, 10, 13)
    assert window.judge(2) is Arrival.GIVEN_UP
    assert window.gaps == 8
    # None of these can pay for its hole.
    window = window_of(1, 10, 20, 30, 40)
    assert window.forgotten == 1
    assert window.gaps == 35  # 1 is forgotten, and was the lowest
    window.mark(50)
    assert window.gaps == 44


def test_when_a_range_is_forgotten_the_holes_around_it_stay_counted_as_one() -> None:
    window = window_of(1, 2, 3, 20, 40, 60, 80)
    assert (window.judge(20), window.gaps) == (Arrival.BELOW, 16 + 19 + 19 + 19)
    assert window.mark(39) == 0
    assert window.gaps == 73
    window.mark(4)
    assert window.gaps == 72


def test_when_the_top_is_forgotten_what_was_missing_below_it_counts_with_the_next_top() -> None:
    window = window_of(1, 45, 2, 12, 22, 32)
    assert (window.judge(45), window.gaps) == (Arrival.NEW, 9 + 9 + 9)
    assert window.mark(50) == 17


# How room is made.


def test_the_hole_touched_least_recently_is_closed() -> None:
    window = window_of(1, 4, 7, 10)
    window.mark(2)
    window.mark(13)  # a fifth range: two holes go, so that a quarter of the ranges is free
    assert unseen(window, range(1, 15)) == [3, 11, 12, 14]
    assert window.forgotten == 0


def test_a_range_pays_for_the_hole_below_it_only() -> None:
    window = window_of(1, 2, 3, 4, 5, 20, 21, 22, 23, 40)
    # The hole from 24 to 39 is below a range of one number, and would take six of them; the one
    # from 6 to 19 is below four, which is enough for twelve.
    window.mark(60)
    window.mark(80)
    assert window.judge(24) is Arrival.BELOW
    assert window.judge(6) is Arrival.BELOW
    window = window_of(1, 2, 3, 4, 5, 18, 19, 20, 21, 40, 60, 80)
    assert window.judge(6) is Arrival.GIVEN_UP
    assert window.judge(24) is Arrival.BELOW


def test_numbers_that_were_given_up_pay_for_nothing() -> None:
    bounds = SMALL._replace(most_ranges=2)
    # From 100 to 104 two numbers came, and three were given up: there is enough for three more,
    # and the hole below is nine wide.
    window = window_of(90, 100, 104, 300, bounds=bounds)
    assert unseen(window, range(91, 105)) == list(range(91, 100))
    # With four that came, there is enough for it.
    window = window_of(90, 100, 104, 105, 106, 300, bounds=bounds)
    assert unseen(window, range(91, 107)) == []


def test_the_hole_below_the_lowest_range_is_never_closed() -> None:
    window = window_of(100)
    receive(window, range(101, 1_000, 3))
    assert unseen(window, range(1, 100)) == list(range(1, 100))


def test_of_the_older_half_the_range_with_the_fewest_numbers_is_forgotten() -> None:
    window = window_of(1, 2, 3, 100, 200, 300)
    window.mark(400)
    assert unseen(window, (1, 2, 3, 100, 200, 300, 400)) == [100]
    assert window.forgotten == 1
    window.mark(500)
    assert unseen(window, (1, 2, 3, 200, 300, 400, 500)) == [200]
    assert window.forgotten == 2


def test_a_recent_range_is_not_forgotten_though_it_holds_fewer_numbers() -> None:
    window = window_of(1, 2, 100, 101, 200, 201, 300, 400)
    assert unseen(window, (1, 2, 100, 101, 200, 201, 300, 400)) == [1, 2]


def test_the_newcomer_is_never_forgotten_nor_closed_in() -> None:
    window = Window(SMALL)
    for number in (10**6, 1, 2, 3, 5_000, 700, 90_000, 50, 60_000, 40, 30, 10**9, 20_000):
        assert window.judge(number) not in SEEN
        window.mark(number)
        assert window.judge(number) is Arrival.DUPLICATE
        assert window.judge(number + 1) not in SEEN


# Honest senders.


def test_an_outage_that_drops_millions_costs_nothing_else() -> None:
    window = Window()
    numbers = [*range(1, 100), *range(5_000_000, 5_000_100), *range(10**9, 10**9 + 100)]
    assert receive(window, numbers) == numbers
    assert receive(window, numbers) == []
    assert window.gaps == numbers[-1] - len(numbers)


def test_a_sender_that_loses_49_of_50_is_heard_and_nothing_is_taken_twice() -> None:
    window = Window()
    numbers = sorted(random.Random(1).sample(range(1, 5_000_001), 100_000))
    assert receive(window, numbers) == numbers
    assert receive(window, numbers) == []
    assert window.forgotten == 0
    assert window.gaps == numbers[-1] - numbers[0] + 1 - len(numbers)
    assert window.size_bytes < 200_000


def test_a_sender_that_loses_9999_of_10000_is_heard_and_its_latest_are_not_taken_twice() -> None:
    window = Window()
    numbers = [number * 10_000 for number in range(1, 20_001)]
    assert receive(window, numbers) == numbers
    assert receive(window, numbers[-2_048:]) == []
    assert len(numbers) - 4_096 <= window.forgotten < len(numbers) - 2_048


def test_thousands_of_outages_with_some_events_between_them() -> None:
    window = Window()
    chance = random.Random(2)
    number = 0
    numbers: list[int] = []
    for _ in range(3_000):
        number += chance.randrange(1, 100_000)
        numbers.extend(range(number, number + chance.randrange(1, 20)))
        number = numbers[-1] + 1
    assert receive(window, numbers) == numbers


def test_what_is_sent_again_after_a_lost_connection_is_not_taken_again() -> None:
    window = Window()
    sent = list(range(1, 1_001))
    assert receive(window, sent) == sent
    assert receive(window, range(501, 2_001)) == list(range(1_001, 2_001))


# Whoever has the key.


@pytest.mark.parametrize("jump", [HIGHEST, 2**32, 5_000])
def test_attack_one_jump_of_the_number(jump: int) -> None:
    window = window_of(*range(1, 101), jump, bounds=Bounds())
    numbers = list(range(101, 4_000))
    assert receive(window, numbers) == numbers
    assert receive(window, numbers) == []


def test_attack_a_jump_before_the_honest_sender_is_heard_for_the_first_time() -> None:
    window = window_of(HIGHEST, bounds=Bounds())
    numbers = list(range(1, 1_000))
    assert receive(window, numbers) == numbers
    assert window.gaps == 0


def test_attack_5000_jumps_and_the_honest_sender_goes_on_where_it_was() -> None:
    window = window_of(*range(1, 101), bounds=Bounds())
    receive(window, (random.Random(3).randrange(10**6, HIGHEST) for _ in range(5_000)))
    assert receive(window, range(1, 101)) == []
    numbers = list(range(101, 10_000))
    assert receive(window, numbers) == numbers
    assert receive(window, numbers) == []


def test_attack_jumps_and_then_an_honest_gap() -> None:
    window = window_of(*range(1, 101), bounds=Bounds())
    receive(window, (2**62 + jump * 2**40 for jump in range(1_023)))
    gaps = window.gaps
    numbers = [*range(201, 300), *range(100_000, 100_100), *range(10**9, 10**9 + 100)]
    assert receive(window, numbers) == numbers
    assert window.gaps - gaps == 10**9 + 99 - 100 - len(numbers)


def test_attack_all_ranges_above_giant_holes_and_then_honest_losses() -> None:
    window = Window()
    receive(window, (jump * 2**54 for jump in range(1, 512)))
    numbers = sorted(random.Random(4).sample(range(1, 1_000_000), 10_000))
    assert receive(window, numbers) == numbers
    assert window.gaps == numbers[-1] - numbers[0] + 1 - len(numbers)


def test_attack_giant_holes_between_every_two_honest_events() -> None:
    window = Window()
    chance = random.Random(5)
    for number in range(1, 2_000):
        assert receive(window, [number]) == [number]
        receive(window, (chance.randrange(10**6, HIGHEST) for _ in range(chance.randrange(20))))
    assert receive(window, range(1, 2_000)) == []


@pytest.mark.parametrize("step", [65, 66, 1_000, 10**6])
def test_attack_as_many_jumps_as_a_window_holds_cost_nothing_unless_they_are_dense(
    step: int,
) -> None:
    window = window_of(*range(1, 101), bounds=Bounds())
    made_up = list(range(100 + step, 10**10, step))[:4_095]
    receive(window, made_up)
    taken = set(made_up)
    numbers = [number for number in range(101, 300_000) if number not in taken]
    refused = len(numbers) - len(receive(window, numbers))
    assert refused == (64 * len(made_up) if step == 65 else 0)


def test_attack_a_jump_that_an_honest_sender_approaches_becomes_no_more_believable() -> None:
    for jump in (166, 1_000):
        window = window_of(*range(1, 101), jump, bounds=Bounds())
        numbers = [*range(101, jump), *range(jump + 1, jump + 50)]
        assert receive(window, numbers) == numbers
        assert receive(window, range(1, jump + 50)) == []


def test_attack_a_jump_of_64_costs_those_64_at_most() -> None:
    window = window_of(*range(1, 101), 165, bounds=Bounds())
    assert receive(window, range(101, 300)) == list(range(166, 300))
    assert window.gaps == 64


def test_attack_a_jump_costs_nothing_though_honest_losses_bring_the_sender_close_to_it() -> None:
    window = window_of(*range(1, 101), 1_000, bounds=Bounds())
    numbers = [*range(101, 900), *range(940, 950), *range(990, 1_000)]
    assert receive(window, numbers) == numbers
    assert receive(window, range(900, 940)) == [], "these are late, whatever is above"


# What is late.


@pytest.mark.parametrize("lost", [1, 2, 64, 65, 1_000])
def test_what_was_lost_is_late_once_enough_has_come_above_it(lost: int) -> None:
    window = window_of(*range(1, 101), bounds=Bounds())
    above = 101 + lost
    needed = -(-lost // 64)
    for came in range(1, needed + 1):
        assert window.judge(100 + lost) is (Arrival.NEW if came == 1 else Arrival.BELOW)
        window.mark(above + came - 1)
    assert window.judge(101) is Arrival.LATE
    assert window.judge(100 + lost) is Arrival.LATE
    assert window.refuse(101) == 0
    assert window.judge(101) is Arrival.DUPLICATE
    assert window.gaps == lost, "it came, and still is lost"


def test_so_it_is_below_the_first_number_by_the_distance_and_nothing_is_missing_there() -> None:
    window = window_of(1_000_000, 1_000_001, bounds=Bounds())
    assert window.judge(999_999) is Arrival.LATE
    assert window.judge(1_000_000 - 128) is Arrival.LATE
    assert window.judge(1_000_000 - 129) is Arrival.BELOW
    assert window.judge(1) is Arrival.BELOW
    window.refuse(999_999)
    assert (window.gaps, window.judge(999_999)) == (0, Arrival.DUPLICATE)


def test_the_verdict_follows_what_comes_above_while_a_range_grows() -> None:
    window = window_of(*range(1, 101), 1_000, bounds=Bounds())
    assert [window.judge(101), window.judge(102)] == [Arrival.BELOW] * 2
    window.mark(101)
    assert window.judge(102) is Arrival.BELOW
    for number in range(1_001, 1_014):
        window.mark(number)
        assert window.judge(102) is Arrival.BELOW
    window.mark(1_014)
    assert window.judge(102) is Arrival.LATE, "899 skipped, and 15 came: that is one in 64"


def test_believing_takes_the_ranges_above_together() -> None:
    window = window_of(1, 8, bounds=SMALL)  # 6 skipped, and one came
    assert window.judge(5) is Arrival.BELOW
    window.mark(10)  # 7 skipped, and two came; they are worth 6
    assert window.judge(5) is Arrival.BELOW
    window.mark(11)
    assert window.judge(5) is Arrival.LATE


# What is told.


def test_what_is_told_above_the_highest_is_missing_until_it_comes() -> None:
    window = window_of(1, 2, 3)
    assert (window.tell(3), window.tell(2), window.tell(0)) == (0, 0, 0)
    assert window.tell(8) == 5
    assert (window.tell(8), window.tell(10), window.gaps) == (0, 2, 7)
    assert window.judge(4) is Arrival.NEW, "nothing above it was handed over"
    assert [window.mark(number) for number in (4, 6)] == [0, 0]
    assert window.gaps == 5
    assert window.mark(13) == 2
    assert window.gaps == 7
    assert [window.mark(14), window.tell(14), window.tell(16)] == [0, 0, 2]
    assert receive(window, range(1, 20)) == [15, 16, 17, 18, 19]
    assert window.gaps == 7


def test_a_made_up_number_that_is_told_costs_no_honest_event() -> None:
    window = window_of(1, bounds=Bounds())
    assert window.tell(2**40) == 0, "that is too far to be believed"
    assert window.tell(2**32) == 2**32 - 1
    assert receive(window, range(2, 1_000)) == list(range(2, 1_000))
    assert window.gaps == 2**32 - 999


def test_what_is_told_before_the_first_number_is_where_counting_begins() -> None:
    some = windows()
    assert some.tell(("epoch", "key"), 7) == 0
    assert not some.knows("epoch")
    assert len(some) == 0
    assert some.tell(("epoch", "key"), 7) == 0
    assert some.mark(("epoch", "key"), 10, 0) == 2
    assert some.gaps == 2
    assert some.tell(("epoch", "key"), 15) == 5
    assert some.gaps == 7
    assert some.mark(("epoch", "key"), 11, 0) == 0
    assert some.gaps == 6


def test_what_is_told_twice_of_a_sender_that_was_never_heard_is_missing() -> None:
    some = windows()
    assert [some.tell("a", last) for last in (7, 12, 12, 9)] == [0, 5, 0, 0]
    assert some.mark("a", 13, 0) == 0
    assert some.gaps == 5


def test_a_baseline_above_the_first_number_counts_nothing() -> None:
    some = windows()
    some.tell("a", 10**9)
    assert some.judge("a", 1) is Arrival.NEW
    assert (some.mark("a", 1, 0), some.mark("a", 2, 0), some.gaps) == (0, 0, 0)


def test_attack_made_up_last_numbers_take_no_memory_and_evict_nobody() -> None:
    some = windows()
    establish(some, "honest")
    tracemalloc.start()
    for start in range(20_000):
        some.tell((start.to_bytes(16, "big"), "k" * 255), 5)
    taken = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert taken < 2**20
    assert (len(some), some.evicted) == (1, 0)


# Honest senders whose events come by several paths, such as the nodes of a cluster.


@settings(max_examples=200, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    paths=st.integers(1, 4),
    longest_loss=st.integers(0, 64),
    most_ranges=st.sampled_from([4, 16, 4_096]),
)
def test_what_comes_by_several_paths_is_handed_over_once_in_order_or_counted(
    seed: int, paths: int, longest_loss: int, most_ranges: int
) -> None:
    chance = random.Random(seed)
    sent = 400
    window = Window(Bounds(most_ranges=most_ranges))
    ways = [list(lossy(range(2, sent + 1), chance, longest_loss)) for _ in range(paths)]
    taken = receive(window, [1])
    while any(ways):
        way = chance.choice([way for way in ways if way])
        burst = chance.randrange(1, 100)
        taken += receive(window, way[:burst])
        del way[:burst]
        if chance.random() < 0.2:
            window.tell(chance.randrange(1, sent + 1))
    window.tell(sent)
    assert taken == sorted(set(taken))
    assert len(taken) + window.gaps == sent


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 2**32), longest_loss=st.integers(65, 1_000))
def test_after_long_losses_they_are_in_order_or_said_to_be_below(
    seed: int, longest_loss: int
) -> None:
    chance = random.Random(seed)
    sent = 3_000
    window = Window()
    ways = [list(lossy(range(2, sent + 1), chance, longest_loss)) for _ in range(3)]
    taken = receive(window, [1])
    below: list[int] = []
    while any(ways):
        way = chance.choice([way for way in ways if way])
        for number in way[:200]:
            if window.judge(number) is Arrival.BELOW:
                below.append(number)
            taken += receive(window, [number])
        del way[:200]
    window.tell(sent)
    in_order = [number for number in taken if number not in set(below)]
    assert in_order == sorted(in_order)
    assert len(taken) == len(set(taken))
    assert len(taken) + window.gaps == sent


def lossy(numbers: range, chance: random.Random, longest_loss: int) -> Iterator[int]:
    """Numbers of which some are lost, up to so many in a row."""
    left = iter(numbers)
    for number in left:
        yield number
        if longest_loss and chance.random() < 0.1:
            for _ in range(chance.randint(1, longest_loss)):
                next(left, None)


def test_attack_dense_numbers_above_the_honest_sender_cost_64_for_each_at_most() -> None:
    """The best that somebody can do: fill the window, pay for holes, and have them closed."""
    window = window_of(*range(1, 101), bounds=Bounds())
    made_up = [101 + 65 * step for step in range(1, 20_001)]
    receive(window, reversed(made_up))
    last = made_up[-1]
    refused = last - 100 - len(receive(window, range(101, last + 1)))
    assert 0 < refused <= 65 * len(made_up)
    assert window.judge(102) is Arrival.GIVEN_UP, "it is told apart from what came before"
    # And what comes after them is heard again.
    numbers = list(range(made_up[-1] + 1, made_up[-1] + 1_000))
    assert receive(window, numbers) == numbers


# Against a plain set.


class AgainstASet(RuleBasedStateMachine):
    """Without a need for room, a window is as good as a set of what was seen and one of gaps."""

    bounds = Bounds(most_ranges=1_000, most_jump=20)

    def __init__(self) -> None:
        super().__init__()
        self.window = Window(self.bounds)
        self.seen: set[int] = set()
        self.missing: set[int] = set()

    def mark(self, number: int) -> None:
        newly: set[int] = set()
        below = max((seen for seen in self.seen if seen < number), default=None)
        if number in self.seen:
            assert self.window.judge(number) is Arrival.DUPLICATE
        else:
            late = bool(self.seen) and number < max(self.seen)
            arrival = self.window.judge(number)
            assert arrival in (Arrival.LATE, Arrival.BELOW) if late else arrival is Arrival.NEW
            if number in self.missing:
                self.missing.remove(number)
            elif below is not None:
                skipped = set(range(below + 1, number)) - self.missing
                newly = skipped if len(skipped) <= self.bounds.most_jump else set()
        self.seen.add(number)
        self.missing |= newly
        assert self.window.mark(number) == len(newly)

    @rule(number=st.integers(1, 120))
    def any_number(self, number: int) -> None:
        self.mark(number)

    @rule(count=st.integers(1, 5), step=st.integers(1, 3))
    def go_on(self, count: int, step: int) -> None:
        for _ in range(count):
            self.mark(max(self.seen, default=0) + step)

    @precondition(lambda self: self.seen)
    @rule(chance=st.randoms(use_true_random=False), count=st.integers(1, 5))
    def next_to_what_was_seen(self, chance: random.Random, count: int) -> None:
        start = chance.choice(sorted(self.seen))
        for number in range(start + 1, start + count + 1):
            self.mark(number)

    @invariant()
    def agrees(self) -> None:
        assert self.window.gaps == len(self.missing)
        assert self.window.forgotten == 0
        top = max(self.seen, default=0) + 2
        wanted = [number for number in range(1, top) if number not in self.seen]
        assert unseen(self.window, range(1, top)) == wanted


TestAgainstASet = AgainstASet.TestCase
TestAgainstASet.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)


class WithoutTheKey(RuleBasedStateMachine):
    """Somebody withholds, reorders and repeats what an honest sender sent."""

    bounds = SMALL

    def __init__(self) -> None:
        super().__init__()
        self.window = Window(self.bounds)
        self.sent = 0
        self.taken: set[int] = set()

    def arrive(self, number: int) -> None:
        arrival = self.window.judge(number)
        if number > max(self.taken, default=0):
            assert arrival is Arrival.NEW  # nothing that comes in order is refused
        if arrival is Arrival.LATE:
            self.window.refuse(number)
        elif arrival in TAKEN:
            # Twice only as often as the window says that it forgot.
            self.window.mark(number)
            self.taken.add(number)

    @rule(lost=st.integers(0, 9), came=st.integers(1, 6))
    def send(self, lost: int, came: int) -> None:
        self.sent += lost
        for _ in range(came):
            self.sent += 1
            self.arrive(self.sent)

    @precondition(lambda self: self.sent)
    @rule(numbers=st.lists(st.integers(0, 10**6), max_size=5))
    def send_again(self, numbers: list[int]) -> None:
        for number in numbers:
            self.arrive(number % self.sent + 1)

    @invariant()
    def takes_nothing_twice(self) -> None:
        assert len(unseen(self.window, self.taken)) <= self.window.forgotten
        assert 0 <= self.window.gaps <= self.sent
        assert self.window.size_bytes <= window_of(1).size_bytes + 53 * self.bounds.most_ranges


TestWithoutTheKey = WithoutTheKey.TestCase
TestWithoutTheKey.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)


class WithTheKey(RuleBasedStateMachine):
    """Somebody makes up numbers, and an honest sender with losses goes on below them."""

    def __init__(self) -> None:
        super().__init__()
        self.window = Window(SMALL)
        self.sent = 0
        self.refused = 0
        self.made_up: set[int] = set()
        self.messages = 0

    @rule(lost=st.integers(0, 9), came=st.integers(1, 9))
    def send(self, lost: int, came: int) -> None:
        self.sent += lost
        for _ in range(came):
            self.sent += 1
            if self.window.judge(self.sent) not in TAKEN:
                self.refused += self.sent not in self.made_up
                self.window.refuse(self.sent)
            else:
                self.window.mark(self.sent)
        assert self.refused <= SMALL.closed_per_number * self.messages

    @rule(jump=st.one_of(st.integers(1, 60), st.integers(1, HIGHEST - 10**6)))
    def make_up(self, jump: int) -> None:
        number = self.sent + jump
        self.made_up.add(number)
        self.messages += 1
        self.window.mark(number)

    @rule(jump=st.integers(1, 60), steps=st.lists(st.integers(1, 5), max_size=9))
    def make_up_many(self, jump: int, steps: list[int]) -> None:
        number = self.sent + jump
        for step in steps:
            number += step
            self.made_up.add(number)
            self.messages += 1
            self.window.mark(number)

    @invariant()
    def gaps_are_sane(self) -> None:
        assert self.window.gaps >= 0


TestWithTheKey = WithTheKey.TestCase
TestWithTheKey.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)


# All windows.


def windows(most_windows: int = 8, most_bytes: int = 10**6, established_after: int = 3) -> Windows:
    return Windows(
        most_windows, most_bytes, established_after=established_after, bounds=Bounds(most_ranges=8)
    )


def establish(all_of_them: Windows, key: str, count: int = 3) -> None:
    for number in range(1, count + 1):
        all_of_them.mark(key, number, 1)


def test_each_key_has_a_window_of_its_own() -> None:
    some = windows()
    assert some.get(("epoch", "key")) is None
    assert some.judge(("epoch", "key"), 7) is Arrival.NEW
    assert len(some) == 0
    assert some.mark(("epoch", "key"), 7, 0) == 0
    assert some.judge(("epoch", "key"), 7) is Arrival.DUPLICATE
    assert some.judge(("epoch", "other"), 7) is Arrival.NEW
    assert some.mark(("epoch", "other"), 3, 0) == 0
    assert some.judge(("epoch", "other"), 7) is Arrival.NEW
    assert some.judge(("epoch", "key"), 3) is Arrival.LATE
    assert len(some) == 2


def test_the_gaps_of_all_windows_are_counted_also_of_those_evicted() -> None:
    some = windows(most_windows=2, established_after=9)
    some.mark("a", 1, 0)
    assert some.mark("a", 4, 0) == 2
    some.mark("b", 1, 0)
    assert some.mark("b", 3, 0) == 1
    assert some.gaps == 3
    some.mark("a", 2, 0)
    assert some.gaps == 2
    some.mark("c", 1, 0)
    some.mark("d", 1, 0)
    assert some.get("a") is None
    assert some.gaps == 2


def test_on_probation_the_window_marked_least_recently_is_evicted() -> None:
    some = windows(most_windows=3)
    for key in ("a", "b", "c", "a"):
        some.mark(key, 1 if some.judge(key, 1) is Arrival.NEW else 2, 0)
    some.judge("b", 2)  # to judge is not to mark
    some.mark("d", 1, 0)
    assert [key for key in "abcd" if some.get(key)] == ["a", "c", "d"]


def test_what_was_heard_often_outlives_what_was_not() -> None:
    some = windows()
    establish(some, "honest")
    for start in range(1_000):
        some.mark(start, 1, 0)
    assert len(some) == 8
    assert some.judge("honest", 1) is Arrival.DUPLICATE


def test_established_windows_beyond_half_go_back_on_probation_and_come_up_with_the_next() -> None:
    some = windows(most_windows=4)
    for key in ("a", "b", "c"):  # two have room
        establish(some, key)
    assert len(some) == 3
    some.mark("a", 4, 0)  # up again, and b goes back
    for start in range(10):
        some.mark(start, 1, 0)
    assert [key for key in "abc" if some.get(key)] == ["a", "c"]


def test_among_the_established_the_one_marked_least_recently_makes_room() -> None:
    some = windows(most_windows=4)
    for _ in range(3):  # what comes and goes leaves no trace in the bounds
        for key in ("a", "b"):
            establish(some, key)
        some.mark("a", 4, 0)
        establish(some, "c")
        for start in range(10):
            some.mark(start, 1, 0)
        assert [key for key in "abc" if some.get(key)] == ["a", "c"]


def test_an_established_window_that_grows_makes_others_go_back_on_probation() -> None:
    some = Windows(most_bytes=20_000, established_after=3)
    establish(some, "a")
    establish(some, "b")
    for start in range(100):
        some.mark(start, 1, 0)
    assert some.get("a")
    for jump in range(256):
        some.mark("b", 2**40 * jump + 5, 0)
    for start in range(100):
        some.mark(start, 1, 0)
    assert not some.get("a")
    assert some.get("b")
    establish(some, "c")
    establish(some, "d")  # b went back, and c and d have room
    for start in range(100):
        some.mark(start, 1, 0)
    assert [key for key in "abcd" if some.get(key)] == ["c", "d"]


def test_the_newest_time_of_what_was_evicted_is_known() -> None:
    some = windows(most_windows=2)
    assert some.newest_evicted_ms == 0
    some.mark("a", 1, 500)
    some.mark("a", 2, 400)
    some.mark("b", 1, 300)
    some.mark("c", 1, 200)
    assert (some.newest_evicted_ms, some.evicted) == (500, 1)
    some.mark("d", 1, 100)
    assert (some.newest_evicted_ms, some.evicted) == (500, 2)


def test_the_window_being_marked_is_never_evicted() -> None:
    for count in (1, 20):
        some = windows(most_bytes=1)
        establish(some, "old", count)
        for number in range(1, 10**7, 10**6):
            some.mark("large", number, 0)
            assert some.judge("large", number) is Arrival.DUPLICATE
        assert len(some) == 1


def test_there_must_be_room_for_two_windows() -> None:
    with pytest.raises(ValueError, match="2 windows"):
        Windows(1)


def test_attack_a_hundred_thousand_made_up_starts() -> None:
    some = Windows()
    honest = [("honest", n) for n in range(200)]
    for key in honest:
        for number in range(1, 17):
            some.mark(key, number, 0)
    for start in range(100_000):
        some.mark(("made up", start), 1, 0)
    assert all(some.judge(key, 16) is Arrival.DUPLICATE for key in honest)
    assert some.size_bytes <= 8 * 2**20


def test_attack_made_up_starts_that_become_established() -> None:
    some = Windows(most_bytes=2**20)
    number = 0
    for start in range(5_000):
        for made_up in range(1, 18):
            some.mark(("made up", start), made_up, 0)
        if start % 50 == 0:  # a sender that goes on is not pushed out by those that came and went
            number += 1
            assert some.judge("honest", number) is Arrival.NEW
            some.mark("honest", number, 0)
            assert number == 1 or some.judge("honest", 1) is Arrival.DUPLICATE
    assert some.size_bytes <= 2**20


def test_attack_made_up_starts_with_all_their_ranges() -> None:
    most_bytes = 2**19
    some = Windows(most_bytes=most_bytes)
    for number in range(1, 17):
        some.mark("honest", number, 0)
    for start in range(100):
        for jump in range(300):
            some.mark(("made up", start), 2**62 + jump * 2**32, 0)
        # They count as established, too, and fill that half by their bytes.
        some.mark("honest", 17 + start, 0)
    assert some.judge("honest", 1) is Arrival.DUPLICATE
    assert some.size_bytes <= most_bytes


# Memory.


def traced_bytes() -> int:
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


@pytest.fixture
def _tracing() -> Iterator[None]:
    tracemalloc.start()
    yield
    tracemalloc.stop()


@pytest.mark.usefixtures("_tracing")
@pytest.mark.parametrize("ranges", [1, 2, 10, 4_096])
def test_a_window_takes_no_more_memory_than_it_says_and_not_much_less(ranges: int) -> None:
    before = traced_bytes()
    some = [
        window_of(*(2**62 + n * 2**40 - 2**30 * k for n in range(ranges)), bounds=Bounds())
        for k in range(20)
    ]
    taken = (traced_bytes() - before) / len(some)
    assert 0.6 * some[0].size_bytes < taken <= some[0].size_bytes


@pytest.mark.usefixtures("_tracing")
@pytest.mark.parametrize(("starts", "ranges"), [(30_000, 1), (300, 256), (20, 4_096)])
def test_the_windows_take_no_more_memory_than_they_say(starts: int, ranges: int) -> None:
    most_bytes = 2 * 2**20
    before = traced_bytes()
    some = Windows(most_bytes=most_bytes)
    for start in range(starts):
        key = (start.to_bytes(16, "big"), 1, f"key.{start}")
        for jump in range(ranges):
            some.mark(key, 2**62 + jump * 2**33 - start, 2**42 + start)
    del key
    taken = traced_bytes() - before
    assert some.evicted > 0
    assert 0.5 * most_bytes < taken <= some.size_bytes <= most_bytes


@pytest.mark.usefixtures("_tracing")
def test_a_hundred_thousand_made_up_starts_of_which_some_have_all_their_ranges() -> None:
    before = traced_bytes()
    some = Windows(most_bytes=8 * 2**20)
    for start in range(100_000):
        key = (start.to_bytes(16, "big"), 1, "k" * 255)
        for jump in range(256 if start % 500 == 0 else 1):
            some.mark(key, 2**62 + jump * 2**33, 2**42 + start)
    assert tracemalloc.get_traced_memory()[1] - before < 9 * 2**20
    assert some.size_bytes <= 8 * 2**20
