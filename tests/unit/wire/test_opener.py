"""Only whole, authentic messages are opened; the keys of epochs are remembered within bounds."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given, settings
from hypothesis import strategies as st

from miros_rabbitmq.exceptions import MessageRejected, RejectReason
from miros_rabbitmq.wire.codec import Codec
from miros_rabbitmq.wire.envelope import MESH, SNOOP_TRACE, Purpose
from miros_rabbitmq.wire.keyring import RootKey
from miros_rabbitmq.wire.message import HEADER_BYTES, Header, join, pack_record, read_records
from miros_rabbitmq.wire.opener import Opener
from miros_rabbitmq.wire.record import unpack
from miros_rabbitmq.wire.sealer import address_bytes
from tests.wire import Forger, Peer

KEY = base64.urlsafe_b64encode(bytes(range(32)))
OTHER_KEY = base64.urlsafe_b64encode(bytes(32))
ROUTING_KEY = "a.key"

ONE, TWO, THREE = (("SIGNAL", text) for text in ("one", "two", "three"))


def opener(codec: Codec | None = None, network: str = MESH, **options: int) -> Opener:
    options.setdefault("most_records", 100)
    return Opener(codec or Codec(KEY), network, **options)


def sequences(one: Opener, message: bytes, routing_key: str = ROUTING_KEY) -> list[int]:
    return [unpack(plain).sequence for plain in one.open(message, routing_key).contents]


def reason_for(
    message: bytes, one: Opener | None = None, routing_key: str = ROUTING_KEY
) -> RejectReason:
    with pytest.raises(MessageRejected) as caught:
        (one or opener()).open(message, routing_key)
    return caught.value.reason


def knowing(message: bytes) -> Opener:
    """An opener that has opened the message before."""
    one = opener()
    one.open(message, ROUTING_KEY)
    return one


def taken_apart(message: bytes) -> tuple[bytes, list[bytes]]:
    """The header, and the records as bytes."""
    records = [pack_record(*one) for one in read_records(message, 100)]
    return message[:HEADER_BYTES], records


@pytest.fixture
def peer() -> Peer:
    return Peer(Codec(KEY), MESH, "sender")


def test_a_message_is_opened_with_everything_that_its_sender_put_in(peer: Peer) -> None:
    message = peer.message(ONE, TWO)
    opened = opener().open(message, ROUTING_KEY)
    assert opened.header == Header(Purpose.EVENTS, RootKey(KEY).id, peer.sealer.epoch)
    contents = [unpack(plain) for plain in opened.contents]
    assert [content.sender for content in contents] == ["sender", "sender"]
    assert [content.sequence for content in contents] == [1, 2]
    assert [Codec(KEY).deserialize(content.body) for content in contents] == [ONE, TWO]


def test_the_same_event_never_looks_the_same_twice(peer: Peer) -> None:
    seen = {read_records(peer.message(ONE), 1)[0][1] for _ in range(20)}
    assert len(seen) == 20


# Changed on the way.


@pytest.mark.parametrize("make", [lambda _: opener(), knowing], ids=["new", "knows the epoch"])
def test_a_message_with_any_one_bit_flipped_is_refused(
    peer: Peer, make: Callable[[bytes], Opener]
) -> None:
    message = peer.message(ONE, TWO)
    one = make(message)
    for at in range(len(message)):
        for bit in range(8):
            flipped = message[:at] + bytes([message[at] ^ 1 << bit]) + message[at + 1 :]
            assert isinstance(reason_for(flipped, one), RejectReason)
    assert sequences(one, message) == [1, 2]


@pytest.mark.parametrize("make", [lambda _: opener(), knowing], ids=["new", "knows the epoch"])
def test_a_message_that_is_cut_off_within_a_record_is_refused(
    peer: Peer, make: Callable[[bytes], Opener]
) -> None:
    message = peer.message(ONE, TWO)
    one = make(message)
    whole = len(join(*_first(message)))
    for end in range(len(message)):
        if end != whole:
            assert reason_for(message[:end], one) is RejectReason.MALFORMED
    assert sequences(one, message[:whole]) == [1]


def _first(message: bytes) -> tuple[bytes, list[bytes]]:
    header, records = taken_apart(message)
    return header, records[:1]


def test_one_bad_record_makes_the_whole_message_refused(peer: Peer) -> None:
    header, records = taken_apart(peer.message(ONE, TWO, THREE))
    for at in range(3):
        bad = bytearray(records[at])
        bad[-1] ^= 1
        mixed = [*records[:at], bytes(bad), *records[at + 1 :]]
        assert reason_for(join(header, mixed)) is RejectReason.NOT_AUTHENTIC


def test_records_of_one_message_may_come_in_another_order_or_number(peer: Peer) -> None:
    """A broker can do that to messages, too: the window judges the numbers."""
    header, (one, two, three) = taken_apart(peer.message(ONE, TWO, THREE))
    for records, expected in (
        ([three, one, two], [3, 1, 2]),
        ([two], [2]),
        ([one, three], [1, 3]),
        ([one, one], [1, 1]),
    ):
        assert sequences(opener(), join(header, records)) == expected


def test_records_of_several_messages_of_a_sender_may_be_joined(peer: Peer) -> None:
    header, first = taken_apart(peer.message(ONE))
    _, second = taken_apart(peer.message(TWO))
    assert sequences(opener(), join(header, [*first, *second])) == [1, 2]


# Captured, and put where it does not belong.


def test_a_record_of_another_epoch_makes_a_message_refused(peer: Peer) -> None:
    header, own = taken_apart(peer.message(ONE))
    other = Peer(Codec(KEY), MESH, "sender")
    _, others = taken_apart(other.message(ONE))
    assert reason_for(join(header, others)) is RejectReason.NOT_AUTHENTIC
    assert reason_for(join(header, [*own, *others])) is RejectReason.NOT_AUTHENTIC


def test_a_record_of_another_purpose_makes_a_message_refused(peer: Peer) -> None:
    header, own = taken_apart(peer.message(ONE))
    notice = peer.record(ONE, purpose=Purpose.NOTICES)
    assert reason_for(join(header, [*own, notice])) is RejectReason.NOT_AUTHENTIC
    as_notice = Header(Purpose.NOTICES, RootKey(KEY).id, peer.sealer.epoch).pack()
    assert reason_for(join(as_notice, own)) is RejectReason.NOT_AUTHENTIC
    assert sequences(opener(), join(as_notice, [notice])) == [1]


@pytest.mark.parametrize("make", [lambda _: opener(), knowing], ids=["new", "knows the epoch"])
def test_a_message_by_another_routing_key_is_refused(
    peer: Peer, make: Callable[[bytes], Opener]
) -> None:
    message = peer.message(ONE)
    one = make(message)
    for other in ("a.kez", "a", "", "a.key.", "a.key\0", "A.key", "#"):
        assert reason_for(message, one, other) is RejectReason.NOT_AUTHENTIC
        assert sequences(one, message) == [1]


def test_a_record_for_another_routing_key_makes_a_message_refused(peer: Peer) -> None:
    header, own = taken_apart(peer.message(ONE))
    _, others = taken_apart(peer.message(ONE, routing_key="another.key"))
    assert reason_for(join(header, [*own, *others])) is RejectReason.NOT_AUTHENTIC


def test_a_message_of_another_exchange_is_refused(peer: Peer) -> None:
    assert reason_for(peer.message(ONE), opener(network=SNOOP_TRACE)) is RejectReason.NOT_AUTHENTIC
    line = Peer(Codec(KEY), SNOOP_TRACE).message("a line")
    assert reason_for(line) is RejectReason.NOT_AUTHENTIC
    assert sequences(opener(network=SNOOP_TRACE), line) == [1]


def test_exchange_and_routing_key_cannot_be_shifted_into_each_other() -> None:
    codec = Codec(KEY)
    message = Peer(codec, "net.a").message(1, routing_key="b.key")
    assert reason_for(message, opener(network="net.ab"), ".key") is RejectReason.NOT_AUTHENTIC
    assert reason_for(message, opener(network="net."), "ab.key") is RejectReason.NOT_AUTHENTIC
    addresses = {address_bytes(b"header", "net.ab.key"[:n], "net.ab.key"[n:]) for n in range(11)}
    assert len(addresses) == 11


def test_routing_keys_of_one_epoch_may_alternate(peer: Peer) -> None:
    one = opener()
    for number in range(1, 4):
        for key in ("a.key", "b.key", "ключ"):
            assert sequences(one, peer.message(ONE, routing_key=key), key) == [number]


# Made up.


@settings(max_examples=200)
@given(st.binary(max_size=300), st.sampled_from(["as it is", "mark", "header", "record"]))
def test_all_garbage_is_refused(garbage: bytes, behind: str) -> None:
    forger = Forger(KEY, MESH)
    begin = {
        "as it is": b"",
        "mark": forger.header[:2],
        "header": forger.header,
        "record": forger.message(forger.plain(1, b"body")),
    }[behind]
    if garbage or behind != "record":
        reason_for(begin + garbage)


@pytest.mark.parametrize("purpose", [0, 3, 255])
def test_a_purpose_that_is_not_known_is_refused(purpose: int) -> None:
    good = Forger(KEY, MESH).message(b"plain of 16 byte")
    header = Header(purpose, good[3:7], good[7:HEADER_BYTES]).pack()
    assert reason_for(header + good[HEADER_BYTES:]) is RejectReason.MALFORMED


def test_more_records_than_allowed_are_refused_before_any_is_decrypted(peer: Peer) -> None:
    message = peer.message(ONE, TWO, THREE)
    assert reason_for(message, opener(most_records=2)) is RejectReason.OVERSIZE
    assert sequences(opener(most_records=3), message) == [1, 2, 3]


# Keys.


def test_another_key_opens_nothing_and_the_error_says_what_to_do(peer: Peer) -> None:
    with pytest.raises(MessageRejected, match="the same mesh_encryption_key") as caught:
        opener(Codec(OTHER_KEY)).open(peer.message(ONE), ROUTING_KEY)
    assert caught.value.reason is RejectReason.NOT_AUTHENTIC


def test_the_first_of_several_keys_encrypts_and_every_one_decrypts() -> None:
    message = Peer(Codec([KEY, OTHER_KEY]), MESH).message(ONE)
    assert sequences(opener(Codec(KEY)), message) == [1]
    assert reason_for(message, opener(Codec(OTHER_KEY))) is RejectReason.NOT_AUTHENTIC
    both = opener(Codec([OTHER_KEY, KEY]))
    for key in (KEY, OTHER_KEY):
        assert sequences(both, Peer(Codec(key), MESH).message(ONE)) == [1]


def test_keys_are_rotated_without_a_message_that_is_missed() -> None:
    """Every node has the old key; then both keys; then the new one first; then the new one only."""
    steps = [[KEY], [KEY, OTHER_KEY], [OTHER_KEY, KEY], [OTHER_KEY]]
    codecs = [Codec(KEY), Codec(KEY)]
    peers = [Peer(codec, MESH) for codec in codecs]
    openers = [opener(codec) for codec in codecs]
    numbers = iter(range(1, 100))
    for step in steps:
        for ahead in (0, 1):
            codecs[ahead].change_keys(step)
            number = next(numbers)
            for sender, receiver in ((0, 1), (1, 0)):
                message = peers[sender].message(ONE)
                assert sequences(openers[receiver], message) == [number]


def test_two_keys_with_the_same_id_are_both_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    made = RootKey.__init__

    def with_one_id(self: RootKey, key: bytes) -> None:
        made(self, key)
        self.id = b"same"

    monkeypatch.setattr(RootKey, "__init__", with_one_id)
    both = opener(Codec([KEY, OTHER_KEY]))
    forgers = [Forger(key, MESH) for key in (KEY, OTHER_KEY)]
    assert forgers[0].header == forgers[1].header
    for _ in range(2):
        for number, forger in enumerate(forgers, 1):
            message = forger.message(forger.plain(number, b"body"))
            assert sequences(both, message) == [number]
    stranger = Forger(base64.urlsafe_b64encode(b"s" * 32), MESH)
    message = stranger.message(stranger.plain(1, b"body"))
    assert reason_for(message, both) is RejectReason.NOT_AUTHENTIC


# Which keys of epochs are remembered.


@pytest.fixture
def derived(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The epochs whose keys were derived, in order."""
    epochs: list[bytes] = []
    derive = RootKey.cipher

    def noted(self: RootKey, epoch: bytes, purpose: Purpose, network: str) -> AESGCM:
        epochs.append(epoch)
        return derive(self, epoch, purpose, network)

    monkeypatch.setattr(RootKey, "cipher", noted)
    return epochs


def epochs(count: int) -> list[bytes]:
    return [number.to_bytes(16, "big") for number in range(count)]


def message_of(epoch: bytes) -> bytes:
    forger = Forger(KEY, MESH, epoch=epoch)
    return forger.message(forger.plain(1, b"body"))


def test_the_key_of_an_epoch_is_derived_once(derived: list[bytes]) -> None:
    one = opener()
    messages = [message_of(epoch) for epoch in epochs(5)]
    derived.clear()
    for _ in range(3):
        for message in messages:
            one.open(message, ROUTING_KEY)
    assert derived == epochs(5)


def test_it_serves_all_routing_keys_of_the_epoch(derived: list[bytes], peer: Peer) -> None:
    one = opener()
    keys = ("a.key", "b.key", "a.key", "a.key", "b.key")
    messages = [(peer.message(ONE, routing_key=key), key) for key in keys]
    derived.clear()
    for message, key in messages:
        one.open(message, key)
    assert derived == [peer.sealer.epoch]


def test_so_many_keys_are_remembered_those_that_were_used_last(derived: list[bytes]) -> None:
    one = opener(most_ciphers=3)
    messages = [message_of(epoch) for epoch in epochs(4)]
    for number in (0, 1, 2, 0, 3):
        one.open(messages[number], ROUTING_KEY)
    derived.clear()
    for number in (0, 2, 3):
        one.open(messages[number], ROUTING_KEY)
    assert derived == []
    one.open(messages[1], ROUTING_KEY)
    assert derived == epochs(2)[1:]


def test_a_message_that_is_not_authentic_is_not_remembered_and_pushes_out_none(
    derived: list[bytes],
) -> None:
    one = opener(most_ciphers=2)
    known = [message_of(epoch) for epoch in epochs(2)]
    for message in known:
        one.open(message, ROUTING_KEY)
    made_up = message_of(bytes(16))[HEADER_BYTES:]
    for _ in range(50):
        header = Header(Purpose.EVENTS, RootKey(KEY).id, os.urandom(16)).pack()
        assert reason_for(header + made_up, one) is RejectReason.NOT_AUTHENTIC
        assert reason_for(message_of(os.urandom(16)), one, "another.key")
    derived.clear()
    for message in known:
        one.open(message, ROUTING_KEY)
    assert derived == []


def test_a_change_of_keys_forgets_the_keys_of_epochs(derived: list[bytes]) -> None:
    codec = Codec(KEY)
    one = opener(codec)
    message = message_of(epochs(1)[0])
    one.open(message, ROUTING_KEY)
    codec.change_keys(OTHER_KEY)
    assert reason_for(message, one) is RejectReason.NOT_AUTHENTIC
    codec.change_keys([OTHER_KEY, KEY])
    derived.clear()
    for _ in range(2):
        one.open(message, ROUTING_KEY)
    assert derived == epochs(1)
