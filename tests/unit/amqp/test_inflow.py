"""Frames come out of a stream whole and in order, whatever the pieces, and cheaply."""

from __future__ import annotations

import itertools
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pika import spec

from miros_rabbitmq.amqp.conduct import Conduct, Misconduct
from miros_rabbitmq.amqp.inflow import Inflow
from miros_rabbitmq.exceptions import BrokerError
from miros_rabbitmq.urls import Address

from ...amqp import DIALOGUE, FRAME_MAX, HEARTBEAT, body, content, deliver, method, opened, raw

OURS, TAG = 3, "tag"
AT = Address("10.0.0.1")


def listening() -> Conduct:
    conduct = opened(OURS)
    conduct.expect_deliveries(OURS, TAG)
    return conduct


def fed(conduct: Conduct, *pieces: bytes) -> list[bytes]:
    passed: list[bytes] = []
    inflow = Inflow(conduct, passed.append)
    for piece in pieces:
        inflow.feed(piece)
    return passed


@given(
    sizes=st.lists(st.integers(0, 300), max_size=8),
    cuts=st.lists(st.integers(0, 10_000), max_size=20),
)
def test_frames_come_out_whole_wherever_the_stream_is_cut(
    sizes: list[int], cuts: list[int]
) -> None:
    frames: list[bytes] = []
    for size in sizes:
        frames += [HEARTBEAT, deliver(OURS, TAG), content(OURS, bytes(size), 1_000)]
    stream = b"".join(frames)
    edges = [0, *sorted({cut % (len(stream) + 1) for cut in cuts}), len(stream)]
    pieces = [stream[begin:end] for begin, end in itertools.pairwise(edges) if begin < end]
    assert b"".join(fed(listening(), *pieces)) == stream


def test_a_frame_in_single_bytes_is_copied_a_few_times_and_not_once_for_each() -> None:
    """Counted in the bytes of what is kept: a list of pieces would take 28 times the frame."""
    whole = deliver(OURS, TAG) + content(OURS, bytes(100_000))
    passed: list[bytes] = []
    inflow = Inflow(listening(), passed.append)
    largest = 0
    kept: set[int] = set()
    for at in range(len(whole)):
        inflow.feed(whole[at : at + 1])
        kept.add(id(inflow._pending))
        largest = max(largest, sys.getsizeof(inflow._pending))
    assert b"".join(passed) == whole
    assert len(kept) < 100, "the same buffer grows"
    assert largest < 3 * len(whole)


@pytest.mark.parametrize("size", [FRAME_MAX - 7, 2**31, 2**32 - 1])
def test_a_frame_that_is_too_large_is_refused_before_it_is_collected(size: int) -> None:
    with pytest.raises(Misconduct, match=f"a frame of {size:,} bytes"):
        fed(listening(), raw(spec.FRAME_BODY, OURS, b"", size=size)[:7])


def test_the_largest_frame_passes() -> None:
    whole = deliver(OURS, TAG) + content(OURS, bytes(FRAME_MAX - 8))
    assert b"".join(fed(listening(), whole)) == whole


@pytest.mark.parametrize(("first", "size"), [(True, 16_377), (False, 16_377)])
def test_before_both_sides_agree_a_frame_may_have_16_kib(first: bool, size: int) -> None:
    conduct = Conduct(FRAME_MAX, lambda: 0.0)
    pieces = [] if first else [DIALOGUE[0]]
    with pytest.raises(Misconduct, match="a frame of 16,377 bytes") as caught:
        fed(conduct, *pieces, raw(spec.FRAME_METHOD, 0, bytes(size)))
    assert ("is not a RabbitMQ" in str(caught.value.fault(AT))) == first


@pytest.mark.parametrize(
    ("greeting", "words"),
    [
        (b"HTTP/1.1 400", "it is a web server"),
        (b"SSH-2.0-x", "it is an SSH server"),
        (b"AMQP\0\1\0\0", "it speaks AMQP 1.0.0 only"),
        (b"\x15\3\1\0\2\2\x16", "expects TLS"),
        (b"\x16", "expects TLS"),
    ],
)
def test_what_is_no_amqp_is_told_by_its_first_bytes(greeting: bytes, words: str) -> None:
    with pytest.raises(Misconduct) as caught:
        fed(Conduct(FRAME_MAX, lambda: 0.0), *(bytes([one]) for one in greeting))
    fault = caught.value.fault(AT)
    assert isinstance(fault, BrokerError)
    assert words in str(fault)


def test_after_a_misconduct_nothing_is_passed_any_more() -> None:
    passed: list[bytes] = []
    inflow = Inflow(listening(), passed.append)
    with pytest.raises(Misconduct):
        inflow.feed(HEARTBEAT + b"\x05" + bytes(7) + HEARTBEAT)
    inflow.feed(HEARTBEAT)
    assert passed == [HEARTBEAT]


def test_whoever_is_passed_a_frame_may_end_it_all() -> None:
    passed: list[bytes] = []

    def take(frame: bytes) -> None:
        passed.append(frame)
        inflow.close()

    inflow = Inflow(listening(), take)
    inflow.feed(2 * HEARTBEAT + HEARTBEAT[:3])
    inflow.feed(HEARTBEAT[3:])
    assert passed == [HEARTBEAT]


class Shortcut:
    """Takes heartbeats only, and notes at which places it was asked."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def take(self, data: bytes, at: int) -> int:
        self.asked.append(at)
        while data.startswith(HEARTBEAT, at):
            at += len(HEARTBEAT)
        return at


def test_a_shortcut_is_asked_at_each_frame_that_it_has_not_taken() -> None:
    passed: list[bytes] = []
    inflow = Inflow(opened(OURS), passed.append)
    shortcut = Shortcut()
    inflow.shortcut = shortcut.take
    flow = method(spec.Channel.Flow(True), OURS)
    inflow.feed(HEARTBEAT + flow + 3 * HEARTBEAT)
    assert passed == [flow]
    assert shortcut.asked == [0, len(HEARTBEAT) + len(flow)]


def test_a_shortcut_takes_nothing_in_the_middle_of_a_content_or_after_the_end() -> None:
    passed: list[bytes] = []
    inflow = Inflow(listening(), passed.append)
    shortcut = Shortcut()
    inflow.shortcut = shortcut.take
    begin = deliver(OURS, TAG) + content(OURS, b"1234")[:-12]
    inflow.feed(begin + HEARTBEAT)
    assert shortcut.asked == [0]
    inflow.feed(body(OURS, b"1234") + HEARTBEAT)
    assert len(shortcut.asked) == 2
    close: Any = method(spec.Connection.Close(320, "bye", 0, 0))
    inflow.feed(close + HEARTBEAT)
    assert len(shortcut.asked) == 3
    assert passed[-1] == close
