"""Texts that no other test quotes: what makes each of them, and that it is what users read.

``docs/messages.rst`` explains every text of the package; ``tests/examples/test_troubleshooting.py``
holds the page complete, and asks that each text is in some test.
"""

from __future__ import annotations

import collections
import decimal
import errno
import io
import math
import socket
import ssl
import threading
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pika
import pytest
from cryptography.fernet import Fernet

from miros_rabbitmq import (
    Codec,
    Limits,
    LocalBroker,
    MirosNets,
    PikaTopicPublisher,
    Settings,
    SimplePikaTopicPublisher,
    faults,
    json_deserializer,
    json_serializer,
)
from miros_rabbitmq.amqp import native
from miros_rabbitmq.closings import closed_by_broker
from miros_rabbitmq.discovery.hosts_file import parse_hosts
from miros_rabbitmq.discovery.lan_cache import parse_cache
from miros_rabbitmq.greeting import sounds_like, usual_use
from miros_rabbitmq.host_names import normal_host
from miros_rabbitmq.introduction import check_frame_max, check_start
from miros_rabbitmq.nets.teller import Teller
from miros_rabbitmq.resolve import look_up
from miros_rabbitmq.resources import shortage
from miros_rabbitmq.tls import tls_from_environment
from miros_rabbitmq.urls import Address, AmqpUrl, parse_address
from miros_rabbitmq.wire.age import AgeCheck
from miros_rabbitmq.wire.codec import Codec as WireCodec
from miros_rabbitmq.wire.envelope import Kind
from miros_rabbitmq.wire.message import FORMAT, HEADER_BYTES, MARK, open_records, read_header
from miros_rabbitmq.wire.opener import UnknownKey, start_words
from miros_rabbitmq.wire.payload_types import check_counter, check_decimal
from miros_rabbitmq.wire.pickling import RestrictedPickle
from miros_rabbitmq.wire.record import pack, unpack

from ..helpers import scaled, wait_until

KEY = Fernet.generate_key()
HERE = Address("192.168.1.71")
URL = "amqp://robot:rabbit@192.168.1.71"


def told(call: Callable[[], object]) -> str:
    """What a call says: by its result, or by what it raises."""
    try:
        return str(call())
    except Exception as error:  # noqa: BLE001  # whatever it is, its text counts
        return str(error)


def odd(value: Any) -> Any:
    """A value of a type that the type checker would not let pass."""
    return value


def settings(**arguments: Any) -> Callable[[], object]:
    return lambda: Settings("robot", "rabbit", KEY, **arguments)


def closed(code: int, text: str) -> Callable[[], object]:
    return lambda: closed_by_broker(HERE, code, text, "robot", "/")


def content(name: bytes = b"lamp", sequence: int = 1) -> bytes:
    return pack(1, name, 0, sequence, b"")


def records(data: bytes) -> Callable[[], object]:
    return lambda: open_records(bytes(HEADER_BYTES) + data, 9, lambda *_: None, b"")


def dumps(value: object) -> Callable[[], object]:
    return lambda: RestrictedPickle([]).dumps(value)


def loads(data: bytes) -> Callable[[], object]:
    return lambda: RestrictedPickle([]).loads(data)


def publisher(codec: Codec | None = None) -> PikaTopicPublisher:
    return PikaTopicPublisher(URL, "miros.mesh", "key", codec=codec or Codec(KEY), name="lamp")


TOLD: list[tuple[str, Callable[[], object]]] = [
    # Arguments.
    ("max_age_s must be a number of seconds above 0, or None, not 0", settings(max_age_s=0)),
    ("max_age_s must be above 0, or None, not 0", lambda: Codec(KEY, max_age_s=0)),
    ("on_full must be 'drop' or 'wait', not 'block'", settings(on_full="block")),
    (
        "on_error must be one of 'stop', 'continue', 'restart', or a function that returns",
        settings(on_error="x"),
    ),
    ("limits must be a Limits(...), not a dict", settings(limits={})),
    (
        "limits: backlog_events must be a whole number above 0, not 0",
        lambda: Limits(backlog_events=0),
    ),
    (
        "limits: heartbeat_s must be a whole number above 0, not 1.5",
        lambda: Limits(heartbeat_s=odd(1.5)),
    ),
    (
        "limits: tempo_fast_s is above tempo_slow_s or tempo_patient_s, or reconnect_min_s is",
        lambda: Limits(tempo_fast_s=9.0),
    ),
    (
        "limits: fifo_remote_events must not be above fifo_events",
        lambda: Limits(fifo_events=1, fifo_remote_events=2),
    ),
    ("rabbit_user must be a text, not an int", lambda: Settings(odd(7), "rabbit", KEY)),
    (
        "mesh_encryption_key is an empty list: give at least one key",
        lambda: Settings("robot", "rabbit", []),
    ),
    (
        "tls is a context for servers, which verifies nobody",
        settings(tls=ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)),
    ),
    (
        "the name of a networked object has a character",
        lambda: MirosNets(
            types.SimpleNamespace(name="\udc80", post_fifo=print), "robot", "rabbit", KEY
        ),
    ),
    (
        "codec is a bytes: make a miros_rabbitmq.Codec of the key, as in codec=Codec(key)",
        lambda: publisher(odd(KEY)),
    ),
    # Addresses and URLs.
    ("a name has at most 253 characters", lambda: normal_host("a" * 300)),
    (
        "its letters cannot be in an internationalized name (IDNA)",
        lambda: normal_host("\u00fc" * 64),
    ),
    ("in brackets is an IPv6 address, as in [::1]:5672", lambda: parse_address("[lamp]")),
    ("it names no host", lambda: parse_address(":5672")),
    ("a port is a number of 1 to 65535", lambda: parse_address("lamp:0")),
    ("it has characters that UTF-8 cannot hold", lambda: AmqpUrl("amqp://\udc80").parts),
    (
        "it begins with amqp:// or amqps://, and every part is quoted (urllib.parse.quote)",
        lambda: AmqpUrl("http://lamp").parts,
    ),
    (
        "quote what comes before the host, and after it, with urllib.parse.quote",
        lambda: AmqpUrl("amqp://robot:r/b@lamp").parts,
    ),
    (
        "; and is everything before the host quoted (urllib.parse.quote)?",
        lambda: AmqpUrl("amqp://lamp:x").parts,
    ),
    # What is no RabbitMQ.
    ("it speaks TLS", lambda: sounds_like(b"\x15\x03\x03")),
    ("it does not speak AMQP 0-9-1, and begins with '220 mail'", lambda: sounds_like(b"220 mail")),
    *(
        (f"usually that {use}; AMQP has 5672, and 5671 with TLS", lambda port=port: usual_use(port))
        for port, use in (
            (80, "of web pages"),
            (1883, "of RabbitMQ's MQTT"),
            (4369, "of epmd, Erlang's port mapper"),
            (5552, "of RabbitMQ's streams"),
            (15672, "of RabbitMQ's management page"),
            (15692, "of RabbitMQ's metrics"),
            (25672, "by which RabbitMQ's nodes and rabbitmqctl talk"),
            (61613, "of RabbitMQ's STOMP"),
        )
    ),
    ("it speaks AMQP and calls itself 'Qpid'", lambda: check_start({"product": "Qpid"}, "PLAIN")),
    (
        "it says that it is RabbitMQ, and its capabilities are no table",
        lambda: check_start({"product": "RabbitMQ", "capabilities": 7}, "PLAIN"),
    ),
    ("it proposes frames of at most 100 bytes", lambda: check_frame_max(100)),
    # The broker.
    (
        "no usable connection to 192.168.1.71:5672 (odd):",
        lambda: faults.not_understood(HERE, "odd"),
    ),
    (
        "the two have no version or cipher of TLS in common",
        lambda: faults.tls_failed(HERE, "no protocols available"),
    ),
    (
        "the broker does not accept this node: does it demand a certificate",
        lambda: faults.tls_failed(HERE, "tlsv13 alert certificate required"),
    ),
    (
        "is it the port of TLS, usually 5671? If so, RabbitMQ is overloaded or stuck there",
        lambda: faults.tls_failed(HERE, "timed out"),
    ),
    ("TLS with 192.168.1.71:5672 failed (expired)", lambda: faults.tls_failed(HERE, "expired")),
    (
        "allows no consumer on a channel",
        closed(530, "NOT_ALLOWED - reached maximum (0) of consumers per channel"),
    ),
    (
        "does not agree on channel_max",
        closed(
            530,
            "NOT_ALLOWED - negotiated channel_max = 9 is higher than the maximum allowed value (5)",
        ),
    ),
    ("has closed the connection (599, odd)", closed(599, "odd")),
    (
        "has no user 'robot' any more: correct rabbit_user",
        closed(320, "CONNECTION_FORCED - user 'robot' was deleted"),
    ),
    (
        "has another consumer of the queue 'q', and one of the two demands to be the only one",
        closed(403, "ACCESS_REFUSED - queue 'q' in vhost '/' in exclusive use"),
    ),
    (
        "has no queue 'q' any more: somebody has deleted it, or it has expired",
        closed(404, "NOT_FOUND - no queue 'q' in vhost '/'"),
    ),
    (
        "has no room for the queue 'q', as its limit of 2 queues is reached",
        closed(
            406,
            "PRECONDITION_FAILED - cannot declare queue 'q': queue limit in cluster (2) is reached",
        ),
    ),
    (
        "On the broker, as root, raise max-queues with rabbitmqctl set_vhost_limits",
        closed(
            406,
            "PRECONDITION_FAILED - cannot declare queue 'q': queue limit in vhost '/' (2)",
        ),
    ),
    # What the process lacks.
    ("the whole machine has no file descriptor left", lambda: shortage(OSError(errno.ENFILE, ""))),
    (
        "no process can be started: this user, or this container, has as many as it may",
        lambda: shortage(OSError(errno.EAGAIN, ""), forks=True),
    ),
    (
        "no thread can be started any more, because the program is ending",
        lambda: shortage(RuntimeError("can't start new thread at interpreter shutdown")),
    ),
    # A private broker.
    ("host is an IPv4 address of this machine, not 'lamp'", lambda: LocalBroker("lamp")),
    ("port is None or 1 to 65535, not 0", lambda: LocalBroker(port=0)),
    ("name has letters, digits, '-' and '_' only, not 'a b'", lambda: LocalBroker(name="a b")),
    (
        "vhosts is a sequence of names, not the single name 'home'",
        lambda: LocalBroker(vhosts="home"),
    ),
    ("has no port before start()", lambda: LocalBroker().port),
    ("has no data: it is not started, or was stopped", lambda: LocalBroker().log_path),
    ("is not running", lambda: LocalBroker().pause()),
    # Payloads.
    (
        "a message is bytes or text, not a dict: encode it first, or use a PikaTopicPublisher",
        lambda: SimplePikaTopicPublisher(URL, "e", "k").post_fifo(odd({})),
    ),
    (
        "the message cannot be turned into bytes",
        lambda: SimplePikaTopicPublisher(URL, "e", "k").post_fifo("\udc80"),
    ),
    (
        "the value is an empty list, and miros.mesh carries (signal name of 1 to 255 characters",
        lambda: publisher().post_fifo([]),
    ),
    (
        "a signaling NaN cannot be hashed or compared: send Decimal('NaN')",
        lambda: check_decimal(decimal.Decimal("sNaN")),
    ),
    ("a Counter may count with int", lambda: check_counter(collections.Counter(a=odd(math.nan)))),
    ("send bytes(view)", dumps(memoryview(b""))),
    ("send its path, or what it contains", dumps(io.StringIO())),
    (
        "send what it yields or returns, such as a list",
        dumps(one for one in (1, 2)),
    ),
    ("send a list of it", dumps({}.keys())),
    ("NaN is not a number in JSON", lambda: json_deserializer(b"NaN")),
    ("a number is beyond the range of a float", lambda: json_deserializer(b"1e999")),
    ("a key is an int, which JSON would turn into text", lambda: json_serializer({1: 2})),
    (
        "cannot be serialized: the serializer made an int, not bytes",
        lambda: WireCodec(KEY, serializer=odd(lambda _: 7), deserializer=bytes).serialize(1),
    ),
    # What comes in.
    ("no valid padding", lambda: unpack(b"")),
    ("it ends within the fixed fields", lambda: unpack(bytes((16,)) * 16)),
    (
        "it ends within the sender's name",
        lambda: unpack(content()[:17] + b"\xff\xff" + content()[19:]),
    ),
    ("no valid sender name", lambda: unpack(content(name=b""))),
    ("no valid sequence number", lambda: unpack(content(sequence=0))),
    ("it ends within the header", lambda: read_header(bytes((MARK, FORMAT)))),
    ("it does not begin like one of our messages", lambda: read_header(b"hello")),
    (
        f"it has format {FORMAT + 1}, and this node reads format {FORMAT}: upgrade this node",
        lambda: read_header(bytes((MARK, FORMAT + 1))),
    ),
    (
        f"it has format {FORMAT - 1}, and this node reads format {FORMAT}: upgrade the node that",
        lambda: read_header(bytes((MARK, FORMAT - 1))),
    ),
    ("it ends within a length", records(b"\0")),
    ("a record has an impossible length", records(bytes(8))),
    ("it has no record", records(b"")),
    (
        "mesh_encryption_key (and snoop_trace_encryption_key, if one gives it)",
        lambda: UnknownKey(b"", [], "miros.snoop.trace"),
    ),
    (
        "mesh_encryption_key (and snoop_spy_encryption_key, if one gives it)",
        lambda: UnknownKey(b"", [], "miros.snoop.spy"),
    ),
    ("as 01010101, encrypts with the key of id ab", lambda: start_words(b"\1" * 16, "ab")),
    ("a text of up to", lambda: Kind.LINE.wanted),
    ("not a pickle of protocol 3: has its sender another serializer than this node?", loads(b"{}")),
    (
        "it ends too early, or takes more from the stack or the memo than is there",
        loads(b"\x80\x03"),
    ),
    ("something is left over when it ends", loads(b"\x80\x03K\x01..")),
    ("it puts into the memo what is there already", loads(b"\x80\x03]q\x00q\x01.")),
    # Files.
    ("this is not JSON", lambda: parse_hosts("{", 5672)),
    (
        "a number in it has too many digits",
        lambda: parse_hosts('{"hosts": [' + "1" * 9_999 + "]}", 5672),
    ),
    (
        "its time is not a finite number",
        lambda: parse_cache(b'{"time": NaN, "addresses": []}', 0.0),
    ),
]


@pytest.mark.parametrize(("words", "call"), TOLD, ids=[words for words, _ in TOLD])
def test_the_text_is_told(words: str, call: Callable[[], object]) -> None:
    assert words in told(call)


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"CERTFILE": "me.pem"}, "need RABBIT_TLS_CAFILE, which turns TLS on"),
        (
            {"CAFILE": "", "KEYFILE": ""},
            "is set, but empty: give it the path of a PEM file, or unset it",
        ),
    ],
)
def test_the_environment_asks_for_tls_by_halves(
    variables: dict[str, str], words: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in variables.items():
        path = tmp_path / value
        if value:
            path.write_text("")
        monkeypatch.setenv(f"RABBIT_TLS_{name}", str(path) if value else "")
    assert words in told(tls_from_environment)


def test_a_key_without_its_certificate_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("CAFILE", "KEYFILE"):
        path = tmp_path / name
        path.write_text("")
        monkeypatch.setenv(f"RABBIT_TLS_{name}", str(path))
    assert "is not: a key needs its certificate" in told(tls_from_environment)


def test_a_pika_that_lacks_a_part_or_writes_otherwise_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    transport = pika.adapters.utils.io_services_utils._AsyncTransportBase
    with monkeypatch.context() as patch:
        assert native.misfit() == ""
        patch.delattr(transport, "_MAX_RECV_BYTES")
        assert f"pika {pika.__version__} has no _MAX_RECV_BYTES" == native.misfit()
    with monkeypatch.context() as patch:
        patch.setattr(native.Publishing, "publish", lambda *_: None)
        assert "writes a message otherwise" in native.misfit()
    with monkeypatch.context() as patch:
        patch.setattr(native.Deliveries, "take", lambda *_: 0)
        assert "writes a delivery otherwise" in native.misfit()
    with monkeypatch.context() as patch:
        patch.setattr(native.Confirms, "take", lambda *_: 0)
        assert "writes a confirm otherwise" in native.misfit()


def test_a_name_without_addresses_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [])
    done: list[object] = []
    look_up(Address("nameless"), done.append)
    wait_until(lambda: done)
    assert "the name has no address" in str(done[0])


def test_a_name_that_python_cannot_encode_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise UnicodeError("too long")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    done: list[object] = []
    look_up(Address("odd"), done.append)
    wait_until(lambda: done)
    assert "no host name: too long" in str(done[0])


def test_a_look_up_that_fails_oddly_is_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: 1 / 0)
    done: list[object] = []
    look_up(Address("odder"), done.append)
    wait_until(lambda: done)
    assert "looking up 'odder' failed" in caplog.text


def test_a_callback_for_addresses_that_raises_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    look_up(Address("127.0.0.1"), lambda _: 1 / 0)
    wait_until(lambda: "a callback for the addresses of a host failed" in caplog.text)


def test_what_is_too_old_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    age = AgeCheck(30.0, lambda: 1_000.0, lambda: 50.0)
    assert "it was delayed or replayed, or the sender's clock is behind" in told(
        lambda: age.check(960_000)
    )
    age.begin()
    early = told(lambda: age.check(980_000))
    assert "before this node began to listen, where 7.5 s are granted" in early


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (memoryview(b""), "a view of memory"),
        ((one for one in (1, 2)), "something that runs"),
        ({}.keys(), "a view of a mapping"),
    ],
)
def test_what_never_travels_is_named_in_words(value: object, words: str) -> None:
    assert words in told(dumps(value))


@pytest.mark.parametrize(
    ("module", "name", "remedy"),
    [
        ("numpy", "ndarray", "its tolist(), and make an array of that again"),
        ("pandas.core.generic", "NDFrame", "its to_dict()"),
    ],
)
def test_of_an_array_or_a_table_its_plain_form_is_named(
    module: str, name: str, remedy: str
) -> None:
    kind = type(name, (), {"__module__": module})
    assert remedy in told(dumps(kind()))


def test_lines_of_a_snoop_that_are_too_many_or_cannot_be_worded_are_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    teller = Teller("lamp")
    gate = threading.Event()

    class Telling(NamedTuple):
        snoop: Any

    class Slow:
        def tell_now(self, _: object) -> None:
            gate.wait(scaled(30))
            raise ZeroDivisionError

    for _ in range(20_000):
        teller.put(odd(Telling(Slow())))
    gate.set()
    teller.stop(scaled(10))
    said = caplog.messages
    title = "miros snoop teller of lamp"
    assert f"{title}: lines are dropped from now on, because there are too many" in said
    assert f"{title}: a line could not be told" in said


def test_the_attribute_that_holds_what_never_travels_is_named() -> None:
    error = types.SimpleNamespace(callback=print)
    assert "(the attribute callback of" in told(dumps(error))
