"""Notices that a chart whose snoop is enabled shows nothing, as its states lack ``@spy_on``.

miros turns the instrumentation of a chart off when its first state is not decorated, and records
nothing useful of others that are not. Without a word from somebody, the snoops stay empty.
"""

from __future__ import annotations

import logging
from typing import Any, Protocol

logger: logging.Logger = logging.getLogger(__name__)

_WRAPPER = "_spy_on"
"""The name of the function by which miros's decorator replaces a state function."""


class Instrumented(Protocol):
    """What is to be known of a chart of miros."""

    name: str
    instrumented: bool
    state: Any


class Decoration:
    """Looks at the states of one chart, and says once what is missing. For one thread."""

    def __init__(self) -> None:
        self._is_said = False
        self._last: Any = None

    def look(self, chart: Instrumented) -> None:
        """Look at the present state; called after a run to completion, while a snoop is on."""
        state = chart.state.fun
        if state is self._last or self._is_said:
            return
        self._last = state
        if is_decorated(state):
            if chart.instrumented:
                return
            text = (
                "its attribute instrumented is False, as after a start in a state function that is "
                "not decorated: put @spy_on of miros above every state function, outermost"
            )
        else:
            text = (
                f"the state function {getattr(state, '__name__', state)} is not decorated: put "
                "@spy_on of miros above every state function"
            )
        self._is_said = True
        logger.warning(
            "%s: a snoop is enabled, but has nothing to show of this chart: %s", chart.name, text
        )


def is_decorated(state: Any) -> bool:
    """Whether a state function has miros's ``spy_on``; also true for what is no function."""
    while state is not None:
        code = getattr(state, "__code__", None)
        if code is None or code.co_name == _WRAPPER:
            return True
        if state.__name__ == "top":
            return True
        state = getattr(state, "__wrapped__", None)
    return False
