"""The threads that miros starts for a chart: started in full, or not at all.

miros starts the two threads of its fabric, which dispatches published events, with the first chart,
and a thread for each chart and each timer. Where one cannot be started, `OutOfResources` says so.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from ..resources import naming_shortage

T = TypeVar("T")


def start_threads(fabric: Any, start: Callable[[], T]) -> T:
    """Start the fabric if it does not run, and then something else.

    Args:
        fabric: miros's, one for the process.
        start: starts the rest, and finds the fabric running.

    Returns:
        what it returns.

    Raises:
        OutOfResources: a thread cannot be started.
    """
    with naming_shortage():
        if not fabric.is_alive():
            was_running = fabric.fabric_task_event.is_set()
            try:
                fabric.start()
            except BaseException:
                if not was_running:
                    # With one of its two threads, miros would start another one for each chart. If
                    # it was running, other charts need what is left of it.
                    fabric.stop()
                raise
        return start()
