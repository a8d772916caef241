"""Says that a program has ended with a chart that it made and never started."""

from __future__ import annotations

import logging
import sys

from .. import process

logger = logging.getLogger(__name__)


class Unstarted:
    """Waits for the start of one chart. Any thread may call any method.

    Args:
        name: the chart, for the log.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        process.end_with_program(self, process.Stage.CHARTS)

    def __repr__(self) -> str:
        return f"<Unstarted of {self._name}>"

    def note_start(self) -> None:
        """Note that somebody starts the chart, whether that succeeds or not."""
        process.stay(self, process.Stage.CHARTS)

    def ask_to_end(self) -> None:
        """Say that nobody has: the program ends. An error that ends it says enough itself."""
        if not hasattr(sys, "last_type"):
            logger.warning(
                "%s was made and never started: the program ends, and nothing was sent or heard. "
                "Call its start_at with the first state",
                self._name,
            )

    def end(self, began_s: float) -> None:
        """Wait for nothing."""
