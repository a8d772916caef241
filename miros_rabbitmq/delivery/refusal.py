"""What a broker says when it closes a channel or a connection, and whether a message may be why.

Pure. The codes are those of AMQP 0-9-1, section 1.2, as RabbitMQ uses them.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_BASIC_PUBLISH = 60, 40

_NOT_FOUND, _ACCESS_REFUSED = 404, 403
"""Codes of a closed channel that no message causes: an exchange that was deleted, and a right that
was revoked; except for a right to a routing key."""

_OF_MESSAGES = frozenset({501, 502, 505, 540, 541})
"""Codes of a closed connection that a message may cause: a frame that the broker cannot read, or
cannot use, or a bug of the broker that the message has found. The others mean that somebody closed
the connection, or that the vhost is gone."""

_LIMIT = re.compile(
    r"larger than (?:configured )?max size (\d+)|exceeds maximum allowed size (\d+)"
)
"""RabbitMQ 3.8 to 4.3: "message size 150000 is larger than configured max size 100000", without
"configured" if that is the largest that it can be set to; and the frame error for what is larger
still, "content body size 600000000 exceeds maximum allowed size 536870912"."""

_TOPIC = re.compile(r"access to topic '(.*)' in exchange '", re.DOTALL)
"""RabbitMQ 3.8 to 4.3, with topic permissions: "write access to topic 'a.key' in exchange
'miros.mesh' in vhost '/' refused for user 'miros'"; before 3.13 without "write"."""

_ATTEMPTS = 2
_ATTEMPTS_IF_UNCERTAIN = 5
"""A closed connection may also be the broker's trouble, which passes."""

_MOST_TEXT = 200


class Refusal(NamedTuple):
    """A channel or a connection that the broker has closed, maybe because of a message."""

    code: int
    text: str
    """What the broker says."""
    is_certain: bool
    """It was a message. Otherwise it may have been something else."""

    @classmethod
    def of_channel(cls, code: int, text: str, class_id: int, method_id: int) -> Refusal | None:
        """A channel was closed; `None` if that was not because of a message.

        Args:
            code: the reply code of the broker's ``channel.close``.
            text: its reply text.
            class_id: the class of the method that the broker refuses.
            method_id: this method.
        """
        if (class_id, method_id) != _BASIC_PUBLISH or code == _NOT_FOUND:
            return None
        refusal = cls(code, text, is_certain=True)
        return refusal if code != _ACCESS_REFUSED or refusal.routing_key is not None else None

    @classmethod
    def of_connection(cls, code: int, text: str) -> Refusal | None:
        """A connection was closed with an error; `None` if no message causes that one.

        Args:
            code: the reply code of the broker's ``connection.close``.
            text: its reply text.
        """
        return cls(code, text, is_certain=False) if code in _OF_MESSAGES else None

    @property
    def attempts(self) -> int:
        """How often in a row a message has to be refused alone before it is given up."""
        return _ATTEMPTS if self.is_certain else _ATTEMPTS_IF_UNCERTAIN

    @property
    def most_bytes(self) -> int | None:
        """The most bytes of a message's body that the broker takes, if it says so."""
        found = _LIMIT.search(self.text)
        return int(found[1] or found[2]) if found else None

    @property
    def routing_key(self) -> str | None:
        """The routing key that our user may not publish by, if the broker names one."""
        found = _TOPIC.search(self.text)
        return found[1] if found else None

    def __str__(self) -> str:
        text = self.text if len(self.text) <= _MOST_TEXT else f"{self.text[:_MOST_TEXT]}..."
        return f"{self.code}, {text!r}"
