"""What becomes of a chart when the user's code raises: the words of ``on_error=``."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeVar

T = TypeVar("T")

STOP, CONTINUE, RESTART = ACTIONS = ("stop", "continue", "restart")
"""What may become of a chart: see `Settings`."""


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
