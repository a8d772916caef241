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

from ..failures import (
    ACTIONS,
    CONTINUE,
    LOGGED_AGAIN_S,
    RESTART,
    STOP,
    ErrorCallback,
    Failure,
    OnRaise,
    Pace,
)
from ..whereabouts import place_in

logger: logging.Logger = logging.getLogger(__name__)

_SHOWN_AGAIN_S = 1.0
"""An error that comes again from the same place is shown on the snoops at most once in this time.
Otherwise two charts whose ``on_trace_rx`` raise would answer each other's lines for ever."""

_MOST_CHARACTERS = 500
"""The most of an error that is shown in a line. Its traceback in the log shows all of it."""

_HANDLER = "handler"


class _Raised(NamedTuple):
    """An error, its traceback as it was when it was judged, and whose it is."""

    error: BaseException
    traceback: TracebackType | None
    where: str


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
        self._fatal: _Raised | None = None
        # What on_error is deciding about, by identity: errors may not be comparable.
        self._asked: dict[int, _Raised] = {}
        self._logged = Pace(LOGGED_AGAIN_S, clock)
        self._shown = Pace(_SHOWN_AGAIN_S, clock)

    @property
    def fatal(self) -> BaseException | None:
        """What has ended the chart, since its last start."""
        return None if self._fatal is None else self._fatal.error

    @property
    def is_of_callback(self) -> bool:
        """Whether a callback has ended the chart. Then its thread stops the chart."""
        return self._fatal is not None and self._fatal.where != _HANDLER

    def begin(self) -> None:
        """Forget what has ended the chart: it starts anew."""
        self._fatal = None

    def raise_fatal(self) -> None:
        """Raise what has ended a chart that has stopped, if anything has.

        That may be an error about which ``on_error`` has not decided yet, because it has stopped
        the chart itself.
        """
        raised = self._fatal or next(iter(tuple(self._asked.values())), None)
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
            is_to_stop = self.judge(Failure(self._name, error, where)) == STOP
            # Whatever has raised before stops the chart, and may wait for this thread.
            if is_to_stop and self.fatal is error:
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
        except BaseException as error:  # parts of the error are the user's code, too
            kinds = type(failure.error).__name__, type(error).__name__
            logger.exception("%s: a %s cannot be described: %s", self._name, *kinds)
        return action

    def _decide(self, failure: Failure) -> str:
        on_error = self._on_error
        raised = _Raised(failure.error, failure.error.__traceback__, failure.where)
        if isinstance(on_error, str):
            # sys.exit asks for an end in so many words.
            action = STOP if isinstance(failure.error, SystemExit) else on_error
        else:
            self._asked[id(raised)] = raised
            action = self._ask(on_error, failure)
        if action == STOP:
            self._fatal = raised
        self._asked.pop(id(raised), None)
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
        key = (type(error).__qualname__, place)
        at = f" at {place}" if place else ""
        raised = f"{_where(failure)} has raised {_what(error)}{at}"
        then = _then(action, is_handler=failure.where == _HANDLER)
        count = self._logged.note(key, is_news=is_news)
        if count is not None:
            again = f" (and {count:,} times since it was logged last)" if count else ""
            trace = None if isinstance(error, SystemExit) else error
            logger.error("%s: %s%s: %s", self._name, raised, again, then, exc_info=trace)
        count = self._shown.note(key, is_news=is_news)
        if count is not None:
            again = f" (and {count:,} times since the last such line)" if count else ""
            self._remark(f"{raised}{again}: {then}")


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
