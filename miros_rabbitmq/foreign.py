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


def on_one_line(text: str | bytes) -> str:
    """A text with a space for each character that could do more than be read.

    Args:
        text: as it came; of bytes, those that are no UTF-8 are replaced, too.
    """
    if isinstance(text, bytes):
        text = text.decode("utf-8", "replace")
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
    if isinstance(text, bytes):
        text = text.decode("utf-8", "replace")
    elif not isinstance(text, str):
        text = str(text)
    # Before and after the spaces are joined: either way somebody could read it.
    text = _without(secret, text)[: 16 * most]  # it may be as large as whoever sends it likes
    shown = _without(secret, " ".join(on_one_line(text).split()))
    return shown if len(shown) <= most else f"{shown[:most]}..."


def _without(secret: str, text: str) -> str:
    return text.replace(secret, "***") if secret else text
