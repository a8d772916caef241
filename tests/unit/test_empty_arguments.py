"""Empty arguments, as a variable that is not set makes them, are refused at every public entrance.

`tests.unit.nets.test_settings` has those of charts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from cryptography.fernet import Fernet

from miros_rabbitmq import (
    Codec,
    LocalAreaNetwork,
    LocalBroker,
    MirosRabbitMQError,
    PikaTopicConsumer,
    PikaTopicPublisher,
    RabbitScout,
    SimplePikaTopicConsumer,
    SimplePikaTopicPublisher,
)
from miros_rabbitmq.discovery.probe import probe_one
from miros_rabbitmq.urls import amqp_url, parse_address

URL = "amqp://user:password@127.0.0.1:1/"
KEY = Fernet.generate_key()


def ignore(*_: object) -> None:
    pass


def scout(**arguments: Any) -> object:
    given = {"rabbit_user": "user", "rabbit_password": "password", "addresses": [], **arguments}
    return RabbitScout(**given)


def consumer(url: str = URL, **arguments: Any) -> object:
    return SimplePikaTopicConsumer(
        **{
            "amqp_url": url,
            "exchange_name": "exchange",
            "routing_key": "key",
            "on_message": ignore,
            **arguments,
        }
    )


def publisher(url: str = URL, **arguments: Any) -> object:
    given = {"amqp_url": url, "exchange_name": "exchange", "routing_key": "key", **arguments}
    return SimplePikaTopicPublisher(**given)


ENTRANCES: dict[str, Callable[[Any], object]] = {
    "scout, user": lambda empty: scout(rabbit_user=empty),
    "scout, password": lambda empty: scout(rabbit_password=empty),
    "scout, host": lambda empty: scout(rabbit_host=empty),
    "scout, vhost": lambda empty: scout(rabbit_vhost=empty),
    "scout, address": lambda empty: scout(addresses=[empty]),
    "scout, addresses": lambda empty: scout(addresses=empty),
    "scout, tls": lambda empty: scout(tls=empty),
    "LAN, address": lambda empty: LocalAreaNetwork([empty]),
    "LAN, host": lambda empty: LocalAreaNetwork(rabbit_host=empty),
    "LAN, interface": lambda empty: LocalAreaNetwork(interface=empty).interface,
    "broker, user": lambda empty: LocalBroker(user=empty),
    "broker, password": lambda empty: LocalBroker(password=empty),
    "broker, name": lambda empty: LocalBroker(name=empty),
    "broker, host": lambda empty: LocalBroker(empty),
    "broker, vhost": lambda empty: LocalBroker(vhosts=[empty]),
    "broker, another user": lambda empty: LocalBroker(users={empty: "password"}),
    "broker, another's password": lambda empty: LocalBroker(users={"other": empty}),
    "publisher, URL": publisher,
    "publisher, exchange": lambda empty: publisher(exchange_name=empty),
    "publisher, routing key": lambda empty: publisher(routing_key=empty),
    "publisher, tls": lambda empty: publisher(tls=empty),
    "publisher, user": lambda empty: publisher(amqp_url("", empty, parse_address("h"))),
    "publisher, codec": lambda empty: PikaTopicPublisher(URL, "e", "k", codec=empty, name="n"),
    "consumer, URL": consumer,
    "consumer, exchange": lambda empty: consumer(exchange_name=empty),
    "consumer, routing key": lambda empty: consumer(routing_key=empty),
    "consumer, tls": lambda empty: consumer(tls=empty),
    "consumer, codec": lambda empty: PikaTopicConsumer(
        URL, "e", "k", codec=empty, on_message=ignore
    ),
    "codec, keys": Codec,
    "codec, a key of two": lambda empty: Codec([KEY, empty]),
    "probe, URL": probe_one,
    "probe, tls": lambda empty: probe_one(URL, tls=empty),
}


@pytest.fixture(autouse=True)
def no_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is to be connected to here."""
    monkeypatch.setattr("miros_rabbitmq.discovery.probe.probe_all", lambda *_, **__: 1 / 0)


@pytest.mark.parametrize("empty", ["", " ", "\t\n"], ids=repr)
@pytest.mark.parametrize("entrance", ENTRANCES.values(), ids=ENTRANCES)
def test_an_empty_argument_is_refused(entrance: Callable[[Any], object], empty: str) -> None:
    with pytest.raises(MirosRabbitMQError):
        entrance(empty)


@pytest.mark.parametrize("value", [False, 0, [], {}, "no"], ids=repr)
@pytest.mark.parametrize("name", [one for one in ENTRANCES if one.endswith("tls")])
def test_what_counts_as_false_is_not_taken_for_no_tls(name: str, value: Any) -> None:
    with pytest.raises(MirosRabbitMQError, match=r"tls must be an ssl\.SSLContext, not a"):
        ENTRANCES[name](value)
