"""What a socket has received, cut into whole frames.

A frame may arrive in any number of pieces; each byte of it is copied a bounded number of times, and
no more is collected than one frame that `Conduct` allows. A shortcut may take the most frequent
frames from the data as it is.

Pure. Not thread-safe.
"""

from __future__ import annotations

from collections.abc import Callable

from .conduct import Conduct, Misconduct
from .frames import FRAME, OVERHEAD, TYPES

Shortcut = Callable[[bytes, int], int]
"""Takes whole frames from data, from a place on where a frame begins, as far as it knows them;
returns the place behind them. Not asked in the middle of a content."""


class Inflow:
    """The frames of one connection, in order.

    Args:
        conduct: judges each.
        pass_on: called with each frame that was passed, as far as pika should see it.
    """

    def __init__(self, conduct: Conduct, pass_on: Callable[[bytes], object]) -> None:
        self.shortcut: Shortcut | None = None
        self._conduct = conduct
        self._pass_on = pass_on
        self._is_closed = False
        # The beginning of a frame, and how many bytes are needed to go on with it.
        self._pending: bytes | bytearray = b""
        self._missing = 0

    def close(self) -> None:
        """Drop what comes from now on. Also for callbacks in the middle of `feed`."""
        self._is_closed = True
        self._pending = b""

    def feed(self, data: bytes) -> None:
        """Take what has arrived, and pass on the frames that it completes.

        Raises:
            Misconduct: the peer sends what it must not. Nothing is taken any more.
        """
        if self._pending:
            if len(data) < self._missing:
                if isinstance(self._pending, bytes):
                    self._pending = bytearray(self._pending)
                self._pending += data
                self._missing -= len(data)
                return
            data = bytes(self._pending) + data
            self._pending = b""
        try:
            self._take(data)
        except Misconduct:
            self.close()
            raise

    def _take(self, data: bytes) -> None:
        at, size = 0, len(data)
        conduct, shortcut = self._conduct, self.shortcut
        while at < size and not self._is_closed:
            if shortcut is not None and not conduct.amid:
                at = shortcut(data, at)
                if at == size or self._is_closed:
                    return
            end = self._end_of_frame(data, at)
            if end > size:
                self._pending, self._missing = data[at:], end - size
                return
            frame = conduct.judge(data[at:end])
            if frame:
                self._pass_on(frame)
                shortcut = self.shortcut
            at = end

    def _end_of_frame(self, data: bytes, at: int) -> int:
        """Where the frame that begins here ends; beyond the data if it is not complete yet."""
        if data[at] not in TYPES:
            return at + self._conduct.judge_greeting(data[at:])
        if len(data) - at < FRAME.size:
            return at + FRAME.size
        size = int(FRAME.unpack_from(data, at)[2])
        self._conduct.judge_size(size)
        return at + size + OVERHEAD
