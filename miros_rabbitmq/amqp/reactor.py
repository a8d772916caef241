"""One thread and one I/O loop, for any number of links.

A chart has two reactors, one for its publishers and one for its consumers, however many brokers and
networks there are. That is cheap, but whatever holds up the thread holds up every link. So each
link uses the reactor through a `Lane` of its own, which

- calls the link's callbacks, timers and handlers of descriptors with the link's lock, and never
  waits for that lock: a caller, perhaps inside a signal handler, may hold it. The lane stands aside
  and is called again when the lock is free;
- hands every exception to its link. No exception leaves the loop, and none costs another link;
- knows the link's descriptors and timers, and removes them with the link.

Timers that may come a little early fall together, so that a reactor with many links wakes about as
often as one with a few.

The loop reads before it looks at timers, so that a timer finds all that has arrived. It notes the
time in which it could not read, because that time does not count as a peer's silence.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import logging
import os
import random
import select
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Collection
from typing import Any, Protocol

from ..condition import Condition
from ..exceptions import OutOfResources
from ..interruption import is_mine
from ..logs import MustNotWait, RelayedLogger
from ..process import Stage, disown_in_child
from ..resources import RETRY_S, late_starts, news, shortage, start_thread

logger: RelayedLogger = RelayedLogger(__name__)

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE

_LONGEST_WAIT_S = 10.0
"""The longest wait, so that a pause of the program, such as a laptop's sleep, is noticed."""

_STAND_ASIDE_S = 0.02
"""How soon a lane whose lock was taken is tried again if nobody wakes the reactor for it."""

_STALL_S = 0.2
"""A time in which the loop could not read, and longer than this, does not count as silence."""

_LONG_ROUND_S = 1.0
"""A round that takes longer is logged, with what took most of it."""

_STALE_S = 0.05
"""What arrived is read once more before timers run, if it was last read longer ago than this."""

_TIMERS_S = 0.002
"""After so long with timers, what has arrived comes first: the looks of a hundred links, which come
together, would hold up an event for some 10 ms."""

_WITHOUT_POLLER_S = 0.2
"""How often a reactor that could not get its descriptors tries again."""

_LONGEST_PAUSE_S = 5.0
"""The pause between two rounds that both failed, so that the log is not flooded."""

_WAKES = bytearray(4096)
"""Takes what the waker has sent, which says nothing."""

_STUCK_S = 10.0
"""A thread that is busy with one thing for so long is stuck: nobody else should come to it."""

_CANCELLED_TIMERS = 256
"""With more cancelled timers than this, and than others, the heap is made anew."""


class Timer:
    """A callback that a lane calls later, unless it is cancelled."""

    __slots__ = ("callback", "lane")

    def __init__(self, lane: Lane, callback: Callable[[], object]) -> None:
        self.lane: Lane = lane
        self.callback: Callable[[], object] | None = callback

    def run(self) -> None:
        """Call back, unless the timer was cancelled, perhaps while its lane had to wait."""
        callback, self.callback = self.callback, None
        if callback is not None:
            callback()


class Lane:
    """A link's part of a reactor: its lock, its callbacks, its timers and its descriptors.

    `call_soon` and `run_here` may be used from any thread. The rest is for the reactor's thread, or
    for a thread inside `run_here`.

    Args:
        reactor: whose lane it is.
        name: the link's, for the log.
        on_error: called in the reactor's thread, with the lock, with what a callback raised.
    """

    def __init__(
        self, reactor: Reactor, name: str, on_error: Callable[[BaseException], object]
    ) -> None:
        self.name = name
        self.is_open: bool = True
        self._reactor = reactor
        self._on_error = on_error
        # Reentrant only so that its owner can be told from others when an exception, such as
        # KeyboardInterrupt, comes right after it was taken. Nobody ever waits for it.
        self._lock = threading.RLock()
        self.is_mine: Callable[[], bool] = is_mine(self._lock)
        """Tells whether the calling thread is at work in this lane."""
        self._is_inside = False
        # The lane stands aside: the holder of the lock wakes the reactor afterwards.
        self._is_wanted = False
        self._waiting: deque[Callable[[], object]] = deque()
        self._handlers: dict[int, tuple[Callable[[int, int], object], int]] = {}
        # What is to be called after the present callback, with the same lock.
        self._behind: list[Callable[[], object]] = []

    def call_soon(self, callback: Callable[[], object]) -> None:
        """Make the reactor call something, unless the lane is closed."""
        if self.is_open:
            self._reactor.submit(self, callback)

    def run_here(self, job: Callable[[], bool]) -> bool:
        """Run a job of the reactor's thread in the calling thread.

        Returns:
            what the job returns; False, without a call, if another thread is at work in this lane
            or waits for it, or if this thread itself is at work in it, and now in a signal handler.
        """
        is_in = False
        try:
            try:
                if not self._lock.acquire(blocking=False):
                    return False
                # Otherwise, a thread that transmits in a loop would always have the lane when the
                # reactor looks.
                if self._is_inside or self._is_wanted or not self.is_open:
                    return False
                is_in = self._is_inside = True
                return job()
            finally:
                if is_in:
                    if self._behind:
                        self._reactor.submit(self, self._call_behind)
                    self._is_inside = False
        finally:
            # An exception may have come anywhere above: the lock itself knows whether it is ours.
            try:  # noqa: SIM105 - this is passed for each event
                self._lock.release()
            except RuntimeError:
                pass
            if self._is_wanted:
                self._reactor.wake()

    def call_behind(self, callback: Callable[[], object]) -> None:
        """Call something when the callback has returned in which this is called.

        That is at once, or soon after a job of `run_here`.
        """
        self._behind.append(callback)

    def _call_behind(self) -> None:
        while self._behind:
            self._behind.pop(0)()

    def call_later(
        self, delay_s: float, callback: Callable[[], object], slack_s: float = 0.0
    ) -> Timer:
        """Make the reactor call something after some seconds.

        Args:
            delay_s: these seconds.
            callback: what to call.
            slack_s: by how much it may come sooner, together with others.
        """
        return self._reactor.add_timer(self, delay_s, callback, slack_s)

    def cancel(self, timer: Timer | None) -> None:
        """Cancel a timer of `call_later`; does nothing for `None`."""
        if timer is not None and timer.callback is not None:
            timer.callback = None
            self._reactor.note_cancelled()

    def watch(self, fd: int, events: int, handler: Callable[[int, int], object]) -> None:
        """Call a handler with (descriptor, events) whenever a descriptor is ready. May be repeated.

        Args:
            fd: the descriptor.
            events: `READ`, `WRITE` or both.
            handler: what to call.

        Raises:
            OSError, ValueError: the descriptor cannot be watched.
            OutOfResources: the reactor has no poller, as nothing is left to make one of.
        """
        before = self._handlers.get(fd)
        self._handlers[fd] = (handler, events)
        try:
            self._reactor.apply(self, fd)
        except BaseException:
            if before is None:
                self._handlers.pop(fd, None)
            raise

    def unwatch(self, fd: int) -> None:
        """Stop watching a descriptor. Call this before it is closed: its number is used again."""
        if self._handlers.pop(fd, None) is not None:
            self._reactor.apply(self, fd)

    def close(self) -> None:
        """Leave the reactor; nothing of this lane is called any more."""
        self.is_open = False
        for fd in list(self._handlers):
            self.unwatch(fd)
        self._waiting.clear()
        self._reactor.detach(self)

    # For the reactor only.

    def wanted_events(self, fd: int) -> int:
        """The events for which a descriptor is watched; 0 for none."""
        handler = self._handlers.get(fd)
        return handler[1] if handler is not None and not self._is_wanted else 0

    @property
    def descriptors(self) -> list[int]:
        """The watched descriptors."""
        return list(self._handlers)

    def is_free(self) -> bool:
        """Tell whether no thread is at work in the lane."""
        is_free = self._lock.acquire(blocking=False)
        if is_free:
            self._lock.release()
        return is_free

    def handle(self, fd: int, events: int) -> None:
        """Call the handler of a descriptor that is ready."""
        # If the lock is taken, nothing is noted: a descriptor that is ready says so again.
        if not self._waiting:
            self._enter(self._call_handler, fd, events)

    def call(self, callback: Callable[[], object]) -> None:
        """Call something now, or when the lock is free; in order."""
        if self._waiting or not self._enter(callback):
            self._waiting.append(callback)

    def resume(self) -> bool:
        """Call what had to wait; returns whether the lane need not stand aside any longer."""
        while self._waiting:
            if not self._enter(self._waiting[0]):
                return False
            if self._waiting:  # it was not closed meanwhile
                self._waiting.popleft()
        return not self._is_wanted or self._enter(_nothing)

    def _call_handler(self, fd: int, events: int) -> None:
        handler = self._handlers.get(fd)
        if handler is not None and events & handler[1]:
            handler[0](fd, events & handler[1])

    def _enter(self, callback: Callable[..., object], *arguments: int) -> bool:
        """Call something with the lock; returns whether the lock was free."""
        if not self._lock.acquire(blocking=False):
            # First say that it is wanted, then try again: its holder does the reverse.
            was_wanted, self._is_wanted = self._is_wanted, True
            if not self._lock.acquire(blocking=False):
                if not was_wanted:
                    self._reactor.stand_aside(self)
                return False
        try:
            if self._is_wanted:
                self._is_wanted = False
                self._reactor.stand_by(self)
            self._is_inside = True
            if self.is_open:
                callback(*arguments)
                if self._behind:
                    self._call_behind()
        except BaseException as error:  # noqa: BLE001 - a bug of ours or of pika's costs one link
            self.hand_over(error)
        finally:
            self._is_inside = False
            self._lock.release()
        return True

    def hand_over(self, error: BaseException) -> None:
        """Let the link deal with an error. Called with the lock."""
        try:
            self._on_error(error)
        except BaseException:
            logger.exception("%s: an error could not be handled", self.name)

    def disown(self) -> None:
        """Forget the parent's lock, in a forked child."""
        self._lock = threading.RLock()
        self.is_mine = is_mine(self._lock)
        self._is_inside = self._is_wanted = self.is_open = False
        self._handlers.clear()
        self._behind.clear()
        self._waiting.clear()


class IoThread(Protocol):
    """What links and other users of lanes need of a reactor. Any thread may call it all."""

    @property
    def name(self) -> str:
        """The thread's."""

    @property
    def is_current_thread(self) -> bool:
        """Whether the caller is the reactor's thread."""

    def attach(
        self,
        name: str,
        on_error: Callable[[BaseException], object],
        keep: Callable[[Lane | None], object],
    ) -> Lane:
        """Open a lane; see `Reactor.attach`."""

    def clock(self) -> float:
        """A monotonic time in seconds that stands still while the reactor cannot read."""

    def busy(self) -> str:
        """What the thread is doing, for the log; empty while it waits."""

    def wait_for_end(self, timeout: float) -> bool:
        """Wait until the lanes have gone, and the thread has ended, unless others use it."""


class Reactor:
    """A thread that waits for descriptors and timers, and calls back.

    The thread starts when the first link comes, and ends when the last one has gone. `attach`,
    `submit`, `wake`, `wait_for_end` and the attributes may be used from any thread.

    Args:
        name: the thread's.
        poller: makes the `selectors` object to wait with.
    """

    def __init__(
        self,
        name: str,
        poller: Callable[[], selectors.BaseSelector] = selectors.DefaultSelector,
    ) -> None:
        self.name = name
        self._poller = poller
        self._forget()
        self._stalled_s = 0.0
        # So that the threads of a process do not all wake at the same moment.
        self._grid_s = random.random()
        # When the thread last looked at what had arrived.
        self._read_s = time.monotonic()
        disown_in_child(self, Stage.CONNECTIONS)

    def _forget(self) -> None:
        # Guards the lanes and the thread; notified when the thread has ended.
        self._changed = Condition()
        self._lanes: set[Lane] = set()
        self._thread: threading.Thread | None = None
        # Of the thread while it runs; 0 otherwise.
        self._ident = 0
        self._calls: deque[tuple[Lane, Callable[[], object]]] = deque()
        self._timers: list[tuple[float, int, Timer]] = []
        self._numbers = itertools.count()
        self._cancelled = 0
        self._selector: selectors.BaseSelector | None = None
        self._waker: socket.socket | None = None
        self._listener: socket.socket | None = None
        self._has_warned = False
        # Why there is no poller.
        self._shortage: OutOfResources | None = None
        self._has_late_starts = False
        self._round = self._woken_round = 0
        self._is_waiting = False
        self._aside: set[Lane] = set()
        # What the present round is doing, for a log line about why it takes so long.
        self._busy_with: Lane | None = None
        self._busy_since_s = 0.0
        self._longest_s, self._longest_name = 0.0, ""

    # Any thread.

    @property
    def is_current_thread(self) -> bool:
        """Whether the caller is this reactor's thread."""
        return self._ident == threading.get_ident()

    def attach(
        self,
        name: str,
        on_error: Callable[[BaseException], object],
        keep: Callable[[Lane | None], object],
    ) -> Lane:
        """Open a lane; the first one starts the thread.

        Args:
            name: of the link, for the log.
            on_error: see `Lane`.
            keep: called with the lane, for its owner, who has to close it. Not by the return alone:
                if an exception came in between, such as KeyboardInterrupt, nobody would close it,
                and the thread would never end. Called with `None` if an exception takes it back.

        Raises:
            OutOfResources: no thread can be started.
        """
        lane = Lane(self, name, on_error)
        try:
            self._take(lane)
            keep(lane)
        except BaseException:
            keep(None)
            lane.is_open = False
            self.detach(lane)
            raise
        return lane

    def _take(self, lane: Lane) -> None:
        with self._changed.lock:
            self._lanes.add(lane)
            if self._thread is None:
                # A daemon: a program that forgets to stop must still be able to end.
                thread = MustNotWait(target=self._run, name=self.name, daemon=True)
                self._thread = thread
                try:
                    start_thread(thread)
                except BaseException:
                    self._thread = None
                    raise

    def submit(self, lane: Lane, callback: Callable[[], object]) -> None:
        """Have a lane called soon; wakes the thread if it waits."""
        self._calls.append((lane, callback))
        self.wake()

    def wake(self) -> None:
        """Make the thread look once for something to do."""
        # The thread notes that it waits before it looks for calls, so one of the two sees the
        # other.
        number = self._round
        if self._is_waiting and self._woken_round != number:
            waker = self._waker
            if waker is not None:
                try:  # noqa: SIM105 - this is passed for many an event
                    waker.send(b"w")
                except OSError:
                    pass  # full, or closed: then it is awake
            self._woken_round = number

    def clock(self) -> float:
        """A monotonic time in seconds that stands still while the reactor cannot read."""
        now_s = time.monotonic()
        if not self._is_waiting:
            now_s = min(now_s, self._read_s + _STALL_S)
        return now_s - self._stalled_s

    def busy(self) -> str:
        """What the thread is doing, for the log; empty while it waits."""
        lane = self._busy_with
        if lane is None:
            return ""
        return f"busy with {lane.name} for {time.monotonic() - self._busy_since_s:.1f} s"

    def wait_for_end(self, timeout: float) -> bool:
        """Wait until all links have gone and the thread has ended.

        Args:
            timeout: the longest wait, in seconds.

        Returns:
            whether it has ended; False, at once, in the thread itself.
        """
        if self.is_current_thread:
            return False
        with self._changed.lock:
            return self._changed.wait_for(lambda: self._thread is None, timeout)

    def wait_for_others(self, lanes: Collection[Lane], timeout: float) -> bool:
        """Wait until some lanes have gone; and if no others are left, until the thread has ended.

        Args:
            lanes: these.
            timeout: the longest wait, in seconds.

        Returns:
            whether that is so; False, at once, in the thread itself.
        """
        if self.is_current_thread:
            return False

        def is_left_to_others() -> bool:
            return bool(self._lanes) and self._lanes.isdisjoint(lanes)

        with self._changed.lock:
            return self._changed.wait_for(
                lambda: self._thread is None or is_left_to_others(), timeout
            )

    @property
    def is_stuck(self) -> bool:
        """Whether the thread has been busy with one thing for so long that it may never return."""
        return self._busy_with is not None and time.monotonic() - self._busy_since_s > _STUCK_S

    # The thread of the reactor, and lanes.

    def add_timer(
        self, lane: Lane, delay_s: float, callback: Callable[[], object], slack_s: float = 0.0
    ) -> Timer:
        """Have a lane called after some seconds, or sooner by up to ``slack_s``."""
        timer = Timer(lane, callback)
        due_s = time.monotonic() + max(0.0, delay_s)
        if slack_s > 0:
            # Times that all timers with this slack share.
            due_s -= (due_s - self._grid_s * slack_s) % slack_s
        entry = (due_s, next(self._numbers), timer)
        if self._thread is None or self.is_current_thread:
            heapq.heappush(self._timers, entry)
        else:
            # The heap belongs to the thread, which has to learn of an earlier time anyway.
            self.submit(lane, lambda: heapq.heappush(self._timers, entry))
        return timer

    def note_cancelled(self) -> None:
        """Note that a timer was cancelled: with many of them, the heap is cleared."""
        self._cancelled += 1

    def apply(self, lane: Lane, fd: int) -> None:
        """Watch a descriptor for what its lane wants now."""
        if self._thread is not None and not self.is_current_thread:
            # Not every poller looks at changes while it waits.
            self.submit(lane, lambda: self._apply(lane, fd))
        else:
            self._apply(lane, fd)

    def _apply(self, lane: Lane, fd: int) -> None:
        selector = self._selector
        wanted = lane.wanted_events(fd)
        if selector is None:
            if wanted:
                raise self._shortage or OSError("the reactor has no poller yet")
            return
        key = selector.get_map().get(fd)
        if key is not None and key.data is not lane:
            # Left by a lane that closed it without a word; another descriptor has the number now.
            if wanted:
                _unregister(selector, fd)
                selector.register(fd, wanted, lane)
        elif not wanted:
            if key is not None:
                _unregister(selector, fd)
        elif key is None:
            selector.register(fd, wanted, lane)
        elif key.events != wanted:
            selector.modify(fd, wanted, lane)

    def stand_aside(self, lane: Lane) -> None:
        """Do not watch the descriptors of a lane whose lock is taken."""
        self._aside.add(lane)
        for fd in lane.descriptors:
            self._apply(lane, fd)

    def stand_by(self, lane: Lane) -> None:
        """Watch them again."""
        self._aside.discard(lane)
        if self._selector is None:
            return  # the next one is told of all
        for fd in lane.descriptors:
            try:
                self._apply(lane, fd)
            except (OSError, ValueError) as error:
                lane.hand_over(error)

    def detach(self, lane: Lane) -> None:
        """Let a lane go; the thread ends with its last one."""
        with self._changed.lock:
            self._lanes.discard(lane)
            self._aside.discard(lane)
            self._changed.notify_all()
        self.wake()

    def _run(self) -> None:
        me = threading.current_thread()
        with self._changed.lock:
            if self._thread is me:
                self._ident = threading.get_ident()
        self._read_s = time.monotonic()
        pause_s = _STAND_ASIDE_S
        while (self._lanes and self._thread is me) or not self._ends():
            try:
                if self._selector is None:
                    self._open_poller()
                self._one_round()
                pause_s = _STAND_ASIDE_S
            except BaseException as error:
                with contextlib.suppress(Exception):  # there may be no memory for the log line
                    if isinstance(error, MemoryError):
                        self._warn(error)
                    else:
                        # No error of a lane comes here: this is a bug in the reactor itself.
                        logger.exception("%s: unexpected error in a round; going on", self.name)
                time.sleep(pause_s)
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    def _ends(self) -> bool:
        """End if no lane is left."""
        with self._changed.lock:
            if self._thread is not threading.current_thread():
                return True  # its start was interrupted, so nobody uses it
            if self._lanes:
                return False
            self._close_poller()
            self._calls.clear()
            self._timers.clear()
            self._cancelled = 0
            self._thread = None
            self._ident = 0
            self._changed.notify_all()
            return True

    def _open_poller(self) -> None:
        selector = waker = listener = None
        try:
            selector = self._poller()
            listener, waker = socket.socketpair()
            for end in (listener, waker):
                end.setblocking(False)
            selector.register(listener, READ, None)
        except (OSError, MemoryError) as error:
            for each in (selector, listener, waker):
                if each is not None:
                    each.close()
            self._shortage = shortage(error)
            self._warn(error)
            return
        self._shortage = None
        self._listener, self._waker, self._selector = listener, waker, selector
        # The former poller broke: watch again what it has watched.
        for lane in tuple(self._lanes):
            for fd in lane.descriptors:
                try:
                    self._apply(lane, fd)
                except (OSError, ValueError) as error:
                    lane.call(_raiser(error))

    def _close_poller(self) -> None:
        selector, self._selector = self._selector, None
        ends = (self._waker, self._listener)
        self._waker = self._listener = None
        for each in (selector, *ends):
            if each is not None:
                with contextlib.suppress(OSError):  # other code has closed it
                    each.close()

    def _warn(self, error: BaseException) -> None:
        """Log that descriptors cannot be waited for; once, until they can."""
        if not self._has_warned:
            short = shortage(error)
            level = logging.WARNING if short is None else news.level(short)
            text = "%s: cannot wait for connections, trying again: %s"
            logger.log(level, text, self.name, short or error)
        self._has_warned = True

    def _one_round(self) -> None:
        timeout_s = self._time_to_next()
        self._round += 1
        self._is_waiting = True
        try:
            # Look only after noting that the thread waits: a call that comes later wakes it.
            if self._calls or (self._aside and any(lane.is_free() for lane in self._aside)):
                timeout_s = 0.0
            ready = self._read(timeout_s)
        finally:
            self._is_waiting = False
        began_s = self._read_s
        self._longest_s = 0.0
        for key, events in ready:
            self._handle(key, events)
        for _ in range(len(self._calls)):
            lane, callback = self._calls.popleft()
            self._call(lane, callback)
        if self._aside:
            for lane in tuple(self._aside):
                lane.resume()
        if self._timers and self._timers[0][0] <= time.monotonic():
            if self._is_stale:
                for key, events in self._read(0.0):
                    self._handle(key, events)
            self._call_timers()
        if self._cancelled > _CANCELLED_TIMERS:
            self._drop_cancelled()
        if late_starts.is_any or self._has_late_starts:
            self._start_late()
        self._busy_with = None
        round_s = time.monotonic() - began_s
        if round_s > _LONG_ROUND_S:
            logger.warning(
                "%s stood still for %.1f s, %.1f s of it in %s: all its connections waited",
                self.name,
                round_s,
                self._longest_s,
                self._longest_name,
            )

    def _start_late(self) -> None:
        """Start the threads of workers of this process that could not be started before."""
        if not late_starts.retry():
            return
        why = late_starts.why
        if late_starts.is_any and not self._has_late_starts and why is not None:
            logger.log(news.level(why), "%s: trying again: %s", self.name, why)
        elif self._has_late_starts and not late_starts.is_any:
            logger.info("%s: the threads that were wanted are started", self.name)
        self._has_late_starts = late_starts.is_any

    @property
    def _is_stale(self) -> bool:
        """Something may have arrived since the last look."""
        return time.monotonic() - self._read_s > _STALE_S

    def _read(self, timeout_s: float) -> list[tuple[selectors.SelectorKey, int]]:
        """Wait for descriptors, and note the time in which nothing could be read."""
        began_s = time.monotonic()
        if began_s - self._read_s > _STALL_S:
            self._note_unread(began_s - self._read_s)
        if self._selector is None:
            timeout_s = min(timeout_s, _WITHOUT_POLLER_S)
            time.sleep(timeout_s)
            ready = []
        else:
            ready = self._select(self._selector, timeout_s)
        now_s = time.monotonic()
        late_s = now_s - began_s - timeout_s
        if late_s > _STALE_S:
            if not ready and self._selector is not None:
                # The program was paused for a while: then the poller only says that time is up.
                ready = self._select(self._selector, 0.0)
            self._note_unread(late_s)
            now_s = time.monotonic()
        self._read_s = now_s
        return ready

    def _select(
        self, selector: selectors.BaseSelector, timeout_s: float
    ) -> list[tuple[selectors.SelectorKey, int]]:
        try:
            ready = selector.select(timeout_s)
        except (OSError, ValueError) as error:
            self._drop_bad_descriptors(selector, error)
            return []
        if self._has_warned:
            self._has_warned = False
            logger.info("%s: can wait for connections again", self.name)
        return ready

    def _drop_bad_descriptors(
        self, selector: selectors.BaseSelector, error: OSError | ValueError
    ) -> None:
        """Find the descriptors that the poller cannot wait for; only their links get an error."""
        bad = [
            key
            for key in list(selector.get_map().values())
            if not _can_be_watched(selector, key.fd)
        ]
        if not bad or any(key.data is None for key in bad):
            # Other code has closed the poller itself, or its waker: begin anew.
            self._warn(error)
            self._close_poller()
            time.sleep(_WITHOUT_POLLER_S)
            return
        for key in bad:
            _unregister(selector, key.fd)
            key.data.call(_raiser(error))

    def _handle(self, key: selectors.SelectorKey, events: int) -> None:
        """Have a lane handle a descriptor that is ready."""
        lane = key.data
        if lane is None:
            listener = self._listener
            with contextlib.suppress(OSError):
                # Into the same bytes each time: this takes no memory, which may be short. If that
                # is not all, the poller says so again.
                if listener is not None:
                    listener.recv_into(_WAKES)
        elif lane.is_open:
            self._busy_since_s = time.monotonic()
            self._busy_with = lane
            lane.handle(key.fd, events)
            self._note_time(lane)

    def _call(self, lane: Lane, callback: Callable[[], object]) -> None:
        if lane.is_open:
            self._busy_since_s = time.monotonic()
            self._busy_with = lane
            lane.call(callback)
            self._note_time(lane)

    def _call_timers(self) -> None:
        began_s = time.monotonic()
        timers = self._timers
        while timers and timers[0][0] <= began_s:
            timer = heapq.heappop(timers)[2]
            if timer.callback is None:
                self._cancelled -= 1
                continue
            self._call(timer.lane, timer.run)
            if time.monotonic() - began_s > _TIMERS_S:
                break  # the others follow at once, after a look at what has arrived

    def _drop_cancelled(self) -> None:
        """Take the cancelled timers out, if they are many."""
        timers = self._timers
        if self._cancelled > max(_CANCELLED_TIMERS, len(timers) // 2):
            timers[:] = [entry for entry in timers if entry[2].callback is not None]
            heapq.heapify(timers)
            self._cancelled = 0

    def _note_time(self, lane: Lane) -> None:
        took_s = time.monotonic() - self._busy_since_s
        if took_s > self._longest_s:
            self._longest_s, self._longest_name = took_s, lane.name

    def _time_to_next(self) -> float:
        timeout_s = _STAND_ASIDE_S if self._aside else _LONGEST_WAIT_S
        if late_starts.is_any:
            timeout_s = min(timeout_s, RETRY_S)
        if self._timers:
            left_s = self._timers[0][0] - time.monotonic()
            if left_s < timeout_s:
                timeout_s = max(0.0, left_s)
        return timeout_s

    def _note_unread(self, seconds: float) -> None:
        self._stalled_s += max(0.0, seconds - _STALL_S)

    def disown(self) -> None:
        """Forget the thread and its poller, in a forked child: they are the parent's."""
        selector, ends = self._selector, (self._waker, self._listener)
        for lane in self._lanes:
            lane.disown()
        self._forget()
        for end in ends:
            if end is not None:
                end.close()
        # Close the child's copies. The poller is shared with the parent, so remove nothing from it.
        if isinstance(selector, (selectors.SelectSelector, selectors.PollSelector)):
            selector.close()


def _nothing() -> None:
    """Do nothing. Called with the lock."""


def _unregister(selector: selectors.BaseSelector, fd: int) -> None:
    # If it was closed already, the poller knows.
    with contextlib.suppress(OSError, ValueError, KeyError):
        selector.unregister(fd)


def _raiser(error: BaseException) -> Callable[[], object]:
    def raise_it() -> Any:
        raise error

    return raise_it


def _can_be_watched(selector: selectors.BaseSelector, fd: int) -> bool:
    try:
        if isinstance(selector, selectors.SelectSelector):
            select.select([fd], [], [], 0.0)  # nor those with high numbers
        else:
            os.fstat(fd)
    except (OSError, ValueError):
        return False
    return True
