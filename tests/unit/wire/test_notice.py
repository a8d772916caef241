"""Notices: what they contain, and which are understood."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from miros_rabbitmq.urls import Address
from miros_rabbitmq.wire.notice import (
    Notice,
    NoticeKind,
    announce_broker,
    announce_listener,
    announced_broker,
    asks,
    is_listener,
)

LONGEST = Address(".".join(["a" * 49] * 5) + ".abc", 65_535)


@pytest.mark.parametrize(
    "address",
    [Address("10.0.0.2"), Address("robot.example"), Address("10.0.0.5", 5673), LONGEST],
    ids=str,
)
def test_a_broker_that_is_announced_is_understood(address: Address) -> None:
    notice = announce_broker(address)
    assert notice.kind == NoticeKind.BROKER
    assert announced_broker(notice) == address
    assert not is_listener(notice)


def test_the_bytes_of_notices_are_these_as_other_versions_read_them() -> None:
    assert announce_broker(Address("10.0.0.5", 5673)) == (1, b"10.0.0.5:5673")
    assert announce_listener(asks=False) == (2, b"\0")
    assert announce_listener(asks=True) == (2, b"\1")


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
    ],
    ids=repr,
)
def test_a_notice_that_makes_no_sense_names_no_broker(body: bytes) -> None:
    assert announced_broker(Notice(NoticeKind.BROKER, body)) is None


def test_a_notice_of_another_kind_names_no_broker() -> None:
    for kind in (0, NoticeKind.LISTENER, 3, 255):
        assert announced_broker(Notice(kind, b"10.0.0.1:5672")) is None


@given(st.integers(0, 255), st.binary(max_size=300))
def test_any_bytes_are_looked_at_without_an_error(kind: int, body: bytes) -> None:
    notice = Notice(kind, body)
    address = announced_broker(notice)
    assert address is None or str(address).isprintable()
    assert is_listener(notice) == (kind == 2)
    assert asks(notice) in (True, False)
