"""What a networked chart hands in to its networks, besides what its user gives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .chart_watch import Busy


@dataclass(frozen=True, kw_only=True)
class ChartSide:
    """How the networks of a chart deal with the chart itself. The default is any other object.

    Args:
        room: returns how many events it can take now. Default: any number.
        busy: shows what it is doing, so that a handler that does not return is said.
        stop: stops it after a callback has raised. Default: the networks alone are stopped.
        is_direct: whether its ``post_fifo`` returns at once while there is room. Then it is called
            in the consumers' thread; otherwise in a thread of its own.
    """

    room: Callable[[], int] | None = None
    busy: Busy | None = None
    stop: Callable[[], object] | None = None
    is_direct: bool = False


ANY_OBJECT = ChartSide()
"""That of an object of which nothing is known but its ``post_fifo``."""
