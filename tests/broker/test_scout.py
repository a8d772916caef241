"""The scout against real RabbitMQ nodes, and against servers that are not RabbitMQ."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import re
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from pika import spec

from miros_rabbitmq.broker.local_broker import LocalBroker
from miros_rabbitmq.discovery.outcome import ProbeOutcome, ProbeResult
from miros_rabbitmq.discovery.probe import ProbeLimits, probe_all, probe_one
from miros_rabbitmq.discovery.scout import RabbitScout
from miros_rabbitmq.discovery.search import Login
from miros_rabbitmq.exceptions import (
    AccessRefused,
    BrokerUnreachable,
    ClosedByBroker,
    UnknownHost,
    VhostNotFound,
)
from miros_rabbitmq.urls import Address, AmqpUrl, amqp_url

from ..amqp import HEARTBEAT, method, start_with
from ..helpers import PATIENT_PROBE, scaled, wait_until
from .fakes import Fakes, closed_port

HOST = "127.0.0.4"
PASSWORD = "p4ss w0rd/unseen"
QUICK = ProbeLimits(answer_timeout_s=0.3)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for this module's broker, signed by itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a broker of a test")])
    now = datetime.datetime.now(datetime.timezone.utc)
    alternative = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.IPv4Address(HOST))])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(alternative, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    folder = tmp_path_factory.mktemp("certificate")
    (folder / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return folder / "cert.pem", folder / "key.pem"


@pytest.fixture(scope="module")
def tls_address() -> Address:
    return closed_port(HOST)


@pytest.fixture(scope="module")
def broker(certificate: tuple[Path, Path], tls_address: Address) -> Iterator[LocalBroker]:
    """A node for this module only, whose tests may harm it; it also listens for TLS."""
    config = {
        "listeners.ssl.1": str(tls_address),
        "ssl_options.certfile": str(certificate[0]),
        "ssl_options.keyfile": str(certificate[1]),
        "ssl_options.verify": "verify_none",
    }
    with LocalBroker(
        HOST, user="scout", password=PASSWORD, vhosts=("/", "factory floor"), config=config
    ) as started:
        yield started


@pytest.fixture
def fakes() -> Iterator[Fakes]:
    with Fakes().running() as running:
        yield running


def ask(address: Address, limits: ProbeLimits = PATIENT_PROBE) -> ProbeResult:
    (result,) = probe_all([address], Login("robot", PASSWORD), limits=limits)
    return result


def written_since(log: Path, length: int) -> str:
    return log.read_text(encoding="utf-8", errors="replace")[length:]


# ---- real brokers


def test_a_probe_of_a_working_broker_closes_its_connection_politely(broker: LocalBroker) -> None:
    length = len(broker.log_path.read_text(encoding="utf-8", errors="replace"))
    result = probe_one(broker.url("factory floor"), limits=PATIENT_PROBE)
    assert result.outcome is ProbeOutcome.CONNECTED
    assert re.fullmatch(r"RabbitMQ \d+\.\d+\.\d+.*", result.detail)
    wait_until(lambda: "closing AMQP connection" in written_since(broker.log_path, length))
    _, _, said = written_since(broker.log_path, length).partition("accepting AMQP connection")
    assert "[warning]" not in said
    assert "[error]" not in said


def test_two_brokers_are_found_and_told_apart(broker: LocalBroker, broker_b: LocalBroker) -> None:
    broker_b.ctl("add_user", broker.user, stdin=PASSWORD)
    try:
        broker_b.ctl("set_permissions", broker.user, ".*", ".*", ".*")
        nobody = closed_port()
        scout = RabbitScout(
            broker.user,
            PASSWORD,
            addresses=[str(broker_b.address), str(broker.address), str(nobody)],
            rabbit_host=broker.host,
            rabbit_port=broker.port,
        )
        assert scout.addresses == [str(broker.address), str(broker_b.address)]
        assert scout.this.address == str(broker.address)
        assert scout.other.addresses == [str(broker_b.address)]
        assert scout.urls == [scout.this.url, *scout.other.urls]
        assert scout.report[nobody].outcome is ProbeOutcome.REFUSED
        for url in scout.urls:
            probe_one(url, limits=PATIENT_PROBE)
    finally:
        broker_b.ctl("delete_user", broker.user)


@pytest.mark.parametrize(
    ("url", "error", "outcome"),
    [
        (
            lambda b: amqp_url(b.user, "wrong", b.address),
            AccessRefused,
            ProbeOutcome.ACCESS_REFUSED,
        ),
        (
            lambda b: amqp_url("nobody", b.password, b.address),
            AccessRefused,
            ProbeOutcome.ACCESS_REFUSED,
        ),
        (lambda b: b.url("no such place"), VhostNotFound, ProbeOutcome.NO_SUCH_VHOST),
    ],
    ids=["wrong password", "unknown user", "unknown vhost"],
)
def test_a_broker_that_refuses_says_why_at_once(
    broker: LocalBroker,
    url: Callable[[LocalBroker], AmqpUrl],
    error: type[Exception],
    outcome: ProbeOutcome,
) -> None:
    started = time.monotonic()
    with pytest.raises(error) as caught:
        probe_one(url(broker), limits=PATIENT_PROBE)
    assert time.monotonic() - started < scaled(5)
    assert str(broker.address) in str(caught.value)
    assert "rabbitmqctl" in str(caught.value)
    for secret in ("wrong", broker.password):
        assert secret not in str(caught.value)


def test_a_vhost_without_permission_counts_as_missing(broker: LocalBroker) -> None:
    broker.ctl("add_user", "stranger", stdin=PASSWORD)
    with pytest.raises(VhostNotFound, match="set_permissions -p / stranger"):
        probe_one(amqp_url("stranger", PASSWORD, broker.address), limits=PATIENT_PROBE)


def test_a_vhost_at_its_connection_limit_is_not_a_wrong_setting(broker: LocalBroker) -> None:
    broker.ctl("set_vhost_limits", "-p", "factory floor", '{"max-connections": 0}')
    try:
        with pytest.raises(ClosedByBroker, match="clear_vhost_limits -p 'factory floor'"):
            probe_one(broker.url("factory floor"), limits=PATIENT_PROBE)
    finally:
        broker.ctl("clear_vhost_limits", "-p", "factory floor")


def test_a_broker_in_memory_alarm_still_counts_as_working(broker: LocalBroker) -> None:
    broker.ctl("set_vm_memory_high_watermark", "0.000001")
    try:
        assert "memory" in broker.ctl("eval", "rabbit_alarm:get_alarms().")
        assert probe_one(broker.url(), limits=PATIENT_PROBE).connected
    finally:
        broker.ctl("set_vm_memory_high_watermark", "0.4")


def test_a_paused_broker_times_out_and_a_resumed_one_works(broker: LocalBroker) -> None:
    broker.pause()
    try:
        with pytest.raises(BrokerUnreachable, match="does not answer"):
            probe_one(broker.url(), limits=QUICK)
    finally:
        broker.resume()
    assert probe_one(broker.url(), limits=PATIENT_PROBE).connected


# ---- TLS


@pytest.fixture(scope="module")
def trusting(certificate: tuple[Path, Path]) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(certificate[0]))


def test_a_broker_is_reached_over_tls(
    broker: LocalBroker, tls_address: Address, trusting: ssl.SSLContext
) -> None:
    scout = RabbitScout(
        broker.user,
        broker.password,
        addresses=[],
        rabbit_host=HOST,
        rabbit_port=tls_address.port,
        tls=trusting,
    )
    (url,) = scout.urls
    assert url == scout.this.url
    assert url.startswith("amqps://")
    assert probe_one(url, tls=trusting, limits=PATIENT_PROBE).connected


def test_a_certificate_that_is_not_trusted_gets_no_password(
    broker: LocalBroker, tls_address: Address
) -> None:
    url = amqp_url(broker.user, broker.password, tls_address, tls=True)
    with pytest.raises(BrokerUnreachable, match="certificate"):
        probe_one(url, limits=PATIENT_PROBE)


def test_tls_to_a_port_without_it_and_the_other_way_round_are_reported(
    broker: LocalBroker, tls_address: Address, trusting: ssl.SSLContext
) -> None:
    login = Login(broker.user, broker.password)
    (result,) = probe_all([broker.address], login, tls=trusting, limits=PATIENT_PROBE)
    assert result.outcome is ProbeOutcome.TLS_FAILED
    (result,) = probe_all([tls_address], login, limits=PATIENT_PROBE)
    assert result.outcome is ProbeOutcome.TLS_FAILED
    assert "give tls=" in result.detail


def test_a_silent_host_costs_tls_its_timeout_only(fakes: Fakes, trusting: ssl.SSLContext) -> None:
    login = Login("robot", PASSWORD)
    started = time.monotonic()
    (result,) = probe_all(
        [fakes.silent()], login, tls=trusting, limits=ProbeLimits(connect_timeout_s=0.3)
    )
    assert result.outcome is ProbeOutcome.TLS_FAILED
    assert time.monotonic() - started < scaled(3)


# ---- servers that are not RabbitMQ


def test_a_closed_port_is_refused(fakes: Fakes) -> None:
    assert ask(closed_port()).outcome is ProbeOutcome.REFUSED


def test_a_silent_host_times_out_after_its_timeout(fakes: Fakes) -> None:
    result = ask(fakes.silent(), QUICK)
    assert result.outcome is ProbeOutcome.TIMED_OUT
    assert 0.25 < result.duration_s < scaled(3)


NOT_RABBITMQ = {
    "a web server": b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n",
    "a mail server": b"220 mail.example ESMTP\r\n",
    "AMQP 1.0": b"AMQP\x00\x01\x00\x00",
    "another AMQP broker": start_with(product="LavinMQ"),
    "no product": method(spec.Connection.Start(server_properties={}, mechanisms="PLAIN")),
    "Start of the wrong length": start_with()[:-1] + b"\x00",
    "Start of an unknown version": method(spec.Connection.Start(9, 9, {"product": "rabbitmq"})),
    "another method first": method(spec.Connection.Tune()),
    "an unknown method": struct.pack(">BHLL", 1, 0, 4, 0x00FF00FF) + b"\xce",
    "an empty method": struct.pack(">BHL", 1, 0, 0) + b"\xce",
    "a huge frame": struct.pack(">BHL", 1, 0, 0xFFFFFFF0),
    "a frame of another channel": struct.pack(">BHL", 1, 7, 4) + b"abcd\xce",
    "a content frame": struct.pack(">BHL", 3, 0, 4) + b"abcd\xce",
    "tables in tables": struct.pack(">BHLLBBL", 1, 0, 14_011, 0x000A000A, 0, 9, 14_000)
    + b"\x01aF\x00\x00\x36\x00" * 2_000
    + b"\x00\xce",
    "one byte": b"\x01",
}


@pytest.mark.parametrize("data", NOT_RABBITMQ.values(), ids=NOT_RABBITMQ.keys())
def test_what_is_not_rabbitmq_is_called_so_and_gets_no_credentials(
    fakes: Fakes, data: bytes
) -> None:
    result = ask(fakes.sending(data, hang_up=len(data) == 1))
    assert result.outcome is ProbeOutcome.NOT_RABBITMQ, result
    assert result.detail
    assert bytes(fakes.received) == b"AMQP\x00\x00\x09\x01"


def test_a_start_that_ends_too_soon_is_not_waited_for_longer_than_its_timeout(fakes: Fakes) -> None:
    half = start_with()[:40]
    assert ask(fakes.sending(half), QUICK).outcome is ProbeOutcome.TIMED_OUT
    assert ask(fakes.sending(half, hang_up=True)).outcome is ProbeOutcome.NOT_RABBITMQ
    assert PASSWORD.encode() not in fakes.received


def test_a_host_that_accepts_and_hangs_up_is_not_rabbitmq(fakes: Fakes) -> None:
    assert ask(fakes.sending(b"", hang_up=True)).outcome is ProbeOutcome.NOT_RABBITMQ


def test_a_broker_that_takes_no_passwords_is_sent_none(fakes: Fakes) -> None:
    result = ask(fakes.sending(start_with(mechanisms="EXTERNAL")))
    assert result.outcome is ProbeOutcome.ACCESS_REFUSED
    assert "EXTERNAL" in result.detail
    assert PASSWORD.encode() not in fakes.received


@pytest.mark.parametrize("begins", [b"", start_with()], ids=["at once", "after its start"])
def test_an_endless_stream_of_heartbeats_is_no_answer(fakes: Fakes, begins: bytes) -> None:
    async def handler(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(begins)
        while True:
            writer.write(HEARTBEAT)
            await asyncio.sleep(0.01)

    result = ask(fakes.listen(handler))
    assert result.outcome is ProbeOutcome.NOT_RABBITMQ
    assert "heartbeats come" in result.detail


def test_a_broker_that_hangs_up_on_the_credentials_refuses_access(fakes: Fakes) -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(8)
        writer.write(start_with())
        await reader.read(4096)

    assert ask(fakes.listen(handler)).outcome is ProbeOutcome.ACCESS_REFUSED


def test_a_password_that_comes_back_in_an_answer_is_not_shown(fakes: Fakes) -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(8)
        writer.write(start_with())
        await reader.read(4096)
        writer.write(method(spec.Connection.Close(403, f"\x1b[2Jnot {PASSWORD}", 0, 0)))
        await reader.read(4096)

    result = ask(fakes.listen(handler))
    assert result.outcome is ProbeOutcome.ACCESS_REFUSED
    assert result.detail == "[2Jnot ***"
    assert "p4ss" not in repr(result)


def test_an_answer_out_of_turn_ends_the_probe(fakes: Fakes) -> None:
    assert ask(fakes.sending(start_with() * 2)).outcome is ProbeOutcome.CLOSED


# ---- many at once


def test_fifty_tarpits_cost_one_timeout_together(broker: LocalBroker, fakes: Fakes) -> None:
    port = fakes.silent("127.0.9.1").port
    tarpits = [f"127.0.9.1:{port}"]
    tarpits += [str(fakes.silent(f"127.0.9.{number}", port)) for number in range(2, 51)]
    closed = [f"127.0.9.{number}:{port}" for number in range(51, 254)]
    scout = RabbitScout(
        broker.user,
        broker.password,
        addresses=[*tarpits, *closed],
        rabbit_host=broker.host,
        rabbit_port=broker.port,
    )
    started = time.monotonic()
    assert scout.urls == [broker.url()]
    assert time.monotonic() - started < scaled(15), "one after the other, it is 75 s"
    counts = scout.report.counts()
    assert counts[ProbeOutcome.TIMED_OUT] == 50
    assert counts[ProbeOutcome.REFUSED] == 203
    assert len(str(scout.report).splitlines()) == 254 + 3


def test_no_more_connections_are_open_at_once_than_allowed(fakes: Fakes) -> None:
    now_open = 0
    most = 0

    async def handler(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        nonlocal now_open, most
        now_open += 1
        most = max(most, now_open)
        await reader.read(8)
        await reader.read(8)
        now_open -= 1

    addresses = [fakes.listen(handler, f"127.0.9.{number}") for number in range(1, 13)]
    limits = ProbeLimits(answer_timeout_s=0.5, parallelism=4)
    results = probe_all(addresses, Login("robot", PASSWORD), limits=limits)
    assert [result.address for result in results] == addresses
    assert 1 <= most < 12  # the server may not have noticed yet that some were closed


def test_a_scout_may_be_used_in_a_thread_that_runs_an_event_loop(broker: LocalBroker) -> None:
    async def within() -> bool:
        return probe_one(broker.url(), limits=PATIENT_PROBE).connected

    assert asyncio.run(within())


# ---- names


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Replace the answers of this machine's name server during the test."""
    known: dict[str, str] = {}

    def look_up(host: str, port: int, **_: object) -> list[object]:
        if host not in known:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (known[host], port))]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return known


def test_a_name_is_resolved_anew_at_every_probe(broker: LocalBroker, names: dict[str, str]) -> None:
    scout = RabbitScout(
        broker.user, broker.password, addresses=[], rabbit_host="robot", rabbit_port=broker.port
    )
    assert scout.report[f"robot:{broker.port}"].outcome is ProbeOutcome.UNKNOWN_HOST
    names["robot"] = "127.0.9.77"
    assert scout.probe().rows[0].outcome is ProbeOutcome.REFUSED
    names["robot"] = broker.host
    assert scout.probe().rows[0].outcome is ProbeOutcome.CONNECTED
    assert scout.urls == [scout.this.url]


def test_an_unknown_name_affects_only_its_own_candidate(
    broker: LocalBroker, names: dict[str, str]
) -> None:
    scout = RabbitScout(
        broker.user,
        broker.password,
        addresses=["no-such-robot"],
        rabbit_host=broker.host,
        rabbit_port=broker.port,
    )
    assert scout.addresses == [str(broker.address)]
    lost = scout.report[f"no-such-robot:{broker.port}"]
    assert lost.outcome is ProbeOutcome.UNKNOWN_HOST
    with pytest.raises(UnknownHost, match="no-such-robot"):
        lost.raise_for_outcome()


def test_a_name_for_the_own_broker_does_not_count_twice(
    broker: LocalBroker, names: dict[str, str]
) -> None:
    names["robot"] = broker.host
    scout = RabbitScout(
        broker.user,
        broker.password,
        addresses=["robot"],
        rabbit_host=broker.host,
        rabbit_port=broker.port,
    )
    assert scout.urls == [scout.this.url]
    assert scout.report[f"robot:{broker.port}"].outcome is ProbeOutcome.DUPLICATE


def test_a_name_server_that_does_not_answer_holds_up_nobody(
    broker: LocalBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = threading.Event()

    def look_up(host: str, port: int, **_: object) -> list[object]:
        answer.wait(20)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    limits = ProbeLimits(resolve_timeout_s=0.3)
    started = time.monotonic()
    try:
        slow, quick = probe_all(
            [Address("robot", broker.port), broker.address],
            Login(broker.user, broker.password),
            limits=limits,
        )
    finally:
        answer.set()
    assert time.monotonic() - started < scaled(10), "and not until there is an answer"
    assert slow.outcome is ProbeOutcome.UNKNOWN_HOST
    assert quick.outcome is ProbeOutcome.CONNECTED


# ---- last, because it kills this module's broker


def test_a_broker_that_was_killed_is_refused(broker: LocalBroker) -> None:
    broker.kill()
    with pytest.raises(BrokerUnreachable, match="nothing listens"):
        probe_one(broker.url(), limits=PATIENT_PROBE)
