"""A cluster whose nodes are all named: each event crosses once, and others survive a node."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import pytest

from miros_rabbitmq import DropReason, Limits, LocalBroker, NetworkedActiveObject

from ..broker.cluster import running_cluster
from ..helpers import scaled, wait_until
from .proxy import FaultProxy
from .system import System

LIMITS = Limits(heartbeat_s=2, absent_after_s=1.0)


@pytest.fixture
def cluster(rabbitmq_installed: None) -> Iterator[list[LocalBroker]]:
    hosts = ["127.0.0.41", "127.0.0.42", "127.0.0.43"]
    with running_cluster(hosts, secrets.token_urlsafe()) as brokers:
        yield brokers


def spares_of(chart: NetworkedActiveObject) -> dict[str, str]:
    """The spares, and what is used in place of each."""
    brokers = chart.nets.stats().mesh.brokers
    return {at: stats.spare_of for at, stats in brokers.items() if stats.spare_of}


def sent_to(chart: NetworkedActiveObject) -> dict[str, int]:
    """How many events were sent to each address."""
    return {at: stats.sent for at, stats in chart.nets.stats().mesh.brokers.items()}


def test_a_node_is_killed_under_load_and_comes_back(cluster: list[LocalBroker]) -> None:
    with (
        FaultProxy("127.0.0.44", cluster[0].address) as one,
        FaultProxy("127.0.0.45", cluster[1].address) as two,
        FaultProxy("127.0.0.46", cluster[2].address) as three,
    ):
        proxies = [one, two, three]
        system = System(cluster, proxies, 3, LIMITS)
        with system.running():
            wait_until(system.is_talking, 20)
            for chart, own in zip(system.charts, proxies, strict=True):
                expected = {str(one.address): str(own.address) for one in proxies if one is not own}
                wait_until(lambda: spares_of(chart) == expected)  # noqa: B023
                before = sent_to(chart)
                talked = system.ledger.accepted(chart.name)
                wait_until(lambda: system.ledger.accepted(chart.name) > talked + 100)  # noqa: B023
                grown = {at for at, sent in sent_to(chart).items() if sent != before[at]}
                assert grown == {str(own.address)}, "each event crosses once"
            for talker in system.talkers:
                talker.burst = 3_000
            cluster[0].kill()
            orphan = system.charts[0]
            wait_until(lambda: str(one.address) in spares_of(orphan), 20)
            system.talkers[0].burst = 1_000
            marks = {name: system.ledger.accepted(name) for name in system.ledger.names}
            # All but the one whose own node is away go on, and hear it, too.
            for receiver in ("chart1", "chart2"):
                for sender in system.ledger.names:
                    if sender != receiver:
                        wait_until(
                            lambda: system.ledger.reached(sender, receiver) > marks[sender] + 100,  # noqa: B023
                            30,
                            system.describe,
                        )
            cluster[0].restart()
            assert orphan.nets.wait_for_peers(2, scaled(30))
            system.talkers[0].burst = 1_000
            for talker in system.talkers:
                talker.stop()
            for receiver in ("chart1", "chart2"):
                for sender in system.ledger.names:
                    if sender != receiver:
                        wait_until(
                            lambda: (
                                system.ledger.reached(sender, receiver)  # noqa: B023
                                >= system.ledger.accepted(sender)  # noqa: B023
                            ),
                            30,
                            system.describe,
                        )
                        page = system.ledger.page(sender, receiver)
                        assert page.delivered == system.ledger.accepted(sender)
                        assert (page.duplicated, page.reordered, page.missing) == (0, 0, set())
            for chart in system.charts[1:]:
                assert chart.nets.stats().mesh.gaps == 0
            for chart in system.charts:
                # RabbitMQ 3 confirms what a queue of the killed node misses, RabbitMQ 4 refuses it.
                dropped = chart.nets.stats().mesh.dropped
                assert {why for why, count in dropped.items() if count} <= {DropReason.REFUSED}
            assert str(one.address) in spares_of(orphan), "it stays a spare"
            assert len(spares_of(orphan)) == 2
        assert not system.errors.found
