"""A budget pays for what reading a pickle takes, and refuses more."""

from __future__ import annotations

import pytest

from miros_rabbitmq.wire.opcodes import OpcodeRefused
from miros_rabbitmq.wire.pickle_cost import (
    MAX_MEMORY_BYTES,
    MAX_NUMBER_KEYS,
    MAX_STEPS,
    USUAL_BYTES,
    Budget,
)


def test_it_pays_for_as_many_steps_as_there_are() -> None:
    budget = Budget(1)
    budget.take_steps(MAX_STEPS)
    with pytest.raises(OpcodeRefused, match=f"more than {MAX_STEPS:,} steps"):
        budget.take_steps(1)


def test_it_pays_for_as_much_memory_as_there_is() -> None:
    budget = Budget(USUAL_BYTES)
    budget.take_memory(MAX_MEMORY_BYTES)
    with pytest.raises(OpcodeRefused, match=f"more than {MAX_MEMORY_BYTES:,} bytes of memory"):
        budget.take_memory(1)


def test_a_pickle_larger_than_usual_has_a_larger_budget() -> None:
    budget = Budget(3 * USUAL_BYTES)
    assert budget.steps == 3 * MAX_STEPS
    assert budget.memory == 3 * MAX_MEMORY_BYTES


def test_number_keys_are_paid_for_in_any_portions() -> None:
    for portion in (1, 10, MAX_NUMBER_KEYS):
        budget = Budget(1)
        for count in range(0, MAX_NUMBER_KEYS, portion):
            budget.take_squares(portion * (portion + 2 * count))
        assert 0 <= budget.steps < MAX_STEPS // 5
        with pytest.raises(OpcodeRefused, match="neither text nor bytes"):
            budget.take_squares(MAX_NUMBER_KEYS**2)
