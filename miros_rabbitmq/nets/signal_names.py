"""Decides which signal names are sent, and accepted from the network."""

from __future__ import annotations

from miros import signals

from ..exceptions import MessageRejected, RejectReason
from ..wire.envelope import MOST_NAME

INNER_SIGNALS = frozenset(list(signals)[: signals.highest_inner_signal])
"""The signals by which miros drives a chart: never sent, and never accepted from the network."""


def check_name(name: str) -> None:
    """Check that a text may travel as the name of a signal.

    Raises:
        MessageRejected: it may not; carries the reason.
    """
    if name in INNER_SIGNALS:
        raise MessageRejected(RejectReason.INNER_SIGNAL, name)
    if not 0 < len(name) <= MOST_NAME or not name.isprintable():
        raise MessageRejected(RejectReason.SIGNAL_NAME)
