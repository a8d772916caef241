"""Which charts search for brokers together, by their settings."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography.fernet import Fernet

from miros_rabbitmq.discovery.search import Search
from miros_rabbitmq.limits import Limits
from miros_rabbitmq.nets.node import search_of
from miros_rabbitmq.nets.settings import Settings

KEY, OTHER = Fernet.generate_key(), Fernet.generate_key()


def search(**arguments: Any) -> Search:
    given: dict[str, Any] = {
        "rabbit_user": "peter",
        "rabbit_password": "rabbit",
        "mesh_encryption_key": KEY,
        "rabbit_host": "127.0.0.1",
        "addresses": ["127.0.0.2"],
    }
    return search_of(Settings(**{**given, **arguments}))


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"rx_routing_key": "other.#"},
        {"tx_routing_key": "other"},
        {"snoop_trace_encryption_key": OTHER},
        {"on_peers_changed": print},
        {"start_timeout": 1.0},
        {"transmit_timeout": 1.0},
    ],
    ids=str,
)
def test_charts_that_look_for_the_same_have_equal_searches(arguments: dict[str, Any]) -> None:
    assert search(**arguments) == search()
    assert hash(search(**arguments)) == hash(search())


@pytest.mark.parametrize(
    "arguments",
    [
        {"rabbit_user": "paul"},
        {"rabbit_password": "carrot"},
        {"rabbit_host": "127.0.0.3"},
        {"addresses": []},
        {"rescan_interval": 1.0},
        {"forget_after": 1.0},
        {"mesh_encryption_key": OTHER},
        {"mesh_encryption_key": [KEY, OTHER]},
        {"accept_unknown_peers": False},
        {"limits": Limits(unknown_peers=1)},
        {"limits": Limits(announce_s=1.0)},
    ],
    ids=lambda one: next(iter(one)),
)
def test_charts_that_differ_have_not(arguments: dict[str, Any]) -> None:
    assert search(**arguments) != search()


def test_the_key_that_encrypts_does_not_matter_for_whose_announcements_count() -> None:
    assert search(mesh_encryption_key=[KEY, OTHER]) == search(mesh_encryption_key=[OTHER, KEY])


def test_a_search_shows_neither_password_nor_key() -> None:
    shown = repr(search())
    assert "carrot" not in shown
    assert "rabbit'" not in shown
    assert KEY.decode() not in shown
    assert KEY not in search().trust
