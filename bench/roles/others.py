"""The other ways to use RabbitMQ from Python: pika's `BlockingConnection`, and aio-pika."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from typing import Any

import aio_pika
import pika

from .talk import EXCHANGE, PAYLOAD, QUIET_S, asked, hear, play, say

QUEUE_ARGUMENTS = {"x-expires": 60_000}


class Blocking:
    """A `BlockingConnection` to each of two brokers: one to publish, one to consume."""

    def __init__(self, out_url: str, in_url: str, key: str) -> None:
        self._outgoing = pika.BlockingConnection(pika.URLParameters(out_url))
        self._incoming = pika.BlockingConnection(pika.URLParameters(in_url))
        self._out = self._outgoing.channel()
        self._out.confirm_delivery()
        self._in = self._incoming.channel()
        self._in.basic_qos(prefetch_count=500)
        for channel in (self._out, self._in):
            channel.exchange_declare(EXCHANGE, exchange_type="topic", durable=True)
        self._queue = f"bench.blocking.{key}"
        self._in.queue_declare(self._queue, durable=True, arguments=QUEUE_ARGUMENTS)
        self._in.queue_bind(self._queue, EXCHANGE, key)

    def publish(self, key: str, body: bytes) -> None:
        """Publish, and wait for the confirm."""
        self._out.basic_publish(
            EXCHANGE, key, body, pika.BasicProperties(delivery_mode=2), mandatory=True
        )

    def bodies(self) -> Iterator[bytes | None]:
        """The messages that come, acknowledged; None now and then while nothing comes."""
        for method, _, body in self._in.consume(self._queue, inactivity_timeout=0.2):
            if method is not None:
                self._in.basic_ack(method.delivery_tag)
            yield body

    def close(self) -> None:
        """Close both."""
        self._outgoing.close()
        self._incoming.close()


def blocking_echo(out_url: str, in_url: str, **_: Any) -> None:
    """Send back each message, until asked to stop."""
    node = Blocking(out_url, in_url, "ping.blocking")
    end_asked = threading.Event()

    def wait_for_end() -> None:
        hear()
        end_asked.set()

    threading.Thread(target=wait_for_end, daemon=True).start()
    say("ready")
    for body in node.bodies():
        if body is not None:
            node.publish("pong.blocking", body)
        if end_asked.is_set():
            break
    node.close()


def blocking_ping(out_url: str, in_url: str, **_: Any) -> None:
    """Time round trips, one after the other, as many as are asked for."""
    node = Blocking(out_url, in_url, "pong.blocking")
    bodies = node.bodies()
    next(bodies)  # begins to consume
    say("ready")
    for count in asked():
        times = []
        for _number in range(count):
            began = time.perf_counter()
            node.publish("ping.blocking", PAYLOAD.encode())
            while next(bodies) is None:
                assert time.perf_counter() < began + 5
            times.append(time.perf_counter() - began)
            time.sleep(QUIET_S)
        say({"times": times})
    node.close()


def blocking_send(out_url: str, key: str, **_: Any) -> None:
    """Publish with pika's BlockingConnection: each publish waits for its confirm."""
    connection = pika.BlockingConnection(pika.URLParameters(out_url))
    channel = connection.channel()
    channel.confirm_delivery()
    channel.exchange_declare(EXCHANGE, exchange_type="topic", durable=True)
    say("ready")
    for count in asked():
        began = time.time()
        for _number in range(count):
            channel.basic_publish(
                EXCHANGE, key, PAYLOAD.encode(), pika.BasicProperties(delivery_mode=2)
            )
        say({"began": began})
    connection.close()


class Aio:
    """aio-pika, with a connection to each of two brokers: one to publish, one to consume."""

    def __init__(self, out_url: str, in_url: str, key: str) -> None:
        self._urls = out_url, in_url
        self._key = key

    async def open(self) -> None:
        """Connect and declare."""
        out_url, in_url = self._urls
        self._outgoing = await aio_pika.connect(out_url)
        self._incoming = await aio_pika.connect(in_url)
        out = await self._outgoing.channel(publisher_confirms=True)
        self._exchange = await out.declare_exchange(EXCHANGE, "topic", durable=True)
        incoming = await self._incoming.channel()
        await incoming.set_qos(prefetch_count=500)
        await incoming.declare_exchange(EXCHANGE, "topic", durable=True)
        self.queue: Any = await incoming.declare_queue(
            f"bench.aio.{self._key}", durable=True, arguments=QUEUE_ARGUMENTS
        )
        await self.queue.bind(EXCHANGE, self._key)

    async def publish(self, key: str, body: bytes) -> None:
        """Publish, and wait for the confirm."""
        await self._exchange.publish(aio_pika.Message(body, delivery_mode=2), key)

    async def close(self) -> None:
        """Close both."""
        await self._outgoing.close()
        await self._incoming.close()


def aio_echo(out_url: str, in_url: str, **_: Any) -> None:
    """Send back each message, until asked to stop."""

    async def run() -> None:
        node = Aio(out_url, in_url, "ping.aio")
        await node.open()

        async def answer(message: Any) -> None:
            await message.ack()
            await node.publish("pong.aio", message.body)

        await node.queue.consume(answer)
        say("ready")
        await asyncio.to_thread(hear)
        await node.close()

    asyncio.run(run())


def aio_ping(out_url: str, in_url: str, **_: Any) -> None:
    """Time round trips, one after the other, as many as are asked for."""

    async def run() -> None:
        node = Aio(out_url, in_url, "pong.aio")
        await node.open()
        answered = asyncio.Event()

        async def take(message: Any) -> None:
            answered.set()
            await message.ack()

        await node.queue.consume(take)
        say("ready")
        while (count := await asyncio.to_thread(hear)) is not None:
            times = []
            for _number in range(count):
                answered.clear()
                began = time.perf_counter()
                # The answer may be here before the confirm.
                confirm = asyncio.ensure_future(node.publish("ping.aio", PAYLOAD.encode()))
                await asyncio.wait_for(answered.wait(), 5)
                times.append(time.perf_counter() - began)
                await confirm
                await asyncio.sleep(QUIET_S)
            say({"times": times})
        await node.close()

    asyncio.run(run())


def aio_send(out_url: str, key: str, **_: Any) -> None:
    """Publish with aio-pika, with as many confirms under way as raw pika."""

    async def run() -> None:
        connection = await aio_pika.connect(out_url)
        channel = await connection.channel(publisher_confirms=True)
        exchange = await channel.declare_exchange(EXCHANGE, "topic", durable=True)
        say("ready")
        window = asyncio.Semaphore(1_000)

        async def send() -> None:
            message = aio_pika.Message(PAYLOAD.encode(), delivery_mode=2)
            await exchange.publish(message, key)
            window.release()

        while (count := await asyncio.to_thread(hear)) is not None:
            began = time.time()
            tasks = []
            for _number in range(count):
                await window.acquire()
                tasks.append(asyncio.create_task(send()))
            await asyncio.gather(*tasks)
            say({"began": began})
        await connection.close()

    asyncio.run(run())


if __name__ == "__main__":
    play(globals())
