"""Brokers that are down, come up, go and return; and what start_at does about each."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import Any

import pytest
from cryptography.fernet import Fernet
from miros import Event

from miros_rabbitmq import (
    AccessRefused,
    Limits,
    LocalBroker,
    NetworkedActiveObject,
    SessionState,
    SimplePikaTopicPublisher,
    VhostNotFound,
)
from miros_rabbitmq.urls import amqp_url

from ..faults.proxy import FaultProxy
from ..helpers import scaled, wait_until
from .charts import Record, arguments_for, listening, make_active_object, running

KEY = Fernet.generate_key()


@pytest.fixture(scope="module")
def fragile(request: pytest.FixtureRequest, rabbitmq_installed: None) -> Any:
    """A broker that tests of this module may kill and restart."""
    broker_a: LocalBroker = request.getfixturevalue("broker_a")
    with LocalBroker("127.0.0.5", password=broker_a.password) as broker:
        yield broker


def send_numbers(chart: NetworkedActiveObject, numbers: range) -> None:
    for number in numbers:
        chart.transmit(Event(signal="NUMBER", payload=number))


def test_a_broker_that_is_down_at_the_start_and_comes_later_joins(
    broker_a: LocalBroker, fragile: LocalBroker, caplog: pytest.LogCaptureFixture
) -> None:
    fragile.kill()
    near, heard_by_near = make_active_object("near", **arguments_for(broker_a, fragile, key=KEY))
    far, heard_by_far = make_active_object(
        "far", **arguments_for(fragile, broker_a, key=KEY, start_timeout=0.3)
    )
    try:
        with running(near), running(far):
            assert "far runs without its broker at" in caplog.text
            far.post_fifo(Event(signal="LOCAL"))
            heard_by_far.wait_for(1)
            far.transmit(Event(signal="OUT_BEFORE"))
            heard_by_near.wait_for(1)
            fragile.restart()
            assert near.nets.wait_for_peers(1, scaled(25))
            wait_until(lambda: far.nets.stats().mesh.consumer is SessionState.READY, 10)
            near.transmit(Event(signal="IN"))
            far.transmit(Event(signal="OUT"))
            heard_by_far.wait_for(2)
            heard_by_near.wait_for(2)
    finally:
        if not fragile.is_running:
            fragile.restart()
    assert heard_by_far.heard == [("LOCAL", None), ("IN", None)]
    assert heard_by_near.heard == [("OUT_BEFORE", None), ("OUT", None)]


@pytest.mark.parametrize("whose", ["receiver's", "sender's", "both"])
def test_every_event_arrives_once_and_in_order_although_a_broker_is_killed_meanwhile(
    whose: str, broker_a: LocalBroker, fragile: LocalBroker
) -> None:
    if whose == "receiver's":
        sending, receiving = broker_a, fragile
    elif whose == "sender's":
        sending, receiving = fragile, broker_a
    else:
        sending = receiving = fragile
    sender, _ = make_active_object("sender", **arguments_for(sending, receiving, key=KEY))
    receiver, record = make_active_object("receiver", **arguments_for(receiving, sending, key=KEY))
    with running(sender, receiver, peers=0 if sending is receiving else 1):
        send_numbers(sender, range(500))
        wait_until(lambda: len(record.heard) > 50)
        fragile.kill()
        send_numbers(sender, range(500, 1000))
        fragile.restart()
        send_numbers(sender, range(1000, 1500))
        record.wait_for(1500, 20)
        assert record.payloads("NUMBER") == list(range(1500))
        assert receiver.nets.stats().mesh.gaps == 0
        assert sender.nets.flush(scaled(25))
        # It is not enough to be connected again: events have to be consumed again.
        sender.transmit(Event(signal="AFTER"))
        wait_until(lambda: record.heard[-1] == ("AFTER", None))


def test_a_broker_that_stands_still_for_a_while_loses_nothing(
    broker_a: LocalBroker, fragile: LocalBroker
) -> None:
    sender, _ = make_active_object("sender", **arguments_for(broker_a, fragile, key=KEY))
    receiver, record = make_active_object("receiver", **arguments_for(fragile, broker_a, key=KEY))
    with running(sender, receiver, peers=1):
        send_numbers(sender, range(100))
        fragile.pause()
        try:
            send_numbers(sender, range(100, 200))
        finally:
            fragile.resume()
        record.wait_for(200)
    assert record.payloads("NUMBER") == list(range(200))


@pytest.mark.parametrize(
    ("wrong", "error", "text"),
    [
        ({"rabbit_password": "wrong"}, AccessRefused, "rabbit_password"),
        ({"rabbit_user": "nobody"}, AccessRefused, "rabbitmqctl add_user nobody"),
        ({"rabbit_vhost": "nowhere"}, VhostNotFound, "rabbitmqctl add_vhost nowhere"),
    ],
    ids=["password", "user", "vhost"],
)
def test_start_at_raises_if_the_own_broker_refuses_and_leaves_nothing_running(
    broker_a: LocalBroker, wrong: dict[str, Any], error: type[Exception], text: str
) -> None:
    arguments = {**arguments_for(broker_a, key=KEY), **wrong, "start_timeout": scaled(60)}
    chart = NetworkedActiveObject("chart", **arguments)
    began_s = time.monotonic()
    with pytest.raises(error, match=text):
        chart.start_at(listening)
    assert time.monotonic() - began_s < scaled(20), "well before start_timeout"
    assert chart.thread is None


def test_a_peer_that_refuses_is_named_in_one_clear_warning(
    broker_a: LocalBroker, fragile: LocalBroker, caplog: pytest.LogCaptureFixture
) -> None:
    with_other_vhost = arguments_for(broker_a, fragile, key=KEY, rabbit_vhost="only.here")
    broker_a.ctl("add_vhost", "only.here")
    broker_a.ctl("set_permissions", "-p", "only.here", broker_a.user, ".*", ".*", ".*")
    chart, _ = make_active_object("chart", **with_other_vhost)
    with running(chart):
        assert list(chart.nets.stats().mesh.brokers) == [str(broker_a.address)]
        assert chart.other_urls() == []
    warnings = [one for one in caplog.records if one.levelname == "WARNING"]
    assert len(warnings) == 1
    assert f"{fragile.address} has no virtual host 'only.here'" in warnings[0].getMessage()


def test_a_flooded_chart_loses_nothing_and_its_fifo_stays_bounded(broker_a: LocalBroker) -> None:
    sender, _ = make_active_object("sender", **arguments_for(broker_a, key=KEY))
    receiver, record = make_active_object("receiver", **arguments_for(broker_a, key=KEY))
    deepest = 0

    class Slow(Record):
        def note(self, event: Event) -> None:
            nonlocal deepest
            deepest = max(deepest, len(receiver.queue))
            super().note(event)

    receiver.record = record = Slow()
    with running(sender, receiver):
        send_numbers(sender, range(10_000))
        record.wait_for(10_000, 30)
    assert record.payloads("NUMBER") == list(range(10_000))
    assert deepest <= receiver.nets.settings.limits.fifo_remote_events


def test_who_is_refused_an_exchange_keeps_nobody_else_away_from_the_broker(
    broker_a: LocalBroker,
) -> None:
    limits = Limits(refused_retry_s=0.05)
    with ExitStack() as stack:
        proxy = stack.enter_context(FaultProxy("127.0.0.66", broker_a.address))
        url = amqp_url(broker_a.user, broker_a.password, proxy.address)

        def publisher(exchange: str) -> SimplePikaTopicPublisher:
            one = SimplePikaTopicPublisher(url, exchange, "key", limits=limits)
            stack.callback(one.stop_thread)
            one.start_thread()
            return one

        taken = publisher("test.taken")
        refused = [publisher(f"amq.refused.{number}") for number in range(4)]
        assert taken.wait_until_ready(scaled(25))
        wait_until(lambda: all(one.state is SessionState.REFUSED for one in refused))
        proxy.slow_down(delay_s=0.05)  # so that somebody is connecting at any moment
        for _ in range(5):
            proxy.cut()
            wait_until(lambda: not taken.is_connected)
            wait_until(lambda: taken.is_connected or taken.state is SessionState.REFUSED)
            assert taken.is_connected, taken.fault
