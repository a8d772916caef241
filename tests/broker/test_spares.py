"""A broker with several addresses gets each event once; one address takes over from another."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from cryptography.fernet import Fernet
from miros import Event

from miros_rabbitmq import (
    DeliveryProblem,
    DropReason,
    Limits,
    LocalBroker,
    NetworkedActiveObject,
    ProblemKind,
    PublisherStats,
)

from ..faults.proxy import Direction, FaultProxy
from ..helpers import scaled, wait_until
from .charts import Record, arguments_for, make_active_object, running

KEY = Fernet.generate_key()


@pytest.fixture
def first(broker_a: LocalBroker) -> Iterator[FaultProxy]:
    """An address of `broker_a` besides its own."""
    with FaultProxy("127.0.0.21", broker_a.address) as proxy:
        yield proxy


@pytest.fixture
def second(broker_a: LocalBroker) -> Iterator[FaultProxy]:
    """Another address of `broker_a`."""
    with FaultProxy("127.0.0.22", broker_a.address) as proxy:
        yield proxy


@pytest.fixture(params=["native", "plain"])
def each_io(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both kinds of I/O."""
    monkeypatch.setenv("MIROS_RABBITMQ_IO", request.param)


def stats_of(chart: NetworkedActiveObject, place: LocalBroker | FaultProxy) -> PublisherStats:
    return chart.nets.stats().mesh.brokers[str(place.address)]


def sender_and_receiver(
    own: LocalBroker, broker: LocalBroker, *proxies: FaultProxy, **extras: Any
) -> tuple[NetworkedActiveObject, NetworkedActiveObject, Record]:
    """A chart at one broker that knows another broker by proxies, and a chart at that one."""
    arguments = arguments_for(own, key=KEY, accept_unknown_peers=False, **extras)
    arguments["addresses"] = [str(proxy.address) for proxy in proxies]
    sender, _ = make_active_object("sender", **arguments)
    receiver, heard = make_active_object("receiver", **arguments_for(broker, key=KEY))
    return sender, receiver, heard


def talk(chart: NetworkedActiveObject, count: int, begin: int = 0) -> None:
    for number in range(begin, begin + count):
        chart.transmit(Event(signal="NUMBER", payload=number))


class Talker:
    """Transmits numbers in a thread of its own until it is left."""

    def __init__(self, chart: NetworkedActiveObject) -> None:
        self.sent = 0
        self._chart = chart
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._talk)

    def _talk(self) -> None:
        while not self._stop.wait(0.001):
            talk(self._chart, 1, self.sent)
            self.sent += 1

    def go_on(self, count: int = 50) -> None:
        """Wait until so many more were sent."""
        before = self.sent
        wait_until(lambda: self.sent > before + count, 30)

    def __enter__(self) -> Talker:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


@pytest.mark.usefixtures("each_io")
def test_of_three_addresses_the_own_one_is_used_and_each_event_crosses_once(
    broker_a: LocalBroker,
    first: FaultProxy,
    second: FaultProxy,
    caplog: pytest.LogCaptureFixture,
) -> None:
    told: list[DeliveryProblem] = []
    arguments = arguments_for(broker_a, key=KEY, on_delivery_problem=told.append)
    arguments["addresses"] = [str(first.address), str(second.address)]
    sender, _ = make_active_object("sender", **arguments)
    receiver, heard = make_active_object("receiver", **arguments_for(broker_a, key=KEY))
    with running(sender, peers=2), running(receiver):
        sender.enable_snoop_spy_no_color()
        talk(sender, 200)
        heard.wait_for(200)
        assert sender.nets.flush(scaled(25))
        mesh = sender.nets.stats().mesh
        assert stats_of(sender, broker_a).sent == mesh.sent == mesh.transmitted == 200
        assert stats_of(sender, broker_a).spare_of == ""
        for spare in (first, second):
            assert stats_of(sender, spare).spare_of == str(broker_a.address)
            assert stats_of(sender, spare).messages == 0
        assert receiver.nets.stats().mesh.duplicates == 0
        sender.snoop_scribble("a remark")
        wait_until(lambda: sender.nets.stats().snoop_spy.confirmed > 0)
        spies = sender.nets.stats().snoop_spy.brokers
        assert {at for at, one in spies.items() if one.sent} == {str(broker_a.address)}
        assert {peer.spare_of for peer in sender.nets.stats().peers} == {None, broker_a.address}
    assert heard.payloads("NUMBER") == list(range(200))
    warnings = [one.message for one in caplog.records if "same broker or cluster" in one.message]
    assert len(warnings) == 1
    assert f"{broker_a.address} and {first.address}, {second.address} lead" in warnings[0]
    assert [(problem.kind, problem.subject, problem.text) for problem in told] == [
        (ProblemKind.SAME_BROKER, str(broker_a.address), warnings[0])
    ]
    # The broker deletes them a moment after the end of their connection.
    wait_until(
        lambda: "true" not in broker_a.ctl("list_queues", "exclusive"), 20, "no marker stays"
    )


def test_events_from_before_the_first_connection_cross_once_too(
    broker_a: LocalBroker, broker_b: LocalBroker, first: FaultProxy, second: FaultProxy
) -> None:
    sender, receiver, heard = sender_and_receiver(broker_b, broker_a, first, second)
    first.slow_down(delay_s=0.1)
    second.slow_down(delay_s=0.1)
    with running(receiver), running(sender):
        wait_until(lambda: len(sender.nets.stats().mesh.brokers) == 3)
        talk(sender, 100)  # into backlogs
        assert sender.nets.wait_for_peers(2, scaled(25))
        heard.wait_for(100)
        assert sender.nets.flush(scaled(25))
        sent = [stats_of(sender, proxy).sent for proxy in (first, second)]
        assert sorted(sent) == [0, 100]
        assert receiver.nets.stats().mesh.duplicates == 0
        assert not any(sender.nets.stats().mesh.dropped.values())
    assert heard.payloads("NUMBER") == list(range(100))


def test_two_brokers_of_the_same_name_stay_two(
    broker_a: LocalBroker, broker_b: LocalBroker, caplog: pytest.LogCaptureFixture
) -> None:
    names = [broker.ctl("eval", "rabbit_nodes:cluster_name().") for broker in (broker_a, broker_b)]
    try:
        for broker in (broker_a, broker_b):
            broker.ctl("set_cluster_name", "rabbit@raspberrypi")
        receiver, heard = make_active_object("receiver", **arguments_for(broker_b, key=KEY))
        sender, _ = make_active_object("sender", **arguments_for(broker_a, broker_b, key=KEY))
        with running(sender, receiver):
            assert sender.nets.wait_for_peers(1, scaled(25))
            talk(sender, 50)
            heard.wait_for(50)
            assert sender.nets.flush(scaled(25))
            assert stats_of(sender, broker_a).sent == stats_of(sender, broker_b).sent == 50
            assert not {one.spare_of for one in sender.nets.stats().mesh.brokers.values()} - {""}
    finally:
        for broker, name in zip((broker_a, broker_b), names, strict=True):
            broker.ctl("set_cluster_name", name.strip().strip('<>"'))
    assert "same broker" not in caplog.text
    assert heard.payloads("NUMBER") == list(range(50))


def used_and_spare(
    sender: NetworkedActiveObject, *proxies: FaultProxy
) -> tuple[FaultProxy, FaultProxy]:
    is_spare = {bool(stats_of(sender, proxy).spare_of): proxy for proxy in proxies}
    return is_spare[False], is_spare[True]


@pytest.mark.usefixtures("each_io")
@pytest.mark.parametrize(
    "harm",
    [
        lambda proxy, _: proxy.silence(Direction.TO_BROKER, Direction.TO_NODE),
        lambda proxy, nowhere: proxy.lead_to(nowhere),
    ],
    ids=["silent", "gone"],
)
def test_a_spare_takes_over_and_stays_in_use(
    broker_a: LocalBroker,
    broker_b: LocalBroker,
    first: FaultProxy,
    second: FaultProxy,
    harm: Callable[[FaultProxy, Any], object],
    caplog: pytest.LogCaptureFixture,
) -> None:
    limits = Limits(heartbeat_s=2, absent_after_s=2)
    sender, receiver, heard = sender_and_receiver(broker_b, broker_a, first, second, limits=limits)
    with running(receiver), running(sender, peers=2):
        used, spare = used_and_spare(sender, first, second)
        with Talker(sender) as talker:
            talker.go_on()
            harm(used, broker_a.address._replace(port=1))
            wait_until(lambda: stats_of(sender, spare).spare_of == "", 20)
            assert stats_of(sender, used).spare_of == str(spare.address)
            talker.go_on()
            used.heal()
            used.lead_to(broker_a.address)
            wait_until(lambda: stats_of(sender, used).connection, 20)
            assert sender.nets.wait_for_peers(2, scaled(25))
            talker.go_on()
            before = stats_of(sender, used).sent
            talker.go_on()
        assert stats_of(sender, used).spare_of == str(spare.address), "it does not flap"
        assert stats_of(sender, used).sent == before
        assert sender.nets.flush(scaled(25))
        heard.wait_for(talker.sent)
        assert not any(sender.nets.stats().mesh.dropped.values())
        assert receiver.nets.stats().mesh.gaps == 0
    assert heard.payloads("NUMBER") == list(range(talker.sent))
    assert f"{used.address} is absent: its spare {spare.address} takes over" in caplog.text
    assert caplog.text.count("same broker or cluster") == 1


def test_when_a_cut_is_short_nothing_changes(
    broker_a: LocalBroker, broker_b: LocalBroker, first: FaultProxy, second: FaultProxy
) -> None:
    sender, receiver, heard = sender_and_receiver(broker_b, broker_a, first, second)
    with running(receiver), running(sender, peers=2):
        used, spare = used_and_spare(sender, first, second)
        with Talker(sender) as talker:
            for proxy in (used, spare, used):
                talker.go_on()
                connections = proxy.connections
                proxy.cut()
                wait_until(lambda: proxy.connections > connections, 10)  # noqa: B023
                assert sender.nets.wait_for_peers(2, scaled(25))
        assert sender.nets.flush(scaled(25))
        heard.wait_for(talker.sent)
        assert used_and_spare(sender, first, second) == (used, spare)
        assert stats_of(sender, spare).sent == 0
    assert heard.payloads("NUMBER") == list(range(talker.sent))


def test_a_broker_that_was_replaced_behind_an_address_is_judged_anew(
    broker_a: LocalBroker, broker_b: LocalBroker, first: FaultProxy, second: FaultProxy
) -> None:
    third, _ = make_active_object("third", **arguments_for(broker_b, key=KEY))
    there, heard = make_active_object("there", **arguments_for(broker_a, key=KEY))
    with LocalBroker("127.0.0.6", password=broker_a.password) as own:
        arguments = arguments_for(own, key=KEY)
        arguments["addresses"] = [str(first.address), str(second.address)]
        sender, _ = make_active_object("sender", **arguments)
        with running(third, there), running(sender, peers=2):
            used, spare = used_and_spare(sender, first, second)
            with Talker(sender) as talker:
                talker.go_on()
                used.lead_to(broker_b.address)
                wait_until(lambda: stats_of(sender, spare).spare_of == "", 10)
                assert stats_of(sender, used).spare_of == ""
                talker.go_on()
                third.record.wait_for(10)
                used.lead_to(broker_a.address)
                wait_until(
                    lambda: stats_of(sender, spare).spare_of or stats_of(sender, used).spare_of, 10
                )
                talker.go_on()
            assert sender.nets.flush(scaled(25))
            heard.wait_for(talker.sent)
            assert there.nets.stats().mesh.gaps == 0
    assert heard.payloads("NUMBER") == list(range(talker.sent))


def test_a_used_one_that_is_no_longer_named_leaves_its_events_to_the_spare(
    broker_a: LocalBroker,
    broker_b: LocalBroker,
    first: FaultProxy,
    second: FaultProxy,
) -> None:
    limits = Limits(absent_after_s=3600.0)
    sender, receiver, heard = sender_and_receiver(
        broker_b, broker_a, first, second, limits=limits, rescan_interval=0.5, forget_after=1.0
    )
    with running(receiver), running(sender, peers=2):
        used, spare = used_and_spare(sender, first, second)
        used.lead_to(broker_a.address._replace(port=1))
        wait_until(lambda: not stats_of(sender, used).connection, 10)
        talk(sender, 30)
        wait_until(lambda: str(used.address) not in sender.nets.stats().mesh.brokers, 20)
        heard.wait_for(30)
        talk(sender, 10, 30)
        heard.wait_for(40)
        mesh = sender.nets.stats().mesh
        assert stats_of(sender, spare).spare_of == ""
        assert mesh.dropped[DropReason.FORGOTTEN] == 0
    assert heard.payloads("NUMBER") == list(range(40))


def test_a_broker_that_does_not_answer_holds_up_the_others_for_a_moment_only(
    broker_a: LocalBroker, broker_b: LocalBroker, first: FaultProxy
) -> None:
    with LocalBroker("127.0.0.6", password=broker_a.password) as frozen:
        arguments = arguments_for(broker_b, frozen, key=KEY, rescan_interval=0.2)
        arguments["addresses"] = [str(frozen.address), str(first.address)]
        first.silence(Direction.TO_BROKER, Direction.TO_NODE)
        sender, _ = make_active_object("sender", **arguments)
        with running(sender, peers=1):
            frozen.pause()
            try:
                began_s = time.monotonic()
                first.heal()
                first.cut()
                assert sender.nets.wait_for_peers(2, scaled(25))
                talk(sender, 10)
                wait_until(lambda: stats_of(sender, first).confirmed == 10, 10)
                assert time.monotonic() - began_s < scaled(15)
            finally:
                frozen.resume()


@pytest.mark.parametrize(
    ("pattern", "has_spares"),
    [(r"^(miros\.|amq\.gen-)", True), (r"^(miros\.(?!markers)|amq\.gen-)", False)],
    ids=["least", "less"],
)
def test_users_with_the_least_rights_may_have_spares_and_with_less_all_goes_on(
    broker_a: LocalBroker, first: FaultProxy, pattern: str, has_spares: bool
) -> None:
    broker_a.ctl("add_user", "least", stdin="rights")
    try:
        broker_a.ctl("set_permissions", "-p", "/", "least", pattern, pattern, pattern)
        arguments = arguments_for(broker_a, key=KEY, rabbit_user="least", rabbit_password="rights")
        arguments["addresses"] = [str(first.address)]
        sender, _ = make_active_object("sender", **arguments)
        with running(sender, peers=1):
            assert stats_of(sender, first).spare_of == (str(broker_a.address) * has_spares)
            talk(sender, 10)
            assert sender.nets.flush(scaled(25))
            assert stats_of(sender, broker_a).confirmed == 10
            assert stats_of(sender, first).confirmed == (0 if has_spares else 10)
    finally:
        broker_a.ctl("delete_user", "least")
