"""The end of a program, and a fork: which objects are called, in which order, despite failures."""

from __future__ import annotations

import gc
import logging
import math
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from miros_rabbitmq import process
from miros_rabbitmq.process import Stage

from ..helpers import end_child, scaled
from ..interrupting import Interruption

ROOT = Path(__file__).parents[2]

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")
pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


class Member:
    """Notes each call in a list that several members share."""

    def __init__(self, name: str, notes: list[str], broken: str = "") -> None:
        self.name = name
        self.notes = notes
        self.broken = broken
        self.began_s = 0.0

    def __repr__(self) -> str:
        return f"<{self.name}>"

    def _note(self, what: str) -> None:
        self.notes.append(f"{what} {self.name}")
        if what == self.broken:
            raise ZeroDivisionError(self.name)

    def ask_to_end(self) -> None:
        self._note("ask")

    def end(self, began_s: float) -> None:
        self.began_s = began_s
        self._note("end")

    def disown(self) -> None:
        self._note("disown")


@pytest.fixture
def register() -> Iterator[Callable[[Member, Stage], Member]]:
    """Register a member for both; other tests end without it."""
    registered: list[tuple[Member, Stage]] = []

    def add(member: Member, stage: Stage) -> Member:
        process.end_with_program(member, stage)
        process.disown_in_child(member, stage)
        registered.append((member, stage))
        return member

    yield add
    for member, stage in registered:
        process.stay(member, stage)


def in_child(act: Callable[[], object]) -> int:
    """Call something in a forked child; 0 if it returned anything true."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            status = 0 if act() else 2
        finally:
            end_child(status)
    return os.waitpid(child, 0)[1]


# The end of a program.


def test_a_program_ends_stage_by_stage_and_each_is_asked_before_any_is_waited_for(
    register: Callable[[Member, Stage], Member],
) -> None:
    notes: list[str] = []
    for stage in reversed(Stage):
        register(Member(stage.name, notes), stage)
    second = register(Member("CHARTS", notes), Stage.CHARTS)
    before_s = time.monotonic()
    process.end_all()
    assert notes == [
        *["ask CHARTS"] * 2,
        *["end CHARTS"] * 2,
        *("ask NETWORKS", "end NETWORKS"),
        *("ask CONNECTIONS", "end CONNECTIONS"),
        *("ask WORKERS", "end WORKERS"),
        *("ask BROKERS", "end BROKERS"),
    ]
    assert before_s <= second.began_s <= time.monotonic()


def test_all_members_count_from_the_same_beginning(
    register: Callable[[Member, Stage], Member],
) -> None:
    members = [register(Member(stage.name, []), stage) for stage in Stage for _ in range(3)]
    process.end_all()
    assert len({member.began_s for member in members}) == 1


@pytest.mark.parametrize("broken", ["ask", "end"])
def test_a_member_that_raises_does_not_keep_others_from_ending(
    broken: str, register: Callable[[Member, Stage], Member], caplog: pytest.LogCaptureFixture
) -> None:
    notes: list[str] = []
    for stage in Stage:
        register(Member(stage.name, notes, broken), stage)
    process.end_all()
    assert len(notes) == 2 * len(Stage)
    errors = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert errors == [f"<{stage.name}> could not be ended" for stage in Stage]


class Impatient(Member):
    """Is interrupted by the handler of a signal, so many times, while it ends."""

    def __init__(self, notes: list[str], times: int, error: type[BaseException]) -> None:
        super().__init__("impatient", notes)
        self._left = times
        self._error = error

    def end(self, began_s: float) -> None:
        super().end(began_s)
        if self._left:
            self._left -= 1
            raise self._error


def test_ctrl_c_while_a_program_ends_ends_the_waiting_of_all_that_follow(
    register: Callable[[Member, Stage], Member],
) -> None:
    notes: list[str] = []
    register(Impatient(notes, 1, KeyboardInterrupt), Stage.CHARTS)
    others = [register(Member(stage.name, notes), stage) for stage in list(Stage)[1:]]
    process.end_all()
    assert notes[:3] == ["ask impatient", "end impatient", "end impatient"]
    assert notes[3:] == [f"{do} {stage.name}" for stage in list(Stage)[1:] for do in ("ask", "end")]
    assert all(other.began_s == -math.inf for other in others)


@pytest.mark.parametrize(("error", "most"), [(KeyboardInterrupt, 2), (SystemExit, 8)])
def test_a_member_that_is_interrupted_again_and_again_is_left(
    register: Callable[[Member, Stage], Member], error: type[BaseException], most: int
) -> None:
    notes: list[str] = []
    register(Impatient(notes, 100, error), Stage.CHARTS)
    register(Member("next", notes), Stage.BROKERS)
    process.end_all()
    assert notes == ["ask impatient", *["end impatient"] * most, "ask next", "end next"]


class Quit(BaseException):
    """What some programs raise in the handler of a signal, so that nothing catches it."""


@pytest.mark.parametrize("error", [SystemExit, ValueError, Quit])
def test_what_the_handler_of_a_signal_raises_keeps_no_member_from_its_end(
    register: Callable[[Member, Stage], Member],
    error: type[BaseException],
    caplog: pytest.LogCaptureFixture,
) -> None:
    def on_signal(*_: object) -> None:
        raise error

    class Interrupted(Member):
        def end(self, began_s: float) -> None:
            super().end(began_s)
            if self.notes.count(f"end {self.name}") == 1:
                signal.raise_signal(signal.SIGUSR1)
            self.notes.append("ended")

    notes: list[str] = []
    register(Interrupted("first", notes), Stage.NETWORKS)
    register(Member("next", notes), Stage.BROKERS)
    former = signal.signal(signal.SIGUSR1, on_signal)
    try:
        process.end_all()
    finally:
        signal.signal(signal.SIGUSR1, former)
    assert notes == ["ask first", "end first", "end first", "ended", "ask next", "end next"]
    assert not caplog.messages


@pytest.mark.parametrize("error", [KeyboardInterrupt, Quit])
def test_an_interruption_at_any_step_of_the_end_keeps_no_member_from_it(
    register: Callable[[Member, Stage], Member],
    monkeypatch: pytest.MonkeyPatch,
    error: type[BaseException],
) -> None:
    def interrupt() -> None:
        raise error

    notes: list[str] = []
    for stage in Stage:
        register(Member(stage.name, notes), stage)
    whole = {f"{do} {stage.name}" for stage in Stage for do in ("ask", "end")}
    step, escaped = 0, 0
    while True:
        notes.clear()
        # Python itself lets nothing come between the taking of a lock and the body of its `with`.
        monkeypatch.setattr(process, "_lock", threading.RLock())
        one = Interruption(step, interrupt)
        try:
            one.during(process.end_all)
        except error:
            escaped += 1  # before the loop, and after it
            assert set(notes) in (set(), whole)
        else:
            assert set(notes) == whole
        if not one.has_come:
            break
        step += 1
    assert step > 200
    assert escaped < 70


def test_a_member_that_stays_or_is_garbage_is_not_ended(
    register: Callable[[Member, Stage], Member],
) -> None:
    notes: list[str] = []
    stays = register(Member("stays", notes), Stage.NETWORKS)
    process.stay(stays, Stage.NETWORKS)
    process.stay(stays, Stage.NETWORKS)
    process.end_with_program(Member("garbage", notes), Stage.NETWORKS)
    gc.collect()
    process.end_all()
    assert notes == []


def test_a_member_may_leave_and_another_may_come_while_all_end(
    register: Callable[[Member, Stage], Member],
) -> None:
    notes: list[str] = []
    late = Member("late", notes)

    class Leaving(Member):
        def end(self, began_s: float) -> None:
            super().end(began_s)
            process.stay(self, Stage.CHARTS)
            register(late, Stage.WORKERS)

    register(Leaving("leaving", notes), Stage.CHARTS)
    process.end_all()
    assert notes == ["ask leaving", "end leaving", "ask late", "end late"]
    process.end_all()
    assert notes[4:] == ["ask late", "end late"]


def run(program: str) -> tuple[float, str]:
    """Run a program that says ``ends`` when it has come to its end; how long that took, and all
    that it said besides."""
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(program)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
    ) as running:
        assert running.stdout is not None
        said = ""
        for line in running.stdout:
            if line == "ends\n":
                began_s = time.monotonic()
                break
            said += line
        else:
            raise AssertionError(said)
        said += running.stdout.read()
    return time.monotonic() - began_s, said


def test_the_end_of_a_program_ends_all_members() -> None:
    _, said = run("""
        from miros_rabbitmq import process
        class Member:
            def ask_to_end(self): print("asked")
            def end(self, began_s): print("ended")
        member = Member()
        process.end_with_program(member, process.Stage.BROKERS)
        print("ends", flush=True)
    """)
    assert said == "asked\nended\n"


def test_charts_in_long_handlers_hold_up_the_end_together_not_one_after_the_other() -> None:
    took_s, said = run("""
        import threading, time
        from miros import Event, return_status, signals, spy_on
        from miros_rabbitmq import NetworkedActiveObject

        busy = threading.Semaphore(0)

        @spy_on
        def working(chart, e):
            if e.signal == signals.WORK:
                busy.release()
                time.sleep(30)
                return return_status.HANDLED
            chart.temp.fun = chart.top
            return return_status.SUPER

        charts = [
            NetworkedActiveObject(
                f"chart {n}", "user", "password", b"A" * 43 + b"=",
                addresses=[], rabbit_host="127.0.0.2",
            )
            for n in range(10)
        ]
        for chart in charts:
            chart.nets.start = lambda: None  # no RabbitMQ here
            chart.start_at(working)
            chart.post_fifo(Event(signal=signals.WORK))
        for chart in charts:
            busy.acquire()
        print("ends", flush=True)
    """)
    assert said == ""
    assert 0.8 < took_s < 1 + scaled(4), "ten of them one after the other take 10 s"


def test_a_chart_that_is_idle_does_not_hold_up_the_end() -> None:
    _, said = run("""
        import time
        from miros import return_status, spy_on
        from miros_rabbitmq import NetworkedActiveObject, process

        @spy_on
        def idle(chart, e):
            chart.temp.fun = chart.top
            return return_status.SUPER

        chart = NetworkedActiveObject(
            "chart", "user", "password", b"A" * 43 + b"=", addresses=[], rabbit_host="127.0.0.2"
        )
        chart.nets.start = lambda: None
        chart.start_at(idle)
        print("ends", flush=True)
        began_s = time.monotonic()
        process.end_all()
        print(time.monotonic() - began_s)
    """)
    assert float(said) < scaled(0.8)


# A fork.


@forks
def test_a_forked_child_disowns_from_the_inside_out_and_ends_nothing_of_its_parents(
    register: Callable[[Member, Stage], Member],
) -> None:
    notes: list[str] = []
    for stage in Stage:
        register(Member(stage.name, notes), stage)

    def child() -> bool:
        disowned = [f"disown {stage.name}" for stage in reversed(Stage)]
        ours = [note for note in notes if note.startswith("disown")]
        process.end_all()
        return ours == disowned == notes

    assert in_child(child) == 0
    assert notes == [], "nothing happens in the parent"
    process.end_all()
    assert len(notes) == 2 * len(Stage)


@forks
def test_a_member_that_cannot_be_disowned_does_not_keep_others_from_it(
    register: Callable[[Member, Stage], Member],
) -> None:
    notes: list[str] = []
    for stage in Stage:
        register(Member(stage.name, notes, "disown"), stage)
    assert in_child(lambda: len(notes) == len(Stage)) == 0


class Interrupted(Member):
    """Is sent a signal while it forgets what belongs to the parent."""

    def disown(self) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        super().disown()


@forks
def test_ctrl_c_comes_to_a_child_only_when_everything_is_disowned(
    register: Callable[[Member, Stage], Member],
) -> None:
    """A terminal sends it to the child, too. Neither an exception nor a handler may come before."""
    notes: list[str] = []
    for stage in Stage:
        register(Interrupted(stage.name, notes), stage)
    former = signal.signal(signal.SIGINT, lambda *_: notes.append("Ctrl-C"))
    try:
        disowned = [f"disown {stage.name}" for stage in reversed(Stage)]
        assert in_child(lambda: notes == [*disowned, "Ctrl-C"]) == 0
        os.kill(os.getpid(), signal.SIGINT)
        assert notes == ["Ctrl-C"], "the parent gets its signals as before"
    finally:
        signal.signal(signal.SIGINT, former)


@forks
def test_a_member_that_is_garbage_is_not_disowned() -> None:
    notes: list[str] = []
    process.disown_in_child(Member("garbage", notes), Stage.NETWORKS)
    gc.collect()
    assert in_child(lambda: not notes) == 0


@forks
def test_a_child_registers_and_ends_its_own_members(
    register: Callable[[Member, Stage], Member],
) -> None:
    notes: list[str] = []
    parents = register(Member("parent's", notes), Stage.NETWORKS)

    def child() -> bool:
        own = register(Member("child's", notes), Stage.NETWORKS)
        notes.clear()
        process.end_all()
        return notes == ["ask child's", "end child's"] and own is not parents

    assert in_child(child) == 0


@forks
def test_a_child_of_a_child_disowns_too(register: Callable[[Member, Stage], Member]) -> None:
    notes: list[str] = []
    register(Member("grandparent's", notes), Stage.NETWORKS)
    assert in_child(lambda: in_child(lambda: len(notes) == 2) == 0) == 0


@forks
def test_threads_may_register_while_the_process_forks() -> None:
    ended = threading.Event()
    kept: list[Member] = []

    def keep_registering() -> None:
        while not ended.is_set():
            kept[:] = [Member("busy", []) for _ in range(10)]
            for member in kept:
                process.end_with_program(member, Stage.WORKERS)
                process.disown_in_child(member, Stage.WORKERS)
            for member in kept:
                process.stay(member, Stage.WORKERS)

    def child() -> bool:
        # Both would wait for ever if the lock had been another thread's at the fork.
        own = Member("own", [])
        process.end_with_program(own, Stage.CHARTS)
        process.disown_in_child(own, Stage.CHARTS)
        process.end_all()
        return own.notes == ["ask own", "end own"]

    threads = [threading.Thread(target=keep_registering) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        assert [in_child(child) for _ in range(10)] == [0] * 10
    finally:
        ended.set()
        for thread in threads:
            thread.join()


@forks
def test_a_fork_inside_a_change_of_the_same_thread_does_not_wait_for_itself() -> None:
    """A signal handler that forks may do this."""

    class Forking(Member):
        def __hash__(self) -> int:
            if not self.notes:
                self.notes.append("forked")
                assert in_child(lambda: True) == 0
            return id(self)

        def __eq__(self, other: object) -> bool:
            return self is other

    member = Forking("forking", [])
    process.end_with_program(member, Stage.WORKERS)
    process.stay(member, Stage.WORKERS)
    assert member.notes == ["forked"]
