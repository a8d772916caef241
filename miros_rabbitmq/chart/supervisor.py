"""Runs a chart in its thread, and has it stop, go on or start again when a handler has raised."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from typing import Protocol

from ..exceptions import NetworkStopped
from ..failures import RESTART, STOP, Failure

logger: logging.Logger = logging.getLogger(__name__)

_FIRST_PAUSE_S = 0.1
"""How long a chart that has started again, and has raised again soon, rests before the next."""

_LONGEST_PAUSE_S = 10.0
"""The pause doubles each time, up to this."""

_RECOVERED_S = 60.0
"""A chart that has run for so long since it started again starts again at once the next time."""


class Supervised(Protocol):
    """A chart, as its supervisor uses it: in the chart's thread."""

    def run(self) -> None:
        """Handle events until a stop comes. Raises what a handler raises."""

    def settle(self) -> None:
        """Be in the state again in which the chart was when the signal came."""

    def start_again(self) -> None:
        """Cancel the timers, and enter the initial state again."""

    def describe(self, error: BaseException) -> Failure:
        """Describe what a handler has raised."""


class Life(Protocol):
    """What the supervisor uses of the chart's life."""

    @property
    def must_end(self) -> bool:
        """Whether a stop has come."""

    def rest(self, seconds: float) -> None:
        """Wait, but no longer than until a stop comes."""


class Supervisor:
    """Runs a chart.

    Args:
        chart: which one.
        life: its life.
        judge: decides what becomes of it; see `nets.failing.Failures`.
        clock: a monotonic clock, in seconds.
    """

    def __init__(
        self,
        chart: Supervised,
        life: Life,
        judge: Callable[[Failure], str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._chart = chart
        self._life = life
        self._judge = judge
        self._clock = clock
        self._pause_s = 0.0
        self._restarted_s = -math.inf

    def run(self) -> bool:
        """Run the chart until it ends. Called in its thread.

        Returns:
            whether it has failed: a handler has raised, and that ends the chart.
        """
        step = self._chart.run
        while True:
            try:
                step()
            except BaseException as error:  # noqa: BLE001  # also sys.exit, which Python drops
                if isinstance(error, NetworkStopped) and self._life.must_end:
                    logger.debug("%s, in a handler that was running at the stop", error)
                    return False
                action = self._judge(self._chart.describe(error))
                if action == STOP:
                    return True
                if action == RESTART:
                    step = self._start_again
                else:
                    self._chart.settle()
                    step = self._chart.run
            else:
                return False

    def _start_again(self) -> None:
        now_s = self._clock()
        if now_s - self._restarted_s >= _RECOVERED_S:
            self._pause_s = 0.0
        else:
            self._pause_s = min(max(_FIRST_PAUSE_S, 2 * self._pause_s), _LONGEST_PAUSE_S)
            self._life.rest(self._pause_s)
        self._restarted_s = self._clock()
        if not self._life.must_end:
            self._chart.start_again()
            self._chart.run()
