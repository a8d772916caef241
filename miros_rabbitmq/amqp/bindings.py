"""Whether a message came by a way that its receiver has opened itself.

A broker delivers to a queue what matches its bindings. But it also delivers by the headers ``CC``
and ``BCC`` (https://www.rabbitmq.com/docs/sender-selected), straight through the default exchange,
and by bindings that somebody else has made, and in some of these cases the message still has the
exchange and the routing key of its sender. So a receiver compares these with its own bindings.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..exceptions import MessageRejected, RejectReason
from ..wire.envelope import Purpose
from .message_io import Delivery
from .topic_pattern import TopicPattern

_MOST_REMEMBERED = 1_024
"""The most routing keys of which is remembered whether they are ours."""

_LONGEST_SHOWN = 40
"""The most characters of a foreign name that are told."""

_UNREADABLE = "\ufffd"
"""Stands in a routing key for what is not UTF-8: several keys would become the same."""


class Bindings:
    """The exchange and the patterns with which one queue is bound. For one thread.

    Args:
        exchange: the exchange.
        for_events: the patterns for events.
        for_notices: further patterns, for notices only.
    """

    def __init__(
        self, exchange: str, for_events: Sequence[str], for_notices: Sequence[str] = ()
    ) -> None:
        self._exchange = exchange
        events = [TopicPattern(pattern) for pattern in for_events]
        notices = [*events, *(TopicPattern(pattern) for pattern in for_notices)]
        self._patterns = {Purpose.EVENTS: events, Purpose.NOTICES: notices}
        self._remembered: dict[tuple[int, str], bool] = {}

    def check(self, delivery: Delivery, purpose: int) -> None:
        """Check the exchange and the routing key of a message.

        Args:
            delivery: the message.
            purpose: what it claims to be for.

        Raises:
            MessageRejected: it came by another way.
        """
        if delivery.exchange != self._exchange:
            raise MessageRejected(
                RejectReason.WRONG_NETWORK, f"{delivery.exchange[:_LONGEST_SHOWN]!r}"
            )
        key = purpose, delivery.routing_key
        is_ours = self._remembered.get(key)
        if is_ours is None:
            is_ours = self._matches(*key)
            if len(self._remembered) >= _MOST_REMEMBERED:
                self._remembered.clear()
            self._remembered[key] = is_ours
        if not is_ours:
            raise MessageRejected(
                RejectReason.MISROUTED,
                "it came by a header CC or BCC, or by a binding that is not ours, or the exchange "
                "is not of the type topic (as root: rabbitmqctl list_exchanges name type)",
            )

    def are_for_events(self, routing_key: str) -> bool:
        """Tell whether they bring the events that are sent by a routing key."""
        return self._matches(Purpose.EVENTS, routing_key)

    def _matches(self, purpose: int, routing_key: str) -> bool:
        # What has no known purpose is judged like a notice, and rejected later for its real fault.
        is_event = purpose == Purpose.EVENTS
        patterns = self._patterns[Purpose.EVENTS if is_event else Purpose.NOTICES]
        return _UNREADABLE not in routing_key and any(
            pattern.matches(routing_key) for pattern in patterns
        )
