"""Each frame is judged by where the dialogue is, what its channel is for, and how much may come."""

from __future__ import annotations

from typing import Any

import pika.frame
import pytest
from pika import spec

from miros_rabbitmq.amqp.conduct import MOST_BODY, Conduct, Misconduct
from miros_rabbitmq.exceptions import AccessRefused, BrokerUnreachable
from miros_rabbitmq.urls import Address

from ...amqp import (
    DIALOGUE,
    FRAME_MAX,
    HEARTBEAT,
    OPEN_OK,
    START,
    TUNE,
    Endless,
    body,
    channel_open_ok,
    deliver,
    header,
    method,
    opened,
    raw,
    returned,
)

AT = Address("10.0.0.1")
OURS, TAG = 3, "tag"


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def new(clock: Any = Clock()) -> Conduct:  # noqa: B008 - it stands still
    return Conduct(FRAME_MAX, clock)


def test_the_dialogue_of_a_broker_passes_unchanged() -> None:
    conduct = new()
    for frame in (*DIALOGUE, HEARTBEAT, method(spec.Connection.Blocked("memory"))):
        assert conduct.judge(frame) == frame


@pytest.mark.parametrize(
    ("before", "frame"),
    [
        ((), TUNE),
        ((), OPEN_OK),
        ((), HEARTBEAT),
        ((), method(spec.Connection.Close(320, "x", 0, 0))),
        ((), method(spec.Connection.Secure("x"))),
        ((), header(0, 1)),
        ((), method(spec.Channel.OpenOk(), 1)),
        ((START,), START),
        ((START,), OPEN_OK),
        ((START,), method(spec.Connection.Secure("x"))),
        ((START,), method(spec.Connection.Blocked("x"))),
        ((START, TUNE), TUNE),
        ((START, TUNE), START),
        (DIALOGUE, START),
        (DIALOGUE, TUNE),
        (DIALOGUE, OPEN_OK),
        (DIALOGUE, method(spec.Connection.Secure("x"))),
        (DIALOGUE, method(spec.Connection.UpdateSecret(b"x", "y"))),
        (DIALOGUE, method(spec.Basic.Ack(1))),
        (DIALOGUE, raw(spec.FRAME_HEARTBEAT, 0, b"x")),
        (DIALOGUE, body(0, b"x")),
        (DIALOGUE, channel_open_ok(1)),
    ],
)
def test_a_method_out_of_order_is_refused(before: tuple[bytes, ...], frame: bytes) -> None:
    conduct = new()
    for one in before:
        conduct.judge(one)
    with pytest.raises(Misconduct) as caught:
        conduct.judge(frame)
    fault = caught.value.fault(AT)
    assert isinstance(fault, BrokerUnreachable)
    assert ("is not a RabbitMQ that this package can use" in str(fault)) == (not before)


def test_after_the_broker_has_closed_the_connection_nothing_counts() -> None:
    conduct = opened(OURS)
    close = method(spec.Connection.Close(320, "bye", 0, 0))
    assert conduct.judge(close) == close
    for frame in (START, body(9, b"x"), deliver(OURS, TAG)):
        assert conduct.judge(frame) == b""
    assert conduct.amid


@pytest.mark.parametrize(
    ("start", "kind", "words"),
    [
        ({"product": "Another"}, BrokerUnreachable, "'Another'"),
        ({"product": "rabbitmq"}, BrokerUnreachable, "'rabbitmq'"),
        ({}, BrokerUnreachable, "''"),
        ({"product": "RabbitMQ", "capabilities": "all"}, BrokerUnreachable, "capabilities"),
    ],
)
def test_only_rabbitmq_is_answered(
    start: dict[str, str], kind: type[Exception], words: str
) -> None:
    frame = method(spec.Connection.Start(server_properties=start, mechanisms="PLAIN"))
    with pytest.raises(Misconduct) as caught:
        new().judge(frame)
    fault = caught.value.fault(AT)
    assert isinstance(fault, kind)
    assert words in str(fault)


@pytest.mark.parametrize("mechanisms", ["", "EXTERNAL", "PLAINX", "plain", "AMQPLAIN"])
def test_who_takes_no_password_gets_none(mechanisms: str) -> None:
    properties = {"product": "RabbitMQ"}
    frame = method(spec.Connection.Start(server_properties=properties, mechanisms=mechanisms))
    with pytest.raises(Misconduct) as caught:
        new().judge(frame)
    assert isinstance(caught.value.fault(AT), AccessRefused)


@pytest.mark.parametrize(
    ("proposed", "most"),
    [(0, FRAME_MAX), (2**32 - 1, FRAME_MAX), (FRAME_MAX, FRAME_MAX), (4_096, 4_096)],
)
def test_the_size_of_frames_is_the_smaller_one(proposed: int, most: int) -> None:
    conduct = new()
    conduct.judge(START)
    conduct.judge(method(spec.Connection.Tune(0, proposed, 0)))
    conduct.judge_size(most - 8)
    with pytest.raises(Misconduct):
        conduct.judge_size(most - 7)


@pytest.mark.parametrize("proposed", [1, 8, 4_095])
def test_frames_into_which_nothing_fits_are_refused(proposed: int) -> None:
    conduct = new()
    conduct.judge(START)
    with pytest.raises(Misconduct, match="proposes frames"):
        conduct.judge(method(spec.Connection.Tune(0, proposed, 0)))


# Channels.


@pytest.mark.parametrize(
    "what",
    [
        spec.Channel.Open(),
        spec.Exchange.Declare(exchange="x", type="topic"),
        spec.Exchange.DeleteOk(),
        spec.Queue.PurgeOk(1),
        spec.Basic.Publish(exchange="x"),
        spec.Basic.Consume(queue="x"),
        spec.Basic.GetOk(1, False, "x", "y", 0),
        spec.Basic.GetEmpty(),
        spec.Basic.Recover(True),
        spec.Basic.Reject(1),
        spec.Tx.CommitOk(),
        spec.Basic.Ack(1),
        spec.Basic.Nack(1),
        spec.Basic.Return(312, "x", "y", "z"),
        spec.Basic.Deliver("another", 1, False, "x", "y"),
    ],
)
def test_a_consumers_channel_carries_nothing_else(what: Any) -> None:
    conduct = opened(OURS)
    conduct.expect_deliveries(OURS, TAG)
    with pytest.raises(Misconduct):
        conduct.judge(method(what, OURS))


def test_a_channel_carries_nothing_before_it_is_open_and_nothing_that_counts_after() -> None:
    conduct = opened()
    conduct.open_channel(OURS)
    conduct.expect_confirms(OURS, Endless())
    ack = method(spec.Basic.Ack(1), OURS)
    with pytest.raises(Misconduct, match="before it is open"):
        conduct.judge(ack)
    conduct.judge(channel_open_ok(OURS))
    assert conduct.judge(ack) == ack
    close = method(spec.Channel.Close(404, "x", 0, 0), OURS)
    assert conduct.judge(close) == close
    assert conduct.judge(ack) == b""
    assert conduct.judge(body(OURS, b"x")) == b""
    close_ok = method(spec.Channel.CloseOk(), OURS)
    assert conduct.judge(close_ok) == close_ok, "both sides may have closed it at once"
    assert conduct.judge(close_ok) == b""
    conduct.open_channel(OURS)  # the number is used again
    assert conduct.judge(channel_open_ok(OURS))


# Contents.


def passed(conduct: Conduct, *frames: bytes) -> list[bytes]:
    return [conduct.judge(frame) for frame in frames]


def test_a_body_within_its_limit_passes_and_its_table_does_not() -> None:
    conduct = opened(OURS)
    conduct.expect_deliveries(OURS, TAG, 10)
    frames = deliver(OURS, TAG), header(OURS, 10, b"\x20\0rubbish"), body(OURS, bytes(10))
    assert passed(conduct, *frames) == [frames[0], header(OURS, 10), frames[2]]
    assert not conduct.amid


def test_a_body_beyond_its_limit_is_cut_and_the_rest_is_counted() -> None:
    conduct = opened(OURS)
    conduct.expect_deliveries(OURS, TAG, 10)
    parts = [body(OURS, bytes(6))] * 4
    frames = passed(conduct, deliver(OURS, TAG), header(OURS, 24), *parts)
    assert frames[1:] == [header(OURS, 11), parts[0], body(OURS, bytes(5)), b"", b""]
    assert not conduct.amid


@pytest.mark.parametrize("size", [MOST_BODY + 1, 2**40, 2**64 - 1])
def test_a_body_that_no_broker_has_ends_the_connection(size: int) -> None:
    conduct = opened(OURS)
    conduct.expect_deliveries(OURS, TAG, 10)
    conduct.judge(deliver(OURS, TAG))
    with pytest.raises(Misconduct, match="a message of"):
        conduct.judge(header(OURS, size))


@pytest.mark.parametrize("size", [0, 5, 6])
def test_what_is_returned_is_no_larger_than_what_was_published(size: int) -> None:
    conduct = opened(OURS)
    conduct.expect_confirms(OURS, Endless(most_returned=5))
    conduct.judge(returned(OURS))
    if size > 5:
        with pytest.raises(Misconduct, match="a message of 6 bytes"):
            conduct.judge(header(OURS, size))
    else:
        assert conduct.judge(header(OURS, size)) == header(OURS, size)
        assert conduct.amid == (size > 0)


@pytest.mark.parametrize(
    "frames",
    [
        [header(OURS, 1)],
        [body(OURS, b"x")],
        [deliver(OURS, TAG), body(OURS, b"x")],
        [deliver(OURS, TAG), deliver(OURS, TAG)],
        [deliver(OURS, TAG), header(OURS, 2), header(OURS, 2)],
        [deliver(OURS, TAG), header(OURS, 2), deliver(OURS, TAG)],
        [deliver(OURS, TAG), header(OURS, 2), method(spec.Channel.Flow(True), OURS)],
        [deliver(OURS, TAG), header(OURS, 2), body(OURS, b"")],
        [deliver(OURS, TAG), header(OURS, 2), body(OURS, b"123")],
        [deliver(OURS, TAG), header(OURS, 0), body(OURS, b"x")],
        [deliver(OURS, TAG), raw(spec.FRAME_HEADER, OURS, bytes(14))],
        [deliver(OURS, TAG), raw(spec.FRAME_HEADER, OURS, bytes(5))],
        [deliver(OURS, TAG)[:-2] + b"\xce"],
        [raw(spec.FRAME_METHOD, OURS, b"\0\x3c\0\x3c\xff")],
        [raw(spec.FRAME_METHOD, OURS, b"\0\x3c\0\x3c")],
        [raw(spec.FRAME_METHOD, OURS, b"\0\x14")],
        [raw(spec.FRAME_METHOD, OURS, b"\0\x14\0\x28\0")],
        [raw(spec.FRAME_HEARTBEAT, OURS, b"")],
    ],
)
def test_a_content_out_of_order_is_refused(frames: list[bytes]) -> None:
    conduct = opened(OURS)
    conduct.expect_deliveries(OURS, TAG)
    passed(conduct, *frames[:-1])
    with pytest.raises(Misconduct) as caught:
        conduct.judge(frames[-1])
    assert "does not keep to AMQP" in str(caught.value.fault(AT))


def test_contents_of_two_channels_may_be_mixed() -> None:
    conduct = opened(OURS, OURS + 1)
    for number in (OURS, OURS + 1):
        conduct.expect_deliveries(number, TAG)
        passed(conduct, deliver(number, TAG), header(number, 1))
    assert conduct.amid == 2
    for number in (OURS, OURS + 1):
        conduct.judge(body(number, b"x"))
    assert not conduct.amid


@pytest.mark.parametrize("part", [1, 10, 1_000, 4_088])
def test_a_body_does_not_come_in_tiny_parts(part: int) -> None:
    """Each part costs the thread of all connections some time."""
    conduct = opened(OURS)
    conduct.expect_deliveries(OURS, TAG)
    size = 1_000_000
    passed(conduct, deliver(OURS, TAG), header(OURS, size))
    count = 0
    try:
        for count, at in enumerate(range(0, size, part)):  # noqa: B007 - how far it got
            conduct.judge(body(OURS, bytes(min(part, size - at))))
    except Misconduct:
        assert part < 1_024
        assert count <= 64 + size // 1_024
    else:
        assert size / part < 64 + size // 1_024


@pytest.mark.parametrize(
    "what",
    [
        spec.Queue.DeclareOk(b"\xffname", 0, 0),
        spec.Channel.Close(404, b"no " + b"\xff" * 252, 0, 0),
        spec.Basic.Cancel(b"\xc3", nowait=True),
    ],
    ids=lambda what: str(what.NAME),
)
def test_what_is_no_text_is_replaced_before_pika_sees_it(what: Any) -> None:
    conduct = opened(OURS)
    marks = b"\x7f\x7e"  # pika itself writes text only
    for name, text in list(vars(what).items()):
        if isinstance(text, bytes):
            setattr(
                what, name, text.replace(b"\xff", marks[:1]).replace(b"\xc3", marks[1:]).decode()
            )
    frame = method(what, OURS).replace(marks[:1], b"\xff").replace(marks[1:], b"\xc3")
    seen = pika.frame.decode_frame(conduct.judge(frame))[1].method
    texts = [text for text in vars(seen).values() if isinstance(text, str)]
    assert not any(isinstance(text, bytes) for text in vars(seen).values())
    assert any("\ufffd" in text for text in texts)


# What is rare.


def test_everything_but_contents_and_confirms_is_rationed() -> None:
    clock = Clock()
    conduct = opened(OURS, clock=clock)
    conduct.expect_confirms(OURS, Endless())
    flood = HEARTBEAT, method(spec.Channel.Flow(True), OURS), method(spec.Connection.Unblocked())

    def most() -> int:
        for count in range(10_000):
            try:
                conduct.judge(flood[count % 3])
            except Misconduct:
                return count
        raise AssertionError("without an end")

    assert 900 < most() <= 1_000
    clock.now_s += 1.0
    assert most() == 100
    clock.now_s += 3_600.0
    assert most() == 1_000
    for tag in range(5_000):
        conduct.judge(method(spec.Basic.Ack(tag + 1), OURS))
