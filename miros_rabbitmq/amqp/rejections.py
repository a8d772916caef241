"""Counts what a receiver rejects, and remembers what it rejected without being able to read it."""

from __future__ import annotations

from collections import Counter, OrderedDict
from functools import partial

from ..exceptions import MessageRejected, RejectReason
from ..problems import ProblemKind
from ..said_before import said_before
from ..wire.opener import UnknownKey
from .paced_log import PacedLog

_ONCE = frozenset({RejectReason.OTHER_FORMAT})
"""What does not change until somebody does something is said once."""


class Rejections:
    """The rejected messages and events of one receiver. Other threads may read `counts`.

    Args:
        log: says what is rejected.
    """

    def __init__(self, log: PacedLog) -> None:
        self.counts: Counter[RejectReason] = Counter()
        self._log = log

    def count(self, error: MessageRejected, what: str, sender: str = "") -> None:
        """Count something that was rejected.

        Args:
            error: why it was rejected.
            what: what it was, and of whom, for the log.
            sender: the name of its sender; empty if nothing of it is authentic.
        """
        self.counts[error.reason] += 1
        about, text = (error.reason, error.cause), f"rejected {what}: {error}"
        if error.reason in _ONCE:
            self._log.say_once(ProblemKind.REJECTED, about, sender, text, events=1)
            return

        def words(events: int, _whom: str, _is_more: bool) -> str:
            more = f" (and {events - 1:,} more like it since the last such warning)"
            return text + more * (events > 1)

        in_log = partial(_in_log, error) if isinstance(error, UnknownKey) else None
        self._log.say(ProblemKind.REJECTED, (*about, sender), sender, words, in_log=in_log)


def _in_log(error: UnknownKey, text: str) -> str:
    """What the log has of a text: what to do about another key is said once."""
    brief = text.replace(str(error), f"{error.reason.value}: {error.brief}", 1)
    return said_before.once(error.about, text, brief)


_MOST_REMEMBERED = 256
"""The most senders and routing keys of which is remembered how much of them was rejected unread."""

Key = tuple[bytes, str]
"""The epoch and the routing key of a message."""


class Unread:
    """How many events were rejected before their numbers were known or kept, by epoch and key.

    What is rejected because no key of ours opens it leaves a gap when the key is mended. This tells
    that gap from a loss on the way.

    The epoch is in clear, and nobody proves it: somebody with the broker's password can make a loss
    look like this. So what is `explained` is counted, too, and said; and the next event that comes
    without a gap ends the matter.
    """

    def __init__(self) -> None:
        self.explained: int = 0
        """Missing events that were rejected unread, as far as can be told."""
        # How many, and the highest number among them as far as it is known.
        self._counts: OrderedDict[Key, tuple[int, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._counts)

    def note(self, key: Key, events: int, number: int = 0) -> None:
        """Note events that were rejected.

        Args:
            key: the epoch and the routing key that they claim.
            events: how many.
            number: that of the event, if it is known.
        """
        if events < 1:
            return
        count, highest = self._counts.pop(key, (0, 0))
        if len(self._counts) >= _MOST_REMEMBERED:
            self._counts.popitem(last=False)
        self._counts[key] = count + events, max(highest, number)

    def explain(self, key: Key, missing: int) -> int:
        """Tell how many of the events that are missing were rejected, and count them."""
        count, highest = self._counts.pop(key, (0, 0))
        events = min(count, missing)
        if count > events:
            self._counts[key] = count - events, highest
        self.explained += events
        return events

    def forget(self, key: Key, number: int) -> None:
        """Note that a new event has come: what was rejected before it has left its gap by now."""
        if self._counts.get(key, (0, number))[1] < number:
            del self._counts[key]
