"""What becomes of a chart when the user's code raises."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from miros_rabbitmq import Failure
from miros_rabbitmq.failures import ACTIONS, CONTINUE, RESTART, STOP, ErrorCallback
from miros_rabbitmq.nets.failing import Failures


class Node:
    """What is told."""

    def __init__(self, on_error: str | ErrorCallback) -> None:
        self.remarks: list[str] = []
        self.stops = 0
        self.now_s = 1_000.0
        self.failures = Failures(
            "robot", on_error, self.remarks.append, self.stop, clock=lambda: self.now_s
        )

    def stop(self) -> None:
        self.stops += 1

    def judge(self, error: BaseException, where: str = "handler") -> str:
        in_handler = where == "handler"
        signal, state = ("GO", "waiting") if in_handler else ("", "")
        return self.failures.judge(Failure("robot", raised(error), where, signal, state))


def raised(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as caught:  # noqa: BLE001
        return caught


@pytest.mark.parametrize("action", ACTIONS)
def test_what_was_asked_for_is_done_logged_once_and_shown(
    action: str, caplog: pytest.LogCaptureFixture
) -> None:
    node = Node(action)
    error = ValueError("too\nlarge")
    assert node.judge(error) == action
    (record,) = caplog.records
    assert record.exc_info is not None
    assert record.exc_info[1] is error
    said = "robot: the handler of GO in the state waiting has raised ValueError: too large at "
    assert record.getMessage().startswith(said)
    (remark,) = node.remarks
    assert "has raised ValueError: too large at " in remark
    assert f"{__file__}:" in remark
    assert node.failures.fatal is (error if action == STOP else None)


@pytest.mark.parametrize(
    ("returned", "action"),
    [*((each, each) for each in ACTIONS), (None, STOP), ("halt", STOP), (True, STOP)],
)
def test_a_function_decides(returned: Any, action: str, caplog: pytest.LogCaptureFixture) -> None:
    asked: list[Failure] = []

    def on_error(failure: Failure) -> Any:
        asked.append(failure)
        return returned

    node = Node(on_error)
    error = ValueError()
    assert node.judge(error) == action
    assert asked == [Failure("robot", error, "handler", "GO", "waiting")]
    is_wrong = returned not in (*ACTIONS, None)
    assert ("must return one of 'stop', 'continue', 'restart', or None" in caplog.text) == is_wrong


def test_an_error_that_cannot_be_described_is_named_by_its_class(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def refuse(_: str) -> None:
        raise KeyError  # such as a snoop that cannot show it

    node = Node(CONTINUE)
    node.failures = Failures("robot", CONTINUE, refuse, node.stop)
    assert node.judge(ValueError()) == CONTINUE
    assert "robot: a ValueError cannot be described: KeyError" in caplog.text


@pytest.mark.parametrize(
    ("action", "then"),
    [
        (STOP, "it stops"),
        (CONTINUE, "it goes on with the next event"),
        (RESTART, "it starts again from its initial state"),
    ],
)
def test_the_line_ends_with_what_becomes_of_the_chart(
    action: str, then: str, caplog: pytest.LogCaptureFixture
) -> None:
    node = Node(action)
    node.judge(ValueError())
    (record,) = caplog.records
    assert record.getMessage().endswith(f": {then}")


def test_a_function_that_raises_stops_the_chart(caplog: pytest.LogCaptureFixture) -> None:
    def on_error(_: Failure) -> str:
        raise SystemExit

    node = Node(on_error)
    error = ValueError()
    assert node.judge(error) == STOP
    assert node.failures.fatal is error
    assert "on_error raised, so the chart stops" in caplog.text


@pytest.mark.parametrize("action", [CONTINUE, RESTART])
def test_sys_exit_stops_the_chart_unless_a_function_decides_otherwise(action: str) -> None:
    assert Node(action).judge(SystemExit(3)) == STOP
    assert Node(lambda _: action).judge(SystemExit(3)) == action


def test_sys_exit_is_said_without_a_traceback(caplog: pytest.LogCaptureFixture) -> None:
    Node(STOP).judge(SystemExit(3))
    (record,) = caplog.records
    assert "SystemExit, as by sys.exit(3) at " in record.getMessage()
    assert not record.exc_info


@pytest.mark.parametrize("action", [CONTINUE, RESTART])
def test_an_error_that_comes_again_and_again_is_logged_once_a_minute(
    action: str, caplog: pytest.LogCaptureFixture
) -> None:
    node = Node(action)
    for _ in range(100):
        node.judge(ValueError())
    node.judge(TypeError())
    assert len(caplog.records) == 2
    assert len(node.remarks) == 2
    node.now_s += 1
    node.judge(ValueError())
    assert "(and 99 times since the last such line)" in node.remarks[2]
    node.now_s += 60
    node.judge(ValueError())
    assert "(and 100 times since it was logged last)" in caplog.records[2].getMessage()
    node.judge(ValueError())
    assert len(caplog.records) == 3


def test_an_error_that_ends_the_chart_is_always_logged(caplog: pytest.LogCaptureFixture) -> None:
    actions = [CONTINUE, CONTINUE, STOP]
    node = Node(lambda _: actions.pop(0))
    for _ in range(3):
        node.judge(ValueError())
    assert [record.levelno for record in caplog.records] == [logging.ERROR] * 2
    assert "(and 1 times since" in caplog.records[1].getMessage()


def test_the_first_error_is_the_one_that_ends_the_chart(caplog: pytest.LogCaptureFixture) -> None:
    asked = []

    def on_error(failure: Failure) -> str:
        asked.append(failure)
        return STOP

    node = Node(on_error)
    first, second = ValueError("first"), ValueError("second")
    assert node.judge(first) == STOP
    assert node.judge(second, "on_mesh_rx") == STOP
    assert node.failures.fatal is first
    assert len(asked) == 1
    node.failures.begin()
    assert node.failures.fatal is None
    assert node.judge(second) == STOP
    assert node.failures.fatal is second


def test_what_on_error_has_not_decided_about_is_raised_if_the_chart_has_stopped() -> None:
    waiting: list[BaseException] = []

    def on_error(failure: Failure) -> str:
        with pytest.raises(ValueError, match="first") as caught:
            node.failures.raise_fatal()
        waiting.append(caught.value)
        assert node.failures.fatal is None
        return actions.pop()

    node = Node(on_error)
    actions = [STOP, CONTINUE]
    error = ValueError("first")
    assert node.judge(error) == CONTINUE
    node.failures.raise_fatal()
    assert node.judge(error) == STOP
    with pytest.raises(ValueError, match="first"):
        node.failures.raise_fatal()
    assert waiting == [error, error]
    node.failures.begin()
    node.failures.raise_fatal()


class Rude(Exception):
    """Cannot be described."""

    def __str__(self) -> str:
        raise SystemExit


class Unshown:
    """Cannot be shown."""

    def __repr__(self) -> str:
        raise OSError


@pytest.mark.parametrize("error", [Rude(), SystemExit(Unshown()), ValueError("\udc80")])
@pytest.mark.parametrize("action", ACTIONS)
def test_an_error_that_cannot_be_described_is_judged_like_any_other(
    error: BaseException, action: str, caplog: pytest.LogCaptureFixture
) -> None:
    node = Node(lambda _: action)
    assert node.judge(error) == action
    assert node.failures.fatal is (error if action == STOP else None)
    assert len(caplog.records) == 1


def test_of_a_long_text_a_line_shows_the_beginning(caplog: pytest.LogCaptureFixture) -> None:
    node = Node(STOP)
    node.judge(ValueError("long" * 10_000))
    for line in (caplog.records[0].getMessage(), *node.remarks):
        assert "longlong ... (39,512 characters more)" in line


def test_an_error_outside_of_any_event_is_one_of_the_entry(
    caplog: pytest.LogCaptureFixture,
) -> None:
    node = Node(STOP)
    node.failures.judge(Failure("robot", raised(ValueError("no")), "handler"))
    assert "robot: the entry into its initial state has raised ValueError: no" in caplog.text


def test_only_what_has_raised_first_stops_the_chart() -> None:
    node = Node(STOP)
    first, second = (node.failures.of_callback(where) for where in ("on_mesh_rx", "on_spy_rx"))
    node.judge(ValueError())
    first(raised(ValueError()))
    assert not node.failures.is_of_callback
    assert node.stops == 0
    node.failures.begin()
    first(raised(ValueError()))
    second(raised(ValueError()))
    assert node.judge(ValueError()) == STOP
    assert node.failures.is_of_callback
    assert node.stops == 1


class Unequal(ValueError):
    """Cannot be compared."""

    def __eq__(self, other: object) -> bool:
        raise TypeError

    __hash__ = None  # type: ignore[assignment]


def test_errors_are_told_apart_by_identity() -> None:
    def on_error(failure: Failure) -> str:
        if failure.where == "handler":
            assert node.judge(Unequal(), "on_mesh_rx") == CONTINUE
            with pytest.raises(Unequal):
                node.failures.raise_fatal()
        return CONTINUE

    node = Node(on_error)
    assert node.judge(Unequal()) == CONTINUE
    node.failures.raise_fatal()


@pytest.mark.parametrize("action", ACTIONS)
def test_a_callback_stops_the_chart_or_is_called_again(
    action: str, caplog: pytest.LogCaptureFixture
) -> None:
    node = Node(action)
    node.failures.of_callback("on_peers_changed")(raised(KeyError("x")))
    assert node.stops == (action == STOP)
    then = "it stops" if action == STOP else "it goes on with the next event"
    assert "robot: on_peers_changed has raised KeyError: 'x' at " in caplog.text
    assert f": {then}" in caplog.text


def test_so_many_places_are_remembered(caplog: pytest.LogCaptureFixture) -> None:
    node = Node(CONTINUE)
    kinds = [type(f"Error{number}", (Exception,), {}) for number in range(200)]
    for kind in kinds:
        node.judge(kind())
    assert len(caplog.records) == 200
    node.judge(kinds[-1]())
    node.judge(kinds[0]())
    assert len(caplog.records) == 201, "the first was forgotten, the last was not"
