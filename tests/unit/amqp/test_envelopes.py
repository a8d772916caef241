"""When a message of envelopes counts as handled, by what becomes of the events in it."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from cryptography.fernet import Fernet

from miros_rabbitmq import Limits
from miros_rabbitmq.amqp.envelopes import EnvelopeTaker
from miros_rabbitmq.amqp.message_io import Delivery
from miros_rabbitmq.amqp.receiver import Outcome, Ticket
from miros_rabbitmq.amqp.sinks import DirectSink, WorkerSink
from miros_rabbitmq.wire.codec import Codec
from miros_rabbitmq.wire.envelope import TOKEN_SEPARATOR, Envelope
from tests.helpers import scaled, wait_until

CODEC = Codec("net", [Fernet.generate_key()])


def message(*numbers: int) -> Delivery:
    """A message of envelopes with these numbers."""
    tokens = [CODEC.encode("sender", 7, number, number) for number in numbers]
    return Delivery(TOKEN_SEPARATOR.join(tokens), "key", None, False, 1)


class Callback:
    """Notes what it is called with, and returns when it may."""

    def __init__(self) -> None:
        self.heard: list[int] = []
        self.may_return = threading.Semaphore(0)

    def __call__(self, envelope: Envelope) -> None:
        self.heard.append(envelope.body)
        assert self.may_return.acquire(timeout=scaled(10))


@pytest.fixture
def callback() -> Callback:
    return Callback()


@pytest.fixture
def taker(callback: Callback) -> Iterator[EnvelopeTaker]:
    sink = WorkerSink("tested", callback)
    yield EnvelopeTaker("tested", CODEC, sink, Limits())
    callback.may_return.release(100)
    sink.stop(scaled(10))


def take(taker: EnvelopeTaker, delivery: Delivery) -> Ticket:
    taken = taker.take(delivery)
    assert isinstance(taken, Ticket)
    return taken


def test_a_message_is_handled_when_the_callback_has_returned_for_the_last_event_in_it(
    taker: EnvelopeTaker, callback: Callback
) -> None:
    ticket = take(taker, message(1, 2))
    wait_until(lambda: callback.heard == [1])
    callback.may_return.release()
    wait_until(lambda: callback.heard == [1, 2])
    assert not ticket.is_finished
    callback.may_return.release()
    wait_until(lambda: ticket.is_finished)


def test_a_message_that_comes_again_is_handled_with_those_events_that_came_before(
    taker: EnvelopeTaker, callback: Callback
) -> None:
    """Otherwise it would be acknowledged while the callback is called for it."""
    take(taker, message(1, 2))
    taker.forget()  # the connection is lost
    wait_until(lambda: callback.heard == [1])
    again, next_one = take(taker, message(1, 2)), take(taker, message(3))
    callback.may_return.release()
    wait_until(lambda: callback.heard == [1, 2])
    assert not again.is_finished
    callback.may_return.release()
    wait_until(lambda: again.is_finished)
    wait_until(lambda: callback.heard == [1, 2, 3])
    assert not next_one.is_finished
    assert taker.duplicates == 2


def test_where_events_are_handled_at_once_so_is_a_message_that_comes_again() -> None:
    heard: list[int] = []
    sink = DirectSink("at once", lambda envelope: heard.append(envelope.body))
    taker = EnvelopeTaker("at once", CODEC, sink, Limits())
    assert taker.take(message(1)) is Outcome.HANDLED
    assert taker.take(message(1)) is Outcome.HANDLED
    assert heard == [1]
