"""Watches every encryption, to prove that no key is ever used twice with the same outer number.

What is left of the nonce is random, and is not counted on: it serves the clones of a machine only.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import CodeType, FrameType
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from miros_rabbitmq.wire import keyring
from miros_rabbitmq.wire.message import OUTER_BYTES


class Witness:
    """Stands in for AESGCM, and notes the key and the outer number of each encryption."""

    def __init__(self) -> None:
        self.uses: list[tuple[bytes, int]] = []

    def __call__(self, key: bytes) -> _Watched:
        return _Watched(self, key)

    def note(self, key: bytes, nonce: bytes) -> None:
        # One step for Python, as handlers of signals come here, too, and could not take a lock.
        self.uses.append((key, int.from_bytes(nonce[:OUTER_BYTES], "big")))

    def check(self, at_least: int = 1) -> None:
        """Check that there were encryptions, and no two with the same key and number."""
        assert len(self.uses) >= at_least
        assert [use for use, times in Counter(self.uses).items() if times > 1] == []

    @property
    def keys(self) -> set[bytes]:
        return {key for key, _ in self.uses}


class _Watched:
    def __init__(self, witness: Witness, key: bytes) -> None:
        self._witness = witness
        self._key = key
        self._cipher = AESGCM(key)

    def encrypt(self, nonce: bytes, data: bytes, address: bytes) -> bytes:
        self._witness.note(self._key, nonce)
        return self._cipher.encrypt(nonce, data, address)

    def decrypt(self, nonce: bytes, data: bytes, address: bytes) -> bytes:
        return self._cipher.decrypt(nonce, data, address)


@pytest.fixture
def witness(monkeypatch: pytest.MonkeyPatch) -> Witness:
    """Watches every encryption of a test."""
    one = Witness()
    monkeypatch.setattr(keyring, "AESGCM", one)
    return one


@contextmanager
def interrupted(
    codes: set[CodeType], step: int, interrupt: Callable[[], object]
) -> Iterator[list[bool]]:
    """Call something before one of the steps of Python's machine, as the handler of a signal is.

    Handlers run between any two steps of the main thread, so to try every step in turn is to try
    every place at which Ctrl-C can come.

    Args:
        codes: the functions whose steps count.
        step: before which of their steps, from 0.
        interrupt: what to call; it may raise.

    Yields:
        a list that has one item once it was called.
    """
    left = step
    called: list[bool] = []

    def on_step(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal left
        if event != "opcode" or called:
            return on_step
        if left == 0:
            called.append(True)
            sys.settrace(None)
            interrupt()
            return None
        left -= 1
        return on_step

    def on_call(frame: FrameType, _event: str, _: Any) -> Any:
        if called or frame.f_code not in codes:
            return None
        frame.f_trace = on_step  # before the next line: Python 3.13 looks for it there
        frame.f_trace_opcodes = True
        return on_step

    former = sys.gettrace()
    sys._getframe().f_trace_opcodes = True  # before `settrace`: Python 3.12 looks for any frame
    sys.settrace(on_call)
    try:
        yield called
    finally:
        sys.settrace(former)


def codes_of(*functions: Callable[..., Any]) -> set[CodeType]:
    """The code of some functions, for `interrupted`."""
    return {function.__code__ for function in functions}
