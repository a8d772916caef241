"""Hosts are written in one way: names, IPv4 and IPv6 addresses; and what is no host is refused."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from miros_rabbitmq.host_names import NotAHost, ip_of, is_loopback, normal_host


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("Robot-B", "robot-b"),
        ("ROBOT-B.LAN.", "robot-b.lan"),
        ("robot_1.local", "robot_1.local"),
        ("Bücher.example", "xn--bcher-kva.example"),
        ("bu\u0308cher.example", "xn--bcher-kva.example"),
        ("XN--BCHER-KVA.example", "xn--bcher-kva.example"),
        ("robot\u3002lan", "robot.lan"),
        ("\uff32obot\uff0elan", "robot.lan"),
        ("\u212aelvin", "kelvin"),
        ("127.0.0.1", "127.0.0.1"),
        ("127.0.0.1.", "127.0.0.1"),
        ("\uff11\uff12\uff17.0.0.\uff11", "127.0.0.1"),
        ("a" * 63, "a" * 63),
        (".".join(["a" * 49] * 5) + ".abc", ".".join(["a" * 49] * 5) + ".abc"),
        ("::1", "::1"),
        ("0:0:0:0:0:0:0:1", "::1"),
        ("2001:DB8::0001", "2001:db8::1"),
        ("::ffff:127.0.0.1", "127.0.0.1"),
        ("::FFFF:7f00:1", "127.0.0.1"),
        ("FE80::1%eth0", "fe80::1%eth0"),
        ("::1%lo", "::1"),
    ],
)
def test_a_host_is_written_in_one_way(text: str, host: str) -> None:
    assert normal_host(text) == host
    assert normal_host(host) == host


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "1 to 63 letters"),
        (".", "1 to 63 letters"),
        ("a..b", "1 to 63 letters"),
        ("robot..", "1 to 63 letters"),
        ("a" * 64, "1 to 63 letters"),
        (".".join(["a" * 50] * 5), "at most 253"),
        ("ä" * 10_000, "at most 253"),
        ("ä." * 120, "at most 253"),
        ("a b", r"U\+0020 \(SPACE\)"),
        ("robot\u2100.lan", r"U\+2100 \(ACCOUNT OF\)"),
        ("robot\uff1a5672", r"U\+FF1A \(FULLWIDTH COLON\)"),
        ("robot\uff03.lan", "U[+]FF03"),
        ("robot\uff20lan", "U[+]FF20"),
        ("ro\u200bbot", r"U\+200B \(ZERO WIDTH SPACE\)"),
        ("ro\u202ebot", "U[+]202E"),
        ("ro\u00adbot", "U[+]00AD"),
        ("ro\ud800bot", r"U\+D800 \(unnamed\)"),
        ("robot\0", "U[+]0000"),
        ("ro%62ot", "U[+]0025"),
        ("\u05d0a", "IDNA"),
        ("127.1", "four decimal numbers"),
        ("0x7f.1", "four decimal numbers"),
        ("0x7f000001", "four decimal numbers"),
        ("2130706433", "four decimal numbers"),
        ("010.0.0.1", "four decimal numbers"),
        ("127.0.0.01", "four decimal numbers"),
        ("1.2.3.4.5", "four decimal numbers"),
        ("256.0.0.1", "four decimal numbers"),
        ("127.0x1", "four decimal numbers"),
        ("robot.7", "four decimal numbers"),
        ("1:2", "several colons"),
        (":::1", "several colons"),
        ("[::1]", "several colons"),
        ("::1%", "the name of an interface"),
        ("fe80::1%e/0", "the name of an interface"),
    ],
)
def test_what_is_no_host_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(NotAHost, match=reason) as caught:
        normal_host(text)
    assert not isinstance(caught.value.__context__, UnicodeError), "it would carry the text"


@given(st.text(max_size=40))
@example("\u2100")
@example("a\u2024b")
@example("1\u2488")
@example("\u1e9e.\u3002")
def test_a_host_that_is_taken_is_plain_and_stays_as_it_is(text: str) -> None:
    try:
        host = normal_host(text)
    except NotAHost:
        return
    assert host.isascii()
    assert host.isprintable()
    assert host == host.lower()
    assert not set(host) & set("/?#@[] ")
    assert normal_host(host) == host


def test_what_leads_to_this_machine_is_known_in_every_spelling_that_is_taken() -> None:
    for text in (
        "localhost",
        "LOCALHOST.",
        "robot.localhost",
        "IP6-localhost",
        "127.9.9.9",
        "::1",
        "::ffff:7f00:1",
    ):
        assert is_loopback(normal_host(text)), text
    for text in ("10.0.0.1", "robot.example", "localhost.example", "::", "fe80::1%eth0"):
        assert not is_loopback(normal_host(text)), text


def test_a_name_is_no_ip_address() -> None:
    assert str(ip_of("10.0.0.1")) == "10.0.0.1"
    assert str(ip_of("::1")) == "::1"
    assert ip_of("robot") is ip_of("a:b") is None
