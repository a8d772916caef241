"""Which address is used, by what comparisons say and when they say it."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from miros_rabbitmq.amqp.link_state import SessionState
from miros_rabbitmq.amqp.marker import Marker, Verdict
from miros_rabbitmq.nets import spares as spares_module
from miros_rabbitmq.nets.spares import Spares
from miros_rabbitmq.problems import DeliveryProblem, ProblemKind
from miros_rabbitmq.urls import Address

OWN, B, C, D = (Address(f"127.0.0.{number}", 5672) for number in range(1, 5))


class FakeTimer:
    def __init__(self, lane: FakeLane, due_s: float, callback: Callable[[], object]) -> None:
        self.lane, self.due_s, self.callback = lane, due_s, callback


class FakeLane:
    """Calls at once, and timers when the time is put forward."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.is_open = True
        self.timers: list[FakeTimer] = []

    def call_soon(self, callback: Callable[[], object]) -> None:
        callback()

    def call_later(self, delay_s: float, callback: Callable[[], object]) -> FakeTimer:
        timer = FakeTimer(self, self.now_s + delay_s, callback)
        self.timers.append(timer)
        return timer

    def cancel(self, timer: FakeTimer) -> None:
        if timer in self.timers:
            self.timers.remove(timer)

    def close(self) -> None:
        self.is_open = False

    def put_forward(self, seconds: float) -> None:
        until_s = self.now_s + seconds
        while due := [timer for timer in self.timers if timer.due_s <= until_s]:
            first = min(due, key=lambda timer: timer.due_s)
            self.timers.remove(first)
            self.now_s = max(self.now_s, first.due_s)
            first.callback()
        self.now_s = until_s


class FakeReactor:
    is_current_thread = False

    def __init__(self) -> None:
        self.lane = FakeLane()

    def attach(self, _name: str, _on_error: object, keep: Callable[[FakeLane], object]) -> FakeLane:
        keep(self.lane)
        return self.lane


class FakeLink:
    def __init__(self, address: Address) -> None:
        self.address = address
        self.connection_name = ""
        self.cluster_name = "rabbit@here"
        self.state = SessionState.WAITING

    def call_soon(self, callback: Callable[[], object]) -> None:
        callback()


class FakeSender:
    def __init__(self, address: Address) -> None:
        self.link = FakeLink(address)
        self.is_absent = True
        self.is_stalled = False
        self.absent_in_s = math.inf

    def is_absent_within(self, seconds: float) -> bool:
        return self.is_absent or seconds >= self.absent_in_s


class World:
    """Senders, and the comparisons that their brokers have not answered."""

    def __init__(self) -> None:
        self.reactor = FakeReactor()
        self.senders: dict[Address, FakeSender] = {}
        self.asked: dict[tuple[Address, Address], Callable[[Verdict], object]] = {}
        self.shared: list[Mapping[Address, Address]] = []
        self.may_share = True
        self.told: list[DeliveryProblem] = []
        self.proceeded: list[Address] = []
        self.silent: set[Address] = set()
        self._numbers = 0
        self._addresses: dict[str, Address] = {}
        reactor: Any = self.reactor
        senders: Any = lambda: self.senders  # noqa: E731
        self.spares = Spares("chart", reactor, senders, self.share, self.told.append)
        self.spares.start()

    def share(self, spare_of: Mapping[Address, Address]) -> bool:
        if self.may_share:
            self.shared.append(dict(spare_of))
        return self.may_share

    def compare(self, one: Marker, other: Marker, done: Callable[[Verdict], object]) -> None:
        self.asked[self._addresses[one.name], self._addresses[other.name]] = done

    def marker(self, link: FakeLink) -> Any:
        self._numbers += 1
        name = f"marker {self._numbers}"
        self._addresses[name] = link.address

        class FakeMarker:
            connection = link.connection_name
            has_answered = link.address not in self.silent

            @property
            def is_valid(self) -> bool:
                return bool(self.connection) and self.connection == link.connection_name

        marker: Any = FakeMarker()
        marker.name = name
        return marker

    def add(self, *addresses: Address) -> None:
        for address in addresses:
            self.senders[address] = FakeSender(address)
            self.spares.add(address, is_own=address == OWN, by_user=address in (OWN, B, C))

    def connect(self, address: Address, cluster: str = "rabbit@here") -> None:
        self._numbers += 1
        sender: Any = self.senders[address]
        sender.link.connection_name = f"connection {self._numbers}"
        sender.link.cluster_name = cluster

        def proceed() -> None:
            self.proceeded.append(address)
            sender.link.state = SessionState.READY
            sender.is_absent = False

        self.spares.vet(sender, proceed)

    def lose(self, address: Address, *, is_absent: bool = False) -> None:
        sender = self.senders[address]
        sender.link.connection_name = ""
        sender.link.state = SessionState.WAITING
        sender.is_absent = is_absent

    def answer(self, one: Address, other: Address, verdict: Verdict) -> None:
        self.asked.pop((one, other))(verdict)

    def put_forward(self, seconds: float) -> None:
        self.reactor.lane.put_forward(seconds)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    world = World()
    monkeypatch.setattr(spares_module, "Marker", world.marker)
    monkeypatch.setattr(spares_module, "compare", world.compare)
    return world


def connected(world: World, *addresses: Address, verdict: Verdict = Verdict.SAME) -> None:
    """Connect brokers one after the other, with this verdict for all."""
    world.add(*addresses)
    for address in addresses:
        world.connect(address)
        while world.asked:
            world.answer(*next(iter(world.asked)), verdict)


def test_the_first_connection_waits_for_nothing(world: World) -> None:
    connected(world, OWN)
    assert world.proceeded == [OWN]
    assert (world.asked, world.shared) == ({}, [])


def test_a_connection_is_used_when_it_is_found_to_be_the_same_or_all_have_said_no(
    world: World,
) -> None:
    connected(world, OWN, B, verdict=Verdict.OTHER)
    world.add(C)
    world.connect(C)
    assert world.proceeded == [OWN, B]
    world.answer(C, OWN, Verdict.OTHER)
    assert world.proceeded == [OWN, B]
    world.answer(C, B, Verdict.SAME)
    assert world.proceeded == [OWN, B, C]
    assert world.spares.spare_of == {C: B}
    assert world.shared == [{C: B}], "before it proceeded"


def test_without_answers_it_goes_on_after_a_while_and_acts_on_a_late_one(world: World) -> None:
    connected(world, B)
    world.add(C)
    world.connect(C)
    world.put_forward(2.99)
    assert world.proceeded == [B]
    world.put_forward(0.01)
    assert world.proceeded == [B, C]
    world.answer(C, B, Verdict.SAME)
    assert world.spares.spare_of == {C: B}
    assert world.proceeded == [B, C]


def test_one_that_has_never_answered_holds_up_nobody_but_once(world: World) -> None:
    world.silent = {D}
    world.add(D, OWN, B, C)
    world.connect(D)
    world.connect(OWN)
    world.put_forward(3.0)
    assert world.proceeded == [D, OWN], "it was waited for"
    world.asked.clear()
    for address in (B, C):
        world.connect(address)
        assert D not in {other for _, other in world.asked}
        while world.asked:
            world.answer(*next(iter(world.asked)), Verdict.OTHER)
        assert world.proceeded[-1] == address, "it is not waited for again"


def test_a_new_one_that_ranks_higher_is_used(world: World) -> None:
    world.add(OWN, B, C, D)
    for address, used in ((D, D), (C, C), (B, B), (OWN, OWN)):
        world.connect(address)
        while world.asked:
            world.answer(*next(iter(world.asked)), Verdict.SAME)
        assert set(world.spares.spare_of.values()) - {used} == set()
    assert world.spares.spare_of == {B: OWN, C: OWN, D: OWN}


def test_one_that_ranks_higher_is_waited_for_if_it_connects_at_the_same_time(
    world: World,
) -> None:
    """Otherwise both would send what has waited."""
    connected(world, OWN)
    world.add(B, C, D)
    for address in (C, B, D):
        world.connect(address)
    world.answer(C, OWN, Verdict.OTHER)
    assert world.proceeded == [OWN]
    world.answer(B, C, Verdict.SAME)
    assert world.proceeded == [OWN, B, C], "and D, which ranks lower, is not waited for"
    assert world.shared[-1] == world.spares.spare_of == {C: B}
    world.answer(D, C, Verdict.OTHER)
    world.answer(D, B, Verdict.OTHER)
    world.answer(D, OWN, Verdict.OTHER)
    assert world.proceeded == [OWN, B, C, D]


def test_two_that_connect_at_the_same_time_and_lead_to_different_brokers_wait_for_no_more(
    world: World,
) -> None:
    connected(world, OWN)
    world.add(B, C)
    world.connect(C)
    world.connect(B)
    world.answer(C, OWN, Verdict.OTHER)
    world.answer(B, C, Verdict.OTHER)
    assert world.proceeded == [OWN, C]
    world.answer(B, OWN, Verdict.OTHER)
    assert world.proceeded == [OWN, C, B]
    assert world.spares.spare_of == {}


def test_two_that_lead_to_the_same_wait_until_one_is_compared_with_what_is_in_use(
    world: World,
) -> None:
    """As at each start with three nodes of a cluster: two of them would send what has waited."""
    world.add(B, C, D)
    world.connect(D)
    assert world.proceeded == [D]
    world.connect(C)
    world.connect(B)
    world.answer(B, C, Verdict.SAME)
    assert world.proceeded == [D], "both may lead to the same as D, which is in use"
    world.answer(C, D, Verdict.SAME)
    assert world.proceeded == [D, B, C], "what holds for C holds for B, and the best comes first"
    assert world.shared[-1] == world.spares.spare_of == {C: B, D: B}
    world.answer(B, D, Verdict.SAME)
    assert world.proceeded == [D, B, C]


@pytest.mark.parametrize("seed", range(40))
def test_no_two_send_to_the_same_broker_in_whatever_order_they_connect_and_are_compared(
    world: World, seed: int
) -> None:
    chance = random.Random(seed)
    addresses = [OWN, B, C, D][: chance.randint(2, 4)]
    brokers = {address: chance.randint(0, 1) for address in addresses}
    chance.shuffle(addresses)
    world.add(*addresses)
    to_connect = chance.sample(addresses, len(addresses))
    while to_connect or world.asked:
        if to_connect and (not world.asked or chance.random() < 0.5):
            world.connect(to_connect.pop())
        else:
            one, other = chance.choice(list(world.asked))
            is_same = brokers[one] == brokers[other]
            world.answer(one, other, Verdict.SAME if is_same else Verdict.OTHER)
        used = [brokers[one] for one in world.proceeded if one not in world.spares.spare_of]
        assert len(used) == len(set(used))
    assert sorted(world.proceeded) == sorted(addresses)
    assert {brokers[one] for one in addresses} == set(used)


def test_one_that_never_answers_holds_up_nobody_for_longer_than_their_own_time(
    world: World,
) -> None:
    """And it has its own time, too, before nobody waits for it any more."""
    world.silent = {B}
    connected(world, OWN)
    world.add(B, C, D)
    world.connect(C)
    world.put_forward(2.0)
    world.connect(B)
    world.answer(C, OWN, Verdict.OTHER)
    world.put_forward(0.99)
    assert world.proceeded == [OWN]
    world.put_forward(0.01)
    assert world.proceeded == [OWN, C]
    world.asked.clear()
    world.connect(D)
    assert set(world.asked) == {(D, OWN), (D, B), (D, C)}, "it is not given up yet"
    world.put_forward(2.0)
    assert world.proceeded == [OWN, C, B]


@pytest.mark.parametrize("first", [OWN, B])
def test_of_two_that_a_third_one_shows_to_be_the_same_the_one_that_ranks_higher_is_used(
    world: World, first: Address
) -> None:
    """Their own comparison takes longer than a connection waits for it."""
    world.add(OWN, B, C)
    world.connect(OWN)
    world.connect(B)
    world.put_forward(3.0)
    assert world.proceeded == [OWN, B]
    world.connect(C)
    for other in (first, OWN if first == B else B):
        world.answer(C, other, Verdict.SAME)
    assert world.spares.spare_of == {B: OWN, C: OWN}
    world.answer(B, OWN, Verdict.SAME)
    world.put_forward(10.0)
    assert world.spares.spare_of == {B: OWN, C: OWN}


def test_one_that_is_late_and_ranks_higher_is_used(world: World) -> None:
    world.add(OWN, B)
    world.connect(B)
    world.connect(OWN)
    world.put_forward(3.0)
    world.answer(OWN, B, Verdict.SAME)
    assert world.spares.spare_of == {B: OWN}


def test_two_that_seem_different_are_compared_once_more(world: World) -> None:
    connected(world, OWN)
    world.add(B)
    world.connect(B)
    world.answer(B, OWN, Verdict.OTHER)
    assert world.asked == {}
    world.put_forward(1.0)
    world.answer(B, OWN, Verdict.OTHER)
    world.put_forward(10.0)
    assert world.asked == {}
    assert world.spares.spare_of == {}


def test_the_second_comparison_may_find_them_the_same(world: World) -> None:
    connected(world, OWN)
    world.add(B)
    world.connect(B)
    world.answer(B, OWN, Verdict.OTHER)
    world.put_forward(1.0)
    world.answer(B, OWN, Verdict.SAME)
    assert world.spares.spare_of == {B: OWN}


def test_a_spare_takes_over_only_if_it_is_ready_and_then_stays(world: World) -> None:
    connected(world, OWN, B, C)
    world.lose(OWN)
    world.put_forward(1.0)
    assert world.spares.spare_of == {B: OWN, C: OWN}, "it is expected back"
    world.lose(B)
    world.senders[OWN].is_absent = True
    world.put_forward(1.0)
    assert world.spares.spare_of == {OWN: C, B: C}, "the only one that is connected"
    world.connect(OWN)
    world.answer(OWN, C, Verdict.SAME)
    world.put_forward(10.0)
    assert world.spares.spare_of == {OWN: C, B: C}


def test_with_no_spare_connected_the_absent_one_stays_in_use(world: World) -> None:
    connected(world, OWN, B)
    world.lose(OWN, is_absent=True)
    world.lose(B, is_absent=True)
    world.put_forward(10.0)
    assert world.spares.spare_of == {B: OWN}


def test_a_late_no_of_another_does_not_undo_a_takeover(world: World) -> None:
    connected(world, D, verdict=Verdict.SAME)
    world.add(B, C)
    world.connect(B)
    world.answer(B, D, Verdict.OTHER)
    world.connect(C)
    world.answer(C, B, Verdict.SAME)
    world.lose(B, is_absent=True)
    world.put_forward(0.5)
    assert world.spares.spare_of == {B: C}
    world.connect(B)
    world.answer(B, C, Verdict.SAME)
    world.answer(C, D, Verdict.OTHER)
    world.put_forward(5.0)
    for asked in list(world.asked):
        world.answer(*asked, Verdict.OTHER)
    assert world.spares.spare_of == {B: C}


def test_one_that_leads_elsewhere_leaves(world: World) -> None:
    connected(world, OWN, B, C)
    world.lose(OWN)
    world.connect(OWN)
    world.answer(OWN, B, Verdict.OTHER)
    world.answer(OWN, C, Verdict.OTHER)
    assert world.spares.spare_of == {C: B}
    world.put_forward(1.0)
    world.answer(OWN, B, Verdict.SAME)
    assert world.spares.spare_of == {C: B, OWN: B}


def test_one_that_cannot_be_compared_leaves_only_if_it_has_another_name(world: World) -> None:
    connected(world, OWN, B)
    for cluster, spare_of in (("rabbit@here", {B: OWN}), ("rabbit@there", {})):
        world.lose(OWN)
        world.lose(B)
        world.connect(B, cluster)
        assert world.spares.spare_of == spare_of


def test_an_answer_of_a_connection_that_is_gone_changes_nothing(world: World) -> None:
    connected(world, OWN)
    world.add(B)
    world.connect(B)
    done = world.asked.pop((B, OWN))
    world.lose(B)
    world.connect(B)
    done(Verdict.SAME)
    assert world.spares.spare_of == {}


def test_nothing_proceeds_before_the_networks_have_followed(world: World) -> None:
    connected(world, OWN)
    world.add(B)
    world.connect(B)
    world.may_share = False
    world.answer(B, OWN, Verdict.SAME)
    world.put_forward(1.0)
    assert world.proceeded == [OWN]
    assert world.spares.spare_of == {}
    world.may_share = True
    world.put_forward(0.1)
    assert world.proceeded == [OWN, B]
    assert world.shared == [{B: OWN}]


def test_the_user_is_told_once_of_all_that_connect_together(world: World) -> None:
    connected(world, OWN, B, C)
    assert world.told == []
    world.put_forward(1.0)
    assert [(one.kind, one.subject) for one in world.told] == [(ProblemKind.SAME_BROKER, str(OWN))]
    assert f"chart: {OWN} and {B}, {C} lead to the same" in world.told[0].text
    assert "rabbit@here" in world.told[0].text
    for _ in range(3):
        world.lose(B)
        world.connect(B)
        for asked in list(world.asked):
            world.answer(*asked, Verdict.SAME)
        world.put_forward(5.0)
    assert len(world.told) == 1


def test_the_user_is_told_at_the_stop_if_that_comes_sooner(world: World) -> None:
    connected(world, OWN, B)
    world.spares.stop()
    assert len(world.told) == 1
    assert not world.reactor.lane.is_open
    world.spares.stop()
    world.connect(B)
    assert world.proceeded[-1] == B, "whoever still connects is not held up"


def test_one_that_is_removed_leaves_its_place_to_the_best(world: World) -> None:
    connected(world, OWN, B, C)
    world.lose(B)
    world.spares.remove(OWN)
    assert world.spares.spare_of == {OWN: C, B: C}
    del world.senders[OWN]
    world.put_forward(1.0)
    assert world.spares.spare_of == {B: C}
    world.spares.remove(D)
    world.spares.remove(B)
    assert world.spares.spare_of == {B: C}


def test_one_that_is_connected_and_counts_as_absent_is_replaced_and_replaces_nobody(
    world: World,
) -> None:
    connected(world, OWN, B, C)
    world.senders[OWN].is_absent = world.senders[B].is_absent = True  # they confirm nothing
    world.put_forward(1.0)
    assert world.spares.spare_of == {OWN: C, B: C}
    world.senders[C].is_absent = True
    world.put_forward(10.0)
    assert world.spares.spare_of == {OWN: C, B: C}


def test_a_spare_takes_over_before_the_broker_is_absent_and_events_are_dropped(
    world: World,
) -> None:
    connected(world, OWN, B)
    world.lose(OWN)
    world.senders[OWN].absent_in_s = 2.0
    world.put_forward(1.0)
    assert world.spares.spare_of == {B: OWN}
    world.senders[OWN].absent_in_s = 0.4  # before the next look
    world.put_forward(0.5)
    assert world.spares.spare_of == {OWN: B}


def test_a_broker_that_is_found_to_confirm_nothing_is_replaced_at_once(world: World) -> None:
    connected(world, OWN, B)
    world.senders[OWN].is_absent = True
    world.spares.look_soon()
    assert world.spares.spare_of == {B: OWN}, "it may be about to connect"
    world.senders[OWN].is_stalled = True
    world.spares.look_soon()
    assert world.spares.spare_of == {OWN: B}
    world.senders[B].is_stalled = True
    timers = len(world.reactor.lane.timers)
    world.spares.look_soon()
    assert len(world.reactor.lane.timers) == timers, "of which one looks"
