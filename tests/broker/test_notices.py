"""What nodes tell each other of their events, clocks and charts, on real brokers."""

from __future__ import annotations

import logging
import random
import time

import pytest
from cryptography.fernet import Fernet
from miros import Event

from miros_rabbitmq import Limits, LocalBroker, RejectReason
from miros_rabbitmq.logs import write_all
from miros_rabbitmq.wire.envelope import MESH
from miros_rabbitmq.wire.notice import Trouble, tell_trouble

from ..faults.proxy import FaultProxy
from ..helpers import scaled, wait_until
from .charts import Chart, arguments_for, make_active_object, running
from .strangers import amqp, queue_bound_with, rejected
from .victim import victim

KEY = Fernet.generate_key()
LIMITS = Limits(
    announce_s=1.0,
    heartbeat_s=60,  # the consumer looks after its bindings only now and then
)


def transmit(chart: Chart, numbers: range) -> None:
    for number in numbers:
        chart.transmit(Event(signal="NUMBER", payload=number))


@pytest.mark.parametrize("heard_before", [True, False])
@pytest.mark.parametrize("is_neighbour", [True, False])
def test_what_a_deaf_queue_has_missed_is_counted_and_said_though_nothing_comes_after_it(
    broker_a: LocalBroker,
    broker_b: LocalBroker,
    is_neighbour: bool,
    heard_before: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    there = broker_a if is_neighbour else broker_b
    sender, _ = make_active_object(
        "sender",
        **arguments_for(broker_a, there, key=KEY, limits=LIMITS),
        tx_routing_key="deaf.one",
        rx_routing_key="nothing",
    )
    chart, heard = make_active_object(
        "chart",
        **arguments_for(there, key=KEY, limits=LIMITS),
        tx_routing_key="nothing",
        rx_routing_key="deaf.*",
    )
    with running(chart), running(sender, peers=0 if is_neighbour else 1), amqp(there) as channel:
        transmit(sender, range(10))
        heard.wait_for(10)
        assert sender.nets.flush(scaled(25))
        if not heard_before:  # a routing key of which it only knows what the sender tells
            transmit_by(sender, "deaf.two", range(10))
            heard.wait_for(20)
        queue = queue_bound_with(there, "deaf.*")
        channel.queue_unbind(queue, MESH, "deaf.*")
        transmit(sender, range(10, 60))
        assert sender.nets.flush(scaled(25))
        channel.queue_bind(queue, MESH, "deaf.*")
        wait_until(
            lambda: chart.nets.stats().mesh.gaps == 50,
            10,
            lambda: f"50 gaps, not {chart.nets.stats().mesh.gaps}",
        )
        # It is counted first, then said.
        wait_until(lambda: "50 events of 'sender' are missing" in caplog.text)
        transmit(sender, range(60, 70))
        wait_until(lambda: heard.payloads("NUMBER")[-10:] == list(range(60, 70)))
        assert chart.nets.stats().mesh.gaps == 50
        assert rejected(chart) == rejected(sender) == {}


def transmit_by(chart: Chart, routing_key: str, numbers: range) -> None:
    for number in numbers:
        chart.nets.node.mesh.transmit(("NUMBER", number), scaled(10), routing_key=routing_key)


def test_a_sender_tells_a_broker_only_of_events_that_this_broker_has_settled(
    broker_a: LocalBroker, broker_b: LocalBroker
) -> None:
    """Events that still come would be missing for a moment: nobody may count a loss meanwhile."""
    limits = Limits(announce_s=0.05, reconnect_min_s=0.01, reconnect_max_s=0.1)
    with FaultProxy("127.0.0.12", broker_b.address) as proxy:
        arguments = {
            **arguments_for(broker_a, key=KEY, limits=limits, tx_routing_key="settled"),
            "addresses": [str(broker_a.address), str(proxy.address)],
            # Otherwise it would hear of the same broker by its own address, too.
            "accept_unknown_peers": False,
        }
        sender, _ = make_active_object("sender", **arguments)
        near, near_heard = make_active_object(
            "near", **arguments_for(broker_a, key=KEY, tx_routing_key="settled", limits=limits)
        )
        far, far_heard = make_active_object(
            "far", **arguments_for(broker_b, key=KEY, tx_routing_key="settled", limits=limits)
        )
        problems: list[str] = []
        with running(near, far), running(sender, peers=1):
            proxy.slow_down(delay_s=0.02)
            chance = random.Random(7)
            sent = 0
            until_s = time.monotonic() + 5
            while time.monotonic() < until_s:
                count = chance.randrange(1, 200)
                transmit(sender, range(sent, sent + count))
                sent += count
                if chance.random() < 0.1:
                    proxy.cut()
                time.sleep(chance.random() * 0.1)
                problems += [
                    f"{chart.name} counts {chart.nets.stats().mesh.gaps} gaps after {sent}"
                    for chart in (near, far)
                    if chart.nets.stats().mesh.gaps
                ]
            assert sender.nets.flush(scaled(25))
            for chart, heard in ((near, near_heard), (far, far_heard)):
                heard.wait_for(sent, 30)
                assert heard.payloads("NUMBER") == list(range(sent))
                assert rejected(chart) == {}
            assert problems == []


@pytest.mark.parametrize(
    ("clock_s", "text"),
    [
        (-312.0, "its clock is 312 s ahead of theirs: set the clocks, or raise max_age_s"),
        (312.0, "its clock is 312 s behind theirs, or its events were under way for so long"),
    ],
)
def test_a_sender_whose_clock_differs_is_told_by_those_who_reject_its_events(
    broker_a: LocalBroker,
    broker_b: LocalBroker,
    clock_s: float,
    text: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Both trust the clocks, so that what the other side sends is of a wrong time, too."""
    sender, _ = make_active_object(
        "sender", **arguments_for(broker_a, broker_b, key=KEY, max_age_s=30)
    )
    other = arguments_for(broker_b, broker_a, key=KEY, max_age_s=30, limits=LIMITS)
    with victim("other", other, clock_s) as one, running(sender, peers=1):

        def is_told() -> bool:
            sender.transmit(Event(signal="HELLO"))
            assert write_all(scaled(25))
            return text in caplog.text

        wait_until(is_told, 20)
        transmit(sender, range(100))
        assert sender.nets.flush(scaled(25))
        wait_until(lambda: sum(one.report().rejected.values()) > 100)
        lines = [line for line in caplog.messages if "others reject this node's events" in line]
        assert len(lines) == 1, "at most once a minute"


def test_a_stuck_chart_is_named_at_every_broker(
    broker_a: LocalBroker, broker_b: LocalBroker, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    stuck, _ = make_active_object("stuck", **arguments_for(broker_a, broker_b, key=KEY))
    near, _ = make_active_object("near", **arguments_for(broker_a, key=KEY))
    far, _ = make_active_object("far", **arguments_for(broker_b, key=KEY))
    with running(near, far), running(stuck, peers=1):
        wait_until(
            lambda: all(sender.is_connected for sender in stuck.nets.node.mesh.senders.values())
        )
        stuck.nets.node.mesh.tell_all(tell_trouble(Trouble("stuck", "busy", 30, 1_200)))
        for name in ("near", "far"):
            line = (
                f"{name}: another node says of 'stuck': it has been in a handler of the state "
                "'busy' for 30 s; 1,200 events wait for it"
            )
            wait_until(lambda line=line: write_all(1.0) and line in caplog.messages)  # type: ignore[misc]


def test_by_two_ways_to_one_broker_events_come_once_in_order_or_are_counted(
    broker_a: LocalBroker, broker_b: LocalBroker
) -> None:
    """As to the nodes of a cluster that are named one by one."""
    limits = Limits(announce_s=0.5, reconnect_min_s=0.01, reconnect_max_s=0.1)
    with (
        FaultProxy("127.0.0.12", broker_b.address) as one,
        FaultProxy("127.0.0.13", broker_b.address) as other,
    ):
        sender, _ = make_active_object(
            "sender",
            **{
                **arguments_for(broker_a, key=KEY, limits=limits, tx_routing_key="two.ways"),
                "addresses": [str(at) for at in (broker_a.address, one.address, other.address)],
                "accept_unknown_peers": False,
            },
        )
        chart, heard = make_active_object(
            "chart", **arguments_for(broker_b, key=KEY, tx_routing_key="two.ways", limits=limits)
        )
        with running(chart), running(sender, peers=1):
            chance = random.Random(8)
            sent = 0
            until_s = time.monotonic() + 4
            while time.monotonic() < until_s:
                for way in (one, other):
                    way.slow_down(delay_s=chance.choice((0.0, 0.01, 0.05)))
                    if chance.random() < 0.1:
                        way.cut()
                count = chance.randrange(1, 200)
                transmit(sender, range(sent, sent + count))
                sent += count
                time.sleep(chance.random() * 0.1)
            assert sender.nets.flush(scaled(25))
            wait_until(
                lambda: chart.nets.stats().mesh.received + chart.nets.stats().mesh.gaps == sent,
                20,
                lambda: f"{sent} sent, and {chart.nets.stats().mesh}",
            )
            heard.wait_for(chart.nets.stats().mesh.received)
            mesh = chart.nets.stats().mesh
            numbers = heard.payloads("NUMBER")
            assert numbers == sorted(set(numbers))
            assert len(numbers) + mesh.gaps == sent
            print(f"{sent} sent, {mesh.received} received, {mesh.duplicates} came twice", mesh.gaps)
            assert set(rejected(chart)) <= {RejectReason.LATE}
