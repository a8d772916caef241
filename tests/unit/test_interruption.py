"""Whether a call comes from the handler of a signal that has interrupted the package."""

from __future__ import annotations

import _thread
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import pytest

import miros_rabbitmq
from miros_rabbitmq import process
from miros_rabbitmq.condition import Condition
from miros_rabbitmq.exceptions import MirosApiException
from miros_rabbitmq.interruption import (
    do_apart,
    do_in_turn,
    has_interrupted,
    refuse_to_wait_for,
)
from miros_rabbitmq.logs import MustNotWait
from miros_rabbitmq.wire.codec import Codec
from miros_rabbitmq.worker import Worker
from tests.helpers import scaled, wait_until
from tests.interrupting import Interruption

KEY = "bW1tbW1tbW1tbW1tbW1tbW1tbW1tbW1tbW1tbW1tbW0="


def amid(handler: Callable[[], object]) -> None:
    """Call a handler in the middle of some work of the package."""
    worker: Worker[None] = Worker("never starts", lambda _items, _dropped: None, max_items=1)
    one = Interruption(5, handler)
    one.during(lambda: worker.stop(0.0))
    assert one.has_come


def test_a_call_in_the_middle_of_our_work_has_interrupted_it() -> None:
    found: list[bool] = []
    amid(lambda: found.append(has_interrupted()))
    found.append(has_interrupted())
    assert found == [True, False]


def test_a_program_in_a_folder_of_a_similar_name_is_not_taken_for_this_package() -> None:
    found: list[bool] = []
    names = {"ask": lambda: found.append(has_interrupted())}
    path = str(Path(miros_rabbitmq.__file__).parent) + "_robots/program.py"
    exec(compile("def handler(): ask()", path, "exec"), names)  # noqa: S102
    amid(names["handler"])
    names["handler"]()
    assert found == [True, False]


def test_another_thread_has_interrupted_nothing() -> None:
    found: list[bool] = []

    def ask_elsewhere() -> None:
        thread = threading.Thread(target=lambda: found.append(has_interrupted()))
        thread.start()
        thread.join()

    amid(ask_elsewhere)
    assert found == [False]


def test_in_a_thread_that_others_depend_on_every_call_has_interrupted_something() -> None:
    """It runs no code of the user's: Python destroys an object there, whose end calls something."""
    found: list[bool] = []
    thread = MustNotWait(target=lambda: found.append(has_interrupted()))
    thread.start()
    thread.join()
    assert found == [True]


def test_what_we_call_on_purpose_has_interrupted_nothing() -> None:
    found: list[bool] = []

    def serialize(_: object) -> bytes:
        found.append(has_interrupted())
        return b""

    Codec(KEY, serializer=serialize).serialize("body")
    assert found == [False]


def test_what_is_done_apart_may_take_the_lock_that_was_interrupted() -> None:
    condition, done = Condition(), threading.Event()

    def work() -> None:
        with condition.lock:
            done.set()

    with condition.lock:
        do_apart(work, "a test")
        assert not done.is_set()
    assert done.wait(scaled(10))


def test_what_is_done_in_turn_keeps_its_order() -> None:
    done: list[int] = []
    for number in range(200):
        do_in_turn(lambda number=number: done.append(number), "a test")  # type: ignore[misc]
    wait_until(lambda: len(done) == 200)
    assert done == list(range(200))


def test_an_error_of_a_job_is_logged_and_ends_no_other(caplog: pytest.LogCaptureFixture) -> None:
    done = threading.Event()

    def stumble() -> None:
        raise OSError("stumbled")

    do_in_turn(stumble, "a test")
    do_in_turn(done.set, "another")
    assert done.wait(scaled(10))
    assert "a test, as the handler of a signal has asked for" in caplog.text
    caplog.clear()


def test_without_a_thread_the_caller_is_told_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(*_: object) -> int:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(_thread, "start_new_thread", none_left)
    with pytest.raises(MirosApiException, match="call it again in the main program"):
        do_apart(lambda: None, "a test")
    monkeypatch.setattr(process, "is_ending", lambda: True)
    do_apart(lambda: None, "a test")  # the end of the program does it


def test_nobody_waits_in_a_handler_for_a_lock_that_the_interrupted_thread_may_have() -> None:
    lock = threading.Lock()

    def search() -> None:
        with pytest.raises(MirosApiException, match="let the handler set a flag"):
            refuse_to_wait_for(lock, "a search")

    with lock:
        amid(search)
        refuse_to_wait_for(lock, "a search")  # in the main program, who waits gets it
    amid(lambda: refuse_to_wait_for(lock, "a search"))


def test_an_exception_while_a_conditions_lock_is_taken_cannot_leave_it_locked() -> None:
    """It can where Python code takes it, as that of `threading.Condition` does."""
    condition = Condition()
    steps = list[str]()

    def trace(frame: FrameType, _event: str, _: object) -> None:
        steps.append(frame.f_code.co_name)

    former = sys.gettrace()
    sys.settrace(trace)
    with condition.lock:
        pass
    sys.settrace(former)
    assert not steps
