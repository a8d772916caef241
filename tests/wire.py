"""Messages of the wire as a peer makes them, honest or not; for tests of those who take them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from miros_rabbitmq.amqp.message_io import Delivery
from miros_rabbitmq.wire.codec import Codec
from miros_rabbitmq.wire.envelope import Kind, Purpose
from miros_rabbitmq.wire.keyring import RootKey
from miros_rabbitmq.wire.message import NONCE_BYTES, Header, join, pack_record
from miros_rabbitmq.wire.record import name_bytes, pack
from miros_rabbitmq.wire.sealer import Sealer, address_bytes


@functools.lru_cache(maxsize=16)
def _cipher(key: bytes, epoch: bytes, purpose: Purpose, network: str) -> AESGCM:
    return RootKey(key).cipher(epoch, purpose, network)


class Forger(NamedTuple):
    """Somebody who has a key, and makes messages with whatever epoch, numbers and bytes."""

    key: bytes
    network: str
    routing_key: str = "a.key"
    epoch: bytes = bytes(range(16))
    purpose: int = Purpose.EVENTS
    sender: str = "another"
    sent_ms: int = 0

    def plain(self, sequence: int, body: bytes, kind: int | None = None) -> bytes:
        """What a record encrypts."""
        if kind is None:
            kind = Kind.on(self.network)
        return pack(kind, name_bytes(self.sender), self.sent_ms, sequence, body)

    @property
    def header(self) -> bytes:
        """What the message begins with."""
        return Header(self.purpose, RootKey(self.key).id, self.epoch).pack()

    def seal(self, plain: bytes, outer: int = 1) -> bytes:
        """A record that encrypts any bytes."""
        nonce = outer.to_bytes(NONCE_BYTES, "big")
        cipher = _cipher(self.key, self.epoch, Purpose(self.purpose), self.network)
        address = address_bytes(self.header, self.network, self.routing_key)
        return pack_record(nonce, cipher.encrypt(nonce, plain, address))

    def message(self, *plains: bytes) -> bytes:
        """A message of records that encrypt any bytes."""
        records = [self.seal(plain, outer) for outer, plain in enumerate(plains, 1)]
        return join(self.header, records)

    def events(self, codec: Codec, *events: tuple[int, Any]) -> Delivery:
        """A delivery with these numbers and bodies."""
        plains = [self.plain(number, codec.serialize(body)) for number, body in events]
        return self.delivery(self.message(*plains))

    def delivery(self, message: bytes) -> Delivery:
        """A message as its receiver gets it."""
        return Delivery(message, self.routing_key, self.network, False, 1)


class Peer:
    """An honest sender.

    Args:
        codec: has the keys, and serializes.
        network: the exchange.
        name: the sender's name.
        options: for its `Sealer`.
    """

    def __init__(
        self,
        codec: Codec,
        network: str,
        name: str = "another",
        **options: Callable[..., Any],
    ) -> None:
        self._codec = codec
        self._network = network
        self._kind = Kind.on(network)
        self.sealer = Sealer(codec, network, name, **options)

    def record(
        self,
        body: Any,
        routing_key: str = "a.key",
        purpose: Purpose = Purpose.EVENTS,
    ) -> bytes:
        """The next record; `message` puts the header before it."""
        plain = self._codec.serialize(body)
        record = self.sealer.commit(self.sealer.seal(self._kind, plain, routing_key, purpose))
        assert record is not None
        self._prefix = record.heading.prefix
        return record.data

    def message(self, *bodies: Any, routing_key: str = "a.key") -> bytes:
        """A message with the next events."""
        records = [self.record(body, routing_key) for body in bodies]
        return join(self._prefix, records)

    def delivery(self, *bodies: Any, routing_key: str = "a.key") -> Delivery:
        """The same, as its receiver gets it."""
        message = self.message(*bodies, routing_key=routing_key)
        return Delivery(message, routing_key, self._network, False, 1)
