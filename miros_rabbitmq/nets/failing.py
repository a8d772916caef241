"""Decides what becomes of a chart when the user's code raises, and says what has happened.

The user's code are the handlers of a chart and the callbacks given to it. What they raise ends a
thread that nobody watches, and the process would live on, deaf. So whoever calls the user's code
has the error judged here: it is logged with its traceback, shown on the snoops that are enabled,
and then the chart stops, unless ``on_error`` decides otherwise.
"""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Callable
from types import TracebackType
from typing import NamedTuple

from ..failures import ACTIONS, CONTINUE, RESTART, STOP, ErrorCallback, Failure, OnRaise
from ..whereabouts import place_in

logger = logging.getLogger(__name__)

_REPEATS_S = 60.0
"""An error that comes again from the same place is logged at most once in this time."""

_MOST_PLACES = 64
"""The most places that are remembered for that."""

_MOST_CHARACTERS = 500
"""The most of an error that is shown in a line. Its traceback in the log shows all of it."""

_HANDLER = "handler"


class _Raised(NamedTuple):
    """An error, and its traceback as it was when it was judged."""

    error: BaseException
    traceback: TracebackType | None


class Failures:
    """Judges what the user's code has raised; any thread may call its methods.

    Args:
        name: the name of the chart.
        on_error: what becomes of the chart, or a function that decides it.
        remark: shows a line on the snoops that are enabled.
        stop: stops the chart. Called in the thread of a callback that has raised.
        clock: a monotonic clock, in seconds.
    """

    def __init__(
        self,
        name: str,
        on_error: str | ErrorCallback,
        remark: Callable[[str], object],
        stop: Callable[[], object],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = name
        self._on_error = on_error
        self._remark = remark
        self._stop = stop
        self._clock = clock
        self._fatal: _Raised | None = None
        # What on_error is deciding about.
        self._asked: list[_Raised] = []
        # When an error was logged, by its type and place, and how often it has come since. Without
        # a lock, although several threads use it: a lock would have to be renewed after a fork.
        self._logged: dict[tuple[str, str], tuple[float, int]] = {}

    @property
    def fatal(self) -> BaseException | None:
        """What has ended the chart, since its last start."""
        return None if self._fatal is None else self._fatal.error

    def begin(self) -> None:
        """Forget what has ended the chart: it starts anew."""
        self._fatal = None

    def raise_fatal(self) -> None:
        """Raise what has ended a chart that has stopped, if anything has.

        That may be an error about which ``on_error`` has not decided yet, because it has stopped
        the chart itself.
        """
        raised = self._fatal or next(iter(self._asked.copy()), None)
        if raised is not None:
            # Without the frames that an earlier call has added.
            raise raised.error.with_traceback(raised.traceback)

    def of_callback(self, where: str) -> OnRaise:
        """Return what takes the errors of a callback.

        It stops the chart if that is what the error is to lead to. A callback has no state that it
        could start again from, so ``"restart"`` is ``"continue"`` here.

        Args:
            where: the name of the callback.
        """

        def on_raise(error: BaseException) -> None:
            if self.judge(Failure(self._name, error, where)) == STOP:
                self._stop()

        return on_raise

    def judge(self, failure: Failure) -> str:
        """Decide what becomes of the chart, log and show it.

        Returns:
            one of `ACTIONS`. After ``"stop"``, it is for the caller to stop the chart.
        """
        is_first = self._fatal is None
        action = self._decide(failure) if is_first else STOP
        try:
            self._say(failure, action, is_news=is_first and action == STOP)
        except Exception as error:
            kinds = type(failure.error).__name__, type(error).__name__
            logger.exception("%s: a %s cannot be described: %s", self._name, *kinds)
        return action

    def _decide(self, failure: Failure) -> str:
        on_error = self._on_error
        raised = _Raised(failure.error, failure.error.__traceback__)
        if isinstance(on_error, str):
            # sys.exit asks for an end in so many words.
            action = STOP if isinstance(failure.error, SystemExit) else on_error
        else:
            self._asked.append(raised)
            action = self._ask(on_error, failure)
        if action == STOP:
            self._fatal = raised
        if raised in self._asked:
            self._asked.remove(raised)
        return action

    def _ask(self, on_error: ErrorCallback, failure: Failure) -> str:
        try:
            action = on_error(failure)
        except BaseException:  # even SystemExit: the decision is missing all the same
            logger.exception("%s: on_error raised, so the chart stops", self._name)
            return STOP
        if action is None or action in ACTIONS:
            return action or STOP
        logger.error(
            "%s: on_error returned %r, so the chart stops: it must return one of %s, or None",
            self._name,
            action,
            ", ".join(map(repr, ACTIONS)),
        )
        return STOP

    def _say(self, failure: Failure, action: str, *, is_news: bool) -> None:
        error = failure.error
        place = place_in(error.__traceback__)
        what = _what(error)
        where = _where(failure)
        then = _then(action, is_handler=failure.where == _HANDLER)
        is_exit = isinstance(error, SystemExit)
        key = (type(error).__qualname__, place)
        if is_news or self._is_new(key):
            again = self._take_again(key)
            logger.error(
                "%s: %s has raised %s%s: %s",
                self._name,
                where,
                what,
                again,
                then,
                exc_info=None if is_exit else error,
            )
        at = f" at {place}" if place else ""
        self._remark(f"{where} has raised {what}{at}: {then}")

    def _is_new(self, key: tuple[str, str]) -> bool:
        """Whether such an error was not logged lately; if it was, count it."""
        logged = self._logged.get(key)
        if logged is None or self._clock() - logged[0] >= _REPEATS_S:
            return True
        self._logged[key] = (logged[0], logged[1] + 1)
        return False

    def _take_again(self, key: tuple[str, str]) -> str:
        """Note that an error is logged; say how often it has come since the last time."""
        _, count = self._logged.pop(key, (0.0, 0))
        while len(self._logged) >= _MOST_PLACES:
            self._logged.pop(next(iter(tuple(self._logged)), key), None)  # logged longest ago
        self._logged[key] = (self._clock(), 0)
        return f" (and {count:,} times since it was logged last)" if count else ""


def _what(error: BaseException) -> str:
    """An error in one line, as the last line of its traceback shows it."""
    if isinstance(error, SystemExit):
        text = f"SystemExit, as by sys.exit({error.code!r})"
    else:
        lines = traceback.format_exception_only(type(error), error)
        text = " ".join("".join(lines).split())
    if len(text) <= _MOST_CHARACTERS:
        return text
    return f"{text[:_MOST_CHARACTERS]} ... ({len(text) - _MOST_CHARACTERS:,} characters more)"


def _where(failure: Failure) -> str:
    if failure.where != _HANDLER:
        return failure.where
    if not (failure.signal or failure.state):
        return "the entry into its initial state"
    signal = f" of {failure.signal}" if failure.signal else ""
    state = f" in the state {failure.state}" if failure.state else ""
    return f"the handler{signal}{state}"


def _then(action: str, *, is_handler: bool) -> str:
    if action == CONTINUE or (action == RESTART and not is_handler):
        return "it goes on with the next event"
    if action == RESTART:
        return "it starts again from its initial state"
    return "it stops"
