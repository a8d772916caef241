"""Who is a member: the rules of the roster, and the announcements by which strangers are known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from cryptography.fernet import Fernet
from hypothesis import given
from hypothesis import strategies as st

from miros_rabbitmq import Codec, MessageRejected, RejectReason
from miros_rabbitmq.discovery.membership import Membership
from miros_rabbitmq.discovery.outcome import ProbeOutcome, ProbeResult
from miros_rabbitmq.discovery.roster import Peer, PeersChanged, PeerSource, PeerState, Roster
from miros_rabbitmq.nets.settings import Settings
from miros_rabbitmq.urls import Address
from miros_rabbitmq.wire.announcement import (
    announce_broker,
    announced_broker,
    is_announcement,
    is_loopback,
)
from miros_rabbitmq.wire.codec import is_event_body
from miros_rabbitmq.wire.envelope import MESH, NOTICE

OWN, ONE, TWO = Address("10.0.0.1"), Address("10.0.0.2"), Address("robot.example")
FORGET_AFTER_S = 600.0

Sources = Mapping[Address, PeerSource]


def known_as(source: PeerSource, *addresses: Address) -> Sources:
    return {OWN: PeerSource.OWN, **dict.fromkeys(addresses, source)}


def row(address: Address, outcome: ProbeOutcome = ProbeOutcome.CONNECTED) -> ProbeResult:
    return ProbeResult(address, outcome, "", 0.01)


def judged(roster: Roster, sources: Sources, now_s: float, *rows: ProbeResult) -> PeersChanged:
    assert not roster.retain(sources)
    return roster.judge(rows, sources, now_s)


@pytest.fixture
def roster() -> Roster:
    return Roster(OWN, FORGET_AFTER_S, 0.0)


# ---- who joins


def test_the_own_broker_is_a_member_from_the_start_and_for_good(roster: Roster) -> None:
    sources = known_as(PeerSource.LAN)
    assert not judged(roster, sources, 0.0, row(OWN, ProbeOutcome.ACCESS_REFUSED))
    assert not roster.forget(1e9)
    assert roster.members == (OWN,)


@pytest.mark.parametrize("source", [one for one in PeerSource if one is not PeerSource.OWN])
def test_whoever_takes_our_credentials_is_a_member_however_it_became_known(
    roster: Roster, source: PeerSource
) -> None:
    assert judged(roster, known_as(source, ONE), 0.0, row(ONE)) == PeersChanged(added=(ONE,))
    assert roster.members == (OWN, ONE)
    assert roster.peers({ONE})[1] == Peer(ONE, source, PeerState.PRESENT, ProbeOutcome.CONNECTED)
    assert roster.peers(())[1].state is PeerState.ABSENT


@pytest.mark.parametrize("outcome", [one for one in ProbeOutcome if one is not one.CONNECTED])
@pytest.mark.parametrize("source", [one for one in PeerSource if one is not PeerSource.OWN])
def test_of_the_others_those_are_that_the_user_names_and_that_may_yet_come(
    roster: Roster, source: PeerSource, outcome: ProbeOutcome
) -> None:
    change = judged(roster, known_as(source, ONE), 0.0, row(ONE, outcome))
    assert bool(change.added) is (source.by_user and outcome.transient)


def test_a_lan_is_full_of_hosts_at_which_nothing_is_but_a_wrong_password_is_shown(
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
    # It had its time: it is expected no longer, though the user names it.
    assert not judged(roster, sources, 1_000.0, row(ONE, ProbeOutcome.TIMED_OUT))
    assert judged(roster, sources, 2_000.0, row(ONE)).added == (ONE,)
    # From now on it is expected again.
    assert not judged(roster, sources, 2_001.0, row(ONE, ProbeOutcome.TIMED_OUT))
    assert not roster.forget(2_000.0 + FORGET_AFTER_S)


def test_nobody_is_forgotten_where_that_is_off() -> None:
    roster = Roster(OWN, 0.0, 0.0)
    judged(roster, known_as(PeerSource.LAN, ONE), 0.0, row(ONE))
    assert not roster.forget(1e9)


def test_a_host_of_the_cache_is_a_member_at_once_and_not_given_up_unasked(roster: Roster) -> None:
    assert roster.trust([ONE, OWN], -FORGET_AFTER_S - 1).added == (ONE,)
    assert not roster.retain(known_as(PeerSource.LAN))
    assert not roster.forget(1.0), "not yet verified"
    judged(roster, known_as(PeerSource.LAN), 2.0, row(ONE, ProbeOutcome.TIMED_OUT))
    assert roster.forget(2.0).removed == (ONE,)


def test_a_host_of_the_cache_that_the_lan_has_is_one_of_the_lan(roster: Roster) -> None:
    roster.trust([ONE], 0.0)
    assert roster.found_on_lan() == ()
    judged(roster, known_as(PeerSource.LAN, ONE), 2.0, row(ONE))
    assert roster.source_of(ONE) is PeerSource.LAN
    assert roster.found_on_lan() == (ONE,)


def test_a_host_of_the_lan_that_is_silent_stays_and_one_that_is_named_no_longer_goes(
    roster: Roster,
) -> None:
    sources = {OWN: PeerSource.OWN, ONE: PeerSource.LAN, TWO: PeerSource.HOSTS_FILE}
    judged(roster, sources, 0.0, row(ONE), row(TWO))
    assert roster.retain(known_as(PeerSource.LAN)) == PeersChanged(removed=(TWO,))
    assert roster.members == (OWN, ONE)


def test_a_host_that_is_named_no_longer_but_known_otherwise_stays(roster: Roster) -> None:
    judged(roster, known_as(PeerSource.HOSTS_FILE, ONE), 0.0, row(ONE))
    assert not roster.retain(known_as(PeerSource.LAN, ONE))
    assert roster.members == (OWN, ONE)


# ---- announcements


@pytest.mark.parametrize("address", [ONE, TWO, Address("10.0.0.5", 5673)])
def test_a_broker_that_is_announced_is_understood(address: Address) -> None:
    body = announce_broker(address)
    assert is_announcement(body)
    assert announced_broker(body) == announced_broker(list(body)) == address


@pytest.mark.parametrize(
    "body",
    [
        ("broker",),
        ("broker", 7),
        ("broker", ""),
        ("broker", "10.0.0.1:http"),
        ("broker", "u:p@10.0.0.1"),
        ("broker", "0.0.0.0:5672"),
        ("broker", "224.0.0.1:5672"),
        ("broker", "255.255.255.255:5672"),
        ("broker", "a" * 300),
        ("broker", "host\x00name"),
        ("something of a later version", {"at": "10.0.0.1"}),
    ],
)
def test_one_that_makes_no_sense_here_names_nobody(body: Any) -> None:
    assert is_announcement(body)
    assert announced_broker(body) is None


@given(st.recursive(st.none() | st.text() | st.integers() | st.binary(), st.lists))
def test_any_data_is_an_announcement_or_none(body: Any) -> None:
    if is_announcement(body):
        announced_broker(body)


def test_this_machine_is_known_under_its_names() -> None:
    assert all(map(is_loopback, ["localhost", "LocalHost", "127.0.0.1", "127.9.9.9"]))
    assert not any(map(is_loopback, ["10.0.0.1", "robot.example"]))


def mesh_codec(key: bytes, *, notices: bool) -> Codec:
    check = is_announcement if notices else None
    return Codec(MESH, [key], check_body=is_event_body, check_notice=check)


def test_a_notice_is_no_event_and_an_event_no_notice() -> None:
    key = Fernet.generate_key()
    codec = mesh_codec(key, notices=True)
    body = announce_broker(ONE)
    assert codec.decode(codec.encode("name", 1, NOTICE, body)).body == body
    plain = Codec(MESH, [key])
    for sequence, wrong in ((NOTICE, "text"), (NOTICE, ()), (1, ("broker", "x", "y"))):
        with pytest.raises(MessageRejected) as caught:
            codec.decode(plain.encode("name", 1, sequence, wrong))
        assert caught.value.reason is RejectReason.MALFORMED


def test_a_network_without_notices_takes_none() -> None:
    key = Fernet.generate_key()
    token = mesh_codec(key, notices=True).encode("name", 1, NOTICE, announce_broker(ONE))
    with pytest.raises(MessageRejected):
        mesh_codec(key, notices=False).decode(token)


# ---- what a node says of itself, and whom it hears


def membership(**extras: Any) -> Membership:
    settings = Settings("user", "password", Fernet.generate_key(), addresses=[], **extras)
    return Membership(
        settings, "chart", on_added=lambda _: None, on_removed=lambda _: 0, connected=set
    )


def heard_by(membership: Membership, *addresses: Address) -> set[Address]:
    own = membership.scout.this.url.address
    membership._own = own
    membership._roster = Roster(own, FORGET_AFTER_S, 0.0)
    for address in addresses:
        membership.hear(announce_broker(address))
    return set(membership._announced)


def test_nothing_is_announced_before_the_start() -> None:
    assert membership(rabbit_host="10.0.0.1").announcement() is None


def test_a_loopback_address_is_announced_only_where_it_was_configured() -> None:
    node = membership(rabbit_host="127.0.0.2")
    heard_by(node)
    assert node.announcement() == ("broker", "127.0.0.2:5672")
    node = membership()
    node._own = Address("127.0.0.1")
    assert node.announcement() is None


def test_strangers_are_heard_but_neither_oneself_nor_another_ones_loopback() -> None:
    node = membership(rabbit_host="10.0.0.1")
    assert heard_by(node, OWN, ONE, Address("127.0.0.1"), Address("localhost")) == {ONE}
    node = membership(rabbit_host="127.0.0.2")
    assert heard_by(node, Address("127.0.0.3")) == {Address("127.0.0.3")}


def test_strangers_are_not_heard_where_they_are_not_wanted() -> None:
    node = membership(rabbit_host="10.0.0.1", accept_unknown_peers=False)
    assert heard_by(node, ONE) == set()


def test_of_strangers_there_is_a_limited_number() -> None:
    node = membership(rabbit_host="10.0.0.1")
    many = [Address(f"10.1.{n // 100}.{n % 100 + 1}") for n in range(500)]
    limit = node._settings.limits.unknown_peers
    assert heard_by(node, *many) == set(many[:limit])
