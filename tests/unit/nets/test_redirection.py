"""When another sender is posted to, what waits moves there, in order, and nothing is lost."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from miros_rabbitmq.delivery.intake import Record
from miros_rabbitmq.nets.redirection import Redirection
from miros_rabbitmq.urls import Address
from miros_rabbitmq.wire.sealer import Heading

A, B, C = (Address(f"127.0.0.{number}", 5672) for number in range(1, 4))


class Numbered(NamedTuple):
    """A record of which only the identity matters."""

    number: int
    heading: Heading = Heading("key", b"")
    data: bytes = b""


class FakeSender:
    """Holds what waits and what is unconfirmed in one list, and a log of what its broker has."""

    def __init__(self, broker: list[int]) -> None:
        self.broker = broker
        self.held: list[Record] = []
        self.unconfirmed = 0

    def send(self, count: int, *, confirmed: bool) -> None:
        """Send the next records; without a confirm they are kept."""
        self.broker.extend(numbers(self.held[:count]))
        if confirmed:
            del self.held[:count]

    def hand_over(self) -> list[Record]:
        held, self.held = self.held, []
        return held

    def backlog(self) -> list[Record]:
        return list(self.held)

    def take_over(self, records: Sequence[Record]) -> None:
        self.held = [*records, *self.held]


def numbers(records: Sequence[Record]) -> list[int]:
    return [record.number for record in records]  # type: ignore[attr-defined]


class Network:
    """Posts numbered records to those senders that are posted to."""

    def __init__(self) -> None:
        self.redirection = Redirection()
        self.senders: dict[Address, FakeSender] = {}
        self.posted = 0

    def add(self, address: Address, broker: list[int]) -> FakeSender:
        self.senders[address] = FakeSender(broker)
        self.redirection.add(address, self.posted)
        return self.senders[address]

    def remove(self, address: Address) -> None:
        del self.senders[address]
        self.redirection.remove(address)

    def post(self, count: int = 1) -> None:
        for _ in range(count):
            record = Numbered(self.posted)
            self.posted += 1
            for sender in self.redirection.posted_to(self.senders):
                sender.held.append(record)

    def share(self, spare_of: Mapping[Address, Address]) -> None:
        self.redirection.share(spare_of, self.senders, self.posted)


def test_a_spare_gets_nothing_and_what_it_had_goes_to_nobody() -> None:
    network = Network()
    a, b = network.add(A, []), network.add(B, [])
    network.post(3)
    network.share({B: A})
    network.post(2)
    assert network.redirection.posted_to(network.senders) == (a,)
    assert numbers(a.held) == [0, 1, 2, 3, 4]
    assert b.held == []


def test_a_spare_that_takes_over_gets_what_is_not_confirmed_before_new_posts() -> None:
    network = Network()
    a, b = network.add(A, []), network.add(B, [])
    network.share({B: A})
    network.post(5)
    a.send(2, confirmed=True)
    network.share({A: B})
    network.post()
    assert a.held == []
    assert numbers(b.held) == [2, 3, 4, 5]


def test_what_was_posted_before_the_used_one_was_added_is_not_lost() -> None:
    network = Network()
    a = network.add(A, [])
    network.post(3)
    b = network.add(B, [])
    network.post(2)
    b.send(1, confirmed=True)
    network.share({A: B})
    assert a.held == []
    assert numbers(b.held) == [0, 1, 2, 4]
    network.share({})
    network.share({A: B})
    assert numbers(b.held) == [0, 1, 2, 4], "only once"


def test_one_that_joins_and_takes_over_at_once_gets_only_what_is_not_confirmed() -> None:
    network = Network()
    a, b = network.add(A, []), network.add(B, [])
    network.post(4)
    b.send(3, confirmed=True)
    network.share({A: B})
    network.share({B: A})
    assert numbers(a.held) == [3]
    assert b.held == []


def test_when_the_used_one_leads_elsewhere_both_have_what_waits() -> None:
    network = Network()
    a, b = network.add(A, []), network.add(B, [])
    network.share({B: A})
    network.post(3)
    a.send(1, confirmed=True)
    network.share({})
    network.post()
    assert numbers(a.held) == numbers(b.held) == [1, 2, 3]


def test_a_spare_whose_used_one_is_removed_is_posted_to() -> None:
    network = Network()
    network.add(A, [])
    b = network.add(B, [])
    network.share({B: A})
    network.remove(A)
    network.post()
    assert numbers(b.held) == [0]
    network.share({})
    assert numbers(b.held) == [0]


def test_three_of_which_a_third_takes_over() -> None:
    network = Network()
    a, b, c = (network.add(one, []) for one in (A, B, C))
    network.share({B: A, C: A})
    network.post(2)
    network.share({A: C, B: C})
    network.post()
    assert (a.held, b.held, numbers(c.held)) == ([], [], [0, 1, 2])


GROUPINGS: list[dict[Address, Address]] = [
    dict(grouping)
    for size in range(3)
    for spares in itertools.combinations((A, B, C), size)
    for grouping in itertools.product(
        *([(spare, used) for used in {A, B, C} - set(spares)] for spare in spares)
    )
]
"""All ways in which some of three are spares of others."""


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("post"), st.integers(1, 5)),
            st.tuples(st.just("share"), st.sampled_from(GROUPINGS)),
            st.tuples(st.sampled_from([A, B, C]), st.integers(1, 5), st.booleans()),
        ),
        max_size=40,
    )
)
def test_the_broker_gets_every_post_in_order_whatever_is_used(steps: list[tuple]) -> None:  # type: ignore[type-arg]
    """All three lead to one broker, whatever the groups say; a receiver discards what it has."""
    network = Network()
    broker: list[int] = []
    for address in (A, B, C):
        network.add(address, broker)
    for step in (*steps, ("share", {B: A, C: A})):
        match step:
            case "post", int(count):
                network.post(count)
            case "share", spare_of:
                network.share(spare_of)
            case address, count, confirmed:
                network.senders[address].send(count, confirmed=confirmed)
    for sender in network.senders.values():
        sender.send(len(sender.held), confirmed=True)
    first_times = list(dict.fromkeys(broker))
    assert first_times == list(range(network.posted))


# ---- an address that takes the place of another


def replace(network: Network, before: Address, now: Address, *, is_reached: bool = False) -> None:
    network.redirection.replace(before, now, network.senders, network.posted, is_reached=is_reached)
    network.remove(before)


def test_a_new_address_gets_all_that_waits_before_new_posts() -> None:
    network = Network()
    a = network.add(A, [])
    network.post(3)
    a.send(1, confirmed=True)
    b = network.add(B, [])
    replace(network, A, B)
    network.post()
    assert numbers(b.held) == [1, 2, 3]
    assert a.held == []


def test_what_waited_for_an_address_that_was_never_reached_goes_to_no_broker_twice() -> None:
    network = Network()
    a, b = network.add(A, []), network.add(B, [])
    network.post(3)
    a.send(2, confirmed=True)
    replace(network, A, B)
    assert numbers(b.held) == [2]


def test_what_was_posted_before_the_own_broker_came_still_goes_to_the_address_named() -> None:
    network = Network()
    b = network.add(B, [])
    network.post(2)
    network.add(A, [])
    network.post(2)
    replace(network, A, B)
    assert numbers(b.held) == [0, 1, 2, 3]


def test_an_address_that_leads_to_a_broker_already_keeps_what_waits_there() -> None:
    network = Network()
    network.add(A, [])
    network.post(2)
    b = network.add(B, [])
    network.post(2)
    replace(network, A, B, is_reached=True)
    assert numbers(b.held) == [0, 1, 2, 3]


def test_a_spare_that_takes_the_place_of_the_used_one_gets_what_waits() -> None:
    network = Network()
    network.add(A, [])
    b, c = network.add(B, []), network.add(C, [])
    network.share({B: A, C: A})
    network.post(3)
    replace(network, A, B)
    network.post()
    assert numbers(b.held) == [0, 1, 2, 3]
    assert c.held == []


def test_a_spare_that_is_replaced_leaves_the_used_one_alone() -> None:
    network = Network()
    network.add(A, [])
    c = network.add(C, [])
    network.share({A: C})
    network.post(2)
    b = network.add(B, [])
    replace(network, A, B)
    assert numbers(c.held) == [0, 1]
    assert b.held == []


def test_the_address_that_was_replaced_may_be_another_broker_later() -> None:
    network = Network()
    network.add(A, [])
    network.add(B, [])
    replace(network, A, B)
    a = network.add(A, [])
    network.post()
    assert numbers(a.held) == [0]
