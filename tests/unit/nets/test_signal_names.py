"""Names of signals from the network: which are accepted, how many, and from many threads."""

from __future__ import annotations

import sys
import threading

import pytest
from miros import Event, signals

from miros_rabbitmq.exceptions import MessageRejected, RejectReason
from miros_rabbitmq.nets import registry, signal_names
from miros_rabbitmq.nets.signal_names import admit_name, check_name


@pytest.fixture(autouse=True)
def _none_added_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    registry.install()
    monkeypatch.setattr(signal_names, "_added", 0)


@pytest.mark.parametrize("name", ["", "x" * 256, "a\nb", "\x1b[2J", "\u202egnp", "\ud800", "a\0"])
def test_a_name_that_cannot_be_shown_is_rejected(name: str) -> None:
    with pytest.raises(MessageRejected) as caught:
        check_name(name)
    assert caught.value.reason is RejectReason.SIGNAL_NAME


@pytest.mark.parametrize("name", ["A", "x" * 255, "two words", "Grün", "信号"])
def test_any_printable_name_passes(name: str) -> None:
    check_name(name)


def test_the_names_that_others_add_are_bounded_and_known_ones_are_not_counted() -> None:
    signals.append("KNOWN_HERE")
    for name in ("KNOWN_HERE", "ADDED_1", "ADDED_2", "ADDED_1", "KNOWN_HERE"):
        assert admit_name(name, 2) == name
    with pytest.raises(MessageRejected) as caught:
        admit_name("ADDED_3", 2)
    assert caught.value.reason is RejectReason.TOO_MANY_SIGNALS
    assert "ADDED_3" not in signals
    assert admit_name("ADDED_2", 2) == "ADDED_2"


def test_names_added_by_many_threads_have_numbers_of_their_own() -> None:
    """Events can be made meanwhile, for which miros searches all signals."""
    began = threading.Barrier(5)
    errors: list[Exception] = []
    interval_s = sys.getswitchinterval()

    def add(thread: int) -> None:
        began.wait()
        try:
            for n in range(300):
                if thread % 2:
                    admit_name(f"THREAD_{thread}_{n}", 10_000)
                else:
                    Event(signal=f"LOCAL_{thread}_{n}")
                assert Event(signal=signals.ENTRY_SIGNAL).signal_name == "ENTRY_SIGNAL"
        except Exception as error:  # noqa: BLE001 - any that a thread may raise
            errors.append(error)

    threads = [threading.Thread(target=add, args=(n,)) for n in range(5)]
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval_s)
    assert errors == []
    numbers = list(signals.values())
    assert len(set(numbers)) == len(numbers)
