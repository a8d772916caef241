"""Who sends: the name, and the random numbers that tell one start of it from another."""

from __future__ import annotations

import secrets
from typing import NamedTuple


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
