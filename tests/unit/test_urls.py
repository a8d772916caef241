"""AMQP URLs and addresses: quoted for pika, split again, and shown without a password."""

from __future__ import annotations

import copy
import pickle
import re
import sys
import traceback
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pika
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from miros_rabbitmq import SimplePikaTopicPublisher
from miros_rabbitmq.exceptions import SettingsError
from miros_rabbitmq.urls import (
    DEFAULT_PORT,
    DEFAULT_TLS_PORT,
    Address,
    AmqpUrl,
    address_texts,
    amqp_url,
    check_login,
    parse_address,
    redact,
)

ODD_PASSWORDS = ["p@ss", "p:a:s", "p/a/s", "100%", "%2F", "a b", "?x=1", "#", "pässwörd 👋", "://"]

MARKS = st.characters(exclude_categories=["Cs"], exclude_characters="\0")  # AMQP has no NUL
TEXTS = st.text(alphabet=MARKS, min_size=1, max_size=12).filter(str.strip)
NAMES = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?(\.[a-z]{1,5})?", fullmatch=True)
HOSTS = NAMES.filter(lambda name: not re.fullmatch("[0-9]+|0x[0-9a-f]*", name))
PORTS = st.integers(1, 65535)


# Building.


@settings(deadline=None, max_examples=40)
@given(TEXTS, TEXTS, TEXTS, HOSTS, PORTS, st.booleans())
def test_pika_reads_back_what_was_put_into_a_url(
    user: str, password: str, vhost: str, host: str, port: int, tls: bool
) -> None:
    parameters = pika.URLParameters(amqp_url(user, password, Address(host, port), vhost, tls=tls))
    assert parameters.credentials.username == user
    assert parameters.credentials.password == password
    assert parameters.virtual_host == vhost
    assert (parameters.host, parameters.port) == (host, port)
    assert (parameters.ssl_options is not None) == tls


@given(TEXTS, TEXTS, TEXTS, HOSTS, PORTS)
def test_the_standard_library_reads_the_same(
    user: str, password: str, vhost: str, host: str, port: int
) -> None:
    url = amqp_url(user, password, Address(host, port), vhost)
    parts = urlsplit(url)
    assert parts.scheme == "amqp"
    assert unquote(parts.username or "") == user
    assert unquote(parts.password or "") == password
    assert unquote(parts.path) == f"/{vhost}"
    assert (parts.hostname, parts.port) == (host, port)
    assert (parts.query, parts.fragment) == ("", "")
    assert url.address == Address(host, port)


def test_a_url_is_plain_ascii_without_a_space() -> None:
    url = amqp_url("üser", "pass wörd", Address("host"), "vhöst /")
    assert url.isascii()
    assert " " not in url


def test_a_url_looks_like_this() -> None:
    assert (
        str(amqp_url("me", "secret", Address("10.0.0.7"))) == "amqp://me:secret@10.0.0.7:5672/%2F"
    )
    assert str(amqp_url("me", "secret", Address("10.0.0.7", 5671), "v", tls=True)) == (
        "amqps://me:secret@10.0.0.7:5671/v"
    )


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("amqp://u:p@host:1234/", Address("host", 1234)),
        ("amqp://u:p@host/", Address("host", DEFAULT_PORT)),
        ("amqps://u:p@host/", Address("host", DEFAULT_TLS_PORT)),
        ("amqp://127.0.0.2:5673", Address("127.0.0.2", 5673)),
        ("amqp://u:p@Robot-B./", Address("robot-b")),
        ("amqp://u:p@r%C3%B6bot/", Address("xn--rbot-5qa")),
        ("amqp://u:p@[::1]/", Address("::1")),
        ("amqp://u:p@[::1]:1234", Address("::1", 1234)),
        ("amqps://u:p@[2001:DB8::1]", Address("2001:db8::1", DEFAULT_TLS_PORT)),
        ("amqp://u:p@[fe80::1%25eth0]:1/v", Address("fe80::1%eth0", 1)),
        (" amqp://u:p@host\n", Address("host")),
    ],
)
def test_a_url_knows_its_address(url: str, address: Address) -> None:
    assert AmqpUrl(url).address == address


def test_the_parts_of_a_url_are_unquoted_and_shown_without_the_password() -> None:
    parts = amqp_url("us:er", "p@ss", Address("robot"), "v/1", tls=True).parts
    assert (parts.tls, parts.user, parts.password) == (True, "us:er", "p@ss")
    assert (parts.address, parts.vhost, parts.query) == (Address("robot"), "v/1", "")
    assert "p@ss" not in repr(parts)
    guest = AmqpUrl("amqp://robot?heartbeat=5").parts
    assert (guest.user, guest.password, guest.vhost) == ("guest", "guest", "/")
    assert guest.query == "?heartbeat=5"


# Redacting.


@pytest.mark.parametrize("password", ODD_PASSWORDS)
def test_the_repr_of_a_url_hides_its_password(password: str) -> None:
    url = amqp_url("user", password, Address("host"), "vhost")
    assert repr(url) == "<amqp://user:***@host:5672/vhost>"
    assert f"{[url]} {(url, 1)} {{'url': {url!r}}}" == (
        "[<amqp://user:***@host:5672/vhost>] (<amqp://user:***@host:5672/vhost>, 1) "
        "{'url': <amqp://user:***@host:5672/vhost>}"
    )


@pytest.mark.parametrize("password", ODD_PASSWORDS)
def test_a_url_that_somebody_wrote_without_quoting_is_redacted_as_well(password: str) -> None:
    assert redact(f"amqp://user:{password}@host/vhost") == "amqp://user:***@host/vhost"
    assert repr(AmqpUrl(f"amqp://user:{password}@host/v")) == "<amqp://user:***@host/v>"


@given(TEXTS, TEXTS, TEXTS)
def test_nothing_but_the_password_is_hidden(user: str, password: str, vhost: str) -> None:
    hidden = amqp_url(user, password, Address("host"), vhost).redacted
    assert hidden == amqp_url(user, "PASSWORD", Address("host"), vhost).replace("PASSWORD", "***")


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("amqp://host/vhost", "amqp://host/vhost"),
        ("amqp://user@host/", "amqp://user@host/"),
        ("amqp://user:@host/", "amqp://user:***@host/"),
        ("amqp://:p@host/", "amqp://:***@host/"),
        ("user:p@host", "***"),
        ("user:p@host?x=amqp://", "***"),
        ("host:5672", "host:5672"),
        ("amqp://host:5672/v", "amqp://host:5672/v"),
        ("amqp://[::1]:5672", "amqp://[::1]:5672"),
        ("amqp://[fe80::1%25eth0]:5672/", "amqp://[fe80::1%25eth0]:5672/"),
        ("amqp://user:secret", "amqp://user:***"),
        ("amqp://user:sec/ret", "amqp://user:***"),
        ("amqp://[user:secret", "amqp://[user:***"),
        ("amqp://[user:secret]", "amqp://[user:***"),
        ("amqp://user:secret\uff20host/", "amqp://***"),
        ("amqp://user:secret@host\uff20lan/", "amqp://user:***@host\uff20lan/"),
        ("amqp://user\uff1asecret@host/", "amqp://user:***@host/"),
        ("amqp:/user:secret\ufe6bhost/", "***"),
        ("amqp://user%3Asecret%40host/", "amqp://***"),
        ("user%3Asecret%40host", "***"),
        ("user:secret:host", "user:***"),
        ("user:secret", "user:***"),
        ("::1::", "::1::"),
        ("[fe80::1%eth0]:5672:1", "[fe80::1%eth0]:5672:1"),
        ("", ""),
    ],
)
def test_a_text_without_a_password_is_shown_as_it_is(text: str, redacted: str) -> None:
    assert redact(text) == redacted


def test_as_a_string_a_url_is_complete() -> None:
    url = amqp_url("user", "secret", Address("host"))
    assert isinstance(url, str)
    assert url == "amqp://user:secret@host:5672/%2F"
    assert f"{url}" == str(url) == "amqp://user:secret@host:5672/%2F"
    assert {url} == {"amqp://user:secret@host:5672/%2F"}


def test_a_copy_of_a_url_hides_its_password_as_well() -> None:
    url = amqp_url("user", "secret", Address("host"))
    for twin in (copy.copy(url), copy.deepcopy(url), pickle.loads(pickle.dumps(url))):
        assert type(twin) is AmqpUrl
        assert "secret" not in repr(twin)


@pytest.mark.parametrize("password", ["canary/1", "canary#1", "canary?1"])
def test_a_url_that_cannot_be_read_is_refused_without_its_password(password: str) -> None:
    with pytest.raises(SettingsError, match="is not an AMQP URL") as caught:
        SimplePikaTopicPublisher(f"amqp://user:{password}@host/", "exchange", "key")
    assert "canary" not in str(caught.value)
    assert "canary" not in str(caught.value.__cause__)


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "host",
        "user:p@host",
        "amqp://u:p@host:99999/",
        "amqp://u:p@[host/",
        7,
        "http://user:p@host/",
    ],
)
def test_a_text_that_is_not_an_amqp_url_is_refused(bad: Any) -> None:
    with pytest.raises(SettingsError, match="is not an AMQP URL"):
        SimplePikaTopicPublisher(bad, "exchange", "key")


# Addresses.


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.2", Address("127.0.0.2", 5672)),
        ("robot", Address("robot", 5672)),
        ("robot.local:5673", Address("robot.local", 5673)),
        (" robot:1 ", Address("robot", 1)),
        ("robot:65535", Address("robot", 65535)),
        ("robot:005672", Address("robot", 5672)),
        ("Robot-B.:5673", Address("robot-b", 5673)),
        ("::1", Address("::1", 5672)),
        ("[::1]", Address("::1", 5672)),
        ("[::0001]:5673", Address("::1", 5673)),
        ("2001:db8::1", Address("2001:db8::1", 5672)),
        ("[fe80::1%eth0]:5672", Address("fe80::1%eth0", 5672)),
    ],
)
def test_an_address_is_a_host_with_or_without_a_port(text: str, address: Address) -> None:
    assert parse_address(text) == address


def test_an_address_without_a_port_has_the_default_port() -> None:
    assert parse_address("robot", 5673) == Address("robot", 5673)
    assert parse_address("robot:1", 5673) == Address("robot", 1)


@given(HOSTS | st.ip_addresses().map(str), PORTS)
def test_an_address_is_written_as_it_is_read(host: str, port: int) -> None:
    address = parse_address(str(parse_address(host, port)))
    assert address == parse_address(host, port)
    assert amqp_url("user", "secret", address).address == address


BAD_ADDRESSES = [
    "",
    " ",
    ":5672",
    "host:",
    "host:0",
    "host:65536",
    "host:-1",
    "host:+5",
    "host:5.0",
    "host:amqp",
    "host:٣",
    "host:1:2",
    "::1::",
    "[::1",
    "[::1]5672",
    "[::1]:",
    "[127.0.0.1]:5672",
    "[robot]",
    "127.1",
    "robot\u2100.lan",
    "ro\u200bbot",
    "a b",
    "user@host",
    "host/vhost",
    "amqp://host",
]


@pytest.mark.parametrize("text", BAD_ADDRESSES)
def test_a_text_that_is_not_an_address_is_refused_with_the_two_forms(text: str) -> None:
    with pytest.raises(SettingsError, match="a broker address is 'host' or 'host:port'") as caught:
        parse_address(text)
    assert repr(redact(text)) in str(caught.value) or not text.strip()


@pytest.mark.parametrize("value", [None, 7, b"host", ["host"], Address("host")])
def test_an_address_is_a_text(value: Any) -> None:
    with pytest.raises(SettingsError, match="a broker address is 'host' or 'host:port'"):
        parse_address(value)


@pytest.mark.parametrize("text", ["amqp://host", "amqps://user:pw@host:5671/v", "http://host"])
def test_a_url_for_an_address_is_told_to_be_stripped(text: str) -> None:
    with pytest.raises(SettingsError, match="leave out amqp://"):
        parse_address(text)


@pytest.mark.parametrize("given", [7, True, b"host", bytearray(b"host"), "host", str, object()])
def test_what_is_no_list_of_addresses_is_refused(given: Any) -> None:
    with pytest.raises(SettingsError, match=r"addresses must be a list of hosts: .* into \[ \]"):
        address_texts(given)


@pytest.mark.parametrize("item", [["host"], {"host": 1}, bytearray(b"host"), 7, None, Path("host")])
def test_an_item_of_a_list_of_addresses_is_a_text(item: Any) -> None:
    with pytest.raises(SettingsError, match="a broker address is 'host' or 'host:port', not"):
        address_texts(["host", item])


def test_addresses_are_read_once_and_each_counts_once() -> None:
    assert address_texts(iter(["a", "b:5673", "a"])) == ("a", "b:5673")


@pytest.mark.parametrize("value", [None, 7, b"amqp://u:canary@h", ("u", "canary"), Address("h")])
def test_a_url_is_a_text(value: Any) -> None:
    with pytest.raises(SettingsError, match="is not an AMQP URL, which is a text") as caught:
        AmqpUrl(value)
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "user:canary@host",
        "amqp://user:canary@host:5672",
        "user%3Acanary%40host",
        "amqp://user%3Acanary%40host",
        "user:canary:host",
    ],
)
def test_a_password_in_an_address_is_not_repeated(text: str) -> None:
    with pytest.raises(SettingsError, match=r"\*\*\*") as caught:
        parse_address(text)
    assert "canary" not in str(caught.value)


def test_a_long_text_that_is_not_an_address_is_cut() -> None:
    with pytest.raises(SettingsError) as caught:
        parse_address("a" * 1_000_000)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("text", ["ho?st", "ho#st", "ho\nst", "ho\tst", "ho\\st", "ho%41st"])
def test_a_character_that_no_host_name_has_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="a broker address is"):
        parse_address(text)


SECRETS = {"a lone surrogate": "canary\udcff", "NUL": "cana\0ry"}


@pytest.mark.parametrize("text", ["amqp://x:canary@host", "x:canary@host", "amqp://host"])
def test_a_url_for_an_address_is_told_what_to_leave_out(text: str) -> None:
    with pytest.raises(SettingsError, match="leave out amqp://, the user") as caught:
        address_texts([text])
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize("text", SECRETS.values(), ids=SECRETS)
def test_a_login_that_amqp_cannot_carry_is_refused_without_quoting_it(text: str) -> None:
    good = {"user": "u", "password": "p", "vhost": "/"}
    for name in good:
        with pytest.raises(SettingsError, match=f"rabbit_{name} has a character") as caught:
            check_login(**{**good, name: text})
        assert "cana" not in "".join(traceback.format_exception(caught.value, chain=True)[-1:])
        # Other tests raise in the middle of a clean-up, which CPython may take for unfinished.
        assert caught.value.__context__ is sys.exc_info()[1]


def test_a_vhost_is_as_short_as_amqp_demands() -> None:
    check_login("u" * 300, "p" * 300, "v" * 255)
    with pytest.raises(SettingsError, match="255 bytes"):
        check_login("u", "p", "ü" * 128)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("amqp://u:cana%FFry@host/", "not UTF-8"),
        ("amqp://u:cana%00ry@host/", "its password has a character NUL"),
        ("amqp://u:canary@host/%ED%B3%BF", "not UTF-8"),
        (f"amqp://u:canary@host/{'v' * 256}", "255 bytes"),
    ],
)
def test_a_url_that_hides_such_a_text_is_refused(url: str, why: str) -> None:
    with pytest.raises(SettingsError, match=why) as caught:
        _ = AmqpUrl(url).parts
    assert "cana" not in str(caught.value)


@pytest.mark.parametrize("login", [":p@", "u:@", ":@", "%20:p@", "u:%20@", "u:%09%0A@"])
def test_a_url_with_an_empty_user_or_password_is_none(login: str) -> None:
    """As a program makes it of a variable that is not set."""
    with pytest.raises(SettingsError, match="must not be an empty text"):
        assert AmqpUrl(f"amqp://{login}host/").parts
