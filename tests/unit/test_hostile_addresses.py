"""No text that somebody takes for an address, or for a URL, brings a password to light.

Errors of the standard library quote the URL that they cannot read, and so would every traceback.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from cryptography.fernet import Fernet

from miros_rabbitmq import (
    Address,
    AmqpUrl,
    Codec,
    LocalAreaNetwork,
    LocalBroker,
    MirosNets,
    MirosRabbitMQError,
    NetworkedActiveObject,
    NetworkedFactory,
    PikaTopicConsumer,
    PikaTopicPublisher,
    RabbitScout,
    Settings,
    SimplePikaTopicConsumer,
    SimplePikaTopicPublisher,
)
from miros_rabbitmq.discovery.hosts_file import HostsFile
from miros_rabbitmq.discovery.lan_cache import LanCache
from miros_rabbitmq.discovery.outcome import ScoutReport
from miros_rabbitmq.discovery.probe import probe_one
from miros_rabbitmq.urls import amqp_url
from miros_rabbitmq.wire.notice import Notice, NoticeKind, announced_broker

PASSWORD = "C4nary-p4ssw0rd"
KEY = Fernet.generate_key()
LOGIN: Any = {"rabbit_user": "user", "rabbit_password": PASSWORD}

HOSTS = [
    "robot\u2100.lan",  # each of these becomes / ? # @ or : by NFKC
    "robot\uff0f.lan",
    "robot\uff1f.lan",
    "robot\uff03.lan",
    "robot\uff20lan",
    "robot\uff1a5672",
    "robot\ufe55",
    "robot\u2048",
    "ro\u200bbot",
    "ro\u202ebot",
    "ro bot",
    "ro\nbot",
    "ro\0bot",
    "ro\ud800bot",
    "a" * 64,
    "a..b",
    "\u05d0a",
    "xn--\u00e4",
    "127.1",
    "0x7f.1",
    "010.0.0.1",
    "[::1",
    "::1]",
    "[fe80::1%]",
    "[v1.x]",
    "::1::",
    "%5B",
    "robot%2f",
    "robot\\",
    "robot:99999",
    "robot:\u0661",
    "robot%40lan",
    "",
]


def texts_of(host: str) -> Iterator[str]:
    yield host
    yield f"{host}:5672"
    for login in (f"user:{PASSWORD}", f"user\uff1a{PASSWORD}", f"us\u2100er:{PASSWORD}"):
        for sign in ("@", "\uff20"):
            yield f"{login}{sign}{host}"
            for scheme in ("amqp", "amqps", "http", "AMQP", "amqp\n"):
                yield f"{scheme}://{login}{sign}{host}:5672/%2F"
            yield f"amqp:/{login}{sign}{host}"
            yield f"amqp://{login}{sign}{host}/?ssl_options={{&heartbeat={host}"
    yield f"amqp://user:{PASSWORD}/1@{host}/"
    yield f"amqp://user:{PASSWORD}#1@{host}/"
    yield f"amqp://{host}:{PASSWORD}"
    yield f"amqp://{quote(f'user:{PASSWORD}@')}{host}/"
    yield f"{quote(f'user:{PASSWORD}@')}{host}"
    yield f"user:{PASSWORD}:{host}"


class Named:
    """What a `MirosNets` takes."""

    name = "n"

    def post_fifo(self, event: object) -> None: ...


def ignore(_: object) -> None:
    pass


ENTRANCES: list[Callable[[str], Any]] = [
    lambda text: NetworkedActiveObject("a", **LOGIN, mesh_encryption_key=KEY, rabbit_host=text),
    lambda text: NetworkedFactory("f", **LOGIN, mesh_encryption_key=KEY, addresses=[text, "ok"]),
    lambda text: MirosNets(Named(), **LOGIN, mesh_encryption_key=KEY, addresses=text),
    lambda text: Settings(**LOGIN, mesh_encryption_key=KEY, addresses=["ok", text]),
    lambda text: RabbitScout(**LOGIN, addresses=[text]),
    lambda text: RabbitScout(**LOGIN, addresses=text),
    lambda text: RabbitScout(**LOGIN, addresses=[], rabbit_host=text).this.url,
    lambda text: LocalAreaNetwork([text]).other.addresses,
    lambda text: LocalAreaNetwork(text),
    lambda text: LocalAreaNetwork([], rabbit_host=text).this.address,
    lambda text: LocalBroker(text, password=PASSWORD),
    lambda text: SimplePikaTopicPublisher(text, "exchange", "key"),
    lambda text: SimplePikaTopicConsumer(text, "exchange", "key", on_message=ignore),
    lambda text: PikaTopicPublisher(text, "exchange", "key", codec=Codec(KEY), name="name"),
    lambda text: PikaTopicConsumer(text, "exchange", "key", codec=Codec(KEY), on_message=ignore),
    lambda text: AmqpUrl(text).address,
    lambda text: AmqpUrl(text).parts.vhost,
    lambda text: repr([AmqpUrl(text)]),
    lambda text: probe_one(text),
    lambda text: ScoutReport(())[text],
    lambda text: announced_broker(Notice(NoticeKind.BROKER, text.encode(errors="replace"))),
]


def unrolled(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        yield from unrolled(error.__context__)
        error = error.__cause__


@pytest.fixture(autouse=True)
def no_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is to be looked up or connected to here."""
    monkeypatch.setattr("miros_rabbitmq.discovery.probe.probe_all", lambda *_, **__: 1 / 0)


@pytest.mark.parametrize("host", HOSTS, ids=ascii)
def test_neither_errors_nor_logs_nor_reprs_have_the_password(
    host: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    for text in texts_of(host):
        for number, enter in enumerate(ENTRANCES):
            shown = ""
            try:
                shown = repr(enter(text))
            except (MirosRabbitMQError, KeyError, ZeroDivisionError) as error:
                # Any other error is one of the standard library, or of pika.
                shown = "".join(traceback.format_exception(error))
                for one in unrolled(error):
                    shown += f"{one!r} {one.args!r} {vars(one)!r}"
                    assert not isinstance(one, UnicodeError), "it carries the whole text"
            assert PASSWORD not in shown, f"by entrance {number}, of {text!r}: {shown}"
    assert PASSWORD not in caplog.text


@pytest.mark.parametrize("host", HOSTS, ids=ascii)
def test_in_a_file_they_cost_no_other_host_and_show_no_password(
    host: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    quoted = [*map(ascii_json, [*texts_of(host), "10.0.0.2"])]
    (tmp_path / "hosts").write_text('{"hosts": [' + ", ".join(quoted) + "]}")
    hosts = HostsFile(tmp_path / "hosts", 5672)
    hosts.refresh()
    assert Address("10.0.0.2") in hosts.hosts
    (tmp_path / "cache").write_text('{"time": 1.0, "addresses": [' + ", ".join(quoted) + "]}")
    cached = LanCache(tmp_path / "cache", 60.0, lambda: 2.0).load()
    assert cached is not None
    assert Address("10.0.0.2") in cached.addresses
    assert PASSWORD not in caplog.text


def ascii_json(text: str) -> str:
    return '"' + "".join(f"\\u{ord(one):04x}" for one in text) + '"'


@pytest.mark.parametrize("host", HOSTS, ids=ascii)
def test_an_address_that_was_made_by_hand_shows_no_password_either(host: str) -> None:
    """As `Settings.url` makes them."""
    shown = []
    try:
        url = amqp_url("user", PASSWORD, Address(host))
        shown += [repr(url), str(url.address)]
    except (MirosRabbitMQError, UnicodeEncodeError) as error:
        shown += [repr(one) + repr(vars(one)) for one in unrolled(error)]
    assert PASSWORD not in str(shown)


@pytest.mark.parametrize("value", [b"user:C4nary-p4ssw0rd@h", ("user", PASSWORD), {PASSWORD: 1}])
def test_what_is_no_text_is_refused_by_its_type(value: Any) -> None:
    for number, enter in enumerate(ENTRANCES[:-1]):  # the last one takes bytes from the network
        shown = ""
        try:
            shown = repr(enter(value))
        except (MirosRabbitMQError, KeyError) as error:
            shown = "".join(repr(one) for one in unrolled(error))
        if not shown.startswith(("<MirosNets", "<LocalAreaNetwork", "<RabbitScout")):
            assert PASSWORD not in shown, f"by entrance {number}: {shown}"
