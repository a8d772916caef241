"""Messages that a key holder makes up: of any epoch, number, name and time."""

from __future__ import annotations

import os
import time
from typing import Any

from miros_rabbitmq.wire.envelope import MESH, Purpose
from miros_rabbitmq.wire.message import EPOCH_BYTES, NONCE_BYTES, join
from miros_rabbitmq.wire.pickling import RestrictedPickle

from .. import wire


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
        self.epoch = os.urandom(EPOCH_BYTES) if epoch is None else epoch
        self._bare = wire.Forger(key, network, routing_key, self.epoch, purpose, name)
        self._serialize = RestrictedPickle().dumps

    def seal(self, plain: bytes) -> bytes:
        """Encrypt any content, as one record."""
        return self._bare.seal(plain, int.from_bytes(os.urandom(NONCE_BYTES), "big"))

    def record(
        self, body: Any, sequence: int, *, sent_s: float | None = None, kind: int | None = None
    ) -> bytes:
        """Encrypt a body; bytes are taken for one that is serialized already."""
        data = body if isinstance(body, bytes) else self._serialize(body)
        sent_ms = int((time.time() if sent_s is None else sent_s) * 1000)
        return self.seal(self._bare._replace(sent_ms=sent_ms).plain(sequence, data, kind))

    def join(self, *records: bytes) -> bytes:
        """Return a message of these records."""
        return join(self._bare.header, records)

    def message(self, body: Any, sequence: int = 1, **more: Any) -> bytes:
        """Return a message with one record; see `record`."""
        return self.join(self.record(body, sequence, **more))
