"""What may be wrong with one broker, or the way to it: each can be begun and ended."""

from __future__ import annotations

from typing import Any, Protocol

import pika

from miros_rabbitmq import LocalBroker
from miros_rabbitmq.delivery.slowness import Condition
from miros_rabbitmq.wire.envelope import MESH

from .proxy import FaultProxy

SLOW = frozenset({Condition.SLOW, Condition.STALLED})
STALLED = frozenset({Condition.STALLED})


class Sickness(Protocol):
    """Something that is wrong for a while."""

    @property
    def conditions(self) -> frozenset[Condition]:
        """Those of which a sender is to find one; none if it is to notice nothing."""

    def begin(self) -> None:
        """Let it begin."""

    def end(self) -> None:
        """Heal."""


class ThinLink:
    """The link to the broker carries little.

    Args:
        proxy: the relay in front of the broker.
        bytes_a_second: what it carries, in each direction.
        conditions: empty if that is enough for the traffic.
    """

    def __init__(
        self,
        proxy: FaultProxy,
        bytes_a_second: float,
        conditions: frozenset[Condition] = SLOW,
    ) -> None:
        self._proxy, self._bytes_a_second, self.conditions = proxy, bytes_a_second, conditions

    def begin(self) -> None:
        self._proxy.slow_down(bytes_a_second=self._bytes_a_second, delay_s=0.02, jitter_s=0.01)

    def end(self) -> None:
        self._proxy.heal()


class Alarm:
    """The broker's alarm for memory: it lets nobody publish."""

    conditions = STALLED

    def __init__(self, broker: LocalBroker) -> None:
        self._broker = broker

    def begin(self) -> None:
        self._broker.ctl("set_vm_memory_high_watermark", "absolute", "1")

    def end(self) -> None:
        self._broker.ctl("set_vm_memory_high_watermark", "0.4")


class Impostor:
    """What answers there takes everything, and confirms nothing."""

    conditions = STALLED

    def __init__(self, proxy: FaultProxy) -> None:
        self._proxy = proxy

    def begin(self) -> None:
        self._proxy.silence_confirms()

    def end(self) -> None:
        # What it has swallowed never comes: only a new connection tells.
        self._proxy.heal()
        self._proxy.cut()


class Frozen:
    """The host of the broker stands still."""

    conditions = STALLED

    def __init__(self, broker: LocalBroker) -> None:
        self._broker = broker

    def begin(self) -> None:
        self._broker.pause()

    def end(self) -> None:
        self._broker.resume()


class RejectPublish:
    """Somebody's queue at the broker takes nothing, and says so: the broker nacks every message.

    Our own queues there take each of them all the same.
    """

    conditions: frozenset[Condition] = frozenset()

    def __init__(self, broker: LocalBroker) -> None:
        self._broker = broker

    def begin(self) -> None:
        arguments = {"x-max-length": 1, "x-overflow": "reject-publish"}

        def bind(channel: Any) -> None:
            channel.queue_declare("refuses", arguments=arguments)
            channel.queue_bind("refuses", MESH, "#")

        self._do(bind)

    def end(self) -> None:
        self._do(lambda channel: channel.queue_delete("refuses"))

    def _do(self, what: Any) -> None:
        connection = pika.BlockingConnection(pika.URLParameters(self._broker.url()))
        try:
            what(connection.channel())
        finally:
            connection.close()
