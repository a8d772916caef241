"""Turns: what a signal handler leaves is done once, in order, and nobody waits for it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable

import pytest

from miros_rabbitmq.turns import Turns
from tests.helpers import scaled, wait_until
from tests.interrupting import Interruption


class Ledger:
    """Notes items, one after the other; a handler may come in between."""

    def __init__(self) -> None:
        self.noted: list[int] = []
        self.turns: Turns[int] = Turns(self._note)
        self.amid: Callable[[], object] = lambda: None

    def _note(self, item: int) -> None:
        self.noted.append(item)

    def add(self, item: int) -> None:
        """Note an item as a network posts an event."""
        turns = self.turns
        if turns.is_interrupted():
            turns.leave(item)
            return
        try:
            if not turns.begin():
                turns.leave(item)
                return
            if turns.left:
                turns.catch_up()
            self.amid()
            self._note(item)
        finally:
            try:
                if turns.left:
                    turns.catch_up()
            finally:
                with contextlib.suppress(RuntimeError):
                    turns.lock.release()
        if turns.left:
            turns.catch_up_if_free()


def held_by_another(turns: Turns[int]) -> tuple[threading.Thread, threading.Event]:
    """Have another thread hold the lock until it may let go of it."""
    has_it, may_go = threading.Event(), threading.Event()

    def hold() -> None:
        with turns.turn():
            has_it.set()
            may_go.wait(scaled(20))

    thread = threading.Thread(target=hold)
    thread.start()
    assert has_it.wait(scaled(10))
    return thread, may_go


def test_what_comes_in_between_is_done_afterwards_and_in_order() -> None:
    ledger = Ledger()

    def handler() -> None:
        ledger.amid = lambda: None
        with ledger.turns.turn():  # a user of the lock that is not a post does not disturb it
            ledger.turns.leave(2)
            ledger.turns.leave(3)

    ledger.amid = handler
    ledger.add(1)
    assert ledger.noted == [1, 2, 3]


def test_a_handler_at_any_step_loses_nothing_and_does_nothing_twice() -> None:
    step = 0
    while True:
        ledger = Ledger()
        one = Interruption(step, lambda ledger=ledger: ledger.add(2))  # type: ignore[misc]
        one.during(lambda ledger=ledger: ledger.add(1))  # type: ignore[misc]
        ledger.add(3)
        assert sorted(ledger.noted) == ([1, 2, 3] if one.has_come else [1, 3]), one.place
        assert ledger.noted[-1] == 3, one.place
        assert not ledger.turns.is_interrupted()
        if not one.has_come:
            break
        step += 1
    assert step > 10


def test_nobody_waits_long_for_a_holder_who_does_not_come_back() -> None:
    ledger = Ledger()
    thread, may_go = held_by_another(ledger.turns)
    ledger.add(1)
    ledger.add(2)
    assert ledger.noted == []
    may_go.set()
    thread.join()
    wait_until(lambda: ledger.noted == [1, 2])


def test_a_turn_with_patience_tells_whether_it_was_had() -> None:
    ledger = Ledger()
    thread, may_go = held_by_another(ledger.turns)
    with ledger.turns.turn(0.0) as is_held:
        assert not is_held
    may_go.set()
    thread.join()
    with ledger.turns.turn(0.0) as is_held:
        assert is_held


def test_a_lock_that_an_exception_has_left_behind_is_let_go_of() -> None:
    ledger = Ledger()
    ledger.turns.lock.acquire()
    ledger.add(1)
    assert ledger.noted == [1]
    thread, may_go = held_by_another(ledger.turns)
    may_go.set()
    thread.join()


def test_what_an_exception_has_interrupted_is_done_again() -> None:
    done: list[int] = []

    def do(item: int) -> None:
        done.append(item)
        if len(done) == 1:
            raise KeyboardInterrupt

    turns: Turns[int] = Turns(do)
    with pytest.raises(KeyboardInterrupt):
        turns.leave(7)
    turns.leave(8)
    assert done == [7, 7, 8]


def test_a_forked_child_forgets_what_was_left() -> None:
    ledger = Ledger()
    thread, may_go = held_by_another(ledger.turns)
    ledger.add(1)
    ledger.turns.disown()
    ledger.add(2)
    assert ledger.noted == [2]
    may_go.set()
    thread.join()
