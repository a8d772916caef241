"""Takes the confirms out of what a broker sends, as if it took everything and confirmed nothing."""

from __future__ import annotations

from pika import spec

_METHOD = 1
_HEAD_BYTES = 7
"""Type, channel and size; one byte ends the frame."""

_CONFIRMS = frozenset(one.INDEX.to_bytes(4, "big") for one in (spec.Basic.Ack, spec.Basic.Nack))


class ConfirmFilter:
    """Follows the frames of one connection from its begin, and drops confirms while told so."""

    def __init__(self) -> None:
        self.is_closed = False
        """Whether confirms are dropped."""
        self.dropped = 0
        self._rest = b""

    def feed(self, data: bytes) -> bytes:
        """Take bytes from the broker; returns the frames that are complete, without confirms."""
        data = self._rest + data
        at, passed = 0, []
        while len(data) - at >= _HEAD_BYTES:
            end = at + _HEAD_BYTES + int.from_bytes(data[at + 3 : at + 7], "big") + 1
            if end > len(data):
                break
            is_confirm = data[at] == _METHOD and data[at + 7 : at + 11] in _CONFIRMS
            if is_confirm and self.is_closed:
                self.dropped += 1
            else:
                passed.append(data[at:end])
            at = end
        self._rest = data[at:]
        return b"".join(passed)
