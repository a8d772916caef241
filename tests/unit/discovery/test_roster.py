"""Who is a member: the rules of the roster, and the brokers that others announce."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

import pytest

from miros_rabbitmq.discovery.announced import AnnouncedBrokers, AnnouncementLimits
from miros_rabbitmq.discovery.outcome import ProbeOutcome, ProbeResult
from miros_rabbitmq.discovery.roster import (
    Peer,
    PeersChanged,
    PeerSource,
    PeerState,
    Roster,
    RosterLimits,
)
from miros_rabbitmq.host_names import is_loopback
from miros_rabbitmq.urls import Address

OWN, ONE, TWO = Address("10.0.0.1"), Address("10.0.0.2"), Address("robot.example")
THREE = Address("10.0.0.3")
FORGET_AFTER_S, AGAIN_S, ANNOUNCE_S = 600.0, 30.0, 30.0
SILENCE_S = 10 * ANNOUNCE_S

Sources = Mapping[Address, PeerSource]


def known_as(source: PeerSource, *addresses: Address) -> Sources:
    return {OWN: PeerSource.OWN, **dict.fromkeys(addresses, source)}


def limits(
    *, forget_after_s: float = FORGET_AFTER_S, most_found: int = 64, most_announced: int = 4
) -> RosterLimits:
    return RosterLimits(
        forget_after_s=forget_after_s,
        most_found=most_found,
        most_announced=most_announced,
        ask_again_s=AGAIN_S,
        announce_s=ANNOUNCE_S,
    )


def brokers(members: Collection[Address] = ()) -> AnnouncedBrokers:
    return AnnouncedBrokers(AnnouncementLimits(2, AGAIN_S, ANNOUNCE_S), lambda one: one in members)


def row(address: Address, outcome: ProbeOutcome = ProbeOutcome.CONNECTED) -> ProbeResult:
    return ProbeResult(address, outcome, "", 0.01)


def judged(roster: Roster, sources: Sources, now_s: float, *rows: ProbeResult) -> PeersChanged:
    assert not roster.retain(sources)
    return roster.judge(rows, sources, now_s)


@pytest.fixture
def roster() -> Roster:
    return Roster(OWN, 0.0, limits())


# ---- who joins


def test_the_own_broker_is_a_member_from_the_start_and_for_good(roster: Roster) -> None:
    sources = known_as(PeerSource.LAN)
    assert not judged(roster, sources, 0.0, row(OWN, ProbeOutcome.ACCESS_REFUSED))
    assert not roster.forget(1e9)
    assert roster.members == (OWN,)


@pytest.mark.parametrize("source", [one for one in PeerSource if one is not PeerSource.OWN])
def test_a_broker_that_accepts_our_credentials_is_a_member_however_it_became_known(
    roster: Roster, source: PeerSource
) -> None:
    assert judged(roster, known_as(source, ONE), 0.0, row(ONE)) == PeersChanged(added=(ONE,))
    assert roster.members == (OWN, ONE)
    assert roster.peers({ONE})[1] == Peer(ONE, source, PeerState.PRESENT, ProbeOutcome.CONNECTED)
    assert roster.peers(())[1].state is PeerState.ABSENT


@pytest.mark.parametrize("outcome", [one for one in ProbeOutcome if one is not one.CONNECTED])
@pytest.mark.parametrize("source", [one for one in PeerSource if one is not PeerSource.OWN])
def test_an_unusable_broker_is_a_member_only_if_the_user_names_it_and_it_may_yet_come(
    roster: Roster, source: PeerSource, outcome: ProbeOutcome
) -> None:
    change = judged(roster, known_as(source, ONE), 0.0, row(ONE, outcome))
    assert bool(change.added) is (source.by_user and outcome.transient)


def test_lan_hosts_without_a_broker_are_not_shown_but_a_wrong_password_is(
    roster: Roster,
) -> None:
    sources = known_as(PeerSource.LAN, ONE, TWO)
    rows = (row(ONE, ProbeOutcome.REFUSED), row(TWO, ProbeOutcome.ACCESS_REFUSED))
    assert not judged(roster, sources, 0.0, *rows)
    shown = Peer(TWO, PeerSource.LAN, PeerState.UNUSABLE, ProbeOutcome.ACCESS_REFUSED)
    assert roster.peers(())[1:] == (shown,)


def test_members_are_asked_first_so_that_of_two_names_the_one_in_use_stays(roster: Roster) -> None:
    judged(roster, known_as(PeerSource.HEARD, ONE), 0.0, row(ONE))
    sources = {OWN: PeerSource.OWN, TWO: PeerSource.HOSTS_FILE, ONE: PeerSource.HEARD}
    assert roster.candidates(sources) == (OWN, ONE, TWO)
    assert not judged(roster, sources, 1.0, row(TWO, ProbeOutcome.DUPLICATE))


def test_a_member_that_turns_out_to_be_another_leaves(roster: Roster) -> None:
    sources = known_as(PeerSource.NAMED, ONE, TWO)
    judged(roster, sources, 0.0, row(ONE), row(TWO, ProbeOutcome.UNKNOWN_HOST))
    assert roster.members == (OWN, ONE, TWO)
    change = judged(roster, sources, 1.0, row(TWO, ProbeOutcome.DUPLICATE))
    assert change == PeersChanged(removed=(TWO,))


# ---- who is given up


def test_a_member_that_is_gone_for_too_long_is_forgotten_and_returns_when_it_answers(
    roster: Roster,
) -> None:
    sources = known_as(PeerSource.NAMED, ONE)
    judged(roster, sources, 0.0, row(ONE))
    roster.see({ONE}, 100.0)
    judged(roster, sources, 400.0, row(ONE, ProbeOutcome.TIMED_OUT))
    assert not roster.forget(100.0 + FORGET_AFTER_S)
    assert roster.forget(100.1 + FORGET_AFTER_S) == PeersChanged(removed=(ONE,))
    assert roster.members == (OWN,)
    # Its time is over: it is no longer expected, although the user names it.
    assert not judged(roster, sources, 1_000.0, row(ONE, ProbeOutcome.TIMED_OUT))
    assert judged(roster, sources, 2_000.0, row(ONE)).added == (ONE,)
    # From now on it is expected again.
    assert not judged(roster, sources, 2_001.0, row(ONE, ProbeOutcome.TIMED_OUT))
    assert not roster.forget(2_000.0 + FORGET_AFTER_S)


def test_no_broker_is_forgotten_if_that_is_off() -> None:
    roster = Roster(OWN, 0.0, limits(forget_after_s=0.0))
    judged(roster, known_as(PeerSource.LAN, ONE), 0.0, row(ONE))
    assert not roster.forget(1e9)


def test_a_host_of_the_cache_is_a_member_at_once_and_not_given_up_unasked(roster: Roster) -> None:
    assert roster.trust([ONE, OWN], -FORGET_AFTER_S - 1, 0.0).added == (ONE,)
    assert not roster.retain(known_as(PeerSource.LAN))
    assert not roster.forget(1.0), "not yet verified"
    judged(roster, known_as(PeerSource.LAN), 2.0, row(ONE, ProbeOutcome.TIMED_OUT))
    assert roster.forget(2.0).removed == (ONE,)


def test_a_cached_host_that_the_sweep_finds_counts_as_a_lan_host(roster: Roster) -> None:
    roster.trust([ONE], 0.0, 0.0)
    assert roster.found_on_lan() == ()
    judged(roster, known_as(PeerSource.LAN, ONE), 2.0, row(ONE))
    assert roster.source_of(ONE) is PeerSource.LAN
    assert roster.found_on_lan() == (ONE,)


def test_a_silent_lan_host_stays_and_a_host_that_is_no_longer_named_goes(
    roster: Roster,
) -> None:
    sources = {OWN: PeerSource.OWN, ONE: PeerSource.LAN, TWO: PeerSource.HOSTS_FILE}
    judged(roster, sources, 0.0, row(ONE), row(TWO))
    assert roster.retain(known_as(PeerSource.LAN)) == PeersChanged(removed=(TWO,))
    assert roster.members == (OWN, ONE)


def test_a_host_that_is_no_longer_named_but_otherwise_known_stays(roster: Roster) -> None:
    judged(roster, known_as(PeerSource.HOSTS_FILE, ONE), 0.0, row(ONE))
    assert not roster.retain(known_as(PeerSource.LAN, ONE))
    assert roster.members == (OWN, ONE)


# ---- announced brokers


def test_this_machine_is_known_under_its_names() -> None:
    assert all(map(is_loopback, ["localhost", "LocalHost", "127.0.0.1", "127.9.9.9"]))
    assert not any(map(is_loopback, ["10.0.0.1", "robot.example"]))


def test_announcements_of_oneself_or_of_another_machines_loopback_are_ignored() -> None:
    roster = Roster(OWN, 0.0, limits())
    for address in (OWN, Address("127.0.0.1"), Address("localhost")):
        assert not roster.hear(address, 0.0)
    assert roster.hear(ONE, 0.0)
    assert list(roster.announced) == [ONE]


def test_nodes_of_one_machine_hear_each_others_loopbacks() -> None:
    roster = Roster(Address("127.0.0.2"), 0.0, limits())
    assert roster.hear(Address("127.0.0.3"), 0.0)


def test_a_member_is_not_asked_because_it_is_announced(roster: Roster) -> None:
    judged(roster, known_as(PeerSource.LAN, ONE), 0.0, row(ONE))
    assert not roster.hear(ONE, 1.0)
    assert list(roster.announced) == []


def test_a_roster_forgets_announced_brokers_that_fall_silent(roster: Roster) -> None:
    roster.hear(ONE, 0.0)
    roster.forget(SILENCE_S)
    assert list(roster.announced) == [ONE]
    roster.forget(SILENCE_S + 1)
    assert list(roster.announced) == []


def test_each_announced_broker_is_asked_at_once_and_then_now_and_then() -> None:
    announced = brokers()
    for now_s, is_to_be_asked in ((0, True), (1, False), (29.9, False), (30, True), (31, False)):
        assert announced.hear(ONE, now_s) is is_to_be_asked
        assert announced.take_due(now_s) == (ONE,) * is_to_be_asked
    assert announced.hear(TWO, 31) is True
    assert list(announced.addresses) == [ONE, TWO]


def test_announced_brokers_that_fall_silent_are_forgotten_unless_they_are_members() -> None:
    members: set[Address] = set()
    announced = brokers(members)
    announced.hear(ONE, 0)
    announced.hear(TWO, 0)
    announced.forget(SILENCE_S)
    assert list(announced.addresses) == [ONE, TWO]
    announced.hear(ONE, 10)
    announced.forget(SILENCE_S + 1)
    assert list(announced.addresses) == [ONE]
    members.add(ONE)
    announced.forget(2 * SILENCE_S)
    assert list(announced.addresses) == [ONE]
    members.clear()
    announced.forget(2 * SILENCE_S)
    assert list(announced.addresses) == []


# ---- the own broker at another address


def test_an_own_broker_that_moves_is_the_first_member_and_the_former_address_is_forgotten(
    roster: Roster,
) -> None:
    judged(roster, known_as(PeerSource.LAN, ONE), 1.0, row(OWN), row(ONE))
    roster.move_own(THREE, 2.0)
    assert roster.own == THREE
    assert roster.members == (THREE, ONE)
    assert [(peer.address, peer.source) for peer in roster.peers([])] == [
        (THREE, PeerSource.OWN),
        (ONE, PeerSource.LAN),
    ]
    assert not roster.was_asked(THREE)
    assert not roster.forget(10 * FORGET_AFTER_S).removed.count(THREE)


def test_an_own_broker_that_moves_to_the_address_of_a_peer_takes_its_place(roster: Roster) -> None:
    judged(roster, known_as(PeerSource.NAMED, ONE), 1.0, row(OWN), row(ONE, ProbeOutcome.REFUSED))
    roster.move_own(ONE, 2.0)
    assert roster.members == (ONE,)
    assert roster.source_of(ONE) is PeerSource.OWN
    assert roster.source_of(OWN) is None
    # The user has named the former address, too: it is expected like any other.
    named = {ONE: PeerSource.OWN, OWN: PeerSource.NAMED}
    change = judged(roster, named, 3.0, row(OWN, ProbeOutcome.TIMED_OUT))
    assert change.added == (OWN,)


# ---- other brokers at another address


def test_of_the_former_addresses_of_a_broker_those_of_members_count_once(roster: Roster) -> None:
    judged(roster, known_as(PeerSource.LAN, ONE, TWO), 1.0, row(ONE), row(TWO))
    left = (TWO, Address("10.0.0.9"), OWN, ONE)
    assert roster.hear(THREE, 2.0, left)
    assert roster.take_left(THREE) == (), "it is no member yet"
    judged(roster, known_as(PeerSource.HEARD, ONE, TWO, THREE), 2.0, row(THREE))
    assert roster.take_left(THREE) == ((ONE, ONE), (TWO, TWO)), "the oldest first, and no own one"
    assert not roster.hear(THREE, 3.0, left)
    assert roster.take_left(THREE) == ()
    assert roster.take_left(ONE) == ()


def test_a_member_is_asked_when_another_node_tells_where_it_was_too(roster: Roster) -> None:
    judged(roster, known_as(PeerSource.LAN, ONE, TWO, THREE), 1.0, row(ONE), row(TWO), row(THREE))
    assert roster.hear(THREE, 2.0, (ONE,))
    assert not roster.hear(THREE, 2.1, (ONE,))
    assert roster.hear(THREE, 2.2, (TWO, ONE))
    assert roster.take_left(THREE) == ((ONE, ONE), (TWO, TWO))
    assert not roster.hear(OWN, 2.3, (ONE,))


def test_a_member_that_is_known_by_its_name_is_found_by_the_address_that_it_had(
    roster: Roster,
) -> None:
    judged(roster, known_as(PeerSource.NAMED, TWO), 1.0, replace(row(TWO), ip=ONE.host))
    roster.hear(THREE, 2.0, (Address(ONE.host, 5673), ONE))
    judged(roster, known_as(PeerSource.HEARD, TWO, THREE), 2.0, row(THREE))
    assert roster.take_left(THREE) == ((TWO, ONE),)


def test_a_broker_that_has_left_its_address_is_expected_there_no_more(roster: Roster) -> None:
    named = known_as(PeerSource.NAMED, ONE)
    judged(roster, named, 1.0, row(ONE))
    roster.leave(ONE)
    assert roster.members == (OWN,)
    assert not judged(roster, named, 2.0, row(ONE, ProbeOutcome.TIMED_OUT))
    assert judged(roster, named, 3.0, row(ONE)).added == (ONE,)


def test_a_broker_that_returns_to_an_address_that_it_has_left_is_asked_at_once(
    roster: Roster,
) -> None:
    assert roster.hear(ONE, 1.0)
    judged(roster, known_as(PeerSource.HEARD, ONE), 1.0, row(ONE))
    roster.leave(ONE)
    assert ONE not in roster.announced
    assert roster.hear(ONE, 2.0)
