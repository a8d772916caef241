"""What a topic network knows of its events, without brokers."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
from cryptography.fernet import Fernet

from miros_rabbitmq.amqp.sender import Sender
from miros_rabbitmq.amqp.sinks import DirectSink
from miros_rabbitmq.amqp.topology import Queue
from miros_rabbitmq.nets.settings import Settings
from miros_rabbitmq.nets.topic import Hooks, Reactors, TopicNetwork, TopicSpec
from miros_rabbitmq.urls import Address
from miros_rabbitmq.wire.envelope import MESH
from tests.helpers import scaled

KEY = Fernet.generate_key()


class HeldUp:
    """Stands in for a sender: a post to it takes until it may return."""

    has_room = True

    def __init__(self) -> None:
        self.is_posting = threading.Event()
        self.may_return = threading.Event()
        self.may_return.set()
        self.waiting = self.unconfirmed = 0

    def stats(self) -> SimpleNamespace:
        return SimpleNamespace(waiting=self.waiting, unconfirmed=self.unconfirmed)

    def enqueue(self, _record: object) -> bool:
        self.is_posting.set()
        assert self.may_return.wait(scaled(10))
        return False


def network(sender: HeldUp) -> TopicNetwork:
    settings = Settings("user", "password", KEY)
    spec = TopicSpec(MESH, "key", "key", (KEY,), Queue(), lossy=False, has_notices=True)
    one = TopicNetwork(spec, settings, "chart", Reactors.of("chart"), Hooks(DirectSink("x", print)))
    one._senders = {Address("127.0.0.2"): cast("Sender", sender)}
    one._posted_to = (cast("Sender", sender),)
    return one


def test_the_last_numbers_are_told_of_when_a_broker_has_settled_all_of_them() -> None:
    sender = HeldUp()
    one = network(sender)
    assert one.settled_numbers(cast("Sender", sender)) == {}
    for key in ("a.key", "another.key", "a.key"):
        one.transmit(("SIGNAL", None), 1.0, routing_key=key)
    assert one.settled_numbers(cast("Sender", sender)) == {"a.key": 2, "another.key": 1}
    sender.waiting = 1
    assert one.settled_numbers(cast("Sender", sender)) is None
    sender.waiting, sender.unconfirmed = 0, 1
    assert one.settled_numbers(cast("Sender", sender)) is None


def test_nobody_waits_for_a_chart_that_is_posting_to_know_them() -> None:
    sender = HeldUp()
    one = network(sender)
    sender.may_return.clear()
    posting = threading.Thread(target=one.transmit, args=(("SIGNAL", None), 1.0))
    posting.start()
    try:
        assert sender.is_posting.wait(scaled(10))
        assert one.settled_numbers(cast("Sender", sender)) is None
    finally:
        sender.may_return.set()
        posting.join()
    assert one.settled_numbers(cast("Sender", sender)) == {"key": 1}


class Interrupted(HeldUp):
    """Handlers of signals run in the middle of the posts to it, each once."""

    def __init__(self) -> None:
        super().__init__()
        self.handlers: list[Callable[[], object]] = []
        self.sizes: list[int] = []
        self.woken = 0

    def enqueue(self, record: Any) -> bool:
        if self.handlers:
            self.handlers.pop(0)()
        self.sizes.append(len(record.data))
        return True

    def attend(self, _others: object) -> None:
        pass

    def enqueue_over(self, record: Any) -> None:
        self.enqueue(record)
        self.woken += 1


def test_what_the_handler_of_a_signal_transmits_in_the_middle_of_a_post_goes_after_it() -> None:
    """Otherwise the later number would go first, and the receiver refuse the other."""
    sender = Interrupted()
    one = network(sender)
    sender.handlers = [
        lambda: one.transmit(("SIGNAL", "x" * 100), 1.0),
        lambda: one.transmit(("SIGNAL", "x" * 1_000), 1.0),
    ]
    one.transmit(("SIGNAL", None), 1.0)
    assert sender.sizes == sorted(sender.sizes)
    assert len(sender.sizes) == 3
    assert one.transmitted == 3
    assert sender.woken == 2


def test_what_a_handler_has_transmitted_is_posted_also_if_it_raises_then() -> None:
    sender = Interrupted()
    one = network(sender)

    def handler() -> None:
        one.transmit(("SIGNAL", "x" * 100), 1.0)
        raise KeyboardInterrupt

    sender.handlers = [handler]
    with pytest.raises(KeyboardInterrupt):
        one.transmit(("SIGNAL", None), 1.0)
    assert len(sender.sizes) == 1
    one.transmit(("SIGNAL", None), 1.0)
    assert len(sender.sizes) == 2
