"""What travels, before it is bytes: the networks, who sends, and the envelope around each body."""

from __future__ import annotations

import secrets
from typing import Any, NamedTuple

MESH = "miros.mesh"
SNOOP_TRACE = "miros.snoop.trace"
SNOOP_SPY = "miros.snoop.spy"
"""The networks, each by the name of its exchange."""

TOKEN_SEPARATOR = b"\n"

NOTICE = 0
"""The sequence number of an envelope that says something of its sender."""


class Identity(NamedTuple):
    """One sender, from its start to its end."""

    name: str
    """The chart's name; travels encrypted."""
    epoch: int
    """Random; travels encrypted. Sequence numbers count within it."""
    sender_id: str
    """Random and opaque; travels in clear, so that one's own messages are skipped unopened."""

    @classmethod
    def new(cls, name: str) -> Identity:
        """A new start of the sender of that name."""
        return cls(name, secrets.randbits(62), secrets.token_urlsafe(9))


class Envelope(NamedTuple):
    """What travels inside one token."""

    network: str
    """The network it was sent on, so that it cannot be replayed on another with the same key."""
    sender: str
    """The name of the chart."""
    epoch: int
    """A random number of the sender's start: sequence numbers count from 1 within it."""
    sequence: int
    """1 for the first envelope of the epoch on this network, one more for each further; `NOTICE`
    for what stands outside of the sequence."""
    body: Any
    """``(signal name, payload)``, a snoop line, or a notice."""
