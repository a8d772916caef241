"""What a process has said lately is said in full once, and then without the remedy."""

from __future__ import annotations

import pytest

from miros_rabbitmq import faults
from miros_rabbitmq.exceptions import BrokerError
from miros_rabbitmq.said_before import KEEP_S, SaidBefore
from miros_rabbitmq.urls import Address

AT = Address("10.0.0.9", 5672)
OTHER = Address("10.0.0.8", 5672)


class Clock:
    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def test_a_fault_is_explained_once_for_each_broker() -> None:
    said = SaidBefore()
    fault = faults.nothing_listens(AT)
    assert said.fault(fault) == str(fault)
    assert said.fault(faults.nothing_listens(AT)) == f"nothing listens at {AT}, as said before"
    assert said.fault(faults.nothing_listens(OTHER)) == str(faults.nothing_listens(OTHER))


def test_it_is_explained_again_after_a_while_and_when_the_broker_was_reached() -> None:
    clock = Clock()
    said = SaidBefore(clock)
    fault = faults.nothing_listens(AT)
    said.fault(fault)
    clock.now_s += KEEP_S - 1
    assert said.fault(fault).endswith("as said before")
    clock.now_s += 1
    assert said.fault(fault) == str(fault)
    said.over(str(OTHER))
    assert said.fault(fault).endswith("as said before")
    said.over(str(AT))
    assert said.fault(fault) == str(fault)


@pytest.mark.parametrize(
    ("fault", "brief"),
    [
        (faults.unreachable(AT, "a: b"), f"no answer from {AT} (a: b)"),
        (faults.unknown_host(Address("lamp"), "gone"), "the host name 'lamp' is not known here"),
        (
            faults.access_refused(Address("::1"), "robot", "/"),
            "[::1]:5672 refuses the user 'robot'",
        ),
        (faults.queue_taken(AT, "it was deleted"), f"somebody has taken the queue at {AT}"),
        (faults.tls_failed(AT, "certificate has expired"), f"TLS with {AT} failed (certificate"),
    ],
)
def test_what_has_happened_is_left_of_a_text(fault: BrokerError, brief: str) -> None:
    said = SaidBefore()
    said.fault(fault)
    again = said.fault(fault)
    assert again.startswith(brief)
    assert again.endswith(", as said before")
    assert len(again) < len(str(fault))


def test_a_text_without_a_remedy_stays_as_it_is() -> None:
    said = SaidBefore()
    fault = faults.gave_up(AT, "it has not answered a close")
    assert said.fault(fault) == said.fault(fault) == str(fault)


def test_any_number_of_texts_takes_little_memory() -> None:
    said = SaidBefore()
    first = faults.nothing_listens(AT)
    said.fault(first)
    for port in range(1, 300):
        said.fault(faults.nothing_listens(Address("10.0.0.1", port)))
    assert said.fault(first) == str(first), "the oldest are forgotten"
