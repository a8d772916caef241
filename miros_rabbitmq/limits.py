"""The limits of the transport, each with its unit and the reason for its default."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from .exceptions import SettingsError


@dataclass(frozen=True, kw_only=True, repr=False)
class Limits:
    """What one node may hold, send and wait for.

    Raises:
        SettingsError: a limit is not a number above zero, or two limits contradict each other.
    """

    connect_timeout_s: float = 3.0
    """TCP connect and AMQP handshake; a broker on a LAN answers in milliseconds."""
    heartbeat_s: int = 10
    """AMQP heartbeat. A broker is asked for an answer twice in this time and may take nearly this
    time to give it. So silence in either direction is noticed within 1.5 times this, 15 s."""
    reconnect_min_s: float = 0.1
    """First wait before a lost connection is opened again; doubles up to ``reconnect_max_s``."""
    reconnect_max_s: float = 5.0
    """Longest wait between two attempts at a broker that does not answer."""
    refused_retry_s: float = 30.0
    """Wait between two attempts at a broker that refuses our user, password or vhost."""
    absent_after_s: float = 5.0
    """How long a lost broker still counts as connected: a full backlog makes ``transmit`` wait,
    and ``stop`` waits for its return. Longer than a reconnect, and than most restarts. A broker
    that is connected and confirms nothing for this time counts as absent, too."""
    slow_after_s: float = 5.0
    """A broker for which events wait for so long may be called slow: nobody waits for it then.
    Longer than a disk takes to write what was collected."""
    slow_events: int = 1_000
    """A broker is slow only if it takes less than so many events a second, and less than
    ``slow_bytes``: a small machine that writes each message to an SD card takes more."""
    slow_bytes: int = 100_000
    """The same in bytes a second: about a megabit, less than any network that is meant for this."""
    behind_after_s: float = 2.0
    """A broker for which events wait for so long is called behind, as an early warning."""
    stop_timeout_s: float = 5.0
    """How long ``stop()`` flushes and closes politely before it cuts what is left."""

    tempo_fast_s: float = 0.001
    """Beat of a publisher whose queue is full."""
    tempo_slow_s: float = 0.005
    """Beat of a publisher whose queue is nearly empty: the longest that an event waits to share a
    message with others, when events come faster than a broker takes them one by one."""
    tempo_patient_s: float = 0.05
    """The same for traffic that nobody is known to wait for: snoop lines, and events for the own
    broker while no other chart listens there."""
    batch_events: int = 512
    """The most events in one AMQP message: so many that its fixed cost no longer counts."""
    batch_bytes: int = 128_000
    """The most bytes of events put together in one AMQP message: they fit into one frame, which
    RabbitMQ limits to 128 KiB by default."""
    window_messages: int = 32
    """The most unconfirmed AMQP messages that a publisher has under way."""
    nack_attempts: int = 5
    """How often what a broker refuses (``basic.nack``) is sent again, in half a second in all. Then
    its nacks count as refused at once, for a minute: a queue that takes nothing must not hold up
    the others."""
    backlog_events: int = 20_000
    """The most events that wait or are unconfirmed in one publisher. When it holds so many,
    ``transmit`` waits if the broker is connected, and the oldest are dropped if it is absent."""
    backlog_bytes: int = 32 * 1024 * 1024
    """The same limit in bytes."""
    snoop_backlog_events: int = 2_000
    """The most snoop lines that wait in one publisher; beyond it, the oldest are dropped."""

    event_bytes: int = 1024 * 1024
    """Largest encrypted event, sent or accepted."""
    prefetch_messages: int = 32
    """The most messages that a broker hands over before the first is acknowledged."""
    queue_bytes: int = 256 * 1024 * 1024
    """The most bytes that a broker keeps for a chart that does not take its messages; beyond it,
    the broker drops the oldest."""
    queue_expires_s: float = 60.0
    """How long a broker keeps the queue of a chart that is gone: longer than a restart."""
    snoop_queue_messages: int = 1_000
    """The most messages that a broker keeps for a slow watcher of a snoop; beyond it, the broker
    drops the oldest."""
    snoop_queue_bytes: int = 32 * 1024 * 1024
    """The same limit in bytes."""
    announce_s: float = 30.0
    """How often a node announces its own broker, in a message of some 100 bytes to every broker
    that it publishes to. A node that begins to listen later hears of it within this time, or within
    two seconds when it hears an event of that node."""
    lan_peers: int = 64
    """The most brokers used that were found on the LAN, and that nobody has named: more than most
    systems have. Any program on the LAN can pose as many."""
    unknown_peers: int = 64
    """The most brokers used that are known only by such announcements: more than a system has, and
    few enough to ask each of them now and then. As many others of them are remembered."""
    duplicate_senders: int = 4_096
    """The most senders (process starts) whose sequence numbers a receiver remembers; each counts
    once for each of its routing keys."""
    duplicate_bytes: int = 8 * 1024 * 1024
    """The most memory that this takes."""

    fifo_remote_events: int = 250
    """Remote events enter a chart's FIFO only while it holds fewer events than this; the rest of
    the FIFO is kept for local posts."""
    fifo_remote_bytes: int = 8 * 1024 * 1024
    """Remote events enter only while the large ones in the FIFO (of more than 1 KiB) take less
    memory than this; a larger one enters when there is no other. Events that wait for a callback,
    such as ``on_mesh_rx``, have the same limit. A receiver holds what it has no room for, up to
    ``prefetch_messages`` times ``event_bytes``; the rest waits at the broker."""
    fifo_events: int = 10_000
    """The most events that a chart's FIFO holds; when it is full, a post from another thread
    waits."""
    fifo_timeout_s: float = 10.0
    """How long such a post waits before it is dropped, counted and logged. A post from the chart's
    own thread cannot wait for that thread, and is dropped at once."""
    deferred_events: int = 5_000
    """The most events that a chart may have deferred; beyond it, the oldest are dropped, counted
    and logged. Less than ``fifo_events``, so that all of them can be recalled at once."""
    deferred_bytes: int = 32 * 1024 * 1024
    """The most memory that those of them may take that came from the network."""
    stuck_after_s: float = 5.0
    """A handler or callback that has not returned for so long, while events wait for it, is said to
    be stuck: longer than most handlers that are slow on purpose."""

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            # Counts are whole, and so is the heartbeat, which AMQP sends as whole seconds.
            is_whole = item.type == "int"
            kinds = int if is_whole else (int, float)
            if isinstance(value, bool) or not isinstance(value, kinds) or not 0 < value < math.inf:
                what = "whole number" if is_whole else "number"
                raise SettingsError(f"limits: {item.name} must be a {what} above 0, not {value!r}")
        slowest_s = min(self.tempo_slow_s, self.tempo_patient_s)
        if self.tempo_fast_s > slowest_s or self.reconnect_min_s > self.reconnect_max_s:
            raise SettingsError(
                "limits: tempo_fast_s is above tempo_slow_s or tempo_patient_s, or reconnect_min_s "
                "is above reconnect_max_s"
            )
        if self.fifo_remote_events > self.fifo_events:
            raise SettingsError("limits: fifo_remote_events must not be above fifo_events")

    def __repr__(self) -> str:
        """Show only what is not the default, so that the signatures in ``help()`` stay short."""
        changed = (
            f"{item.name}={getattr(self, item.name)!r}"
            for item in fields(self)
            if getattr(self, item.name) != item.default
        )
        return f"{type(self).__name__}({', '.join(changed)})"
