"""Notices: what they contain, and which are understood."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from miros_rabbitmq.urls import Address
from miros_rabbitmq.wire.notice import (
    MOST_LEFT,
    MOST_NUMBERS,
    Notice,
    NoticeKind,
    Trouble,
    WrongClock,
    announce_broker,
    announce_listener,
    announced_broker,
    announced_pattern,
    asked_key,
    asks,
    is_listener,
    left_addresses,
    tell_clock,
    tell_numbers,
    tell_trouble,
    told_clock,
    told_numbers,
    told_trouble,
)

LONGEST = Address(".".join(["a" * 49] * 5) + ".abc", 65_535)


@pytest.mark.parametrize(
    "address",
    [
        Address("10.0.0.2"),
        Address("robot.example"),
        Address("10.0.0.5", 5673),
        Address("2001:db8::1", 5673),
        Address("::1"),
        LONGEST,
    ],
    ids=str,
)
def test_a_broker_that_is_announced_is_understood(address: Address) -> None:
    notice = announce_broker(address)
    assert notice.kind == NoticeKind.BROKER
    assert announced_broker(notice) == address
    assert not is_listener(notice)


def test_the_bytes_of_notices_are_these_as_other_versions_read_them() -> None:
    assert announce_broker(Address("10.0.0.5", 5673)) == (1, b"10.0.0.5:5673")
    assert announce_broker(Address("2001:db8::1", 5673)) == (1, b"[2001:db8::1]:5673")
    assert announce_listener(asks=False) == (2, b"\0")
    assert announce_listener(asks=True) == (2, b"\1")
    assert announce_listener(asks=False, pattern="a.*") == (2, b"\0\3a.*")
    assert announce_listener(asks=True, pattern="a.*", key="b") == (2, b"\1\3a.*\1b")
    assert announce_listener(asks=True, key="b") == (2, b"\1\0\1b")
    assert tell_numbers([("a.key", 258), ("", 2**63 - 1)]) == (
        3,
        b"\x05a.key\0\0\0\0\0\0\1\2" + b"\0\x7f" + 7 * b"\xff",
    )
    assert tell_clock(WrongClock(bytes(range(16)), -2)) == (
        4,
        bytes(range(16)) + 7 * b"\xff" + b"\xfe",
    )
    assert tell_trouble(Trouble("fan", "wäit", 3, 258)) == (
        5,
        b"\0\0\0\3\0\0\1\2\3fan\5w\xc3\xa4it",
    )


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"10.0.0.1:http",
        b"u:p@10.0.0.1",
        b"0.0.0.0:5672",
        b"224.0.0.1:5672",
        b"255.255.255.255:5672",
        b"a" * 300,
        b"host\x00name",
        b"host\nname:5672",
        b"\xff\xfe",
        b"\xe2\x80\xae:5672",
        "robot\u2100.lan".encode(),
        b"127.1:5672",
        b"2130706433:5672",
        b"0x7f000001:5672",
        b"0177.0.0.1:5672",
        b"127.0.0.1.:5672",
        b"10.0.0.1:05672",
        b"[::ffff:127.0.0.1]:5672",
        b"[::ffff:7f00:1]:5672",
        b"[0::1]:5672",
        b"[::1%lo]:5672",
        b"LocalHost:5672",
        b"robot.:5672",
        b"10.0.0.1:5672\n",
        b"\xef\xbc\x91.0.0.1:5672",
        b"0x7f.1",
        b"[::]:5672",
        b"[ff02::1]:5672",
        b"[fe80::1]:5672",
        b"[fe80::1%eth0]:5672",
        b"[::ffff:0.0.0.0]:5672",
    ],
    ids=repr,
)
def test_a_notice_that_makes_no_sense_names_no_broker(body: bytes) -> None:
    assert announced_broker(Notice(NoticeKind.BROKER, body)) is None


def test_a_broker_that_has_moved_is_announced_with_where_it_was() -> None:
    now, *left = [Address(f"10.0.0.{number}") for number in range(3 + MOST_LEFT)]
    notice = announce_broker(now, left[:1])
    assert notice == (1, b"10.0.0.0:5672 10.0.0.1:5672")
    assert announced_broker(notice) == now
    assert left_addresses(notice) == (left[0],)
    assert left_addresses(announce_broker(now)) == ()
    assert left_addresses(announce_broker(now, left)) == tuple(left[:MOST_LEFT])
    longest = announce_broker(LONGEST, [LONGEST] * MOST_LEFT)
    assert left_addresses(longest) == (LONGEST,) * MOST_LEFT


def test_former_addresses_that_make_no_sense_are_passed_over() -> None:
    odd = b"10.0.0.1 0.0.0.0 u:p@10.0.0.3 10.0.0.4"
    assert left_addresses(Notice(NoticeKind.BROKER, odd)) == (Address("10.0.0.4"),)
    assert left_addresses(Notice(NoticeKind.LISTENER, odd)) == ()
    assert announced_broker(Notice(NoticeKind.BROKER, b" 10.0.0.1")) is None


def test_a_notice_of_another_kind_names_no_broker() -> None:
    for kind in (0, NoticeKind.LISTENER, 3, 255):
        assert announced_broker(Notice(kind, b"10.0.0.1:5672")) is None


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"\1\3a.*\1b", ("a.*", "b")),
        (b"\1\3a.*", ("a.*", "")),
        (b"\1\0\1b", (None, "b")),
        (b"\1\3a.*\1b\0", (None, "")),
        (b"\1\3a.*\2b", (None, "")),
        (b"\1\1\xff\1b", (None, "")),
        (b"\1", (None, "")),
        (b"", (None, "")),
    ],
)
def test_what_a_neighbour_listens_to_and_asks_is_understood(
    body: bytes, told: tuple[str | None, str]
) -> None:
    notice = Notice(NoticeKind.LISTENER, body)
    assert (announced_pattern(notice), asked_key(notice)) == told
    other = Notice(NoticeKind.TROUBLE, body)
    assert (announced_pattern(other), asked_key(other)) == (None, "")


@given(st.integers(0, 255), st.binary(max_size=300))
def test_any_bytes_are_looked_at_without_an_error(kind: int, body: bytes) -> None:
    notice = Notice(kind, body)
    address = announced_broker(notice)
    assert address is None or str(address).isprintable()
    left = left_addresses(notice)
    assert len(left) <= MOST_LEFT
    assert all(str(one).isprintable() for one in left)
    assert is_listener(notice) == (kind == 2)
    assert asks(notice) in (True, False)
    if announced_pattern(notice) is not None or asked_key(notice):
        again = announce_listener(
            asks=asks(notice), pattern=announced_pattern(notice) or "", key=asked_key(notice)
        )
        assert again.body[1:] == notice.body[1:].removesuffix(b"\0")
    numbers = told_numbers(notice)
    assert not numbers or tell_numbers(numbers) == notice
    clock = told_clock(notice)
    assert clock is None or kind == 4
    trouble = told_trouble(notice)
    assert trouble is None or tell_trouble(trouble) == notice


# Numbers.

keys = st.text(st.characters(codec="utf-8"), max_size=63)


@given(st.lists(st.tuples(keys, st.integers(1, 2**63 - 1)), max_size=MOST_NUMBERS))
def test_numbers_that_are_told_are_understood(numbers: list[tuple[str, int]]) -> None:
    assert told_numbers(tell_numbers(numbers)) == numbers


def test_no_more_numbers_are_told_or_heard_than_there_may_be() -> None:
    many = [(f"key.{n}", n + 1) for n in range(MOST_NUMBERS + 1)]
    notice = tell_numbers(many)
    assert told_numbers(notice) == many[:-1]
    assert told_numbers(notice._replace(body=notice.body + b"\1x" + bytes(7) + b"\1")) == []


@pytest.mark.parametrize(
    "body",
    [
        b"\5a.key",
        b"\5a.key\0\0\0\0\0\0\1",
        b"\0" + bytes(8),
        b"\0\x80" + bytes(7),
        b"\1\xff" + bytes(7) + b"\1",
        b"\1x" + bytes(7) + b"\1" + b"\1",
    ],
    ids=repr,
)
def test_numbers_that_make_no_sense_are_none(body: bytes) -> None:
    assert told_numbers(Notice(NoticeKind.NUMBERS, body)) == []


# Clocks.


@pytest.mark.parametrize("ahead_ms", [0, 1, -1, 312_000, -(2**63) + 1, 2**63 - 1])
def test_a_clock_that_is_told_is_understood(ahead_ms: int) -> None:
    wrong = WrongClock(b"e" * 16, ahead_ms)
    assert told_clock(tell_clock(wrong)) == wrong


def test_a_clock_that_is_off_by_more_than_fits_is_told_as_off_by_the_most() -> None:
    assert told_clock(tell_clock(WrongClock(b"e" * 16, -(2**70)))) == (b"e" * 16, -(2**63) + 1)
    assert told_clock(tell_clock(WrongClock(b"e" * 16, 2**70))) == (b"e" * 16, 2**63 - 1)


@pytest.mark.parametrize("notice", [Notice(4, b""), Notice(4, bytes(25)), Notice(3, bytes(24))])
def test_a_clock_that_makes_no_sense_is_none(notice: Notice) -> None:
    assert told_clock(notice) is None


# A stuck chart.


def test_trouble_that_is_told_is_understood() -> None:
    trouble = Trouble("fan", "", 30, 0)
    assert told_trouble(tell_trouble(trouble)) == trouble


def test_trouble_is_cut_to_what_fits_and_names_to_whole_characters() -> None:
    told = told_trouble(tell_trouble(Trouble("x" + 300 * "\u20ac", "a\nb\ud800", 2**40, -1)))
    assert told == ("x" + 84 * "\u20ac", "a b ", 2**32 - 1, 0)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        bytes(8),
        bytes(9),
        bytes(8) + b"\3fan",
        bytes(8) + b"\3fan\4wait?",
        bytes(8) + b"\3fa\n\4wait",
        bytes(8) + b"\3fan\4wa\x1bt",
        bytes(8) + b"\3fan\2\xff\xff",
    ],
    ids=repr,
)
def test_trouble_that_makes_no_sense_is_none(body: bytes) -> None:
    assert told_trouble(Notice(NoticeKind.TROUBLE, body)) is None
