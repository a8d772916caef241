"""One broker for several machines: charts on machines that have no RabbitMQ of their own.

It shows the smallest topology: one machine runs RabbitMQ, and the charts of all machines are at
that one. Each names it as ``rabbit_host`` and says with ``addresses=[]`` that there are no others.
A small machine then needs Python and nothing else. What it costs is shown, too: while that broker
is away, nobody hears anybody. Nothing is lost meanwhile: events wait at their senders, and the
broker keeps what it already had.

By itself, this program boots a private RabbitMQ and three processes, each of which stands for a
small machine with a sensor. A collector counts their readings. In the middle the broker is killed,
as by a power cut, and started again::

    python examples/shared_broker.py

On real machines, 192.168.1.71 has the broker. Run the collector on any of them, and a sensor on
each of the others, in any order::

    export RABBIT_USER=robot RABBIT_PASSWORD=... MESH_KEY=...     # the same everywhere
    python examples/shared_broker.py --host 192.168.1.71 --role collector --sensors attic cellar
    python examples/shared_broker.py --host 192.168.1.71 --role sensor --name attic
    python examples/shared_broker.py --host 192.168.1.71 --role sensor --name cellar
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

from cryptography.fernet import Fernet
from miros import Event, return_status, signals, spy_on

from miros_rabbitmq import LocalBroker, NetworkedActiveObject

READINGS = 80
STEP_S = 0.1
QUIET_S = 1.5  # so long without a reading, and the collector notices
NAMES = ("attic", "cellar", "garden")


class Sensor(NetworkedActiveObject):
    """Transmits numbered readings as soon as somebody collects them.

    ::

        waiting ──COLLECT──> measuring ──> finished
    """

    def __init__(self, name: str, **network: Any) -> None:
        super().__init__(name, **network)
        self.number = 0


@spy_on
def waiting(sensor: Sensor, e: Event) -> Any:
    status = return_status.UNHANDLED
    if e.signal == signals.COLLECT:
        status = sensor.trans(measuring)
    else:
        status, sensor.temp.fun = return_status.SUPER, sensor.top
    return status


@spy_on
def measuring(sensor: Sensor, e: Event) -> Any:
    status = return_status.UNHANDLED
    if e.signal == signals.ENTRY_SIGNAL:
        sensor.post_fifo(Event(signal=signals.MEASURE), period=STEP_S)
        status = return_status.HANDLED
    elif e.signal == signals.EXIT_SIGNAL:
        sensor.cancel_events(Event(signal=signals.MEASURE))
        status = return_status.HANDLED
    elif e.signal == signals.MEASURE:
        sensor.number += 1
        reading = {"sensor": sensor.name, "number": sensor.number}
        sensor.transmit(Event(signal=signals.READING, payload=reading))
        last = sensor.number == READINGS
        status = sensor.trans(finished) if last else return_status.HANDLED
    else:
        status, sensor.temp.fun = return_status.SUPER, sensor.top
    return status


@spy_on
def finished(sensor: Sensor, e: Event) -> Any:
    sensor.temp.fun = sensor.top
    return return_status.SUPER


class Collector(NetworkedActiveObject):
    """Counts readings, and notices when none come.

    ::

        collecting: hearing <──> hearing_nothing
    """

    def __init__(self, names: Sequence[str], **network: Any) -> None:
        super().__init__("collector", **network)
        self.numbers: dict[str, list[int]] = {name: [] for name in names}
        self.heard_s = time.monotonic()
        self.has_all = threading.Event()


@spy_on
def collecting(collector: Collector, e: Event) -> Any:
    """The outer state: calls sensors until all have answered, and takes their readings."""
    status = return_status.UNHANDLED
    if e.signal == signals.ENTRY_SIGNAL:
        collector.post_fifo(Event(signal=signals.LOOK), period=QUIET_S / 5, deferred=False)
        status = return_status.HANDLED
    elif e.signal == signals.EXIT_SIGNAL:
        collector.cancel_events(Event(signal=signals.LOOK))
        status = return_status.HANDLED
    elif e.signal == signals.LOOK:
        if not all(collector.numbers.values()):
            collector.transmit(Event(signal=signals.COLLECT))
        status = return_status.HANDLED
    elif e.signal == signals.READING:
        collector.heard_s = time.monotonic()
        collector.numbers[e.payload["sensor"]].append(e.payload["number"])
        if all(READINGS in numbers for numbers in collector.numbers.values()):
            collector.has_all.set()
        status = return_status.HANDLED
    else:
        status, collector.temp.fun = return_status.SUPER, collector.top
    return status


@spy_on
def hearing(collector: Collector, e: Event) -> Any:
    status = return_status.UNHANDLED
    is_quiet = time.monotonic() - collector.heard_s > QUIET_S
    if e.signal == signals.LOOK and any(collector.numbers.values()) and is_quiet:
        status = collector.trans(hearing_nothing)
    else:
        status, collector.temp.fun = return_status.SUPER, collecting
    return status


@spy_on
def hearing_nothing(collector: Collector, e: Event) -> Any:
    status = return_status.UNHANDLED
    if e.signal == signals.ENTRY_SIGNAL:
        print("collector: hears nothing any more", flush=True)
        status = return_status.HANDLED
    elif e.signal == signals.READING:
        print("collector: hears the sensors again", flush=True)
        collecting(collector, e)
        status = collector.trans(hearing)
    else:
        status, collector.temp.fun = return_status.SUPER, collecting
    return status


def from_environment(name: str) -> str:
    """A secret, which is not for the command line: everybody can see that."""
    if name not in os.environ:
        sys.exit(f"{name} is not in the environment: the top of this program says how to set it")
    return os.environ[name]


def network_at(host: str) -> dict[str, Any]:
    """The arguments of every chart, on whatever machine. The secrets are in the environment."""
    return {
        "rabbit_user": from_environment("RABBIT_USER"),
        "rabbit_password": from_environment("RABBIT_PASSWORD"),
        "mesh_encryption_key": from_environment("MESH_KEY"),
        "rabbit_host": host,
        "addresses": [],  # there is no other broker, and none is looked for
    }


def run_sensor(name: str, host: str) -> None:
    """Be a sensor until somebody ends this process."""
    with Sensor(name, **network_at(host)) as sensor:
        sensor.start_at(waiting)
        sensor.wait()


def run_collector(names: Sequence[str], host: str, broker: LocalBroker | None = None) -> bool:
    """Collect everything; cut the power of a private broker in the middle."""
    with Collector(names, **network_at(host)) as collector:
        collector.start_at(hearing)
        if broker is not None:
            while min(map(len, collector.numbers.values())) < READINGS // 3:
                time.sleep(STEP_S)
            print("broker: its power is cut", flush=True)
            broker.kill()
            time.sleep(2 * QUIET_S)
            broker.restart()
            print("broker: is back", flush=True)
        collector.has_all.wait(60 if broker else None)
        for name, numbers in collector.numbers.items():
            in_order = "each once and in order" if numbers == [*range(1, READINGS + 1)] else numbers
            print(f"collector: {len(numbers)} readings of {name}: {in_order}", flush=True)
        return all(numbers == [*range(1, READINGS + 1)] for numbers in collector.numbers.values())


@contextlib.contextmanager
def sensor_process(name: str, host: str) -> Iterator[None]:
    """A process that stands for a machine with a sensor."""
    process = subprocess.Popen(
        [sys.executable, __file__, "--role=sensor", "--name", name, "--host", host, "--quiet"],
        stdin=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C is for this program, which then ends that one
    )
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def demonstrate() -> bool:
    """Run a broker, three sensors and the collector."""
    with LocalBroker("127.0.0.2") as broker, contextlib.ExitStack() as sensors:
        os.environ.update(
            RABBIT_USER=broker.user,
            RABBIT_PASSWORD=broker.password,
            MESH_KEY=Fernet.generate_key().decode(),
        )
        for name in NAMES:
            sensors.enter_context(sensor_process(name, str(broker.address)))
        return run_collector(NAMES, str(broker.address), broker)


def main() -> int:
    """Run one chart at a given broker, or all at a private one."""
    parser = argparse.ArgumentParser(description="Sensors and a collector at one broker.")
    parser.add_argument("--host", help="the broker, host or host:port; without it, a private one")
    parser.add_argument("--role", choices=("sensor", "collector"), default="sensor")
    parser.add_argument("--name", default="attic", help="of a sensor")
    parser.add_argument("--sensors", nargs="+", default=NAMES, help="that a collector waits for")
    parser.add_argument("--quiet", action="store_true", help="log no warnings")
    options = parser.parse_args()
    if options.host is None or options.quiet:
        logging.basicConfig(level=logging.ERROR)  # the broker is away because we say so
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: sys.exit(0))
    if options.host is None:
        return 0 if demonstrate() else 1
    if options.role == "sensor":
        run_sensor(options.name, options.host)
        return 0
    return 0 if run_collector(options.sensors, options.host) else 1


if __name__ == "__main__":
    sys.exit(main())
