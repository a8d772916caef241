"""The tempo of a publisher: how long it waits between two beats, set by a PID on its queue's depth.

Pure; the clock is handed in. A beat sends what is queued as one AMQP message. So a short tempo
costs more messages, and a long one collects more events in each. The controller makes the tempo
fast when the queue is full and slow when it is empty, and settles where each beat finds as many
events as the set point says.
"""

from __future__ import annotations

import math


class Pid:
    """A PID controller in its velocity form, whose output lies between 0 and 1.

    Each sample changes the output, and the output is clamped: there is no sum of errors that could
    wind up. (K. J. Åström and T. Hägglund, "PID Controllers: Theory, Design, and Tuning", 2nd ed.,
    ISA 1995, chapter 3, on incremental algorithms.) The time between two samples does not count:
    the controlled queue answers from one sample to the next, however long that takes.

    Not thread-safe: one thread owns it.

    Args:
        kp: proportional gain, output per unit of error.
        ki: integral gain, output per unit of error and sample.
        kd: derivative gain, output per unit of error a sample.
    """

    def __init__(self, kp: float, ki: float, kd: float) -> None:
        self._kp = kp
        self._ki = ki
        self._kd = kd
        self.reset()

    def reset(self) -> None:
        """Forget the past."""
        self._output = 0.0
        self._last: float | None = None
        self._slope = 0.0

    def update(self, error: float) -> float:
        """Take one sample.

        Args:
            error: how far the measurement is above its set point.

        Returns:
            the controller's output, 0 to 1.
        """
        slope = 0.0 if self._last is None else error - self._last
        change = self._kp * slope + self._ki * error + self._kd * (slope - self._slope)
        self._last, self._slope = error, slope
        self._output = min(max(self._output + change, 0.0), 1.0)
        return self._output


class Tempo:
    """The time between two beats of a publisher.

    The queue's depth is the measurement. The set point is half of what one message holds: the fixed
    cost of a message is then a small part of the whole.

    Both scales are logarithmic, because ratios of rates count, not differences: the controller's
    output moves the tempo from slow to fast on a geometric scale, and the error is the ratio of the
    depth to the set point on the same scale. At a steady rate the depth that a beat finds is the
    rate times the tempo. So on these scales, raising the output by some amount lowers the next
    error by the same amount, whatever the rate. The loop gain is that of the controller alone, and
    one set of gains fits all rates.

    The gains were chosen for that loop (its characteristic polynomial is ``z³ + (kp+ki+kd-1)z² -
    (kp+2kd)z + kd``) and checked on a real node with ``make bench``: an integral gain of 0.6 alone
    removes 0.6 of the error at each beat; a proportional gain of 0.1 makes the first answer to a
    jump faster, and a derivative gain of 0.02 damps the overshoot of the two. All roots lie within
    0.49 of the origin: after five beats 3 % of a step are left.

    Args:
        fast_s: the tempo at a full queue, in seconds.
        slow_s: the tempo at an empty queue, in seconds.
        full: the depth, in events, at which a queue counts as full.
    """

    KP = 0.1
    KI = 0.6
    KD = 0.02
    SET_POINT = 0.5

    def __init__(self, fast_s: float, slow_s: float, full: int) -> None:
        self._fast_s = fast_s
        self._slow_s = slow_s
        self._span = max(math.log(slow_s / fast_s), math.log(2.0))
        self._target = max(1.0, full * self.SET_POINT)
        self._pid = Pid(self.KP, self.KI, self.KD)
        self._last_beat_s: float | None = None
        self.current_s: float = slow_s
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
        self._last_beat_s = now_s
        # After a silence the past is no guide.
        if last is None or now_s - last > 2 * self._slow_s:
            self._pid.reset()
        drive = self._pid.update(self._error(depth))
        self.current_s = max(self._fast_s, self._slow_s * math.exp(-drive * self._span))
        return self.current_s

    def rest(self) -> None:
        """Note that no further beat comes for now."""
        self._last_beat_s = None
        self.current_s = self._slow_s

    def _error(self, depth: int) -> float:
        """The logarithm of depth to set point, in units of that of the slow tempo to the fast."""
        if depth == 0:
            return -1.0
        return min(max(math.log(depth / self._target) / self._span, -1.0), 1.0)
