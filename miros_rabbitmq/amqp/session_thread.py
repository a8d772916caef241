"""The thread of a session, from its start to its stop: it runs an I/O loop, and has a state.

The states and what leads from one to the other are the table of `life`. What is done in the
thread is the business of `session`.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

from ..exceptions import MirosApiException
from ..limits import Limits
from .link_state import SessionState, Step, after
from .loop import LockedLoop
from .parameters import quieten_pika

logger = logging.getLogger(__name__)

_END_GRACE_S = 1.0
"""How much longer than ``stop_timeout_s`` an end is waited for: the time of a cut, and more."""


class SessionThread:
    """Owns the thread and the I/O loop that it runs; the base of `Session`.

    `start_thread`, `stop`, `stop_thread`, `wait_until_ready` and `state` may be used from any
    thread. Nothing starts in the constructor.

    Args:
        name: of the session and of its thread.
        limits: times and sizes.
        on_change: called when the state has changed, in the thread that changed it, which holds no
            lock then that others wait for. What it raises is logged.
    """

    def __init__(self, name: str, limits: Limits, on_change: Callable[[], None] | None) -> None:
        self.limits = limits
        self._name = name
        self._on_change = on_change
        # Guards the state and what subclasses share with other threads; notified at each change.
        self._make_lock()
        self._state = SessionState.NEW
        self._thread: threading.Thread | None = None
        self._ioloop: Any = None
        self._stop_asked = False
        self._is_forked = False

    def _make_lock(self) -> None:
        # The lock of the condition: a condition's own methods are Python's, and take some time.
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)

    @property
    def state(self) -> SessionState:
        """Where the session stands."""
        return self._state

    @property
    def is_connected(self) -> bool:
        """It has a channel that is set up."""
        return self._state in (SessionState.READY, SessionState.BLOCKED)

    @property
    def is_stopping(self) -> bool:
        """It was asked to stop, and not started again."""
        return self._stop_asked

    def start_thread(self) -> None:
        """Start the thread, which connects; does nothing where it runs already.

        After a `stop`, the thread that is about to end is waited for: a little longer than
        ``limits.stop_timeout_s``.

        Raises:
            MirosApiException: that thread has not ended in this time, or is the one that calls.
        """
        with self._changed:
            if self._is_ending:
                self._wait_for_end()
            if self._thread is not None:
                return
            quieten_pika()
            self._stop_asked = self._is_forked = False
            self._ioloop = LockedLoop()
            self._enter(Step.START)
            # A daemon: a program that forgets to stop must still be able to end.
            self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            self._thread.start()
        self._tell_change()

    @property
    def _is_ending(self) -> bool:
        """The thread was asked to stop, or ends by itself, and still exists."""
        ends = self._stop_asked or self._state is SessionState.STOPPED
        return ends and self._thread is not None

    def _wait_for_end(self) -> None:
        if self._thread is threading.current_thread():
            raise MirosApiException(
                f"{self._name} is stopping, and its own thread cannot start it again: "
                "call start_thread from another thread"
            )
        timeout_s = self.limits.stop_timeout_s + _END_GRACE_S
        if not self._changed.wait_for(lambda: not self._is_ending, timeout_s):
            raise MirosApiException(
                f"{self._name} was stopped and has not ended within {timeout_s:g} s: a callback "
                "that does not return holds its thread, or stop was given a longer timeout; "
                "wait for stop_thread to return True before start_thread"
            )

    def stop(self, timeout: float | None = None) -> None:
        """Ask the thread to close the connection and end; returns at once.

        Args:
            timeout: seconds after which the connection is cut; default ``limits.stop_timeout_s``.
        """
        cut_after_s = self.limits.stop_timeout_s if timeout is None else timeout
        with self._changed:
            if self._thread is None or self._stop_asked:
                return
            self._stop_asked = True
            self._changed.notify_all()
        self._call_soon(lambda: self._close(cut_after_s))

    def stop_thread(self, timeout: float | None = None) -> bool:
        """`stop`, and wait until the thread has ended.

        Args:
            timeout: seconds; default a little above ``limits.stop_timeout_s``, at which the
                connection is cut.

        Returns:
            whether the thread has ended; `False` too when the thread itself calls this.
        """
        self.stop()
        thread = self._thread
        if thread is None:
            return True
        if thread is threading.current_thread():
            return False
        thread.join(self.limits.stop_timeout_s + _END_GRACE_S if timeout is None else timeout)
        return not thread.is_alive()

    def wait_until_ready(self, timeout: float) -> bool:
        """Wait until the session is connected, or is refused, or stops.

        Returns:
            whether it is connected.
        """
        ends = (SessionState.REFUSED, SessionState.CLOSING, SessionState.STOPPED)
        with self._changed:
            self._changed.wait_for(lambda: self.is_connected or self._state in ends, timeout)
            return self.is_connected

    # What subclasses do in the thread.

    def _connect(self) -> None:
        """Begin; called first of all."""
        raise NotImplementedError

    def _close(self, cut_after_s: float) -> None:
        """Begin to end, once it was asked for: enter `SessionState.CLOSING`, and stop the loop.

        Args:
            cut_after_s: seconds after which the loop stops, whatever the broker does.
        """
        raise NotImplementedError

    def _abandon_connection(self) -> None:
        """Go on after an unexpected error: begin anew, or stop the loop where that was asked."""
        raise NotImplementedError

    def _call_soon(self, callback: Callable[[], None]) -> None:
        """Have the session's thread call something; from any thread."""
        ioloop = self._ioloop
        if ioloop is not None:
            ioloop.add_callback_threadsafe(callback)

    def _call_later(self, delay_s: float, callback: Callable[[], None]) -> Any:
        return self._ioloop.call_later(delay_s, callback)

    def _cancel_call(self, timer: Any) -> None:
        """Do not call what `_call_later` was asked for; `None` stands for nothing."""
        if timer is not None:
            self._ioloop.remove_timeout(timer)

    # The thread.

    def _run(self) -> None:
        try:
            self._ioloop.add_callback_threadsafe(self._connect)
            while True:
                try:
                    self._ioloop.start()
                    break
                except BaseException:
                    # A bug of ours or of pika's, or a callback that exits: it must cost a
                    # connection, never the thread.
                    logger.exception("%s: unexpected error; connecting again", self._name)
                    with self._ioloop.lock:
                        self._abandon_connection()
        finally:
            try:
                with self._changed:
                    if self._state is not SessionState.CLOSING:
                        self._enter(Step.CLOSE)
                    self._enter(Step.END)
                    ioloop, self._ioloop = self._ioloop, None
                    ioloop.close()
                self._tell_change()
            finally:
                # Last, so that whoever waits for the end waits for the callback too.
                with self._changed:
                    self._thread = None
                    self._changed.notify_all()

    def _step(self, step: Step) -> None:
        """Enter the next state and tell of it; without the lock, for it calls the user's code."""
        self._enter(step)
        self._tell_change()

    def _enter(self, step: Step) -> None:
        with self._changed:
            self._state = after(self._state, step, self._name)
            self._changed.notify_all()

    def _tell_change(self) -> None:
        if self._on_change is None:
            return
        try:
            self._on_change()
        except Exception:
            logger.exception("%s: the callback for changes of the state raised", self._name)

    def _disown(self) -> None:
        """Forget the thread, in a forked child: it is the parent's."""
        self._make_lock()  # whoever held the old one does not exist here
        self._thread = self._ioloop = None
        if self._state is not SessionState.NEW:
            self._state = SessionState.STOPPED
            self._stop_asked = self._is_forked = True
