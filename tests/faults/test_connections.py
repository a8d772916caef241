"""All events arrive, once and in order, on connections that are cut, silent, slow or thin."""

from __future__ import annotations

import time

import pytest

from miros_rabbitmq import Limits

from ..helpers import scaled, wait_until
from .conftest import SystemFactory
from .proxy import Direction, FaultProxy
from .system import HEARTBEAT_S


def wait_for_connections(proxy: FaultProxy, count: int, timeout: float) -> None:
    """Wait until a proxy has accepted so many connections."""
    wait_until(lambda: proxy.connections >= count, timeout, "connections made anew")


def test_a_cut_connection_is_noticed_within_a_second_and_nothing_is_lost(
    systems: SystemFactory,
) -> None:
    with systems() as system, system.running():
        system.wait_until_consumed_again()
        for proxy in system.proxies:
            before = proxy.connections
            cut = proxy.cut()
            assert cut == 3, "a consumer and two publishers"
            wait_for_connections(proxy, before + 1, 1)
            system.wait_until_consumed_again()
        assert system.settle().is_clean, system.describe()
        assert not system.errors.found


def test_nothing_is_lost_while_a_broker_does_not_notice_that_a_connection_is_gone(
    systems: SystemFactory,
) -> None:
    """The chart hears again when the broker has noticed, within three heartbeats."""
    limits = Limits(heartbeat_s=1)
    with systems(limits=limits) as system, system.running():
        system.wait_until_consumed_again()
        proxy, chart = system.proxies[0], system.charts[0]
        queue, began_s = chart.nets.stats().mesh.queue, time.monotonic()
        assert proxy.cut_on_the_nodes_side() == 3
        wait_until(lambda: "still in use" in chart.nets.stats().mesh.consumer_fault)
        # Meanwhile the chart sends, and the other hears it.
        mark = system.ledger.reached("chart0", "chart1")
        wait_until(lambda: system.ledger.reached("chart0", "chart1") > mark + 20)
        system.wait_until_consumed_again()
        assert time.monotonic() - began_s < 3 * limits.heartbeat_s + scaled(10)
        assert system.settle().is_clean, system.describe()
        assert chart.nets.stats().mesh.queue == queue
        assert not system.errors.found


def test_a_connection_may_be_cut_at_any_step_of_its_set_up(systems: SystemFactory) -> None:
    with systems() as system, system.running():
        for proxy in system.proxies:
            # The broker's first frame has some 500 bytes, each further one some 20.
            proxy.cut_at(1, 400, 520, 535, 545, 555, 565, 575, 590)
            proxy.cut()
        wait_until(lambda: not any(proxy.cuts_pending for proxy in system.proxies), 20)
        system.wait_until_consumed_again()
        assert system.settle().is_clean, system.describe()
        assert not system.errors.found


def test_silence_in_either_direction_is_noticed_by_the_heartbeat(systems: SystemFactory) -> None:
    limits = Limits(heartbeat_s=HEARTBEAT_S, connect_timeout_s=1.0)
    assert_silence_is_noticed(systems, limits, EACH_DIRECTION)


@pytest.mark.slow
def test_silence_is_noticed_within_16_seconds_by_default(systems: SystemFactory) -> None:
    assert_silence_is_noticed(systems, Limits(), EACH_DIRECTION, BOTH_DIRECTIONS)


Silence = tuple[list[Direction], list[Direction]]
"""The directions that go silent, of the first broker and of the second."""

EACH_DIRECTION: Silence = [Direction.TO_BROKER], [Direction.TO_NODE]
BOTH_DIRECTIONS: Silence = list(Direction), []


def were_given_up(proxy: FaultProxy, before: int) -> bool:
    """Every connection of before is closed, and there is a new one: the others wait for it."""
    new = proxy.connections - before
    return new > 0 and proxy.open_connections <= new


def assert_silence_is_noticed(systems: SystemFactory, limits: Limits, *silences: Silence) -> None:
    longest_s = 1.5 * limits.heartbeat_s
    with systems(limits=limits) as system, system.running():
        for silent in silences:
            system.wait_until_consumed_again()
            system.flush()
            began_s = time.monotonic()
            expected = []
            for proxy, directions in zip(system.proxies, silent, strict=True):
                if directions:
                    proxy.silence(*directions)
                    expected.append((proxy, proxy.connections))
            for proxy, before in expected:
                wait_until(
                    lambda proxy=proxy, before=before: were_given_up(proxy, before),  # type: ignore[misc]
                    60,
                    "every connection given up, and one of them tried again",
                )
            assert time.monotonic() - began_s < longest_s + scaled(5)
            for proxy in system.proxies:
                proxy.heal()
            system.wait_until_consumed_again(60)
        assert system.settle().is_clean, system.describe()
        assert not system.errors.found


def test_a_slow_and_thin_link_loses_nothing_and_is_not_taken_for_a_dead_one(
    systems: SystemFactory,
) -> None:
    with systems(limits=Limits(heartbeat_s=2)) as system, system.running(talking=False):
        thin, slow = system.proxies
        connections = thin.connections, slow.connections
        thin.slow_down(bytes_a_second=200_000)
        slow.slow_down(delay_s=0.3)
        # Some 600 KB, which take longer than a silent connection may stay silent.
        began_s = time.monotonic()
        system.talkers[1].send(5_000)
        wait_until(system.ledger.is_settled, 60, system.describe)
        assert time.monotonic() - began_s > 2
        assert (thin.connections, slow.connections) == connections
        thin.heal()
        slow.heal()
        assert system.settle().is_clean, system.describe()
