"""miros's registries after this package has been imported: the same answers, and no others."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from miros import Event, return_status, signals

import miros_rabbitmq  # noqa: F401 - what importing it changes is what is tested

ASK = """
{first}
from miros import Event, return_status, signals
for name in ("ONE", "two words", "ONE", "items", "_names", "highest_inner_signal", "__class__"):
    signals.append(name)
signals["SET"] = len(signals) + 1
signals.ASKED_FOR
Event(signal="MADE")
print(list(signals.items()), list(signals.values()), list(signals), len(signals))
print([(Event(signal=n).signal_name, Event(signal=n).signal) for n in signals.values()])
print([(Event(signal=n).signal_name, Event(signal=n).signal) for n in list(signals)])
print([getattr(signals, name) for name in ("ONE", "two words", "SET", "MADE", "ASKED_FOR")])
print(signals.highest_inner_signal, callable(signals.items), isinstance(signals, dict))
print([signals.is_inner_signal(one) for one in (*signals, *signals.values(), "no", 99, None, 1.0)])
print([signals.name_for_signal(number) for number in signals.values()])
signals["ALIAS"] = signals["ONE"]
signals.append("AFTER")
print([signals.name_for_signal(number) for number in signals.values()], len(signals.values()))
del signals["highest_inner_signal"]
print(signals.highest_inner_signal, "highest_inner_signal" in signals)
print(signals.pop("two words"), signals.pop("two words", None), signals.popitem())
signals.move_to_end("ONE")
print(list(signals.items()), list(signals.values()), "two words" in signals)
print("none" in signals, "none" in signals.values(), 3 in signals.values(), 99 in signals.values())
print([(name, getattr(return_status, name)) for name in return_status], list(return_status.items()))
"""


def test_every_answer_is_the_one_of_miros() -> None:
    """Also for names that the registry itself has as attributes, which others may send."""
    answers = [
        subprocess.run(
            [sys.executable, "-W", "ignore", "-c", ASK.format(first=first)],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for first in ("", "import miros_rabbitmq")
    ]
    assert answers[0]
    assert answers[1] == answers[0]


@pytest.mark.parametrize(
    "name", ["_pairs", "items", "values", "_inner", "append", "__dict__", "_index"]
)
def test_a_signal_with_the_name_of_a_part_of_the_registry_changes_none(name: str) -> None:
    before = getattr(signals, name)
    signals.append(name)
    assert name in signals
    assert Event(signal=name).signal_name == name
    assert Event(signal=signals[name]).signal_name == name
    assert callable(before) == callable(getattr(signals, name))
    assert signals.highest_inner_signal == 10
    assert Event(signal=signals.ENTRY_SIGNAL).signal_name == "ENTRY_SIGNAL"


def test_a_signal_can_be_used_as_soon_as_it_is_there() -> None:
    """At each line of adding it: another thread may have its turn at any."""
    name = "AS_SOON_AS_IT_IS_THERE"
    looks = 0

    def look(*_: Any) -> Any:
        nonlocal looks
        sys.settrace(None)
        numbers, names = signals.values(), dict(signals.items())
        assert all(number in names.values() for number in numbers)
        assert name not in vars(signals) or Event(signal=vars(signals)[name]).signal_name == name
        if name in signals:
            assert Event(signal=signals[name]).signal_name == name
        looks += 1
        sys.settrace(look)
        return look

    before = sys.gettrace()
    sys.settrace(look)
    try:
        signals.append(name)
    finally:
        sys.settrace(before)
    assert looks > 10
    assert name in signals


def test_a_signal_that_could_not_be_added_is_forgotten_with_the_next() -> None:
    with pytest.raises(TypeError):
        signals["NO_NUMBER"] = [1]  # which cannot be looked up
    signals.append("AFTER_NO_NUMBER")
    assert "NO_NUMBER" not in signals.items().mapping
    number = signals.AFTER_NO_NUMBER
    assert Event(signal=number).signal_name == "AFTER_NO_NUMBER"


def test_a_signal_that_is_taken_out_is_unknown_afterwards() -> None:
    signals.append("SHORT_LIVED")
    number = signals.SHORT_LIVED
    del signals["SHORT_LIVED"]
    assert "SHORT_LIVED" not in signals
    assert number not in signals.values()
    assert ("SHORT_LIVED", number) not in signals.items()


def test_return_statuses_are_attributes() -> None:
    assert vars(return_status)["HANDLED"] == return_status["HANDLED"] == 4
