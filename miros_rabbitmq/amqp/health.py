"""The health of one link: is its connection alive, when is it tried again, what is logged.

Pure, except for the log; the clock is handed in. Each of the three is an object of its own, and
`Health` holds those of one link. None is thread-safe: the link's reactor owns them.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from typing import NamedTuple

from ..answers import Answers, gist
from ..exceptions import BrokerError, OutOfResources
from ..limits import Limits
from ..logs import RelayedLogger
from ..resources import news
from ..said_before import said_before
from .line_pace import LinePace

logger: RelayedLogger = RelayedLogger(__name__)

_LOOKS_A_HEARTBEAT = 2
_PATIENCE_IN_HEARTBEATS = 0.95
"""At the default heartbeat of 10 s: a question every 5 s, and nearly 10 s for its answer, so that
the second look after it decides and silence is noticed within 15 s. pika's own check of heartbeats
may take 30 s, and RabbitMQ's check of ours as long. With twice as many questions, an idle node took
0.3 % of a core."""

_SLACK_S, _SLACK_SHARE = 1.0, 0.2
"""So that the looks and heartbeats of 50 links wake their thread once a second, and not twenty
times."""

_HEARTBEATS_BYTES = 64
"""More than the heartbeats (8 bytes each) that arrive between two looks."""


class Watchdog:
    """Tells a silent connection from a slow one; watches one connection at a time.

    Its owner asks the broker something, again and again, and notes the answers. A connection is
    dead when an answer is due and nothing has moved for a while: no answer came, no content came
    in, and none of the data to be sent went out. So a thin link that is busy with a large message
    is not cut, and heartbeats do not save a connection whose broker no longer hears us.

    Args:
        patience_s: how long nothing may move while an answer is due, in seconds.
    """

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        self._moved_s = 0.0
        self._received = 0
        self._unsent = 0
        self.is_waiting: bool = False
        """An answer is due."""

    def ask(self, now_s: float) -> None:
        """Note that the broker was asked something."""
        self.is_waiting = True
        self._moved_s = now_s

    def answer(self, now_s: float) -> None:
        """Note that the broker has answered."""
        self.is_waiting = False
        self._moved_s = now_s

    def note_progress(self, now_s: float) -> None:
        """Note any other sign that the broker hears us."""
        self._moved_s = now_s

    def silence_s(self, now_s: float) -> float:
        """Seconds since anything has moved."""
        return now_s - self._moved_s

    def is_dead(
        self, now_s: float, received: int, unsent: int, *, heartbeats_do: bool = False
    ) -> bool:
        """Look at the connection.

        Args:
            now_s: the time of a monotonic clock, in seconds.
            received: bytes received since the connection was made.
            unsent: bytes that are still to be sent.
            heartbeats_do: any byte received counts as a sign of life, because the broker may not
                answer.

        Returns:
            whether an answer is due and nothing has moved for too long.
        """
        expected = 0 if heartbeats_do else _HEARTBEATS_BYTES
        # Our own heartbeats go out, too, sometimes just between two looks.
        if received - self._received > expected or self._unsent - unsent > _HEARTBEATS_BYTES:
            self._moved_s = now_s
        # A new connection begins to count anew.
        self._received, self._unsent = received, unsent
        waits = self.is_waiting or heartbeats_do
        return waits and now_s - self._moved_s >= self._patience_s


_STABLE_S = 2.0
"""After a connection was ready for this long, the waits start anew."""


_TAKEN_MAX_S = 1.0
"""Longest wait for a queue that is taken: one attempt costs the broker little, and as long as it
takes, the chart hears nothing."""


_QUICK_IN_A_ROW = 64
"""So many times in a row a link comes back quickly: more than it takes to find a few messages among
those under way that a broker refuses. After that it slows down, up to the wait for a queue that is
taken."""


class Backoff:
    """How long a link waits before it tries its broker again.

    Exponential back-off with jitter, as in M. Brooker, "Exponential Backoff And Jitter", AWS
    Architecture Blog, 2015 ("equal jitter").

    Args:
        limits: the shortest wait, the longest wait, and the wait after a refusal.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._attempts = 0
        self._short_lived = 0
        self._quick = 0
        self._ready_since_s: float | None = None

    @property
    def is_short_lived(self) -> bool:
        """The last connection was lost at once: that the broker answers again means little."""
        return self._short_lived > 0

    def succeed(self, now_s: float) -> None:
        """Note that a connection is ready."""
        self._ready_since_s = now_s

    def come_back(self, now_s: float) -> float:
        """Note that a working connection was given up on purpose, or for the sake of one message.

        Args:
            now_s: the time of a monotonic clock, in seconds.

        Returns:
            seconds to wait: hardly any, unless that happens all the time.
        """
        ready_since_s, self._ready_since_s = self._ready_since_s, None
        if ready_since_s is not None and now_s - ready_since_s > _STABLE_S:
            self._quick = 0
        doublings = min(max(0, self._quick - _QUICK_IN_A_ROW), 30)
        self._quick += 1
        longest_s = min(self._limits.reconnect_max_s, _TAKEN_MAX_S)
        delay_s = min(longest_s, self._limits.reconnect_min_s * 2.0**doublings)
        return delay_s * random.uniform(0.5, 1.0)

    def fail(self, now_s: float, *, refused: bool = False, taken: bool = False) -> float:
        """Note that a connection was lost, or did not come about.

        Args:
            now_s: the time of a monotonic clock, in seconds.
            refused: the broker refuses our user, password or vhost.
            taken: the broker answers, and only our queue is not ours at the moment.

        Returns:
            seconds to wait.
        """
        ready_since_s, self._ready_since_s = self._ready_since_s, None
        if ready_since_s is not None:
            # An outage begins with a short wait, unless the broker drops us at once, again and
            # again.
            stable = now_s - ready_since_s > _STABLE_S
            self._short_lived = 0 if stable else self._short_lived + 1
            self._attempts = self._short_lived
        limits = self._limits
        if refused:
            return limits.refused_retry_s
        doublings = min(self._attempts, 30)
        self._attempts += 1
        longest_s = min(limits.reconnect_max_s, _TAKEN_MAX_S) if taken else limits.reconnect_max_s
        delay_s = min(longest_s, limits.reconnect_min_s * 2.0**doublings)
        # Spread, so that the nodes of a system do not all return at the same moment.
        return delay_s * random.uniform(0.5, 1.0)


class Reporting(NamedTuple):
    """At which levels of `logging` a link reports that it is not connected.

    An owner of several links to one broker lowers the level of all but one. What the broker answers
    to an attempt is a warning all the same, as it may concern this link alone.
    """

    first_failure: int = logging.WARNING
    """For a failure before the link was ever connected."""
    loss: int = logging.WARNING
    """For the loss of an established connection, and for its return."""
    answers: Answers | None = None
    """Whom to ask before an answer is said that other links may have got, too."""
    origin: str = ""
    """How the broker's address became known, if the user may not know it."""


WARNINGS = Reporting()
"""Every outage is logged as a warning."""


_MOST_SAID = 8
"""So many faults of one outage are said at most; they may quote names that differ each time."""


class Outages:
    """Logs that an outage of one link began, and that it is over; retries in between at DEBUG only.

    What the broker answers meanwhile is said, too, each answer once. Of outages that follow one
    another there is a warning of a few, and then of one a minute.

    Args:
        name: the link's.
        reporting: at which levels.
        clock: a monotonic clock, in seconds.
    """

    def __init__(
        self, name: str, reporting: Reporting, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._pace = LinePace(clock)
        self._is_loud = True
        self._name = name
        self._reporting = reporting
        self._was_connected = False
        self._is_reported = False
        self._is_starved = False
        self._said: set[str] = set()
        self._host = ""

    def fail(self, fault: BrokerError) -> None:
        """Note that a connection was lost, or did not come about."""
        text, said = str(fault), gist(fault)
        if not self._is_reported:
            self._is_loud = self._pace.may()
        # What the other side says is news, whatever the outage began with: after a restart, a
        # broker may refuse us.
        is_news = fault.has_answered and said not in self._said and len(self._said) < _MOST_SAID
        level = logging.DEBUG if self._is_reported else self._level
        if is_news and self._was_connected and not self._is_reported:
            # All links to this broker may have been lost at once. If only this one was, the next
            # attempt gets the same answer.
            is_news = level >= logging.WARNING
            if is_news:
                self._claim(fault)
        elif is_news:
            level = logging.WARNING if self._claim(fault) else logging.INFO
        if not self._is_loud:
            level = min(level, logging.INFO)
        short = fault.__cause__
        if isinstance(short, OutOfResources) and not self._is_starved:
            # Nobody else reports what this process lacks, whichever of its connections it is.
            level = news.level(short)
            self._is_starved = True
        self._host = fault.host
        says_so = " again" in text or " anew" in text
        going_on = "" if says_so else "; trying again"
        if level >= logging.WARNING:
            text = said_before.fault(fault)
        origin = self._reporting.origin
        whence = f" ({fault.host} is {origin})" if origin else ""
        logger.log(level, "%s: %s%s%s", self._name, text, going_on, whence)
        if is_news:
            self._said.add(said)
        self._is_reported = True

    def _claim(self, fault: BrokerError) -> bool:
        answers = self._reporting.answers
        return answers is None or answers.claim(fault, self._name)

    def succeed(self, details: str) -> None:
        """Note that a connection is ready.

        Args:
            details: its name at the broker, and the like: there, it does not say whose it is.
        """
        if self._is_reported:
            said_before.over(self._host)
            level = max(self._level, logging.WARNING) if self.end() else self._level
            if not self._is_loud:
                level = min(level, logging.INFO)
            again = " again" if self._was_connected else ""
            logger.log(level, "%s: connected%s as %s", self._name, again, details)
        else:
            logger.info("%s: connected as %s", self._name, details)
        self._is_reported = self._is_starved = False
        self._said.clear()
        self._was_connected = True

    def end(self) -> bool:
        """Note that the link has ended, or is of another broker now; tells whether it had warned of
        an answer."""
        answers = self._reporting.answers
        return answers is not None and answers.forget(self._name)

    @property
    def _level(self) -> int:
        return self._reporting.loss if self._was_connected else self._reporting.first_failure


class Health(NamedTuple):
    """What a link knows of its connection's health."""

    watchdog: Watchdog
    backoff: Backoff
    outages: Outages

    @classmethod
    def of(cls, name: str, limits: Limits, reporting: Reporting) -> Health:
        """The health of a new link.

        Args:
            name: the link's, for the log.
            limits: the times.
            reporting: at which levels outages are logged.
        """
        patience_s = _PATIENCE_IN_HEARTBEATS * limits.heartbeat_s
        return cls(Watchdog(patience_s), Backoff(limits), Outages(name, reporting))


def timer_slack_s(interval_s: float) -> float:
    """By how much what is done at intervals may be done sooner, together with other things."""
    return min(_SLACK_S, interval_s * _SLACK_SHARE)


def look_interval_s(limits: Limits) -> float:
    """How often a link looks after its connection, in seconds."""
    return limits.heartbeat_s / _LOOKS_A_HEARTBEAT
