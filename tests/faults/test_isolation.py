"""One sick broker, link, caller or thread holds up no other connection of the process."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import pickle
import re
import resource
import secrets
import signal
import socket
import ssl
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from cryptography.fernet import Fernet
from miros import Event

from bench.roles.costs import VhostUrl
from miros_rabbitmq import Limits, LocalBroker, NetworkedActiveObject
from miros_rabbitmq.amqp import io_choice
from miros_rabbitmq.amqp.link import Link, Role
from miros_rabbitmq.amqp.parameters import Endpoint
from miros_rabbitmq.amqp.reactor import READ, Reactor
from miros_rabbitmq.amqp.sender import Sender, Traffic
from miros_rabbitmq.logs import write_all
from miros_rabbitmq.urls import Address, AmqpUrl, amqp_url
from miros_rabbitmq.wire.sealer import Heading
from miros_rabbitmq.wire.sealer import Record as WireRecord

from ..broker.certificates import make
from ..broker.charts import Record, arguments_for, listening, make_active_object, running
from ..broker.fakes import Fakes, closed_port
from ..helpers import scaled, wait_until
from .ledger import Ledger
from .system import Booked, Talker

LONG_S = 30.0

STOP_S = 2.0

EACH_IO = pytest.mark.parametrize("io", ["native", "plain"], indirect=True)


@pytest.fixture
def io(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The I/O of all connections."""
    monkeypatch.setenv(io_choice.VARIABLE, request.param)
    io_choice.forget_choice()
    assert io_choice.io_name() == request.param
    yield request.param
    monkeypatch.undo()
    io_choice.forget_choice()


@pytest.fixture(scope="module")
def vhosts(broker_a: LocalBroker) -> list[VhostUrl]:
    """Virtual hosts of one node, each of which counts as a broker."""
    urls = []
    for number in range(8):
        name = f"isolated-{number}"
        broker_a.ctl("add_vhost", name)
        broker_a.ctl("set_permissions", "-p", name, broker_a.user, ".*", ".*", ".*")
        urls.append(VhostUrl(broker_a.url(name)))
    return urls


class Bad(NamedTuple):
    """Brokers of which none answers."""

    dead: list[Address]
    """Nothing listens."""
    silent: list[Address]
    """They accept, and never say a word."""
    nameless: list[Address]
    """The look-up of their names never ends."""

    @property
    def all(self) -> list[Address]:
        return [*self.dead, *self.silent, *self.nameless]


@pytest.fixture
def bad(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bad]:
    is_over = threading.Event()
    real = socket.getaddrinfo
    names = [f"hangs-{number}-{secrets.token_hex(4)}.example" for number in range(5)]

    def getaddrinfo(host: Any, *arguments: Any, **options: Any) -> Any:
        if host in names:
            is_over.wait(120)
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return real(host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    with Fakes().running() as fakes:
        silent = [fakes.silent() for _ in range(5)]
        yield Bad([closed_port() for _ in range(30)], silent, [Address(one) for one in names])
    is_over.set()


class Timed(Record):
    """Notes when a chart has handled each number."""

    def __init__(self) -> None:
        super().__init__()
        self.at_s: dict[int, float] = {}

    def note(self, event: Event) -> None:
        if event.signal_name == "NUMBER":
            self.at_s[event.payload] = time.perf_counter()


class Figures(NamedTuple):
    """Of transmit until handled, in seconds."""

    median_s: float
    p99_s: float
    transmit_s: float
    """The slowest `transmit` itself."""

    def __str__(self) -> str:
        return (
            f"median {self.median_s * 1e3:.2f} ms, p99 {self.p99_s * 1e3:.2f} ms, slowest transmit "
            f"{self.transmit_s * 1e3:.2f} ms"
        )


def measure(sender: NetworkedActiveObject, heard: Timed, count: int = 500) -> Figures:
    """Transmit at leisure, for longer than two heartbeats."""
    heard.at_s.clear()
    sent_s, took_s = [], []
    for number in range(count):
        time.sleep(0.005)
        began_s = time.perf_counter()
        sender.transmit(Event(signal="NUMBER", payload=number))
        sent_s.append(began_s)
        took_s.append(time.perf_counter() - began_s)
    wait_until(lambda: len(heard.at_s) == count, 20)
    delays = [heard.at_s[number] - sent_s[number] for number in range(count)]
    return Figures(statistics.median(delays), statistics.quantiles(delays, n=100)[98], max(took_s))


def chart_at(
    name: str, own: LocalBroker, key: bytes, **extras: Any
) -> tuple[NetworkedActiveObject, Timed]:
    arguments = arguments_for(own, key=key)
    arguments.update(extras)
    chart, _ = make_active_object(name, **arguments)
    chart.record = heard = Timed()
    return chart, heard


def threads(prefix: str) -> list[str]:
    return [one.name for one in threading.enumerate() if one.name.startswith(prefix)]


@EACH_IO
def test_forty_bad_brokers_are_not_felt_by_ten_good_ones(
    broker_a: LocalBroker,
    broker_b: LocalBroker,
    vhosts: list[VhostUrl],
    bad: Bad,
    io: str,
    caplog: pytest.LogCaptureFixture,
    record_property: Callable[[str, object], None],
) -> None:
    good = [broker_a.address, broker_b.address, *(url.address for url in vhosts)]
    key = Fernet.generate_key()
    receiver, heard = chart_at("receiver", broker_b, key)

    def start_sender(name: str, more: list[Address]) -> NetworkedActiveObject:
        chart, _ = chart_at(
            name,
            broker_a,
            key,
            addresses=[str(one) for one in (*good[:2], *more)],
            limits=Limits(heartbeat_s=1, connect_timeout_s=1.0, stop_timeout_s=STOP_S),
            start_timeout=scaled(3),
        )
        stack.callback(chart.stop)
        began_s = time.monotonic()
        chart.start_at(listening)
        assert time.monotonic() - began_s < scaled(3) + scaled(10)
        for url in vhosts:
            chart.nets.node.mesh.add_broker(url)
        senders = chart.nets.node.mesh.senders
        for address in good:
            assert senders[address].link.wait_until_ready(scaled(25))
        assert len(senders) == len(good) + len(more)
        return chart

    with running(receiver), ExitStack() as stack:
        sender = start_sender("without", [])
        measure(sender, heard, 100)  # what is done for the first time takes longer
        alone = measure(sender, heard)
        sender.stop()
        sender = start_sender("among", bad.all)
        senders = sender.nets.node.mesh.senders
        links = [senders[one].link for one in bad.all]
        failed: set[Link] = set()
        wait_until(lambda: all_have_failed(links, failed), 20)
        measure(sender, heard, 100)
        among = measure(sender, heard)
        record_property("alone", str(alone))
        record_property("among", str(among))
        print(f"{io}: alone {alone}; among 40 bad ones {among}")
        assert threads("miros publishers") == ["miros publishers"]
        assert threads("miros consumers") == ["miros consumers"]
        assert len(threads("miros-rabbitmq-resolve")) <= len(bad.nameless)
        # A thread that waits for a bad broker waits for a second, or for ever.
        assert among.p99_s < 3 * alone.p99_s + scaled(0.8)
        assert among.transmit_s < 3 * alone.transmit_s + scaled(0.8)
        wait_until(lambda: {senders[one].stats().confirmed for one in good} == {600})
        began_s = time.monotonic()
        sender.stop()
        assert time.monotonic() - began_s < STOP_S + scaled(10)
    wait_until(lambda: not threads("miros publishers") + threads("miros consumers"))
    assert write_all(scaled(25))
    texts = caplog.messages
    # No heartbeat of theirs was missed, by us or by the broker.
    assert not [text for text in texts for one in good if f"at {one}:" in text]
    assert not [text for text in texts if "stood still" in text or "left behind" in text]


def all_have_failed(links: list[Link], failed: set[Link]) -> bool:
    """Whether each has had an attempt that failed; of the next one it is not known yet."""
    failed.update(link for link in links if link.fault is not None)
    return len(failed) == len(links)


# On one reactor, without charts.

HEADING = Heading("a.key", b"")


class Senders:
    """Senders that share one reactor, and end with the test."""

    def __init__(self) -> None:
        self.reactor = Reactor("reactor of the senders")
        self.made: list[Sender] = []

    def make(
        self, url: AmqpUrl, limits: Limits | None = None, tls: ssl.SSLContext | None = None
    ) -> Sender:
        endpoint = Endpoint(url, limits or Limits(heartbeat_s=1), tls)
        sender = Sender(endpoint, Role("sender"), Traffic("isolation.test"), self.reactor)
        self.made.append(sender)
        return sender

    def connect(self, url: AmqpUrl, **extras: Any) -> Sender:
        sender = self.make(url, **extras)
        sender.start()
        assert sender.link.wait_until_ready(scaled(25)), sender.link.fault
        return sender

    def end(self) -> None:
        for sender in self.made:
            sender.stop(0.5)
        for sender in self.made:
            assert sender.link.wait_for_end(LONG_S)
        assert self.reactor.wait_for_end(LONG_S)


@pytest.fixture
def senders() -> Iterator[Senders]:
    senders = Senders()
    yield senders
    senders.end()


def post(sender: Sender, count: int = 20) -> None:
    """Post, and wait for the confirms."""
    for number in range(count):
        assert sender.post_in_order(
            WireRecord(HEADING, b"%d" % number), time.monotonic() + scaled(5)
        )
    assert sender.flush(scaled(25))


def context() -> ssl.SSLContext:
    trusting = ssl.create_default_context()
    trusting.check_hostname = False
    trusting.verify_mode = ssl.CERT_NONE
    return trusting


HALF_A_HANDSHAKE = b"\x16\x03\x03\x10\x00\x02\x00\x0f"
"""The begin of a record of TLS with a "server hello", of which no more comes."""


@pytest.fixture
def tls_server(tmp_path: Path) -> ssl.SSLContext:
    """A context for fakes that shake hands, and then are silent."""
    make("server", "127.0.0.9").write(tmp_path / "server.pem", tmp_path / "server.key")
    served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    served.load_cert_chain(tmp_path / "server.pem", tmp_path / "server.key")
    return served


@EACH_IO
def test_a_tls_handshake_that_stops_half_way_holds_up_nobody(
    broker_a: LocalBroker, senders: Senders, io: str
) -> None:
    good = senders.connect(broker_a.url())
    with Fakes().running() as fakes:
        half = senders.make(
            amqp_url("user", "password", fakes.sending(HALF_A_HANDSHAKE), tls=True),
            Limits(connect_timeout_s=0.5),
            context(),
        )
        half.start()
        deadline_s = time.monotonic() + scaled(20)
        slowest_s = 0.0
        while half.link.fault is None:
            assert time.monotonic() < deadline_s
            began_s = time.monotonic()
            post(good)
            slowest_s = max(slowest_s, time.monotonic() - began_s)
        assert slowest_s < scaled(5)
        half.stop()
        assert half.link.wait_for_end(scaled(25))


def test_the_sockets_of_attempts_that_failed_are_closed_at_once(
    senders: Senders, tls_server: ssl.SSLContext
) -> None:
    """Whatever step of TCP, TLS and AMQP they came to; and without the garbage collector."""
    limits = Limits(
        heartbeat_s=1, connect_timeout_s=0.1, reconnect_min_s=0.01, reconnect_max_s=0.02
    )

    async def hang_up(_reader: Any, writer: Any) -> None:
        writer.close()

    with Fakes().running() as fakes:
        places = [
            (closed_port(), False),
            (fakes.silent(), False),
            (fakes.silent(), True),
            (fakes.sending(HALF_A_HANDSHAKE), True),
            (fakes.sending(b"no TLS at all"), True),
            (fakes.sending(b"AMQP\x00\x00\x09\x01", hang_up=True), False),
            (fakes.listen(hang_up), False),
            (fakes.listen(hang_up, tls=tls_server), True),
            (fakes.listen(lambda reader, _: fakes.keep_listening(reader), tls=tls_server), True),
        ]
        before = own_sockets()
        gc.collect()
        gc.disable()
        try:
            for address, is_tls in places:
                url = amqp_url("user", "password", address, tls=is_tls)
                senders.make(url, limits, context() if is_tls else None).start()
            failures = dict.fromkeys(senders.made, 0)
            faults: dict[Sender, object] = {}

            def have_all_failed_often() -> bool:
                for sender in senders.made:
                    fault = sender.link.fault
                    if fault is not None and fault is not faults.get(sender):
                        faults[sender] = fault
                        failures[sender] += 1
                return min(failures.values()) >= 8

            most = 0
            wait_until(have_all_failed_often, 60)
            for _ in range(50):
                most = max(most, own_sockets() - before)
                time.sleep(0.005)
            # One of each link that tries, and one more that is being closed; a waker and its other
            # end; and as many at the fakes, which are of this process, too.
            assert most <= 2 * (2 * len(places) + 2), most
            for sender in senders.made:
                sender.stop(0.5)
            for sender in senders.made:
                assert sender.link.wait_for_end(LONG_S)
            assert senders.reactor.wait_for_end(LONG_S)
            wait_until(lambda: own_sockets() <= before, 10, lambda: str(own_sockets() - before))
        finally:
            gc.enable()


def test_the_socket_of_a_link_that_stops_while_it_connects_is_closed_at_once(
    senders: Senders,
) -> None:
    with socket.socket() as server, ExitStack() as stack:
        server.bind(("127.0.0.9", 0))
        server.listen(0)  # and nobody accepts
        for _ in range(3):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(server.getsockname())
        before = own_sockets()
        gc.collect()
        gc.disable()
        try:
            sender = senders.make(amqp_url("user", "password", Address(*server.getsockname())))
            sender.start()
            # Its own, and the two ends by which the reactor is woken.
            wait_until(lambda: own_sockets() == before + 3)
            sender.stop()
            assert sender.link.wait_for_end(LONG_S)
            assert senders.reactor.wait_for_end(LONG_S)
            assert own_sockets() == before
        finally:
            gc.enable()


def own_sockets() -> int:
    """How many sockets this process has open."""
    count = 0
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            count += os.readlink(f"/proc/self/fd/{number}").startswith("socket:")
    return count


@EACH_IO
def test_a_caller_that_is_held_up_within_a_link_holds_up_that_link_alone(
    broker_a: LocalBroker, vhosts: list[VhostUrl], senders: Senders, io: str
) -> None:
    victim, good = senders.connect(vhosts[0]), senders.connect(broker_a.url())
    post(victim)
    inside, leave = threading.Event(), threading.Event()

    def be_held_up() -> bool:
        inside.set()
        assert leave.wait(LONG_S)
        return True

    def call() -> None:
        while not victim.link.run_here(be_held_up):  # the reactor may be at work in the lane
            time.sleep(0)

    caller = threading.Thread(target=call)
    caller.start()
    try:
        assert inside.wait(scaled(25))
        victim.enqueue(WireRecord(HEADING, b"waits"))
        victim.attend()  # returns at once
        began_s = time.monotonic()
        while time.monotonic() - began_s < 2.5:  # longer than two heartbeats
            post(good)
            assert good.is_connected
        assert not victim.flush(0.01)
    finally:
        leave.set()
        caller.join()
    assert victim.flush(scaled(25)), "what waited goes as soon as it can, by the same connection"
    assert victim.stats().confirmed == 21


@pytest.mark.parametrize("kind", ["callback", "timer", "handler"])
@EACH_IO
def test_what_is_raised_costs_one_connection_and_no_event(
    broker_a: LocalBroker,
    broker_b: LocalBroker,
    io: str,
    kind: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    key = Fernet.generate_key()
    names = ["first", "second"]
    ledger = Ledger(names)
    charts = []
    for name, own, other in ((names[0], broker_a, broker_b), (names[1], broker_b, broker_a)):
        chart, _ = make_active_object(
            name, **arguments_for(own, other, key=key, limits=Limits(reconnect_min_s=0.02))
        )
        chart.record = Booked(name, ledger)
        charts.append(chart)
    with running(*charts, peers=1), ExitStack() as stack:
        talkers = [Talker(chart, ledger, 0.002) for chart in charts]
        for talker in talkers:
            stack.callback(talker.stop)
            talker.start()
        mesh = charts[0].nets.node.mesh
        assert mesh.receiver is not None
        links = [mesh.senders[broker_b.address].link, mesh.receiver.link]
        others = [one.link for one in charts[1].nets.node.mesh.senders.values()]
        for link in [*links] * 3:
            wait_until_all_hear(ledger)
            with losses_noted(monkeypatch, [*links, *others]) as losses:
                fail_within(link, kind)
                wait_until(partial(has_come_back, link, losses), 10)
                wait_until_all_hear(ledger)
                assert losses == [link], "no other connection"
        for talker in talkers:
            talker.stop()
        wait_until(ledger.is_settled, 30)
    verdict = ledger.verdict()
    assert verdict.is_clean, str(verdict)
    assert write_all(scaled(25))
    said = sum("unexpected error" in one.getMessage() for one in caplog.records)
    caplog.clear()  # they are meant
    assert said == 2 * len(links) * 3, "what was raised, and that it cost a connection"


def wait_until_all_hear(ledger: Ledger) -> None:
    """Wait until each of the two has handled some of what the other sends from now on."""
    marks = {name: ledger.accepted(name) for name in ledger.names}
    ways = (ledger.names, ledger.names[::-1])
    wait_until(lambda: all(ledger.reached(a, b) > marks[a] + 20 for a, b in ways), 20)


def has_come_back(link: Link, losses: list[Link]) -> bool:
    return losses == [link] and link.is_connected


@contextmanager
def losses_noted(monkeypatch: pytest.MonkeyPatch, links: list[Link]) -> Iterator[list[Link]]:
    """Which of the links lose their connections."""
    losses: list[Link] = []
    real = Link._lose

    def lose(link: Link, *arguments: Any, **options: Any) -> None:
        if link in links:
            losses.append(link)
        real(link, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Link, "_lose", lose)
        yield losses


def fail_within(link: Link, kind: str) -> None:
    """Raise something within a link that is connected."""

    def fail(*_: object) -> None:
        raise ZeroDivisionError("of a test")

    def break_the_handler() -> None:
        """What the poller calls when there is something to read."""
        assert link._services is not None
        loop = link._services.get_native_ioloop()
        loop._handle = fail
        loop.update_handler(*loop.descriptors, READ)

    if kind == "callback":
        link.call_soon(fail)
    elif kind == "timer":
        link.call_soon(lambda: link.call_later(0.01, fail))
    else:
        link.call_soon(break_the_handler)


# Descriptors.


@contextmanager
def no_descriptors() -> Iterator[None]:
    """No descriptor is to be had."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@EACH_IO
def test_descriptors_run_out_and_come_back(
    broker_a: LocalBroker,
    vhosts: list[VhostUrl],
    senders: Senders,
    io: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG, "miros_rabbitmq")
    limits = Limits(heartbeat_s=1, reconnect_min_s=0.2, reconnect_max_s=0.2)
    kept = senders.connect(broker_a.url(), limits=limits)
    lost = [senders.connect(url, limits=limits) for url in vhosts[:4]]
    write_all(scaled(25))
    caplog.clear()
    with no_descriptors():
        for sender in lost:
            sender.link.give_up_connection()
        wait_until(lambda: not any(sender.is_connected for sender in lost))
        began_s = time.monotonic()
        while (gone_s := time.monotonic() - began_s) < 2.0:
            post(kept, 2)
            time.sleep(0.05)
            assert not any(sender.is_connected for sender in lost)
    for sender in lost:
        assert sender.link.wait_until_ready(scaled(25))
        post(sender)
    assert write_all(scaled(25))
    lines = [one.getMessage() for one in caplog.records if one.levelno > logging.DEBUG]
    attempts = sum(bool(re.search("(trying|tried) again", text)) for text in caplog.messages)
    caplog.clear()  # the loss of each "by an unexpected error" is meant
    assert len(lines) <= 4 * len(lost), "\n".join(lines[:50])
    # Each waits for 0.1 s at the least.
    assert attempts <= len(lost) * (gone_s / 0.1 + 2)


def test_a_link_that_is_started_without_descriptors_connects_when_there_are_some(
    broker_a: LocalBroker, senders: Senders, caplog: pytest.LogCaptureFixture
) -> None:
    sender = senders.make(
        broker_a.url(), Limits(reconnect_min_s=0.01, reconnect_max_s=0.05, connect_timeout_s=1.0)
    )
    with no_descriptors():
        sender.start()
        wait_until(lambda: sender.link.fault is not None)
        time.sleep(1.0)
    assert sender.link.wait_until_ready(scaled(25)), sender.link.fault
    post(sender)
    assert write_all(scaled(25))
    assert len(caplog.records) < 6


# A thread that is stuck, and a process that is stopped.


def test_a_stop_is_bounded_and_says_which_thread_is_stuck(
    broker_a: LocalBroker, broker_b: LocalBroker, caplog: pytest.LogCaptureFixture
) -> None:
    key = Fernet.generate_key()
    limits = Limits(stop_timeout_s=STOP_S)
    chart, _ = make_active_object(
        "stuck", **arguments_for(broker_a, broker_b, key=key, limits=limits)
    )
    leave, stands = threading.Event(), threading.Event()

    def stand_still() -> None:
        stands.set()
        assert leave.wait(LONG_S)

    with running(chart, peers=1):
        try:
            link = chart.nets.node.mesh.senders[broker_b.address].link
            link.call_soon(stand_still)
            assert stands.wait(scaled(25))
            chart.transmit(Event(signal="NUMBER", payload=1))  # does not wait for it
            began_s = time.monotonic()
            chart.stop()
            assert time.monotonic() - began_s < STOP_S + scaled(10)
            assert write_all(scaled(25))
            said = [text for text in caplog.messages if "left behind" in text]
            assert any("miros publishers" in text and link.name in text for text in said)
        finally:
            leave.set()
    wait_until(lambda: not threads("miros publishers"))


@contextmanager
def steady_program(broker: LocalBroker) -> Iterator[subprocess.Popen[str]]:
    """A process with a chart that transmits steadily, and logs to its output."""
    arguments = arguments_for(
        broker,
        key=Fernet.generate_key(),
        limits=Limits(heartbeat_s=3),
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.faults.programs", "steady"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with process:
        assert process.stdin is not None
        try:
            process.stdin.write(pickle.dumps(arguments).hex() + "\n")
            process.stdin.flush()
            yield process
        finally:
            process.send_signal(signal.SIGCONT)
            if process.poll() is None:
                process.kill()


def test_a_machine_that_was_asleep_takes_no_broker_for_silent(
    fragile_brokers: tuple[LocalBroker, LocalBroker],
) -> None:
    """Its broker has slept, too: what it was asked before, it answers a little later."""
    broker = fragile_brokers[0]
    if not broker.is_running:
        broker.restart(scaled(60))
    with steady_program(broker) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "talks\n"
        for _ in range(4):
            time.sleep(0.5)
            broker.pause()
            try:
                # Long enough that something is asked; and far less than a silence of 2.9 s.
                time.sleep(0.9)
                process.send_signal(signal.SIGSTOP)
                time.sleep(4)
                process.send_signal(signal.SIGCONT)
                time.sleep(0.1)
            finally:
                broker.resume()
        time.sleep(1.0)
        output, _ = process.communicate("\n", timeout=scaled(25))
        assert process.returncode == 0
    assert "ends\n" in output
    # The broker may have cut the connection, as it heard nothing: that is another line.
    assert "went silent" not in output, output
