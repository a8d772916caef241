"""A reactor that several owners share: each has it for itself, and none waits for another's end."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from miros_rabbitmq.amqp import reactor as reactor_module
from miros_rabbitmq.amqp.reactor import Lane
from miros_rabbitmq.amqp.shared_reactor import Share, SharedReactor

from ...helpers import scaled, wait_until

NAME = "shared reactor under test"


def attach(share: Share) -> Lane:
    return share.attach("lane", print, lambda _: None)


def close(lane: Lane) -> None:
    lane.call_soon(lane.close)


def threads() -> int:
    return sum(one.name == NAME for one in threading.enumerate())


def test_all_shares_have_one_thread_which_ends_with_the_last_lane() -> None:
    shared = SharedReactor(NAME)
    shares = [Share(shared) for _ in range(3)]
    assert threads() == 0
    lanes = [attach(one) for one in shares]
    assert threads() == 1
    for share, lane in zip(shares, lanes, strict=True):
        assert not share.wait_for_end(0.01)
        close(lane)
        assert share.wait_for_end(scaled(20))
    assert threads() == 0


def test_an_owner_waits_for_its_own_lanes_only() -> None:
    shared = SharedReactor(NAME)
    one, other = Share(shared), Share(shared)
    lanes = [attach(one), attach(one)]
    others = attach(other)
    close(lanes[0])
    wait_until(lambda: not lanes[0].is_open)
    assert not one.wait_for_end(0.01)
    close(lanes[1])
    assert one.wait_for_end(scaled(20))
    assert threads() == 1
    again = attach(one)
    close(others)
    assert other.wait_for_end(scaled(20))
    close(again)
    assert one.wait_for_end(scaled(20))


def test_its_thread_cannot_wait_for_its_own_end() -> None:
    share = Share(SharedReactor(NAME))
    lane = attach(share)
    said: list[Any] = []
    lane.call_soon(lambda: said.extend([share.is_current_thread, share.wait_for_end(60)]))
    wait_until(lambda: len(said) == 2)
    assert said == [True, False]
    close(lane)
    assert share.wait_for_end(scaled(20))


def test_nobody_comes_to_a_thread_that_is_stuck(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reactor_module, "_STUCK_S", 0.05)
    shared = SharedReactor(NAME)
    one, other = Share(shared), Share(shared)
    lane = attach(one)
    leave = threading.Event()
    lane.call_soon(lambda: leave.wait(scaled(60)))
    wait_until(lambda: shared._present.is_stuck)
    reached = threading.Event()
    elsewhere = attach(other)
    elsewhere.call_soon(reached.set)
    assert reached.wait(scaled(20))
    assert "lane" in one.busy()
    same = attach(one)
    leave.set()
    for each in (lane, same):
        close(each)
    assert one.wait_for_end(scaled(20))
    close(elsewhere)
    assert other.wait_for_end(scaled(20))
