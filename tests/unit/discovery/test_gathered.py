"""What several nodes tell of one broker, as if they were one node."""

from __future__ import annotations

import pytest

from miros_rabbitmq.answers import Answers
from miros_rabbitmq.discovery.gathered import Gathered, together
from miros_rabbitmq.discovery.places import Evidence
from miros_rabbitmq.discovery.subscriber import Subscriber
from miros_rabbitmq.exceptions import AccessRefused
from miros_rabbitmq.urls import Address

from .nodes import ONE, OWN, TWO, Node
from .test_shared_lookout import SEARCH


@pytest.mark.parametrize(
    ("owes", "told"),
    [
        ((None, None), None),
        ((None, False), False),
        ((False, None), False),
        ((True, False), True),
        ((False, True), True),
        ((None, True), True),
        ((True, None), True),
        ((False, False), False),
    ],
)
def test_a_broker_owes_if_it_owes_any_node(
    owes: tuple[bool | None, bool | None], told: bool | None
) -> None:
    assert together([Evidence(0, one) for one in owes]).owes is told


def test_confirms_are_of_all_nodes_and_a_spare_is_one_for_all() -> None:
    seen = [Evidence(2, None), Evidence(3, None, TWO), Evidence(0, None)]
    assert together(seen) == Evidence(5, None, TWO)


class Telling(Node):
    """A node that has connections."""

    def __init__(self, *evidence: tuple[Address, Evidence]) -> None:
        super().__init__()
        self._evidence = dict(evidence)

    def connected(self) -> set[Address]:
        return set(self._evidence)

    def evidence(self) -> dict[Address, Evidence]:
        return self._evidence


def test_each_broker_is_told_of_once_for_all_nodes() -> None:
    nodes = [
        Telling((ONE, Evidence(1, False))),
        Telling((ONE, Evidence(2, None)), (TWO, Evidence(4, True))),
    ]
    subscribers = [Subscriber("chart", SEARCH, OWN, node) for node in nodes]
    gathered = Gathered("search", lambda: subscribers)
    assert gathered.connected() == {ONE, TWO}
    assert gathered.evidence() == {ONE: Evidence(3, False), TWO: Evidence(4, True)}
    del subscribers[1]
    assert gathered.connected() == {ONE}
    assert gathered.evidence() == {ONE: Evidence(1, False)}


def test_an_answer_is_news_if_one_node_has_not_said_it_and_none_says_it_again() -> None:
    fault = AccessRefused("the broker refuses the user", "10.0.0.2:5672")
    said, unsaid = Answers(), Answers()
    assert said.claim(fault, "a link")
    subscribers = [Subscriber("chart", SEARCH, OWN, Node(), None, one) for one in (said, unsaid)]
    gathered = Gathered("search", lambda: subscribers)
    assert gathered.claim(fault, "search")
    assert not unsaid.claim(fault, "another link")
    assert gathered.forget("search")
    assert unsaid.claim(fault, "another link")
    assert not Gathered("search", lambda: subscribers[:1]).claim(fault, "search")
