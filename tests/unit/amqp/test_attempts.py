"""One attempt at a time at a broker that does not answer: which link tries, and what others do."""

from __future__ import annotations

import warnings
from os import _exit, fork, waitpid, waitstatus_to_exitcode

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from miros_rabbitmq import faults
from miros_rabbitmq.amqp.attempts import Attempts
from miros_rabbitmq.exceptions import BrokerError
from miros_rabbitmq.urls import Address

URL, OTHER_URL = "amqp://one", "amqp://other"

PATIENCE_S = 20.0

FAULT = faults.nothing_listens(Address("127.0.0.1", 5672))


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


class Told:
    """A link that notes what it is told."""

    def __init__(self, attempts: Attempts, url: str = URL) -> None:
        self._attempts, self._url = attempts, url
        self.told: list[BrokerError | str] = []

    def on_broker_back(self) -> None:
        self.told.append("back")

    def on_others_failure(self, fault: BrokerError) -> None:
        self.told.append(fault)

    def begin(self) -> bool:
        return self._attempts.begin(self._url, self, PATIENCE_S)

    def fail(self) -> None:
        self._attempts.fail(self._url, self, FAULT)

    def succeed(self) -> None:
        self._attempts.succeed(self._url, self)

    def withdraw(self) -> None:
        self._attempts.withdraw(self._url, self)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def attempts(clock: Clock) -> Attempts:
    return Attempts(clock)


def links(attempts: Attempts, count: int = 3) -> list[Told]:
    return [Told(attempts) for _ in range(count)]


def test_all_try_at_once_while_no_attempt_has_failed(attempts: Attempts) -> None:
    assert all(link.begin() for link in links(attempts))


def test_after_a_failure_one_tries_and_its_failure_is_told_to_those_who_wait(
    attempts: Attempts,
) -> None:
    first, second, third = links(attempts)
    first.fail()
    assert second.begin()
    assert second.begin(), "it has the turn already"
    assert not third.begin()
    assert not first.begin()
    second.fail()
    assert [link.told for link in (first, second, third)] == [[FAULT], [], [FAULT]]
    assert third.begin(), "the turn is anybody's again"
    assert not second.begin()


def test_after_a_success_all_connect_at_once(attempts: Attempts) -> None:
    first, second, third = links(attempts)
    first.fail()
    assert first.begin()
    assert not second.begin()
    assert not third.begin()
    first.succeed()
    assert [link.told for link in (first, second, third)] == [[], ["back"], ["back"]]
    assert all(link.begin() for link in (first, second, third))


def test_a_link_that_was_trying_before_the_failure_succeeds_or_fails_by_itself(
    attempts: Attempts,
) -> None:
    first, second, third = links(attempts)
    assert first.begin()
    assert second.begin()
    first.fail()
    assert third.begin()
    second.fail()
    assert third.told == [], "it has the turn, so its failure is its own"
    assert not second.begin()
    assert not first.begin()
    third.fail()
    assert first.told == second.told == [FAULT]
    # And a success of any link counts for all.
    assert second.begin()
    third.succeed()
    assert first.told == [FAULT, "back"]
    assert second.told == [FAULT, "back"]


def test_a_link_that_stops_passes_its_turn_on(attempts: Attempts) -> None:
    first, second, third = links(attempts)
    first.fail()
    assert first.begin()
    assert not second.begin()
    assert not third.begin()
    third.withdraw()
    assert second.told == [], "it had no turn"
    first.withdraw()
    assert second.told == ["back"]
    assert third.told == []
    assert second.begin()


def test_nobody_is_kept_when_all_have_stopped(attempts: Attempts) -> None:
    first, second, third = links(attempts)
    first.fail()
    assert first.begin()
    assert not second.begin()
    for link in (first, second, third):
        link.withdraw()
    assert all(link.begin() for link in links(attempts)), "nothing is known of the broker"
    assert third.told == []


def test_brokers_have_nothing_to_do_with_each_other(attempts: Attempts) -> None:
    first, second = links(attempts, 2)
    elsewhere = [Told(attempts, OTHER_URL) for _ in range(3)]
    first.fail()
    assert all(link.begin() for link in elsewhere)
    assert first.begin()
    elsewhere[0].fail()
    assert elsewhere[1].begin()
    elsewhere[1].succeed()
    elsewhere[2].withdraw()
    assert first.told == second.told == []
    assert not second.begin()
    assert elsewhere[0].told == ["back"]


def test_a_stuck_link_loses_its_turn(attempts: Attempts, clock: Clock) -> None:
    stuck, second, third = links(attempts)
    stuck.fail()
    assert stuck.begin()
    clock.now_s += PATIENCE_S / 2
    assert stuck.begin(), "asked again, its turn is no longer for that"
    clock.now_s += PATIENCE_S / 2 - 1
    assert not second.begin()
    clock.now_s += 1
    assert second.begin()
    assert not third.begin(), "one at a time"
    # A late result of the stuck link changes nothing for the link that has the turn.
    stuck.fail()
    stuck.withdraw()
    assert second.told == third.told == []
    assert not third.begin()
    second.fail()
    assert third.told == [FAULT]


def test_a_forked_child_begins_anew(attempts: Attempts) -> None:
    first, second = links(attempts, 2)
    first.fail()
    assert first.begin()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking where there are threads
        child = fork()
    if child == 0:
        is_new = second.begin() and first.begin()
        _exit(0 if is_new else 1)
    assert waitstatus_to_exitcode(waitpid(child, 0)[1]) == 0
    assert not second.begin()


NUMBERS = st.integers(0, 5)


class Played(Told):
    """A link as `Link` is one: idle, waiting for another, trying, connected, or stuck in a try."""

    def __init__(self, attempts: Attempts) -> None:
        super().__init__(attempts)
        self.state = "idle"
        self.has_turn = False
        """It began after an attempt had failed, and no other has succeeded since."""


class Play(RuleBasedStateMachine):
    """Six links that ask, try, succeed, fail, hang, hear and stop in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        attempts = Attempts(self.clock)
        self.links = [Played(attempts) for _ in range(6)]
        # Those who have failed, or have asked after a failure: since the last success.
        self.members: set[Played] = set()

    def leave(self, link: Played, state: str) -> None:
        link.state = state
        link.has_turn = False

    @rule(number=NUMBERS)
    def ask(self, number: int) -> None:
        link = self.links[number]
        if link.state not in ("idle", "waiting"):
            return
        is_absent = bool(self.members)
        may_try = link.begin()
        assert may_try or is_absent
        link.state = "trying" if may_try else "waiting"
        link.has_turn = may_try and is_absent
        if is_absent:
            self.members.add(link)

    @rule(number=NUMBERS)
    def fail(self, number: int) -> None:
        link = self.links[number]
        if link.state in ("trying", "stuck", "connected"):
            self.leave(link, "idle")
            self.members.add(link)
            link.fail()

    @rule(number=NUMBERS)
    def succeed(self, number: int) -> None:
        link = self.links[number]
        if link.state in ("trying", "stuck"):
            self.leave(link, "connected")
            self.members.clear()
            for other in self.links:
                other.has_turn = False
            link.succeed()

    @rule(number=NUMBERS)
    def stop(self, number: int) -> None:
        link = self.links[number]
        self.leave(link, "idle")
        link.told.clear()
        self.members.discard(link)
        link.withdraw()

    @rule()
    def hang(self) -> None:
        """The link that tries is stuck; after a while, those that wait ask again."""
        self.clock.now_s += PATIENCE_S
        for link in self.links:
            if link.state == "trying":
                self.leave(link, "stuck")
        for number, link in enumerate(self.links):
            if link.state == "waiting":
                self.ask(number)

    @rule(number=NUMBERS)
    def hear(self, number: int) -> None:
        """What one is told comes in its own thread, so perhaps late."""
        link = self.links[number]
        told, link.told = link.told, []
        for what in told:
            if link.state == "waiting":
                if what == "back":
                    self.ask(number)
                else:
                    link.state = "idle"

    @invariant()
    def one_at_a_time_has_a_turn(self) -> None:
        assert sum(link.has_turn for link in self.links) <= 1

    @invariant()
    def nobody_waits_while_nobody_tries(self) -> None:
        waiting = any(link.state == "waiting" and not link.told for link in self.links)
        # One that is stuck is noticed by those who wait, see `hang`.
        tries = any(link.has_turn or link.state == "stuck" for link in self.links)
        assert tries or not waiting


TestPlay = Play.TestCase
TestPlay.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
