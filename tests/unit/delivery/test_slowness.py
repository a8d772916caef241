"""A model of a sender and its brokers in virtual time: who is found sick, and who is not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from miros_rabbitmq import Address, Limits
from miros_rabbitmq.delivery.slowness import (
    Base,
    Condition,
    Course,
    Look,
    Slowness,
    drain_between,
)

LIMITS = Limits()
STEP_S = 0.05
LOOK_S = 0.5
EVENT_BYTES = 110
OWN = Address("own", 5672)

Rate = Callable[[float], float]
"""What a broker takes at a time, in events a second."""


def steadily(events: float) -> Rate:
    return lambda _: events


def pausing(events: float, begin_s: float, end_s: float) -> Rate:
    return lambda now_s: 0.0 if begin_s <= now_s < end_s else events


@dataclass
class Broker:
    """A broker and the backlog for it; it takes from the backlog at its rate."""

    rate: Rate
    connected: Callable[[float], bool] = lambda _: True
    ready: Callable[[float], bool] = lambda _: True
    event_bytes: int = EVENT_BYTES
    posted: int = 0
    settled: int = 0
    confirmed: int = 0
    dropped: int = 0
    connections: int = 0
    was_connected: bool = False
    credit: float = 0.0

    @property
    def held(self) -> int:
        return self.posted - self.settled

    @property
    def room(self) -> int:
        return LIMITS.backlog_events - self.held

    def post(self, events: int) -> None:
        pushed_out = max(0, events - self.room)
        self.settled += pushed_out
        self.dropped += pushed_out
        self.posted += events

    def drain(self, now_s: float) -> None:
        is_connected = self.connected(now_s)
        self.connections += is_connected and not self.was_connected
        self.was_connected = is_connected
        if not (is_connected and self.ready(now_s)):
            return
        self.credit = min(self.credit + self.rate(now_s) * STEP_S, max(1.0, float(self.held)))
        taken = min(int(self.credit), self.held)
        self.credit -= taken
        self.settled += taken
        self.confirmed += taken

    def look(self, now_s: float) -> Look:
        return Look(
            connection=f"connection {self.connections}" if self.connected(now_s) else "",
            is_ready=self.connected(now_s) and self.ready(now_s),
            posted=self.posted,
            settled=self.settled,
            confirmed=self.confirmed,
            taken_bytes=self.confirmed * self.event_bytes,
            unsent_bytes=0,
            fill=self.held / LIMITS.backlog_events,
        )


@dataclass
class Run:
    """What became of a simulation."""

    brokers: dict[str, Broker]
    waited_s: float = 0.0
    longest_wait_s: float = 0.0
    conditions: dict[str, list[tuple[float, Condition]]] = field(default_factory=dict)
    waits: list[float] = field(default_factory=list)
    """The times at which the sender waited for room."""

    def found(self, name: str) -> list[Condition]:
        return [condition for _, condition in self.conditions.get(name, [])]

    def began(self, name: str, condition: Condition) -> float:
        return next(at_s for at_s, one in self.conditions[name] if one is condition)

    @property
    def dropped(self) -> int:
        return sum(broker.dropped for broker in self.brokers.values())

    @property
    def sick(self) -> list[str]:
        return [name for name in self.brokers if any(one.is_sick for one in self.found(name))]


def run(
    brokers: dict[str, Broker],
    offered: float,
    lasts_s: float,
    *,
    until_s: float = 0.0,
    stalls_ourselves: tuple[float, float] = (0.0, 0.0),
) -> Run:
    """Offer so many events a second, for so long, and go on until a later time.

    Nothing happens in this process while it stalls, and its clock stands still.
    """
    result = Run(brokers)
    slowness = Slowness(LIMITS)
    addresses = {Address(name, 5672): broker for name, broker in brokers.items()}
    to_offer = next_look_s = now_s = asleep_s = waited_s = 0.0
    while now_s < max(lasts_s, until_s):
        now_s += STEP_S
        is_asleep = stalls_ourselves[0] <= now_s < stalls_ourselves[1]
        if is_asleep:
            asleep_s += STEP_S
            continue
        for broker in brokers.values():
            broker.drain(now_s)
        if now_s >= next_look_s:
            next_look_s = now_s + LOOK_S
            looks = {at: broker.look(now_s) for at, broker in addresses.items()}
            for at, _, after in slowness.look(now_s - asleep_s, looks, {OWN}):
                result.conditions.setdefault(at.host, []).append((now_s, after))
        # Who was held up does not catch up.
        to_offer = to_offer % 1.0 + offered * STEP_S if now_s < lasts_s else 0.0
        awaited = [
            broker.room
            for at, broker in addresses.items()
            if not slowness.courses[at].condition.is_sick
        ]
        events = min(int(to_offer), *awaited)
        is_held_up = events < int(to_offer)
        to_offer -= events
        for broker in brokers.values():
            broker.post(events)
        waited_s = waited_s + STEP_S if is_held_up else 0.0
        if is_held_up:
            result.waits.append(now_s)
        result.longest_wait_s = max(result.longest_wait_s, waited_s)
    return result


FAST = 20_000.0
"""Events a second that a healthy broker takes."""


def healthy(**others: Broker) -> dict[str, Broker]:
    """The own broker and a healthy one, before the others."""
    return {"own": Broker(steadily(FAST)), "healthy": Broker(steadily(FAST)), **others}


# The sick are found, and nobody waits for them any more.


@pytest.mark.parametrize("link_bytes", [2_000, 32_000])
@pytest.mark.parametrize("offered", [1_000.0, 15_000.0, 60_000.0])
def test_a_thin_link_is_found_slow_and_holds_up_nobody_from_then_on(
    link_bytes: int, offered: float
) -> None:
    thin = Broker(steadily(link_bytes / EVENT_BYTES))
    others = {name: Broker(steadily(100_000.0)) for name in ("own", "healthy")}
    outcome = run({**others, "thin": thin}, offered, 60.0, until_s=1_000.0)
    assert outcome.sick == ["thin"]
    began_s = outcome.began("thin", Condition.SLOW)
    assert began_s < 3 * LIMITS.slow_after_s
    assert outcome.longest_wait_s <= LIMITS.slow_after_s + 2 * LOOK_S
    assert all(at_s <= began_s for at_s in outcome.waits)
    # What was counted and what arrived is everything.
    assert thin.confirmed + thin.dropped + thin.held == thin.posted
    assert thin.dropped > 0
    assert outcome.brokers["healthy"].dropped == 0
    if link_bytes == 32_000:  # the other needs an hour
        assert thin.held == 0
        assert outcome.found("thin")[-1] is Condition.KEEPING_UP


def test_a_link_that_becomes_thin_under_a_flood_is_found_soon_whatever_its_backlog_holds() -> None:
    """The backlog is 32 MB, of which the fast link took much just before."""
    link = Broker(lambda now_s: 3_000.0 if now_s < 20.0 else 30.0, event_bytes=1_600)
    outcome = run(healthy(link=link), 15_000.0, 60.0)
    assert outcome.began("link", Condition.SLOW) < 20.0 + 2 * LIMITS.slow_after_s + 2 * LOOK_S
    assert outcome.brokers["healthy"].dropped == 0


def test_a_trickle_over_a_thin_link_is_no_sickness() -> None:
    outcome = run(healthy(thin=Broker(steadily(18.0))), 5.0, 60.0)
    assert outcome.conditions == {}


@pytest.mark.parametrize("offered", [3.0, 1_000.0, 15_000.0])
@pytest.mark.parametrize(
    "sick",
    [
        Broker(steadily(0.0)),  # an impostor
        Broker(steadily(0.0), ready=lambda _: False),  # an alarm
        Broker(steadily(0.0), connected=lambda now_s: now_s % 3.0 > 0.5),  # it comes and goes
    ],
    ids=["impostor", "alarm", "flapping"],
)
def test_a_broker_that_confirms_nothing_is_found_stalled(offered: float, sick: Broker) -> None:
    broker = Broker(sick.rate, sick.connected, sick.ready)
    outcome = run(healthy(sick=broker), offered, 60.0)
    assert outcome.sick == ["sick"]
    assert outcome.found("sick")[-1] is Condition.STALLED
    began_s = outcome.began("sick", Condition.STALLED)
    assert began_s < 2 * LIMITS.absent_after_s
    assert all(at_s <= began_s for at_s in outcome.waits)
    assert outcome.brokers["healthy"].dropped == 0


@pytest.mark.parametrize("frozen_s", [10.0, 10.15, 10.3, 10.45])
def test_a_broker_that_freezes_is_found_stalled_and_not_slow_before(frozen_s: float) -> None:
    outcome = run(healthy(sick=Broker(pausing(1_200, frozen_s, 40.0))), 1_500.0, 30.0)
    assert outcome.found("sick") == [Condition.BEHIND, Condition.STALLED]


def test_the_own_broker_may_be_the_sick_one() -> None:
    brokers = {"own": Broker(steadily(0.0)), "other": Broker(steadily(FAST))}
    outcome = run(brokers, 1_000.0, 30.0)
    assert outcome.found("own")[-1] is Condition.STALLED
    brokers = {"own": Broker(steadily(200.0)), "other": Broker(steadily(FAST))}
    outcome = run(brokers, 1_000.0, 60.0)
    assert Condition.SLOW in outcome.found("own")


def test_a_broker_that_was_stalled_recovers_after_steady_confirms() -> None:
    sick = Broker(pausing(FAST, 5.0, 30.0))
    outcome = run(healthy(sick=sick), 500.0, 60.0)
    changes = outcome.conditions["sick"]
    assert outcome.found("sick")[-2:] == [Condition.STALLED, Condition.KEEPING_UP]
    assert 33.0 <= changes[-1][0] <= 36.0
    assert sick.dropped == 0  # 12,500 events waited


def test_single_confirms_now_and_then_are_no_recovery() -> None:
    sick = Broker(lambda now_s: 20.0 if now_s > 30 and now_s % 4.0 < STEP_S else 0.0)
    outcome = run(healthy(sick=sick), 1_000.0, 120.0)
    assert outcome.sick == ["sick"]
    stalls = [each for each in outcome.conditions["sick"] if each[1] is Condition.STALLED]
    assert len(stalls) == 1
    assert all(at_s <= stalls[0][0] for at_s in outcome.waits)


def test_a_thin_link_that_flaps_is_found_slow_too() -> None:
    thin = Broker(steadily(200.0), connected=lambda now_s: now_s % 4.0 > 0.7)
    outcome = run(healthy(thin=thin), 1_000.0, 120.0)
    began_s = outcome.began("thin", Condition.SLOW)
    assert all(at_s <= began_s for at_s in outcome.waits)


def test_a_slow_broker_that_is_fast_again_recovers_in_the_middle_of_a_flood() -> None:
    others = {name: Broker(steadily(100_000.0)) for name in ("own", "healthy")}
    thin = Broker(lambda now_s: 290.0 if now_s < 30.0 else 30_000.0)
    outcome = run({**others, "thin": thin}, 60_000.0, 60.0)
    slow_s = outcome.began("thin", Condition.SLOW)
    (end_s, _) = next(one for one in outcome.conditions["thin"] if one[0] > slow_s)
    assert 30.0 < end_s < 30.0 + 3 * LIMITS.slow_after_s
    assert Condition.SLOW not in [one for at_s, one in outcome.conditions["thin"] if at_s > end_s]


# The healthy lose nothing.


def fleet(*rates: float) -> dict[str, Broker]:
    return {f"broker{number}": Broker(steadily(rate)) for number, rate in enumerate(rates)}


def disk_that_stalls() -> Broker:
    return Broker(pausing(FAST, 10.0, 18.0))


def pages(now_s: float) -> float:
    """A broker that pages to disk: two seconds of hardly anything, then it catches up."""
    return 50.0 if now_s % 6.0 < 2.0 else FAST


@pytest.mark.parametrize(
    ("brokers", "offered", "lasts_s"),
    [
        (fleet(2_500, 2_000, 2_000, 1_950), 5_000.0, 300.0),
        (fleet(300, 300, 300), 1_000.0, 300.0),
        # The own uplink is the bottleneck: all are behind alike, except the own broker.
        ({"own": Broker(steadily(FAST)), **fleet(150, 150, 160)}, 1_000.0, 300.0),
        (healthy(disk=disk_that_stalls()), 1_000.0, 60.0),
        (healthy(paging=Broker(pages)), 2_000.0, 60.0),
        # A flood into healthy brokers, one of which takes a tenth of what the others take.
        (healthy(slower=Broker(steadily(2_000))), 15_000.0, 120.0),
        (healthy(slower=Broker(pausing(2_200, 20.0, 24.0))), 15_000.0, 60.0),
        # A sender with one broker only, and one with its own broker and one more.
        ({"own": Broker(steadily(50.0))}, 1_000.0, 120.0),
        ({"own": Broker(steadily(FAST)), "other": Broker(steadily(50.0))}, 1_000.0, 120.0),
        ({"other": Broker(pausing(FAST, 10.0, 40.0))}, 1_000.0, 60.0),
    ],
    ids=["fleet", "small", "uplink", "disk", "paging", "flood", "pausing", "one", "two", "pause"],
)
def test_a_healthy_system_loses_nothing(
    brokers: dict[str, Broker], offered: float, lasts_s: float
) -> None:
    outcome = run(brokers, offered, lasts_s)
    assert outcome.dropped == 0


@pytest.mark.parametrize("healed_s", [60.0, 60.1, 60.2, 60.3, 60.4])
def test_an_uplink_that_is_wide_again_loses_nothing(healed_s: float) -> None:
    """One broker has caught up before the other, of which nobody may believe that it is slow."""

    def behind_the_uplink(then: float) -> Broker:
        return Broker(lambda now_s: then if now_s >= healed_s else 150.0)

    brokers = {"one": behind_the_uplink(100_000.0), "other": behind_the_uplink(20_000.0)}
    outcome = run({"own": Broker(steadily(FAST)), **brokers}, 30_000.0, 70.0)
    assert outcome.sick == []
    assert outcome.dropped == 0


def test_a_restart_of_four_seconds_under_a_flood_loses_nothing() -> None:
    back = Broker(steadily(FAST), connected=lambda now_s: not 10.0 <= now_s < 14.5)
    outcome = run(healthy(back=back), 15_000.0, 60.0)
    assert outcome.dropped == 0
    assert outcome.sick == []


def test_a_stall_of_our_own_makes_nobody_sick() -> None:
    outcome = run(healthy(other=Broker(steadily(1_200))), 1_000.0, 60.0, stalls_ourselves=(10, 18))
    assert outcome.sick == []
    assert outcome.dropped == 0


@given(
    st.lists(st.floats(2.0 * LIMITS.slow_events, 20_000.0), min_size=2, max_size=5),
    st.floats(0.0, LIMITS.slow_after_s / 2),
)
@settings(max_examples=30, deadline=None)
def test_brokers_of_twice_the_rate_that_pause_briefly_are_never_sick(
    rates: list[float], pause_s: float
) -> None:
    brokers = {
        f"broker{number}": Broker(pausing(rate, 8.0, 8.0 + pause_s))
        for number, rate in enumerate(rates)
    }
    outcome = run(brokers, 3_000.0, 30.0)
    assert outcome.sick == []


# Details.


def course_of(*looks: tuple[float, Look]) -> Course:
    course = Course(LIMITS)
    for now_s, look in looks:
        course.note(now_s, look)
    return course


LOOK = Look("a", True, 10, 0, 0, 0, 0, 0.0)


def test_bytes_that_leave_are_a_sign_of_life_by_a_connection_that_is_proven() -> None:
    before = LOOK._replace(posted=1, settled=1, confirmed=1)
    large = before._replace(posted=2)
    looks = [(0.0, before)] + [
        (second * 1.0, large._replace(unsent_bytes=1_000_000 - 2_000 * second))
        for second in range(1, 60)
    ]
    assert course_of(*looks).silent_s == 0.0
    again = [(now_s, look._replace(connection=f"{now_s // 3}")) for now_s, look in looks]
    assert course_of(*again).silent_s > 40.0


def test_the_age_of_the_oldest_is_known_to_a_look_and_never_overstated() -> None:
    course = course_of(
        (0.0, LOOK._replace(posted=0)),
        (0.5, LOOK._replace(posted=5)),
        (1.0, LOOK._replace(posted=9)),
        (1.5, LOOK._replace(posted=9, settled=5)),
    )
    assert course.oldest_s == 0.5
    course.note(2.0, LOOK._replace(posted=9, settled=9))
    assert course.oldest_s == 0.0


def test_a_backlog_that_is_old_takes_no_more_memory() -> None:
    course = Course(LIMITS)
    for number in range(10_000):
        course.note(number * LOOK_S, LOOK._replace(posted=number + 1))
    assert len(course._samples) <= 256
    assert course.oldest_s > 4_000


def test_a_backlog_that_is_a_quarter_full_is_said_early() -> None:
    slowness = Slowness(LIMITS)
    at = Address("a", 1)
    full = LOOK._replace(fill=0.3)
    assert slowness.look(0.0, {at: full}) == []
    (change,) = slowness.look(0.5, {at: full})
    assert change.after is Condition.BEHIND
    assert slowness.look(1.0, {at: LOOK._replace(fill=0.2, settled=10)}) == []
    (change,) = slowness.look(1.5, {at: LOOK._replace(fill=0.1, settled=10)})
    assert change.after is Condition.KEEPING_UP


def test_a_broker_that_is_gone_is_forgotten() -> None:
    slowness = Slowness(LIMITS)
    slowness.look(0.0, {OWN: LOOK}, {OWN})
    assert not slowness.courses[OWN].is_measure
    slowness.look(0.5, {}, {OWN})
    assert slowness.courses == {}


def test_a_drain_is_what_was_settled_since() -> None:
    assert drain_between(Base(1.0, 10, 1_000), 3.0, 30, 5_000) == (10.0, 2_000.0)


@pytest.mark.parametrize("taken", [1, 2_000])
def test_a_broker_is_slow_also_if_its_oldest_are_dropped_before_they_are_old(taken: int) -> None:
    """As happens with a ``transmit_timeout`` of 0: the backlog never holds ``slow_after_s``."""
    slowness = Slowness(LIMITS)
    posted, held, found = 2_000, 5_000, []
    for number in range(40):
        confirmed = number * taken
        settled = max(confirmed, number * posted - held)
        look = Look("one", True, number * posted, settled, confirmed, confirmed * 110, 0, 0.9)
        fine = Look("two", True, number * posted, number * posted, number * posted, 0, 0, 0.0)
        looks = {Address("sick"): look, Address("fine"): fine}
        for change in slowness.look(number * LOOK_S, looks):
            assert change.address == Address("sick")
            found.append((number * LOOK_S, change.after))
    slow = [at_s for at_s, after in found if after is Condition.SLOW]
    assert len(slow) == (taken == 1), found
    assert all(LIMITS.slow_after_s <= at_s <= LIMITS.slow_after_s + 2 for at_s in slow)


@pytest.mark.parametrize("rate", [40_000, 150_000])
def test_a_large_event_on_a_link_that_is_wide_enough_makes_no_broker_slow(rate: int) -> None:
    """It counts while it leaves, not only when it is confirmed."""
    slowness, found = Slowness(LIMITS), []
    for number in range(30):
        posted, left = 5 * number, int(rate * number * LOOK_S)
        look = Look("one", True, posted, 0, 0, left, 10_000_000 - left, 0.1)
        fine = Look("two", True, posted, posted, posted, 0, 0, 0.0)
        changes = slowness.look(number * LOOK_S, {Address("thin"): look, Address("fine"): fine})
        found += [change.after for change in changes]
    assert (Condition.SLOW in found) == (rate < LIMITS.slow_bytes)
    assert Condition.STALLED not in found


def test_what_had_left_by_a_connection_that_is_lost_is_nothing_that_was_taken() -> None:
    course = Course(LIMITS)
    course.note(0.0, Look("one", True, 1, 0, 0, 1_000_000, 0, 0.0))
    course.note(1.0, Look("two", True, 1, 0, 0, 0, 0, 0.0))
    assert course.drain.size == 0.0
