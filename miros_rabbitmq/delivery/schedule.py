"""Decides when posted records go out, and whether the posting thread or the reactor sends them.

The thread that posts to an idle publisher sends the record itself, at once: to wake another thread
would take several times as long. The same holds for each further post, until the window of
unconfirmed messages is full. Then posts come faster than the broker takes single messages, and
records that have collected go out together: when they fill a message, or at the next beat of a
tempo that a PID controller sets (see `pacing`). When a beat finds only a few, single posts go out
at once again. For traffic that nobody waits for, the beats begin with the first post. A post needs
no lock while some thread is about to look at all posts anyway (see `intake`). Nor does it wait for
the lock for long: whoever holds it may have been interrupted by the handler of a signal, which does
not return before this post has, or be waited for by somebody who was.

Pure: no I/O, no thread; the clock is handed in, and so is the lock, which its owner shares.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from ..exceptions import NetworkStopped
from ..limits import Limits
from .intake import Intake, Record
from .outbox import Outbox
from .pacing import Tempo

_PATIENCE_S = 0.1
"""How long a post waits for the lock, which is held for microseconds."""


class Lock(Protocol):
    """What is needed of a lock."""

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Take it; False if that was not possible in time."""

    def release(self) -> None:
        """Let go of it; raises `RuntimeError` if this thread does not hold it."""


class Schedule:
    """Decides for one publisher when its outbox is emptied.

    `post` may be called from any thread; everything else needs the lock.

    Args:
        outbox: the records that wait, and those under way.
        lock: a reentrant lock, which guards the outbox and this schedule.
        is_locked_here: whether the calling thread holds it.
        limits: the times of the tempo, and how much fits into a message.
        patient: nobody waits for this traffic, so it goes out at most once a beat.
    """

    def __init__(
        self,
        outbox: Outbox,
        lock: Lock,
        is_locked_here: Callable[[], bool],
        limits: Limits,
        *,
        patient: bool,
    ) -> None:
        self._outbox = outbox
        self._lock = lock
        self._is_locked_here = is_locked_here
        self.intake: Intake = Intake()
        """Takes small records without the lock. It is opened only while something waits in the
        outbox, and emptied before that is taken. So if the outbox has nothing that waits, neither
        has the intake."""
        self._patient = patient
        self._hurried, self._unhurried = (
            Tempo(limits.tempo_fast_s, slow_s, limits.batch_events)
            for slow_s in (limits.tempo_slow_s, limits.tempo_patient_s)
        )
        self._closed_because = ""
        self._beat_pending = False
        self.is_ready: bool = False
        """The broker takes messages."""
        self.wake_pending: bool = False
        """The reactor's thread was woken for this publisher, and has not looked yet."""
        self.posted: int = 0
        """How many records were posted, without those still in the intake."""
        self.pushed_out: int = 0
        """How many records were dropped from a full outbox to make room for posts, since the owner
        last took this count."""

    # Any thread.

    def post(self, record: Record) -> bool:
        """Put a record behind the others.

        Returns:
            whether the caller has to send it; otherwise some thread is about to look at it.

        Raises:
            NetworkStopped: the publisher takes nothing more.
        """
        intake = self.intake
        is_in = not self._closed_because and intake.put(record)
        if is_in and intake.is_open:
            return False
        if self._is_locked_here():
            return self._post_aside(record, is_in=is_in)
        lock = self._lock
        try:
            if not (lock.acquire(False) or lock.acquire(timeout=_PATIENCE_S)):
                return self._post_aside(record, is_in=is_in)
            self.take_in()
            if not is_in:
                self._put(record)
            return self.has_turn()
        finally:
            # Not a `with`, as that would wait. An exception may come anywhere above, such as
            # KeyboardInterrupt; the lock itself knows whether it is held.
            try:  # noqa: SIM105 - this is passed for each event
                lock.release()
            except RuntimeError:
                pass

    def _post_aside(self, record: Record, *, is_in: bool) -> bool:
        """Put a record behind the others without the lock; returns that somebody has to look."""
        if not is_in:
            self.check_open()
            self.intake.put_over(record)
        return True

    def check_open(self) -> None:
        """Check that posts are taken.

        Raises:
            NetworkStopped: they are not.
        """
        if self._closed_because:
            raise NetworkStopped(self._closed_because)

    # With the lock.

    def post_with_lock(self, record: Record) -> bool:
        """Do the same as `post`, for whoever has the lock and has interrupted nobody."""
        self.take_in()
        self._put(record)
        return self.has_turn()

    def _put(self, record: Record) -> None:
        if self._closed_because:
            self.check_open()
        self.posted += 1
        self.pushed_out += self._outbox.post(record)

    def put_first(self, records: Sequence[Record]) -> None:
        """Put records before those that wait, even if there is no room for them."""
        self.take_in()
        self.posted += len(records)
        self._outbox.put_first(records)

    def take_in(self) -> None:
        """Move what is in the intake into the outbox."""
        records = self.intake.look()
        if records:
            self._outbox.post_all(records)
            self.posted += len(records)
            self.intake.forget(records)

    def has_turn(self) -> bool:
        """Tell whether something is due that no thread is about to send.

        If some thread is about to look, this opens the intake, and further posts skip the question.
        """
        if not self.is_ready:
            return False
        outbox = self._outbox
        if self.wake_pending or not outbox.has_window:  # a confirm opens it, and looks
            self.intake.open(outbox.room)
            return False
        if self._beat_pending and (self._patient or not outbox.is_calm):
            self.intake.open(min(outbox.room, outbox.room_in_message))
        return self.is_due

    @property
    def is_due(self) -> bool:
        """Something waits, and neither for a beat nor for a confirm that opens the window."""
        outbox = self._outbox
        if not outbox.waiting or not outbox.has_window:
            return False
        waits = self._beat_pending and not outbox.fills_message
        return not waits or (outbox.is_calm and not self._patient)

    @property
    def is_looked_at(self) -> bool:
        """A thread is going to look: at a beat, when woken, or when a confirm opens the window."""
        return self._beat_pending or self.wake_pending or not self._outbox.has_window

    @property
    def is_at_rest(self) -> bool:
        """Nothing waits, and no beat was to come."""
        return not (self._beat_pending or self._outbox.waiting)

    def plan(self, depth: int, now_s: float) -> float | None:
        """Say when the next beat comes, after the outbox was looked at.

        Args:
            depth: how many records waited before anything was sent.
            now_s: the time of a monotonic clock, in seconds.

        Returns:
            seconds until the next beat; `None` for no beat.
        """
        outbox = self._outbox
        if not depth:
            outbox.note_silence()
        # After several at once more are expected: a beat spares the posting threads the waking.
        # Patient traffic goes out at most once a beat.
        goes_on = outbox.depth > 0 or (depth > 0 if self._patient else not outbox.is_calm)
        self._beat_pending = goes_on and outbox.has_window
        if not goes_on:
            self._tempo.rest()
            return None
        tempo_s = self._tempo.beat(depth, now_s)
        return tempo_s if self._beat_pending else None

    def on_ready(self) -> None:
        """Note that the broker takes messages, for the first time or again."""
        self.is_ready = True
        self.wake_pending = False

    def on_lost(self) -> None:
        """Note that the broker takes nothing: no thread will look until it does."""
        self.is_ready = self.wake_pending = self._beat_pending = False
        self.intake.close()

    def close(self, because: str) -> None:
        """Refuse posts from now on.

        Args:
            because: the message of the error; with an empty text, posts are taken again.
        """
        self._closed_because = because
        self.intake.close()

    @property
    def patient(self) -> bool:
        """Posts go out at most once a beat, because nobody waits for them."""
        return self._patient

    @patient.setter
    def patient(self, patient: bool) -> None:
        self._patient = patient
        self.intake.close()  # so that the next post looks whether it may wait

    @property
    def tempo_s(self) -> float:
        """The present time between two beats, in seconds."""
        return self._tempo.current_s

    @property
    def _tempo(self) -> Tempo:
        return self._unhurried if self._patient else self._hurried
