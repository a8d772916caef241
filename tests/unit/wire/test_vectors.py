"""Golden vectors of format 2: fixed inputs, and the bytes that every implementation makes of them.

`vectors.json` was made by `built_by_hand`, which follows the text of ``docs/wire_format.rst`` and
uses nothing of the package. If a change breaks one of these tests, it changes the format.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import itertools
import json
import struct
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from miros_rabbitmq.wire.codec import Codec
from miros_rabbitmq.wire.envelope import Purpose
from miros_rabbitmq.wire.message import join, read_header
from miros_rabbitmq.wire.notice import (
    Notice,
    Trouble,
    WrongClock,
    tell_clock,
    tell_numbers,
    tell_trouble,
)
from miros_rabbitmq.wire.opener import Opener
from miros_rabbitmq.wire.record import Content, unpack
from miros_rabbitmq.wire.sealer import Sealer

PATH = Path(__file__).parent / "vectors.json"
VECTORS: list[dict[str, Any]] = json.loads(PATH.read_text(encoding="utf-8"))

each_vector = pytest.mark.parametrize("vector", VECTORS, ids=[one["what"] for one in VECTORS])


def hkdf(secret: bytes, salt: bytes, info: bytes, size: int) -> bytes:
    """HKDF with SHA-256, as RFC 5869 writes it, for up to 32 bytes."""
    pseudorandom = hmac.new(salt or bytes(32), secret, hashlib.sha256).digest()
    return hmac.new(pseudorandom, info + b"\1", hashlib.sha256).digest()[:size]


def built_by_hand(vector: dict[str, Any]) -> bytes:
    """The message of a vector."""
    secret = base64.urlsafe_b64decode(vector["fernet_key"])
    epoch = bytes.fromhex(vector["epoch"])
    network = vector["network"].encode()
    label = b"miros-rabbitmq\0"
    key_id = hkdf(secret, b"", label + bytes([2, 0]), 4)
    info = label + bytes([2, vector["purpose"], len(network)]) + network
    cipher = AESGCM(hkdf(secret, epoch, info, 32))
    header = bytes([0xF8, 2, vector["purpose"]]) + key_id + epoch
    address = header + bytes([len(network)]) + network + vector["routing_key"].encode()
    message = header
    for record in vector["records"]:
        name = vector["sender"].encode()
        plain = struct.pack(
            ">BQQH", record["kind"], record["sent_ms"], record["sequence"], len(name)
        )
        plain += name + bytes.fromhex(record["body"])
        padding = 16 - len(plain) % 16
        plain += bytes([padding]) * padding
        nonce = struct.pack(">Q", record["outer"])[2:] + bytes.fromhex(record["random"])
        ciphertext = cipher.encrypt(nonce, plain, address)
        message += struct.pack(">I", len(nonce + ciphertext)) + nonce + ciphertext
    return message


@each_vector
def test_the_format_is_as_documented(vector: dict[str, Any]) -> None:
    assert built_by_hand(vector).hex() == vector["message"]


@each_vector
def test_a_sealer_makes_the_same_bytes(vector: dict[str, Any]) -> None:
    drawn = iter([vector["epoch"], *(one["random"] for one in vector["records"])])
    times = iter([one["sent_ms"] / 1000 for one in vector["records"]])
    sealer = Sealer(
        Codec(vector["fernet_key"]),
        vector["network"],
        vector["sender"],
        now=lambda: next(times),
        random=lambda size: bytes.fromhex(next(drawn)),
    )
    purpose = Purpose(vector["purpose"])
    sealer._start.streams[purpose].outer = itertools.count(vector["records"][0]["outer"])
    sent = []
    for one in vector["records"]:
        sealed = sealer.seal(
            one["kind"], bytes.fromhex(one["body"]), vector["routing_key"], purpose
        )
        record = sealer.commit(sealed)
        assert record is not None
        sent.append(record)
    assert join(sent[0].heading.prefix, [one.data for one in sent]).hex() == vector["message"]


@each_vector
def test_an_opener_reads_them(vector: dict[str, Any]) -> None:
    opener = Opener(Codec(vector["fernet_key"]), vector["network"], 10)
    message = bytes.fromhex(vector["message"])
    opened = opener.open(message, vector["routing_key"])
    assert opened.header == read_header(message)
    assert [unpack(plain) for plain in opened.contents] == [
        Content(
            one["kind"],
            vector["sender"],
            one["sent_ms"],
            one["sequence"],
            bytes.fromhex(one["body"]),
        )
        for one in vector["records"]
    ]


@pytest.mark.parametrize(
    ("what", "notice"),
    [
        (
            "the notice of last numbers",
            tell_numbers([("robots.left.arm", 4711), ("r\u00e4ume.#1", 2**63 - 1)]),
        ),
        (
            "the notice of a clock that is behind",
            tell_clock(WrongClock(bytes(range(0xF0, -16, -16)), -312_000)),
        ),
        ("the notice of a stuck chart", tell_trouble(Trouble("fan", "w\u00e4it", 30, 1_200))),
    ],
)
def test_notices_have_these_bodies(what: str, notice: Notice) -> None:
    (record,) = next(one["records"] for one in VECTORS if one["what"] == what)
    assert (record["kind"], record["body"]) == (notice.kind, notice.body.hex())
