"""Names of signals from the network: which are accepted."""

from __future__ import annotations

import pytest

from miros_rabbitmq.exceptions import MessageRejected, RejectReason
from miros_rabbitmq.nets.signal_names import INNER_SIGNALS, check_name


@pytest.mark.parametrize("name", ["", "x" * 256, "a\nb", "\x1b[2J", "\u202egnp", "\ud800", "a\0"])
def test_a_name_that_cannot_be_shown_is_rejected(name: str) -> None:
    with pytest.raises(MessageRejected) as caught:
        check_name(name)
    assert caught.value.reason is RejectReason.SIGNAL_NAME


@pytest.mark.parametrize("name", ["A", "x" * 255, "two words", "Grün", "信号"])
def test_any_printable_name_passes(name: str) -> None:
    check_name(name)


@pytest.mark.parametrize("name", sorted(INNER_SIGNALS))
def test_no_inner_signal_of_miros_passes(name: str) -> None:
    with pytest.raises(MessageRejected) as caught:
        check_name(name)
    assert caught.value.reason is RejectReason.INNER_SIGNAL
