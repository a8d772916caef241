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

from ..failures import ACTIONS, CONTINUE, RESTART, STOP, ErrorCallback, Failure, OnRaise
from ..whereabouts import place_in

logger = logging.getLogger(__name__)

_REPEATS_S = 60.0
"""An error that comes again from the same place is logged at most once in this time."""

_MOST_PLACES = 64
"""The most places that are remembered for that."""

_HANDLER = "handler"


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
        self.fatal: BaseException | None = None
        """What has ended the chart, since its last start."""
        self.traceback: TracebackType | None = None
        """Its traceback, as it was."""
        self._name = name
        self._on_error = on_error
        self._remark = remark
        self._stop = stop
        self._clock = clock
        # When an error was logged, by its type and place, and how often it has come since.
        self._logged: dict[tuple[type, str], tuple[float, int]] = {}

    def begin(self) -> None:
        """Forget what has ended the chart: it starts anew."""
        self.fatal = self.traceback = None

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
        if self.fatal is not None:
            self._say(failure, STOP, is_news=False)
            return STOP
        action = self._decide(failure)
        if action == STOP:
            self.traceback = failure.error.__traceback__
            self.fatal = failure.error
        self._say(failure, action, is_news=action == STOP)
        return action

    def _decide(self, failure: Failure) -> str:
        on_error = self._on_error
        if isinstance(on_error, str):
            # sys.exit asks for an end in so many words.
            return STOP if isinstance(failure.error, SystemExit) else on_error
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
        if is_news or self._is_new(type(error), place):
            again = self._take_again(type(error), place)
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

    def _is_new(self, kind: type, place: str) -> bool:
        """Whether such an error was not logged lately; if it was, count it."""
        key = (kind, place)
        logged = self._logged.get(key)
        if logged is None or self._clock() - logged[0] >= _REPEATS_S:
            return True
        self._logged[key] = (logged[0], logged[1] + 1)
        return False

    def _take_again(self, kind: type, place: str) -> str:
        """Note that an error is logged; say how often it has come since the last time."""
        key = (kind, place)
        _, count = self._logged.pop(key, (0.0, 0))
        while len(self._logged) >= _MOST_PLACES:
            del self._logged[next(iter(self._logged))]  # the one logged longest ago
        self._logged[key] = (self._clock(), 0)
        return f" (and {count:,} times since it was logged last)" if count else ""


def _what(error: BaseException) -> str:
    """An error in one line, as the last line of its traceback shows it."""
    if isinstance(error, SystemExit):
        return f"SystemExit, as by sys.exit({error.code!r})"
    lines = traceback.format_exception_only(type(error), error)
    return " ".join("".join(lines).split())


def _where(failure: Failure) -> str:
    if failure.where != _HANDLER:
        return failure.where
    signal = f" of {failure.signal}" if failure.signal else ""
    state = f" in the state {failure.state}" if failure.state else ""
    return f"the handler{signal}{state}"


def _then(action: str, *, is_handler: bool) -> str:
    if action == CONTINUE or (action == RESTART and not is_handler):
        return "it goes on with the next event"
    if action == RESTART:
        return "it starts again from its initial state"
    return "it stops"
