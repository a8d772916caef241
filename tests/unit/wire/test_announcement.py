"""Announcements of brokers: their content, which are understood, and that no event is one."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography.fernet import Fernet
from hypothesis import given
from hypothesis import strategies as st

from miros_rabbitmq import Codec, MessageRejected, RejectReason
from miros_rabbitmq.urls import Address
from miros_rabbitmq.wire.announcement import announce_broker, announced_broker, is_announcement
from miros_rabbitmq.wire.codec import is_event_body
from miros_rabbitmq.wire.envelope import MESH, NOTICE

ONE, TWO = Address("10.0.0.2"), Address("robot.example")


@pytest.mark.parametrize("address", [ONE, TWO, Address("10.0.0.5", 5673)])
def test_a_broker_that_is_announced_is_understood(address: Address) -> None:
    body = announce_broker(address)
    assert is_announcement(body)
    assert announced_broker(body) == announced_broker(list(body)) == address


@pytest.mark.parametrize(
    "body",
    [
        ("broker",),
        ("broker", 7),
        ("broker", ""),
        ("broker", "10.0.0.1:http"),
        ("broker", "u:p@10.0.0.1"),
        ("broker", "0.0.0.0:5672"),
        ("broker", "224.0.0.1:5672"),
        ("broker", "255.255.255.255:5672"),
        ("broker", "a" * 300),
        ("broker", "host\x00name"),
        ("something of a later version", {"at": "10.0.0.1"}),
    ],
)
def test_an_announcement_that_makes_no_sense_names_no_broker(body: Any) -> None:
    assert is_announcement(body)
    assert announced_broker(body) is None


@given(st.recursive(st.none() | st.text() | st.integers() | st.binary(), st.lists))
def test_any_data_is_checked_for_being_an_announcement_without_an_error(body: Any) -> None:
    if is_announcement(body):
        announced_broker(body)


def mesh_codec(key: bytes, *, notices: bool) -> Codec:
    check = is_announcement if notices else None
    return Codec(MESH, [key], check_body=is_event_body, check_notice=check)


def test_a_notice_is_no_event_and_an_event_no_notice() -> None:
    key = Fernet.generate_key()
    codec = mesh_codec(key, notices=True)
    body = announce_broker(ONE)
    assert codec.decode(codec.encode("name", 1, NOTICE, body)).body == body
    plain = Codec(MESH, [key])
    for sequence, wrong in ((NOTICE, "text"), (NOTICE, ()), (1, ("broker", "x", "y"))):
        with pytest.raises(MessageRejected) as caught:
            codec.decode(plain.encode("name", 1, sequence, wrong))
        assert caught.value.reason is RejectReason.MALFORMED


def test_a_network_without_notices_takes_none() -> None:
    key = Fernet.generate_key()
    token = mesh_codec(key, notices=True).encode("name", 1, NOTICE, announce_broker(ONE))
    with pytest.raises(MessageRejected):
        mesh_codec(key, notices=False).decode(token)
