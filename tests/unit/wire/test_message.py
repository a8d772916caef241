"""The layout of a message: exact ends, no more records than allowed, other formats told apart."""

from __future__ import annotations

import pytest
from cryptography.fernet import Fernet
from hypothesis import given
from hypothesis import strategies as st

from miros_rabbitmq.exceptions import MessageRejected, RejectReason
from miros_rabbitmq.wire.message import (
    FORMAT,
    HEADER_BYTES,
    MARK,
    NONCE_BYTES,
    RECORD_OVERHEAD,
    Header,
    Sealed,
    count_records,
    epoch_of,
    join,
    open_records,
    pack_record,
    purpose_of,
    read_header,
    read_records,
)

EPOCH = bytes(range(100, 116))
HEADER = Header(1, b"\1\2\3\4", EPOCH)
LEAST: Sealed = (b"n" * NONCE_BYTES, b"c" * 32)
"""The shortest record that there may be: one block, and the tag."""

SEALED = st.tuples(
    st.binary(min_size=NONCE_BYTES, max_size=NONCE_BYTES),
    st.integers(2, 6).flatmap(lambda blocks: st.binary(min_size=16 * blocks, max_size=16 * blocks)),
)


def message_of(*records: Sealed) -> bytes:
    return join(HEADER.pack(), [pack_record(*one) for one in records])


def read(message: bytes, most: int) -> tuple[Header, list[Sealed]]:
    return read_header(message), read_records(message, most)


def reason_for(message: bytes, most: int = 100) -> RejectReason:
    with pytest.raises(MessageRejected) as caught:
        read(message, most)
    return caught.value.reason


def test_the_bytes_of_a_message_are_these_as_other_versions_read_them() -> None:
    message = message_of(LEAST, LEAST)
    header = bytes((0xF8, 2, 1)) + b"\1\2\3\4" + EPOCH
    record = b"\0\0\0\x2c" + b"".join(LEAST)
    assert message == header + record + record
    assert (HEADER_BYTES, RECORD_OVERHEAD) == (23, 32)


@given(st.integers(0, 255), st.lists(SEALED, min_size=1, max_size=5))
def test_a_message_is_read_as_it_was_written(purpose: int, records: list[Sealed]) -> None:
    header = HEADER._replace(purpose=purpose)
    message = join(header.pack(), [pack_record(*one) for one in records])
    assert read_header(message) == header
    assert read_records(message, len(records)) == records
    assert count_records(message) == len(records)
    assert epoch_of(message) == EPOCH
    assert purpose_of(message) == purpose


def test_a_message_that_ends_anywhere_but_with_a_record_is_malformed() -> None:
    message = message_of(LEAST, LEAST)
    one = len(message_of(LEAST))
    for end in range(1, len(message)):
        if end != one:
            assert reason_for(message[:end]) is RejectReason.MALFORMED, end
    assert read_records(message[:one], 2) == [LEAST]


def test_bytes_behind_the_last_record_make_a_message_malformed() -> None:
    for surplus in (b"\0", b"\0" * 4, b"\0" * 60, b"\xff" * 60):
        assert reason_for(message_of(LEAST) + surplus) is RejectReason.MALFORMED


@pytest.mark.parametrize("size", [0, 1, 12, 28, 43, 45, 2**31, 2**32 - 1])
def test_a_record_with_an_impossible_length_makes_a_message_malformed(size: int) -> None:
    message = bytearray(message_of(LEAST))
    message[HEADER_BYTES : HEADER_BYTES + 4] = size.to_bytes(4, "big")
    assert reason_for(bytes(message)) is RejectReason.MALFORMED


def test_a_message_has_a_most_of_records() -> None:
    message = message_of(*[LEAST] * 10)
    assert len(read_records(message, 10)) == 10
    assert reason_for(message, 9) is RejectReason.OVERSIZE
    assert count_records(message, 10) == 10
    assert count_records(message, 9) == 9


@pytest.mark.parametrize(
    "rest", [b"", b"\0" * 4, b"\0" * 4_096, b"\xff" * 4_096, pack_record(*LEAST) * 4_096]
)
def test_nothing_is_read_beyond_a_record_that_is_not_authentic(rest: bytes) -> None:
    seen: list[Sealed] = []

    def decrypt(nonce: bytes, ciphertext: bytes, _address: bytes) -> None:
        seen.append((nonce, ciphertext))
        if len(seen) == 2:
            raise LookupError

    with pytest.raises(LookupError):
        open_records(message_of(LEAST, LEAST) + rest, 100, decrypt, b"")
    assert seen == [LEAST, LEAST]


def test_a_header_alone_is_no_message() -> None:
    assert reason_for(HEADER.pack()) is RejectReason.MALFORMED


# Other formats.


@pytest.mark.parametrize(
    ("message", "advice"),
    [
        (Fernet(Fernet.generate_key()).encrypt(b"format 1"), "upgrade the node that sends it"),
        (b"gAAAA", "upgrade the node that sends it"),
        (bytes((MARK, FORMAT - 1)) + b"older", "upgrade the node that sends it"),
        (bytes((MARK, 0)), "upgrade the node that sends it"),
        (bytes((MARK, FORMAT + 1)) + b"newer", "upgrade this node"),
        (bytes((MARK, 255)), "upgrade this node"),
    ],
)
def test_another_format_is_told_apart_with_the_side_to_upgrade(message: bytes, advice: str) -> None:
    with pytest.raises(MessageRejected, match=advice) as caught:
        read_header(message)
    assert caught.value.reason is RejectReason.OTHER_FORMAT
    assert epoch_of(message) is None


@pytest.mark.parametrize(
    "message",
    [b"", bytes((MARK,)), b"\0", b"gAAA", b"{}", b"\x80\x03N.", b"\n" * 4_096, "söm".encode()],
    ids=repr,
)
def test_garbage_is_malformed_and_no_other_format(message: bytes) -> None:
    assert reason_for(message) is RejectReason.MALFORMED
    assert epoch_of(message) is None


# Bytes of anybody. Whether a message is the own one is asked before anything else.


@given(st.binary(max_size=200), st.integers(1, 20), st.booleans())
def test_any_bytes_are_read_or_rejected(data: bytes, most: int, has_header: bool) -> None:
    message = HEADER.pack() + data if has_header else data
    assert count_records(message) <= len(message) // 48
    purpose_of(message)
    epoch = epoch_of(message)
    try:
        header, records = read(message, most)
    except MessageRejected:
        return
    assert epoch == header.epoch
    assert count_records(message) == len(records) <= most
    assert message == join(header.pack(), [pack_record(*one) for one in records])


@pytest.mark.parametrize("data", [b"\0", b"\n", b"\xff"])
def test_what_cannot_be_a_record_is_not_counted_as_one(data: bytes) -> None:
    """Anybody may send a megabyte of it with our own epoch; to count each length takes 30 ms."""
    assert count_records(HEADER.pack() + data * 2**20) == 0
    assert count_records(message_of(LEAST, LEAST) + data * 2**20) == 2
