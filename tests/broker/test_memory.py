"""A chart that is slow does not hoard large events: the broker keeps them."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

from cryptography.fernet import Fernet
from miros import Event

from miros_rabbitmq import Limits, LocalBroker

from ..helpers import scaled
from .charts import arguments_for, make_active_object, running

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
