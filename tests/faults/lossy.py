"""The two machines of a test of a lossy link: ``near`` with the sender, ``far`` with one broker.

Run in the namespaces of a `tun_link.TunLink` as ``main("near" or "far", ARGUMENTS)``, the second
being key, password and the two addresses as JSON. At the near end run the sender, its own broker
and a healthy one, each with a receiver; at the far end a broker with a receiver. Each line of
standard input is waited for where the test changes the link; answers are lines of JSON.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from miros_rabbitmq import Limits, LocalBroker, NetworkedActiveObject

from ..broker.charts import listening
from ..helpers import scaled, wait_until
from .fleet import SENDER, Heard, fleet
from .ledger import Ledger

PORT = 5672
LIMITS = Limits(slow_after_s=1.0, absent_after_s=2.0, behind_after_s=0.5, backlog_events=1_500)
RATE = 1_000


def main(role: str, arguments: str) -> None:
    """Play one of the machines."""
    {"near": near, "far": far}[role](**json.loads(arguments))


def near(key: str, password: str, near_host: str, far_host: str) -> None:
    """Transmit, and measure what the healthy receivers get before and while the link is thin."""
    far_address = f"{far_host}:{PORT}"
    with (
        LocalBroker(near_host, PORT, password=password) as own,
        LocalBroker("127.0.0.3", password=password) as healthy,
        fleet(
            [own, healthy],
            limits=LIMITS,
            mesh_encryption_key=key,
            more_addresses=[far_address],
        ) as system,
    ):
        assert system.sender.nets.wait_for_peers(2, scaled(25))

        def publisher() -> Any:
            return system.sender.nets.stats().mesh.brokers[far_address]

        stream = system.stream(RATE)
        with stream.running():
            wait_until(lambda: all(system.account(one).delivered > 20 for one in (0, 1)), 20)
            without = [system.sample(stream, [0, 1], 0.7) for _ in range(3)]
            ask("link")
            wait_until(lambda: publisher().condition.is_sick, 20, system.describe)
            wait_until(lambda: publisher().dropped > 0, 30, system.describe)
            beside = [system.sample(stream, [0, 1], 0.7) for _ in range(3)]
            ask("heal")
            wait_until(lambda: not publisher().condition.is_sick, 60, system.describe)
        assert system.sender.nets.flush(scaled(30))
        system.wait_for_delivery([0, 1])
        say(
            {
                "transmitted": system.ledger.accepted(SENDER),
                "dropped": publisher().dropped,
                "clean": all(system.account(one).is_clean for one in (0, 1)),
                "refused": stream.refused,
                "without": [one.p99_s for one in without],
                "beside": [one.p99_s for one in beside],
            }
        )
        sys.stdin.readline()


def far(key: str, password: str, near_host: str, far_host: str) -> None:
    """Receive, and tell what has come; in the end there are as many events as the test says."""
    ledger = Ledger([SENDER, "far"])
    with LocalBroker(far_host, PORT, password=password) as broker:
        chart = NetworkedActiveObject(
            "far",
            rabbit_user=broker.user,
            rabbit_password=password,
            mesh_encryption_key=key,
            rabbit_host=far_host,
            rabbit_port=PORT,
            addresses=[f"{near_host}:{PORT}"],
            start_timeout=scaled(10),
        )
        chart.record = Heard("far", ledger, 0.0)
        with chart:
            chart.start_at(listening)
            say("ready")
            transmitted = json.loads(sys.stdin.readline())
            wait_until(lambda: ledger.reached(SENDER, "far") >= transmitted, 30)
            time.sleep(0.5)
            account = ledger.account(SENDER, "far")
            mesh = chart.nets.stats().mesh
            say([account.delivered, account.duplicated, account.reordered, mesh.gaps])
            sys.stdin.readline()


def ask(what: str) -> None:
    """Ask the test to do something, and wait until it is done."""
    say(what)
    sys.stdin.readline()


def say(what: Any) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()
