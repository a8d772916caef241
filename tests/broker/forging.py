"""Messages that a key holder makes up: of any epoch, number, name and time."""

from __future__ import annotations

import os
import time
from typing import Any

from miros_rabbitmq.wire.envelope import MESH, Kind, Purpose
from miros_rabbitmq.wire.keyring import RootKey
from miros_rabbitmq.wire.message import EPOCH_BYTES, NONCE_BYTES, Header, join, pack_record
from miros_rabbitmq.wire.pickling import RestrictedPickle
from miros_rabbitmq.wire.record import name_bytes, pack
from miros_rabbitmq.wire.sealer import address_bytes


class Forger:
    """Makes messages of one epoch. It keeps none of the rules that a `Sealer` keeps.

    Args:
        key: a Fernet key.
        routing_key: the routing key that is authenticated.
        network: the exchange that is authenticated.
        name: the name of the sender.
        epoch: another sender's, or a new one by default.
        purpose: events or notices.
    """

    def __init__(
        self,
        key: bytes,
        routing_key: str,
        *,
        network: str = MESH,
        name: str = "me",
        epoch: bytes | None = None,
        purpose: Purpose = Purpose.EVENTS,
    ) -> None:
        root = RootKey(key)
        self.epoch = os.urandom(EPOCH_BYTES) if epoch is None else epoch
        self._name = name_bytes(name)
        self._kind = Kind.on(network)
        self._header = Header(purpose, root.id, self.epoch).pack()
        self._address = address_bytes(self._header, network, routing_key)
        self._cipher = root.cipher(self.epoch, purpose, network)
        self._serialize = RestrictedPickle().dumps

    def seal(self, plain: bytes) -> bytes:
        """Encrypt any content, as one record."""
        nonce = os.urandom(NONCE_BYTES)
        return pack_record(nonce, self._cipher.encrypt(nonce, plain, self._address))

    def record(
        self, body: Any, sequence: int, *, sent_s: float | None = None, kind: int | None = None
    ) -> bytes:
        """Encrypt a body; bytes are taken for one that is serialized already."""
        data = body if isinstance(body, bytes) else self._serialize(body)
        sent_ms = int((time.time() if sent_s is None else sent_s) * 1000)
        kind = self._kind if kind is None else kind
        return self.seal(pack(kind, self._name, sent_ms, sequence, data))

    def join(self, *records: bytes) -> bytes:
        """Return a message of these records."""
        return join(self._header, records)

    def message(self, body: Any, sequence: int = 1, **more: Any) -> bytes:
        """Return a message with one record; see `record`."""
        return self.join(self.record(body, sequence, **more))
