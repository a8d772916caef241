"""Notices: what nodes tell each other on a network, unseen by their charts.

Notices are numbered on their own, and never reach a chart. To the brokers of others, a node sends
what its owner wants to tell. To its own broker, it announces that this chart listens there (see
`neighbours`); what it hears from neighbours decides whether the sender to the own broker makes
haste.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from ..amqp.sender import Sender
from ..logs import RelayedLogger
from ..wire.notice import LISTENER_KEY, Notice, is_listener
from .neighbours import Neighbours

logger = RelayedLogger(__name__)


class Notices:
    """The notices of one node on one network. Used in the threads of the reactors.

    Args:
        seal: turns a notice for a routing key into a message; `None` if it may not be sent.
        tx_key: the routing key of notices for others.
        announce_s: seconds after which a notice is sent again.
        notice: returns the notice for the brokers of others; `None` to send none.
        on_notice: called with each notice of another node, except those of neighbours.
    """

    def __init__(
        self,
        seal: Callable[[Notice, str], bytes | None],
        tx_key: str,
        announce_s: float,
        notice: Callable[[], Notice | None],
        on_notice: Callable[[Notice], object] | None,
    ) -> None:
        self._seal = seal
        self._tx_key = tx_key
        self._announce_s = announce_s
        self._notice = notice
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
        notice = self._for_neighbours() if is_own else self._notice()
        if notice is None:
            return
        key = LISTENER_KEY if is_own else self._tx_key
        message = self._seal(notice, key)
        if message is not None:
            # It expires when the next one comes, so that at most one waits for a receiver that
            # takes nothing.
            sender.publish_aside(message, key, self._announce_s)

    def _for_neighbours(self) -> Notice | None:
        """The notice for the own broker; `None` while this node cannot hear answers."""
        own = self._own
        if own is None or not self._is_hearing:
            return None
        now_s = time.monotonic()
        own.patient = not self._neighbours.are_there(now_s)
        return self._neighbours.announcement(now_s)

    # In the receiver's reactor.

    def on_hearing(self, *, is_hearing: bool) -> None:
        """Note whether this node can hear answers; if so, announce it to its neighbours at once."""
        self._is_hearing = is_hearing
        own = self._own
        if own is not None and is_hearing:
            own.link.call_soon(lambda: self._tell(own))

    def take(self, notice: Notice) -> None:
        """Take the notice of another node."""
        if is_listener(notice):
            self._hear_neighbour(notice)
        elif self._on_notice is not None:
            self._on_notice(notice)

    def _hear_neighbour(self, announcement: Notice) -> None:
        answer = self._neighbours.hear(announcement, time.monotonic())
        own = self._own
        if own is not None:
            own.patient = False
            own.wake()
            if answer:
                own.link.call_soon(lambda: self._tell(own))
