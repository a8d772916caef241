"""What pika is given of the reactor: streams of connected sockets."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from miros_rabbitmq.amqp.reactor import Reactor
from miros_rabbitmq.amqp.services import Services, Tap

from ...helpers import scaled


def test_a_socket_that_was_reset_just_now_is_a_failed_attempt_and_no_error_of_ours() -> None:
    reactor = Reactor("reactor of a test")
    lane = reactor.attach("a link", lambda _: None, lambda _: None)

    def make_tap(protocol: Any) -> Tap:
        raise AssertionError(protocol)

    services = Services(lane, make_tap, 1.0)
    try:
        with socket.socket() as never_connected, pytest.raises(OSError, match="not connected"):
            services.create_streaming_connection(object, never_connected, print)
    finally:
        services.abort()
        lane.call_soon(lane.close)
        assert reactor.wait_for_end(scaled(20))
