"""A membership at work: which brokers it probes, what it tells its node, what it announces."""

from __future__ import annotations

import logging
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from miros_rabbitmq.discovery import announced as announced_module
from miros_rabbitmq.discovery import lan as lan_module
from miros_rabbitmq.discovery import lookout as lookout_module
from miros_rabbitmq.discovery import own_name as own_name_module
from miros_rabbitmq.discovery import scout as scout_module
from miros_rabbitmq.discovery.hosts_file import HOSTS_FILE_NAME
from miros_rabbitmq.discovery.interfaces import Interfaces, interface_of
from miros_rabbitmq.discovery.membership import Membership
from miros_rabbitmq.discovery.outcome import ProbeOutcome
from miros_rabbitmq.discovery.roster import PeersChanged, PeerSource, PeerState
from miros_rabbitmq.discovery.search import Search
from miros_rabbitmq.discovery.sweep import SweepResult
from miros_rabbitmq.resolve import Target
from miros_rabbitmq.urls import Address
from miros_rabbitmq.wire.notice import Notice, NoticeKind, announced_broker
from tests.helpers import scaled, wait_until

from .nodes import LIMITS, LOGIN, ONE, OWN, TWO, Node, Probes


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(lookout_module, "LOOK_INTERVAL_S", 0.02)
    return tmp_path


@pytest.fixture(autouse=True)
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """Stands in for the name server: the addresses of each name that there is."""
    known: dict[str, list[str]] = {}

    def look_up(address: Address, on_done: Callable[[list[Target] | OSError], object]) -> None:
        ips = known.get(address.host)
        if ips is None:
            on_done(OSError("no such name"))
        else:
            on_done([Target(socket.AF_INET, ip, address.port) for ip in ips])

    monkeypatch.setattr(own_name_module, "look_up", look_up)
    return known


@pytest.fixture
def probes(monkeypatch: pytest.MonkeyPatch) -> Probes:
    probes = Probes()
    monkeypatch.setattr(scout_module, "probe_all", probes)
    return probes


@pytest.fixture
def node() -> Node:
    return Node()


Making = Callable[..., Membership]


@pytest.fixture
def made(node: Node) -> Iterator[Making]:
    """Makes memberships, and stops them."""
    all_made: list[Membership] = []

    def make(
        *,
        rabbit_host: str | None = OWN.host,
        addresses: tuple[str, ...] | None = (),
        on_change: Callable[[PeersChanged], object] | None = None,
        rescan_interval_s: float = 600.0,
        forget_after_s: float = LIMITS.forget_after_s,
        most_announced: int = LIMITS.most_announced,
        tls: ssl.SSLContext | None = None,
    ) -> Membership:
        search = Search(
            login=LOGIN,
            port=5672,
            rabbit_host=rabbit_host,
            addresses=addresses,
            rescan_interval_s=rescan_interval_s,
            cache_valid_s=0.0,
            stop_timeout_s=scaled(5),
            tls=tls,
            limits=replace(LIMITS, forget_after_s=forget_after_s, most_announced=most_announced),
        )
        all_made.append(Membership(search, "chart", node, on_change))
        return all_made[-1]

    yield make
    for one in all_made:
        one.stop()


def started(membership: Membership) -> Membership:
    membership.start()
    assert membership.wait_for_first_round(scaled(20))
    return membership


# ---- what its node hears


def test_the_node_is_told_of_each_broker_that_works(
    made: Making, node: Node, probes: Probes
) -> None:
    probes.outcomes[TWO] = ProbeOutcome.ACCESS_REFUSED
    membership = started(made(addresses=(ONE.host, TWO.host)))
    assert probes.asked == [OWN, ONE, TWO]
    assert node.members == [ONE]
    assert node.urls == [LOGIN.url(ONE, tls=False)]
    assert [peer.address for peer in membership.peers()] == [OWN, ONE, TWO]


@pytest.mark.usefixtures("probes")
def test_a_host_that_leaves_the_hosts_file_is_taken_from_the_node(
    made: Making, node: Node, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    hosts_file = folder / HOSTS_FILE_NAME
    hosts_file.write_text('{"hosts": ["10.0.0.2"]}')
    changes: list[PeersChanged] = []
    started(made(on_change=changes.append))
    assert node.members == [ONE]
    hosts_file.write_text('{"hosts": []}')
    wait_until(lambda: len(changes) == 2, 20, "the second change")
    assert node.members == []
    assert changes == [PeersChanged(added=(ONE,)), PeersChanged(removed=(ONE,))]
    assert f"gave up the broker at {ONE}, and 7 events" in caplog.text


@pytest.mark.usefixtures("probes")
def test_a_host_that_is_none_costs_no_other_and_shows_no_password(
    made: Making, node: Node, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    odd = '"robot\u2100.lan", "127.1", "amqp://user:p%2Fword@10.0.0.9"'
    (folder / HOSTS_FILE_NAME).write_text(f'{{"hosts": [{odd}, "10.0.0.3"]}}', encoding="utf-8")
    started(made(addresses=(ONE.host,)))
    assert node.members == [ONE, TWO]
    assert "U+2100 (ACCOUNT OF) cannot be in a host's name" in caplog.text
    assert "p%2Fword" not in caplog.text
    assert LOGIN.password not in caplog.text


def test_a_broker_is_one_member_in_whatever_spelling_it_is_named(
    made: Making, node: Node, probes: Probes, folder: Path
) -> None:
    (folder / HOSTS_FILE_NAME).write_text('{"hosts": ["robot-b.", "ROBOT-B:5672"]}')
    membership = started(made(addresses=("Robot-B", "Robot-A", "0::1"), rabbit_host="Robot-A."))
    announced = announced_broker(Notice(NoticeKind.BROKER, b"robot-b:5672"))
    assert announced is not None
    membership.hear(announced)
    own, other, sixth = Address("robot-a"), Address("robot-b"), Address("::1")
    assert probes.asked == [own, other, sixth]
    assert node.members == [other, sixth]
    assert [url.address for url in node.urls] == [other, sixth]
    assert [peer.address for peer in membership.peers()] == [own, other, sixth]


def test_what_was_reported_of_a_broker_is_forgotten_with_it(
    made: Making, probes: Probes, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Others may announce ever new brokers; so nothing is kept of those that are gone."""
    hosts = folder / HOSTS_FILE_NAME
    probes.outcomes[ONE] = ProbeOutcome.ACCESS_REFUSED
    started(made())

    def refused_again(times: int) -> None:
        hosts.write_text('{"hosts": ["10.0.0.2"]}')
        wait_until(lambda: caplog.text.count("refuses the user") == times)
        asked = len(probes.asked)
        hosts.write_text('{"hosts": ["10.0.0.3"]}')
        wait_until(lambda: len(probes.asked) > asked)

    refused_again(times=1)
    refused_again(times=2)


@pytest.mark.usefixtures("probes")
def test_what_the_callback_raises_is_logged_and_stops_nothing(
    made: Making, node: Node, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: PeersChanged) -> None:
        raise ValueError("a mistake of the user's")

    membership = started(made(addresses=(ONE.host,), on_change=fail))
    assert "a mistake of the user's" in caplog.text
    membership.hear(TWO)
    wait_until(lambda: node.members == [ONE, TWO], 20, "the second member")


@pytest.mark.usefixtures("probes")
def test_it_can_be_stopped_and_started_again(made: Making, node: Node) -> None:
    membership = started(made(addresses=(ONE.host,)))
    membership.stop()
    membership.stop()
    assert not [one for one in threading.enumerate() if one.name.startswith("miros discovery")]
    started(membership)
    assert node.members == [ONE, ONE], "a node that starts again begins with its own broker alone"


@pytest.mark.usefixtures("probes")
def test_a_working_directory_that_was_removed_is_one_without_files(
    made: Making, node: Node, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = folder / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    started(made(addresses=(ONE.host,)))
    assert node.members == [ONE]


# ---- what others announce


@pytest.mark.usefixtures("probes")
def test_a_broker_that_is_announced_is_probed_and_joins(made: Making, node: Node) -> None:
    membership = started(made())
    membership.hear(ONE)
    wait_until(lambda: node.members == [ONE], 20, "the member")
    (peer,) = membership.peers()[1:]
    assert (peer.address, peer.source) == (ONE, PeerSource.HEARD)


def test_a_broker_that_is_announced_still_and_cannot_be_used_is_told_once_with_the_reason(
    made: Making,
    probes: Probes,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    probes.outcomes[ONE] = ProbeOutcome.TIMED_OUT
    membership = started(made(rescan_interval_s=0.05))
    membership.hear(ONE)
    membership.hear(ONE)
    wait_until(lambda: probes.asked.count(ONE) > 2, 20)
    assert not caplog.records, "it may have just moved"
    monkeypatch.setattr(announced_module, "_UNDER_WAY_S", 0.0)
    membership.hear(ONE)
    wait_until(lambda: caplog.records, 20)
    count = probes.asked.count(ONE)
    wait_until(lambda: probes.asked.count(ONE) > count + 1, 20)
    membership.stop()
    (line,) = [one.getMessage() for one in caplog.records if one.levelno == logging.WARNING]
    assert f"gets none: its own broker is {ONE}, and no answer from {ONE}" in line


def test_a_loopback_that_another_machine_announces_is_not_probed_and_told_once(
    made: Making, probes: Probes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    membership = started(made())
    for host in ("localhost", "127.0.0.1", "ip6-localhost", "::1", "robot.localhost"):
        membership.hear(Address(host))
    membership.stop()
    assert probes.asked == [OWN]
    assert caplog.text.count("leave out rabbit_host= there") == 1


STRANGE = [
    Address("203.0.113.7"),
    Address("169.254.169.254"),
    Address("10.0.0.2", 22),
    Address("10.0.0.2", 6379),
    Address("kitchen.example"),
    Address("2001:db8::7"),
    Address("10.0.0.255"),
]


def test_a_place_where_no_honest_broker_is_is_not_probed_and_said_once_with_the_remedy(
    made: Making,
    probes: Probes,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caplog.set_level(logging.INFO)
    interface = interface_of("eth0", OWN.host, "255.255.255.0")
    assert interface is not None
    monkeypatch.setattr(lan_module, "read_interfaces", lambda: Interfaces((interface,)))
    membership = started(made(most_announced=64))
    for _ in range(3):
        for address in STRANGE:
            membership.hear(address)
    membership.hear(TWO, (Address("kitchen.example"), Address("127.0.0.1", 22)))
    wait_until(lambda: TWO in probes.asked, 20)
    membership.stop()
    assert probes.asked == [OWN, TWO]
    said = [one.message for one in caplog.records if one.levelno == logging.WARNING]
    assert len(said) == len(STRANGE)
    for address, line in zip(STRANGE, said, strict=True):
        assert f"announces its broker as {address}, which is not used: " in line
        assert "name it with addresses= or in the hosts file" in line


@pytest.mark.usefixtures("probes")
def test_what_the_user_names_may_be_anywhere_and_be_announced(
    made: Making, node: Node, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    named = [*STRANGE[:2], Address("10.0.0.77", 6379)]
    in_file = Address("kitchen.example", 5673)
    (folder / HOSTS_FILE_NAME).write_text(f'{{"hosts": ["{in_file}"]}}')
    membership = started(made(addresses=tuple(map(str, named)), most_announced=64))
    for address in (*named, in_file):
        membership.hear(address)
    assert node.members == [*named, in_file]
    # A port at which the user knows a broker may be that of another one, too.
    membership.hear(Address("10.0.0.9", 5673))
    wait_until(lambda: Address("10.0.0.9", 5673) in node.members, 20)
    assert "not used" not in caplog.text


def test_what_an_announced_name_leads_to_is_judged_when_it_is_asked(
    made: Making, probes: Probes
) -> None:
    name, named = Address("kitchen.example", 5671), Address("attic.example", 5671)
    context = ssl.create_default_context()
    membership = made(rabbit_host="10.0.0.1:5671", addresses=(str(named),), tls=context)
    started(membership).hear(name)
    wait_until(lambda: name in probes.asked, 20)
    may_connect = probes.may_connect
    assert may_connect is not None
    assert may_connect(name, "10.0.0.9")
    for ip in ("127.0.0.1", "::1", "0.0.0.1", "169.254.169.254", "203.0.113.7", "224.0.0.1"):
        assert not may_connect(name, ip)
        assert may_connect(named, ip), "the user's own word"


def test_dead_hosts_that_are_announced_keep_no_working_broker_out(
    made: Making, node: Node, probes: Probes, caplog: pytest.LogCaptureFixture
) -> None:
    dead = [Address(f"10.1.{number // 250}.{number % 250 + 1}") for number in range(10_000)]
    probes.outcomes.update(dict.fromkeys(dead, ProbeOutcome.TIMED_OUT))
    membership = started(made())
    for number, address in enumerate(dead):
        membership.hear(address, (), str(number).encode())
    membership.hear(ONE, (), b"honest")
    wait_until(lambda: node.members == [ONE], 20, "the honest one")
    assert len(probes.asked) < 200, "few were probed"
    (said,) = [one for one in caplog.messages if "Limits.unknown_peers" in one][:1]
    assert "announced brokers before they could be asked: more than 1 at a time" in said


def test_brokers_for_which_there_is_no_place_are_shown_and_said_once(
    made: Making, node: Node, probes: Probes, caplog: pytest.LogCaptureFixture
) -> None:
    membership = started(made())
    membership.hear(ONE, (), b"one")
    wait_until(lambda: node.members == [ONE], 20)
    membership.hear(TWO, (), b"two")
    wait_until(lambda: "left out" in caplog.text, 20)
    assert {peer.address: peer.state for peer in membership.peers()}[TWO] is PeerState.WAITING
    wait_until(lambda: probes.asked.count(OWN) >= 1)
    said = [one for one in caplog.messages if "left out" in one]
    assert len(said) == 1
    assert "1 brokers announced by a node are left out, although they accept our login" in said[0]
    assert "places for 1 (Limits.unknown_peers)" in said[0]
    assert node.members == [ONE]


def test_before_the_start_nothing_is_heard_or_announced(made: Making) -> None:
    membership = made()
    membership.hear(ONE)
    assert membership.peers() == ()
    assert membership.to_announce is None


# ---- what it announces


@pytest.mark.usefixtures("probes")
@pytest.mark.parametrize("host", ["10.0.0.1", "127.0.0.2"])
def test_a_configured_broker_is_announced(made: Making, host: str) -> None:
    assert started(made(rabbit_host=host)).to_announce == Address(host)


@pytest.mark.usefixtures("probes")
@pytest.mark.parametrize(
    ("name", "address", "announced"),
    [("lo", "127.0.0.1", None), ("eth0", "10.0.0.1", OWN)],
    ids=["a loopback alone", "an address on a LAN"],
)
def test_a_loopback_that_nobody_configured_is_not_announced(
    made: Making,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    address: str,
    announced: Address | None,
) -> None:
    interface = interface_of(name, address, "255.255.255.0")
    assert interface is not None
    monkeypatch.setattr(lan_module, "read_interfaces", lambda: Interfaces((interface,)))
    assert started(made(rabbit_host=None)).to_announce == announced


@pytest.mark.usefixtures("probes")
def test_a_broker_that_is_given_by_name_is_announced_by_the_address_that_it_has(
    made: Making, names: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others take no names, unless a certificate proves them."""
    interface = interface_of("eth0", "10.0.0.5", "255.255.255.0")
    assert interface is not None
    monkeypatch.setattr(lan_module, "read_interfaces", lambda: Interfaces((interface,)))
    monkeypatch.setattr(own_name_module, "LOOK_FOR_FIRST_S", 0.01)
    monkeypatch.setattr(own_name_module, "LOOK_S", 0.01)
    membership = started(made(rabbit_host="kitchen.example"))

    def is_announced(host: str) -> bool:
        return membership.to_announce == Address(host)

    assert membership.to_announce is None, "nobody knows it yet"
    for ips, announced in (
        (["10.0.0.9"], "10.0.0.9"),
        (["203.0.113.7", "10.0.0.8"], "10.0.0.8"),
        (["127.0.1.1"], "10.0.0.5"),
    ):
        names["kitchen.example"] = ips
        wait_until(partial(is_announced, announced), 20)
    del names["kitchen.example"]
    assert membership.to_announce == Address("10.0.0.5"), "what was known last"
    proving = made(rabbit_host="kitchen.example", tls=ssl.create_default_context())
    assert started(proving).to_announce == Address("kitchen.example")
    assert started(made(rabbit_host="localhost")).to_announce == Address("localhost")


# ---- brokers of others that move


def test_what_waits_for_a_broker_follows_it_to_the_address_that_it_announces(
    made: Making, node: Node, probes: Probes
) -> None:
    changes: list[PeersChanged] = []
    membership = started(made(addresses=(str(ONE),), on_change=changes.append))
    assert node.members == [ONE]
    probes.outcomes[ONE] = ProbeOutcome.TIMED_OUT
    membership.hear(TWO, (ONE,))
    wait_until(lambda: node.moves == [(ONE, TWO)], 20)
    wait_until(lambda: len(changes) == 2, 20)
    assert changes[1] == PeersChanged(added=(TWO,), removed=(ONE,))
    assert node.members == [ONE], "it is told of nothing else"
    states = {peer.address: peer.state for peer in membership.peers()}
    assert states[ONE] is PeerState.UNUSABLE


def test_a_broker_that_joined_before_it_is_known_where_it_was_gets_what_waits_there(
    made: Making, node: Node, probes: Probes
) -> None:
    membership = started(made(addresses=(str(ONE),)))
    probes.outcomes[ONE] = ProbeOutcome.TIMED_OUT
    membership.hear(TWO)
    wait_until(lambda: node.members == [ONE, TWO], 20)
    membership.hear(TWO, (ONE,))
    wait_until(lambda: node.moves == [(ONE, TWO)], 20)


@pytest.mark.usefixtures("probes")
def test_a_broker_that_answers_still_keeps_what_waits_for_it_whatever_others_announce(
    made: Making, node: Node
) -> None:
    membership = started(made(addresses=(str(ONE),)))
    membership.hear(TWO, (ONE, OWN))
    wait_until(lambda: node.members == [ONE, TWO], 20)
    assert node.moves == []


def test_former_addresses_are_asked_all_at_once(made: Making, node: Node, probes: Probes) -> None:
    """One after the other, those of 64 brokers took up to 23 minutes, if nothing answered."""
    former = tuple(Address(f"10.0.0.{number}") for number in range(10, 18))
    membership = started(made(addresses=tuple(map(str, former)), most_announced=64))
    probes.outcomes.update(dict.fromkeys(former[:4], ProbeOutcome.TIMED_OUT))
    membership.hear(TWO, former)
    wait_until(lambda: len(node.moves) == 4, 20)
    assert set(node.moves) == {(one, TWO) for one in former[:4]}
    assert frozenset(former) in probes.rounds
    # Whoever takes what has just been given away gets nothing.
    membership.hear(ONE, former)
    wait_until(lambda: ONE in node.members, 20)
    assert len(node.moves) == 4


# ---- brokers that are connected, and confirm nothing


@pytest.mark.usefixtures("probes")
def test_a_broker_that_confirms_nothing_is_given_up_though_a_probe_of_it_would_work(
    made: Making, node: Node
) -> None:
    node.stalled = {TWO}
    started(made(addresses=(str(TWO),), rescan_interval_s=0.05, forget_after_s=0.5))
    wait_until(lambda: TWO in node.members)
    wait_until(lambda: TWO not in node.members)
    # It is tried again when it is not connected any more.
    node.stalled = set()
    wait_until(lambda: TWO in node.members)


# ---- the address of this machine


class Place:
    """Where the machine is, as its interfaces tell."""

    def __init__(self) -> None:
        self.interfaces = Interfaces(())

    def be_at(self, *addresses: str, name: str = "eth0") -> None:
        made = [interface_of(name, address, "255.255.255.0") for address in addresses]
        self.interfaces = Interfaces(tuple(one for one in made if one is not None))

    def read(self) -> Interfaces:
        return self.interfaces


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Place:
    place = Place()
    monkeypatch.setattr(lan_module, "read_interfaces", place.read)
    return place


def test_a_new_address_of_this_machine_is_the_own_one_everywhere(
    made: Making, node: Node, probes: Probes, place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    place.be_at(OWN.host)
    changes: list[PeersChanged] = []
    membership = started(made(rabbit_host=None, on_change=changes.append))
    assert membership.own_url.address == OWN
    place.be_at(ONE.host)
    wait_until(lambda: ONE in probes.asked and node.own == [(ONE, True)], scaled(5))
    assert membership.own_url == LOGIN.url(ONE, tls=False)
    assert membership.to_announce == ONE
    assert membership.left == (OWN,)
    assert membership.lan.this.address == ONE.host
    assert [(peer.address, peer.source) for peer in membership.peers()] == [(ONE, PeerSource.OWN)]
    assert (node.members, changes) == ([], []), "it is no news of others"
    lines = [one.getMessage() for one in caplog.records if OWN.host in one.getMessage()]
    assert lines == [
        f"miros discovery: the address of this machine is now {ONE.host} (eth0), and was "
        f"{OWN.host}: its broker is used there"
    ]


@pytest.mark.usefixtures("probes")
def test_an_address_that_comes_after_the_start_is_announced(
    made: Making, node: Node, place: Place
) -> None:
    membership = started(made(rabbit_host=None))
    assert membership.to_announce is None
    place.be_at(OWN.host)
    wait_until(lambda: membership.to_announce == OWN, scaled(5))
    wait_until(lambda: node.own == [(OWN, False)])


def test_an_address_at_which_no_broker_answers_is_not_used_while_the_former_one_is_there(
    made: Making, node: Node, probes: Probes, place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    membership = started(made(rabbit_host=None))
    probes.outcomes[OWN] = ProbeOutcome.REFUSED
    place.be_at(OWN.host)
    wait_until(lambda: probes.asked.count(OWN) > 3, scaled(5))
    assert node.own == []
    assert membership.own_url.address == Address("127.0.0.1")
    assert caplog.text.count("no broker answers there: the one at 127.0.0.1 is still used") == 1
    probes.outcomes[OWN] = ProbeOutcome.ACCESS_REFUSED
    wait_until(lambda: node.own == [(OWN, False)], scaled(5))


@pytest.mark.usefixtures("probes")
def test_a_configured_broker_stays_where_it_is(made: Making, node: Node, place: Place) -> None:
    place.be_at(OWN.host)
    membership = started(made(rabbit_host=OWN.host))
    place.be_at(ONE.host)
    membership.hear(TWO)
    wait_until(lambda: node.members == [TWO], scaled(5))
    assert (membership.own_url.address, node.own) == (OWN, [])


def test_a_sweep_takes_no_address_of_this_machine_for_another_broker(
    made: Making, node: Node, probes: Probes, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        lan_module, "sweep", lambda *_, **__: SweepResult([ONE.host, TWO.host], 0.1)
    )
    place.be_at(OWN.host, ONE.host)
    started(made(rabbit_host=None, addresses=None))
    assert node.members == [TWO]
    assert ONE not in probes.asked
