"""Says what a receiver loses and rejects: at once, then at most once a minute for each subject.

What was counted since the last line is said a minute later, or when it is asked for, so that the
tail of a burst is never left unsaid. Whoever has the key can make up any number of senders, so the
subjects are bounded: those beyond the bound share one line.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Hashable

from ..logs import RelayedLogger
from ..problems import DeliveryProblem, ProblemKind, Report, report_to_nobody

logger: RelayedLogger = RelayedLogger(__name__)

INTERVAL_S = 60.0
"""Each subject is named at most once in this time."""

_MOST_SUBJECTS = 64
"""The most subjects of each kind that are named in this time."""

_LOST_AFTER_S = 10.0
"""A timer that is overdue for so long went with its thread."""

_TIDY_S = 1.0
"""How often it is looked for subjects that make room, so that a flood costs little."""

_LONGEST_SUBJECT = 80
"""The most characters of a sender's name in a line."""

_OTHERS = "further senders"

Words = Callable[[int, str, bool], str]
"""Words a line: for how many events, of whom, and whether they are more of what was said before."""

InLog = Callable[[str], str]
"""What the log has of a text, where it has the rest already."""

CallLater = Callable[[float, Callable[[], object]], object]
"""Calls something after so many seconds, in the thread that uses the log."""


class _Subject:
    """What is known of one subject."""

    __slots__ = ("in_log", "name", "said_s", "unsaid", "was_said", "words")

    def __init__(self, name: str) -> None:
        self.name = name
        self.said_s = 0.0
        self.was_said = False
        self.unsaid = 0
        self.words: Words | None = None
        self.in_log: InLog | None = None


class PacedLog:
    """The warnings of one receiver about what it gets. For one thread at a time.

    Args:
        name: the receiver's.
        network: the exchange.
        report: is told the same as the log, and nothing of it is left out.
    """

    def __init__(self, name: str, network: str = "", report: Report = report_to_nobody) -> None:
        self.name = name
        """The receiver's, for the log; it tells where its broker is, which may change."""
        self._network = network
        self._report = report
        self._subjects: dict[ProblemKind, dict[Hashable, _Subject]] = {}
        self._once: set[Hashable] = set()
        self._once_s = time.monotonic()
        self._call_later: CallLater | None = None
        self._timer_s = self._tidied_s = -math.inf

    def use_timer(self, call_later: CallLater) -> None:
        """Have what is left unsaid said a minute after the line before, by this timer."""
        self._call_later = call_later

    def say(
        self,
        kind: ProblemKind,
        about: Hashable,
        subject: str,
        words: Words,
        events: int = 1,
        in_log: InLog | None = None,
    ) -> None:
        """Say something, now or later, summed up with what was not said yet.

        Args:
            kind: what it is.
            about: what has lines of its own, such as a sender's start.
            subject: the sender's name; empty if it is not known.
            words: words the line.
            events: how many events it has cost.
            in_log: says what the log has of the line; default: all of it.
        """
        now_s = time.monotonic()
        one = self._find(kind, about, subject, now_s)
        one.unsaid += events
        one.words, one.in_log = words, in_log
        if not one.was_said or now_s - one.said_s >= INTERVAL_S:
            self._say(kind, one, now_s)
        elif now_s > self._timer_s + _LOST_AFTER_S:
            self._set_timer(one.said_s + INTERVAL_S, now_s)

    def say_once(
        self, kind: ProblemKind, about: Hashable, subject: str, text: str, events: int = 0
    ) -> None:
        """Say what does not change until somebody does something; further calls do nothing.

        Beyond so many, which somebody makes up, they begin anew once a minute.
        """
        if about in self._once:
            return
        if len(self._once) >= _MOST_SUBJECTS:
            now_s = time.monotonic()
            if now_s - self._once_s < INTERVAL_S:
                return
            self._once_s = now_s
            self._once.clear()
        self._once.add(about)
        self._tell(kind, subject, text, events)

    def say_rest(self) -> None:
        """Say everything that was not said yet."""
        self._say_what_is_due(lambda _: True)

    def _find(self, kind: ProblemKind, about: Hashable, subject: str, now_s: float) -> _Subject:
        subjects = self._subjects.setdefault(kind, {})
        one = subjects.get(about)
        if one is None:
            if len(subjects) >= _MOST_SUBJECTS and now_s >= self._tidied_s + _TIDY_S:
                # Those who were silent for long make room.
                self._tidied_s = now_s
                for known, other in list(subjects.items()):
                    if not other.unsaid and now_s - other.said_s >= INTERVAL_S:
                        del subjects[known]
            if len(subjects) >= _MOST_SUBJECTS:
                about, subject = _OTHERS, ""
            one = subjects.setdefault(about, _Subject(subject))
        return one

    def _on_timer(self) -> None:
        self._timer_s = -math.inf
        now_s = time.monotonic()
        said_s = self._say_what_is_due(lambda one: now_s - one.said_s >= INTERVAL_S)
        if said_s is not None:
            self._set_timer(said_s + INTERVAL_S, now_s)

    def _set_timer(self, at_s: float, now_s: float) -> None:
        if self._call_later is not None:
            self._timer_s = at_s
            self._call_later(max(0.0, at_s - now_s), self._on_timer)

    def _say_what_is_due(self, is_due: Callable[[_Subject], bool]) -> float | None:
        """Say it; returns when the first of what is left was said last, if there is any."""
        next_s = None
        for kind, subjects in self._subjects.items():
            for one in list(subjects.values()):
                if not one.unsaid:
                    continue
                if is_due(one):
                    self._say(kind, one, time.monotonic())
                elif next_s is None or one.said_s < next_s:
                    next_s = one.said_s
        return next_s

    def _say(self, kind: ProblemKind, one: _Subject, now_s: float) -> None:
        assert one.words is not None
        events, one.unsaid = one.unsaid, 0
        whom = repr(one.name[:_LONGEST_SUBJECT]) if one.name else _OTHERS
        text = one.words(events, whom, one.was_said)
        one.was_said = True
        one.said_s = now_s
        self._tell(kind, one.name, text, events, one.in_log)

    def _tell(
        self,
        kind: ProblemKind,
        subject: str,
        text: str,
        events: int,
        in_log: InLog | None = None,
    ) -> None:
        logger.warning("%s: %s", self.name, text if in_log is None else in_log(text))
        self._report(DeliveryProblem(kind, subject, f"{self.name}: {text}", self._network, events))
