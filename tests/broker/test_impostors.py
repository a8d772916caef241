"""Impostors on the LAN: they take any password, and do harm to nobody but themselves."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet
from miros import Event

from miros_rabbitmq import Address, Limits, LocalBroker, PeersChanged, PeerSource, PeerState
from miros_rabbitmq.discovery import lan as lan_module
from miros_rabbitmq.discovery import places as places_module
from miros_rabbitmq.discovery import probe
from miros_rabbitmq.discovery.interfaces import Interfaces, interface_of
from miros_rabbitmq.discovery.sweep import SweepResult
from miros_rabbitmq.wire.envelope import Purpose
from miros_rabbitmq.wire.notice import LISTENER_KEY, announce_broker

from ..helpers import scaled, wait_until
from .charts import Chart, make_active_object, running
from .forging import Forger
from .impostors import PULSE_S, Impostors, Manner
from .strangers import attacker

KEY = Fernet.generate_key()

NETWORK = "127.0.0.2", "255.255.255.0"
HOSTS = [f"127.0.0.{number}" for number in range(100, 124)]

FEW = Limits(lan_peers=8, unknown_peers=8, backlog_events=500)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(autouse=True)
def found(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The hosts that a sweep finds. Nothing is sent anywhere."""
    interface = interface_of("wlan0", *NETWORK)
    assert interface is not None
    hosts: list[str] = []
    monkeypatch.setattr(lan_module, "read_interfaces", lambda: Interfaces((interface,)))
    monkeypatch.setattr(lan_module, "sweep", lambda *_, **__: SweepResult(list(hosts), 0.0))
    return hosts


@pytest.fixture(scope="module")
def own(rabbitmq_installed: None) -> Iterator[LocalBroker]:
    with LocalBroker("127.0.0.12", password="rabbit") as broker:
        yield broker


@pytest.fixture(scope="module")
def other(own: LocalBroker) -> Iterator[LocalBroker]:
    # Hosts of a LAN are asked at the port of the own broker.
    with LocalBroker("127.0.0.13", own.port, password="rabbit") as broker:
        yield broker


def chart_at(broker: LocalBroker, name: str, **extras: object) -> tuple[Chart, list[PeersChanged]]:
    changes: list[PeersChanged] = []
    arguments = {
        "rabbit_user": broker.user,
        "rabbit_password": broker.password,
        "mesh_encryption_key": KEY,
        "rabbit_host": broker.host,
        "rabbit_port": broker.port,
        "start_timeout": scaled(10),
        "time_out_in_minutes": 0,
        "on_peers_changed": changes.append,
        "limits": FEW,
        **extras,
    }
    chart, record = make_active_object(name, **arguments)
    chart.record = record
    return chart, changes


@pytest.mark.parametrize("manner", list(Manner), ids=lambda one: one.name.lower())
def test_impostors_alone_hold_up_no_event_and_get_no_more_places_than_there_are(
    manner: Manner, own: LocalBroker, found: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Many more events than a backlog holds go to the own broker meanwhile, and none waits long."""
    caplog.set_level(logging.DEBUG, "miros_rabbitmq")
    found += HOSTS
    count = 8 * FEW.backlog_events
    chart, _ = chart_at(own, "sender")
    witness, _ = chart_at(own, "witness", addresses=[])
    with Impostors(manner, HOSTS, own.port).running() as impostors, running(witness, chart):
        wait_until(lambda: impostors.logins >= len(HOSTS))
        slowest_s = 0.0
        for number in range(count):
            began_s = time.monotonic()
            chart.transmit(Event(signal="NUMBER", payload=number))
            slowest_s = max(slowest_s, time.monotonic() - began_s)
        witness.record.wait_for(count, 60)
        assert witness.record.payloads("NUMBER") == list(range(count))
        assert slowest_s < scaled(4.5), "nobody waits for them"
        # Those that never confirm anything are no brokers that somebody could wait for.
        if manner in (Manner.MUTE, Manner.STAYS, Manner.TAKES, Manner.RETURNS):
            wait_until(lambda: chart.nets.flush(0.5), 30)
        assert len(chart.nets.stats().mesh.brokers) <= 1 + 8
        peers = chart.nets.stats().peers
        if manner is not Manner.HANGS:
            assert sum(peer.state is PeerState.WAITING for peer in peers) >= len(HOSTS) - 8
        said = wait_until(lambda: [one for one in caplog.messages if "Limits.lan_peers" in one])
        assert len(said) == 1
        assert "16 brokers found on the LAN are left out" in said[0]
        assert "places for 8" in said[0]
        began_s = time.monotonic()
        chart.stop()
        assert time.monotonic() - began_s < scaled(FEW.stop_timeout_s + 5)


def test_impostors_that_confirm_now_and_then_hold_up_nobody_either(
    own: LocalBroker, found: list[str]
) -> None:
    """Four seconds of silence are no sickness: a named broker would be waited for."""
    found += HOSTS[:2]
    chart, _ = chart_at(own, "sender")
    witness, _ = chart_at(own, "witness", addresses=[])
    with Impostors(Manner.PULSES, found, own.port).running(), running(witness, chart):
        wait_until(lambda: len(chart.nets.stats().mesh.brokers) == 3)
        chart.transmit(Event(signal="NUMBER", payload=0))
        brokers = chart.nets.stats().mesh.brokers
        wait_until(
            lambda: all(one.confirmed for one in chart.nets.stats().mesh.brokers.values()),
            scaled(20),
            lambda: str(brokers),
        )
        count, slowest_s = 8 * FEW.backlog_events, 0.0
        for number in range(1, count):
            began_s = time.monotonic()
            chart.transmit(Event(signal="NUMBER", payload=number))
            slowest_s = max(slowest_s, time.monotonic() - began_s)
        witness.record.wait_for(count, 60)
        assert slowest_s < 0.9 * PULSE_S
        assert witness.record.payloads("NUMBER") == list(range(count))


@pytest.mark.parametrize("accept", [True, False])
def test_an_honest_broker_is_waited_for_as_soon_as_a_node_announces_it(
    accept: bool, own: LocalBroker, other: LocalBroker, found: list[str]
) -> None:
    found += [other.host, HOSTS[0]]
    here, _ = chart_at(own, "here", accept_unknown_peers=accept)
    there, _ = chart_at(other, "there", addresses=[])
    with Impostors(Manner.TAKES, HOSTS[:1], own.port).running(), running(there, here):

        def senders() -> dict[str, Any]:
            return {at.host: one for at, one in here.nets.node.mesh.senders.items()}

        wait_until(lambda: len(senders()) == 3)
        here.transmit(Event(signal="NUMBER", payload=0))
        wait_until(lambda: not senders()[other.host].is_doubtful, scaled(20))
        assert not senders()[own.host].is_doubtful
        wait_until(lambda: senders()[HOSTS[0]].confirms, scaled(20))
        assert senders()[HOSTS[0]].is_doubtful


@pytest.mark.parametrize("manner", [Manner.MUTE, Manner.STAYS, Manner.TAKES])
def test_an_honest_broker_among_impostors_is_found_in_the_end_and_stays(
    manner: Manner,
    own: LocalBroker,
    other: LocalBroker,
    found: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(places_module, "TRIAL_S", 3.0)
    hosts = HOSTS[: 2 * FEW.lan_peers - 2]
    found += [*hosts, other.host, own.host]
    here, changes = chart_at(own, "here")
    there, _ = chart_at(other, "there", addresses=[])
    with Impostors(manner, hosts, own.port).running(), running(there, here):
        wait_until(lambda: other.address in {one for each in changes for one in each.added}, 120)
        # It has heard of us by that, and announces itself: it is no stranger any more.
        wait_until(lambda: PeerSource.HEARD in sources(there), 20)
        wait_until(lambda: hears_all(there, here, other), 60)


def sources(chart: Chart) -> set[PeerSource]:
    return {peer.source for peer in chart.nets.stats().peers}


def hears_all(there: Chart, here: Chart, broker: LocalBroker) -> bool:
    """Send for longer than turns take; tell whether the other chart, at a broker, hears it all."""
    already, number = len(there.record.payloads("NUMBER")), 0
    until_s = time.monotonic() + 2 * places_module.TRIAL_S + 4
    connection = connection_to(here, broker)
    while time.monotonic() < until_s:
        here.transmit(Event(signal="NUMBER", payload=number))
        number += 1
        time.sleep(0.005)
        if connection is None or connection_to(here, broker) != connection:
            return False
    wait_until(lambda: len(there.record.payloads("NUMBER")) >= already + number, 30)
    assert there.record.payloads("NUMBER")[already:] == list(range(number))
    return True


def connection_to(chart: Chart, broker: LocalBroker) -> str | None:
    """The name of the connection by which a chart publishes to a broker."""
    stats = chart.nets.stats().mesh.brokers.get(str(broker.address))
    return None if stats is None else stats.connection


def test_a_named_broker_needs_no_place(
    own: LocalBroker, other: LocalBroker, found: list[str]
) -> None:
    found += HOSTS
    (Path.cwd() / ".miros_rabbitmq_hosts.json").write_text(f'{{"hosts": ["{other.address}"]}}')
    here, _ = chart_at(own, "here", limits=Limits(lan_peers=1, unknown_peers=1))
    with Impostors(Manner.MUTE, HOSTS, own.port).running(), running(here):
        wait_until(lambda: str(other.address) in here.nets.stats().mesh.brokers)
        assert len(here.nets.stats().mesh.brokers) == 3


@pytest.mark.parametrize("announcers", ["one", "many"])
def test_a_stolen_robot_that_announces_ten_thousand_hosts_keeps_no_honest_one_out(
    announcers: str,
    own: LocalBroker,
    other: LocalBroker,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    asked: list[Address] = []
    probe_all = probe.probe_all

    def counting(addresses: Sequence[Address], *arguments: Any, **keywords: Any) -> Any:
        asked.extend(addresses)
        return probe_all(addresses, *arguments, **keywords)

    monkeypatch.setattr("miros_rabbitmq.discovery.scout.probe_all", counting)
    began_s = time.monotonic()
    listener, _ = chart_at(own, "listener", addresses=[])
    speaker, _ = chart_at(other, "speaker", addresses=[str(own.address)])
    thief = Forger(KEY, LISTENER_KEY, purpose=Purpose.NOTICES)
    with attacker(own, LISTENER_KEY) as send, running(listener):
        for start in range(0, 10_000, 1_000):
            messages = []
            for number in range(start, start + 1_000):
                if announcers == "many":
                    thief = Forger(KEY, LISTENER_KEY, purpose=Purpose.NOTICES)
                dead = Address(f"127.9.{number // 250}.{number % 250 + 1}", 9)
                kind, body = announce_broker(dead)
                messages.append(thief.message(body, number + 1, kind=kind))
            send(*messages)
        with running(speaker, peers=1):
            assert listener.nets.wait_for_peers(1, scaled(25))
            known = listener.nets.stats().peers
            assert [one.source for one in known] == [PeerSource.OWN, PeerSource.HEARD]
            assert known[1].address == other.address
            passed_s = time.monotonic() - began_s
            assert 1 <= sum(one.host.startswith("127.9.") for one in asked) <= 64 + 32 * passed_s
    assert len([one for one in caplog.messages if "127.9." in one]) < 100


def test_impostors_that_are_given_up_leave_together(
    own: LocalBroker, found: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that does not answer takes five seconds to leave, and so do all."""
    monkeypatch.setattr(places_module, "TRIAL_S", 2.0)
    found += HOSTS[:8]
    chart, changes = chart_at(own, "chart")
    with Impostors(Manner.STAYS, HOSTS[:8], own.port).running(), running(chart):
        wait_until(lambda: len(chart.nets.stats().mesh.brokers) == 9)
        for number in range(20):
            chart.transmit(Event(signal="NUMBER", payload=number))
        wait_until(lambda: len(chart.nets.stats().mesh.brokers) == 1, 30)
        wait_until(lambda: sum(len(change.removed) for change in changes) == 8, 20)
        began_s = time.monotonic()
        chart.stop()
        assert time.monotonic() - began_s < scaled(5)
