"""What a chart is doing: which signal it handles, in which state, and where its thread is.

Nothing of this is noted while the chart runs. Whoever wants to know, because a handler does not
return, looks at the chart and at the frames of its thread.
"""

from __future__ import annotations

from collections.abc import Callable
from traceback import walk_tb
from typing import Any, Protocol

from miros import Event
from miros.hsm import HsmEventProcessor

from ..failures import Failure
from ..whereabouts import Activity, frames_of, local_in, place_of
from .fifo import ChartFifo
from .life import ChartLife

_START = "its start: it has not entered its first state yet"

_PAUSE = "a pause: it starts again, and raises an error each time"

_DISPATCH = HsmEventProcessor.dispatch
while hasattr(_DISPATCH, "__wrapped__"):
    _DISPATCH = _DISPATCH.__wrapped__


class Parts(Protocol):
    """What is looked at besides the chart of miros."""

    @property
    def fifo(self) -> ChartFifo:
        """The chart's FIFO."""

    @property
    def life(self) -> ChartLife:
        """Has the chart's thread."""


class Handling:
    """Shows what a chart is doing; any thread may call its methods. See `nets.chart_watch.Busy`.

    Args:
        chart: the chart of miros.
        parts: returns its parts, which are made later.
    """

    def __init__(self, chart: Any, parts: Callable[[], Parts]) -> None:
        self.name: str = chart.name
        self._chart = chart
        self._parts = parts

    @property
    def is_stuck_text(self) -> str:
        """What to say of it if it does not get on."""
        is_resting = self._parts().life.is_resting
        return "has handled nothing" if is_resting else "has been in its handler"

    def begun(self) -> int:
        """How many events the chart has taken out of its FIFO."""
        return self._parts().fifo.taken

    def waiting(self) -> int:
        """How many events are in its FIFO; 0 before it has entered its first state."""
        parts = self._parts()
        return 0 if parts.life.thread is None else len(parts.fifo)

    def is_in_the_way(self) -> bool:
        """Whether it has no thread: it has not entered its first state, or has ended."""
        return not self._parts().life.has_thread

    def activity(self) -> Activity:
        """Return the signal that it handles, its state, and where its thread is."""
        life = self._parts().life
        thread = life.thread
        if life.is_starting and not life.has_thread:
            return Activity(at=_START)
        if life.is_resting:
            return Activity(at=_PAUSE)
        thread_id = thread.ident if thread is not None and thread.is_alive() else None
        event = local_in(frames_of(thread_id), _DISPATCH.__code__, "e")
        return Activity(
            signal=event.signal_name if isinstance(event, Event) else "",
            state=self._state(),
            at=place_of(thread_id),
        )

    def failed(self, error: BaseException) -> Failure:
        """Describe what a handler has raised, before the chart does anything further."""
        frames = [frame for frame, _ in walk_tb(error.__traceback__)]
        event = local_in(reversed(frames), _DISPATCH.__code__, "e")
        return Failure(
            self.name,
            error,
            "handler",
            event.signal_name if isinstance(event, Event) else "",
            self._state(),
        )

    def _state(self) -> str:
        """The state in which the chart is; nothing before it has entered its first."""
        state = self._chart.state.fun
        return "" if state == self._chart.top else getattr(state, "__name__", "")
