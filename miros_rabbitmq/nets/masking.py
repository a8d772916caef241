"""Keeps passwords and keys out of the lines that a node shows and sends to whoever watches.

Pure text. Somebody writes ``chart.snoop_scribble(chart.this_url())``, or names a state or a signal
after what it has to do with a URL: the line shows ``***`` in place of the password.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from urllib.parse import quote, quote_plus

MASK = "***"

_SHORTEST = 5
"""A shorter secret is masked in URLs, and between a colon and an @: as a word by itself it says as
little as other words."""

_URL_LOGIN = re.compile(r"(amqps?://[^\s/:@]*:)\S*@", re.IGNORECASE)
_WORD = re.compile(r"\S+")
_QUOTED = re.compile("%[0-9A-F]{2}")

_BEFORE = r"((?:\x1b|\\x1b|\\033)\[[0-9;]*m|%[0-9A-Fa-f]{2}|\\[nrt]|(?<!\w))"
"""What a word begins after: a colour, a character that is quoted for a URL, or one that a ``repr``
shows as an escape end with a letter or a digit, and are no part of it."""


class Mask:
    """Replaces secrets in texts: the password of each AMQP URL, and the node's own secrets.

    A secret counts where it stands as a word, so that the password ``rabbit`` does not spoil every
    ``rabbitmq``.

    Args:
        secrets: the node's own password and keys.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        forms = {form for one in secrets for form in _forms_of(one) if form}
        ordered = sorted(forms, key=len, reverse=True)
        long = "|".join(re.escape(one) for one in ordered if len(one) >= _SHORTEST)
        short = "|".join(re.escape(one) for one in ordered if len(one) < _SHORTEST)
        self._any = re.compile("|".join(map(re.escape, ordered)) if ordered else "(?!)")
        self._own = [
            re.compile(pattern)
            for pattern, has_any in (
                (rf"{_BEFORE}(?:{long})(?!\w)", long),
                (rf"(:|%3[Aa])(?:{short})(?=@|%40)", short),
            )
            if has_any
        ]

    def __repr__(self) -> str:
        return "<Mask>"

    def __call__(self, text: str) -> str:
        """The text with its secrets masked."""
        if "://" in text and "@" in text:
            text = _WORD.sub(_without_login, text)
        if self._any.search(text):  # mostly not: that takes a fifth of the time
            for own in self._own:
                text = own.sub(rf"\1{MASK}", text)
        return text


def _without_login(word: re.Match[str]) -> str:
    """A word without the password of the URL in it."""
    # Up to the last @ only: what follows has no login, and takes long to look through.
    before, at, after = word[0].rpartition("@")
    return _URL_LOGIN.sub(rf"\1{MASK}@", before + at, count=1) + after


def _forms_of(secret: str) -> Iterator[str]:
    """A secret as it stands in texts: by itself, in a URL, in a ``repr``, in JSON, as bytes."""
    quoted = quote(secret, safe="")
    yield from (secret, quoted, quote(quoted, safe=""), quote_plus(secret))
    yield _QUOTED.sub(lambda match: match[0].lower(), quoted)
    yield repr(secret)[1:-1]
    yield ascii(secret)[1:-1]
    yield json.dumps(secret)[1:-1]
    yield repr(secret.encode(errors="replace"))[2:-1]
    yield secret.rstrip("=")  # the end of a key, which tells nothing
