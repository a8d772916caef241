"""A publisher driven through loads, and the consumer that times what comes.

The times in the messages are those of the monotonic clock, which all processes of a machine share.
"""

from __future__ import annotations

import itertools
import statistics
import threading
import time
from typing import Any

from miros_rabbitmq import AmqpUrl, Limits, Queue, SimplePikaTopicConsumer
from miros_rabbitmq.amqp.link import Role
from miros_rabbitmq.amqp.parameters import Endpoint
from miros_rabbitmq.amqp.reactor import Reactor
from miros_rabbitmq.amqp.sender import Sender, Traffic
from miros_rabbitmq.wire.sealer import Heading, Record

from .talk import hear, play, say

HEADING = Heading("tempo", b"h" * 23)
"""As long as the header of a message of events."""

FILLING = b"x" * 79
TIME_BYTES = 17
RECORD_BYTES = TIME_BYTES + len(FILLING)
"""With a time in front, the size of an encrypted event with a small payload."""

CONFIRMED_S = 20.0


def receive_timed(url: str, exchange: str, **_: Any) -> None:
    """At each line of input, report what has come since the last, and begin anew."""
    arrivals: list[tuple[float, bytes]] = []

    def on_message(delivery: Any) -> None:
        arrivals.append((time.monotonic(), delivery.body))

    consumer = SimplePikaTopicConsumer(
        url,
        exchange,
        "tempo",
        on_message=on_message,
        queue=Queue(f"{exchange}.tempo", True, False, {"x-expires": 60_000}),
    )
    consumer.start_thread()
    assert consumer.wait_until_ready(10)
    say("ready")
    while hear() == "report":
        _wait_until_still(arrivals)
        taken, arrivals[:] = arrivals[:], []
        latencies: list[float] = []
        batches = []
        for arrived_s, body in taken:
            begins = range(len(HEADING.prefix), len(body), RECORD_BYTES)
            batches.append((arrived_s, len(begins)))
            latencies += [arrived_s - float(body[at : at + TIME_BYTES]) for at in begins]
        say({"latencies": latencies, "batches": batches})
    consumer.stop_thread()
    say({})


def _wait_until_still(arrivals: list[tuple[float, bytes]]) -> None:
    """Confirmed messages may still be on their way: wait until nothing has come for a while."""
    came = -1
    while came != len(arrivals):
        came = len(arrivals)
        time.sleep(0.3)


def _post(publisher: Sender, events: int, rate: float) -> None:
    """Post so many events: evenly at a rate, or all at once for 0."""
    began_s = time.monotonic()
    for number in range(events):
        if rate:
            delay_s = began_s + number / rate - time.monotonic()
            if delay_s > 0:
                time.sleep(delay_s)
        record = Record(HEADING, b"%*.6f%b" % (TIME_BYTES, time.monotonic(), FILLING))
        assert publisher.post_in_order(record, time.monotonic() + CONFIRMED_S)


def _publisher(url: str, exchange: str, snoop: bool, limits: Limits) -> Sender:
    """A publisher like that of the mesh, or like that of a snoop."""
    traffic = Traffic(exchange, joined=True, lossy=snoop, patient=snoop)
    endpoint = Endpoint(AmqpUrl(url), limits)
    publisher = Sender(endpoint, Role("tempo"), traffic, Reactor("tempo publisher"))
    publisher.start()
    assert publisher.link.wait_until_ready(10)
    return publisher


def _stop(publisher: Sender) -> None:
    publisher.stop()
    publisher.link.wait_for_end()


def _limits(tempo: str, snoop: bool) -> Limits:
    """With the PID, or with a tempo that is always fast or always slow."""
    limits = Limits()
    slow_s = limits.tempo_patient_s if snoop else limits.tempo_slow_s
    constant = {"always fast": limits.tempo_fast_s, "always slow": slow_s}
    if tempo not in constant:
        return limits
    tempo_s = constant[tempo]
    return Limits(tempo_fast_s=tempo_s, tempo_slow_s=tempo_s, tempo_patient_s=tempo_s)


def publish_timed(url: str, exchange: str, **_: Any) -> None:
    """For each line with a load and a tempo, publish that load, and report what it cost."""
    say("ready")
    order = hear()
    while order != "end":
        limits = _limits(order["tempo"], order["snoop"])
        publisher = _publisher(url, exchange, order["snoop"], limits)
        time.sleep(0.3)
        cpu_s = time.process_time()
        _post(publisher, order["events"], order["rate"])
        assert publisher.flush(CONFIRMED_S)
        cpu_s = time.process_time() - cpu_s
        _stop(publisher)
        say({"cpu_us": cpu_s / order["events"] * 1e6})
        order = hear()
    say({})


def publish_sampled(
    url: str, exchange: str, phases: list[list[float]], snoop: bool, **_: Any
) -> None:
    """Go through phases (events, rate, seconds of silence after), and sample each ms."""
    publisher = _publisher(url, exchange, snoop, Limits())
    samples: list[tuple[float, int, float]] = []
    done = threading.Event()

    def sample() -> None:
        while not done.wait(0.001):
            stats = publisher.stats()
            samples.append((time.monotonic(), stats.waiting, stats.tempo_s))

    say("ready")
    hear()
    sampler = threading.Thread(target=sample, daemon=True)
    sampler.start()
    marks = []
    for events, rate, silence_s in phases:
        marks.append(time.monotonic())
        _post(publisher, int(events), rate)
        time.sleep(silence_s)
    assert publisher.flush(CONFIRMED_S)
    done.set()
    sampler.join()
    _stop(publisher)
    gaps = [after[0] - before[0] for before, after in itertools.pairwise(samples)]
    say({"samples": samples, "marks": marks, "sampled_s": statistics.median(gaps)})


if __name__ == "__main__":
    play(globals())
