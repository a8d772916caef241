"""Junk by somebody who has RabbitMQ's password but no key: what a message costs its receiver.

The cost is counted in steps of the interpreter (calls of functions, Python's and C's), so that it
needs no clock.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.fernet import Fernet

from miros_rabbitmq import Limits
from miros_rabbitmq.amqp.envelopes import Admission, EnvelopeTaker
from miros_rabbitmq.amqp.message_io import Delivery
from miros_rabbitmq.amqp.receiver import Outcome
from miros_rabbitmq.amqp.sinks import DirectSink
from miros_rabbitmq.exceptions import RejectReason
from miros_rabbitmq.wire.codec import Codec
from miros_rabbitmq.wire.envelope import Purpose
from miros_rabbitmq.wire.keyring import RootKey
from miros_rabbitmq.wire.message import (
    HEADER_BYTES,
    NONCE_BYTES,
    Header,
    Sealed,
    pack_record,
    read_records,
)
from miros_rabbitmq.wire.notice import LISTENER_KEY
from tests.wire import Peer

NET = "net"
KEY = Fernet.generate_key()
CODEC = Codec(KEY)
PEER = Peer(CODEC, NET)
KEY_ID = RootKey(KEY).id

A_FEW = 250
"""So many steps may a message take that is refused. An honest one with one event takes 75.
A made-up epoch takes up to 183 with cryptography 41, which derives keys in Python."""

COUNTED = Limits().batch_events
"""Of an epoch that was heard, the records are counted up to so many: one step for each."""

LOGGED = 10
"""After so many refused messages of a kind, none of them is logged for a minute."""


def taker(**admission: Any) -> EnvelopeTaker:
    sink = DirectSink("at once", lambda _: None)
    wanted = Admission(bindings=["#"], notice_bindings=[LISTENER_KEY], **admission)
    one = EnvelopeTaker("tested", NET, CODEC, sink, Limits(), wanted)
    one.take(PEER.delivery("heard before"))
    return one


def steps(one: EnvelopeTaker, message: bytes, routing_key: str = "a.key") -> tuple[Outcome, int]:
    """Have a message taken as a receiver does; return what became of it, and its cost."""
    delivery = Delivery(message, routing_key, NET, False, 1)
    count = 0

    def note(_frame: object, event: str, _argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    outcome: Any = Outcome.REJECTED
    before = sys.getprofile()
    sys.setprofile(note)
    try:
        if not one.refuse_oversize(delivery):
            outcome = one.take(delivery)
    finally:
        sys.setprofile(before)
    assert isinstance(outcome, Outcome)
    return outcome, count


def bad(size: int = 32) -> bytes:
    """A record that nobody with a key has made."""
    return pack_record(os.urandom(NONCE_BYTES), os.urandom(size))


def seen() -> bytes:
    """A header as it is seen on the wire."""
    return PEER.message("another")[:HEADER_BYTES]


def made_up(purpose: int = Purpose.EVENTS, key_id: bytes = KEY_ID) -> bytes:
    return Header(purpose, key_id, os.urandom(16)).pack()


HEADS: dict[str, Callable[[], bytes]] = {
    "an epoch seen on the wire": seen,
    "a made-up epoch": made_up,
    "another key": lambda: made_up(key_id=os.urandom(4)),
    "notices": lambda: made_up(Purpose.NOTICES),
    "no purpose": lambda: made_up(77),
}
TAILS: dict[str, Callable[[], bytes]] = {
    "nothing": lambda: b"",
    "one bad record": bad,
    "a large bad record": lambda: bad(100_000),
    "thousands of bad records": lambda: bad() * 2_000,
    "too many bad records": lambda: bad() * 20_000,
    "zeros": lambda: b"\0" * 4_096,
    "line ends": lambda: b"\n" * 100_000,
    "records of one byte": lambda: b"\0\0\0\1x" * 2_000,
    "a record longer than the message": lambda: b"\0\0\xff\xff" + b"x" * 4_096,
    "a bad record and an impossible one": lambda: bad() + b"\xff" * 4_096,
    "a bad record and honest ones": lambda: bad() + PEER.message(*range(500))[HEADER_BYTES:],
}


@pytest.mark.parametrize("tail", TAILS)
@pytest.mark.parametrize("head", HEADS)
def test_junk_is_refused_at_its_first_bad_part(head: str, tail: str) -> None:
    one = taker()
    for routing_key in ("a.key", LISTENER_KEY):
        for _ in range(LOGGED):
            steps(one, HEADS[head]() + TAILS[tail](), routing_key)
        for _ in range(3):
            outcome, cost = steps(one, HEADS[head]() + TAILS[tail](), routing_key)
            assert outcome is Outcome.REJECTED
            assert cost < A_FEW + COUNTED * (head == "an epoch seen on the wire")


@pytest.mark.parametrize("begin", [b"", b"gAAAA", b"\xf8", b"\xf8\1", b"\xf8\3", b"\xf8\2\1"])
@pytest.mark.parametrize("size", [0, 1, 4_096, 100_000, 2_000_000])
def test_line_ends_of_any_number_cost_the_same(begin: bytes, size: int) -> None:
    one = taker()
    steps(one, begin + b"\n" * size)
    for _ in range(3):
        outcome, cost = steps(one, begin + b"\n" * size)
        assert outcome is Outcome.REJECTED
        assert cost < A_FEW


@pytest.mark.parametrize("size", [1, 30, 500])
def test_a_message_that_was_captured_and_ends_badly_costs_less_than_the_honest_one(
    size: int,
) -> None:
    honest, worth = steps(taker(), PEER.message(*range(size)))
    assert honest is Outcome.HANDLED
    for tail in TAILS.values():
        one = taker()
        steps(one, PEER.message(1) + b"\n")
        steps(one, PEER.message(1) + bad())
        outcome, cost = steps(one, PEER.message(*range(size)) + (tail() or b"\n"))
        assert outcome is Outcome.REJECTED
        assert cost < A_FEW + worth + COUNTED


@pytest.mark.parametrize("at", [0, 1, 7])
def test_nothing_behind_a_bad_record_is_decrypted(at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    decrypted: list[bytes] = []
    make = RootKey.cipher

    class Counting:
        def __init__(self, *arguments: Any) -> None:
            self._cipher = make(*arguments)

        def decrypt(self, nonce: bytes, ciphertext: bytes, address: bytes) -> bytes:
            decrypted.append(nonce)
            return self._cipher.decrypt(nonce, ciphertext, address)

    monkeypatch.setattr(RootKey, "cipher", lambda *arguments: Counting(*arguments))
    message = PEER.message(*range(20))
    header, records = message[:HEADER_BYTES], list(read_records(message, 20))
    mixed: list[Sealed] = [*records[:at], (records[at][0], bytes(32)), *records[at + 1 :]]
    one = taker()
    for routing_key in ("a.key", "another.key"):
        decrypted.clear()
        body = header + b"".join(pack_record(*record) for record in mixed)
        assert steps(one, body, routing_key)[0] is Outcome.REJECTED
        expected = at + 1 if routing_key == "a.key" else 1
        assert decrypted == [nonce for nonce, _ in mixed[:expected]]


def test_epochs_that_somebody_makes_up_push_out_nothing_that_is_remembered() -> None:
    """That some events were rejected, and so are not lost, is remembered of 256 senders."""
    codec = Codec(KEY)
    peer = Peer(codec, NET)
    sink = DirectSink("at once", lambda _: None)
    one = EnvelopeTaker("tested", NET, codec, sink, Limits(), Admission(bindings=["#"]))
    one.take(peer.delivery(1))
    codec.change_keys(Fernet.generate_key())
    honest = Delivery(peer.message(2, 3), "a.key", NET, False, 1)
    codec.change_keys(KEY)
    assert one.take(honest) is Outcome.REJECTED
    for _ in range(1_000):
        one.take(Delivery(made_up() + bad(), "a.key", NET, False, 1))
    assert one.rejected == {RejectReason.NOT_AUTHENTIC: 1_001}
    one.take(peer.delivery(4))
    assert (one.gaps, one.unread) == (0, 2)


def test_routing_keys_that_somebody_makes_up_cost_little_and_are_not_kept() -> None:
    one = taker()
    steps(one, seen() + bad(), "a.key")
    for number in range(3_000):
        key = f"{number}." + "a." * 120
        outcome, cost = steps(one, seen() + bad(), key)
        assert outcome is Outcome.REJECTED
        assert cost < A_FEW + len(key)
