"""Whether other charts listen at this node's own broker.

A chart transmits to its own broker, too, because other charts may listen there. Where no other
chart does, only the sender itself gets these copies back, and one by one they cost as much work as
copies that somebody waits for. So they are then sent together, without haste. Only the haste, and
whether it is said that nobody listens, depend on announcements, never whether something is sent: an
announcement that is lost, late or forged costs some milliseconds.

Every announcement reaches all charts at the broker, so there must be few of them, however many
charts there are:

- A chart announces itself when it begins to listen. While nothing changes, it does so again only if
  none of the others has for some time: one announcement keeps all of them informed.
- A chart that knows of no other asks, and gets one answer. Each of the others would answer after a
  random time, and does not if it hears that another has answered. The times are spread as in
  J. Nonnenmacher and E. Biersack, "Scalable feedback for large groups", IEEE/ACM Transactions on
  Networking 7(3), 1999: whether one chart or a thousand are asked, one answers, or a few.
- A question may name a routing key. Those who listen to it answer first.

Pure; clock and randomness are handed in.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from ..amqp.topic_pattern import TopicPattern
from ..wire.notice import Notice, announce_listener, announced_pattern, asked_key, asks

_FORGOTTEN_AFTER = 3
"""A neighbour counts as gone when so many of its announcements have failed to come."""

_LATELY = 0.9
"""What was announced within this share of the time between two announcements need not be again."""

ANSWER_S = 0.5
"""Those who listen to what a question names answer within this time, and all others in the same
time after it."""

ANSWERED_S = 2.0
"""What was not answered after so long has nobody to answer it."""

_ASK_AGAIN_S = 1.0
"""Half of the time until a question without an answer is asked again; it doubles each time."""

_SPREAD = 10.0
"""How much most answers tend to the end of their time (lambda in the article)."""

_MOST_ASKED = 16
"""The most routing keys that are asked about at a time. Each is compared with the pattern of each
announcement that comes, and both may have 128 words."""


def answer_delay_s(chance: float) -> float:
    """How long to wait with an answer, by a random number from 0 to 1."""
    return ANSWER_S / _SPREAD * math.log1p(chance * math.expm1(_SPREAD))


class Neighbours:
    """What one node knows of the others at its broker, and what it tells them.

    `hear` and `take_questions` are called in the consumers' thread, the rest in the publishers';
    `note_told` may be called in any.

    Args:
        announce_s: seconds between two announcements at the broker.
        key: the routing key that this node sends by.
        pattern: the routing keys that this node listens to; empty to leave that open.
        chance: returns random numbers from 0 to 1.
    """

    def __init__(
        self, announce_s: float, key: str, pattern: str, chance: Callable[[], float]
    ) -> None:
        self._announce_s = announce_s
        self._key = key
        self._pattern = pattern
        self._hears = _match(pattern)
        self._chance = chance
        self._heard_s = self._told_s = self._listener_heard_s = self._asked_s = -math.inf
        self._ask_again_s = _ASK_AGAIN_S
        # The routing keys that others ask about, and nobody has answered yet; and whether this node
        # listens to each.
        self._questions: dict[str, bool] = {}

    def are_there(self, now_s: float) -> bool:
        """Tell whether a neighbour was heard lately; ``now_s`` is a time of `time.monotonic`."""
        return now_s - self._heard_s < _FORGOTTEN_AFTER * self._announce_s

    def listen(self, now_s: float) -> bool:
        """Tell whether a neighbour that listens to what this node sends was heard lately."""
        return now_s - self._listener_heard_s < _FORGOTTEN_AFTER * self._announce_s

    def are_told_lately(self, now_s: float) -> bool:
        """Tell whether another node has just announced itself to all of them, and to this one."""
        return now_s - max(self._heard_s, self._told_s) < _LATELY * self._announce_s

    def note_told(self, now_s: float) -> None:
        """Note that another node has announced itself, before it is heard."""
        self._told_s = now_s

    def has_to_ask(self, now_s: float) -> bool:
        """Tell whether no neighbour is known, or the last known one is about to be forgotten."""
        return now_s - self._heard_s >= (_FORGOTTEN_AFTER - 1) * self._announce_s

    def may_ask_for_listener(self, now_s: float) -> bool:
        """Tell whether it is time to ask who listens to what this node sends; if so, it is asked.

        Less and less often, as long as nobody answers.
        """
        if now_s - self._asked_s < self._ask_again_s:
            return False
        self._asked_s = now_s
        self._ask_again_s = min(2 * self._ask_again_s, self._announce_s)
        return True

    def announcement(self, *, asks: bool) -> Notice:
        """The announcement to send.

        Args:
            asks: whether one of the neighbours is to answer.
        """
        return announce_listener(asks=asks, pattern=self._pattern, key=self._key if asks else "")

    def hear(self, announcement: Notice, now_s: float) -> float | None:
        """Take the announcement of a neighbour.

        Returns:
            seconds after which to call `take_questions`, and to answer if it says so; `None` if
            there is nothing to answer.
        """
        self._heard_s = now_s
        matches = _match(announced_pattern(announcement))
        if matches(self._key):
            self._listener_heard_s = now_s
            self._ask_again_s = _ASK_AGAIN_S
        # What this node would answer has just been said, or better.
        self._questions = {
            key: True for key, is_ours in self._questions.items() if is_ours and not matches(key)
        }
        key = asked_key(announcement)
        if not asks(announcement) or len(self._questions) >= _MOST_ASKED:
            return None
        is_ours = self._questions[key] = self._hears(key)
        return answer_delay_s(self._chance()) + (0.0 if is_ours else ANSWER_S)

    def take_questions(self) -> bool:
        """Tell whether somebody still waits for an answer; it is then answered."""
        is_asked = bool(self._questions)
        self._questions.clear()
        return is_asked


def _match(pattern: str | None) -> Callable[[str], bool]:
    """Tells whether somebody may listen to a key; both may be left open."""
    if not pattern:
        return lambda _: True
    matches = TopicPattern(pattern).matches
    return lambda key: not key or matches(key)
