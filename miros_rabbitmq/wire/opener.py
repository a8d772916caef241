"""The receiver's half of the wire: authenticates and decrypts messages.

The keys of epochs are remembered, because to derive one takes longer than to decrypt a message.
Only what was used to make a valid message is remembered, so that nobody without a key can fill the
memory, and only so many, so that nobody with a key can.
"""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from collections.abc import Hashable, Sequence
from typing import NamedTuple, NoReturn

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ..exceptions import MessageRejected, RejectReason
from .codec import Codec
from .envelope import MESH, SNOOP_SPY, SNOOP_TRACE, Purpose
from .keyring import KeyRing
from .message import HEADER_BYTES, Header, open_records, read_header
from .sealer import address_bytes

_MOST_CIPHERS = 1_024
"""The most epochs whose keys are remembered, at some 2.5 KB each. A further one costs 3 us."""


class UnknownKey(MessageRejected):
    """A message is encrypted with a key that is not ours, perhaps by another system.

    Args:
        key_id: the id of its key.
        ours: the ids of our keys.
        network: the exchange.
        epoch: of the sender's start. Nothing proves it.
    """

    def __init__(
        self, key_id: bytes, ours: Sequence[str], network: str = "", epoch: bytes = b""
    ) -> None:
        keys = f"another key (id {key_id.hex()}; ours: {', '.join(ours)})"
        remedy = (
            f"Give both programs the same {_ARGUMENTS.get(network, 'keys')}, or another virtual "
            "host to each system; the sender's log has at INFO: "
            f"{start_words(epoch, key_id.hex())}"
        )
        super().__init__(
            RejectReason.NOT_AUTHENTIC, f"its sender has {keys}. {remedy}", "unknown key"
        )
        self.key_id: bytes = key_id
        self.brief: str = f"its sender, as {epoch.hex()[:8]}, has {keys}, as said before"
        """Takes the place of the message if the remedy was said before."""
        self.of_node: str = (
            f"a node at this broker has {keys}, and neither hears the other. {remedy}"
        )
        """What to say before any event of it is rejected."""
        self.about: tuple[Hashable, ...] = "key", key_id, *ours
        """What the remedy is about."""


_ARGUMENTS = {
    MESH: "mesh_encryption_key",
    SNOOP_TRACE: "mesh_encryption_key (and snoop_trace_encryption_key, if one gives it)",
    SNOOP_SPY: "mesh_encryption_key (and snoop_spy_encryption_key, if one gives it)",
}
"""Where a node gets the keys of a network: those of the mesh unless its user gives others."""


def start_words(epoch: bytes, key_id: str) -> str:
    """What the log of a node says when it starts, and that of whoever cannot read what it sends.

    Both are in clear in each message, and tell nothing else.
    """
    return f"as {epoch.hex()[:8]}, encrypts with the key of id {key_id}"


class Opened(NamedTuple):
    """An authentic message."""

    header: Header
    contents: list[bytes]
    """What its records encrypt; `record.unpack` reads each."""


class _Known:
    """What is remembered of an epoch, under the bytes of its header."""

    __slots__ = ("address", "cipher", "header", "routing_key")

    def __init__(self, header: Header, cipher: AESGCM, routing_key: str, address: bytes) -> None:
        self.header = header
        self.cipher = cipher
        # Of the latest message: mostly the next one has the same.
        self.routing_key = routing_key
        self.address = address


class Opener:
    """Opens the messages of one network. For one thread.

    Args:
        codec: has the keys.
        network: the exchange that the messages must come from.
        most_records: the most records in a message.
        most_ciphers: the most epochs whose keys are remembered.
    """

    def __init__(
        self, codec: Codec, network: str, most_records: int, most_ciphers: int = _MOST_CIPHERS
    ) -> None:
        self._codec = codec
        self._network = network
        self._most_records = most_records
        self._most_ciphers = most_ciphers
        self._keyring = codec.keyring
        # The header has everything that the key depends on. The latest last.
        self._known: OrderedDict[bytes, _Known] = OrderedDict()

    def open(self, message: bytes, routing_key: str) -> Opened:
        """Check the layout, and authenticate and decrypt every record, up to the first bad one.

        Args:
            message: the body of an AMQP message.
            routing_key: by which it came.

        Raises:
            UnknownKey: it was encrypted with none of our keys.
            MessageRejected: it is of another format, or malformed, or at least one record was not
                made by somebody with a key of ours for this exchange and routing key.
        """
        keyring = self._codec.keyring
        if keyring is not self._keyring:
            self._keyring = keyring
            self._known.clear()
        prefix = message[:HEADER_BYTES]
        known = self._known.get(prefix)
        if known is None:
            return self._open_unknown(message, routing_key, keyring)
        if routing_key != known.routing_key:
            known.address = address_bytes(prefix, self._network, routing_key)
            known.routing_key = routing_key
        contents = self._decrypt(known.cipher, message, known.address)
        if contents is None:
            if len(keyring.with_id(known.header.key_id)) > 1:  # it may be of another of these
                return self._open_unknown(message, routing_key, keyring)
            raise _not_authentic()
        self._known.move_to_end(prefix)
        return Opened(known.header, contents)

    def _open_unknown(self, message: bytes, routing_key: str, keyring: KeyRing) -> Opened:
        header = read_header(message)
        if header.purpose not in _PURPOSES:
            raise MessageRejected(RejectReason.MALFORMED, "its purpose is not known here")
        roots = keyring.with_id(header.key_id)
        if not roots:
            with contextlib.suppress(InvalidTag):  # its first record must look like one of ours
                open_records(message, 1, _open_nothing, b"")
            raise UnknownKey(header.key_id, keyring.ids, self._network, header.epoch)
        prefix = message[:HEADER_BYTES]
        address = address_bytes(prefix, self._network, routing_key)
        for root in roots:
            cipher = root.cipher(header.epoch, Purpose(header.purpose), self._network)
            contents = self._decrypt(cipher, message, address)
            if contents is not None:
                self._known[prefix] = _Known(header, cipher, routing_key, address)
                if len(self._known) > self._most_ciphers:
                    self._known.popitem(last=False)
                return Opened(header, contents)
        raise _not_authentic()

    def _decrypt(self, cipher: AESGCM, message: bytes, address: bytes) -> list[bytes] | None:
        """Decrypt all records, up to the first bad one; `None` if that one is not authentic."""
        try:
            return open_records(message, self._most_records, cipher.decrypt, address)
        except InvalidTag:
            return None


def _open_nothing(_nonce: bytes, _ciphertext: bytes, _address: bytes) -> NoReturn:
    raise InvalidTag


_PURPOSES = frozenset(Purpose)


def _not_authentic() -> MessageRejected:
    return MessageRejected(
        RejectReason.NOT_AUTHENTIC,
        "it was made up or changed on its way, or captured and sent again to another exchange or "
        "with another routing key",
        "changed",
    )
