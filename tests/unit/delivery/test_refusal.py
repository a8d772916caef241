"""Which ends of a channel or a connection a message may have caused."""

from __future__ import annotations

import pytest

from miros_rabbitmq.delivery.refusal import Refusal

PUBLISH = 60, 40
DECLARE = 40, 10


@pytest.mark.parametrize(
    ("code", "method", "is_refusal"),
    [
        (406, PUBLISH, True),
        (541, PUBLISH, True),
        (404, PUBLISH, False),
        (403, PUBLISH, False),
        (406, DECLARE, False),
        (406, (60, 80), False),
        (406, (0, 0), False),
    ],
)
def test_a_closed_channel_is_a_refusal_if_the_broker_names_basic_publish(
    code: int, method: tuple[int, int], is_refusal: bool
) -> None:
    refusal = Refusal.of_channel(code, "whatever", *method)
    assert (refusal is not None) == is_refusal
    if refusal is not None:
        assert refusal.attempts == 2


@pytest.mark.parametrize("code", [501, 502, 505, 540, 541])
def test_a_closed_connection_may_be_a_refusal_and_takes_more_to_convince(code: int) -> None:
    refusal = Refusal.of_connection(code, "whatever")
    assert refusal is not None
    assert refusal.attempts > 2
    assert not refusal.is_certain


@pytest.mark.parametrize("code", [200, 320, 402, 403, 503, 504, 506, 530])
def test_other_ends_of_a_connection_are_no_refusals(code: int) -> None:
    assert Refusal.of_connection(code, "CONNECTION_FORCED - broker forced connection") is None


@pytest.mark.parametrize(
    ("text", "most_bytes"),
    [
        (
            "PRECONDITION_FAILED - message size 150000 is larger than configured max size 100000",
            100_000,
        ),
        ("PRECONDITION_FAILED - message size 600 is larger than max size 536870912", 536_870_912),
        ("FRAME_ERROR - content body size 6 exceeds maximum allowed size 536870912", 536_870_912),
        ("PRECONDITION_FAILED - invalid expiration 'x'", None),
        ("larger than", None),
        ("", None),
    ],
)
def test_the_limit_is_read_from_what_the_broker_says(text: str, most_bytes: int | None) -> None:
    assert Refusal(406, text, is_certain=True).most_bytes == most_bytes


@pytest.mark.parametrize(
    ("text", "key"),
    [
        (
            "ACCESS_REFUSED - access to topic 'a.key' in exchange 'miros.mesh' in vhost '/' "
            "refused for user 'miros'",
            "a.key",
        ),
        ("ACCESS_REFUSED - write access to topic 'it's' in exchange 'x' in vhost '/'", "it's"),
        ("ACCESS_REFUSED - access to exchange 'miros.mesh' in vhost '/' refused for user", None),
    ],
)
def test_a_routing_key_that_is_refused_is_the_messages_fault_and_no_exchange_is(
    text: str, key: str | None
) -> None:
    refusal = Refusal.of_channel(403, text, *PUBLISH)
    assert (refusal.routing_key if refusal else None) == key
    assert Refusal.of_channel(403, text, *DECLARE) is None


def test_a_long_text_is_cut_in_the_log() -> None:
    assert str(Refusal(406, "no", is_certain=True)) == "406, 'no'"
    assert len(str(Refusal(406, "x" * 10_000, is_certain=True))) < 250
