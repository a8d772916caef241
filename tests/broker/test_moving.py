"""A chart whose own broker is reached at another address keeps its queue, and sends on in order."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from cryptography.fernet import Fernet
from miros import Event

from miros_rabbitmq import LocalBroker
from miros_rabbitmq.urls import amqp_url

from ..faults.proxy import FaultProxy
from ..helpers import scaled, wait_until
from .charts import arguments_for, make_active_object, running

KEY = Fernet.generate_key()


@pytest.fixture
def former(broker_a: LocalBroker) -> Iterator[FaultProxy]:
    with FaultProxy("127.0.0.31", broker_a.address) as proxy:
        yield proxy


@pytest.fixture
def later(broker_a: LocalBroker) -> Iterator[FaultProxy]:
    with FaultProxy("127.0.0.32", broker_a.address) as proxy:
        yield proxy


@pytest.fixture(params=["native", "plain"])
def each_io(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIROS_RABBITMQ_IO", request.param)


@pytest.mark.usefixtures("each_io")
@pytest.mark.parametrize("is_gone", [False, True], ids=["closed", "dropped"])
def test_events_of_both_directions_go_on_in_order_and_once(
    broker_a: LocalBroker, former: FaultProxy, later: FaultProxy, is_gone: bool
) -> None:
    arguments = arguments_for(broker_a, key=KEY, accept_unknown_peers=False)
    arguments |= {"rabbit_host": former.address.host, "rabbit_port": former.address.port}
    arguments["addresses"] = []
    mover, heard = make_active_object("mover", **arguments)
    other, heard_there = make_active_object("other", **arguments_for(broker_a, key=KEY))
    is_over = threading.Event()
    sent = 0

    def talk() -> None:
        nonlocal sent
        while not is_over.wait(0.002):
            for chart in (mover, other):
                chart.transmit(Event(signal="NUMBER", payload=sent))
            sent += 1

    with running(mover, other):
        mover.enable_snoop_spy_no_color()
        mesh = mover.nets.node.mesh
        queue = mover.nets.stats().mesh.queue
        thread = threading.Thread(target=talk)
        thread.start()
        try:
            wait_until(lambda: len(heard.payloads("NUMBER")) > 20)
            url = amqp_url(broker_a.user, broker_a.password, later.address)
            for network in (mesh, mover.nets.node.snoops.spy):
                network.move_own(url, is_gone=is_gone)()
            wait_until(lambda: later.open_connections >= 4, 10)
            before = len(heard.payloads("NUMBER"))
            wait_until(lambda: len(heard.payloads("NUMBER")) > before + 20, 20)
        finally:
            is_over.set()
            thread.join()
        heard.wait_for(sent)
        heard_there.wait_for(sent)
        stats = mover.nets.stats()
        assert stats.mesh.queue == queue
        assert set(stats.mesh.brokers) == set(stats.snoop_spy.brokers) == {str(later.address)}
        assert stats.mesh.dropped == dict.fromkeys(stats.mesh.dropped, 0)
        assert mover.nets.flush(scaled(25))
    assert heard.payloads("NUMBER") == heard_there.payloads("NUMBER") == list(range(sent))
    assert stats.mesh.gaps == 0


@pytest.mark.usefixtures("each_io")
def test_what_waits_for_a_broker_that_has_left_its_address_moves_in_order(
    broker_a: LocalBroker, broker_b: LocalBroker, former: FaultProxy, later: FaultProxy
) -> None:
    here = arguments_for(broker_a, key=KEY, addresses=[], accept_unknown_peers=False)
    there = arguments_for(
        broker_b, key=KEY, addresses=[str(former.address)], accept_unknown_peers=False
    )
    listener, heard = make_active_object("listener", **here)
    sender, _ = make_active_object("sender", **there)
    numbers = iter(range(10_000))

    def send(count: int) -> int:
        for _ in range(count):
            last = next(numbers)
            sender.transmit(Event(signal="NUMBER", payload=last))
        return last + 1

    with running(listener, sender):
        sender.enable_snoop_spy_no_color()
        wait_until(lambda: former.open_connections >= 2)
        heard.wait_for(send(20))
        former.silence()
        send(200)
        url = amqp_url(broker_a.user, broker_a.password, later.address)
        networks = (sender.nets.node.mesh, sender.nets.node.snoops.spy)
        for network in networks:
            network.move(former.address, url)()
        heard.wait_for(send(200))
        stats = sender.nets.stats()
        for network_stats in (stats.mesh, stats.snoop_spy):
            assert set(network_stats.brokers) == {str(broker_b.address), str(later.address)}
        assert stats.mesh.dropped == dict.fromkeys(stats.mesh.dropped, 0)
        assert sender.nets.flush(scaled(25))
    assert heard.payloads("NUMBER") == list(range(420))
    assert listener.nets.stats().mesh.gaps == 0
