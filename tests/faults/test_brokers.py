"""Charts whose brokers block, refuse, forget, restart or stay away."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pika
import pytest
from miros import Event

from miros_rabbitmq import DropReason, Limits, LocalBroker, NetworkedActiveObject, SessionState

from ..helpers import scaled, wait_until
from .conftest import SystemFactory
from .system import HEARTBEAT_S, Storm, System

MESH = "miros.mesh"


@contextmanager
def admin(broker: LocalBroker, vhost: str = "/") -> Iterator[Any]:
    """A channel of a program that is not ours."""
    connection = pika.BlockingConnection(pika.URLParameters(broker.url(vhost)))
    try:
        yield connection.channel()
    finally:
        if connection.is_open:
            connection.close()


def mesh_queues(system: System, broker: int) -> list[str]:
    """The queues of the charts whose own broker it is."""
    return [chart.nets.stats().mesh.queue for chart in system.charts[broker :: len(system.brokers)]]


def gaps(system: System) -> int:
    return sum(chart.nets.stats().mesh.gaps for chart in system.charts)


def publisher_states(system: System, broker: int) -> list[SessionState]:
    at = str(system.proxies[broker].address)
    return [chart.nets.stats().mesh.brokers[at].state for chart in system.charts]


def wait_for_more(system: System, events: int) -> None:
    """Wait until the chart on the second broker has handled some more of the first's."""
    mark = system.ledger.reached("chart0", "chart1")
    wait_until(lambda: system.ledger.reached("chart0", "chart1") >= mark + events, 20)


def assert_all_but_the_gaps_came(system: System) -> None:
    verdict = system.settle()
    assert verdict.lost == gaps(system), system.describe()
    assert (verdict.duplicated, verdict.reordered, verdict.unexpected) == (0, 0, 0)
    assert not system.errors.found


def test_a_storm_of_faults_loses_nothing(systems: SystemFactory) -> None:
    with systems(charts=3) as system, system.running():
        storm = Storm(system, seed=4, kills=False)
        storm.kill()
        system.wait_until_consumed_again()
        for _ in range(3):
            storm.strike()
        assert system.settle().is_clean, system.describe()
        assert not system.errors.found


def test_a_broker_that_blocks_publishers_is_noticed_and_waited_for_and_nothing_is_lost(
    systems: SystemFactory,
) -> None:
    with systems() as system, system.running():
        blocked = system.brokers[0]
        blocked.ctl("set_vm_memory_high_watermark", "0.0001")
        try:
            blocked_states = [SessionState.BLOCKED, SessionState.BLOCKED]
            wait_until(lambda: publisher_states(system, 0) == blocked_states)
            began_s, connections = time.monotonic(), system.proxies[0].connections
            # Longer than the wait for an answer, which a blocked broker does not give.
            while time.monotonic() - began_s < 2 * HEARTBEAT_S:
                wait_for_more(system, 10)
            assert publisher_states(system, 0) == blocked_states
            assert system.charts[0].nets.stats().mesh.consumer is SessionState.READY
            assert system.proxies[0].connections == connections
        finally:
            blocked.ctl("set_vm_memory_high_watermark", "0.4")
        system.wait_until_consumed_again()
        assert system.settle().is_clean, system.describe()
        assert not system.errors.found


def test_a_deleted_queue_is_declared_again_and_the_events_in_it_are_a_gap(
    systems: SystemFactory,
) -> None:
    with systems() as system, system.running():
        system.wait_until_consumed_again()
        connections = system.proxies[0].connections
        with admin(system.brokers[0]) as channel:
            for name in mesh_queues(system, 0):
                channel.queue_delete(name)
        assert system.wait_until_consumed_again() < scaled(20)
        assert system.proxies[0].connections - connections <= 3
        assert_all_but_the_gaps_came(system)


def test_a_deleted_exchange_is_declared_and_bound_again(systems: SystemFactory) -> None:
    with systems() as system, system.running():
        system.wait_until_consumed_again()
        connections = system.proxies[0].connections
        with admin(system.brokers[0]) as channel:
            channel.exchange_delete(MESH)
        assert system.wait_until_consumed_again() < scaled(20)
        assert system.proxies[0].connections - connections <= 6
        assert_all_but_the_gaps_came(system)


def test_an_exchange_of_another_type_gives_a_clear_fault_and_is_tried_again_slowly(
    systems: SystemFactory,
) -> None:
    with systems() as system, system.running():
        system.wait_until_consumed_again()
        with admin(system.brokers[0]) as channel:
            channel.exchange_delete(MESH)
            channel.exchange_declare(MESH, exchange_type="fanout", durable=True)
        at = str(system.proxies[0].address)
        wait_until(
            lambda: "inequivalent" in system.charts[1].nets.stats().mesh.brokers[at].fault, 10
        )
        connections, began_s = system.proxies[0].connections, time.monotonic()
        # The other broker goes on.
        wait_for_more(system, 300)
        a_second = (system.proxies[0].connections - connections) / (time.monotonic() - began_s)
        assert a_second < 15, "three sessions, each of which waits longer and longer"
        with admin(system.brokers[0]) as channel:
            channel.exchange_delete(MESH)
        system.wait_until_consumed_again()
        assert_all_but_the_gaps_came(system)


@pytest.mark.parametrize("what", ["permissions", "vhost"])
def test_revoked_access_gives_a_clear_fault_and_the_chart_lives(
    what: str, systems: SystemFactory
) -> None:
    vhost = f"revoked.{what}"
    limits = Limits(heartbeat_s=HEARTBEAT_S, refused_retry_s=1.0)
    with systems(limits=limits, rabbit_vhost=vhost) as system:
        for broker in system.brokers:
            open_vhost(broker, vhost)
        try:
            with system.running():
                system.wait_until_consumed_again()
                broker = system.brokers[0]
                if what == "vhost":
                    broker.ctl("delete_vhost", vhost)
                    expected = f"no virtual host '{vhost}'"
                else:
                    broker.ctl("set_permissions", "-p", vhost, broker.user, "", "", "")
                    # An open channel keeps its permissions: RabbitMQ remembers them.
                    system.proxies[0].cut()
                    expected = "does not give"
                chart = system.charts[0]
                wait_until(lambda: chart.nets.stats().mesh.consumer is SessionState.REFUSED, 15)
                assert expected in chart.nets.stats().mesh.consumer_fault
                wait_until(lambda: SessionState.REFUSED in publisher_states(system, 0), 15)
                # The chart lives, and the other broker goes on.
                chart.post_fifo(Event(signal="NUMBER", payload=("chart1", 0)))
                wait_for_more(system, 10)
                open_vhost(broker, vhost)
                system.wait_until_consumed_again()
                verdict = system.settle()
                assert verdict.lost == gaps(system)
                assert verdict.reordered == 0
        finally:
            for broker in system.brokers:
                broker.ctl("delete_vhost", vhost)


def open_vhost(broker: LocalBroker, vhost: str) -> None:
    if vhost not in broker.ctl("list_vhosts").split():
        broker.ctl("add_vhost", vhost)
    broker.ctl("set_permissions", "-p", vhost, broker.user, ".*", ".*", ".*")


def test_a_queue_that_takes_nothing_does_not_hold_up_the_others(systems: SystemFactory) -> None:
    """If one queue refuses (``reject-publish``), the broker refuses the whole message."""
    limits = Limits(heartbeat_s=HEARTBEAT_S, nack_attempts=2)
    with systems(limits=limits) as system, system.running():
        system.wait_until_consumed_again()
        with admin(system.brokers[0]) as channel:
            full = {"x-max-length": 1, "x-overflow": "reject-publish"}
            channel.queue_declare("refuses", exclusive=True, arguments=full)
            channel.queue_bind("refuses", MESH, "#")

            def refused(chart: NetworkedActiveObject) -> int:
                return chart.nets.stats().mesh.dropped[DropReason.REFUSED]

            wait_until(lambda: all(refused(chart) for chart in system.charts), 15)
            system.wait_until_consumed_again()
        # Our own queues had taken the message that the broker called refused.
        assert system.settle().is_clean, system.describe()
        assert not system.errors.found


@pytest.mark.slow
def test_events_that_are_not_durable_are_gaps_after_a_restart_and_all_others_come(
    systems: SystemFactory,
) -> None:
    with systems(durable=False) as system, system.running():
        system.wait_until_consumed_again()
        system.brokers[0].kill()
        system.brokers[0].restart(scaled(60))
        system.wait_until_consumed_again()
        assert_all_but_the_gaps_came(system)


def test_a_broker_that_stays_away_costs_its_own_oldest_events_and_no_others(
    systems: SystemFactory,
) -> None:
    limits = Limits(
        heartbeat_s=HEARTBEAT_S, backlog_events=500, absent_after_s=0.5, stop_timeout_s=60
    )
    with systems(limits=limits) as system, system.running(talking=False):
        near, far = system.charts[0], str(system.proxies[1].address)
        system.brokers[1].kill()
        try:
            wait_until(lambda: SessionState.READY not in publisher_states(system, 1))
            waits_s: list[float] = []
            third = system.talkers[0]
            third.send(400)  # within the backlog
            for _ in range(600):
                before_s = time.monotonic()
                third.send(1)
                waits_s.append(time.monotonic() - before_s)
            # Some may have waited until the broker counted as absent, or for a busy machine.
            assert statistics.median(waits_s) < scaled(0.1)
            stats = near.nets.stats().mesh
            assert stats.brokers[far].waiting == 500
            assert stats.dropped[DropReason.BACKLOG] == 500
            # Its own broker had everything at once.
            own = str(system.proxies[0].address)
            wait_until(lambda: near.nets.stats().mesh.brokers[own].confirmed == 1_000)
            # The stop does not wait for it either, and the events that remain are counted.
            before_s = time.monotonic()
            near.stop()
            assert time.monotonic() - before_s < scaled(20), "and not the 60 s for those that come"
            assert near.nets.stats().mesh.dropped[DropReason.STOPPED] == 500
        finally:
            system.brokers[1].restart(scaled(60))


@pytest.mark.slow
def test_a_flood_waits_for_a_broker_that_restarts_and_loses_nothing(
    systems: SystemFactory,
) -> None:
    """The backlog holds only a fraction of what is sent meanwhile, so ``transmit`` waits."""
    limits = Limits(heartbeat_s=HEARTBEAT_S, backlog_events=300, absent_after_s=scaled(60))
    with (
        systems(limits=limits, transmit_timeout=scaled(60)) as system,
        system.running(talking=False),
    ):
        floods = [threading.Thread(target=talker.send, args=(3_000,)) for talker in system.talkers]
        for flood in floods:
            flood.start()
        wait_until(lambda: system.ledger.reached("chart0", "chart1") > 500)
        system.brokers[1].kill()
        system.brokers[1].restart(scaled(60))
        for flood in floods:
            flood.join()
        wait_until(system.ledger.is_settled, 30, system.describe)
        verdict = system.ledger.verdict()
        assert verdict.accepted == 6_000
        assert verdict.is_clean, system.describe()
