"""Nodes and probes that stand in for real ones, for tests of memberships."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from miros_rabbitmq.discovery.outcome import ProbeOutcome, ProbeResult
from miros_rabbitmq.discovery.places import Evidence
from miros_rabbitmq.discovery.probe import MayConnect
from miros_rabbitmq.discovery.roster import RosterLimits
from miros_rabbitmq.discovery.search import Login
from miros_rabbitmq.urls import Address, AmqpUrl

OWN, ONE, TWO = Address("10.0.0.1"), Address("10.0.0.2"), Address("10.0.0.3")
LOGIN = Login("user", "p/word", "floor")

LIMITS = RosterLimits(
    forget_after_s=600.0, most_found=64, most_announced=1, ask_again_s=30.0, announce_s=30.0
)


class Node:
    """A node that publishes to nobody, and notes what it is told."""

    def __init__(self) -> None:
        self.members: list[Address] = []
        self.urls: list[AmqpUrl] = []
        self.stalled: set[Address] = set()
        self.own: list[tuple[Address, bool]] = []
        self.moves: list[tuple[Address, Address]] = []

    def added(self, url: AmqpUrl) -> None:
        self.members.append(url.address)
        self.urls.append(url)

    def removed(self, urls: Sequence[AmqpUrl]) -> Sequence[int]:
        for url in urls:
            self.members.remove(url.address)
        return [7] * len(urls)

    def connected(self) -> Collection[Address]:
        return ()

    def reached(self) -> Collection[Address]:
        return self.stalled

    def evidence(self) -> Mapping[Address, Evidence]:
        return {}

    def moved(self, before: AmqpUrl, url: AmqpUrl) -> None:
        self.moves.append((before.address, url.address))

    def own_moved(self, url: AmqpUrl, *, is_gone: bool) -> None:
        self.own.append((url.address, is_gone))


class Probes:
    """Stands in for the probes: every broker works, but for those that are told not to."""

    def __init__(self) -> None:
        self.asked: list[Address] = []
        self.rounds: list[frozenset[Address]] = []
        self.outcomes: dict[Address, ProbeOutcome] = {}
        self.may_connect: MayConnect | None = None

    def __call__(
        self,
        addresses: Sequence[Address],
        login: Login,
        *,
        may_connect: MayConnect | None = None,
        **_: object,
    ) -> list[ProbeResult]:
        self.asked.extend(addresses)
        self.rounds.append(frozenset(addresses))
        self.may_connect = may_connect
        return [
            ProbeResult(one, self.outcomes.get(one, ProbeOutcome.CONNECTED), "", 0.01)
            for one in addresses
        ]
