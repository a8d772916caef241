"""What one node tells others of itself on a network, and what it does when it hears from them.

Notices stand outside of the sequence of envelopes, and no chart sees them. To the brokers of others
goes what the owner has to tell; to the own broker, that this chart listens there (see
`neighbours`). What is heard of neighbours decides how much haste the own broker's sender is in.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from ..amqp.sender import Sender
from ..logs import RelayedLogger
from ..wire.announcement import LISTENER_KEY, is_listener
from ..wire.envelope import Envelope
from .neighbours import Neighbours

logger = RelayedLogger(__name__)


class Notices:
    """The notices of one node on one network; used in the threads of the reactors.

    Args:
        encode: makes bytes of the body of a notice; `None` where it cannot be sent.
        announce_s: how often a notice is sent again, in seconds.
        body: what the brokers of others are told; returns `None` for nothing.
        on_notice: called with each notice of another node, but for those of neighbours.
    """

    def __init__(
        self,
        encode: Callable[[Any], bytes | None],
        announce_s: float,
        body: Callable[[], Any],
        on_notice: Callable[[Envelope], object] | None,
    ) -> None:
        self._encode = encode
        self._announce_s = announce_s
        self._body = body
        self._on_notice = on_notice
        self._neighbours = Neighbours(announce_s)
        # The sender to the own broker, once there is one; and whether answers can be heard.
        self._own: Sender | None = None
        self._is_hearing = False

    def own_sender(self, sender: Sender) -> None:
        """Note which sender publishes to the own broker."""
        self._own = sender

    # In the senders' reactor.

    def on_connected(self, sender: Sender) -> None:
        """Tell a broker that was connected just now, and again from time to time."""
        sender.link.call_soon(lambda: self._tell(sender, again=True))

    def _tell(self, sender: Sender, *, again: bool = False) -> None:
        if not sender.is_connected:
            return  # it is told when it is connected again
        if again:
            sender.link.call_later(self._announce_s, lambda: self._tell(sender, again=True))
        is_own = sender is self._own
        notice = self._for_neighbours() if is_own else self._for_others()
        if notice is not None:
            key = LISTENER_KEY if is_own else sender.traffic.routing_key
            # The next one says it anew: of a receiver that takes nothing, one waits at most.
            sender.publish_aside(notice, key, self._announce_s)

    def _for_others(self) -> bytes | None:
        body = self._body()
        return None if body is None else self._encode(body)

    def _for_neighbours(self) -> bytes | None:
        """What the own broker is told, once this node can hear answers."""
        own = self._own
        if own is None or not self._is_hearing:
            return None
        now_s = time.monotonic()
        own.patient = not self._neighbours.are_there(now_s)
        return self._encode(self._neighbours.announcement(now_s))

    # In the receiver's reactor.

    def on_hearing(self, *, is_hearing: bool) -> None:
        """Note whether answers can be heard, and tell neighbours of this node at once if so."""
        self._is_hearing = is_hearing
        own = self._own
        if own is not None and is_hearing:
            own.link.call_soon(lambda: self._tell(own))

    def take(self, envelope: Envelope) -> None:
        """Take what another node says of itself."""
        if is_listener(envelope.body):
            self._hear_neighbour(envelope.body)
        elif self._on_notice is not None:
            self._on_notice(envelope)

    def _hear_neighbour(self, announcement: Any) -> None:
        answer = self._neighbours.hear(announcement, time.monotonic())
        own = self._own
        if own is not None:
            own.patient = False
            own.wake()
            if answer:
                own.link.call_soon(lambda: self._tell(own))
