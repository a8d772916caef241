"""The tempo of a publisher: how long it waits between two beats, set by a PID on its queue's depth.

Pure; the clock is handed in. A beat sends what is queued as one AMQP message. So a short tempo
spends more messages and a long one collects more events in each. The controller makes the tempo
fast when the queue is full and slow when it is empty.

The controller is the textbook PID in its positional form (K. J. Åström and T. Hägglund, "PID
Controllers: Theory, Design, and Tuning", 2nd ed., ISA 1995, chapter 3), with the derivative taken
on the measurement and the integral clamped, so that a long outage winds nothing up.
"""

from __future__ import annotations


class Pid:
    """A PID controller whose output lies between 0 and 1.

    Not thread-safe: one thread owns it.

    Args:
        kp: proportional gain, output per unit of error.
        ki: integral gain, output per unit of error and second.
        kd: derivative gain, output per unit of error a second.
    """

    def __init__(self, kp: float, ki: float, kd: float) -> None:
        self._kp = kp
        self._ki = ki
        self._kd = kd
        self.reset()

    def reset(self) -> None:
        """Forget the past."""
        self._integral = 0.0
        self._last: float | None = None

    def update(self, error: float, elapsed_s: float) -> float:
        """Take one sample.

        Args:
            error: how far the measurement is above its set point.
            elapsed_s: seconds since the last sample.

        Returns:
            the controller's output, 0 to 1.
        """
        slope = 0.0
        if self._last is not None and elapsed_s > 0:
            slope = (error - self._last) / elapsed_s
        self._last = error
        proportional = self._kp * error + self._kd * slope
        integral = self._integral + self._ki * error * elapsed_s
        # Clamped to what the output still lacks: beyond it, it would only have to unwind again.
        self._integral = min(max(integral, 0.0), max(0.0, 1.0 - proportional))
        return min(max(proportional + self._integral, 0.0), 1.0)


class Tempo:
    """The time between two beats of a publisher.

    The queue's depth is the measurement, and the set point a tenth of what one message holds. The
    error runs from -1 at an empty queue over 0 at the set point to 1 at a full message and above: a
    queue that has run empty takes the tempo back to slow, whatever the past has added up.
    The controller's output walks the tempo from slow to fast on a geometric scale: every tenth of
    it divides the tempo by the same factor, as rates are felt by ratio.

    Gains: ``kp = 1`` alone reaches the fast tempo when a full message waits, and the slow one when
    nothing does; ``ki`` closes a lasting remainder within some tenths of a second; a small ``kd``
    answers a jump one beat earlier.

    Args:
        fast_s: the tempo at a full queue, in seconds.
        slow_s: the tempo at an empty queue, in seconds.
        full: the depth, in events, at which a queue counts as full.
    """

    KP = 1.0
    KI = 2.0
    KD = 0.001
    SET_POINT = 0.1

    def __init__(self, fast_s: float, slow_s: float, full: int) -> None:
        self._slow_s = slow_s
        self._ratio = fast_s / slow_s
        self._full = full
        self._target = full * self.SET_POINT
        self._pid = Pid(self.KP, self.KI, self.KD)
        self._last_beat_s: float | None = None
        self.current_s = slow_s
        """The tempo in force, in seconds."""

    def beat(self, depth: int, now_s: float) -> float:
        """Take the queue's depth at a beat and say when the next one comes.

        Args:
            depth: events in the queue before this beat sends any.
            now_s: the time of a monotonic clock, in seconds.

        Returns:
            seconds until the next beat.
        """
        last = self._last_beat_s
        # After a silence the past is no guide: a first sample has no slope and adds no integral.
        if last is None or now_s - last > 2 * self._slow_s:
            self._pid.reset()
            elapsed_s = 0.0
        else:
            elapsed_s = now_s - last
        self._last_beat_s = now_s
        drive = self._pid.update(self._error(depth), elapsed_s)
        self.current_s = self._slow_s * self._ratio**drive
        return self.current_s

    def _error(self, depth: int) -> float:
        target = self._target
        if depth < target:
            return depth / target - 1.0
        return min((depth - target) / (self._full - target), 1.0)
