"""What impostors and key holders write reaches logs, faults and terminals as harmless text."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from contextlib import redirect_stdout
from typing import Any

import pytest
from cryptography.fernet import Fernet
from miros import Event
from pika import spec

from miros_rabbitmq import (
    BrokerError,
    DeliveryProblem,
    Limits,
    LocalBroker,
    RabbitScout,
)
from miros_rabbitmq.discovery.probe import probe_one
from miros_rabbitmq.logs import write_all
from miros_rabbitmq.urls import amqp_url
from miros_rabbitmq.wire.envelope import MESH, SNOOP_SPY, SNOOP_TRACE, Purpose
from miros_rabbitmq.wire.notice import LISTENER_KEY

from ..amqp import OPEN_OK, TUNE, method, start_with
from ..helpers import scaled, wait_until
from ..unit.test_foreign import is_harmless
from .charts import arguments_for, make_active_object, running
from .fakes import Fakes
from .false_brokers import Attack, FalseBroker
from .forging import Forger
from .strangers import attacker

KEY = Fernet.generate_key()
WORD = "forged"
"""A part of an evil text that is harmless, so that a test can tell that the rest was there."""


def evil(secret: str = "") -> str:
    """What a terminal or a reader of logs would act on; and a password that is said back."""
    return f"\x1b[2J\x9b31mbad\r\nWARNING {WORD} \u202egnp\u2028{secret}\x07"


QUICK = Limits(reconnect_min_s=0.05, reconnect_max_s=0.2, absent_after_s=0.5, stop_timeout_s=1.0)


@pytest.fixture
def fakes() -> Iterator[Fakes]:
    with Fakes().running() as running_fakes:
        yield running_fakes


@pytest.fixture(autouse=True)
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.DEBUG, "miros_rabbitmq")
    return caplog


def check(texts: list[str], secret: str) -> None:
    """Every line is harmless and keeps the secret, and at least one has quoted the foreign text."""
    lines = [line for text in texts for line in text.split("\n")]
    for line in lines:
        assert is_harmless(line), ascii(line)
        assert secret not in line
    assert any(WORD in line for line in lines)


def sends(what: Any, *, on_channel: bool = False) -> Attack:
    return lambda channel, _: iter([method(what, channel if on_channel else 0)])


CAPABLE = start_with(capabilities={"publisher_confirms": True, "basic.nack": True})


def manners(text: str) -> dict[str, dict[str, Any]]:
    """Where an impostor can say something."""
    return {
        "product": {"dialogue": (start_with(product=f"Rabbit{text}"), TUNE, OPEN_OK)},
        "mechanisms": {"dialogue": (start_with(mechanisms=text), TUNE, OPEN_OK)},
        "blocked": {
            "after": spec.Confirm.Select,
            "attack": sends(spec.Connection.Blocked(text)),
            "dialogue": (CAPABLE, TUNE, OPEN_OK),
        },
        **{
            f"connection closed, {code}": {
                "after": spec.Connection.Open,
                "attack": sends(spec.Connection.Close(code, f"NOT - {text}", 0, 0)),
                "dialogue": (CAPABLE, TUNE, b""),
            }
            for code in (311, 320, 403, 501, 530, 541, 999)
        },
        **{
            f"channel closed, {code}": {
                "after": spec.Basic.Publish,
                "attack": sends(
                    spec.Channel.Close(code, f"no queue '{text}'", 60, 40), on_channel=True
                ),
                "dialogue": (CAPABLE, TUNE, OPEN_OK),
            }
            for code in (311, 403, 404, 406, 999)
        },
    }


@pytest.mark.parametrize("manner", manners(""))
def test_no_impostor_writes_into_a_log_or_a_fault(
    manner: str, fakes: Fakes, broker_a: LocalBroker, log: pytest.LogCaptureFixture
) -> None:
    broker = FalseBroker(fakes, **manners(evil(broker_a.password))[manner])
    problems: list[DeliveryProblem] = []
    arguments = arguments_for(broker_a, key=KEY, limits=QUICK, on_delivery_problem=problems.append)
    arguments["addresses"] = [str(broker.address)]
    chart, _ = make_active_object("victim", **arguments)
    shown: list[str] = []
    with running(chart):

        def look() -> bool:
            chart.transmit(Event(signal="BEAT"))
            shown.append(str(chart.nets.stats()))
            write_all(scaled(25))
            return any(WORD in line for line in log.messages)

        wait_until(look, 20, "the impostor's text in the log")
    check([*log.messages, *(one.text for one in problems), *shown], broker_a.password)


@pytest.mark.parametrize("manner", ["product", "mechanisms", "connection closed, 403"])
def test_no_impostor_writes_into_an_exception_or_a_report(
    manner: str, fakes: Fakes, broker_a: LocalBroker
) -> None:
    broker = FalseBroker(fakes, **manners(evil(broker_a.password))[manner])
    with pytest.raises(BrokerError) as caught:
        probe_one(amqp_url(broker_a.user, broker_a.password, broker.address))
    scout = RabbitScout(
        broker_a.user,
        broker_a.password,
        addresses=[str(broker.address)],
        rabbit_host=broker_a.host,
        rabbit_port=broker_a.port,
    )
    check([str(caught.value), str(scout.probe())], broker_a.password)


def test_no_holder_of_the_key_writes_into_a_log_or_onto_a_terminal(
    broker_a: LocalBroker, log: pytest.LogCaptureFixture
) -> None:
    """Names of charts, of states and of signals, in events, notices and lines of the snoops."""
    problems: list[DeliveryProblem] = []
    chart, _ = make_active_object(
        "victim",
        **arguments_for(
            broker_a, key=KEY, rx_routing_key="any.key", on_delivery_problem=problems.append
        ),
    )
    text = evil()
    terminal = io.StringIO()
    with redirect_stdout(terminal):
        chart.enable_snoop_spy()
        chart.enable_snoop_trace()
        with running(chart):
            for number, (network, key, body) in enumerate(
                [
                    (MESH, "any.key", (text, None)),
                    (MESH, "any.key", ("FINE", None)),
                    (SNOOP_TRACE, "snoop.trace", f"[now] [{text}] e->{text}() {text}->{text}"),
                    (SNOOP_SPY, "snoop.spy", f"{text}:{text}"),
                ]
            ):
                forger = Forger(KEY, key, network=network, name=f"{text}{number}")
                with attacker(broker_a, key, network) as send:
                    send(forger.message(body), forger.message(body, 100), b"\r\n" * 100)
            notices = Forger(KEY, LISTENER_KEY, name=text, purpose=Purpose.NOTICES)
            trouble = bytes((0, 0, 0, 9, 0, 0, 0, 9)) + b"\x04a\x1bb\n" + b"\x03\xe2\x80\xae"
            with attacker(broker_a, LISTENER_KEY) as send:
                send(*(notices.message(trouble, number, kind=number) for number in range(1, 8)))
            wait_until(
                lambda: (
                    WORD in terminal.getvalue()
                    and sum(chart.nets.stats().mesh.rejected.values()) >= 3
                ),
                20,
                "what was forged",
            )
    write_all(scaled(25))
    check([*log.messages, terminal.getvalue(), *(one.text for one in problems)], broker_a.password)
    assert "\nWARNING" not in terminal.getvalue()
