"""What travels, before it becomes bytes and after: the networks, the kinds of bodies, the envelope.

Everything here is immutable. `sealer` turns a body into bytes, `opener` turns bytes into a body.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any, NamedTuple

from ..wording import a_value_of

MESH = "miros.mesh"
SNOOP_TRACE = "miros.snoop.trace"
SNOOP_SPY = "miros.snoop.spy"
"""The three networks. Each name is also the name of the network's exchange at every broker."""

MOST_NAME = 255
"""The most characters of a sender's name, and of a signal's."""

MOST_LINE = 4_096
"""The most characters of a snoop line."""

MOST_LINE_BYTES = 8 * MOST_LINE
"""The most bytes of a serialized snoop line: JSON takes up to six for a character."""


class Purpose(enum.IntEnum):
    """What a message is for. Each has keys, numbers and windows of its own."""

    EVENTS = 1
    """Events, snoop lines, and values of a publisher that is used alone."""
    NOTICES = 2
    """What nodes tell each other, unseen by their charts (see `notice`)."""


class Kind(enum.IntEnum):
    """What the body of a record is."""

    EVENT = 1
    """``(signal name, payload)``"""
    LINE = 2
    """A snoop line."""
    VALUE = 3
    """Any value, of a publisher that is used alone."""

    @classmethod
    def on(cls, network: str) -> Kind:
        """Return the kind that travels on a network."""
        return _KINDS.get(network, cls.VALUE)

    @property
    def wanted(self) -> str:
        """What a body of this kind has to be, in words."""
        if self is Kind.EVENT:
            return f"(signal name of 1 to {MOST_NAME} characters, payload)"
        return "any value" if self is Kind.VALUE else f"a text of up to {MOST_LINE:,} characters"

    @property
    def fits(self) -> Callable[[Any], bool]:
        """The function that tells whether a body is of this kind, by its type and shape."""
        return _FITS[self]


def _is_event(body: Any) -> bool:
    return (
        type(body) in (tuple, list)
        and len(body) == 2
        and type(body[0]) is str
        and 0 < len(body[0]) <= MOST_NAME
    )


_FITS: dict[Kind, Callable[[Any], bool]] = {
    Kind.EVENT: _is_event,
    Kind.LINE: lambda body: type(body) is str and len(body) <= MOST_LINE,
    Kind.VALUE: lambda _: True,
}


def shape(body: Any) -> str:
    """Name the types in a body; its values are left out, as this text goes into an error."""
    if isinstance(body, (tuple, list)):
        if not body:
            return f"an empty {type(body).__name__}"
        return f"{a_value_of(body)} of {', '.join(type(item).__name__ for item in body)}"
    return a_value_of(body)


_KINDS = {MESH: Kind.EVENT, SNOOP_TRACE: Kind.LINE, SNOOP_SPY: Kind.LINE}


class Envelope(NamedTuple):
    """One body as a receiver gets it, with what the sender's node says about it."""

    network: str
    """The exchange by which it came."""
    routing_key: str
    """The routing key that its sender gave it."""
    sender: str
    """The name of the chart, or of the publisher."""
    epoch: bytes
    """16 random bytes: the sender's start on this network."""
    sequence: int
    """Counts what the sender has sent by this routing key since that start, from 1."""
    sent_ms: int
    """When it was sent, in milliseconds since 1970, by the sender's clock."""
    body: Any
    """``(signal name, payload)``, a snoop line, or a value."""
    memory: int = 0
    """About how many bytes of memory a large body takes; 0 if it is small (see `memory`)."""
