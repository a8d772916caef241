"""The best a user could write by hand with pika's `SelectConnection`."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pika

from .talk import EXCHANGE, PAYLOAD, QUIET_S, asked, hear, play, say

PERSISTENT = pika.BasicProperties(delivery_mode=2)


class RawPika:
    """The best a user could write by hand: one I/O loop, one connection to each broker."""

    def __init__(self, out_url: str, in_url: str, out_key: str, in_key: str) -> None:
        self.out_key = out_key
        self.in_key = in_key
        self.on_body: Callable[[bytes], None] = lambda _: None
        self.on_ready: Callable[[], None] = lambda: None
        self.on_confirm: Callable[[int], None] = lambda _: None
        self.confirmed = 0
        self._missing = self._open = 2
        self._out: Any = None
        outgoing = pika.SelectConnection(
            pika.URLParameters(out_url), on_open_callback=self._open_out
        )
        self.loop: Any = outgoing.ioloop
        self.connections = [
            outgoing,
            pika.SelectConnection(
                pika.URLParameters(in_url),
                on_open_callback=self._open_in,
                custom_ioloop=self.loop,
            ),
        ]

    def publish(self, body: bytes) -> None:
        """One event, one message."""
        self._out.basic_publish(EXCHANGE, self.out_key, body, PERSISTENT, mandatory=True)

    def run(self) -> None:
        """Run until `stop`."""
        self.loop.start()

    def stop(self) -> None:
        """Close both connections; the loop ends with the last."""
        for connection in self.connections:
            connection.add_on_close_callback(lambda *_: self._one_closed())
            connection.close()

    def _one_closed(self) -> None:
        self._open -= 1
        if self._open == 0:
            self.loop.stop()

    def _open_out(self, connection: Any) -> None:
        def opened(channel: Any) -> None:
            self._out = channel
            channel.exchange_declare(EXCHANGE, exchange_type="topic", durable=True)
            channel.confirm_delivery(self._on_ack, lambda _: self._one_ready())

        connection.channel(on_open_callback=opened)

    def _open_in(self, connection: Any) -> None:
        def opened(channel: Any) -> None:
            channel.basic_qos(prefetch_count=500)
            channel.exchange_declare(EXCHANGE, exchange_type="topic", durable=True)
            channel.queue_declare(
                f"bench.{self.in_key}", durable=True, arguments={"x-expires": 60_000}
            )
            channel.queue_bind(f"bench.{self.in_key}", EXCHANGE, self.in_key)
            channel.basic_consume(
                f"bench.{self.in_key}", self._on_message, callback=lambda _: self._one_ready()
            )

        connection.channel(on_open_callback=opened)

    def _one_ready(self) -> None:
        self._missing -= 1
        if self._missing == 0:
            self.on_ready()

    def _on_ack(self, frame: Any) -> None:
        tag = frame.method.delivery_tag
        self.confirmed = tag
        self.on_confirm(tag)

    def _on_message(self, channel: Any, method: Any, _properties: Any, body: bytes) -> None:
        channel.basic_ack(method.delivery_tag)
        self.on_body(body)


def raw_echo(out_url: str, in_url: str, **_: Any) -> None:
    """Send back each message, until asked to stop."""
    node = RawPika(out_url, in_url, "pong", "ping")
    node.on_body = node.publish
    node.on_ready = lambda: say("ready")

    def stop_when_asked() -> None:
        hear()
        node.loop.add_callback_threadsafe(node.stop)

    threading.Thread(target=stop_when_asked, daemon=True).start()
    node.run()


def raw_ping(out_url: str, in_url: str, quiet_s: float = QUIET_S, **_: Any) -> None:
    """Time round trips, one after the other, as many as are asked for."""
    node = RawPika(out_url, in_url, "ping", "pong")
    times: list[float] = []
    count = 0
    began = 0.0

    def send() -> None:
        nonlocal began
        began = time.perf_counter()
        node.publish(PAYLOAD.encode())

    def go_on() -> None:
        nonlocal count
        count = hear()
        if count is None:
            node.stop()
        else:
            times.clear()
            send()

    def on_ready() -> None:
        say("ready")
        go_on()

    def on_body(_body: bytes) -> None:
        times.append(time.perf_counter() - began)
        if len(times) == count:
            say({"times": times})
            go_on()
        else:
            node.loop.call_later(quiet_s, send)

    node.on_body = on_body
    node.on_ready = on_ready
    node.run()


def raw_send(out_url: str, in_url: str, **_: Any) -> None:
    """Publish as fast as confirms come back, with a window of messages under way."""
    node = RawPika(out_url, in_url, "ping", "unused")
    sent = goal = 0
    began = 0.0
    window = 1_000

    def send_more() -> None:
        nonlocal sent
        while sent < goal and sent - node.confirmed < window:
            node.publish(PAYLOAD.encode())
            sent += 1

    def go_on() -> None:
        nonlocal goal, began
        count = hear()
        if count is None:
            node.stop()
        else:
            goal += count
            began = time.time()
            send_more()

    def on_confirm(tag: int) -> None:
        if tag >= goal:
            say({"began": began})
            go_on()
        elif sent < goal:
            send_more()

    def on_ready() -> None:
        say("ready")
        go_on()

    node.on_confirm = on_confirm
    node.on_ready = on_ready
    node.run()


def raw_receive(out_url: str, in_url: str, key: str = "ping", **_: Any) -> None:
    """Note when the last event has come."""
    node = RawPika(out_url, in_url, "unused", key)
    missing = 0

    def go_on() -> None:
        nonlocal missing
        missing = hear()
        if missing is None:
            node.stop()
        else:
            say("ready")

    def on_body(_body: bytes) -> None:
        nonlocal missing
        missing -= 1
        if missing == 0:
            say({"ended": time.time()})
            go_on()

    def on_ready() -> None:
        say("ready")
        go_on()

    node.on_body = on_body
    node.on_ready = on_ready
    node.run()


def raw_queues(in_url: str, **_: Any) -> None:
    """Make new durable queues, as many as are asked for, and publish to all of them at once.

    Tells how long each of a few messages took until the last consumer had it.
    """
    say("ready")
    for count in asked():
        connection = pika.BlockingConnection(pika.URLParameters(in_url))
        channel = connection.channel()
        channel.exchange_declare(EXCHANGE, exchange_type="topic", durable=True)
        missing = 0

        def on_message(channel: Any, method: Any, _properties: Any, _body: bytes) -> None:
            nonlocal missing
            missing -= 1
            channel.basic_ack(method.delivery_tag)

        for number in range(count):
            queue = f"bench.fan.{number}"
            channel.queue_declare(queue, durable=True, arguments={"x-expires": 60_000})
            channel.queue_bind(queue, EXCHANGE, "fan")
            channel.basic_consume(queue, on_message)
        times = []
        for _number in range(3):
            time.sleep(0.5)
            missing, began = count, time.perf_counter()
            channel.basic_publish(EXCHANGE, "fan", PAYLOAD.encode(), PERSISTENT)
            while missing:
                connection.process_data_events(5)
            times.append(time.perf_counter() - began)
        for number in range(count):
            channel.queue_delete(f"bench.fan.{number}")
        connection.close()
        say({"times": times})


if __name__ == "__main__":
    play(globals())
