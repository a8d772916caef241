"""The life of a link: every step of its table, and no other."""

from __future__ import annotations

import pytest

from miros_rabbitmq.amqp.link_state import LIFE, IllegalStep, SessionState, Step, after

LEGAL = sorted(LIFE, key=lambda key: (key[0].value, key[1].name))
ILLEGAL = [(state, step) for state in SessionState for step in Step if (state, step) not in LIFE]


def name_of(value: object) -> str:
    return value.name if isinstance(value, (SessionState, Step)) else str(value)


def reachable_from(start: SessionState) -> set[SessionState]:
    found, pending = {start}, [start]
    while pending:
        here = pending.pop()
        for (state, _), next_state in LIFE.items():
            if state is here and next_state not in found:
                found.add(next_state)
                pending.append(next_state)
    return found


def test_every_state_can_be_reached() -> None:
    assert reachable_from(SessionState.NEW) == set(SessionState)


@pytest.mark.parametrize("state", SessionState, ids=name_of)
def test_every_state_leads_to_stopped(state: SessionState) -> None:
    assert SessionState.STOPPED in reachable_from(state)


@pytest.mark.parametrize("state", SessionState, ids=name_of)
def test_every_state_but_new_can_become_ready_again(state: SessionState) -> None:
    assert SessionState.READY in reachable_from(state)
    assert all(state is not SessionState.NEW for state in LIFE.values())


def test_every_step_belongs_to_some_state() -> None:
    assert {step for _, step in LIFE} == set(Step)


def test_every_running_state_can_be_closed() -> None:
    at_rest = {SessionState.NEW, SessionState.CLOSING, SessionState.STOPPED}
    for state in set(SessionState) - at_rest:
        assert LIFE[state, Step.CLOSE] is SessionState.CLOSING
    assert LIFE[SessionState.CLOSING, Step.END] is SessionState.STOPPED


def test_every_state_with_a_connection_can_lose_it_or_be_refused() -> None:
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


def test_every_step_leads_to_a_state() -> None:
    assert all(before is not state for (before, _), state in LIFE.items())


@pytest.mark.parametrize(("state", "step"), LEGAL, ids=name_of)
def test_a_step_of_the_table_leads_where_it_says(state: SessionState, step: Step) -> None:
    assert after(state, step) is LIFE[state, step]


@pytest.mark.parametrize(("state", "step"), ILLEGAL, ids=name_of)
def test_any_other_step_raises_and_names_the_link(state: SessionState, step: Step) -> None:
    with pytest.raises(IllegalStep, match=step.name) as caught:
        after(state, step, "a publisher at 127.0.0.2:5672")
    assert state.value in str(caught.value)
    assert "a publisher at 127.0.0.2:5672" in str(caught.value)
