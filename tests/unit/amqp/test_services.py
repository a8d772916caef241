"""The loop of one link, as pika sees it."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from miros_rabbitmq.amqp.reactor import Reactor
from miros_rabbitmq.amqp.services import Services

from ...helpers import scaled


def test_a_socket_that_was_reset_as_soon_as_it_was_connected_is_a_failed_attempt() -> None:
    """Pika would raise a ValueError, which looks like a bug of ours."""
    reactor = Reactor("reactor of a test")
    lane = reactor.attach("a link", lambda _: None)
    services = Services(lane, _no_tap, 1.0)
    try:
        with socket.socket() as never_connected, pytest.raises(OSError, match="not connected"):
            services.create_streaming_connection(_nothing, never_connected, _nothing)
    finally:
        lane.call_soon(lane.close)
    assert reactor.wait_for_end(scaled(5))


def _nothing(*_: object) -> None:
    pass


def _no_tap(_: Any) -> Any:
    raise AssertionError("there is no stream to tap")
