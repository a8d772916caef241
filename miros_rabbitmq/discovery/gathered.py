"""What several nodes know of brokers, taken together: for the lookout, as if they were one node.

A broker is connected if one node has a connection to it, and so on. What a node has told counts for
as long as it subscribes: each is asked anew each time. One that fails tells nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypeVar

from ..exceptions import BrokerError
from ..urls import Address
from .places import Evidence
from .subscriber import Follower, Subscriber

logger: logging.Logger = logging.getLogger(__name__)

T = TypeVar("T")


def together(seen: Iterable[Evidence]) -> Evidence:
    """What the connections of several nodes to one broker show. Pure."""
    confirms, owes, spare_of = 0, None, None
    for one in seen:
        confirms += one.confirms
        # Whoever confirms nothing to one node has something to prove, whatever others sent it.
        owes = owes or one.owes if one.owes is not None else owes
        spare_of = spare_of or one.spare_of
    return Evidence(confirms, owes, spare_of)


class Gathered:
    """Asks all subscribers. For the lookout's thread.

    Args:
        name: the lookout's, for the log.
        subscribers: returns the present ones.
    """

    def __init__(self, name: str, subscribers: Callable[[], Iterable[Subscriber]]) -> None:
        self._name = name
        self._subscribers = subscribers

    def connected(self) -> set[Address]:
        """The members to which any node has a working connection."""
        return set[Address]().union(*self._ask(lambda node: node.connected()))

    def reached(self) -> set[Address]:
        """The same and those of which the broker confirms nothing."""
        return set[Address]().union(*self._ask(lambda node: node.reached()))

    def evidence(self) -> dict[Address, Evidence]:
        """What the connections of all nodes show."""
        by_address: dict[Address, list[Evidence]] = {}
        told: Iterator[Mapping[Address, Evidence]] = self._ask(lambda node: node.evidence())
        for one in told:
            for address, seen in one.items():
                by_address.setdefault(address, []).append(seen)
        return {address: together(seen) for address, seen in by_address.items()}

    def claim(self, fault: BrokerError, who: str) -> bool:
        """Tell whether what a broker has answered is news to any node; see `Answers.claim`."""
        claims = [one.answers.claim(fault, who) for one in self._subscribers()]
        return any(claims)

    def forget(self, who: str) -> bool:
        """Note in all nodes that the trouble of somebody is over; see `Answers.forget`."""
        forgot = [one.answers.forget(who) for one in self._subscribers()]
        return any(forgot)

    def _ask(self, question: Callable[[Follower], T]) -> Iterator[T]:
        for one in self._subscribers():
            try:
                yield question(one.follower)
            except Exception:
                logger.exception("%s: a node could not tell of its connections", self._name)
