"""What one node tells others of itself on a network, and what it does when it hears from them.

Notices stand outside of the sequence of envelopes, and no chart sees them. To the brokers of others
goes what the owner has to tell; to the own broker, that this chart listens there (see
`neighbours`). What is heard of neighbours decides how much haste the own broker's publisher is in.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from ..amqp.publisher import SimplePikaTopicPublisher
from ..exceptions import PayloadRefused
from ..wire.announcement import is_listener
from ..wire.codec import Codec
from ..wire.envelope import NOTICE, Envelope, Identity
from .neighbours import Neighbours

logger = logging.getLogger(__name__)


class Notices:
    """The notices of one node on one network.

    Args:
        codec: the network's.
        identity: the node's.
        announce_s: how often a publisher asks for its notice, in seconds.
        own_publisher: the publisher to the own broker; `None` while there is none.
        is_hearing: whether answers of neighbours can be heard now.
        body: what the brokers of others are told; `None` for nothing.
        on_notice: called in the consumer's thread with each notice of another node, but for those
            of neighbours.
    """

    def __init__(
        self,
        codec: Codec,
        identity: Identity,
        announce_s: float,
        *,
        own_publisher: Callable[[], SimplePikaTopicPublisher | None],
        is_hearing: Callable[[], bool],
        body: Callable[[], Any] | None,
        on_notice: Callable[[Envelope], object] | None,
    ) -> None:
        self._codec = codec
        self._identity = identity
        self._neighbours = Neighbours(announce_s)
        self._own_publisher = own_publisher
        self._is_hearing = is_hearing
        self._body = body
        self._on_notice = on_notice

    # In the thread of a publisher.

    def for_others(self) -> bytes | None:
        """Make what the broker of others is told."""
        return self._encode(self._body() if self._body is not None else None)

    def for_neighbours(self) -> bytes | None:
        """Make what the own broker is told, once this node can hear answers."""
        if not self._is_hearing():
            return None
        now_s = time.monotonic()
        if (publisher := self._own_publisher()) is not None:
            publisher.patient = not self._neighbours.are_there(now_s)
        return self._encode(self._neighbours.announcement(now_s))

    def _encode(self, body: Any) -> bytes | None:
        if body is None:
            return None
        try:
            return self._codec.encode(self._identity.name, self._identity.epoch, NOTICE, body)
        except PayloadRefused as error:  # by a serializer of the user's own
            logger.debug("%s: no notice is sent: it %s", self._codec.network, error)
            return None

    # In the consumer's thread.

    def take(self, envelope: Envelope) -> None:
        """Take what another node says of itself."""
        if is_listener(envelope.body):
            self._hear_neighbour(envelope.body)
        elif self._on_notice is not None:
            self._on_notice(envelope)

    def _hear_neighbour(self, announcement: Any) -> None:
        answer = self._neighbours.hear(announcement, time.monotonic())
        publisher = self._own_publisher()
        if publisher is not None:
            publisher.patient = False
            publisher.wake()
            if answer:
                publisher.send_notice()

    def tell_when_hearing(self) -> None:
        """Tell neighbours of this node at once, if answers can be heard now."""
        publisher = self._own_publisher()
        if publisher is not None and self._is_hearing():
            publisher.send_notice()
