"""Nodes of one process that look for the same brokers: what they share, and what they do not."""

from __future__ import annotations

import gc
import logging
import os
import ssl
import threading
import time
import weakref
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from miros_rabbitmq.discovery import lan as lan_module
from miros_rabbitmq.discovery import lookout as lookout_module
from miros_rabbitmq.discovery import rounds as rounds_module
from miros_rabbitmq.discovery import scout as scout_module
from miros_rabbitmq.discovery.interfaces import Interfaces, interface_of
from miros_rabbitmq.discovery.lan import LocalAreaNetwork
from miros_rabbitmq.discovery.lookout import Lookout
from miros_rabbitmq.discovery.membership import Membership
from miros_rabbitmq.discovery.outcome import ProbeOutcome
from miros_rabbitmq.discovery.places import Evidence
from miros_rabbitmq.discovery.roster import PeersChanged
from miros_rabbitmq.discovery.scout import RabbitScout
from miros_rabbitmq.discovery.search import Login, Search
from miros_rabbitmq.discovery.subscriber import Subscriber
from miros_rabbitmq.discovery.sweep import SweepResult
from miros_rabbitmq.exceptions import OutOfResources
from miros_rabbitmq.logs import MustNotWait
from miros_rabbitmq.urls import Address, AmqpUrl
from tests.helpers import end_child, scaled, wait_until

from .nodes import LIMITS, LOGIN, ONE, OWN, TWO, Node, Probes

SEARCH = Search(
    login=LOGIN,
    port=5672,
    rabbit_host=OWN.host,
    addresses=(ONE.host,),
    rescan_interval_s=600.0,
    cache_valid_s=0.0,
    stop_timeout_s=scaled(20),
    limits=LIMITS,
)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(lookout_module, "LOOK_INTERVAL_S", 0.02)
    return tmp_path


@pytest.fixture(autouse=True)
def probes(monkeypatch: pytest.MonkeyPatch) -> Probes:
    probes = Probes()
    monkeypatch.setattr(scout_module, "probe_all", probes)
    return probes


class Chart:
    """A membership, and the node that follows it."""

    def __init__(self, search: Search, name: str, node: Node | None = None) -> None:
        self.node = node or Node()
        self.changes: list[PeersChanged] = []
        self.membership = Membership(search, name, self.node, self.changes.append)

    def start(self) -> None:
        self.membership.find_own()
        self.membership.start()
        assert self.membership.wait_for_first_round(scaled(20))

    def stop(self) -> None:
        self.membership.stop()


Making = Callable[..., Chart]


@pytest.fixture
def made() -> Iterator[Making]:
    """Makes charts that have not started, and stops them."""
    charts: list[Chart] = []

    def make(search: Search = SEARCH, node: Node | None = None) -> Chart:
        charts.append(Chart(search, f"chart {len(charts)}", node))
        return charts[-1]

    yield make
    for one in charts:
        one.stop()
    wait_until(lambda: not searching())


def searching() -> list[threading.Thread]:
    """The threads of all lookouts."""
    return [one for one in threading.enumerate() if one.name == lookout_module.NAME]


# ---- what is shared


def test_nodes_that_look_for_the_same_share_a_thread_a_search_and_the_result(
    made: Making, probes: Probes
) -> None:
    first, second = made(), made(replace(SEARCH, stop_timeout_s=1.0))
    first.start()
    second.start()
    assert len(searching()) == 1
    assert probes.asked == [OWN, ONE], "each was asked once"
    assert first.node.members == second.node.members == [ONE]
    assert first.changes == second.changes == [PeersChanged(added=(ONE,))]
    assert first.membership.peers() == second.membership.peers()
    assert first.membership.scout is second.membership.scout
    first.membership.hear(TWO)
    wait_until(lambda: first.node.members == second.node.members == [ONE, TWO])
    assert first.membership.is_announced(TWO)
    assert second.membership.is_announced(TWO)


CONTEXT = ssl.create_default_context()

DIFFERENCES: dict[str, dict[str, Any]] = {
    "user": {"login": Login("other", LOGIN.password, LOGIN.vhost)},
    "password": {"login": Login(LOGIN.user, "other", LOGIN.vhost)},
    "virtual host": {"login": Login(LOGIN.user, LOGIN.password, "other")},
    "port": {"port": 5673},
    "TLS": {"tls": CONTEXT},
    "own broker": {"rabbit_host": TWO.host},
    "addresses": {"addresses": (ONE.host, TWO.host)},
    "interface": {"interface": "eth0"},
    "interval": {"rescan_interval_s": 60.0},
    "cache": {"cache_valid_s": 1.0},
    "limits": {"limits": replace(LIMITS, most_announced=7)},
    "whose announcements count": {"trust": b"another key"},
}


@pytest.mark.parametrize("what", DIFFERENCES)
def test_whoever_differs_in_anything_searches_alone(made: Making, what: str) -> None:
    first, second = made(), made(replace(SEARCH, **DIFFERENCES[what]))
    first.start()
    second.start()
    assert len(searching()) == 2
    first.membership.hear(Address("10.0.0.9"))
    wait_until(lambda: Address("10.0.0.9") in first.node.members)
    assert not second.membership.is_announced(Address("10.0.0.9"))
    assert Address("10.0.0.9") not in second.node.members


def test_nodes_of_two_folders_search_apart_as_each_has_a_hosts_file(
    made: Making, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = made(), made()
    first.start()
    (folder / "other").mkdir()
    monkeypatch.chdir(folder / "other")
    second.start()
    assert len(searching()) == 2


def test_it_ends_with_the_last_and_the_next_begins_anew(made: Making, probes: Probes) -> None:
    first, second, third = made(), made(), made()
    first.start()
    second.start()
    (thread,) = searching()
    first.stop()
    first.stop()
    assert searching() == [thread]
    second.membership.hear(TWO)
    wait_until(lambda: second.node.members == [ONE, TWO])
    assert first.node.members == [ONE], "it follows no longer"
    second.stop()
    assert not thread.is_alive()
    third.start()
    assert probes.asked == [OWN, ONE, TWO, OWN, ONE]
    assert third.node.members == [ONE]


def test_neither_login_nor_certificates_are_kept_when_the_last_has_gone(probes: Probes) -> None:
    context = ssl.create_default_context()
    search = replace(SEARCH, tls=context)
    charts = [Chart(search, "one"), Chart(search, "two")]
    for one in charts:
        one.start()
    kept = weakref.ref(context)
    for one in charts:
        one.stop()
    del context, search, charts, one
    probes.may_connect = None  # of the search
    wait_until(lambda: gc.collect() is not None and kept() is None)


def test_a_node_that_comes_long_after_a_search_has_another_soon_and_does_not_wait_for_it(
    made: Making, probes: Probes, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, third = made(), made(), made()
    probes.outcomes[TWO] = ProbeOutcome.ACCESS_REFUSED
    first.start()
    second.start()
    monkeypatch.setattr(rounds_module, "FRESH_S", 0.0)
    asked = len(probes.asked)
    third.start()
    assert third.node.members == [ONE]
    wait_until(lambda: len(probes.asked) > asked)


@pytest.mark.parametrize("interval_s", [600.0, 0.0])
def test_a_node_that_comes_soon_after_a_search_has_another_a_little_later(
    made: Making, probes: Probes, monkeypatch: pytest.MonkeyPatch, interval_s: float
) -> None:
    """What works since the last round would be unknown to it for long, or for ever."""
    search = replace(SEARCH, rescan_interval_s=interval_s)
    monkeypatch.setattr(rounds_module, "FRESH_S", 1.0)
    first, second, third = made(search), made(search), made(search)
    probes.outcomes[ONE] = ProbeOutcome.ACCESS_REFUSED
    began_s = time.monotonic()
    first.start()
    probes.outcomes.clear()
    second.start()
    third.start()
    wait_until(lambda: second.node.members == third.node.members == [ONE])
    assert time.monotonic() - began_s >= 1.0
    assert probes.asked.count(ONE) == 2, "one round for both"


# ---- a node whose keys change

OTHER_KEYS = replace(SEARCH, trust=b"other keys")


def test_a_node_with_other_keys_hears_of_brokers_alone_and_gives_none_up(
    made: Making, probes: Probes
) -> None:
    first, second = made(), made()
    first.start()
    second.start()
    first.membership.hear(TWO)
    wait_until(lambda: first.node.members == second.node.members == [ONE, TWO])
    first.membership.use(OTHER_KEYS, at_once=True)
    assert len(searching()) == 2
    assert first.membership.wait_for_first_round(scaled(20))
    assert first.membership.is_announced(TWO)
    third = Address("10.0.0.9")
    probes.outcomes[TWO] = ProbeOutcome.ACCESS_REFUSED
    second.membership.hear(third)
    wait_until(lambda: second.membership.is_announced(third))
    assert not first.membership.is_announced(third)
    assert first.node.members == [ONE, TWO]
    assert first.changes == [PeersChanged(added=(ONE,)), PeersChanged(added=(TWO,))]
    second.stop()
    assert len(searching()) == 1
    first.stop()
    assert not searching()


def test_nodes_whose_keys_change_one_after_the_other_search_together_again(
    made: Making, probes: Probes
) -> None:
    charts = [made(), made(), made()]
    for one in charts:
        one.start()
    charts[0].membership.hear(TWO)
    wait_until(lambda: all(one.node.members == [ONE, TWO] for one in charts))
    for one in charts:
        one.membership.use(OTHER_KEYS, at_once=True)
    wait_until(lambda: len(searching()) == 1)
    newcomer = made(OTHER_KEYS)
    newcomer.start()
    assert len(searching()) == 1
    assert newcomer.node.members == [ONE, TWO]
    assert all(one.node.members == [ONE, TWO] for one in charts)


def test_a_node_whose_keys_change_joins_nobody_who_knows_less(made: Making) -> None:
    first, newcomer = made(), made(OTHER_KEYS)
    first.start()
    newcomer.start()
    first.membership.hear(TWO)
    wait_until(lambda: first.node.members == [ONE, TWO])
    first.membership.use(OTHER_KEYS, at_once=True)
    assert first.membership.wait_for_first_round(scaled(20))
    assert first.node.members == [ONE, TWO]
    assert newcomer.node.members == [ONE]
    first.membership.hear(Address("10.0.0.9"))
    wait_until(lambda: first.membership.is_announced(Address("10.0.0.9")))


def test_keys_that_change_before_the_start_or_in_a_stop_count_from_the_next_start_on(
    made: Making,
) -> None:
    first, second = made(), made()
    first.membership.use(OTHER_KEYS, at_once=True)
    first.start()
    second.start()
    assert len(searching()) == 2
    first.membership.use(SEARCH, at_once=False)
    assert len(searching()) == 2
    first.stop()
    first.start()
    assert len(searching()) == 1


def test_a_node_for_which_no_thread_can_be_started_goes_on_as_before(
    made: Making, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = made(), made()
    first.start()
    second.start()

    def fail(_: Lookout) -> None:
        raise OutOfResources("threads", "no thread can be started")

    with monkeypatch.context() as patched:
        patched.setattr(Lookout, "start", fail)
        with pytest.raises(OutOfResources):
            first.membership.use(OTHER_KEYS, at_once=True)
    first.membership.hear(TWO)
    wait_until(lambda: first.node.members == second.node.members == [ONE, TWO])
    first.stop()
    first.start()
    assert len(searching()) == 2


# ---- what the nodes tell


def test_what_one_node_reaches_is_not_probed_until_that_node_has_gone(
    made: Making, probes: Probes
) -> None:
    search = replace(SEARCH, rescan_interval_s=0.02)
    first, second = made(search), made(search)
    first.start()
    second.start()
    first.node.stalled = {ONE}
    wait_until(lambda: frozenset({OWN}) in probes.rounds)
    probes.rounds.clear()
    wait_until(lambda: len(probes.rounds) > 5)
    assert frozenset({OWN, ONE}) not in probes.rounds[1:]
    first.stop()
    wait_until(lambda: frozenset({OWN, ONE}) in probes.rounds)


class Failing(Node):
    """A node that can tell nothing, and follows nothing."""

    def added(self, url: AmqpUrl) -> None:
        raise ValueError("added")

    def connected(self) -> Collection[Address]:
        if searching() and threading.current_thread() in searching():
            raise ValueError("connected")
        return ()

    def reached(self) -> Collection[Address]:
        raise ValueError("reached")

    def evidence(self) -> Mapping[Address, Evidence]:
        raise ValueError("evidence")


def test_a_node_that_fails_costs_no_other(made: Making, caplog: pytest.LogCaptureFixture) -> None:
    failing, well = made(node=Failing()), made()
    failing.start()
    well.start()
    failing.membership.hear(TWO)
    wait_until(lambda: well.node.members == [ONE, TWO])
    for what in ("added", "connected", "reached", "evidence"):
        assert f"ValueError: {what}" in caplog.text


class Starved(Node):
    """A node for which something is short at first."""

    def __init__(self) -> None:
        super().__init__()
        self.attempts = 0

    def added(self, url: AmqpUrl) -> None:
        self.attempts += 1
        if self.attempts < 3:
            raise OutOfResources("threads", "no thread can be started")
        super().added(url)


def test_a_node_that_could_not_follow_for_a_shortage_follows_later(made: Making) -> None:
    starved, well = made(node=Starved()), made()
    starved.start()
    well.start()
    wait_until(lambda: starved.node.members == [ONE])
    wait_until(lambda: starved.changes == [PeersChanged(added=(ONE,))])
    assert well.node.members == [ONE]


class Slow(Node):
    """A node that follows when it is let, and asks its membership meanwhile."""

    def __init__(self) -> None:
        super().__init__()
        self.called, self.may = threading.Event(), threading.Event()
        self.on_call: Callable[[], object] = int

    def added(self, url: AmqpUrl) -> None:
        self.called.set()
        self.on_call()
        assert self.may.wait(scaled(20))
        super().added(url)


def test_a_slow_node_holds_up_no_other_and_gets_all_at_once_later(made: Making) -> None:
    slow = Slow()
    held, well = made(node=slow), made()
    held.membership.find_own()
    held.membership.start()
    assert slow.called.wait(scaled(20))
    well.start()
    assert well.node.members == [ONE]
    for number in range(10, 30):
        well.membership.hear(Address(f"10.0.0.{number}"), (), str(number).encode())
    wait_until(lambda: len(well.node.members) > 1)
    slow.may.set()
    wait_until(lambda: slow.members == well.node.members)
    assert len(held.changes) <= 2, "what it has missed is one change"


def test_a_node_that_is_called_may_ask_others_as_no_lock_is_held(made: Making) -> None:
    slow = Slow()
    held, well = made(node=slow), made()
    well.start()
    answers: list[object] = []

    def ask_elsewhere() -> None:
        asking = threading.Thread(target=lambda: answers.append(held.membership.peers()))
        asking.start()
        asking.join(scaled(20))
        well.membership.hear(TWO)
        well.stop()

    slow.on_call = ask_elsewhere
    slow.may.set()
    held.start()
    assert answers


def test_a_node_that_ends_while_it_is_called_waits_for_that_and_follows_nothing_more(
    made: Making,
) -> None:
    slow = Slow()
    held, well = made(node=slow), made()
    well.start()
    held.membership.find_own()
    held.membership.start()
    assert slow.called.wait(scaled(20))
    held.membership.hear(TWO)
    wait_until(lambda: TWO in well.node.members)
    threading.Timer(0.05, slow.may.set).start()
    held.stop()
    assert slow.may.is_set()
    assert slow.members == [ONE]
    assert held.changes == []


def test_a_stuck_node_is_left_behind_in_time(made: Making) -> None:
    slow = Slow()
    held = made(replace(SEARCH, stop_timeout_s=0.2), slow)
    held.membership.find_own()
    held.membership.start()
    assert slow.called.wait(scaled(20))
    held.stop()
    assert not slow.may.is_set()
    slow.may.set()


class Blocking(Subscriber):
    """A subscriber that is shown the members for as long as the test likes."""

    def __init__(self) -> None:
        super().__init__("blocking", SEARCH, OWN, Node())
        self.is_shown, self.may_return = threading.Event(), threading.Event()

    def show(self, *_: object) -> None:
        self.is_shown.set()
        assert self.may_return.wait(scaled(20))


def test_an_announcement_waits_for_nobody(folder: Path) -> None:
    """The reactors that hear it carry the events of their charts."""
    lan = LocalAreaNetwork(SEARCH.addresses, rabbit_host=OWN.host)
    scout = RabbitScout("user", "password", addresses=[], rabbit_host=OWN.host)
    lookout = Lookout(SEARCH, folder, None, SEARCH.url(OWN), lan, scout)
    node, blocking = Node(), Blocking()
    subscriber = Subscriber("chart", SEARCH, OWN, node)
    lookout.subscribe(subscriber)
    lookout.start()
    assert lookout.wait_for_first_round(scaled(20))
    newcomer = threading.Thread(target=lambda: lookout.subscribe(blocking))
    newcomer.start()
    assert blocking.is_shown.wait(scaled(20))
    lookout.hear(TWO, (), b"")
    blocking.may_return.set()
    newcomer.join(scaled(20))
    lookout.unsubscribe(blocking)
    wait_until(lambda: node.members == [ONE, TWO])
    assert not lookout.unsubscribe(subscriber)
    lookout.ask_to_end()
    assert lookout.wait_for_end(scaled(20))


class Handler(logging.Handler):
    """Writes a line when it may."""

    def __init__(self) -> None:
        super().__init__()
        self.may_write = threading.Event()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        assert self.may_write.wait(scaled(20))
        self.lines.append(record.getMessage())


@pytest.mark.parametrize(
    ("announced", "said"),
    [("198.51.100.7", "in no private network"), ("127.0.0.1", "leads to no other machine")],
)
def test_an_announcement_that_is_refused_waits_for_no_handler_of_the_log(
    made: Making, announced: str, said: str
) -> None:
    """The thread that hears it carries the events of all charts of the process."""
    chart = made()
    chart.start()
    handler = Handler()
    package = logging.getLogger("miros_rabbitmq")
    level = package.level
    package.addHandler(handler)
    package.setLevel(logging.INFO)
    try:
        hearing = MustNotWait(target=lambda: chart.membership.hear(Address(announced)))
        hearing.start()
        hearing.join(scaled(5))
        assert not hearing.is_alive()
        handler.may_write.set()
        wait_until(lambda: any(said in line for line in handler.lines))
    finally:
        handler.may_write.set()
        package.removeHandler(handler)
        package.setLevel(level)


# ---- the address of this machine


def test_all_nodes_follow_the_address_of_this_machine_and_a_newcomer_begins_there(
    made: Making, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = [OWN.host]

    def read() -> Interfaces:
        found = interface_of("eth0", here[0], "255.255.255.0")
        assert found is not None
        return Interfaces((found,))

    monkeypatch.setattr(lan_module, "read_interfaces", read)
    search = replace(SEARCH, rabbit_host=None)
    charts = [made(search), made(search)]
    for one in charts:
        one.start()
    # What is found now, before the address changes, is old at the start.
    late = made(search)
    assert late.membership.find_own().address == OWN
    here[0] = TWO.host
    wait_until(lambda: all(one.node.own == [(TWO, True)] for one in charts))
    late.membership.start()
    wait_until(lambda: late.node.own == [(TWO, True)])
    newcomer = made(search)
    newcomer.start()
    assert newcomer.membership.own_url.address == TWO
    assert newcomer.node.own == []
    assert {one.membership.to_announce for one in (*charts, late, newcomer)} == {TWO}


# ---- at the same time


def test_fifty_nodes_that_start_at_once_search_once(made: Making, probes: Probes) -> None:
    charts = [made() for _ in range(50)]
    together = threading.Barrier(len(charts))

    def start(chart: Chart) -> None:
        together.wait(scaled(20))
        chart.start()

    with ThreadPoolExecutor(len(charts)) as pool:
        list(pool.map(start, charts))
        assert all(one.node.members == [ONE] for one in charts)
        assert len(searching()) == 1
        assert probes.asked == [OWN, ONE]
        list(pool.map(Chart.stop, charts))
    assert not searching()


def test_whoever_comes_while_the_last_one_leaves_is_served(made: Making) -> None:
    charts = [made() for _ in range(4)]

    def come_and_go(chart: Chart) -> None:
        for _ in range(50):
            chart.node.members.clear()
            chart.start()
            assert chart.node.members == [ONE]
            chart.stop()

    with ThreadPoolExecutor(len(charts)) as pool:
        list(pool.map(come_and_go, charts))
    assert not searching()


class Sweeps:
    """Sweeps that last until they are stopped, or may end."""

    def __init__(self) -> None:
        self.began, self.may_end = threading.Event(), threading.Event()

    def __call__(self, *_: Any, stop: threading.Event, **__: Any) -> SweepResult:
        self.began.set()
        while not (stop.is_set() or self.may_end.is_set()):
            time.sleep(0.002)
        return SweepResult([TWO.host], 0.1)


@pytest.fixture
def sweeps(monkeypatch: pytest.MonkeyPatch) -> Sweeps:
    sweeps = Sweeps()
    monkeypatch.setattr(lan_module, "sweep", sweeps)
    interface = interface_of("eth0", OWN.host, "255.255.255.0")
    assert interface is not None
    monkeypatch.setattr(lan_module, "read_interfaces", lambda: Interfaces((interface,)))
    return sweeps


LAN = replace(SEARCH, rabbit_host=None, addresses=None)


def test_a_stop_during_a_sweep_breaks_it_off_only_if_nobody_else_waits_for_it(
    made: Making, sweeps: Sweeps
) -> None:
    charts = [made(LAN) for _ in range(3)]
    for one in charts:
        one.membership.find_own()
        one.membership.start()
    assert sweeps.began.wait(scaled(20))
    charts[0].stop()
    (thread,) = searching()
    sweeps.may_end.set()
    assert charts[1].membership.wait_for_first_round(scaled(20))
    assert charts[1].node.members == [TWO]
    assert charts[0].node.members == []
    sweeps.may_end.clear()
    charts[1].stop()
    charts[2].stop()
    assert not thread.is_alive()


def test_the_last_one_that_stops_during_a_sweep_breaks_it_off(made: Making, sweeps: Sweeps) -> None:
    charts = [made(LAN), made(LAN)]
    for one in charts:
        one.membership.find_own()
        one.membership.start()
    assert sweeps.began.wait(scaled(20))
    for one in charts:
        one.stop()
    assert not searching()
    assert charts[0].node.members == charts[1].node.members == []


def test_a_child_that_was_forked_during_a_sweep_searches_for_itself(
    made: Making, sweeps: Sweeps
) -> None:
    chart = made(LAN)
    chart.membership.find_own()
    chart.membership.start()
    assert sweeps.began.wait(scaled(20))
    child = os.fork()
    if child == 0:
        status = 1
        try:
            sweeps.may_end.set()
            own = Chart(LAN, "child's")
            own.start()
            status = 0 if own.node.members == [TWO] and len(searching()) == 1 else 2
            own.stop()
        finally:
            end_child(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert chart.node.members == []
    sweeps.may_end.set()
    assert chart.membership.wait_for_first_round(scaled(20))
    assert chart.node.members == [TWO]
