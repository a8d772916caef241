"""The brokers that other nodes have announced, and when each is to be asked.

Pure; the clock is handed in. What is announced is authentic, and otherwise unchecked: so there are
at most so many, each is asked only now and then, and one that falls silent is forgotten.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from ..urls import Address


@dataclass
class _Announced:
    heard_s: float
    asked_s: float


class AnnouncedBrokers:
    """The brokers that were announced and are no members. Not thread-safe: its owner locks.

    Args:
        most: how many are remembered.
        ask_again_s: how long one is not asked again, in seconds.
        silence_s: when one that is announced no more is forgotten, in seconds.
    """

    def __init__(self, most: int, ask_again_s: float, silence_s: float) -> None:
        self._most = most
        self._ask_again_s = ask_again_s
        self._silence_s = silence_s
        self._brokers: dict[Address, _Announced] = {}

    def __iter__(self) -> Iterator[Address]:
        return iter(self._brokers)

    def clear(self) -> None:
        """Forget all."""
        self._brokers.clear()

    def hear(self, address: Address, now_s: float) -> bool | None:
        """Note an announcement.

        Returns:
            whether the broker is to be asked now; `None` where it is one too many.
        """
        broker = self._brokers.get(address)
        if broker is None:
            if len(self._brokers) >= self._most:
                return None
            broker = self._brokers[address] = _Announced(now_s, now_s - self._ask_again_s)
        broker.heard_s = now_s
        if now_s - broker.asked_s < self._ask_again_s:
            return False
        broker.asked_s = now_s
        return True

    def forget(self, members: Collection[Address], now_s: float) -> None:
        """Forget those that have fallen silent, but for members."""
        for address, broker in list(self._brokers.items()):
            if address not in members and now_s - broker.heard_s > self._silence_s:
                del self._brokers[address]
