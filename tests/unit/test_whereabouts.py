"""Where a thread is, as the log tells it."""

from __future__ import annotations

import json
import runpy
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from miros_rabbitmq.whereabouts import frames_of, local_in, place_in, place_of
from tests.helpers import scaled, wait_until


class Wait:
    """A user's function, and one of Python that waits for a long time inside of it."""

    def __init__(self) -> None:
        self.may_go_on = threading.Event()
        self.entered = threading.Event()

    def handler(self, number: int) -> None:
        self.entered.set()
        self.may_go_on.wait(scaled(30) + number)

    def in_a_library(self) -> None:
        def hook(pairs: Any) -> Any:
            self.handler(0)
            return pairs

        json.loads("{}", object_pairs_hook=hook)


@contextmanager
def waiting(wait: Wait, function: Any) -> Iterator[int]:
    thread = threading.Thread(target=function)
    thread.start()
    try:
        assert wait.entered.wait(scaled(20))
        ident = thread.ident
        assert ident is not None
        wait_until(lambda: "which waits" in place_of(ident))
        yield ident
    finally:
        wait.may_go_on.set()
        thread.join()


def test_it_is_the_innermost_place_in_the_users_code_and_what_that_waits_in() -> None:
    wait = Wait()
    with waiting(wait, lambda: wait.handler(1)) as ident:
        users, _, inner = place_of(ident).partition(", which waits in ")
    line = Wait.handler.__code__.co_firstlineno + 2
    assert users == f"{__file__}:{line} in handler"
    assert "threading.py:" in inner
    assert inner.endswith("in wait")


def test_what_the_user_calls_through_a_library_is_found_too() -> None:
    wait = Wait()
    with waiting(wait, wait.in_a_library) as ident:
        assert " in handler, which waits in " in place_of(ident)


def test_where_nothing_is_the_users_an_installed_program_is_better_than_python(
    tmp_path: Path,
) -> None:
    path = tmp_path / "site-packages" / "app.py"
    path.parent.mkdir()
    path.write_text("import threading\ndef run(event):\n    event.wait()\n", encoding="utf-8")
    run = runpy.run_path(str(path))["run"]
    go_on = threading.Event()
    thread = threading.Thread(target=run, args=(go_on,))
    thread.start()
    try:
        wait_until(lambda: "app.py:3 in run, which waits in" in place_of(thread.ident))
    finally:
        go_on.set()
        thread.join()


@pytest.mark.parametrize("ident", [None, 1])
def test_a_thread_that_has_ended_is_nowhere(ident: int | None) -> None:
    assert place_of(ident) == ""
    assert local_in(frames_of(ident), Wait.handler.__code__, "number") is None


def test_it_finds_a_local_variable_of_a_function_that_a_thread_is_in() -> None:
    wait = Wait()
    with waiting(wait, lambda: wait.handler(7)) as ident:
        assert local_in(frames_of(ident), Wait.handler.__code__, "number") == 7
        assert local_in(frames_of(ident), Wait.handler.__code__, "unknown") is None
        assert local_in(frames_of(ident), Wait.in_a_library.__code__, "self") is None


def test_where_an_error_was_raised_is_the_innermost_place_of_the_user(tmp_path: Path) -> None:
    try:
        json.loads("{")
    except ValueError as error:
        place = place_in(error.__traceback__)
    assert place.startswith(f"{__file__}:")
    assert place.endswith("in test_where_an_error_was_raised_is_the_innermost_place_of_the_user")
    assert place_in(None) == ""


def test_the_line_is_the_one_that_raised_though_the_function_has_gone_on() -> None:
    def raising() -> BaseException:
        try:
            raise ValueError
        except ValueError as error:
            caught = error
        return caught

    first = raising.__code__.co_firstlineno
    assert f":{first + 2} in" in place_in(raising().__traceback__)
