"""Text of others, before it enters a log, an exception or a terminal.

Brokers, other nodes, files and the operating system send text that anybody may have chosen: an
escape sequence clears the screen of whoever reads the log, a line end forges a line of it, a mark
of direction turns the rest around. Whatever takes such a text in makes it harmless here, once, so
that those who show it need not know where it came from. Pure.
"""

from __future__ import annotations

import re

MOST = 300
"""The most characters of a text that are shown: RabbitMQ's own are shorter than 256 bytes."""

_HARMFUL = re.compile(
    r"[\x00-\x1f\x7f-\x9f"  # control characters: escapes and line ends, of which C1 has some, too
    r"\u2028\u2029"  # more line ends
    r"\u061c\u200e\u200f\u202a-\u202e\u2066-\u206f"  # the direction of writing
    r"\u200b\u2060-\u2065\ufeff\ufff9-\ufffb"  # invisible; joiners stay, as some scripts need them
    r"\ud800-\udfff]"  # halves of surrogate pairs, which no stream encodes
)


def text_of(value: object) -> str:
    """Turn a string of AMQP into str: pika leaves one that is no UTF-8 as bytes."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def on_one_line(text: str) -> str:
    """A text with a space for each character that could do more than be read."""
    return text if text.isprintable() else _HARMFUL.sub(" ", text)


def hidden(password: str, user: str) -> str:
    """What must not be shown of a login; nothing if the password is the name, which is shown."""
    return "" if password == user else password


def in_words(text: object, most: int = MOST, secret: str = "") -> str:
    """A text that fits into a line of a log: printable, without runs of spaces, and short.

    Args:
        text: as it came; what is neither text nor bytes is shown as Python does.
        most: the most characters of it.
        secret: what must not be shown, such as a password that is repeated to us.
    """
    # Before and after the spaces are joined: either way somebody could read it.
    whole = _without(secret, text_of(text))[: 16 * most]  # it may be as large as its sender likes
    shown = _without(secret, " ".join(on_one_line(whole).split()))
    return shown if len(shown) <= most else f"{shown[:most]}..."


def _without(secret: str, text: str) -> str:
    return text.replace(secret, "***") if secret else text
