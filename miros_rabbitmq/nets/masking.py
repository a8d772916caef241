"""Keeps passwords and keys out of the lines that a node shows and sends to whoever watches.

Pure text. Somebody writes ``chart.snoop_scribble(chart.this_url())``, or names a state or a signal
after what it has to do with a URL: the line shows ``***`` in place of the password.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import quote

MASK = "***"

_SHORTEST = 5
"""A shorter secret is masked in URLs only: as a word by itself it says as little as other words."""

_URL_LOGIN = re.compile(r"(amqps?://[^\s/:@]*:)\S*@", re.IGNORECASE)


class Mask:
    """Replaces secrets in texts: the password of each AMQP URL, and the node's own secrets.

    A secret counts where it stands as a word, so that the password ``rabbit`` does not spoil every
    ``rabbitmq``.

    Args:
        secrets: the node's own password and keys.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        forms = {form for one in secrets for form in (one, quote(one, safe=""))}
        long = sorted((one for one in forms if len(one) >= _SHORTEST), key=len, reverse=True)
        self._own = re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, long))})(?!\w)")
        self._has_own = bool(long)

    def __repr__(self) -> str:
        return "<Mask>"

    def __call__(self, text: str) -> str:
        """The text with its secrets masked."""
        if "://" in text:
            text = _URL_LOGIN.sub(rf"\1{MASK}@", text)
        return self._own.sub(MASK, text) if self._has_own else text
