"""What travels before it becomes bytes: the networks, the sender, and the envelope of each body.

Everything here is immutable. `codec` turns envelopes into bytes.
"""

from __future__ import annotations

import secrets
from typing import Any, NamedTuple

MESH = "miros.mesh"
SNOOP_TRACE = "miros.snoop.trace"
SNOOP_SPY = "miros.snoop.spy"
"""The three networks. Each name is also the name of the network's exchange at every broker."""

TOKEN_SEPARATOR = b"\n"
"""What is between two tokens in one message."""

NOTICE = 0
"""The sequence number of a notice: an envelope in which the sender says something about itself."""


class Identity(NamedTuple):
    """One sender, from its start until it stops."""

    name: str
    """The chart's name; travels encrypted."""
    epoch: int
    """Random; travels encrypted. Sequence numbers count within it."""
    sender_id: str
    """Random; travels in clear, so that a consumer skips its own chart's messages without
    decrypting them."""

    @classmethod
    def new(cls, name: str) -> Identity:
        """Return the identity of a new start of the sender with this name."""
        return cls(name, secrets.randbits(62), secrets.token_urlsafe(9))


class Envelope(NamedTuple):
    """What travels inside one token."""

    network: str
    """The network it was sent on. A receiver rejects it on any other network, so nobody can replay
    it on one that has the same key."""
    sender: str
    """The name of the chart."""
    epoch: int
    """The random number of the sender's start. Sequence numbers begin anew with each epoch."""
    sequence: int
    """Counts the envelopes of the epoch on this network, from 1; `NOTICE` for a notice."""
    body: Any
    """``(signal name, payload)``, a snoop line, or the body of a notice."""
