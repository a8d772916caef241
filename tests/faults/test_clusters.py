"""A cluster whose nodes are all named: each event crosses once, and others survive a node."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import pytest

from miros_rabbitmq import Limits, LocalBroker

from ..broker.cluster import running_cluster
from ..helpers import scaled, wait_until
from .proxy import FaultProxy
from .system import System

LIMITS = Limits(heartbeat_s=2, absent_after_s=1.0)


@pytest.fixture
def cluster(
    rabbitmq_installed: None, monkeypatch: pytest.MonkeyPatch
) -> Iterator[list[LocalBroker]]:
    hosts = ["127.0.0.41", "127.0.0.42", "127.0.0.43"]
    with running_cluster(hosts, secrets.token_urlsafe(), monkeypatch) as brokers:
        yield brokers


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
                brokers = chart.nets.stats().mesh.brokers
                spare_of = {at: stats.spare_of for at, stats in brokers.items()}
                assert spare_of.pop(str(own.address)) == ""
                assert set(spare_of.values()) == {str(own.address)}
                assert {stats.sent for at, stats in brokers.items() if at in spare_of} == {0}
                assert chart.nets.stats().mesh.duplicates == 0
            for talker in system.talkers:
                talker.burst = 3_000
            cluster[0].kill()
            orphan = system.charts[0]
            wait_until(
                lambda: orphan.nets.stats().mesh.brokers[str(one.address)].spare_of != "", 20
            )
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
                assert not any(chart.nets.stats().mesh.dropped.values())
            mesh = orphan.nets.stats().mesh
            assert not any(mesh.dropped.values())
            used = [at for at, stats in mesh.brokers.items() if not stats.spare_of]
            assert len(used) == 1
            assert used[0] != str(one.address), "it is a spare now"
        assert not system.errors.found
