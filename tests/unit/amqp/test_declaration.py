"""Declaring an exchange that the user may perhaps not declare."""

from __future__ import annotations

from typing import Any, NamedTuple

import pika.exceptions
import pytest

from miros_rabbitmq.amqp.declaration import Declaration, Refusing
from miros_rabbitmq.exceptions import AccessRefused, BrokerUnreachable
from miros_rabbitmq.urls import Address, amqp_url

URL = amqp_url("robot", "secret", Address("127.0.0.2", 5672))
REFUSED = pika.exceptions.ChannelClosedByBroker(
    403, "ACCESS_REFUSED - access to exchange 'miros.mesh' in vhost '/' refused for user 'robot'"
)
MISSING = pika.exceptions.ChannelClosedByBroker(
    404, "NOT_FOUND - no exchange 'miros.mesh' in vhost '/'"
)
WRONG_TYPE = pika.exceptions.ChannelClosedByBroker(
    406,
    "PRECONDITION_FAILED - inequivalent arg 'type' for exchange 'miros.mesh' in vhost '/': "
    "received 'topic' but current is 'fanout'",
)


class FakeEndpoint(NamedTuple):
    url: Any = URL


class FakeLink:
    """A link whose channels are never closed by others."""

    endpoint = FakeEndpoint()
    address = URL.address

    def __init__(self) -> None:
        self.came_back = 0

    def guarded(self, _channel: Any, proceed: Any) -> Any:
        return proceed

    def come_back_soon(self) -> None:
        self.came_back += 1


class FakeChannel:
    """Notes what is asked of it, and answers when it is told to."""

    def __init__(self) -> None:
        self.asked = ""
        self.callback: Any = None

    def exchange_declare(
        self, _name: str, *, passive: bool = False, callback: Any, **_: Any
    ) -> None:
        self.asked = "look" if passive else "declare"
        self.callback = callback


class Attempts:
    """The attempts of one link, each on a new channel."""

    def __init__(self, known: Refusing | None = None) -> None:
        self.known = Refusing() if known is None else known
        self.link = FakeLink()
        self.declaration = Declaration(self.link, "miros.mesh", self.known)  # type: ignore[arg-type]
        self.done = 0

    def ask(self) -> str:
        """Declare, and tell how that was done."""
        self.channel = FakeChannel()
        self.declaration.declare(self.channel, self._on_done)
        return self.channel.asked

    def succeed(self) -> None:
        self.channel.callback(None)

    def fail(self, error: pika.exceptions.ChannelClosedByBroker) -> Exception | None:
        return self.declaration.explain(error)

    def _on_done(self) -> None:
        self.done += 1


def test_who_may_declare_does_so_each_time() -> None:
    attempts = Attempts()
    for count in (1, 2, 3):
        assert attempts.ask() == "declare"
        attempts.succeed()
        assert attempts.done == count
    assert attempts.link.came_back == 0


def test_who_may_not_declare_comes_back_at_once_and_looks_from_then_on() -> None:
    attempts = Attempts()
    assert attempts.ask() == "declare"
    fault = attempts.fail(REFUSED)
    assert isinstance(fault, BrokerUnreachable)
    assert not isinstance(fault, AccessRefused)
    assert attempts.link.came_back == 1
    for _ in range(2):
        assert attempts.ask() == "look"
        attempts.succeed()
    assert attempts.done == 2


def test_the_links_of_a_process_learn_from_each_other() -> None:
    first = Attempts()
    first.ask()
    first.fail(REFUSED)
    assert Attempts(first.known).ask() == "look"


def test_an_exchange_that_nobody_has_declared_is_final_only_if_it_may_not_be_declared() -> None:
    attempts = Attempts()
    attempts.ask()
    attempts.fail(REFUSED)
    for _ in range(2):  # the second time after a while, as a link tries again
        assert attempts.ask() == "look"
        assert not isinstance(attempts.fail(MISSING), AccessRefused)
        assert attempts.ask() == "declare"
        fault = attempts.fail(REFUSED)
        assert isinstance(fault, AccessRefused)
        assert "has no exchange 'miros.mesh', and does not let 'robot' declare it" in str(fault)
        assert "secret" not in str(fault)
    assert attempts.link.came_back == 3, "not after what is final"
    attempts.ask()
    attempts.succeed()
    assert attempts.done == 1


def test_a_right_that_was_given_meanwhile_is_used() -> None:
    attempts = Attempts()
    attempts.ask()
    attempts.fail(REFUSED)
    attempts.ask()
    attempts.fail(MISSING)
    assert attempts.ask() == "declare"
    attempts.succeed()
    assert attempts.done == 1


@pytest.mark.parametrize("error", [REFUSED, MISSING, WRONG_TYPE])
def test_what_was_not_asked_here_is_left_to_others(
    error: pika.exceptions.ChannelClosedByBroker,
) -> None:
    attempts = Attempts()
    assert attempts.fail(error) is None
    attempts.ask()
    attempts.succeed()
    assert attempts.fail(error) is None
    assert URL not in attempts.known


def test_a_wrong_type_and_another_exchange_are_left_to_others() -> None:
    attempts = Attempts()
    attempts.ask()
    assert attempts.fail(WRONG_TYPE) is None
    attempts.ask()
    other = pika.exceptions.ChannelClosedByBroker(
        403, REFUSED.reply_text.replace("miros.mesh", "miros.meshes")
    )
    assert attempts.fail(other) is None


def test_what_is_remembered_is_bounded() -> None:
    known = Refusing()
    urls = [amqp_url("robot", "secret", Address("127.0.0.2", port)) for port in range(1, 3000)]
    for url in urls:
        known.add(url)
    assert urls[-1] in known
    assert sum(url in known for url in urls) <= 1_024
