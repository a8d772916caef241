"""Keys are derived as RFC 5869 says, and everything that should tell them apart does."""

from __future__ import annotations

import base64
import hashlib
import hmac
import itertools
from collections.abc import Iterable

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.fernet import Fernet
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from miros_rabbitmq.exceptions import MalformedKey
from miros_rabbitmq.wire.envelope import MESH, SNOOP_SPY, SNOOP_TRACE, Purpose
from miros_rabbitmq.wire.keyring import KeyRing, RootKey

SECRET, OTHER_SECRET = bytes(range(32)), bytes(32)
KEY, OTHER_KEY = (base64.urlsafe_b64encode(secret) for secret in (SECRET, OTHER_SECRET))
EPOCH = bytes(range(100, 116))
NONCE = bytes(12)


def hkdf(secret: bytes, salt: bytes, info: bytes, size: int) -> bytes:
    """HKDF with SHA-256, as RFC 5869, sections 2.2 and 2.3, writes it."""
    pseudorandom = hmac.digest(salt, secret, hashlib.sha256)
    made, block = b"", b""
    for number in itertools.count(1):
        if len(made) >= size:
            return made[:size]
        block = hmac.digest(pseudorandom, block + info + bytes((number,)), hashlib.sha256)
        made += block
    raise AssertionError


def test_hkdf_by_hand_agrees_with_the_first_test_vector_of_the_rfc() -> None:
    made = hkdf(b"\x0b" * 22, bytes(range(13)), bytes(range(0xF0, 0xFA)), 42)
    assert made.hex() == (
        "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"
    )


@given(
    secret=st.binary(min_size=32, max_size=32),
    epoch=st.binary(min_size=16, max_size=16),
    purpose=st.sampled_from(Purpose),
    network=st.sampled_from([MESH, SNOOP_SPY]) | st.text(min_size=1, max_size=40),
)
def test_the_key_of_an_epoch_is_that_of_rfc_5869(
    secret: bytes, epoch: bytes, purpose: Purpose, network: str
) -> None:
    name = network.encode()
    info = b"miros-rabbitmq\0" + bytes((2, purpose, len(name))) + name
    by_hand = AESGCM(hkdf(secret, epoch, info, 32))
    ours = RootKey(base64.urlsafe_b64encode(secret)).cipher(epoch, purpose, network)
    assert ours.decrypt(NONCE, by_hand.encrypt(NONCE, b"plain", b"data"), b"data") == b"plain"


@given(st.binary(min_size=32, max_size=32))
def test_the_id_of_a_key_is_that_of_rfc_5869(secret: bytes) -> None:
    # Without a salt, HKDF takes as many zeros as the hash has bytes.
    by_hand = hkdf(secret, bytes(32), b"miros-rabbitmq\0" + bytes((2, 0)), 4)
    assert RootKey(base64.urlsafe_b64encode(secret)).id == by_hand


def test_key_epoch_purpose_and_network_each_make_another_key() -> None:
    ciphers = [
        RootKey(key).cipher(epoch, purpose, network)
        for key in (KEY, OTHER_KEY)
        for epoch in (EPOCH, bytes(16))
        for purpose in Purpose
        for network in (MESH, SNOOP_TRACE, SNOOP_SPY, "", "m", MESH + "\0")
    ]
    assert len(ciphers) == 48
    made = [cipher.encrypt(NONCE, b"the same", None) for cipher in ciphers]
    assert len(set(made)) == len(made)
    with pytest.raises(InvalidTag):
        ciphers[0].decrypt(NONCE, made[1], None)


def test_an_id_is_no_part_of_a_key() -> None:
    root = RootKey(KEY)
    assert root.id not in SECRET
    assert root.id not in KEY


@pytest.mark.parametrize(
    "key", [KEY, KEY.replace(b"-", b"+").replace(b"_", b"/"), b" %b\n" % KEY], ids=repr
)
def test_every_spelling_of_a_key_that_is_accepted_is_the_same_key(key: bytes) -> None:
    secret = bytes(range(200, 232))
    spelled = key.replace(KEY, base64.urlsafe_b64encode(secret))
    assert b"-" in spelled or b"_" in spelled
    assert RootKey(spelled).id == RootKey(base64.urlsafe_b64encode(secret)).id


def ids(roots: Iterable[RootKey]) -> list[bytes]:
    return [root.id for root in roots]


def test_the_first_key_encrypts_and_each_is_found_by_its_id() -> None:
    ring = KeyRing([KEY, OTHER_KEY])
    assert ring.first.id == RootKey(KEY).id
    for key in (KEY, OTHER_KEY):
        own = RootKey(key).id
        assert ids(ring.with_id(own)) == [own]
    assert ring.with_id(b"none") == ()


def test_two_keys_with_the_same_id_are_both_found(monkeypatch: pytest.MonkeyPatch) -> None:
    made = RootKey.__init__

    def with_one_id(self: RootKey, key: bytes) -> None:
        made(self, key)
        self.id = b"same"

    monkeypatch.setattr(RootKey, "__init__", with_one_id)
    ring = KeyRing([KEY, OTHER_KEY])
    found = ring.with_id(b"same")
    assert len(found) == 2
    made_by = [root.cipher(EPOCH, Purpose.EVENTS, MESH).encrypt(NONCE, b"", None) for root in found]
    assert made_by[0] != made_by[1]
    assert found[0] is ring.first


@pytest.mark.parametrize("keys", ["abc", b"", [], [KEY, "abc"], None, 5, [None]])
def test_a_malformed_key_is_refused(keys: object) -> None:
    with pytest.raises(MalformedKey, match="keys is"):
        KeyRing(keys)  # type: ignore[arg-type]


def test_a_key_shows_itself_nowhere() -> None:
    key = Fernet.generate_key()
    ring = KeyRing(key)
    shown = repr(ring) + repr(ring.first) + str(ring.first)
    assert key.decode() not in shown
    assert repr(base64.urlsafe_b64decode(key))[2:-1] not in shown
