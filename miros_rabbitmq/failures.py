"""What becomes of a chart when the user's code raises: the words of ``on_error=``.

And how often the same error is said.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import NamedTuple, TypeVar

T = TypeVar("T")

STOP, CONTINUE, RESTART = ACTIONS = ("stop", "continue", "restart")
"""What may become of a chart: see `Settings`."""

LOGGED_AGAIN_S = 60.0
"""An error that comes again from the same place is logged at most once in this time."""

_MOST_PLACES = 64
"""The most places that are remembered for that."""


class Failure(NamedTuple):
    """What a handler or a callback of the user has raised."""

    chart: str
    """The name of the chart."""
    error: BaseException
    """What was raised; `SystemExit` if it was ``sys.exit``."""
    where: str
    """``"handler"``, ``"live output"``, or the name of the callback, such as ``"on_mesh_rx"``."""
    signal: str = ""
    """The signal that was handled; empty in a callback, and while a chart starts again."""
    state: str = ""
    """The state in which the chart was when the signal came; empty in the same cases."""


ErrorCallback = Callable[[Failure], "str | None"]
"""Returns what is to become of the chart; `None` stands for ``"stop"``."""

OnRaise = Callable[[BaseException], object]
"""Takes what a callback has raised, in the thread of the callback."""


def call(callback: Callable[[T], object], argument: T, on_raise: OnRaise) -> None:
    """Call a callback of the user.

    Args:
        callback: it.
        argument: what it is called with.
        on_raise: takes what it raises.
    """
    try:
        callback(argument)
    except BaseException as error:  # noqa: BLE001  # even SystemExit must not end the thread
        on_raise(error)


class Pace:
    """Decides which of many errors are said.

    Several threads use it, without a lock: a lock would have to be renewed after a fork. A count
    may be a little wrong then.

    Args:
        interval_s: an error that comes again from the same place is said once in this time.
        clock: a monotonic clock, in seconds.
    """

    def __init__(self, interval_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._interval_s = interval_s
        self._clock = clock
        # When an error was said, by its type and place, and how often it has come since; the one
        # that was said longest ago is the first.
        self._said: dict[tuple[str, str], tuple[float, int]] = {}

    def note(self, key: tuple[str, str], *, is_news: bool = False) -> int | None:
        """Note an error.

        Args:
            key: its type and place.
            is_news: whether it has to be said in any case.

        Returns:
            how often it has come since it was said last; `None` if it is not to be said now.
        """
        now_s = self._clock()
        said_s, count = self._said.get(key, (-math.inf, 0))
        if now_s - said_s < self._interval_s and not is_news:
            self._said[key] = (said_s, count + 1)
            return None
        self._said.pop(key, None)
        while len(self._said) >= _MOST_PLACES:
            self._said.pop(next(iter(tuple(self._said)), key), None)
        self._said[key] = (now_s, 0)
        return count
