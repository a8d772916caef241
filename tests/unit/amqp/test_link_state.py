"""The life of a session: every step of its table, and no other."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from miros_rabbitmq.amqp.link_state import LIFE, IllegalStep, SessionState, Step
from miros_rabbitmq.amqp.session import Session

URL = "amqp://user:canary@127.0.0.2:5672/%2F"

LEGAL = sorted(LIFE, key=lambda key: (key[0].value, key[1].name))
ILLEGAL = [(state, step) for state in SessionState for step in Step if (state, step) not in LIFE]


def name_of(value: object) -> str:
    return value.name if isinstance(value, (SessionState, Step)) else str(value)


def session_in(state: SessionState, changes: list[SessionState] | None = None) -> Session:
    """A session in some state, which was never started: it has no thread and no socket."""
    told = [] if changes is None else changes
    session = Session(URL, role="test", on_change=lambda: told.append(session.state))
    session._state = state
    return session


def reachable_from(start: SessionState) -> set[SessionState]:
    found, pending = {start}, [start]
    while pending:
        here = pending.pop()
        for (state, _), after in LIFE.items():
            if state is here and after not in found:
                found.add(after)
                pending.append(after)
    return found


def test_a_session_begins_new_and_touches_nothing() -> None:
    session = Session(URL, role="test")
    assert session.state is SessionState.NEW
    assert session.fault is None
    assert not session.is_connected
    assert session.stop_thread() is True
    assert session.state is SessionState.NEW


def test_every_state_can_be_reached() -> None:
    assert reachable_from(SessionState.NEW) == set(SessionState)


@pytest.mark.parametrize("state", SessionState, ids=name_of)
def test_every_state_leads_to_stopped(state: SessionState) -> None:
    assert SessionState.STOPPED in reachable_from(state)


@pytest.mark.parametrize("state", SessionState, ids=name_of)
def test_every_state_but_new_can_become_ready_again(state: SessionState) -> None:
    assert SessionState.READY in reachable_from(state)
    assert all(after is not SessionState.NEW for after in LIFE.values())


def test_every_step_is_one_of_some_state() -> None:
    assert {step for _, step in LIFE} == set(Step)


def test_whatever_runs_can_be_closed() -> None:
    at_rest = {SessionState.NEW, SessionState.CLOSING, SessionState.STOPPED}
    for state in set(SessionState) - at_rest:
        assert LIFE[state, Step.CLOSE] is SessionState.CLOSING
    assert LIFE[SessionState.CLOSING, Step.END] is SessionState.STOPPED


def test_whatever_has_a_connection_can_lose_it_or_be_refused() -> None:
    live = {state for state, step in LIFE if step is Step.LOSE}
    assert live == {
        SessionState.CONNECTING,
        SessionState.OPENING,
        SessionState.READY,
        SessionState.BLOCKED,
    }
    for state in live:
        assert LIFE[state, Step.LOSE] is SessionState.WAITING
        assert LIFE[state, Step.REFUSE] is SessionState.REFUSED


def test_no_step_leads_nowhere() -> None:
    assert all(state is not after for (state, _), after in LIFE.items())


@pytest.mark.parametrize(("state", "step"), LEGAL, ids=name_of)
def test_a_step_of_the_table_leads_where_it_says_and_is_told_once(
    state: SessionState, step: Step
) -> None:
    changes: list[SessionState] = []
    session = session_in(state, changes)
    session._step(step)
    assert session.state is LIFE[state, step]
    assert changes == [LIFE[state, step]]


@pytest.mark.parametrize("state", SessionState, ids=name_of)
def test_any_other_step_raises_changes_nothing_and_is_told_to_nobody(state: SessionState) -> None:
    changes: list[SessionState] = []
    session = session_in(state, changes)
    for step in (step for at, step in ILLEGAL if at is state):
        with pytest.raises(IllegalStep, match=step.name) as caught:
            session._step(step)
        assert session.state is state
        assert changes == []
        assert state.value in str(caught.value)
        assert "test at 127.0.0.2:5672" in str(caught.value)
        assert "canary" not in str(caught.value)


@pytest.mark.parametrize("state", SessionState, ids=name_of)
def test_ready_and_blocked_are_connected(state: SessionState) -> None:
    connected = {SessionState.READY, SessionState.BLOCKED}
    assert session_in(state).is_connected == (state in connected)


@pytest.mark.parametrize(
    "state",
    [
        SessionState.READY,
        SessionState.BLOCKED,
        SessionState.REFUSED,
        SessionState.CLOSING,
        SessionState.STOPPED,
    ],
    ids=name_of,
)
def test_waiting_for_it_ends_at_once_where_nothing_is_to_be_waited_for(
    state: SessionState,
) -> None:
    session = session_in(state)
    assert session.wait_until_ready(30) == session.is_connected


def test_waiting_for_what_does_not_come_ends_at_its_timeout() -> None:
    assert session_in(SessionState.WAITING).wait_until_ready(0.001) is False


@settings(deadline=None, max_examples=100)
@given(st.lists(st.sampled_from(Step), max_size=40))
def test_any_life_goes_by_the_table(steps: list[Step]) -> None:
    session, state = session_in(SessionState.NEW), SessionState.NEW
    refused: Counter[Step] = Counter()
    for step in steps:
        try:
            session._step(step)
        except IllegalStep:
            refused[step] += 1
            assert (state, step) not in LIFE
        else:
            state = LIFE[state, step]
        assert session.state is state


def test_the_repr_shows_address_and_state_and_no_password() -> None:
    assert repr(session_in(SessionState.WAITING)) == "<Session 127.0.0.2:5672 waiting>"
