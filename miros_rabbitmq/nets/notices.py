"""Notices: what nodes tell each other on a network, unseen by their charts.

Notices have no place in the sequence of envelopes. To the brokers of others, a node sends what its
owner wants to tell. To its own broker, it announces that this chart listens there (see
`neighbours`); what it hears from neighbours decides whether the sender to the own broker makes
haste.
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
    """The notices of one node on one network. Used in the threads of the reactors.

    Args:
        encode: turns the body of a notice into bytes; returns `None` if it cannot be sent.
        announce_s: seconds after which a notice is sent again.
        body: returns the body of the notice for the brokers of others; `None` to send none.
        on_notice: called with each notice of another node, except those of neighbours.
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
        # The sender to the own broker, once there is one, and whether this node can hear answers.
        self._own: Sender | None = None
        self._is_hearing = False

    def own_sender(self, sender: Sender) -> None:
        """Note which sender publishes to the own broker."""
        self._own = sender

    # In the senders' reactor.

    def on_connected(self, sender: Sender) -> None:
        """Send a notice to a broker that has just been connected, and again from time to time."""
        sender.link.call_soon(lambda: self._tell(sender, again=True))

    def _tell(self, sender: Sender, *, again: bool = False) -> None:
        if not sender.is_connected:
            return  # `on_connected` follows when it is connected again
        if again:
            sender.link.call_later(self._announce_s, lambda: self._tell(sender, again=True))
        is_own = sender is self._own
        notice = self._for_neighbours() if is_own else self._for_others()
        if notice is not None:
            key = LISTENER_KEY if is_own else sender.traffic.routing_key
            # It expires when the next one comes, so that at most one waits for a receiver that
            # takes nothing.
            sender.publish_aside(notice, key, self._announce_s)

    def _for_others(self) -> bytes | None:
        body = self._body()
        return None if body is None else self._encode(body)

    def _for_neighbours(self) -> bytes | None:
        """The notice for the own broker; `None` while this node cannot hear answers."""
        own = self._own
        if own is None or not self._is_hearing:
            return None
        now_s = time.monotonic()
        own.patient = not self._neighbours.are_there(now_s)
        return self._encode(self._neighbours.announcement(now_s))

    # In the receiver's reactor.

    def on_hearing(self, *, is_hearing: bool) -> None:
        """Note whether this node can hear answers; if so, announce it to its neighbours at once."""
        self._is_hearing = is_hearing
        own = self._own
        if own is not None and is_hearing:
            own.link.call_soon(lambda: self._tell(own))

    def take(self, envelope: Envelope) -> None:
        """Take the notice of another node."""
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
