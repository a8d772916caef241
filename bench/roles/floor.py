"""The least that anything of this kind has to do, and nothing else: what nobody can leave out.

Raw pika on one thread, as in `raw`, and a chart of miros alone on another, which takes each event
from its FIFO and answers from its handler. In between an event is pickled and encrypted, and at the
other side decrypted and loaded. The frames of a message are made once, and the chart's thread
writes them to the socket itself: pika would have to wake its own thread for that.

What is missing: order, numbers, repetitions after a lost connection, more brokers than one, checks
of what arrives, limits, counters, locks. Nothing of the package may be imported here, as it makes
miros itself faster.
"""

from __future__ import annotations

import itertools
import os
import pickle
import struct
import sys
import threading
from typing import Any

import pika
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from miros import ActiveObject, Event

from .raw import PERSISTENT, RawPika
from .talk import EXCHANGE, QUIET_S, hear, play, say
from .trips import echoing, pinging, time_trips

_KEY = bytes(32)

_NONCE_BYTES, _SALT_BYTES = 12, 6

_END = b"\xce"


class Floor(RawPika):
    """Takes events to a chart of miros, and from it."""

    def __init__(self, out_url: str, in_url: str, out_key: str, in_key: str) -> None:
        assert "miros_rabbitmq" not in sys.modules
        super().__init__(out_url, in_url, out_key, in_key)
        self._cipher = AESGCM(_KEY)
        # Both sides have the same key, and no nonce may be used twice.
        self._salt, self._numbers = os.urandom(_SALT_BYTES), itertools.count()
        self._frames: dict[int, tuple[bytes, bytes]] = {}
        self.chart: Any = None
        self.on_body = self._take

    def transmit(self, event: Event) -> None:
        """Send an event, in the thread of the chart."""
        plain = pickle.dumps((event.signal_name, event.payload), 3)
        nonce = self._salt + next(self._numbers).to_bytes(_NONCE_BYTES - _SALT_BYTES, "big")
        body = nonce + self._cipher.encrypt(nonce, plain, None)
        begin = self._frames.get(len(body)) or self._make_frames(len(body))
        self._out.connection._transport._sock.send(b"".join((*begin, body, _END)))

    def _take(self, body: bytes) -> None:
        """Hand an event to the chart, in pika's thread."""
        plain = self._cipher.decrypt(body[:_NONCE_BYTES], body[_NONCE_BYTES:], None)
        name, payload = pickle.loads(plain)
        self.chart.post_fifo(Event(signal=name, payload=payload))

    def _make_frames(self, size: int) -> tuple[bytes, bytes]:
        """What comes before a body of so many bytes."""
        number = self._out.channel_number
        publish = pika.spec.Basic.Publish(
            exchange=EXCHANGE, routing_key=self.out_key, mandatory=True
        )
        head = pika.frame.Method(number, publish).marshal()
        head += pika.frame.Header(number, size, PERSISTENT).marshal()
        frames = self._frames[size] = head, struct.pack(">BHI", pika.spec.FRAME_BODY, number, size)
        return frames

    def _on_message(self, channel: Any, method: Any, _properties: Any, body: bytes) -> None:
        self.on_body(body)
        channel.basic_ack(method.delivery_tag)

    def run_with(self, name: str, state: Any) -> Any:
        """Start a chart, and pika in a thread of its own; return the chart when both are ready."""
        ready = threading.Event()
        chart = self.chart = ActiveObject(name)
        chart.transmit = self.transmit
        chart.start_at(state)
        self.on_ready = ready.set
        threading.Thread(target=self.run, daemon=True).start()
        ready.wait(20)
        return chart

    def end(self) -> None:
        """Stop the chart and pika."""
        self.chart.stop()
        self.loop.add_callback_threadsafe(self.stop)


def floor_echo(out_url: str, in_url: str, **_: Any) -> None:
    """The answering chart."""
    node = Floor(out_url, in_url, "floor.pong", "floor.ping")
    node.run_with("echo", echoing)
    say("ready")
    hear()
    node.end()


def floor_ping(out_url: str, in_url: str, quiet_s: float = QUIET_S, **_: Any) -> None:
    """The asking chart."""
    node = Floor(out_url, in_url, "floor.ping", "floor.pong")
    chart = node.run_with("ping", pinging)
    chart.answered = threading.Event()
    say("ready")
    time_trips(chart, quiet_s)
    node.end()


if __name__ == "__main__":
    play(globals())
