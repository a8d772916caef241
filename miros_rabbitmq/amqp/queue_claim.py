"""Which queue a receiver has for itself: its name at present, and when to give that up.

Pure: the clock is handed in. Whoever has the RabbitMQ password and knows the name of a queue can
delete it, declare it anew for a connection of his own, or consume from it. So the name of a drawn
queue (`Queue.drawn`) says nothing and is known to nobody; and when it turns out that somebody knows
it all the same, the claim draws another.

One case looks like an attack and is none. When a connection breaks and the broker does not notice,
the broker still delivers to the consumer that is gone, and lets no other consume. Then the claim
keeps the name, and with it the messages that wait, until the broker must have noticed.
"""

from __future__ import annotations

import secrets

from .. import faults
from ..exceptions import QueueTaken
from ..urls import Address
from .topology import Queue

_UNNOTICED_HEARTBEATS = 3
"""RabbitMQ looks for data once in a heartbeat, and closes a connection at the second look without:
2 to 3 heartbeats after the last data (``rabbit_heartbeat``)."""

_UNNOTICED_MARGIN_S = 3.0
"""How much longer the end of that connection and of its consumer may take, on a busy broker."""

_RANDOM_BYTES = 16
"""Nobody guesses a number of 128 bits."""


class QueueClaim:
    """The name of a receiver's queue. Not thread-safe, but `name` may be read by any thread.

    Args:
        queue: the queue as it was described; if it is drawn, this draws its first name.
        address: the broker's, for the errors.
        heartbeat_s: the heartbeat of the connections that consume from it, in seconds.
    """

    def __init__(self, queue: Queue, address: Address, heartbeat_s: float) -> None:
        self.name: str = queue.name
        """The name to declare; empty if the broker chooses one."""
        self.drawn: bool = queue.drawn
        """Whether the queue is this receiver's alone."""
        self._beginning = queue.name
        self._address = address
        self._patience_s = _UNNOTICED_HEARTBEATS * heartbeat_s + _UNNOTICED_MARGIN_S
        self._in_use_since_s: float | None = None
        self._is_asked = False
        if queue.drawn:
            self._draw()

    def move(self, address: Address) -> None:
        """Note that the broker is reached at another address from now on; the name stays."""
        self._address = address
        # The broker may still deliver to the connection to the former address.
        self._in_use_since_s = None

    def ask(self) -> None:
        """Note that the broker is asked to let this receiver consume."""
        if self._is_asked:
            # The connection broke before the answer: perhaps the broker now delivers to that one.
            self._in_use_since_s = None
        self._is_asked = True

    def succeed(self) -> None:
        """Note that this receiver consumes from the queue."""
        self._is_asked = False
        self._in_use_since_s = None

    def explain(self, code: int, text: str, now_s: float) -> QueueTaken | None:
        """Say what it means for the queue that the broker has closed the channel.

        Draws another name if somebody has taken a drawn queue.

        Args:
            code: the reply code of the broker.
            text: its reply text.
            now_s: the time of a monotonic clock, in seconds.

        Returns:
            what has happened to the queue; `None` if the broker does not speak of it.
        """
        if f"queue '{self.name}'" not in text:
            return None
        if code == 403 and text.endswith("in exclusive use"):
            return self._wait(now_s)
        if not self.drawn:
            return None
        if code == 404 and "no queue" in text:
            return self.replace("it was deleted")
        if code == 405 and "locked queue" in text:
            return self.replace("it was declared anew, for another connection alone")
        if code == 406 and "inequivalent arg" in text:
            return self.replace("it was declared anew, with other arguments")
        return None

    def replace(self, why: str) -> QueueTaken:
        """Draw another name, because somebody has taken the queue.

        Args:
            why: what happened to it.
        """
        self._draw()
        return faults.queue_taken(self._address, why)

    def _wait(self, now_s: float) -> QueueTaken:
        """Keep the name while the other consumer may be an earlier connection of our own."""
        self._is_asked = False
        if not self.drawn:
            return faults.queue_held(self._address)
        if self._in_use_since_s is None:
            self._in_use_since_s = now_s
        if now_s - self._in_use_since_s < self._patience_s:
            return faults.queue_held(self._address, self._patience_s)
        return self.replace(f"somebody else has consumed from it for {self._patience_s:.0f} s")

    def _draw(self) -> None:
        self.name = self._beginning + secrets.token_urlsafe(_RANDOM_BYTES)
        self._in_use_since_s = None
        self._is_asked = False
