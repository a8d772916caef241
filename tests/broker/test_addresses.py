"""Brokers by names in any spelling, and by IPv6 addresses, with real nodes behind them."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet
from miros import Event

from miros_rabbitmq import (
    Address,
    Delivery,
    Limits,
    LocalBroker,
    PeerState,
    RabbitScout,
    SimplePikaTopicConsumer,
    SimplePikaTopicPublisher,
)
from miros_rabbitmq.discovery.hosts_file import HOSTS_FILE_NAME
from miros_rabbitmq.urls import amqp_url

from ..faults.proxy import FaultProxy
from ..helpers import scaled, wait_until
from .charts import arguments_for, make_active_object, running

KEY = Fernet.generate_key()


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory of the charts."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def sixth(broker_b: LocalBroker) -> Iterator[FaultProxy]:
    """The second broker, at an IPv6 address: RabbitMQ itself needs none for this."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no ::1")
    with FaultProxy("::1", broker_b.address) as proxy:
        yield proxy


def by_ipv6(sixth: FaultProxy, *others: LocalBroker, own: LocalBroker, **more: Any) -> Any:
    """The arguments of a chart whose own broker is at an IPv6 address."""
    arguments = arguments_for(own, *others, key=KEY, **more)
    at = sixth.address
    named = [str(other.address) for other in others]
    return {**arguments, "rabbit_host": at.host, "rabbit_port": at.port, "addresses": named}


def test_events_go_both_ways_between_charts_one_of_which_has_its_broker_at_an_ipv6_address(
    broker_a: LocalBroker, broker_b: LocalBroker, sixth: FaultProxy
) -> None:
    """Which the other one learns from an announcement."""
    near, near_heard = make_active_object("near", **arguments_for(broker_a, key=KEY))
    far, far_heard = make_active_object("far", **by_ipv6(sixth, broker_a, own=broker_b))
    with running(near), running(far, peers=1):
        wait_until(lambda: near.nets.wait_for_peers(1, 0.1), 10)
        near.transmit(Event(signal="TO_FAR"))
        far.transmit(Event(signal="TO_NEAR"))
        near_heard.wait_for(1)
        far_heard.wait_for(1)
        (_, peer) = near.nets.stats().peers
        assert peer.address == sixth.address
        assert str(peer.address) == f"[::1]:{sixth.address.port}"
        assert peer.state is PeerState.PRESENT
        assert far.nets.stats().peers[0].address == sixth.address
    assert (near_heard.heard, far_heard.heard) == ([("TO_NEAR", None)], [("TO_FAR", None)])


@pytest.mark.parametrize("text", ["[::1]:{}", "[0:0::1]:{}", "[::ffff:127.0.0.3]:{}"])
def test_a_scout_and_charts_take_ipv6_addresses_by_argument_and_by_hosts_file(
    broker_a: LocalBroker, broker_b: LocalBroker, sixth: FaultProxy, folder: Path, text: str
) -> None:
    port = broker_b.port if "ffff" in text else sixth.address.port
    address = Address("127.0.0.3" if "ffff" in text else "::1", port)
    arguments: Any = {"rabbit_host": broker_a.host, "rabbit_port": broker_a.port}
    scout = RabbitScout(
        broker_a.user, broker_a.password, addresses=[text.format(port)], **arguments
    )
    assert [row.address for row in scout.report.connected] == [broker_a.address, address]
    assert scout.report[text.format(port)].connected
    (folder / HOSTS_FILE_NAME).write_text(json.dumps({"hosts": [text.format(port)]}))
    chart, _ = make_active_object("chart", **arguments_for(broker_a, key=KEY))
    with running(chart, peers=1):
        assert [peer.address for peer in chart.nets.stats().peers] == [broker_a.address, address]


def test_publisher_and_consumer_take_urls_with_ipv6_addresses(
    broker_b: LocalBroker, sixth: FaultProxy
) -> None:
    taken: list[Delivery] = []
    url = amqp_url(broker_b.user, broker_b.password, sixth.address)
    assert f"@[::1]:{sixth.address.port}/" in url
    consumer = SimplePikaTopicConsumer(url, "ipv6", "key", on_message=taken.append)
    publisher = SimplePikaTopicPublisher(url, "ipv6", "key")
    for one in (consumer, publisher):
        one.start_thread()
    try:
        assert consumer.wait_until_ready(scaled(25))
        publisher.post_fifo(b"hello")
        wait_until(lambda: [one.body for one in taken] == [b"hello"])
        assert publisher.address == consumer.address == sixth.address
    finally:
        for one in (consumer, publisher):
            one.stop_thread()


def test_a_broker_under_one_name_in_many_spellings_is_one_member_that_works(
    broker_a: LocalBroker, broker_b: LocalBroker, folder: Path
) -> None:
    """It is neither absent nor given up, and gets each event once."""
    with FaultProxy("127.0.0.1", broker_b.address) as proxy:
        port = proxy.address.port
        (folder / HOSTS_FILE_NAME).write_text(
            json.dumps({"hosts": [f"LOCALHOST.:{port}", f"localHost:{port}"]})
        )
        arguments = arguments_for(
            broker_a,
            key=KEY,
            forget_after=2.0,
            rescan_interval=0.5,
            accept_unknown_peers=False,
            limits=Limits(announce_s=0.5),
        )
        arguments["addresses"] = [f"LocalHost:{port}"]
        chart, _ = make_active_object("chart", **arguments)
        other, heard = make_active_object("other", **arguments_for(broker_b, key=KEY))
        with running(other), running(chart, peers=1):
            for number in range(30):  # for longer than forget_after
                chart.transmit(Event(signal="NUMBER", payload=number))
                (_, peer) = chart.nets.stats().peers
                assert (peer.address, peer.state) == (Address("localhost", port), PeerState.PRESENT)
                time.sleep(0.1)
            heard.wait_for(30)
            assert set(chart.nets.stats().mesh.brokers) == {
                str(broker_a.address),
                f"localhost:{port}",
            }
            assert chart.nets.flush(scaled(25))
        assert heard.payloads("NUMBER") == list(range(30))


def test_a_scout_finds_a_row_by_any_spelling(broker_a: LocalBroker) -> None:
    scout = RabbitScout(
        broker_a.user,
        broker_a.password,
        addresses=[],
        rabbit_host=broker_a.host,
        rabbit_port=broker_a.port,
    )
    assert scout.report[f"{broker_a.host}.:{broker_a.port}"].connected
    assert scout.report[broker_a.address].connected
    with pytest.raises(KeyError):
        scout.report["somebody.else"]
