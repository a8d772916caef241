"""Says that a program has ended before it started a chart that it has made."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterator

from .. import process

logger: logging.Logger = logging.getLogger(__name__)


class Unstarted:
    """Waits for the start of one chart. Any thread may call any method.

    Args:
        name: the chart, for the log.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._is_starting = False
        process.end_with_program(self, process.Stage.CHARTS)

    def __repr__(self) -> str:
        return f"<Unstarted of {self._name}>"

    @contextlib.contextmanager
    def starting(self) -> Iterator[None]:
        """Start the chart in the body. It counts as started after that, even if this has failed."""
        self._is_starting = True
        try:
            yield
        finally:
            process.stay(self, process.Stage.CHARTS)

    def ask_to_end(self) -> None:
        """Say that nobody has: the program ends. An error that ends it says enough itself.

        A child of `multiprocessing` may have made the chart only because it imports the main
        program once more.
        """
        if not hasattr(sys, "last_type") and not _is_child():
            what = (
                "is still starting: the main program has to wait, for example for its start_at"
                if self._is_starting
                else "was made and never started: call its start_at with the first state"
            )
            logger.warning(
                "the program ends, and nothing was sent or heard, as the chart %s %s",
                self._name,
                what,
            )

    def end(self, began_s: float) -> None:
        """Wait for nothing."""


def _is_child() -> bool:
    """Whether `multiprocessing` has started this process."""
    loaded = sys.modules.get("multiprocessing.process")  # in each such child
    return loaded is not None and loaded.parent_process() is not None
