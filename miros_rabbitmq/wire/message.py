"""The layout of a message, format 2: a header in clear, then records, each encrypted on its own.

All integers are big-endian::

    header      1   0xF8, which begins neither UTF-8 nor base64, and so no message of format 1
                1   the format: 2
                1   the purpose (`envelope.Purpose`)
                4   the id of the key (`keyring`)
               16   the epoch
    record      4   how many bytes of this record follow
                6   the outer number \\
                6   random           / together the nonce
                n   ciphertext; its last 16 bytes are the tag

A message has at least one record and ends exactly with a record. Nothing here is secret, and
nothing is checked but the layout: whoever knows the exchange can make such bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

from ..exceptions import MessageRejected, RejectReason

T = TypeVar("T")

FORMAT = 2
MARK = 0xF8

EPOCH_BYTES = 16
KEY_ID_BYTES = 4
OUTER_BYTES = 6
RANDOM_BYTES = 6
TAG_BYTES = 16
BLOCK_BYTES = 16
"""What is encrypted is padded to a multiple of this."""

_HEADER = struct.Struct(f">BBB{KEY_ID_BYTES}s{EPOCH_BYTES}s")
_LENGTH = struct.Struct(">I")
NONCE_BYTES = OUTER_BYTES + RANDOM_BYTES
HEADER_BYTES = _HEADER.size
RECORD_OVERHEAD = _LENGTH.size + NONCE_BYTES + TAG_BYTES
"""How many bytes a record has besides the padded content."""

_LEAST_RECORD = NONCE_BYTES + BLOCK_BYTES + TAG_BYTES
_EPOCH = slice(HEADER_BYTES - EPOCH_BYTES, HEADER_BYTES)
_BEGIN = bytes((MARK, FORMAT))
_PURPOSE_AT = 2
_FERNET = b"gAAAA"
"""How a Fernet token begins: format 1, and the older package of this name."""


class Header(NamedTuple):
    """What is in clear, and authenticated with each record."""

    purpose: int
    key_id: bytes
    epoch: bytes

    def pack(self) -> bytes:
        """Return its bytes."""
        return _HEADER.pack(MARK, FORMAT, *self)


Sealed = tuple[bytes, bytes]
"""An encrypted record: its nonce and its ciphertext."""


def pack_record(nonce: bytes, ciphertext: bytes) -> bytes:
    """Return the bytes of a record."""
    return _LENGTH.pack(len(nonce) + len(ciphertext)) + nonce + ciphertext


def join(header: bytes, records: Sequence[bytes]) -> bytes:
    """Return a message of records that have the same header."""
    return b"".join((header, *records))


def epoch_of(message: bytes) -> bytes | None:
    """Return the epoch that a message claims, unchecked; `None` if it is not of this format."""
    return message[_EPOCH] if message.startswith(_BEGIN) else None


def purpose_of(message: bytes) -> int:
    """Return the purpose that a message claims, unchecked; 0 if it is not of this format."""
    has_one = message.startswith(_BEGIN) and len(message) > _PURPOSE_AT
    return message[_PURPOSE_AT] if has_one else 0


def read_header(message: bytes) -> Header:
    """Read the header of a message.

    Raises:
        MessageRejected: it is of another format, or has no whole header.
    """
    if not message.startswith(_BEGIN):
        raise _other_format(message)
    if len(message) < HEADER_BYTES:
        raise MessageRejected(RejectReason.MALFORMED, "it ends within the header")
    return Header(*_HEADER.unpack_from(message)[2:])


def open_records(
    message: bytes, most: int, decrypt: Callable[[bytes, bytes, bytes], T], address: bytes
) -> list[T]:
    """Split what comes after the header, and decrypt it record by record.

    Anybody may send us such bytes. So nothing is done for what is behind the first bad part.

    Args:
        message: a message with a whole header.
        most: the most records that it may have.
        decrypt: called with the nonce and the ciphertext of each record, and the address; raises
            what it likes if the record is not authentic.
        address: what is authenticated besides.

    Returns:
        what ``decrypt`` has returned for each.

    Raises:
        MessageRejected: the records do not end exactly where the message ends, one is too short to
            be a record, or there are none, or too many.
    """
    opened: list[T] = []
    at, end = HEADER_BYTES, len(message)
    read_length, length_bytes = _LENGTH.unpack_from, _LENGTH.size  # this runs for each event
    while at < end:
        start = at + length_bytes
        if start > end:
            raise MessageRejected(RejectReason.MALFORMED, "it ends within a length")
        (size,) = read_length(message, at)
        at = start + size
        if size < _LEAST_RECORD or at > end:
            raise MessageRejected(RejectReason.MALFORMED, "a record has an impossible length")
        if len(opened) == most:
            raise MessageRejected(RejectReason.OVERSIZE, f"more than {most:,} records in a message")
        nonce_end = start + NONCE_BYTES
        opened.append(decrypt(message[start:nonce_end], message[nonce_end:at], address))
    if not opened:
        raise MessageRejected(RejectReason.MALFORMED, "it has no record")
    return opened


def read_records(message: bytes, most: int) -> list[Sealed]:
    """Split what comes after the header, and decrypt nothing; raises like `open_records`."""
    return open_records(message, most, lambda nonce, sealed, _: (nonce, sealed), b"")


def count_records(message: bytes, most: int = 2**32) -> int:
    """Return how many records a message has, as far as its lengths are possible ones.

    Args:
        message: a message, perhaps made by anybody.
        most: count up to so many: no honest message has more.
    """
    count, at, end = 0, HEADER_BYTES, len(message)
    while count < most and at + _LENGTH.size <= end:
        (size,) = _LENGTH.unpack_from(message, at)
        at += _LENGTH.size + size
        if size < _LEAST_RECORD or at > end:
            break
        count += 1
    return count


def _other_format(message: bytes) -> MessageRejected:
    if message.startswith(_FERNET):
        return MessageRejected(
            RejectReason.OTHER_FORMAT,
            "it comes from an older version of miros-rabbitmq: upgrade the node that sends it",
            "Fernet",
        )
    if message[:1] == _BEGIN[:1] and len(message) > 1:
        is_newer = message[1] > FORMAT
        upgrade = "this node" if is_newer else "the node that sends it"
        return MessageRejected(
            RejectReason.OTHER_FORMAT,
            f"it has format {message[1]}, and this node reads format {FORMAT}: upgrade {upgrade}",
            "newer" if is_newer else "older",
        )
    return MessageRejected(RejectReason.MALFORMED, "it does not begin like one of our messages")
