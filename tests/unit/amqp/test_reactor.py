"""The reactor: whatever one lane does, the others are served, and they lose nothing."""

from __future__ import annotations

import errno
import gc
import inspect
import logging
import os
import random
import selectors
import signal
import socket
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from miros_rabbitmq.amqp.reactor import (
    READ,
    WRITE,
    Lane,
    Reactor,
    Timer,
)
from miros_rabbitmq.exceptions import OutOfResources
from miros_rabbitmq.logs import MustNotWait, must_not_wait, write_all
from miros_rabbitmq.resources import news

from ...helpers import end_child, scaled, wait_until

NAME = "reactor under test"

POLLERS = [selectors.DefaultSelector, selectors.SelectSelector]
POLLERS += [
    getattr(selectors, name)
    for name in ("PollSelector", "EpollSelector")
    if hasattr(selectors, name) and getattr(selectors, name) is not selectors.DefaultSelector
]

LONG_S = 30.0
"""A time that means a hang: much longer than the reactor ever waits by itself."""


class Rig:
    """A reactor, its lanes, and what was raised in each of them."""

    def __init__(
        self, poller: Callable[[], selectors.BaseSelector] = selectors.DefaultSelector
    ) -> None:
        self.reactor = Reactor(NAME, poller)
        self.lanes: list[Lane] = []
        self.errors: dict[str, list[BaseException]] = {}

    def lane(self, name: str = "lane") -> Lane:
        errors = self.errors[name] = []
        lane = self.reactor.attach(name, errors.append, lambda _: None)
        self.lanes.append(lane)
        return lane

    def call(self, lane: Lane, job: Callable[[], Any] = lambda: None) -> Any:
        """Call something in the reactor's thread, and wait for what it returns."""
        done = threading.Event()
        result: list[Any] = []

        def run() -> None:
            try:
                result.append(job())
            finally:
                done.set()

        lane.call_soon(run)
        assert done.wait(LONG_S), "a callback that is never called"
        return result[0] if result else None

    def fire(self, lane: Lane) -> None:
        """Have a timer run, and wait for it."""
        fired = threading.Event()
        self.call(lane, lambda: lane.call_later(0.0, fired.set))
        assert fired.wait(LONG_S), "a timer that never comes"

    def end(self) -> None:
        for lane in self.lanes:
            lane.call_soon(lane.close)
        assert self.reactor.wait_for_end(LONG_S)
        assert write_all(LONG_S)


@pytest.fixture
def rig() -> Iterator[Rig]:
    rig = Rig()
    yield rig
    rig.end()


@pytest.fixture(params=POLLERS, ids=lambda poller: poller.__name__)
def polled(request: pytest.FixtureRequest) -> Iterator[Rig]:
    """A rig with each of the pollers that Python has here."""
    rig = Rig(request.param)
    yield rig
    rig.end()


@contextmanager
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two ends of a connection; a test may have closed one."""
    near, far = socket.socketpair()
    with near, far:
        near.setblocking(False)
        far.setblocking(False)
        yield near, far


@contextmanager
def held(lane: Lane) -> Iterator[Callable[[], None]]:
    """Have another thread inside `run_here`, until the end or until what is yielded is called."""
    inside, leave = threading.Event(), threading.Event()

    def stay() -> bool:
        inside.set()
        assert leave.wait(LONG_S)
        return True

    thread = threading.Thread(target=lane.run_here, args=(stay,))

    def let_go() -> None:
        leave.set()
        thread.join()

    thread.start()
    try:
        assert inside.wait(LONG_S)
        yield let_go
    finally:
        let_go()


class Watched:
    """A poller that notes how it is asked to wait."""

    def __init__(self) -> None:
        self.timeouts: list[float] = []
        self.stretch = 1.0
        """Waits are this many times as long as they were to be."""
        self.before_select: Callable[[float], list[Any] | None] = lambda timeout: None

    def __call__(self) -> selectors.BaseSelector:
        watched = self

        class Selector(selectors.DefaultSelector):
            def select(self, timeout: float | None = None) -> Any:
                assert timeout is not None
                watched.timeouts.append(timeout)
                answer = watched.before_select(timeout)
                return super().select(timeout * watched.stretch) if answer is None else answer

        return Selector()


# Timers.


def test_timers_come_in_the_order_of_their_times(rig: Rig) -> None:
    lane, other = rig.lane("one"), rig.lane("other")
    step_s = 0.002
    numbers = list(range(100))
    random.Random(7).shuffle(numbers)
    # Planned within one step, their order is known; a busy machine may need several tries.
    for _ in range(50):
        order: list[int] = []
        took_s: list[float] = []

        def plan(order: list[int] = order, took_s: list[float] = took_s) -> None:
            began_s = time.monotonic()
            for number in numbers:
                one = lane if number % 2 else other
                one.call_later(step_s * number, partial(order.append, number))
            took_s.append(time.monotonic() - began_s)

        rig.call(lane, plan)
        wait_until(lambda order=order: len(order) == len(numbers))  # type: ignore[misc]
        if took_s[0] < step_s:
            break
    assert took_s[0] < step_s
    assert order == sorted(numbers)


def test_timers_of_one_time_come_in_the_order_in_which_they_were_asked_for(rig: Rig) -> None:
    lane = rig.lane()
    order: list[int] = []

    def plan() -> None:
        for number in range(50):
            lane.call_later(-1.0, partial(order.append, number))

    rig.call(lane, plan)
    wait_until(lambda: len(order) == 50)
    assert order == list(range(50))


def test_a_timer_of_another_thread_wakes_the_reactor(rig: Rig) -> None:
    lane = rig.lane()
    rig.call(lane)
    fired = threading.Event()
    assert lane.run_here(lambda: bool(lane.call_later(0.01, fired.set)))
    assert fired.wait(scaled(20)), "sooner than the reactor wakes by itself"


def test_a_cancelled_timer_is_not_called(rig: Rig) -> None:
    lane = rig.lane()
    called: list[str] = []

    def plan() -> None:
        first = lane.call_later(0.0, lambda: called.append("cancelled at once"))
        lane.cancel(first)
        lane.cancel(first)
        lane.cancel(None)
        second = lane.call_later(0.005, lambda: called.append("cancelled by a timer"))
        lane.call_later(0.0, lambda: lane.cancel(second))
        lane.call_later(0.02, lambda: called.append("kept"))

    rig.call(lane, plan)
    wait_until(lambda: called)
    assert called == ["kept"]


def test_a_timer_that_was_due_while_its_lane_had_to_wait_can_still_be_cancelled(rig: Rig) -> None:
    lane = rig.lane()
    called: list[str] = []
    timers: list[Timer] = []
    rig.call(lane, lambda: timers.append(lane.call_later(0.05, lambda: called.append("cancelled"))))
    with held(lane) as let_go:
        lane.call_soon(lambda: lane.cancel(timers[0]))
        time.sleep(0.1)
        let_go()
        rig.call(lane)
        rig.fire(lane)
    assert called == []


def test_cancelled_timers_do_not_pile_up(rig: Rig) -> None:
    """Each attempt to connect leaves a few of them, whose times are far away."""
    lane = rig.lane()
    gc.collect()
    before = count(Timer)
    kept = rig.call(lane, lambda: [lane.call_later(3600.0, print) for _ in range(500)])

    def plan_and_cancel() -> None:
        for _ in range(100):
            lane.cancel(lane.call_later(3600.0, print))

    for _ in range(100):
        rig.call(lane, plan_and_cancel)
    rig.call(lane)
    assert count(Timer) - before < 2_000
    assert all(timer.callback is not None for timer in kept)


def count(kind: type) -> int:
    return sum(type(one) is kind for one in gc.get_objects())


# Calls and wake-ups.


def test_what_many_threads_have_called_is_called_once_and_in_order(polled: Rig) -> None:
    lanes = [polled.lane(f"lane {number}") for number in range(4)]
    threads, calls = 8, 1_500
    called: dict[int, list[int]] = {number: [] for number in range(threads)}

    def ask(thread: int) -> None:
        for number in range(calls):
            lanes[thread % 4].call_soon(partial(called[thread].append, number))

    workers = [threading.Thread(target=ask, args=(number,)) for number in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    wait_until(lambda: all(len(one) >= calls for one in called.values()), 30)
    assert all(one == list(range(calls)) for one in called.values())


def test_no_wake_up_is_lost(polled: Rig) -> None:
    """A call for which nobody is woken would come 10 s later."""
    lane = polled.lane()
    polled.call(lane)
    slowest_s = [0.0]

    def ask_again_and_again() -> None:
        for _ in range(300):
            done = threading.Event()
            began_s = time.monotonic()
            lane.call_soon(done.set)
            assert done.wait(LONG_S)
            slowest_s[0] = max(slowest_s[0], time.monotonic() - began_s)

    workers = [threading.Thread(target=ask_again_and_again) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert slowest_s[0] < scaled(5)


def test_nothing_is_called_for_a_lane_that_was_closed_in_its_own_callback(rig: Rig) -> None:
    lane, other = rig.lane("closed"), rig.lane("other")
    called: list[str] = []
    with pair() as (near, far):
        far.send(b"x")

        def plan_and_close() -> None:
            lane.call_later(0.0, lambda: called.append("timer"))
            lane.watch(near.fileno(), READ, lambda *_: called.append("handler"))
            lane.call_soon(lambda: called.append("callback"))
            lane.close()

        lane.call_soon(plan_and_close)
        lane.call_soon(lambda: called.append("callback of another thread"))
        rig.call(other)
        rig.fire(other)
        assert lane.run_here(lambda: True) is False
        assert called == []


# Errors.


ERRORS = [ValueError, SystemExit, KeyboardInterrupt]


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("kind", ["callback", "timer", "handler", "callback that waited"])
def test_what_is_raised_reaches_its_own_link_alone(
    polled: Rig, error: type[BaseException], kind: str
) -> None:
    lane, other = polled.lane("guilty"), polled.lane("other")
    served: list[int] = []
    with pair() as (near, far), pair() as (guilty, its_far), ExitStack() as stack:

        def fail(*_: object) -> None:
            lane.unwatch(guilty.fileno())
            raise error("of one lane")

        polled.call(other, lambda: other.watch(near.fileno(), READ, read_into(near, served)))
        if kind == "timer":
            polled.call(lane, lambda: lane.call_later(0.0, fail))
        elif kind == "handler":
            polled.call(lane, lambda: lane.watch(guilty.fileno(), READ, fail))
            its_far.send(b"x")
        else:
            if kind == "callback that waited":
                stack.enter_context(held(lane))
            lane.call_soon(fail)
            lane.call_soon(lambda: served.append(-1))
        far.send(b"\x05")
        polled.fire(other)
        stack.close()
        wait_until(lambda: polled.errors["guilty"] and 5 in served)
        # The lane itself goes on, too: its link decides what becomes of it.
        polled.fire(lane)
        polled.fire(other)
        assert [type(one) for one in polled.errors["guilty"]] == [error]
        assert polled.errors["other"] == []
        assert (-1 in served) == kind.startswith("callback")


def read_into(sock: socket.socket, numbers: list[int]) -> Callable[[int, int], object]:
    """A handler that notes each byte that arrives."""
    return lambda fd, events: numbers.extend(sock.recv(100))


@pytest.mark.parametrize("error", ERRORS)
def test_a_link_that_cannot_handle_its_error_is_logged_and_costs_no_other(
    error: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    rig = Rig()

    def fail(*_: object) -> None:
        raise error("once more")

    lane = rig.reactor.attach("helpless", fail, lambda _: None)
    rig.lanes.append(lane)
    other = rig.lane("other")
    lane.call_soon(fail)
    rig.fire(other)
    rig.fire(lane)
    rig.end()
    assert "helpless: an error could not be handled" in caplog.text


def test_a_reactor_that_fails_itself_goes_on_and_does_not_flood_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    watched = Watched()
    rig = Rig(watched)
    lane = rig.lane()
    rig.call(lane)
    rounds = len(watched.timeouts)

    def fail(_timeout: float) -> None:
        raise RuntimeError("of a poller that is broken")

    watched.before_select = fail
    lane.call_soon(lambda: None)
    time.sleep(1.0)
    watched.before_select = lambda _: None
    rig.fire(lane)
    rig.end()
    assert len(watched.timeouts) - rounds >= 2
    assert 1 <= sum("unexpected error" in one.getMessage() for one in caplog.records) < 15


# A lane that is held.


def test_a_lane_that_is_held_stops_no_other_and_is_served_in_order_as_soon_as_it_is_free(
    polled: Rig,
) -> None:
    lane, other = polled.lane("held"), polled.lane("other")
    order: list[object] = []
    served: list[int] = []
    with pair() as (near, far), pair() as (others, others_far):
        polled.call(lane, lambda: lane.watch(near.fileno(), READ, read_into(near, served)))
        polled.call(other, lambda: other.watch(others.fileno(), READ, read_into(others, served)))
        polled.call(lane, lambda: lane.call_later(0.3, lambda: order.append("timer")))
        due_s = time.monotonic() + 0.3
        with held(lane) as let_go:
            lane.call_soon(lambda: order.append(0))
            far.send(b"\x01")
            for number in range(1, 4):
                lane.call_soon(partial(order.append, number))
            others_far.send(b"\x02")
            polled.call(other)
            polled.fire(other)
            wait_until(lambda: 2 in served)
            wait_until(lambda: time.monotonic() > due_s)
            lane.call_soon(lambda: order.append(4))
            polled.fire(other)
            assert order == []
            assert served == [2]
            let_go()
            wait_until(lambda: len(order) == 6 and 1 in served)
        assert [one for one in order if one != "timer"] == [0, 1, 2, 3, 4]
        assert order.index("timer") > order.index(0)
        far.send(b"\x03")
        wait_until(lambda: 3 in served)


def test_a_lane_that_is_held_burns_no_processor_time() -> None:
    watched = Watched()
    rig = Rig(watched)
    lane = rig.lane("held")
    with pair() as (near, far):
        served: list[int] = []
        rig.call(lane, lambda: lane.watch(near.fileno(), READ, read_into(near, served)))
        with held(lane) as let_go:
            far.send(b"\x01")  # stays readable all the time
            lane.call_soon(lambda: None)
            wait_until(lambda: watched.timeouts[-1] > 0)
            rounds = len(watched.timeouts)
            began_s, processor_s = time.monotonic(), time.process_time()
            time.sleep(0.5)
            rounds = len(watched.timeouts) - rounds
            processor_s = time.process_time() - processor_s
            waited_s = time.monotonic() - began_s
            let_go()
            wait_until(lambda: served == [1])
    rig.end()
    assert rounds <= waited_s / 0.02 + 5
    assert processor_s < waited_s / 2


def test_a_thread_that_leaves_a_lane_wakes_the_reactor_for_it() -> None:
    watched = Watched()
    rig = Rig(watched)
    lane = rig.lane("held")
    called, waits = threading.Event(), threading.Event()

    def note_the_wait(timeout: float) -> None:
        if timeout > 0 and not lane.is_free():
            waits.set()

    with held(lane) as let_go:
        watched.stretch = 1_000.0  # it would look again by itself: not in these tests
        watched.before_select = note_the_wait
        lane.call_soon(called.set)
        assert waits.wait(LONG_S)
        began_s = time.monotonic()
        let_go()
        assert called.wait(LONG_S)
        assert time.monotonic() - began_s < scaled(5)
    watched.stretch = 1.0
    rig.end()


def test_what_had_to_wait_comes_before_what_is_called_after_the_lane_was_let_go() -> None:
    rig = Rig()
    lane, other = rig.lane("held"), rig.lane("other")
    order: list[int] = []
    with held(lane) as let_go:
        lane.call_soon(partial(order.append, 0))
        rig.call(other)

        def plan() -> None:  # both are called in one round, before it looks at who waits
            other.call_soon(let_go)
            lane.call_soon(partial(order.append, 1))

        rig.call(other, plan)
        wait_until(lambda: len(order) == 2)
    rig.end()
    assert order == [0, 1]


def test_a_lane_that_was_let_go_before_the_reactor_waits_is_not_waited_for() -> None:
    """Between its last look at the lane and the wait: nobody could have woken it."""
    watched = Watched()
    rig = Rig(watched)
    lane, other = rig.lane("held"), rig.lane("other")
    called = threading.Event()
    since: list[int] = []
    with held(lane) as let_go:

        def let_it_go() -> None:  # timers are the last of a round
            let_go()
            since.append(len(watched.timeouts))

        lane.call_soon(called.set)
        rig.call(other)  # the lane stands aside by now
        rig.call(other, lambda: other.call_later(0.0, let_it_go))
        assert called.wait(LONG_S)
    rig.end()
    assert watched.timeouts[since[0]] == 0.0


def test_a_thread_that_enters_a_lane_again_and_again_makes_way_for_the_reactor() -> None:
    """A thread that transmits in a loop writes to a socket in there, which lets others run."""
    rig = Rig()
    lane = rig.lane()
    rig.call(lane)
    is_over = threading.Event()
    entered = 0

    def work() -> bool:
        nonlocal entered
        entered += 1
        time.sleep(0.001)
        return True

    def work_on() -> None:
        while not is_over.is_set():
            lane.run_here(work)

    worker = threading.Thread(target=work_on)
    worker.start()
    wait_until(lambda: entered)
    before = entered
    for _ in range(50):
        rig.call(lane)
    times = entered - before
    is_over.set()
    worker.join()
    rig.end()
    assert times < 5 * 50


# `run_here`.


def test_run_here_returns_the_result_of_the_job_and_refuses_while_another_is_at_work(
    rig: Rig,
) -> None:
    lane = rig.lane()
    assert lane.run_here(lambda: True) is True
    assert lane.run_here(lambda: False) is False
    with held(lane):
        assert lane.run_here(lambda: True) is False
    assert lane.run_here(lambda: True) is True
    # Within the lane there is no second entry.
    assert rig.call(lane, lambda: lane.run_here(lambda: True)) is False
    assert rig.call(lane, must_not_wait) is True
    assert must_not_wait() is False


def test_the_handler_of_a_signal_that_comes_within_run_here_is_refused(rig: Rig) -> None:
    lane = rig.lane()
    answers: list[bool] = []
    before = signal.signal(signal.SIGUSR1, lambda *_: answers.append(lane.run_here(lambda: True)))

    def job() -> bool:
        signal.raise_signal(signal.SIGUSR1)
        # The outer one is still inside.
        assert answers == [False]
        with pytest.raises(AssertionError), held(lane):
            pass
        return True

    try:
        shorter = pytest.MonkeyPatch()
        shorter.setattr(f"{__name__}.LONG_S", 0.2)
        assert lane.run_here(job) is True
    finally:
        shorter.undo()
        signal.signal(signal.SIGUSR1, before)
    check_that_it_is_usable(rig, lane)


def check_that_it_is_usable(rig: Rig, lane: Lane) -> None:
    rig.call(lane)
    wait_until(lane.is_free)  # the reactor's thread may not have left it yet
    answers: list[bool] = []
    thread = threading.Thread(target=lambda: answers.append(lane.run_here(lambda: True)))
    thread.start()
    thread.join()
    assert answers == [True]


def lines_of_run_here() -> list[tuple[int, str]]:
    source, first = inspect.getsourcelines(Lane.run_here)
    return [(first + at, line.strip()) for at, line in enumerate(source)]


@pytest.mark.parametrize("is_held", [False, True], ids=["free", "held"])
def test_an_exception_at_any_line_of_run_here_leaves_the_lane_free(rig: Rig, is_held: bool) -> None:
    """Python looks for signals after calls and at jumps back, so never right before the release."""
    lane = rig.lane()
    texts = dict(lines_of_run_here())
    release = next(number for number, text in texts.items() if text == "self._lock.release()")
    raised = 0
    for number in range(1, 100):
        with ExitStack() as stack:
            if is_held:
                stack.enter_context(held(lane))
            lines = stack.enter_context(interrupted_at(number, {release - 1, release}))
            lane.run_here(lambda: True)
        check_that_it_is_usable(rig, lane)
        if lines[0] < number:
            break
        raised += 1
    assert raised >= 5


@contextmanager
def interrupted_at(number: int, but_for: set[int]) -> Iterator[list[int]]:
    """Raise KeyboardInterrupt at one of the lines that `run_here` goes through; count them."""
    lines = [0]

    def trace(frame: Any, event: str, _: Any) -> Any:
        if frame.f_code is not Lane.run_here.__code__:
            return None
        if event == "line" and frame.f_lineno not in but_for:
            lines[0] += 1
            if lines[0] == number:
                raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield lines
    except KeyboardInterrupt:
        pass
    finally:
        sys.settrace(before)


def test_an_interrupted_run_here_leaves_the_lane_free(rig: Rig) -> None:
    """With real signals, which come wherever Python lets them."""
    lane = rig.lane()
    interrupts = [0]

    def interrupt(*_: object) -> None:
        interrupts[0] += 1
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGVTALRM, interrupt)
    deadline_s = time.monotonic() + scaled(10)
    try:
        while interrupts[0] < 300 and time.monotonic() < deadline_s:
            try:
                signal.setitimer(signal.ITIMER_VIRTUAL, random.uniform(0.00001, 0.002))
                while True:
                    lane.run_here(lambda: True)
            except KeyboardInterrupt:
                pass
            assert lane.is_free()
            check_that_it_is_usable(rig, lane)
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
    assert interrupts[0] > 20


# Time.


def test_what_has_arrived_is_read_before_timers_after_a_callback_that_took_long(
    polled: Rig,
) -> None:
    lane, slow = polled.lane(), polled.lane("slow")
    order: list[str] = []
    with pair() as (near, far):
        polled.call(lane, lambda: lane.watch(near.fileno(), READ, read_once(near, order)))

        def stand_still() -> None:
            lane.call_later(0.01, lambda: order.append("timer"))
            time.sleep(0.1)
            far.send(b"x")

        polled.call(slow, stand_still)
        wait_until(lambda: len(order) == 2)
    assert order == ["data", "timer"]


def test_what_has_arrived_is_read_between_a_timer_that_took_long_and_the_next(
    polled: Rig,
) -> None:
    lane, slow = polled.lane(), polled.lane("slow")
    order: list[str] = []
    with pair() as (near, far):
        polled.call(lane, lambda: lane.watch(near.fileno(), READ, read_once(near, order)))

        def stand_still() -> None:
            time.sleep(0.1)
            far.send(b"x")

        def plan() -> None:
            slow.call_later(0.0, stand_still)
            lane.call_later(0.0, lambda: order.append("timer"))

        polled.call(slow, plan)
        wait_until(lambda: len(order) == 2)
    assert order == ["data", "timer"]


def test_what_arrives_while_many_timers_are_due_waits_for_few_of_them(polled: Rig) -> None:
    """Such as the looks after all links of a process with a hundred charts."""
    lane, busy = polled.lane(), polled.lane("busy")
    order: list[str] = []
    with pair() as (near, far):
        polled.call(lane, lambda: lane.watch(near.fileno(), READ, read_once(near, order)))

        def work() -> None:
            if not order:
                far.send(b"x")
            order.append("timer")
            began_s = time.monotonic()
            while time.monotonic() - began_s < 0.001:
                pass

        def plan() -> None:
            for _ in range(50):
                busy.call_later(0.0, work)

        polled.call(busy, plan)
        wait_until(lambda: len(order) == 51)
    assert order.index("data") <= 4


def test_what_has_arrived_is_read_before_timers_after_the_program_was_stopped() -> None:
    """A poller that is paused for longer than its wait only says that time is up."""
    watched = Watched()
    rig = Rig(watched)
    lane = rig.lane()
    order: list[str] = []
    clock: list[float] = []
    wall: list[float] = []
    with pair() as (near, far):
        rig.call(lane, lambda: lane.watch(near.fileno(), READ, read_once(near, order)))

        def note() -> None:
            order.append("timer")
            clock.append(rig.reactor.clock())
            wall.append(time.monotonic())

        def stop(timeout: float) -> list[Any] | None:
            if not 0.1 < timeout < 1:
                return None
            watched.before_select = lambda _: None
            time.sleep(timeout + 1.0)
            far.send(b"x")
            return []

        def plan() -> None:
            clock.append(rig.reactor.clock())
            wall.append(time.monotonic())
            watched.before_select = stop
            lane.call_later(0.2, note)

        rig.call(lane, plan)
        wait_until(lambda: len(order) == 2)
    rig.end()
    assert order == ["data", "timer"]
    stood_still_s = (wall[1] - wall[0]) - (clock[1] - clock[0])
    assert stood_still_s > 0.5, "of the second for which it was stopped"


def read_once(sock: socket.socket, order: list[str]) -> Callable[[int, int], object]:
    return lambda fd, events: order.append("data") if sock.recv(100) else None


def test_the_clock_stands_still_while_the_reactor_does_and_never_goes_back(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    slow, lane = rig.lane("the slow one"), rig.lane()
    times: list[float] = []
    wall: list[float] = []

    def note() -> None:
        times.append(rig.reactor.clock())
        wall.append(time.monotonic())

    def stand_still() -> None:
        note()
        lane.call_later(0.0, note)
        for _ in range(6):
            time.sleep(0.2)
            note()

    rig.call(slow, stand_still)
    rig.call(lane, note)
    rig.fire(lane)
    rig.call(lane, note)
    assert write_all(LONG_S)
    assert times == sorted(times)
    stood_still_s = (wall[-1] - wall[0]) - (times[-1] - times[0])
    assert stood_still_s > 0.4, "of the 1.2 s that the slow one took"
    assert any(
        "stood still" in one.getMessage() and "the slow one" in one.getMessage()
        for one in caplog.records
    )


def test_timers_that_may_come_early_come_together_and_none_comes_late(rig: Rig) -> None:
    lane = rig.lane()
    came: list[tuple[float, float]] = []

    def note(due_s: float) -> None:
        came.append((time.monotonic(), due_s))

    def set_timers() -> None:
        for number in range(20):
            delay_s = 0.5 + 0.02 * number
            lane.call_later(delay_s, partial(note, time.monotonic() + delay_s), 0.4)

    rig.call(lane, set_timers)
    wait_until(lambda: len(came) == 20)
    assert all(due_s - 0.41 <= at_s for at_s, due_s in came)
    rounds = {round(at_s, 1) for at_s, _ in came}
    assert len(rounds) <= 4, "two times of the grid, and a busy machine"


def test_the_clock_runs_while_the_reactor_waits(rig: Rig) -> None:
    lane = rig.lane()
    before = rig.call(lane, rig.reactor.clock)
    time.sleep(0.6)
    assert rig.call(lane, rig.reactor.clock) - before >= 0.55


def test_the_reactor_can_tell_what_it_is_doing(rig: Rig) -> None:
    lane = rig.lane("the busy one")
    leave = threading.Event()
    lane.call_soon(lambda: leave.wait(LONG_S))
    wait_until(lambda: "the busy one" in rig.reactor.busy())
    assert not rig.reactor.wait_for_end(0.01)
    leave.set()
    wait_until(lambda: rig.reactor.busy() == "")


# Descriptors.


def test_a_descriptor_is_handled_for_what_it_is_watched_for(polled: Rig) -> None:
    lane = polled.lane()
    seen: list[tuple[int, int]] = []
    with pair() as (near, far):
        fd = near.fileno()

        def handle(fd: int, events: int) -> None:
            seen.append((fd, events))
            lane.unwatch(fd)

        polled.call(lane, lambda: lane.watch(fd, WRITE, handle))
        wait_until(lambda: seen == [(fd, WRITE)])
        polled.call(lane, lambda: lane.watch(fd, READ, handle))
        polled.fire(lane)
        assert len(seen) == 1
        far.send(b"x")
        wait_until(lambda: seen[1:] == [(fd, READ)])

        def watch_for_both() -> None:
            lane.watch(fd, READ, handle)
            lane.watch(fd, READ | WRITE, handle)

        polled.call(lane, watch_for_both)
        wait_until(lambda: seen[2:] == [(fd, READ | WRITE)])
        polled.fire(lane)
        assert lane.descriptors == []
        lane.unwatch(fd)


def test_a_descriptor_that_other_code_closes_stops_no_other_lane(
    polled: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    lane, other = polled.lane("robbed"), polled.lane("other")
    served: list[int] = []
    with pair() as (near, _), pair() as (others, others_far):
        fd = near.fileno()
        polled.call(other, lambda: other.watch(others.fileno(), READ, read_into(others, served)))
        polled.call(lane, lambda: lane.watch(fd, READ, lambda fd, _: os.read(fd, 10)))
        polled.call(other, lambda: os.close(near.detach()))
        for number in range(3):
            others_far.send(bytes((number,)))
            wait_until(partial(served.__contains__, number))
            polled.fire(other)
        polled.call(lane, lambda: lane.unwatch(fd))
        polled.fire(lane)
        assert write_all(LONG_S)
        assert polled.errors["other"] == []
        assert all(isinstance(one, OSError) for one in polled.errors["robbed"])
        assert len(caplog.records) < 5


@pytest.mark.parametrize("events", [READ, READ | WRITE])
def test_a_number_that_is_used_again_belongs_to_the_lane_that_uses_it(
    polled: Rig, events: int
) -> None:
    former, lane = polled.lane("former"), polled.lane()
    served: list[int] = []
    with pair() as (near, _), pair() as (new, new_far):
        fd = near.fileno()
        polled.call(former, lambda: former.watch(fd, READ, lambda *_: served.append(-1)))

        def use_again() -> None:
            near.close()
            assert os.dup2(new.fileno(), fd) == fd
            lane.watch(fd, events, lambda fd, events: note_read(fd, events, served))

        def note_read(fd: int, events: int, served: list[int]) -> None:
            if events & READ:
                served.extend(os.read(fd, 10))

        polled.call(lane, use_again)
        new_far.send(b"\x01")
        wait_until(lambda: served == [1])
        # The former one does not take it away.
        polled.call(former, lambda: former.unwatch(fd))
        new_far.send(b"\x02")
        wait_until(lambda: served == [1, 2])
        polled.call(lane, lambda: lane.unwatch(fd))
        os.close(fd)
    assert polled.errors == {"former": [], "lane": []}


def test_watching_a_descriptor_that_cannot_be_watched_raises(polled: Rig, tmp_path: Path) -> None:
    lane, other = polled.lane(), polled.lane("other")
    said: list[BaseException] = []

    def ask(fd: int) -> None:
        try:
            lane.watch(fd, READ, print)
        except (OSError, ValueError) as error:
            said.append(error)

    polled.call(lane, lambda: ask(-1))
    assert len(said) == 1
    with open(tmp_path / "file", "wb") as file:
        polled.call(lane, lambda: ask(file.fileno()))
        polled.fire(other)
        # Only epoll minds, and says so.
        assert lane.descriptors == [file.fileno()] * (len(said) == 1)
        polled.call(lane, lambda: lane.unwatch(file.fileno()))


def test_a_poller_that_other_code_closes_is_made_anew(caplog: pytest.LogCaptureFixture) -> None:
    made: list[Any] = []

    def poller() -> selectors.BaseSelector:
        made.append(selectors.DefaultSelector())
        return made[-1]  # type: ignore[no-any-return]

    rig = Rig(poller)
    lane, other = rig.lane(), rig.lane("held")
    served: list[int] = []
    with pair() as (near, far), pair() as (helds, helds_far):
        rig.call(lane, lambda: lane.watch(near.fileno(), READ, read_into(near, served)))
        rig.call(other, lambda: other.watch(helds.fileno(), READ, read_into(helds, served)))
        with held(other):
            other.call_soon(lambda: None)
            rig.call(lane, lambda: os.close(made[-1].fileno()))
            wait_until(lambda: len(made) == 2)
        far.send(b"\x01")
        helds_far.send(b"\x02")
        wait_until(lambda: sorted(served) == [1, 2])
        rig.fire(lane)
        rig.end()
    assert rig.errors == {"lane": [], "held": []}
    assert len(caplog.records) <= 1


def test_a_reactor_without_a_poller_logs_it_once_and_works_when_it_gets_one(
    caplog: pytest.LogCaptureFixture,
) -> None:
    missing = [5]
    news.forget()

    def poller() -> selectors.BaseSelector:
        if missing[0]:
            missing[0] -= 1
            raise OSError(errno.EMFILE, "Too many open files")
        return selectors.DefaultSelector()

    rig = Rig(poller)
    lane = rig.lane()
    served: list[int] = []
    with pair() as (near, far):
        # Callbacks and timers come all the same, and a link can say why it cannot connect.
        rig.fire(lane)
        assert missing[0] > 0
        rig.call(lane, lambda: lane.watch(near.fileno(), READ, print))
        assert [type(one) for one in rig.errors["lane"]] == [OutOfResources]
        wait_until(lambda: missing[0] == 0, 20)
        rig.fire(lane)
        rig.call(lane, lambda: lane.watch(near.fileno(), READ, read_into(near, served)))
        far.send(b"\x01")
        wait_until(lambda: served == [1])
    rig.end()
    assert [one.levelno for one in caplog.records if one.levelno > logging.INFO] == [
        logging.WARNING
    ]
    assert "file descriptors" in caplog.text


# Life.


def reactor_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == NAME]


def test_the_thread_lives_from_the_first_lane_to_the_last_and_again() -> None:
    rig = Rig()
    assert reactor_threads() == []
    for _ in range(3):
        rig.lanes.clear()
        first, second = rig.lane("first"), rig.lane("second")
        rig.call(second)
        assert len(reactor_threads()) == 1
        first.call_soon(first.close)
        rig.fire(second)
        assert not rig.call(second, lambda: rig.reactor.wait_for_end(LONG_S)), "at once"
        assert not rig.reactor.wait_for_end(0.0)
        rig.end()
        wait_until(lambda: not reactor_threads())


def test_a_thread_that_cannot_be_started_leaves_nothing_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rig = Rig()

    def fail(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(MustNotWait, "start", fail)
        with pytest.raises(OutOfResources):
            rig.lane()
    assert rig.reactor.wait_for_end(0.0)
    rig.fire(rig.lane())
    rig.end()


def test_a_start_that_is_interrupted_leaves_at_most_one_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The caller of a start waits until the thread runs, and may be interrupted meanwhile."""
    rig = Rig()

    def start_and_be_interrupted(thread: threading.Thread) -> None:
        threading.Thread.start(thread)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(MustNotWait, "start", start_and_be_interrupted)
        with pytest.raises(KeyboardInterrupt):
            rig.lane()
        # Nobody looks in between.
    lane = rig.lane()
    rig.fire(lane)
    wait_until(lambda: len(reactor_threads()) == 1)
    rig.end()


def test_a_forked_child_has_a_reactor_of_its_own_and_does_not_disturb_the_parents(
    polled: Rig,
) -> None:
    lane, held_lane = polled.lane(), polled.lane("held")
    served: list[int] = []
    with pair() as (near, far), held(held_lane):
        polled.call(lane, lambda: lane.watch(near.fileno(), READ, read_into(near, served)))
        with warnings.catch_warnings():
            # From Python 3.12 on, of forking where there are threads: it is what is tested.
            warnings.simplefilter("ignore", DeprecationWarning)
            child = os.fork()
        if child == 0:
            _be_the_child(polled, lane)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        far.send(b"\x01")
        wait_until(lambda: served == [1])
        polled.fire(lane)


def _be_the_child(rig: Rig, former: Lane) -> None:
    signal.alarm(int(scaled(30)))  # a child that hangs
    try:
        assert not former.is_open
        assert rig.reactor.busy() == ""
        assert former.run_here(lambda: True) is False
        former.call_soon(lambda: end_child(3))
        rig.lanes.clear()
        lane = rig.lane("of the child")
        served: list[int] = []
        with pair() as (near, far):
            rig.call(lane, lambda: lane.watch(near.fileno(), READ, read_into(near, served)))
            far.send(b"\x07")
            wait_until(lambda: served == [7])
            rig.fire(lane)
        rig.end()
        end_child(0)
    except BaseException:  # noqa: BLE001  # the child must not run on as the parent
        sys.excepthook(*sys.exc_info())
    finally:
        end_child(1)


def test_a_lane_that_its_owner_never_got_holds_up_no_end(rig: Rig) -> None:
    """The exit of a signal handler, while the first lane is opened, must not leave the thread."""
    kept: list[Lane | None] = []

    def keep(lane: Lane | None) -> None:
        kept.append(lane)
        if lane is not None:
            raise SystemExit

    with pytest.raises(SystemExit):
        rig.reactor.attach("nobody's", lambda _: None, keep)
    assert kept[1:] == [None]
    assert rig.reactor.wait_for_end(LONG_S)
