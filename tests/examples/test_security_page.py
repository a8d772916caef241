"""The three commands for TLS in docs/security.rst, and what they give, on a real node.

They are run as they stand, for another address and in another folder.
"""

from __future__ import annotations

import os
import re
import ssl
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from cryptography import x509
from cryptography.fernet import Fernet
from miros import Event

from miros_rabbitmq import BrokerUnreachable, LocalBroker, RabbitScout, tls_from_environment
from miros_rabbitmq.broker.node_process import free_port, why_not_free
from miros_rabbitmq.discovery.probe import probe_one
from miros_rabbitmq.urls import Address, amqp_url

from ..broker.charts import make_active_object, running
from ..helpers import PATIENT_PROBE
from .documents import ROOT, other_blocks_of

pytestmark = pytest.mark.usefixtures("rabbitmq_installed")

PAGE = "docs/security.rst"
PAGE_TEXT = (ROOT / PAGE).read_text(encoding="utf-8")
HOST = "127.0.0.48"
KEY = Fernet.generate_key()


def run(block: str, folder: Path) -> None:
    """Run the commands of a block, for the broker of the test."""
    folder.mkdir(exist_ok=True)
    done = subprocess.run(
        ["sh", "-euc", block.replace("192.168.1.71", HOST)],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def shell_blocks() -> tuple[str, str]:
    """The three commands, and the one for nodes."""
    blocks = [block for block in other_blocks_of(PAGE, "sh") if "openssl" in block]
    authority, node = blocks
    assert [line.split()[0] for line in authority.split("\n") if line] == [
        "umask",
        "openssl",
        "openssl",
    ]
    return authority, node


def settings(folder: Path, port: int) -> list[dict[str, str]]:
    """What the page puts into rabbitmq.conf: for TLS, and to demand certificates."""
    blocks = [block for block in other_blocks_of(PAGE, "ini") if "ssl" in block]
    text = "\n@".join(blocks).replace("/etc/rabbitmq/", f"{folder}/")
    text = text.replace("listeners.ssl.default = 5671", f"listeners.ssl.default = {HOST}:{port}")
    both = []
    for block in text.split("@"):
        pairs = (line.split(" = ") for line in block.strip().splitlines())
        both.append(dict(pairs))
    return both


class Node(NamedTuple):
    broker: LocalBroker
    address: Address
    folder: Path

    def context(self, **variables: str) -> ssl.SSLContext:
        """What a node makes of its environment, with the further checks of Python 3.13."""
        names = {"RABBIT_TLS_CAFILE": "ca.pem", **variables}
        environment = {name: str(self.folder / file) for name, file in names.items()}
        context = tls_from_environment(environment)
        assert context is not None
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        return context

    def probe(self, context: ssl.SSLContext) -> None:
        url = amqp_url(self.broker.user, self.broker.password, self.address, tls=True)
        probe_one(url, tls=context, limits=PATIENT_PROBE)


CERTIFIED = {"RABBIT_TLS_CERTFILE": "robot.pem", "RABBIT_TLS_KEYFILE": "robot.key"}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tls")
    authority, node = shell_blocks()
    run(authority, folder)
    run("umask 077\n" + node, folder)
    return folder


@pytest.fixture(scope="module", params=[False, True], ids=["TLS", "certificates for nodes"])
def node(request: pytest.FixtureRequest, files: Path, rabbitmq_installed: None) -> Iterator[Node]:
    port = free_port(HOST)
    tls, demand = settings(files, port)
    with LocalBroker(HOST, config={**tls, **(demand if request.param else {})}) as broker:
        yield Node(broker, Address(HOST, port), files)


def demands(node: Node) -> bool:
    """Whether the node demands a certificate."""
    conf = (node.broker.log_path.parent / "rabbitmq.conf").read_text(encoding="utf-8")
    return "fail_if_no_peer_cert" in conf


def test_charts_meet_by_the_commands_of_the_page(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RABBIT_TLS_CAFILE", str(node.folder / "ca.pem"))
    if demands(node):
        for name, file in CERTIFIED.items():
            monkeypatch.setenv(name, str(node.folder / file))
    arguments: dict[str, Any] = {
        "rabbit_user": node.broker.user,
        "rabbit_password": node.broker.password,
        "mesh_encryption_key": KEY,
        "rabbit_host": HOST,
        "rabbit_port": node.address.port,
        "addresses": [],
    }
    one, _ = make_active_object("one", **arguments)
    other, heard = make_active_object("other", **arguments)
    with running(one, other):
        one.transmit(Event(signal="OVER_TLS"))
        heard.wait_for(1)
        listing = node.broker.ctl("list_connections", "ssl")
    assert set(listing.split()) == {"true"}
    context = tls_from_environment()
    where = [str(node.address)]
    scout = RabbitScout(node.broker.user, node.broker.password, addresses=where, tls=context)
    assert [one.address for one in scout.urls] == [node.address]


def test_the_certificates_stand_the_strict_checks_of_newer_versions(node: Node) -> None:
    node.probe(node.context(**(CERTIFIED if demands(node) else {})))


def test_only_a_node_with_a_certificate_gets_in_where_that_is_demanded(
    node: Node, tmp_path: Path
) -> None:
    if not demands(node):
        node.probe(node.context())
        return
    with pytest.raises(BrokerUnreachable, match="TLS"):
        node.probe(node.context())
    authority, client = shell_blocks()
    run(authority, tmp_path)
    run(client, tmp_path)
    context = node.context()
    context.load_cert_chain(tmp_path / "robot.pem", tmp_path / "robot.key")
    with pytest.raises(BrokerUnreachable, match="TLS"):
        node.probe(context)


def test_another_authority_is_an_error_that_says_so(node: Node, tmp_path: Path) -> None:
    run(shell_blocks()[0], tmp_path)
    context = tls_from_environment({"RABBIT_TLS_CAFILE": str(tmp_path / "ca.pem")})
    assert context is not None
    with pytest.raises(BrokerUnreachable) as caught:
        node.probe(context)
    words = str(caught.value)
    assert words.startswith(f"TLS with {node.address} failed (")
    said = re.search(r"\(its certificate does not pass: (.*?)\)", words)
    assert said is not None
    (page,) = re.findall(r"``TLS with \S+ failed\s+\((.*?)\)", PAGE_TEXT, re.DOTALL)
    assert " ".join(page.split()) == said[0].strip("()")
    assert "RABBIT_TLS_CAFILE" in words


def test_nothing_listens_without_tls(node: Node) -> None:
    assert why_not_free(HOST, node.broker.port) is None
    assert why_not_free(HOST, node.address.port) is not None


def test_nobody_else_may_read_what_the_commands_have_written(files: Path) -> None:
    keys = sorted(files.glob("*.key"))
    assert [key.name for key in keys] == ["broker.key", "ca.key", "robot.key"]
    for key in keys:
        assert stat.S_IMODE(os.stat(key).st_mode) == 0o600


def test_no_certificate_but_that_of_the_authority_may_sign_others(files: Path) -> None:
    may_sign = {}
    for path in files.glob("*.pem"):
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
        assert constraints.critical
        may_sign[path.name] = constraints.value.ca
    assert may_sign == {"ca.pem": True, "broker.pem": False, "robot.pem": False}


def test_a_stolen_certificate_of_a_node_makes_no_broker(files: Path, tmp_path: Path) -> None:
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(files / "robot.pem", files / "robot.key")
    client = ssl.create_default_context(cafile=str(files / "ca.pem"))
    client.check_hostname = False  # whatever its name is
    for purpose, context in (("robot", client), ("broker", client)):
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.load_cert_chain(files / f"{purpose}.pem", files / f"{purpose}.key")
        if purpose == "broker":
            shake_hands(context, server)
        else:
            with pytest.raises(ssl.SSLError, match=r"(?i)unsuitable|unsupported|purpose"):
                shake_hands(context, server)


def shake_hands(client: ssl.SSLContext, server: ssl.SSLContext) -> None:
    """A handshake in memory."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    near = client.wrap_bio(to_client, to_server)
    far = server.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(4):
        for end in (near, far):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    near.do_handshake()


def test_the_page_names_openssl_3(files: Path) -> None:
    said = subprocess.run(["openssl", "version"], capture_output=True, text=True, check=True)
    version = re.match(r"OpenSSL (\d+)", said.stdout)
    assert version is not None
    assert int(version[1]) >= 3
