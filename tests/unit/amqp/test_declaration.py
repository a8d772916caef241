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
        self.has_channels = True
        self.opened: list[Any] = []
        self.given_up: list[Any] = []

    def guarded(self, _channel: Any, proceed: Any) -> Any:
        return proceed

    def come_back_soon(self) -> None:
        self.came_back += 1

    def open_another_channel(self, on_open: Any) -> bool:
        self.opened.append(on_open)
        return self.has_channels

    def reopen(self, why: Any) -> None:
        self.given_up.append(why)


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


@pytest.mark.parametrize("is_refused", [False, True])
def test_a_declaration_without_an_answer_is_over_with_the_next_answer(is_refused: bool) -> None:
    attempts = Attempts()
    if is_refused:
        attempts.ask()
        attempts.fail(REFUSED)
    channel, done = FakeChannel(), []
    next_is_answered = attempts.declaration.declare_unanswered(
        channel,
        lambda: done.append(True),
    )
    assert channel.asked == ("look" if is_refused else "declare")
    assert channel.callback is None
    assert not done
    next_is_answered()
    assert done == [True]
    assert attempts.fail(REFUSED) is None, "nothing is under way, so others explain it"


def test_a_declaration_without_an_answer_may_be_refused_too() -> None:
    attempts = Attempts()
    attempts.declaration.declare_unanswered(FakeChannel(), lambda: None)
    assert attempts.fail(REFUSED) is not None
    assert attempts.link.came_back == 1
    assert attempts.ask() == "look"


@pytest.mark.parametrize("right", ["read", "write"])
def test_a_right_that_a_declaration_does_not_need_is_left_to_others(right: str) -> None:
    """The broker may refuse what follows a declaration to which it sends no answer."""
    attempts = Attempts()
    channel = FakeChannel()
    attempts.declaration.declare_unanswered(channel, attempts.link.come_back_soon)
    text = REFUSED.reply_text.replace("access", f"{right} access")
    assert attempts.fail(pika.exceptions.ChannelClosedByBroker(403, text)) is None
    assert URL not in attempts.known
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
        assert "there is no exchange 'miros.mesh', and it may not declare it" in str(fault)
        for command in ("rabbitmqctl set_permissions -p / robot", "rabbitmqctl import_definitions"):
            assert command in str(fault)
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


class FakeTransaction:
    """A channel with a transaction."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.on_close: Any = None
        self.callback: Any = None

    def add_on_close_callback(self, callback: Any) -> None:
        self.on_close = callback

    def tx_select(self, callback: Any) -> None:
        self.done.append("select")
        self.callback = callback

    def basic_publish(self, exchange: str, _key: str, body: bytes) -> None:
        assert (exchange, body) == ("miros.mesh", b"")
        self.done.append("publish")

    def tx_rollback(self, callback: Any) -> None:
        self.done.append("rollback")
        self.callback = callback

    def close(self) -> None:
        self.done.append("close")
        self.on_close(self, None)


def checking() -> tuple[Attempts, FakeTransaction, list[str]]:
    """Somebody who may not declare, and who asks whether he may publish."""
    attempts = Attempts()
    attempts.known.add(URL)
    assert attempts.ask() == "look"
    attempts.succeed()
    went_on: list[str] = []
    attempts.declaration.check_writing(attempts.channel, lambda: went_on.append("on"))
    transaction = FakeTransaction()
    (on_open,) = attempts.link.opened
    on_open(transaction)
    transaction.callback(None)
    assert transaction.done == ["select", "publish", "rollback"]
    assert not went_on
    return attempts, transaction, went_on


def test_who_may_publish_goes_on_and_nothing_was_published() -> None:
    attempts, transaction, went_on = checking()
    transaction.callback(None)
    assert transaction.done == ["select", "publish", "rollback", "close"]
    assert went_on == ["on"]
    assert not attempts.link.given_up


def test_who_may_not_publish_is_refused_before_the_link_is_ready() -> None:
    attempts, transaction, went_on = checking()
    transaction.on_close(transaction, REFUSED)
    (fault,) = attempts.link.given_up
    assert isinstance(fault, AccessRefused)
    assert not went_on


@pytest.mark.parametrize(
    "error",
    [
        pika.exceptions.ChannelClosedByBroker(
            403,
            "ACCESS_REFUSED - access to topic '' in exchange 'miros.mesh' in vhost '/' refused",
        ),
        pika.exceptions.ChannelClosedByBroker(540, "NOT_IMPLEMENTED - tx"),
        pika.exceptions.ConnectionClosed(320, "gone"),
    ],
)
def test_what_says_nothing_of_the_right_to_publish_lets_the_link_go_on(error: Exception) -> None:
    attempts, transaction, went_on = checking()
    transaction.on_close(transaction, error)
    assert went_on == ["on"]
    assert not attempts.link.given_up


def test_who_may_declare_or_has_no_channel_left_is_not_asked_whether_he_may_publish() -> None:
    went_on: list[str] = []
    attempts = Attempts()
    attempts.ask()
    attempts.succeed()
    attempts.declaration.check_writing(attempts.channel, lambda: went_on.append("on"))
    assert not attempts.link.opened
    attempts.known.add(URL)
    attempts.ask()
    attempts.succeed()
    attempts.link.has_channels = False
    attempts.declaration.check_writing(attempts.channel, lambda: went_on.append("on"))
    assert went_on == ["on", "on"]


def test_what_is_remembered_is_bounded() -> None:
    known = Refusing()
    urls = [amqp_url("robot", "secret", Address("127.0.0.2", port)) for port in range(1, 3000)]
    for url in urls:
        known.add(url)
    assert urls[-1] in known
    assert sum(url in known for url in urls) <= 1_024
