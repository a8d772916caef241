"""Epochs and numbers on real brokers: everything comes once and in order, and gaps are true."""

from __future__ import annotations

import pickle
import subprocess
import sys
import threading
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet

from miros_rabbitmq import (
    Codec,
    DropReason,
    Envelope,
    Limits,
    LocalBroker,
    NetworkedActiveObject,
    PikaTopicConsumer,
    PikaTopicPublisher,
    SessionState,
)
from miros_rabbitmq.wire.envelope import MESH, SNOOP_SPY
from miros_rabbitmq.wire.message import epoch_of

from ..faults.proxy import Direction, FaultProxy
from ..helpers import scaled, wait_until
from .charts import Chart, Record, arguments_for, make_active_object, running
from .forked import COUNT
from .strangers import check_nonces, tap

KEY = Fernet.generate_key()
KEYS = ("n.0", "n.1", "n.2")
TIMEOUT_S = 20.0


def which_key(number: int, run: int = 1) -> int:
    """The key by which a number goes: so many by the first, then the second, and so on."""
    return number // run % len(KEYS)


def send(chart: Chart, numbers: Iterable[int], run: int = 1) -> None:
    """Send numbers by three routing keys in turn."""
    for number in numbers:
        key = KEYS[which_key(number, run)]
        chart.nets.node.mesh.transmit(("NUMBER", number), TIMEOUT_S, routing_key=key)


def of_key(numbers: Iterable[int], *which: int, run: int = 1) -> list[int]:
    """The numbers that went by the first, second or third key."""
    return [number for number in numbers if which_key(number, run) in which]


def listener(name: str, rx: str, arguments: dict[str, Any]) -> tuple[Chart, Record]:
    """A chart that hears some of the routing keys, and sends by none of them."""
    return make_active_object(name, **arguments, tx_routing_key="listener", rx_routing_key=rx)


def test_each_chart_misses_nothing_of_the_routing_keys_that_it_listens_to(
    broker_a: LocalBroker,
) -> None:
    """And counts nothing as missing that was not for it."""
    arguments = arguments_for(broker_a, key=KEY)
    sender, _ = make_active_object("sender", **arguments, tx_routing_key="n.0")
    patterns = {"n.0": (0,), "n.2": (2,), "n.*": (0, 1, 2), "#": (0, 1, 2)}
    heard = {rx: listener(f"hears {rx}", rx, arguments) for rx in patterns}
    with running(sender, *(chart for chart, _ in heard.values())), tap(broker_a) as seen:
        send(sender, range(2_000))
        for number in range(2_000, 2_030):
            send(sender, [number])
            assert sender.nets.flush(scaled(25))
        for rx, which in patterns.items():
            chart, record = heard[rx]
            expected = of_key(range(2_030), *which)
            record.wait_for(len(expected))
            mesh = chart.nets.stats().mesh
            assert record.payloads("NUMBER") == expected
            assert (mesh.gaps, mesh.duplicates, dict(mesh.rejected)) == (0, 0, {})
        check_nonces(list(seen))


def test_a_publisher_alone_numbers_each_of_its_routing_keys(broker_a: LocalBroker) -> None:
    """Whichever of several threads posts."""
    exchange, codec = "test.numbers", Codec(KEY)
    heard: dict[str, list[Envelope]] = {"n.1": [], "n.*": []}
    consumers = {
        pattern: PikaTopicConsumer(
            broker_a.url(), exchange, pattern, codec=codec, on_message=envelopes.append
        )
        for pattern, envelopes in heard.items()
    }
    publisher = PikaTopicPublisher(broker_a.url(), exchange, "n.0", codec=codec, name="alone")
    sessions = (*consumers.values(), publisher)

    def post(thread: int) -> None:
        for number in range(600):
            key = KEYS[number % len(KEYS)]
            publisher.post_fifo((thread, number), routing_key=key if number % 3 else None)

    for session in sessions:
        session.start_thread()
    try:
        assert all(session.wait_until_ready(scaled(25)) for session in sessions)
        threads = [threading.Thread(target=post, args=(n,)) for n in range(4)]
        for one in threads:
            one.start()
        for one in threads:
            one.join()
        wait_until(lambda: len(heard["n.1"]) == 800 and len(heard["n.*"]) == 2_400, 20)
        for consumer in consumers.values():
            stats = consumer.stats()
            assert (stats.gaps, stats.duplicates, dict(stats.rejected)) == (0, 0, {})
    finally:
        for session in sessions:
            assert session.stop_thread()
    assert len({one.epoch for one in heard["n.*"]}) == 1
    for key in KEYS:
        numbers = [one.sequence for one in heard["n.*"] if one.routing_key == key]
        assert numbers == list(range(1, 801))
    for thread in range(4):
        mine = [one.body[1] for one in heard["n.*"] if one.body[0] == thread]
        assert mine == list(range(600))
        assert [one.body[1] for one in heard["n.1"] if one.body[0] == thread] == of_key(mine, 1)


def test_two_charts_of_one_process_at_one_broker_have_epochs_and_numbers_of_their_own(
    broker_a: LocalBroker,
) -> None:
    arguments = arguments_for(broker_a, key=KEY)
    made = [
        make_active_object(name, **arguments, tx_routing_key="n.0", rx_routing_key="n.*")
        for name in ("one", "other")
    ]
    with running(*(chart for chart, _ in made)), tap(broker_a, key="n.*") as seen:
        threads = [
            threading.Thread(target=send, args=(chart, range(n, 2_000 + n)))
            for n, (chart, _) in enumerate(made)
        ]
        for one in threads:
            one.start()
        for one in threads:
            one.join()
        for n, (chart, record) in enumerate(made):
            record.wait_for(2_000)
            assert record.payloads("NUMBER") == list(range(1 - n, 2_001 - n)), "what the other sent"
            mesh = chart.nets.stats().mesh
            assert (mesh.gaps, mesh.duplicates, dict(mesh.rejected)) == (0, 0, {})
            wait_until(lambda chart=chart: chart.nets.stats().mesh.own == 2_000)  # type: ignore[misc]
        assert len({epoch_of(message.body) for message in list(seen)}) == 2
        check_nonces(list(seen))


# Several brokers, and lost connections.


@contextmanager
def behind_a_proxy(
    own: LocalBroker, far: LocalBroker, limits: Limits
) -> Iterator[tuple[FaultProxy, Chart, dict[str, tuple[Chart, Record]]]]:
    """A sender at its own broker that reaches another through a proxy, and listeners at both."""
    with FaultProxy("127.0.0.12", far.address) as proxy:
        arguments = {
            **arguments_for(own, key=KEY, limits=limits),
            "addresses": [str(own.address), str(proxy.address)],
        }
        sender, _ = make_active_object("sender", **arguments, tx_routing_key="n.0")
        listeners = {
            f"{at} {rx}": listener(f"{at} {rx}", rx, arguments_for(broker, key=KEY))
            for at, broker in (("own", own), ("far", far))
            for rx in ("n.1", "n.*")
        }
        with running(*(chart for chart, _ in listeners.values())), running(sender, peers=1):
            yield proxy, sender, listeners


def check_all(listeners: dict[str, tuple[Chart, Record]], count: int, run: int = 1) -> None:
    """Every listener has everything that is for it, once and in order, and misses nothing."""
    for what, (chart, record) in listeners.items():
        which = (1,) if what.endswith(".1") else (0, 1, 2)
        expected = of_key(range(count), *which, run=run)
        record.wait_for(len(expected), 30)
        assert record.payloads("NUMBER") == expected, what
        assert chart.nets.stats().mesh.gaps == 0, what
        assert dict(chart.nets.stats().mesh.rejected) == {}, what


def test_brokers_that_get_the_same_events_in_different_messages_agree_about_them(
    broker_a: LocalBroker, broker_b: LocalBroker
) -> None:
    """The far one answers late, and so gets more events in each message."""
    with behind_a_proxy(broker_a, broker_b, Limits()) as (proxy, sender, listeners):
        proxy.slow_down(delay_s=0.3)
        at = str(broker_a.address)
        for begin in range(0, 3_000, 25):
            send(sender, range(begin, begin + 25), run=50)
            # So the near one gets no message of more than 25 events.
            wait_until(lambda n=begin + 25: sender.nets.stats().mesh.brokers[at].confirmed == n)  # type: ignore[misc]
        assert sender.nets.flush(scaled(30))
        check_all(listeners, 3_000, run=50)
        brokers = sender.nets.stats().mesh.brokers
        own, far = (brokers[str(at)].messages for at in (broker_a.address, proxy.address))
        assert own > far, "events of one routing key that wait together share a message"


def test_what_is_sent_again_after_a_lost_connection_is_taken_once(
    broker_a: LocalBroker, broker_b: LocalBroker
) -> None:
    limits = Limits(reconnect_min_s=0.01, reconnect_max_s=0.1)
    with (
        behind_a_proxy(broker_a, broker_b, limits) as (proxy, sender, listeners),
        tap(broker_b, key="n.*") as seen,
    ):
        for begin in range(0, 3_000, 300):
            send(sender, range(begin, begin + 300))
            proxy.cut()
        assert sender.nets.flush(scaled(30))
        check_all(listeners, 3_000)
        mesh = sender.nets.stats().mesh
        assert mesh.sent > mesh.confirmed, "some were sent again"
        assert len({epoch_of(message.body) for message in list(seen)}) == 1
        check_nonces(list(seen))


def test_what_an_absent_broker_is_spared_is_a_gap_there_and_nowhere_else(
    broker_a: LocalBroker, broker_b: LocalBroker
) -> None:
    limits = Limits(
        backlog_events=60,
        absent_after_s=0.3,
        connect_timeout_s=0.5,
        reconnect_min_s=0.05,
        reconnect_max_s=0.2,
    )
    with behind_a_proxy(broker_a, broker_b, limits) as (proxy, sender, listeners):
        send(sender, range(30))
        check_all(listeners, 30)
        assert sender.nets.flush(scaled(25))
        proxy.silence(*Direction)
        proxy.cut()
        far = next(
            one
            for address, one in sender.nets.node.mesh.senders.items()
            if address == proxy.address
        )
        wait_until(lambda: far.is_absent)
        # Slowly enough for the own broker, whose backlog is as small.
        for begin in range(30, 300, 30):
            send(sender, range(begin, begin + 30))
            wait_until(lambda: sender.nets.stats().mesh.brokers[str(broker_a.address)].waiting == 0)
        dropped = sender.nets.stats().mesh.dropped[DropReason.BACKLOG]
        assert dropped == 270 - 60
        proxy.heal()
        # Until it is ready, it counts as absent, and its oldest make room for what comes.
        wait_until(lambda: far.is_connected and not far.stats().waiting, 10)
        assert sender.nets.stats().mesh.dropped[DropReason.BACKLOG] == dropped
        send(sender, range(300, 330))
        check_all({at: one for at, one in listeners.items() if at.startswith("own")}, 330)
        came = [*range(30), *range(30 + dropped, 330)]
        for rx, which in (("n.1", (1,)), ("n.*", (0, 1, 2))):
            chart, record = listeners[f"far {rx}"]
            record.wait_for(len(of_key(came, *which)))
            assert record.payloads("NUMBER") == of_key(came, *which)
            missing = len(of_key(range(30, 30 + dropped), *which))
            assert chart.nets.stats().mesh.gaps == missing
            assert chart.nets.stats().mesh.duplicates == 0


# Starts.


def test_a_forked_child_is_another_sender_and_both_are_heard(broker_a: LocalBroker) -> None:
    heard: list[Envelope] = []
    arguments = arguments_for(broker_a, key=KEY, tx_routing_key="forks")
    consumer = PikaTopicConsumer(
        broker_a.url(), MESH, "forks", codec=Codec(KEY), on_message=heard.append
    )
    consumer.start_thread()
    try:
        assert consumer.wait_until_ready(scaled(25))
        with tap(broker_a, key="forks") as seen:
            done = subprocess.run(
                [sys.executable, "-m", "tests.broker.forked"],
                input=pickle.dumps((arguments, str(broker_a.url()))).hex() + "\n",
                text=True,
                timeout=scaled(40),
                cwd=Path(__file__).parents[2],
                check=False,
            )
            assert done.returncode == 0
            wait_until(lambda: len(heard) == 7 * COUNT)
            check_nonces(list(seen))
        stats = consumer.stats()
        assert (stats.gaps, stats.duplicates, dict(stats.rejected)) == (0, 0, {})
    finally:
        assert consumer.stop_thread()
    counts = {"PARENT": 3, "PARENTS_PUBLISHER": 2, "CHILD": 1, "CHILDS_PUBLISHER": 1}
    epochs = set()
    for signal, times in counts.items():
        mine = [one for one in heard if one.body[0] == signal]
        assert [one.body[1] for one in mine] == list(range(times * COUNT))
        assert [one.sequence for one in mine] == list(range(1, times * COUNT + 1))
        (epoch,) = {one.epoch for one in mine}
        epochs.add(epoch)
    assert len(epochs) == len(counts)


def test_a_snoop_that_is_off_and_on_again_begins_anew_and_its_lines_go_on(
    broker_a: LocalBroker, capsys: pytest.CaptureFixture[str]
) -> None:
    lines: dict[str, list[str]] = defaultdict(list)
    arguments = arguments_for(broker_a, key=KEY)
    watcher, _ = make_active_object(
        "watcher", **arguments, on_spy_rx=lambda sender, line: lines[sender].append(line)
    )
    sender, _ = make_active_object("sender", **arguments)
    assert isinstance(sender, NetworkedActiveObject)
    watcher.nets.enable_snoop_spy()
    heard: list[Envelope] = []
    consumer = PikaTopicConsumer(
        broker_a.url(), SNOOP_SPY, "#", codec=Codec(KEY), on_message=heard.append
    )
    consumer.start_thread()
    with running(watcher, sender), tap(broker_a, SNOOP_SPY) as seen:
        assert consumer.wait_until_ready(scaled(25))
        mesh = sender.nets.node.mesh
        for time in range(3):
            sender.nets.enable_snoop_spy()
            wait_until(lambda: snoop_is_ready(sender))
            for number in range(5):
                sender.snoop_scribble(f"remark {time}.{number}")
            last = f"remark {time}.4"
            wait_until(lambda last=last: any(last in one for one in lines["sender"]))  # type: ignore[misc]
            sender.nets.disable_snoop_spy()
        spy = watcher.nets.stats().snoop_spy
        assert (spy.gaps, spy.duplicates, dict(spy.rejected)) == (0, 0, {})
        assert sender.nets.node.mesh is mesh, "the mesh goes on as it was"
        wait_until(lambda: heard and last in heard[-1].body)
        check_nonces(list(seen))
    assert consumer.stop_thread()
    remarks = [line.split()[-1] for line in lines["sender"] if "remark" in line]
    assert remarks == [f"{time}.{number}" for time in range(3) for number in range(5)]
    assert "remark" in capsys.readouterr().out
    numbers: dict[bytes, list[int]] = defaultdict(list)
    for one in heard:
        if one.sender == "sender":
            numbers[one.epoch].append(one.sequence)
    assert list(numbers.values()) == [list(range(1, 6))] * 3


def snoop_is_ready(chart: Chart) -> bool:
    """Whether the lines that a chart tells now reach its own broker."""
    brokers = chart.nets.stats().snoop_spy.brokers
    return bool(brokers) and all(one.state is SessionState.READY for one in brokers.values())
