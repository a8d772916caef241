"""The life of a link whose broker is never reached: started, stopped, started anew, forked."""

from __future__ import annotations

import contextlib
import gc
import itertools
import logging
import os
import signal
import socket
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from miros_rabbitmq.amqp.link import Link, Role
from miros_rabbitmq.amqp.link_state import SessionState
from miros_rabbitmq.amqp.message_io import Wire
from miros_rabbitmq.amqp.parameters import Endpoint
from miros_rabbitmq.amqp.reactor import Reactor
from miros_rabbitmq.exceptions import MirosApiException, OutOfResources
from miros_rabbitmq.limits import Limits
from miros_rabbitmq.logs import write_all
from miros_rabbitmq.urls import AmqpUrl

from ...helpers import end_child, scaled, wait_until

PASSWORD = "secret-of-the-test"

LONG_S = 30.0

NEVER = "amqp://user:{}@{}.never.example:5672/%2F"
"""A name whose look-up hangs, see `names`."""

NOWHERE = "amqp://user:{}@{}.nowhere.example:5672/%2F"
"""A name that does not exist."""

_numbers = itertools.count()

QUICK = Limits(
    connect_timeout_s=0.1, reconnect_min_s=0.02, reconnect_max_s=0.05, stop_timeout_s=1.0
)


class Names:
    """The name service of these tests."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.answer = threading.Event()
        self.on_asked: Callable[[], object] = lambda: None

    def getaddrinfo(self, host: str, *_: object, **__: object) -> Any:
        self.asked.append(host)
        self.on_asked()
        if "never" in host:
            assert self.answer.wait(LONG_S)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Iterator[Names]:
    names = Names()
    monkeypatch.setattr(socket, "getaddrinfo", names.getaddrinfo)
    yield names
    names.answer.set()


class User:
    """A user of a channel that never comes: notes what it is told."""

    def __init__(self) -> None:
        self.link: Link | None = None
        self.states: list[SessionState] = []
        self.lost = 0
        self.on_lost_does: Callable[[], object] = lambda: None
        self.on_state_does: Callable[[], object] = lambda: None

    def set_up(self, channel: Any) -> None:
        raise AssertionError("there is no channel")

    def on_ready(self, channel: Any, wire: Wire) -> None:
        raise AssertionError("there is no channel")

    def explain(self, error: Any) -> None:
        raise AssertionError("there is no channel")

    def probe(self, channel: Any) -> None:
        raise AssertionError("there is no channel")

    def tear_down(self, channel: Any, done: Callable[[], None]) -> None:
        raise AssertionError("there is no channel")

    def on_lost(self) -> None:
        self.lost += 1
        self.on_lost_does()

    def on_state(self) -> None:
        assert self.link is not None
        self.states.append(self.link.state)
        self.on_state_does()


class Links:
    """Makes links, and stops what a test has left running."""

    def __init__(self) -> None:
        self.reactor = Reactor("reactor of the links")
        self._made: list[Link] = []
        # The look-up of a test before may not have ended yet.
        self._host = f"broker-{next(_numbers)}"

    def make(
        self, url: str = NEVER, *, limits: Limits = QUICK, reactor: Reactor | None = None
    ) -> tuple[Link, User]:
        user = User()
        full = AmqpUrl(url.format(PASSWORD, self._host))
        link = Link(Endpoint(full, limits), Role("test link"), user, reactor or self.reactor)
        user.link = link
        self._made.append(link)
        return link, user

    def end(self) -> None:
        for link in self._made:
            link.stop(0.0)
        for link in self._made:
            assert link.wait_for_end(LONG_S)
        assert self.reactor.wait_for_end(LONG_S)


@pytest.fixture
def links(names: Names) -> Iterator[Links]:
    links = Links()
    yield links
    links.end()


def state_of(link: Link) -> SessionState:
    """Its state at this moment: mypy takes an attribute to stay as it was."""
    return link.state


def test_nothing_starts_in_the_constructor_and_what_was_not_started_has_ended(
    links: Links, names: Names
) -> None:
    link, user = links.make()
    assert link.state is SessionState.NEW
    assert not link.is_connected
    link.stop()
    assert not link.is_stopping
    assert link.wait_for_end(0.0)
    link.call_soon(lambda: pytest.fail("it does not run"))
    assert not link.run_here(lambda: True)
    assert not link.wait_until_ready(0.0)
    assert (user.states, user.lost, names.asked) == ([], 0, [])


def test_neither_its_name_nor_its_repr_nor_its_log_shows_the_password(
    links: Links, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    link, _ = links.make(NOWHERE)
    link.start()
    wait_until(lambda: link.fault is not None and link.state is SessionState.WAITING)
    texts = [repr(link), link.name, repr(link.fault), str(link.fault), repr(link.endpoint.url)]
    assert write_all(LONG_S)
    assert PASSWORD not in "".join(texts) + caplog.text
    assert f"test link at {link.address}" in repr(link)


def test_start_and_stop_may_be_called_again_and_again(links: Links, names: Names) -> None:
    link, user = links.make()
    for _ in range(3):
        link.start()
        link.start()
        assert state_of(link) is SessionState.CONNECTING
        wait_until(lambda: names.asked)
        link.stop()
        link.stop()
        assert link.is_stopping
        assert link.wait_for_end(LONG_S)
        assert link.wait_for_end(LONG_S)
        assert state_of(link) is SessionState.STOPPED
    assert user.lost == 3
    assert user.states.count(SessionState.STOPPED) == 3
    assert len(names.asked) == 1, "however often it is asked"


def test_a_link_that_waits_for_a_name_stops_at_once(links: Links, names: Names) -> None:
    link, _ = links.make(limits=Limits(stop_timeout_s=LONG_S))
    link.start()
    wait_until(lambda: names.asked)
    began_s = time.monotonic()
    link.stop()
    assert link.wait_for_end(LONG_S)
    assert time.monotonic() - began_s < scaled(5)


def test_an_answer_that_comes_after_the_end_changes_nothing(
    links: Links, names: Names, caplog: pytest.LogCaptureFixture
) -> None:
    link, user = links.make(limits=Limits())
    other, _ = links.make(limits=Limits())  # keeps the reactor
    link.start()
    other.start()
    wait_until(lambda: names.asked)
    link.stop()
    assert link.wait_for_end(LONG_S)
    states = list(user.states)
    names.answer.set()
    wait_until(lambda: other.fault is not None)
    assert user.states == states
    assert "unexpected" not in caplog.text


def test_a_name_that_nobody_resolves_is_an_attempt_that_failed(links: Links) -> None:
    link, _ = links.make(limits=Limits(connect_timeout_s=0.1))
    link.start()
    wait_until(lambda: link.fault is not None)
    assert "not answered within 0.1 s" in str(link.fault)
    assert not link.wait_until_ready(0.01)


def test_a_wait_for_a_connection_ends_with_the_link(links: Links, names: Names) -> None:
    link, _ = links.make(limits=Limits())
    link.start()
    answers: list[bool] = []
    waiting = threading.Thread(target=lambda: answers.append(link.wait_until_ready(LONG_S)))
    waiting.start()
    wait_until(lambda: names.asked)
    began_s = time.monotonic()
    link.stop()
    waiting.join()
    assert answers == [False]
    assert time.monotonic() - began_s < scaled(5)


def test_it_is_tried_again_and_again(links: Links, names: Names) -> None:
    link, user = links.make(NOWHERE)
    link.start()
    wait_until(lambda: len(names.asked) > 5)
    assert SessionState.WAITING in user.states
    assert "Name or service not known" in str(link.fault or "Name or service not known")


# A thread that is stuck.


class Stuck:
    """A reactor whose thread stands still, until it is released."""

    def __init__(self, links: Links, link: Link) -> None:
        self.released = threading.Event()
        stands = threading.Event()

        def stand_still() -> None:
            stands.set()
            assert self.released.wait(LONG_S)

        link.call_soon(stand_still)
        assert stands.wait(LONG_S)


def test_waiting_for_the_end_of_a_link_whose_thread_is_stuck_is_bounded(
    links: Links, names: Names
) -> None:
    link, _ = links.make(limits=Limits(stop_timeout_s=0.1))
    link.start()
    stuck = Stuck(links, link)
    try:
        began_s = time.monotonic()
        link.stop()
        assert not link.wait_for_end(0.05)
        assert not link.wait_for_end()
        # One that is stopping is waited for before it starts again; and says what holds it up.
        with pytest.raises(MirosApiException, match=r"has not ended .* busy with test link"):
            link.start()
        waited_s = time.monotonic() - began_s
        assert 2.0 < waited_s < scaled(20)
    finally:
        stuck.released.set()
    assert link.wait_for_end(LONG_S)
    link.start()
    assert not link.is_stopping


def test_a_start_waits_for_the_end_of_the_stop_before(links: Links) -> None:
    link, _ = links.make(limits=Limits(stop_timeout_s=LONG_S))
    link.start()
    stuck = Stuck(links, link)
    link.stop()
    restart = threading.Thread(target=link.start)
    restart.start()
    assert link.is_stopping
    stuck.released.set()
    restart.join()
    assert not link.is_stopping
    assert link.state is SessionState.CONNECTING


def test_its_own_thread_neither_waits_for_its_end_nor_starts_it_again(links: Links) -> None:
    link, _ = links.make(limits=Limits())
    link.start()
    said: list[object] = []
    done = threading.Event()

    def ask() -> None:
        link.stop()
        said.append(link.wait_for_end(LONG_S))
        try:
            link.start()
        except MirosApiException as error:
            said.append(str(error))
        done.set()

    link.call_soon(ask)
    assert done.wait(LONG_S)
    assert said[0] is False
    assert "start it from another thread" in str(said[1])
    assert link.wait_for_end(LONG_S)


def test_an_interrupted_stop_can_be_repeated(links: Links) -> None:
    link, _ = links.make(limits=Limits())
    link.start()

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(links.reactor, "submit", interrupt)
        with pytest.raises(KeyboardInterrupt):
            link.stop()
    assert link.is_stopping
    link.stop()
    assert link.wait_for_end(LONG_S)


def test_a_thread_that_cannot_be_started_leaves_the_link_as_it_was(
    links: Links, monkeypatch: pytest.MonkeyPatch
) -> None:
    link, _ = links.make()

    def fail(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", fail)
        with pytest.raises(OutOfResources):
            link.start()
    assert state_of(link) is SessionState.NEW
    link.start()
    assert state_of(link) is SessionState.CONNECTING


# Users that raise.


@pytest.mark.parametrize("hook", ["on_lost_does", "on_state_does"])
def test_a_user_that_raises_keeps_the_link_neither_from_its_next_attempt_nor_from_its_end(
    links: Links, names: Names, hook: str, caplog: pytest.LogCaptureFixture
) -> None:
    link, user = links.make(NOWHERE)

    def fail() -> None:
        if link.state is not SessionState.CONNECTING:
            raise ValueError("of the user's")

    link.start()
    wait_until(lambda: names.asked)
    setattr(user, hook, fail)
    asked = len(names.asked)
    wait_until(lambda: len(names.asked) > asked + 3)
    with contextlib.suppress(ValueError):
        link.stop()
    assert link.wait_for_end(LONG_S)
    assert link.state is SessionState.STOPPED
    setattr(user, hook, lambda: None)
    link.start()
    asked = len(names.asked)
    wait_until(lambda: len(names.asked) > asked)
    assert write_all(LONG_S)
    assert "of the user's" in caplog.text


# Several links to one broker.


def test_one_asks_for_all_and_all_are_told(links: Links, names: Names) -> None:
    limits = Limits(connect_timeout_s=0.5, reconnect_min_s=0.02, reconnect_max_s=0.05)
    many = [links.make(limits=limits)[0] for _ in range(5)]
    many[0].start()
    wait_until(lambda: many[0].fault is not None)
    for link in many[1:]:
        link.start()
    wait_until(lambda: all(link.fault is not None for link in many), 20)


def test_the_turn_of_a_link_that_stops_goes_to_another(links: Links, names: Names) -> None:
    """Also of one that was asked to stop while its attempt failed: its end came first."""
    limits = Limits(connect_timeout_s=0.1, reconnect_min_s=0.02, reconnect_max_s=0.05)
    leader, _ = links.make(NOWHERE, limits=limits)
    follower, _ = links.make(NOWHERE, limits=limits)
    leader.start()
    wait_until(lambda: len(names.asked) > 2)
    # As `stop` does in another thread, just before it has the reactor close the link.
    names.on_asked = lambda: setattr(leader, "is_stopping", True)
    assert leader.wait_for_end(LONG_S)
    asked = len(names.asked)
    follower.start()
    wait_until(lambda: len(names.asked) > asked + 2)


def test_a_leader_whose_thread_is_stuck_does_not_hold_up_the_others(
    links: Links, names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("miros_rabbitmq.amqp.link._ATTEMPT_TIMEOUTS", 0)
    limits = Limits(
        heartbeat_s=1, connect_timeout_s=0.2, reconnect_min_s=0.02, reconnect_max_s=0.05
    )
    leader, _ = links.make(NOWHERE, limits=limits)
    other_reactor = Reactor("reactor of the follower")
    follower, _ = links.make(NOWHERE, limits=limits, reactor=other_reactor)
    released, is_stuck = threading.Event(), threading.Event()
    leader.start()
    wait_until(lambda: len(names.asked) > 2)

    def stand_still() -> None:
        is_stuck.set()
        released.wait(LONG_S)

    def stick() -> None:
        if not is_stuck.is_set():
            leader.call_soon(stand_still)
            is_stuck.wait(LONG_S)

    names.on_asked = stick
    assert is_stuck.wait(LONG_S)
    try:
        # The leader has the turn, and its thread hears of nothing.
        follower.start()
        asked = len(names.asked)
        wait_until(lambda: len(names.asked) > asked + 2, 20)
    finally:
        released.set()
    follower.stop(0.0)
    assert follower.wait_for_end(LONG_S)
    assert other_reactor.wait_for_end(LONG_S)


# Forks.


def test_a_forked_child_has_no_part_in_its_parents_link_and_may_start_it_itself(
    links: Links, names: Names
) -> None:
    link, _ = links.make(limits=Limits())
    link.start()
    wait_until(lambda: names.asked)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking where there are threads
        child = os.fork()
    if child == 0:
        _be_the_child(link)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert link.state is SessionState.CONNECTING
    assert not link.is_stopping


def _be_the_child(link: Link) -> None:
    signal.alarm(int(scaled(30)))
    try:
        link.disown()  # as its user does
        assert link.is_forked
        assert link.is_stopping
        assert link.state is SessionState.STOPPED
        assert link.wait_for_end(0.0)
        assert not link.run_here(lambda: True)
        link.stop()
        link.start()
        assert not link.is_forked
        assert link.state is SessionState.CONNECTING
        link.stop()
        assert link.wait_for_end(LONG_S)
        end_child(0)
    except BaseException:  # noqa: BLE001  # the child must not run on as the parent
        sys.excepthook(*sys.exc_info())
    finally:
        end_child(1)


# Memory.


def test_thousands_of_attempts_leave_nothing_behind(links: Links, names: Names) -> None:
    limits = Limits(connect_timeout_s=1.0, reconnect_min_s=0.0005, reconnect_max_s=0.0005)
    link, _ = links.make(NOWHERE, limits=limits)
    link.start()

    def objects() -> int:
        gc.collect()
        return len(gc.get_objects())

    wait_until(lambda: len(names.asked) > 100, 20)
    before = objects()
    asked = len(names.asked)
    wait_until(lambda: len(names.asked) > asked + 1_000, 60)
    del names.asked[:]
    assert objects() - before < 2_000
