"""A chart that is slow does not hoard large events: the broker keeps them."""

from __future__ import annotations

import contextlib
import pickle
import subprocess
import sys
from pathlib import Path

import pika
import pytest
from cryptography.fernet import Fernet
from miros import Event

from miros_rabbitmq import Limits, LocalBroker
from miros_rabbitmq.amqp.io_choice import io_name
from miros_rabbitmq.testing import BrokerFactory

from ..helpers import scaled, wait_until
from .charts import arguments_for, make_active_object, running
from .victim import victim

KEY = Fernet.generate_key()
COUNT = 300
"""Of 0.7 MB each: 200 MiB in all."""


def growth_mib(broker: LocalBroker, limits: Limits) -> tuple[float, int]:
    """By how much a slow chart grows, and how many events its FIFO holds at most."""
    arguments = {**arguments_for(broker, key=KEY), "limits": limits}
    receiver = subprocess.Popen(
        [sys.executable, "-m", "tests.broker.hoarder"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert receiver.stdin is not None
    assert receiver.stdout is not None
    try:
        receiver.stdin.write(pickle.dumps((COUNT, arguments)).hex() + "\n")
        receiver.stdin.flush()
        assert receiver.stdout.readline() == "ready\n"
        sender, _ = make_active_object("sender", **arguments_for(broker, key=KEY))
        with running(sender):
            for _ in range(COUNT):
                sender.transmit(Event(signal="LARGE", payload=bytes(700_000)))
            assert sender.nets.flush(scaled(60))
            mib, events = receiver.stdout.readline().split()
        assert receiver.wait(scaled(30)) == 0
    finally:
        receiver.kill()
        receiver.wait()
        receiver.stdin.close()
        receiver.stdout.close()
    return float(mib), int(events)


def test_a_slow_chart_holds_large_events_up_to_a_number_of_bytes(broker_a: LocalBroker) -> None:
    mib, events = growth_mib(broker_a, Limits())
    assert mib < 80
    assert events <= 8 * 1024 * 1024 / 700_000 + 1


def most_memory_mib(pid: int) -> float:
    """The most that a process ever held."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


@pytest.mark.skipif(io_name() == "plain", reason="pika collects the whole message")
def test_a_message_of_a_stranger_that_is_far_too_large_is_not_collected(
    broker_factory: BrokerFactory,
) -> None:
    # RabbitMQ 4 takes no more than 16 MiB by default.
    broker = broker_factory("127.0.0.5", config={"max_message_size": "100000000"})
    arguments = arguments_for(broker, key=KEY, tx_routing_key="large")
    connection = pika.BlockingConnection(pika.URLParameters(broker.url()))
    with contextlib.closing(connection), victim("victim", arguments) as one:
        before = most_memory_mib(one.process.pid)
        for _ in range(2):
            connection.channel().basic_publish("miros.mesh", "large", bytes(60_000_000))
        wait_until(lambda: sum(one.report().rejected.values()) == 2, 30)
        assert one.report().rejected == {"OVERSIZE": 2}
        assert most_memory_mib(one.process.pid) - before < 20
