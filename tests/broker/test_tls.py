"""TLS with a real node that demands certificates of its clients, and with impostors."""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from cryptography.fernet import Fernet
from miros import Event

from miros_rabbitmq import (
    BrokerUnreachable,
    LocalBroker,
    SettingsError,
    SimplePikaTopicPublisher,
    tls_from_environment,
)
from miros_rabbitmq.broker.node_process import free_port
from miros_rabbitmq.discovery.probe import probe_one
from miros_rabbitmq.urls import Address, AmqpUrl, amqp_url

from ..helpers import PATIENT_PROBE, wait_until
from .certificates import Pair, make
from .charts import make_active_object, running
from .fakes import Fakes

HOST = "127.0.0.4"
KEY = Fernet.generate_key()


class Node(NamedTuple):
    """A node whose certificate can be exchanged."""

    broker: LocalBroker
    address: Address
    folder: Path
    authority: Pair

    @property
    def url(self) -> AmqpUrl:
        return amqp_url(self.broker.user, self.broker.password, self.address, tls=True)

    def show(self, pair: Pair) -> None:
        """Make the node show another certificate from the next connection on."""
        pair.write(self.folder / "server.pem", self.folder / "server.key")
        self.broker.ctl("eval", "ssl:clear_pem_cache().")

    def environment(self, *, client: bool = True, authority: str = "authority") -> dict[str, str]:
        variables = {"RABBIT_TLS_CAFILE": str(self.folder / f"{authority}.pem")}
        if client:
            variables["RABBIT_TLS_CERTFILE"] = str(self.folder / "client.pem")
            variables["RABBIT_TLS_KEYFILE"] = str(self.folder / "client.key")
        return variables

    def context(self, **options: Any) -> ssl.SSLContext:
        context = tls_from_environment(self.environment(**options))
        assert context is not None
        return context


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory, rabbitmq_installed: None) -> Iterator[Node]:
    folder = tmp_path_factory.mktemp("tls")
    authority, stranger = make("authority"), make("stranger")
    authority.write(folder / "authority.pem", folder / "authority.key")
    stranger.write(folder / "stranger.pem", folder / "stranger.key")
    make("client", by=authority).write(folder / "client.pem", folder / "client.key")
    make("server", HOST, by=authority).write(folder / "server.pem", folder / "server.key")
    port = free_port(HOST)
    config = {
        "listeners.ssl.1": f"{HOST}:{port}",
        "ssl_options.cacertfile": f"{folder}/authority.pem",
        "ssl_options.certfile": f"{folder}/server.pem",
        "ssl_options.keyfile": f"{folder}/server.key",
        "ssl_options.verify": "verify_peer",
        "ssl_options.fail_if_no_peer_cert": "true",
    }
    with LocalBroker(HOST, config=config) as broker:
        yield Node(broker, Address(HOST, port), folder, authority)


@pytest.fixture
def shown(node: Node) -> Iterator[Node]:
    """A node whose good certificate is put back after the test."""
    yield node
    node.show(make("server", HOST, by=node.authority))


def fault_of(url: AmqpUrl, context: ssl.SSLContext | None) -> BrokerUnreachable:
    """The fault of a connection that cannot be made; the scout has to agree that it cannot."""
    assert probed(url, context)
    publisher = SimplePikaTopicPublisher(url, "miros.mesh", "k", tls=context)
    publisher.start_thread()
    try:
        wait_until(lambda: isinstance(publisher.fault, BrokerUnreachable), 10)
        fault = publisher.fault
        assert isinstance(fault, BrokerUnreachable)
        assert not publisher.is_connected
        return fault
    finally:
        assert publisher.stop_thread()


def test_charts_meet_over_tls_that_the_environment_describes(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in node.environment().items():
        monkeypatch.setenv(name, value)
    arguments = {
        "rabbit_user": node.broker.user,
        "rabbit_password": node.broker.password,
        "mesh_encryption_key": KEY,
        "rabbit_host": HOST,
        "rabbit_port": node.address.port,
        "addresses": [str(node.address)],
    }
    one, _ = make_active_object("one", **arguments)
    other, heard = make_active_object("other", **arguments)
    assert one.this_url().startswith("amqps://")
    with running(one, other):
        one.transmit(Event(signal="OVER_TLS", payload=1))
        heard.wait_for(1)
        listing = node.broker.ctl("list_connections", "ssl", "port")
    assert {line.split()[0] for line in listing.splitlines()} == {"true"}


def test_a_client_without_a_certificate_is_not_let_in(node: Node) -> None:
    assert "TLS" in str(fault_of(node.url, node.context(client=False)))


def test_a_certificate_of_an_unknown_authority_is_refused(node: Node) -> None:
    fault = fault_of(node.url, node.context(authority="stranger"))
    assert "CERTIFICATE_VERIFY_FAILED" in str(fault)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("self-signed", "self"),
        ("wrong host", "mismatch"),
        ("expired", "expired"),
    ],
)
def test_a_bad_certificate_is_refused(shown: Node, kind: str, words: str) -> None:
    authority = shown.authority
    pair = {
        "self-signed": lambda: make("server", HOST),
        "wrong host": lambda: make("server", "127.0.0.5", by=authority),
        "expired": lambda: make("server", HOST, by=authority, expired=True),
    }[kind]()
    shown.show(pair)
    fault = fault_of(shown.url, shown.context())
    assert "TLS with" in str(fault)
    assert words in str(fault)


def test_plain_tcp_to_a_tls_port_fails_clearly_and_the_other_way_round(node: Node) -> None:
    broker = node.broker
    plain = amqp_url(broker.user, broker.password, node.address)
    assert "tls=" in str(fault_of(plain, None))
    wrapped = amqp_url(broker.user, broker.password, broker.address, tls=True)
    assert "TLS" in str(fault_of(wrapped, node.context()))
    with pytest.raises(BrokerUnreachable, match="give tls="):
        probe_one(plain, limits=PATIENT_PROBE)


def test_a_refusal_that_is_lost_is_taken_for_what_it_is(node: Node, tmp_path: Path) -> None:
    """As of a broker that closes the connection before it has read what came meanwhile."""
    make("server", "127.0.0.9", by=node.authority).write(tmp_path / "s.pem", tmp_path / "s.key")
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(tmp_path / "s.pem", tmp_path / "s.key")
    fakes = Fakes()
    with fakes.running():

        async def reset(reader: Any, writer: Any) -> None:
            await reader.read(1)
            at_once = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)
            writer.transport.abort()

        url = amqp_url("user", "password", fakes.listen(reset, tls=server), tls=True)
        for said in (str(fault_of(url, node.context())), probed(url, node.context())):
            assert "it hung up right after the handshake" in said


def probed(url: AmqpUrl, context: ssl.SSLContext | None) -> str:
    """What the scout says of a broker that cannot be reached."""
    with pytest.raises(BrokerUnreachable) as caught:
        probe_one(url, tls=context, limits=PATIENT_PROBE)
    return str(caught.value)


def test_an_impostor_without_the_authoritys_certificate_is_sent_nothing(
    node: Node, tmp_path: Path
) -> None:
    make("impostor", "127.0.0.9").write(tmp_path / "i.pem", tmp_path / "i.key")
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(tmp_path / "i.pem", tmp_path / "i.key")
    fakes = Fakes()
    with fakes.running():

        async def listen(reader: Any, _: Any) -> None:
            await fakes.keep_listening(reader)

        address = fakes.listen(listen, tls=server)
        url = amqp_url("user", "C4nary-p4ssw0rd", address, tls=True)
        fault_of(url, node.context())
    assert fakes.received == b""


# The environment.


def test_an_environment_without_the_variables_means_no_tls() -> None:
    assert tls_from_environment({}) is None


def test_a_setting_that_cannot_be_used_never_means_no_tls(node: Node) -> None:
    good = node.environment()
    bad: list[dict[str, str]] = [
        {"RABBIT_TLS_CERTFILE": good["RABBIT_TLS_CERTFILE"]},
        {"RABBIT_TLS_KEYFILE": good["RABBIT_TLS_KEYFILE"]},
        {**good, "RABBIT_TLS_CAFILE": str(node.folder / "nothing.pem")},
        {**good, "RABBIT_TLS_CAFILE": good["RABBIT_TLS_KEYFILE"]},
        {**good, "RABBIT_TLS_KEYFILE": str(node.folder / "stranger.key")},
        {**good, "RABBIT_TLS_CERTFILE": str(node.folder / "nothing.pem")},
        {k: v for k, v in good.items() if k != "RABBIT_TLS_CERTFILE"},
    ]
    for environment in bad:
        with pytest.raises(SettingsError, match="RABBIT_TLS"):
            tls_from_environment(environment)
