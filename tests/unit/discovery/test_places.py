"""Who gets the places for brokers that nobody has written down."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import pytest

from miros_rabbitmq.discovery.allotment import Allotment
from miros_rabbitmq.discovery.places import TRIAL_S, Evidence, Kind, Places, Turn
from miros_rabbitmq.urls import Address

FOUND, ANNOUNCED = Kind.FOUND, Kind.ANNOUNCED
STEP_S = 2.0


def at(number: int) -> Address:
    return Address(f"10.0.{number // 250}.{number % 250 + 1}")


class Town:
    """A node's places, and brokers that confirm, or do not."""

    def __init__(self, most: int, most_announced: int = 4) -> None:
        draws = itertools.count()
        self.places = Places({FOUND: most, ANNOUNCED: most_announced}, lambda: float(next(draws)))
        self.members: dict[Address, int] = {}
        self.confirming: set[Address] = set()
        self.announcing: set[Address] = set()
        self.closing: set[Address] = set()
        self.spare_of: Mapping[Address, Address] = {}
        self.sends = True
        self.now_s = 0.0
        self.turns: list[Turn] = []
        self.ever: dict[Address, int] = {}

    def find(self, *addresses: Address, kind: Kind = FOUND) -> None:
        for address in addresses:
            self.places.want(address, kind)

    def pass_(self, seconds: float) -> None:
        """Let time pass, with a look every two seconds."""
        end_s = self.now_s + seconds
        while self.now_s < end_s:
            self.look()
            self.now_s += STEP_S

    def owes(self, address: Address) -> bool | None:
        is_reached = address not in self.closing or self.now_s % 10 == 0
        return (self.sends and address not in self.confirming) if is_reached else None

    def look(self) -> None:
        for address in self.announcing:
            self.places.vouch(address, self.now_s + 90)
        for address in self.members:
            self.members[address] += address in self.confirming
        evidence = {
            one: Evidence(count, self.owes(one), self.spare_of.get(one))
            for one, count in self.members.items()
        }
        self.places.look(evidence, self.now_s)
        turn = self.places.turn(self.now_s, self.spare_of)
        self.turns.append(turn)
        for address in turn.removed:
            del self.members[address]
        for address in turn.added:
            assert address not in self.members
            self.members[address] = 0
            self.ever[address] = self.ever.get(address, 0) + 1


def test_there_are_never_more_members_than_places() -> None:
    town = Town(8)
    town.find(*map(at, range(240)))
    for _ in range(200):
        town.pass_(STEP_S)
        assert len(town.members) <= 8
    assert len(town.places.waiting(FOUND)) == 240 - len(town.members)


@pytest.mark.parametrize("impostors_confirm", [False, True], ids=["mute", "confirming"])
def test_an_honest_broker_among_impostors_gets_its_turn_and_keeps_its_place_once_announced(
    impostors_confirm: bool,
) -> None:
    town, honest = Town(8), at(1_000)
    impostors = list(map(at, range(240)))
    town.confirming = {honest} | (set(impostors) if impostors_confirm else set())
    town.find(*impostors, honest)  # it comes last
    # With 2 of 8 places going round, or all 8 of them.
    town.pass_(TRIAL_S * 240 / (2 if impostors_confirm else 8) + 2 * TRIAL_S)
    assert honest in town.ever, "it had its turn"
    town.announcing.add(honest)
    town.pass_(TRIAL_S * 240)
    assert honest in town.members
    count = town.ever[honest]
    town.pass_(TRIAL_S * 240)
    assert town.ever[honest] == count, "and it stays"


def test_a_working_member_that_was_there_first_stays_whatever_comes() -> None:
    town, honest = Town(8), at(1_000)
    town.confirming.add(honest)
    town.find(honest)
    town.pass_(2 * TRIAL_S)
    town.find(*map(at, range(240)))
    town.confirming.update(map(at, range(240)))
    town.pass_(3_600)
    assert town.ever[honest] == 1
    assert honest in town.members


def test_made_up_announcements_displace_no_working_member() -> None:
    town, honest = Town(8, 8), at(1_000)
    town.confirming.add(honest)
    town.announcing.add(honest)
    town.find(honest, kind=ANNOUNCED)
    town.pass_(2 * TRIAL_S)
    made_up = set(map(at, range(240)))
    town.find(*made_up, kind=ANNOUNCED)
    town.announcing |= made_up
    town.confirming |= made_up
    town.pass_(3_600)
    assert town.ever[honest] == 1


def test_one_that_confirms_nothing_gives_its_place_up_and_its_pauses_grow() -> None:
    town = Town(8)
    town.find(at(0))
    town.pass_(7_200)
    gained = [number * STEP_S for number, turn in enumerate(town.turns) if turn.added]
    pauses = [after - before for before, after in itertools.pairwise(gained)]
    assert pauses == sorted(pauses)
    assert pauses[0] >= 60
    assert len(gained) < 10


def test_one_that_closes_each_connection_gives_its_place_up_too() -> None:
    town = Town(8)
    town.closing.add(at(0))
    town.find(at(0))
    town.pass_(2 * TRIAL_S)
    assert not town.members


def test_one_to_which_nothing_was_sent_keeps_its_place() -> None:
    town = Town(8)
    town.sends = False
    town.find(at(0))
    town.pass_(7_200)
    assert town.ever == {at(0): 1}


def test_one_that_has_confirmed_before_keeps_its_place_while_nobody_waits_for_it() -> None:
    town = Town(1)
    town.find(at(0))
    town.confirming.add(at(0))
    town.pass_(2 * TRIAL_S)
    town.confirming.clear()
    town.pass_(2 * TRIAL_S)
    assert list(town.members) == [at(0)]
    town.find(at(1))
    town.pass_(STEP_S)
    assert list(town.members) == [at(1)]


def test_an_announced_one_does_not_give_up_a_place_that_nobody_wants() -> None:
    town = Town(8)
    town.find(at(0))
    town.announcing.add(at(0))
    town.pass_(7_200)
    assert town.ever == {at(0): 1}, "its broker has an alarm, for example"


def test_an_announced_one_gets_the_next_place() -> None:
    town = Town(1)
    town.find(*map(at, range(50)))
    town.look()
    assert list(town.members) != [at(49)], "nobody had vouched for it when it was found"
    town.announcing.add(at(49))
    town.pass_(2 * TRIAL_S)
    assert list(town.members) == [at(49)]


def test_an_announcer_that_announces_another_takes_the_place_from_its_first() -> None:
    town = Town(8)
    town.confirming.update({at(0), at(1)})
    town.find(at(0), kind=ANNOUNCED)
    town.look()
    town.places.disown(at(0), town.now_s)
    town.find(at(1), kind=ANNOUNCED)
    town.pass_(2 * TRIAL_S)
    assert list(town.members) == [at(1)]
    assert at(0) not in town.places.all


def test_of_many_addresses_of_one_broker_a_few_have_places() -> None:
    town = Town(64)
    town.confirming.update(map(at, range(60)))
    town.find(*map(at, range(60)))
    town.look()
    town.spare_of = {at(number): at(0) for number in range(1, 60)}
    town.pass_(600)
    assert set(town.members) == {at(0), at(1), at(2), at(3)}


def test_fewer_places_are_left_to_those_that_were_there_first() -> None:
    town = Town(8)
    town.confirming.update(map(at, range(8)))
    for number in range(8):
        town.find(at(number))
        town.pass_(STEP_S)
    town.places.most = {FOUND: 2, ANNOUNCED: 1}
    town.look()
    assert set(town.members) == {at(0), at(1)}


def test_who_is_no_longer_known_waits_no_longer() -> None:
    town = Town(1)
    town.find(at(0), at(1))
    town.look()
    (waiting,) = town.places.waiting(FOUND)
    town.places.retain([])
    assert town.places.waiting(FOUND) == ()
    assert waiting not in town.places.all
    assert len(town.members) == 1


def test_one_that_does_not_answer_a_probe_cannot_shorten_its_pause() -> None:
    town = Town(8)
    town.find(at(0))
    town.pass_(2 * TRIAL_S)
    assert not town.members
    town.places.lapse(at(0))
    assert town.places.waiting(FOUND) == ()
    town.find(at(0))
    town.look()
    assert not town.members


def test_places_leave_at_least_half_of_the_descriptors_to_the_program() -> None:
    allotment, wanted = Allotment(), {FOUND: 64, ANNOUNCED: 64}
    for files in (64, 256, 512, 1_024, 4_096, 1_048_576):
        most = allotment.places(wanted, files)
        used = 3 * sum(most.values())
        assert used <= max(6, files * 3 / 8)
        assert min(most.values()) >= 1
    assert allotment.places(wanted, 4_096) == wanted
    assert sum(allotment.places(wanted, 1_024).values()) > 100


def test_the_nodes_of_a_process_share_its_descriptors() -> None:
    class Node:
        pass

    allotment, wanted, nodes = Allotment(), {FOUND: 64, ANNOUNCED: 64}, [Node() for _ in range(10)]
    for node in nodes:
        allotment.join(node)
    assert 10 * 3 * sum(allotment.places(wanted, 1_024).values()) <= 1_024 / 2
    for node in nodes:
        allotment.leave(node)
    assert sum(allotment.places(wanted, 1_024).values()) > 100
