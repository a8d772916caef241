"""The counters that a node shows of its networks, as typed values. Other modules count."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..amqp.link_state import SessionState
from ..amqp.sender import PublisherStats
from ..delivery.outbox import DropReason as DropReason
from ..discovery.roster import Peer
from ..exceptions import RejectReason
from .chart_watch import Stuck


@dataclass(frozen=True)
class NetworkStats:
    """One network of one node. The counters count events (or snoop lines), not AMQP messages."""

    enabled: bool
    """Whether it is open: the mesh since the start, a snoop while it is enabled."""
    transmitted: int
    """Accepted by ``transmit``. Each of them goes to every broker."""
    sent: int
    """Handed to connections, summed over the brokers; each resend counts again."""
    confirmed: int
    """Taken over by brokers."""
    unrouted: int
    """Taken over by brokers at which nobody listened."""
    received: int
    """Handed to the chart, or to the snoop."""
    own: int
    """Sent by this node itself: they came back and were skipped."""
    duplicates: int
    """Came again and were skipped."""
    gaps: int
    """Were sent by somebody and never came, or came too late to be in order."""
    dropped: Mapping[DropReason, int]
    """Given up, by reason. An event that is given up for several brokers counts once for each."""
    rejected: Mapping[RejectReason, int]
    """Received and rejected, by reason."""
    brokers: Mapping[str, PublisherStats]
    """The publisher to each broker, by ``host:port``."""
    consumer: SessionState
    """The state of the connection to the own broker."""
    consumer_fault: str = ""
    """Why there is no such connection; empty while there is one."""
    consumer_connection: str = ""
    """Its name at that broker; empty while there is none."""
    queue: str = ""
    """The name of this node's queue there, which says nothing of the chart."""
    queue_messages: int = 0
    """How many messages waited in it when the broker was last asked, which is about once a second
    while what it was given waits here."""
    keys: tuple[str, ...] = ()
    """The ids of the encryption keys: the first encrypts, all decrypt. Nodes of one system have the
    same."""
    unread: int = 0
    """Missing, and not among the ``gaps``: as many of the same start were rejected unread, for
    example because no key of this node opens them."""

    @classmethod
    def closed(cls) -> NetworkStats:
        """The counters of a network that is not open."""
        return cls(False, 0, 0, 0, 0, 0, 0, 0, 0, {}, {}, {}, SessionState.NEW)


@dataclass(frozen=True)
class NetsStats:
    """The three networks of one node."""

    mesh: NetworkStats
    """The network of the events."""
    snoop_trace: NetworkStats
    """The network of the state transitions."""
    snoop_spy: NetworkStats
    """The network of the spy lines."""
    peers: tuple[Peer, ...] = ()
    """The known brokers, this node's own first."""
    stuck: tuple[Stuck, ...] = ()
    """The handlers and callbacks of the user that have not returned for longer than
    ``Limits.stuck_after_s`` while events wait for them."""
    io: str = "native"
    """How messages are written and read: ``native``, or ``plain``, which uses only pika's public
    interface and is slower. The environment variable ``MIROS_RABBITMQ_IO=plain`` forces it."""
