"""Brokers that come and go while a chart runs, and brokers that another node announces."""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet
from miros import Event

from miros_rabbitmq import (
    Address,
    DropReason,
    Limits,
    LocalBroker,
    NetworkedActiveObject,
    PeersChanged,
    PeerSource,
    PeerState,
)
from miros_rabbitmq.discovery.hosts_file import HOSTS_FILE_NAME
from miros_rabbitmq.discovery.lan_cache import CACHE_FILE_NAME

from ..helpers import scaled, wait_until
from .charts import arguments_for, make_active_object, running

KEY = Fernet.generate_key()


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory of the charts."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def fragile(request: pytest.FixtureRequest, rabbitmq_installed: None) -> Iterator[LocalBroker]:
    """A broker that tests of this module may kill and restart."""
    broker_a: LocalBroker = request.getfixturevalue("broker_a")
    with LocalBroker("127.0.0.6", password=broker_a.password) as broker:
        yield broker


def sources(chart: NetworkedActiveObject) -> dict[Address, PeerSource]:
    return {peer.address: peer.source for peer in chart.nets.stats().peers}


def test_a_broker_that_is_gone_for_too_long_is_given_up_counted_and_found_again(
    broker_a: LocalBroker, fragile: LocalBroker, caplog: pytest.LogCaptureFixture
) -> None:
    changes: list[PeersChanged] = []
    threads: list[str] = []

    def note(change: PeersChanged) -> None:
        changes.append(change)
        threads.append(threading.current_thread().name)

    arguments = arguments_for(
        broker_a, fragile, key=KEY, rescan_interval=0.5, forget_after=3.0, on_peers_changed=note
    )
    chart, _ = make_active_object("chart", **arguments)
    caplog.set_level(logging.INFO, "miros_rabbitmq.discovery.subscriber")
    gone = fragile.address
    with running(chart, peers=1):
        wait_until(lambda: changes == [PeersChanged(added=(gone,))])
        chart.enable_snoop_spy_no_color()
        fragile.kill()
        try:
            wait_until(lambda: chart.nets.stats().peers[1].state is PeerState.ABSENT)
            for number in range(7):
                chart.transmit(Event(signal="NUMBER", payload=number))
            wait_until(lambda: PeersChanged(removed=(gone,)) in changes, 10)
            mesh = chart.nets.stats().mesh
            assert list(mesh.brokers) == [str(broker_a.address)]
            assert list(chart.nets.stats().snoop_spy.brokers) == [str(broker_a.address)]
            assert mesh.dropped[DropReason.FORGOTTEN] == 7
            wait_until(lambda: f"gave up the broker at {gone}, and 7 events" in caplog.text)
        finally:
            fragile.restart()
        wait_until(lambda: changes[-1] == PeersChanged(added=(gone,)), 10)
        assert chart.nets.wait_for_peers(1, scaled(25))
        chart.transmit(Event(signal="NUMBER", payload=7))
        assert chart.nets.flush(scaled(25))
        mesh = chart.nets.stats().mesh
    assert mesh.confirmed == 7 + 2, "7 and 1 by the own broker, 1 by the other"
    assert mesh.dropped[DropReason.FORGOTTEN] == 7
    assert set(threads) == {"on_peers_changed of chart"}


def test_running_publishers_are_not_disturbed_by_further_rounds(
    broker_a: LocalBroker, broker_b: LocalBroker
) -> None:
    looks = []
    one, _ = make_active_object(
        "one", **arguments_for(broker_a, broker_b, key=KEY, rescan_interval=0.05)
    )
    two, heard = make_active_object("two", **arguments_for(broker_b, broker_a, key=KEY))
    ask = one.nets.node.membership.scout.ask

    def counting(*arguments: Any, **keywords: Any) -> Any:
        looks.append(keywords["unasked"])
        return ask(*arguments, **keywords)

    one.nets.node.membership.scout.ask = counting  # type: ignore[method-assign]
    with running(one, two, peers=1):
        before = {at: id(publisher) for at, publisher in one.nets.node.mesh.senders.items()}
        sent = 0
        # Ten rounds after the first events, however long they take.
        seen = len(looks)
        while len(looks) < seen + 10:
            one.transmit(Event(signal="NUMBER", payload=sent))
            sent += 1
            time.sleep(0.001)
        heard.wait_for(sent)
        assert one.nets.flush(scaled(25))
        after = {at: id(publisher) for at, publisher in one.nets.node.mesh.senders.items()}
        stats = one.nets.stats().mesh
    assert before == after
    assert heard.payloads("NUMBER") == list(range(sent))
    assert stats.sent == stats.confirmed == 2 * sent
    assert looks[-1] == {broker_a.address, broker_b.address}, "connected brokers are not asked"


def test_a_node_that_announces_its_broker_is_found_and_the_announcement_is_no_event(
    broker_a: LocalBroker, broker_b: LocalBroker
) -> None:
    listener, heard_by_listener = make_active_object("listener", **arguments_for(broker_a, key=KEY))
    speaker, heard_by_speaker = make_active_object(
        "speaker", **arguments_for(broker_b, broker_a, key=KEY)
    )
    with running(listener), running(speaker, peers=1):
        assert listener.nets.wait_for_peers(1, scaled(25))
        assert sources(listener)[broker_b.address] is PeerSource.HEARD
        assert sources(speaker)[broker_a.address] is PeerSource.NAMED
        listener.transmit(Event(signal="HELLO"))
        heard_by_speaker.wait_for(1)
        speaker.transmit(Event(signal="HELLO"))
        heard_by_listener.wait_for(1)
        for chart in (listener, speaker):
            assert chart.nets.flush(scaled(25))
            mesh = chart.nets.stats().mesh
            assert (mesh.transmitted, mesh.received, mesh.gaps, mesh.duplicates) == (1, 1, 0, 0)
            assert mesh.confirmed == mesh.sent == 2
            assert not mesh.rejected
    assert heard_by_listener.heard == heard_by_speaker.heard == [("HELLO", None)]


def test_a_node_that_starts_to_listen_later_hears_it_at_the_next_announcement(
    broker_a: LocalBroker, broker_b: LocalBroker
) -> None:
    speaker, _ = make_active_object(
        "speaker", **arguments_for(broker_b, broker_a, key=KEY, limits=Limits(announce_s=0.2))
    )
    listener, _ = make_active_object("listener", **arguments_for(broker_a, key=KEY))
    with running(speaker, peers=1), running(listener):
        assert listener.nets.wait_for_peers(1, scaled(25))


@pytest.mark.parametrize("joins", ["as the second", "again"])
def test_who_hears_an_event_of_an_unknown_node_can_answer_it_soon(
    broker_a: LocalBroker, broker_b: LocalBroker, joins: str
) -> None:
    """Though it began to listen after that node had announced itself: not only after 30 s."""
    caller, heard = make_active_object("caller", **arguments_for(broker_b, broker_a, key=KEY))

    def answer(_: Event) -> None:
        listener.transmit(Event(signal="PONG"))

    listener, _ = make_active_object(
        "listener", **arguments_for(broker_a, key=KEY, on_mesh_rx=answer)
    )
    with running(caller, peers=1):
        sender = caller.nets.node.mesh.senders[broker_a.address]
        assert sender.is_connected
        if joins == "again":  # the caller sends all the time, and has done so for a while
            call(caller, until=lambda: caller.nets.stats().mesh.transmitted >= 15)
            assert heard.heard == []
        with running(listener):
            assert list(sources(listener)) == [broker_a.address]
            began_s = time.monotonic()
            call(caller, until=lambda: bool(heard.heard))
            took_s = time.monotonic() - began_s
            assert sources(listener)[broker_b.address] is PeerSource.HEARD
    assert heard.heard[0][0] == "PONG"
    assert took_s < scaled(10)


def call(caller: NetworkedActiveObject, until: Callable[[], bool]) -> None:
    """Transmit ten events a second, until a condition holds."""
    deadline_s = time.monotonic() + scaled(10)
    while not until():
        assert time.monotonic() < deadline_s
        caller.transmit(Event(signal="PING"))
        time.sleep(0.1)


@pytest.mark.parametrize("why", ["not wanted", "another key"])
def test_an_announced_broker_is_ignored_if_unwanted_or_of_another_key(
    why: str, broker_a: LocalBroker, broker_b: LocalBroker
) -> None:
    key = KEY if why == "not wanted" else Fernet.generate_key()
    listener, heard = make_active_object(
        "listener", **arguments_for(broker_a, key=KEY, accept_unknown_peers=why != "not wanted")
    )
    speaker, _ = make_active_object("speaker", **arguments_for(broker_b, broker_a, key=key))
    witness, _ = make_active_object("witness", **arguments_for(broker_a, key=key))
    with running(listener, witness), running(speaker, peers=1):
        # The witness has accepted the announcement, so the listener has had the same message.
        assert witness.nets.wait_for_peers(1, scaled(25))
        wait_until(lambda: listener.nets.stats().mesh.rejected or why == "not wanted")
        assert list(sources(listener)) == [broker_a.address]
    assert heard.heard == []


def test_the_hosts_file_adds_to_addresses_and_is_read_when_it_changes(
    broker_a: LocalBroker, broker_b: LocalBroker, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    hosts = folder / HOSTS_FILE_NAME
    chart, _ = make_active_object("chart", **arguments_for(broker_a, key=KEY))
    with running(chart):
        hosts.write_text(json.dumps({"hosts": [str(broker_b.address)]}))
        assert chart.nets.wait_for_peers(1, scaled(25))
        assert sources(chart)[broker_b.address] is PeerSource.HOSTS_FILE
        hosts.write_text('{"hosts": [\n oops]}')
        wait_until(lambda: "line 2, column 2" in caplog.text)
        assert chart.nets.wait_for_peers(1, 0)
        hosts.write_text('{"hosts": []}')
        wait_until(lambda: len(chart.nets.stats().peers) == 1)
    assert not (folder / CACHE_FILE_NAME).exists(), "no LAN was searched"


def test_a_fifo_in_place_of_the_hosts_file_holds_up_neither_start_nor_search_nor_stop(
    broker_a: LocalBroker, broker_b: LocalBroker, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    hosts = folder / HOSTS_FILE_NAME
    os.mkfifo(hosts)
    chart, _ = make_active_object("chart", **arguments_for(broker_a, key=KEY))
    with running(chart):
        assert f"{hosts} cannot be used, it is a FIFO: put a file in its place" in caplog.text
        hosts.unlink()
        hosts.write_text(json.dumps({"hosts": [str(broker_b.address)]}))
        assert chart.nets.wait_for_peers(1, scaled(25))
        hosts.unlink()
        hosts.symlink_to("/dev/zero")
        wait_until(lambda: "it is a link, which may lead anywhere" in caplog.text)
        assert chart.nets.wait_for_peers(1, 0), "what the file named before"
    assert "left behind" not in caplog.text
    assert not [one for one in threading.enumerate() if one.name.startswith("miros discovery")]


def test_charts_of_a_process_share_a_search_and_none_waits_for_the_callback_of_another(
    broker_a: LocalBroker, broker_b: LocalBroker
) -> None:
    may_return = threading.Event()
    told: list[str] = []

    def note(name: str) -> Callable[[PeersChanged], None]:
        def note_change(_: PeersChanged) -> None:
            told.append(name)
            if name == "slow":
                may_return.wait(scaled(60))

        return note_change

    arguments = arguments_for(broker_a, broker_b, key=KEY, limits=Limits(stop_timeout_s=1.0))
    names = ["slow", *(f"chart {number}" for number in range(10))]
    charts = {
        name: make_active_object(name, **arguments, on_peers_changed=note(name))[0]
        for name in names
    }
    other, _ = make_active_object("other", **{**arguments, "addresses": []})
    with running(*charts.values(), peers=1), running(other):
        wait_until(lambda: sorted(told) == sorted(names))
        searches = [one for one in threading.enumerate() if one.name == "miros discovery"]
        assert len(searches) == 2, "one for all that look for the same, and one for the other"
        assert (
            charts["slow"].nets.node.membership.scout is charts[names[1]].nets.node.membership.scout
        )
        for one in charts.values():
            assert sources(one)[broker_b.address] is PeerSource.NAMED
        charts["slow"].stop()
        charts[names[1]].transmit(Event(signal="NUMBER"))
        assert charts[names[1]].nets.flush(scaled(25))
        may_return.set()
    wait_until(
        lambda: not [one for one in threading.enumerate() if one.name.startswith("miros discovery")]
    )


def test_the_start_with_named_brokers_is_quick(
    broker_a: LocalBroker, broker_b: LocalBroker
) -> None:
    took = []
    for _ in range(5):
        chart, _ = make_active_object("chart", **arguments_for(broker_a, broker_b, key=KEY))
        began = time.monotonic()
        with running(chart):
            took.append(time.monotonic() - began)
    assert min(took) < scaled(1.2)


def test_a_round_under_way_does_not_hold_up_the_stop(broker_a: LocalBroker) -> None:
    took_s = []
    with socket.create_server(("127.0.0.8", 0), backlog=8) as silent:
        # It accepts connections and sends nothing: the probe would wait for 1.5 s, each time.
        named = [f"127.0.0.8:{silent.getsockname()[1]}"]
        arguments = {**arguments_for(broker_a, key=KEY), "addresses": named, "start_timeout": 0.1}
        for _ in range(3):
            chart, _ = make_active_object("chart", **arguments)
            with running(chart):
                began_s = time.monotonic()
                chart.nets.node.membership.stop()
                took_s.append(time.monotonic() - began_s)
    assert min(took_s) < 1
